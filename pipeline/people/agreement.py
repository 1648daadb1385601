"""How far coders agree: Krippendorff's alpha and Cohen's kappa, with bootstrap intervals."""

from itertools import combinations

import krippendorff
import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import NUM_DRAWS, cohen_kappa, confusion

PSEUDO_ROWS = 2  # in all, as Agresti and Coull (1998) add two to each side of a share
LEVELS = ("nominal", "ordinal")


def agreement(codes: pd.DataFrame, num_labels: int, seed: int) -> dict | None:
    """Return how far coders agree on the rows that two or more of them coded, None without such.

    `codes` has a row per comment and a column per coder: 0..k-1, -1 for a blank. `percent` is the
    share of pairs of labels that agree; "ordinal" takes the classes in the codebook's order. The
    figures are those of the sample, in which rare classes may have more than their share. Intervals
    are percentiles of draws of the rows with `PSEUDO_ROWS` more.
    """
    counts = np.stack([(codes == k).sum(axis=1) for k in range(num_labels)], axis=1)
    counts = counts[counts.sum(1) > 1]
    if not len(counts):
        return None
    pairs = counts.sum(1) * (counts.sum(1) - 1)
    result = {
        "rows": len(counts),
        "percent": float((counts * (counts - 1)).sum() / pairs.sum()),
    }
    patterns, repeats = np.unique(counts, axis=0, return_counts=True)
    each = np.eye(num_labels, dtype=int)
    pairs_of_classes = (each[:, None] + each).reshape(-1, num_labels)
    draws = redraw(np.append(repeats, [0] * num_labels**2), num_labels, seed)
    patterns = np.concatenate([patterns, pairs_of_classes])
    for level in LEVELS:
        varied = (counts.sum(0) > 0).sum() > 1  # without variation alpha is 0 by definition
        alpha = (
            krippendorff.alpha(value_counts=counts, level_of_measurement=level) if varied else 0.0
        )
        result[f"alpha_{level}"] = float(alpha)
        result[f"alpha_{level}_ci95"] = np.percentile(
            alphas(patterns, draws, level), [2.5, 97.5]
        ).tolist()
    result["kappa"] = [
        kappa_of(codes[first], codes[second], num_labels, seed)
        for first, second in combinations(codes.columns, 2)
    ]
    return result


def redraw(counts: np.ndarray, num_labels: int, seed: int) -> np.ndarray:
    """Return draws (draws, kinds) of how many rows are of each kind, float, as many as there are.

    `counts` (kinds,) ends with the k² pairs of classes that two coders can give a row. A Bayesian
    bootstrap (Rubin 1981) of the rows and `PSEUDO_ROWS`, spread evenly over these pairs: without
    them coders who hardly ever disagree would get an interval that is too short, or none.
    """
    smoothed = counts.astype(float)
    smoothed[-(num_labels**2) :] += PSEUDO_ROWS / num_labels**2
    draws = np.random.default_rng(seed).standard_gamma(smoothed, size=(NUM_DRAWS, len(counts)))
    return counts.sum() * draws / draws.sum(1, keepdims=True)


def alphas(patterns: np.ndarray, weights: np.ndarray, level: str) -> np.ndarray:
    """Return Krippendorff's alpha of many weightings of the same units, float (draws,).

    `patterns` (units, k) counts the labels that a unit got, two or more in all; `weights` (draws,
    units) says how often a unit stands in a draw. The formula is that of Krippendorff (2011),
    "Computing Krippendorff's Alpha-Reliability".
    """
    num = patterns.shape[1]
    values = patterns.sum(1)
    pairs = patterns[:, :, None] * patterns[:, None, :] - patterns[:, None, :] * np.eye(num)
    coincidences = np.tensordot(weights, pairs / (values - 1)[:, None, None], axes=1)
    margins = coincidences.sum(-1)
    total = margins.sum(-1)
    if level == "nominal":
        distances = np.broadcast_to(1 - np.eye(num), coincidences.shape)
    else:
        ranks = margins.cumsum(-1) - margins / 2
        distances = (ranks[:, :, None] - ranks[:, None, :]) ** 2
    observed = (coincidences * distances).sum((-2, -1)) * (total - 1)
    expected = (margins[:, :, None] * margins[:, None, :] * distances).sum((-2, -1))
    return np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), 0.0)


def kappa_of(first: pd.Series, second: pd.Series, num_labels: int, seed: int) -> dict:
    """Return Cohen's kappa of two coders over the rows that both coded; None where there are none.

    `first` and `second` hold 0..k-1, -1 for a blank.
    """
    both = ((first >= 0) & (second >= 0)).to_numpy()
    result = {"coders": [str(first.name), str(second.name)], "rows": int(both.sum())}
    if not both.any():
        return result | {"kappa": None, "ci95": None}
    matrix = confusion(first.to_numpy()[both], second.to_numpy()[both], num_labels)
    draws = redraw(matrix[:, :-1].ravel(), num_labels, seed)
    draws = draws.reshape(-1, num_labels, num_labels)
    draws = np.concatenate([draws, np.zeros((NUM_DRAWS, num_labels, 1))], axis=2)
    interval = np.percentile(cohen_kappa(draws), [2.5, 97.5])
    return result | {"kappa": float(cohen_kappa(matrix)), "ci95": interval.tolist()}
