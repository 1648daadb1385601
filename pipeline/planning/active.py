"""Labels that a model chooses, against random ones: simulated on the labels that are there.

The strategies are short on scikit-learn. small-text and scikit-activeml have them too; their
classes would wrap the same model and features in more lines than these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.planning.learning_curve import (
    MEASURES,
    REDRAWN,
    Draw,
    block_counts,
    fit_probe,
)

RANDOM, UNCERTAIN, DIVERSE, BOTH = "random", "uncertain", "diverse", "uncertain and diverse"
STRATEGIES = (RANDOM, UNCERTAIN, DIVERSE, BOTH)
ROUNDS = 4  # of choosing, each by a model that has learned the labels so far
CHOICE = 5  # of so many times as many uncertain rows, the most diverse ones are taken
LARGEST_POOL = 4_000  # rows to choose from: beyond it, k-means takes minutes a round
START, END = 1 / 8, 1 / 2  # shares of the pool that have labels at first and at last


@dataclass(frozen=True)
class Contest:
    """What a strategy brings with `labels` labels, `chosen` of them chosen out of `pool` rows.

    `difference` is its score minus that of random choice.
    """

    strategy: str
    measure: str
    pool: int
    labels: int
    chosen: int
    score: float
    difference: float
    difference_ci95: list[float]


def budget_of(divided: Sequence[Draw], least: int) -> tuple[int, int, int]:
    """Return how many rows there are to choose from, how many are labelled first, and at last.

    `least` is the smallest number of labels that a model learns from.
    """
    pool = min([LARGEST_POOL, *(len(part.learned) for draw in divided for part in draw)])
    return pool, max(least, round(pool * START)), round(pool * END)


def contest(
    features: np.ndarray,
    labels: np.ndarray,
    divided: Sequence[Draw],
    groups: np.ndarray,
    num_classes: int,
    least: int,
    seed: int,
) -> list[Contest]:
    """Let each strategy choose as many labels as random choice, and compare the models.

    All begin with the same random labels and choose in `ROUNDS` rounds. The intervals are over
    rows, equal messages (`groups`) together, and over draws. [] where the rows are too few.
    """
    pool, first, last = budget_of(divided, least)
    if last - first < ROUNDS:
        return []
    predicted = np.empty((len(divided), len(STRATEGIES), len(labels)), np.int16)
    for number, draw in enumerate(divided):
        for part in draw:
            there, seeds = part.learned[:pool], (seed, number)
            for place, strategy in enumerate(STRATEGIES):
                rng = np.random.default_rng(seeds)
                known = choose(strategy, features[there], labels[there], first, last, rng)
                probe = fit_probe(features[there[known]], labels[there[known]])
                predicted[number, place, part.unseen] = probe.predict(features[part.unseen])
        print(f"  choosing labels, draw {number + 1} of {len(divided)}", flush=True)
    rng = np.random.default_rng(seed)
    cells = block_counts(labels, predicted, groups, num_classes, rng)
    return [
        one
        for measure in MEASURES
        for one in compared(measure, cells, (pool, last, last - first), rng)
    ]


def choose(
    strategy: str,
    features: np.ndarray,
    labels: np.ndarray,
    first: int,
    last: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the `last` rows of a pool that a strategy has labelled; the first ones are random.

    The pool is in random order. A label is looked at once its row is chosen.
    """
    known = np.arange(first)
    ends = np.linspace(first, last, ROUNDS + 1).round().astype(int)[1:]
    for end in ends:
        if strategy == RANDOM:
            known = np.arange(end)
            continue
        left = np.setdiff1d(np.arange(len(features)), known)
        count = end - len(known)
        if strategy != DIVERSE:
            probe = fit_probe(features[known], labels[known])
            wanted = count if strategy == UNCERTAIN else CHOICE * count
            left = left[np.argsort(margins(probe, features[left]), kind="stable")[:wanted]]
        if strategy != UNCERTAIN:
            left = left[spread_out(features[left], count, rng)]
        known = np.concatenate([known, left])
    return known


def margins(probe: Pipeline, features: np.ndarray) -> np.ndarray:
    """Return how much likelier the likeliest class is than the next (Scheffer et al. 2001)."""
    ordered = np.sort(probe.predict_proba(features), axis=1)
    return ordered[:, -1] - ordered[:, -2]


def spread_out(features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` rows that lie apart: those nearest to the centres of as many clusters.

    Where one row is the nearest to two centres, rows drawn at random make up the number.
    """
    if count >= len(features):
        return np.arange(len(features))
    scaled = StandardScaler().fit_transform(features)
    means = KMeans(count, n_init=1, max_iter=20, random_state=int(rng.integers(2**31))).fit(scaled)
    rows = np.unique(pairwise_distances_argmin(means.cluster_centers_, scaled))
    others = np.setdiff1d(np.arange(len(features)), rows)
    return np.concatenate([rows, rng.choice(others, count - len(rows), replace=False)])


def compared(
    measure: str, cells: np.ndarray, counts: tuple[int, int, int], rng: np.random.Generator
) -> list[Contest]:
    """Return the strategies by a measure, from counts (draws, strategies, blocks, k, k + 1)."""
    score, (draws, _, blocks) = MEASURES[measure], cells.shape[:3]
    scores = score(cells.sum(2))
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), REDRAWN)
    flat = np.moveaxis(cells, 2, 0).reshape(blocks, -1)
    again = score((weights @ flat).reshape(REDRAWN, *cells.shape[:2], *cells.shape[3:])).mean(1)
    found = []
    for place, strategy in enumerate(STRATEGIES):
        variance = (again[:, place] - again[:, 0]).var()
        difference = scores[:, place] - scores[:, 0]
        if draws > 1:
            variance += difference.var(ddof=1) / draws
        mean, reach = float(difference.mean()), 1.96 * float(np.sqrt(variance))
        level = float(scores[:, place].mean())
        found.append(Contest(strategy, measure, *counts, level, mean, [mean - reach, mean + reach]))
    return found
