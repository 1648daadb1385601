"""The label of each row, from all the answers to its request."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from pipeline.common.codebook import parse_codebook
from pipeline.labelling.outcomes import CONFLICT, MISSING, TIE, Outcome, read_answers
from pipeline.labelling.requests import REPEAT, Request, answer_files


@dataclass
class Answers:
    """What a provider answered, by the row that each answer belongs to.

    `first` holds the answers to the requests, several where a row was sent or answered again, and
    `repeats` those to requests that were repeated on purpose. `unmatched` holds custom_id, reason
    and reply of the answers that belong to no row.
    """

    first: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    repeats: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    unmatched: list[tuple[str, str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        by_row = [*self.first.values(), *self.repeats.values()]
        return len(self.unmatched) + sum(map(len, by_row))

    @property
    def duplicates(self) -> int:
        """How many answers came beside another to the same request."""
        return sum(len(outcomes) - 1 for outcomes in self.first.values())

    def of(self, custom_id: str) -> list[Outcome]:
        """Return all answers about a row, those to its repeats last."""
        return self.first.get(custom_id, []) + self.repeats.get(custom_id, [])

    def asked_again(self) -> list[list[Outcome]]:
        """Return all answers about each row that was repeated."""
        return [self.of(custom_id) for custom_id in self.repeats]


def match_answers(
    answers: Iterable[tuple[str, Outcome]], requests: Mapping[str, Request]
) -> Answers:
    """Give each answer to the row whose request it answers."""
    matched = Answers()
    for custom_id, outcome in answers:
        row, repeat, _ = custom_id.rpartition(REPEAT)
        if custom_id in requests:
            matched.first[custom_id].append(outcome)
        elif repeat and row in requests:
            matched.repeats[row].append(outcome)
        else:
            broken = outcome.form.startswith("malformed")
            reason = outcome.form if broken else "unknown id"
            matched.unmatched.append((custom_id, reason, outcome.reply))
    return matched


def decide_labels(
    answers: Answers, requests: Mapping[str, Request], majority_vote: bool
) -> dict[str, Outcome]:
    """Return custom_id -> what a row's answers come to, for every request and in their order.

    All answers to the request must agree, or with `majority_vote` those to its repeats vote too.
    """
    labels = {}
    for custom_id in requests:
        if majority_vote:
            labels[custom_id] = majority(answers.of(custom_id) or [MISSING])
        else:
            labels[custom_id] = reduce(agreed, answers.first.get(custom_id, [MISSING]))
    return labels


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


def labelled_ids(answers_file: str | Path, prompt: str) -> set[str]:
    """Return the ids that have a label in the answers so far, by the codebook of a prompt."""
    if not Path(answers_file).is_file():
        return set()
    codebook = parse_codebook("the requests' codebook", prompt)
    outcomes: dict[str, Outcome] = {}
    for custom_id, outcome in read_answers(answer_files(answers_file), codebook):
        known = outcomes.get(custom_id)
        outcomes[custom_id] = agreed(known, outcome) if known else outcome
    return {custom_id for custom_id, outcome in outcomes.items() if outcome.label >= 0}
