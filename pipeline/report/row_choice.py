"""Which rows the page shows where there are too many: those that matter, and a random sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.evaluation.predictions import Predictions


@dataclass(frozen=True)
class AllRows:
    """The rows of several runs, each once, in the order of the files.

    A row is an id, a message and a class. `at` (runs, rows) is the place of each row among a run's
    predictions, -1 where the run has not predicted it; `labels` (rows,) are the classes, -1 for
    none; `comments` counts the ids and messages.
    """

    predictions: Sequence[Predictions]
    at: np.ndarray
    labels: np.ndarray
    comments: int

    @property
    def total(self) -> int:
        """How many rows there are."""
        return len(self.labels)

    def column(self, run: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of a run's rows among all, and a column of its predictions."""
        places = np.flatnonzero(self.at[run] >= 0)
        return places, self.predictions[run].frame[name].to_numpy()[self.at[run][places]]


@dataclass(frozen=True)
class Reason:
    """Why rows are shown where not all are: how many of how many are for this reason."""

    key: str  # people, differ, wrong, unsure or random
    shown: int
    rows: int


@dataclass(frozen=True)
class Choice:
    """The order in which rows come onto the page, as many as it has room for.

    `order` holds places among all rows, each once. In each turn every group of rows gives its next
    one; `turns` is in which turn a row comes. A group gives no more than `limits` says.
    """

    order: np.ndarray
    turns: np.ndarray
    groups: dict[str, np.ndarray]
    limits: dict[str, int]

    def reasons(self, shown: int) -> list[Reason]:
        """Return why the first `shown` rows are shown, in the order of the groups."""
        counts = {key: min(limit, int(self.turns[shown])) for key, limit in self.limits.items()}
        return [
            Reason(key, min(counts[key], len(rows)), len(rows))
            for key, rows in self.groups.items()
            if len(rows)
        ]

    def sample(self, shown: int) -> np.ndarray:
        """Return which of the first `shown` rows were drawn at random from all."""
        return self.groups["random"][: int(self.turns[shown])]


def all_rows(predictions: Sequence[Predictions]) -> AllRows:
    """Return the rows of the predictions of several runs."""
    comments, keys = [], []
    for one in predictions:
        frame = one.frame
        comments.append(frame.index.to_numpy() * np.uint64(3) + frame["message_hash"].to_numpy())
        keys.append(comments[-1] * np.uint64(31) + frame["class"].to_numpy().astype(np.uint64))
    number = len(pd.unique(np.concatenate(comments))) if comments else 0
    codes, found = pd.factorize(np.concatenate(keys)) if keys else (np.zeros(0, int), [])
    at = np.full((len(predictions), len(found)), -1, np.int32)
    labels = np.full(len(found), -1, np.int8)
    start = 0
    for run, one in enumerate(predictions):
        places = codes[start : start + len(one)]
        at[run, places] = np.arange(len(one))
        labels[places] = one.frame["class"]
        start += len(one)
    return AllRows(predictions, at, labels, number)


def choose_rows(rows: AllRows, most: int, seed: int) -> Choice:
    """Return the order in which rows come onto the page, which has room for `most` at the most.

    In turn come a row that people coded, one that runs differ on, one that a run has
    wrong, one that a run is least sure of, and one drawn at random from all.
    """
    rng = np.random.default_rng(seed)
    human, differ = marked_rows(rows)
    groups = {
        "people": rng.permutation(np.flatnonzero(human)),
        "differ": rng.permutation(np.flatnonzero(differ)),
        "wrong": wrong_rows(rows, rng),
        "unsure": unsure_rows(rows, most),
        "random": rng.permutation(rows.total),
    }
    limits = dict.fromkeys(groups, most // len(groups)) | {"random": most + 1}
    taken = {key: group[: limits[key]] for key, group in groups.items()}
    order, turns = one_after_the_other(list(taken.values()))
    return Choice(order, turns, groups, limits)


def marked_rows(rows: AllRows) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows people coded, and on which two runs differ, bools (rows,)."""
    human = np.zeros(rows.total, bool)
    least, most = np.full(rows.total, 99, np.int8), np.full(rows.total, -99, np.int8)
    for run in range(len(rows.predictions)):
        places, coded = rows.column(run, "human")
        human[places] |= coded & (rows.labels[places] >= 0)
        _, predicted = rows.column(run, "predicted")
        least[places] = np.minimum(least[places], predicted)
        most[places] = np.maximum(most[places], predicted)
    return human, least < most


def wrong_rows(rows: AllRows, rng: np.random.Generator) -> np.ndarray:
    """Return the rows that a run has wrong: one of each kind of error in turn, at random."""
    found, kinds = [], []
    for run in range(len(rows.predictions)):
        places, predicted = rows.column(run, "predicted")
        labels = rows.labels[places].astype(int)
        wrong = (labels >= 0) & (predicted != labels)
        found.append(places[wrong])
        kinds.append((run * 100 + labels[wrong]) * 100 + predicted[wrong])
    if not found:
        return np.zeros(0, int)
    places, kinds = np.concatenate(found), np.concatenate(kinds)
    shuffled = rng.permutation(len(places))
    turns = pd.Series(0, range(len(shuffled))).groupby(kinds[shuffled]).cumcount().to_numpy()
    return pd.unique(places[shuffled][np.argsort(turns, kind="stable")])


def unsure_rows(rows: AllRows, most: int) -> np.ndarray:
    """Return `most` rows that a run is least sure of, those of each run in turn."""
    groups = []
    for run in range(len(rows.predictions)):
        places, confidence = rows.column(run, "confidence")
        order = np.argsort(confidence, kind="stable")[:most]  # NaN comes last
        groups.append(places[order[~np.isnan(confidence[order])]])
    return one_after_the_other(groups)[0]


def one_after_the_other(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each group, then the second of each, ...; each row once.

    The second result is the turn, from 0 on, in which a row comes.
    """
    if not groups:
        return np.zeros(0, int), np.zeros(0, int)
    places = np.concatenate(groups)
    turns = np.concatenate([np.arange(len(group)) for group in groups])
    order = np.argsort(turns, kind="stable")
    places, turns = places[order], turns[order]
    first = ~pd.Series(places).duplicated().to_numpy()
    return places[first], turns[first]
