"""The label of each row: what people gave it, or what all the answers to its request come to."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.codebook import parse_codebook
from pipeline.common.rows import HUMAN, coded_by_people
from pipeline.labelling.answer_table import WITHOUT_ANSWER, AnswerTable
from pipeline.labelling.answers import Answers, match_answers
from pipeline.labelling.label_sets import answers_elsewhere
from pipeline.labelling.ledger import Ledger
from pipeline.labelling.outcomes import MISSING, NOT_ASKED, TIE, AnswerFiles, Outcome
from pipeline.labelling.requests import Requests


@dataclass(frozen=True)
class Labels:
    """The label of each row, int8 (rows,), -1 for none, and where in `table` its outcome stands."""

    label: np.ndarray
    place: np.ndarray
    table: AnswerTable

    def have_form(self, form: str) -> np.ndarray:
        """Return which rows' outcomes have a form, a bool (rows,)."""
        return self.table.form[self.place] == self.table.forms.get(form, -1)

    def outcomes(self, rows: np.ndarray) -> Iterator[Outcome]:
        """Yield the outcomes of some rows, by the rows' places, with their replies."""
        return self.table.outcomes(self.place[rows].tolist())


def decide_labels(rows: pd.DataFrame, answers: Answers, sent: np.ndarray, vote: bool) -> Labels:
    """Return the label of each row, or why it has none.

    `rows` has class and perhaps coded_by: what people coded stays. Otherwise all answers to the
    row's request must agree, or with `vote` those to its repeats vote too. A row that was not asked
    takes the answer about an equal message. `sent` (rows,) is how often each was sent.
    """
    missing, not_asked, human = map(WITHOUT_ANSWER.index, (MISSING, NOT_ASKED, HUMAN))
    decided = answers.first.copy()
    repeated = np.unique(answers.again_row)
    decided[repeated] = np.where(decided[repeated] < 0, missing, decided[repeated])
    if vote:
        several = answers.told_row[1:][answers.told_row[1:] == answers.told_row[:-1]]
        voting = np.union1d(several, repeated)
        label = answers.table.label.tolist()
        for row, places in zip(voting.tolist(), answers.of(voting), strict=True):
            winner = majority([label[place] for place in places])
            decided[row] = places[winner] if winner >= 0 else answers.table.join(TIE, places)
    label = answers.table.label
    by_people, asked = coded_by_people(rows), decided[: len(rows)]
    place = np.where(asked >= 0, asked, np.where(sent > 0, missing, not_asked))
    free = np.flatnonzero(place == not_asked)
    place[free] = _of_equals(answers, decided, label, free, not_asked)
    place[by_people] = human
    labels = np.where(by_people, rows["class"].to_numpy(), label[place]).astype(np.int8)
    return Labels(labels, place, answers.table)


def _of_equals(
    answers: Answers, decided: np.ndarray, label: np.ndarray, rows: np.ndarray, none: int
) -> np.ndarray:
    """Return the place of a label that an equal message of each row has, of the first of them."""
    told = np.flatnonzero(decided >= 0)
    told = told[label[decided[told]] >= 0]
    if not len(told) or not len(rows):
        return np.full(len(rows), none)
    message, number = answers.ids.message, answers.ids.number
    told = told[np.lexsort((number[told], message[told]))]
    at = np.minimum(np.searchsorted(message[told], message[rows]), len(told) - 1)
    equal = message[told][at] == message[rows]
    return np.where(equal, decided[told][at], none)


def majority(labels: Sequence[int]) -> int:
    """Return the place of the first label that most of a row's answers give, -1 for a tie.

    Where none is a label it is 0.
    """
    votes = Counter(label for label in labels if label >= 0).most_common(2)
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        return -1
    return list(labels).index(votes[0][0]) if votes else 0


def self_agreement(rows: Iterable[Sequence[int]]) -> tuple[int, int, float]:
    """Return how many rows have several labels, in how many all agree, and how often two agree.

    `rows` has the labels of each row, -1 for none. The last is the share of pairs of a row's labels
    that are equal, a mean over rows.
    """
    shares = []
    for labels in rows:
        counts = Counter(label for label in labels if label >= 0)
        if (n := counts.total()) > 1:
            shares.append(sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)))
    return len(shares), shares.count(1.0), sum(shares) / max(len(shares), 1)


def have_label(ledger: Ledger, requests: Requests) -> np.ndarray:
    """Return which requests' rows have a label in the answers so far, a bool (requests,).

    The requests' own codebook says what a label is.
    """
    codebook = parse_codebook("the requests' codebook", requests.prompt)
    own = answers_elsewhere(ledger.answers_file, ledger.label_sets_dir, requests.label_set)
    files = [path for path in (Path(ledger.answers_file), own) if path.is_file()]
    answers = match_answers(AnswerFiles(files, codebook), requests.ids, requests.label_set)
    labelled = answers.label_of(len(requests)) >= 0
    return labelled[requests.ids.by_message.find(requests.ids)]
