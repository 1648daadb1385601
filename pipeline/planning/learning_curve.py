"""A learning curve on the labels that are there: rows held out, nested subsets, several draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.rows import message_keys
from pipeline.evaluation.metrics import macro_f1, share_right
from pipeline.models.kept_rows import KeptPart

PARTS = 5  # of a draw: each part is predicted by models that learned from the four others
NUM_SIZES, SPAN = 8, 8  # sizes by default, and how many times the smallest the largest is
FEWEST_ROWS = 20  # to learn from
FEWEST_OTHERS = 5  # rows that have not the most frequent class, in the smallest subset
# The inverse of the penalty. With scikit-learn's 1, accuracy falls where there are about as many
# rows as features, and is up to 6 points lower (benchmarks/label_curve.py).
PROBE_C = 0.01
BLOCKS, REDRAWN = 100, 1000  # groups of rows, and how often they are drawn again, for a covariance
MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": share_right,
    "macro_f1": macro_f1,
}


@dataclass(frozen=True)
class Part:
    """Rows that are predicted together, and those to learn from in the order they are taken."""

    learned: np.ndarray
    unseen: np.ndarray


Draw = list[Part]  # each row is unseen in one part


@dataclass(frozen=True)
class Curve:
    """Scores of some sizes: their means over draws and rows, (sizes,), and the means' covariance.

    `sizes` are numbers of labels to learn from.
    """

    sizes: np.ndarray
    scores: np.ndarray
    covariance: np.ndarray

    def upto(self, size: int) -> "Curve":
        """Return the part of the curve with the sizes that are not larger."""
        there = self.sizes <= size
        return Curve(self.sizes[there], self.scores[there], self.covariance[np.ix_(there, there)])


def divide(rows: pd.DataFrame, draws: int, seed: int) -> list[Draw]:
    """Divide labelled rows anew for each draw.

    Equal messages stay in one part. In the order of the rows to learn from, each beginning has the
    classes in their shares.
    """
    labels, groups = rows["class"].to_numpy(), message_keys(rows)
    rng = np.random.default_rng(seed)
    divided = []
    for _ in range(draws):
        folds = StratifiedGroupKFold(PARTS, shuffle=True, random_state=int(rng.integers(2**31)))
        pairs = folds.split(labels, labels, groups)
        divided.append([Part(in_shares(known, labels, rng), unseen) for known, unseen in pairs])
    return divided


def in_shares(rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rows in random order, of which every beginning has the classes in their shares."""
    place = np.empty(len(rows))
    for label in np.unique(labels[rows]):
        members = np.flatnonzero(labels[rows] == label)
        place[rng.permutation(members)] = np.arange(len(members)) + rng.random(len(members))
        place[members] /= len(members)
    return rows[np.argsort(place)]


def check_labels(path: str, rows: pd.DataFrame, codebook: Codebook) -> None:
    """Refuse labels from which no curve can be measured: one class, or a class of too few rows."""
    counts = rows.groupby("class")["message"].nunique()
    if len(counts) < 2:
        raise UserError(
            f"{path}: all {len(rows):,} rows have class {counts.index[0]} "
            f"({codebook.names[counts.index[0]]}), and a learning curve needs two classes: label "
            "more"
        )
    if counts.min() < PARTS:
        rare = counts.idxmin()
        raise UserError(
            f"{path}: {counts.min()} comments have class {rare} ({codebook.names[rare]}), and a "
            f"learning curve needs {PARTS}, one for each part of the rows: label more, or merge "
            "the class with another one in the codebook"
        )


def choose_sizes(
    asked: str, labels: np.ndarray, divided: Sequence[Draw], option: str = "--sizes"
) -> list[int]:
    """Return the numbers of labels to learn from, as asked ("100,200,400") or, with "", by rule.

    By rule there are up to `NUM_SIZES`, each the same number of times the one before, up to the
    four fifths of the labels that are there for it. Raises UserError where one is too small or
    too large.
    """
    most = min(len(part.learned) for draw in divided for part in draw)
    others = 1 - np.bincount(labels).max() / len(labels)
    least = max(FEWEST_ROWS, int(np.ceil(FEWEST_OTHERS / others)))
    if asked:
        sizes = read_sizes(option, asked)
        if not least <= sizes[0] or not sizes[-1] <= most:
            raise UserError(
                f"{option} {asked}: of these {len(labels):,} labels, give sizes of {least:,} to "
                f"{most:,}"
            )
        return sizes
    first = max(least, most / SPAN)
    if first >= most:
        return [most]
    return sorted({round(size) for size in np.geomspace(first, most, NUM_SIZES)})


def read_sizes(option: str, text: str) -> list[int]:
    """Return the numbers in a setting such as "500,1000", the smallest first, each once."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise UserError(f"{option} {text}: give whole numbers above 0, such as 500,1000,2000")
    return sorted({int(word) for word in words})


def fit_probe(features: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Fit logistic regression, with the penalty `PROBE_C`, on standardized features (rows, hidden).

    Classes count alike, as in bert_tune.py. Else a rare class is found by no model of few labels,
    and the curve of macro F1 is flat at first and then rises, which no power law does.
    """
    classifier = LogisticRegression(C=PROBE_C, class_weight="balanced", max_iter=1000)
    return make_pipeline(StandardScaler(), classifier).fit(features, labels)


def probe_predictions(
    features: np.ndarray,
    labels: np.ndarray,
    divided: Sequence[Draw],
    sizes: Sequence[int],
    part_of_draw: Callable[[int], KeptPart | None] = lambda number: None,
) -> np.ndarray:
    """Return the classes that linear probes predict, int (draws, sizes, rows).

    `part_of_draw` says where the finished predictions of a draw, counted from 1, are kept.
    """

    def of_draw(draw: Draw) -> np.ndarray:
        predicted = np.empty((len(labels), len(sizes)), np.int16)
        for part in draw:
            for number, size in enumerate(sizes):
                known = part.learned[:size]
                probe = fit_probe(features[known], labels[known])
                predicted[part.unseen, number] = probe.predict(features[part.unseen])
        return predicted

    found = []
    for number, draw in enumerate(divided, 1):
        kept, compute = part_of_draw(number), partial(of_draw, draw)
        found.append((kept.whole(len(labels), compute) if kept else compute()).T)
        print(f"  draw {number} of {len(divided)}: {len(sizes) * PARTS} probes", flush=True)
    return np.stack(found)


def curve_of(
    measure: str,
    labels: np.ndarray,
    predicted: np.ndarray,
    sizes: Sequence[int],
    groups: np.ndarray,
    num_classes: int,
    seed: int,
) -> Curve:
    """Return the curve of predictions, int (draws, sizes, rows), by a measure of `MEASURES`.

    The covariance has two parts. That of the rows is a bootstrap in which equal messages
    (`groups`) stay together. That of the subsets comes from how far the draws differ; their
    subsets overlap, the more the larger they are, and this is made up for (Nadeau & Bengio 2003,
    Inference for the Generalization Error, who treat overlapping training sets).
    """
    score, rng = MEASURES[measure], np.random.default_rng(seed)
    cells = block_counts(labels, predicted, groups, num_classes, rng)
    draws, num_sizes, blocks = cells.shape[:3]
    scores = score(cells.sum(2))
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), REDRAWN)
    flat = np.moveaxis(cells, 2, 0).reshape(blocks, -1)
    again = score((weights @ flat).reshape(REDRAWN, draws, num_sizes, num_classes, -1)).mean(1)
    covariance = np.atleast_2d(np.cov(again, rowvar=False))
    shared = np.asarray(sizes) / len(labels)  # of two subsets' rows
    if draws > 1:
        each = scores.var(0, ddof=1) * PARTS / (1 - shared)  # of a single model's score
        pooled = np.average(each * sizes, weights=1 - shared) / sizes
        covariance += np.diag(pooled * (shared + (1 - shared) / (PARTS * draws)))
    return Curve(np.asarray(sizes, float), scores.mean(0), covariance)


def block_counts(
    labels: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    num_classes: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return confusion matrices of random blocks of rows, (draws, sizes, blocks, k, k + 1)."""
    _, group = np.unique(groups, return_inverse=True)
    blocks = min(BLOCKS, group.max() + 1)
    block = (rng.permutation(group.max() + 1) % blocks)[group]
    shape = (*predicted.shape[:2], blocks, num_classes, num_classes + 1)
    place = (block * num_classes + labels) * (num_classes + 1) + predicted
    size = blocks * num_classes * (num_classes + 1)
    counts = [np.bincount(one, minlength=size) for one in place.reshape(-1, len(labels))]
    return np.stack(counts).reshape(shape)
