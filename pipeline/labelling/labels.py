"""The label of each row: what people gave it, or what all the answers to its request come to."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import pandas as pd

from pipeline.common.codebook import parse_codebook
from pipeline.common.rows import HUMAN, coded_by_people
from pipeline.labelling.ids import (
    REPEAT,
    equal_messages,
    is_plain,
    plain_id,
    repeat_of,
    set_of,
    try_of,
)
from pipeline.labelling.label_sets import answers_elsewhere
from pipeline.labelling.ledger import Ledger
from pipeline.labelling.outcomes import CONFLICT, MISSING, NOT_ASKED, TIE, Outcome, read_answers
from pipeline.labelling.requests import Requests


@dataclass
class Answers:
    """What a provider answered in one label set, by the plain ids of the requests.

    `first` holds the answers to the requests and their other tries, several where a row was sent or
    answered again, and `repeats` those to requests that were repeated on purpose, by their number.
    `unmatched` holds custom_id, reason and reply of the answers that belong to no row, and `others`
    counts those of other label sets. `tries` has how often each request was sent, as its answers
    tell, and `duplicates` counts the answers that came beside another to the same request, of
    `total`.
    """

    first: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    repeats: dict[str, dict[int, Outcome]] = field(default_factory=lambda: defaultdict(dict))
    unmatched: list[tuple[str, str, str]] = field(default_factory=list)
    others: int = 0
    tries: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    total: int = 0

    def of(self, row: str) -> list[Outcome]:
        """Return all answers about a row, those to its repeats last."""
        return self.first.get(row, []) + list(self.repeats.get(row, {}).values())

    def label_of(self, row: str) -> int:
        """Return the label that the answers to a row's request come to, -1 for none."""
        return reduce(agreed, self.first.get(row, [MISSING])).label

    def asked_again(self) -> list[list[Outcome]]:
        """Return all answers about each row that was repeated."""
        return [self.of(row) for row in self.repeats]


def match_answers(
    answers: Iterable[tuple[str, Outcome]], rows: Collection[str], label_set: str
) -> Answers:
    """Give each answer of a label set to the row that it was asked about.

    `rows` are the plain ids of the rows as they are now. An answer that says the same as another to
    the same request counts once.
    """
    matched = Answers()
    asked, messages = set(rows), {equal_messages(row) for row in rows}
    said: set[tuple[str, str, int]] = set()
    seen: set[str] = set()
    for custom_id, outcome in answers:
        row = plain_id(custom_id)
        matched.total += 1
        if row not in asked and set_of(custom_id) not in ("", label_set):
            matched.others += 1
            continue
        if row not in asked and not (is_plain(row) and equal_messages(row) in messages):
            broken = outcome.form.startswith("malformed")
            gone = "no such row" if set_of(custom_id) else "unknown id"
            reason = outcome.form if broken else gone
            matched.unmatched.append((custom_id, reason, outcome.reply))
            continue
        matched.duplicates += custom_id in seen
        seen.add(custom_id)
        if (custom_id, outcome.reply, outcome.label) in said:
            continue
        said.add((custom_id, outcome.reply, outcome.label))
        if number := repeat_of(custom_id):
            known = matched.repeats[row].get(number)
            matched.repeats[row][number] = agreed(known, outcome) if known else outcome
        else:
            matched.first[row].append(outcome)
            matched.tries[row] = max(matched.tries[row], try_of(custom_id))
    return matched


def decide_labels(
    rows: pd.DataFrame, answers: Answers, sent: Iterable[str], vote: bool
) -> dict[str, Outcome]:
    """Return custom_id -> the label of each row, or why it has none, in the rows' order.

    `rows` has custom_id, request (its request's plain id), class and perhaps coded_by: what people
    coded stays. Otherwise all answers to the row's request must agree, or with `vote` those to its
    repeats vote too. A row that was not asked takes the answer about an equal message. `sent` are
    the ids of the requests that were sent.
    """
    requested = set(map(plain_id, sent))
    human = coded_by_people(rows)
    by_asked = {row: _decide(answers, row, vote) for row in {*answers.first, *answers.repeats}}
    equal: dict[str, Outcome] = {}
    for row in sorted(by_asked, key=lambda row: int(row.rpartition("-")[2])):
        if by_asked[row].label >= 0:
            equal.setdefault(equal_messages(row), by_asked[row])
    labels = {}
    for custom_id, row, label, by_people in zip(
        rows["custom_id"], rows["request"], rows["class"], human, strict=True
    ):
        if by_people:
            labels[custom_id] = Outcome(int(label), HUMAN, "")
        elif row in by_asked:
            labels[custom_id] = by_asked[row]
        elif row in requested:
            labels[custom_id] = MISSING
        else:
            labels[custom_id] = equal.get(equal_messages(row), NOT_ASKED)
    return labels


def _decide(answers: Answers, row: str, vote: bool) -> Outcome:
    if vote:
        return majority(answers.of(row))
    return reduce(agreed, answers.first.get(row, [MISSING]))


def agreed(first: Outcome, second: Outcome) -> Outcome:
    """Return what two answers to one request come to: a label beats a failure, two must agree."""
    if second.label < 0:
        return first if first.label >= 0 or first.form == CONFLICT else second
    if first.form == CONFLICT or first.label not in (-1, second.label):
        return Outcome(-1, CONFLICT, f"{first.reply} | {second.reply}")
    return second if first.label < 0 else first


def majority(outcomes: list[Outcome]) -> Outcome:
    """Return what most of a row's answers with a label say; a tie is no label."""
    votes = Counter(outcome.label for outcome in outcomes if outcome.label >= 0).most_common(2)
    if not votes:
        return outcomes[0]
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        return Outcome(-1, TIE, " | ".join(outcome.reply for outcome in outcomes))
    return next(outcome for outcome in outcomes if outcome.label == votes[0][0])


def self_agreement(rows: Iterable[list[Outcome]]) -> tuple[int, int, float]:
    """Return how many rows have several labels, in how many all agree, and how often two agree.

    The last is the share of pairs of a row's labels that are equal, a mean over rows.
    """
    shares = []
    for outcomes in rows:
        counts = Counter(outcome.label for outcome in outcomes if outcome.label >= 0)
        if (n := counts.total()) > 1:
            shares.append(sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)))
    return len(shares), shares.count(1.0), sum(shares) / max(len(shares), 1)


def labelled_ids(ledger: Ledger, requests: Requests) -> set[str]:
    """Return the plain ids that have a label in the answers so far, by the requests' codebook."""
    codebook = parse_codebook("the requests' codebook", requests.prompt)
    own = answers_elsewhere(ledger.answers_file, ledger.label_sets_dir, requests.label_set)
    files = [path for path in (Path(ledger.answers_file), own) if path.is_file()]
    outcomes: dict[str, Outcome] = {}
    for custom_id, outcome in read_answers(files, codebook):
        if REPEAT not in custom_id and set_of(custom_id) == requests.label_set:
            row = plain_id(custom_id)
            known = outcomes.get(row)
            outcomes[row] = agreed(known, outcome) if known else outcome
    return {row for row, outcome in outcomes.items() if outcome.label >= 0}
