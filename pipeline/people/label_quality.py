"""How right the silver labels are, and the class shares corrected for their errors.

People coded a random sample, stratified by silver class, of a finite data set. Within a stratum
the share of each human class is known up to sampling; weighted by the strata's sizes, these shares
give every figure here. For class shares this is the prediction-powered estimate (Angelopoulos et
al. 2023), which for strata made of the predictions themselves is the stratified mean of Cochran
(1977, chapter 5).
"""

import numpy as np

from pipeline.evaluation.metrics import NUM_DRAWS, cohen_kappa, macro_f1, ratio, wilson_interval


def label_quality(counts: np.ndarray, sizes: np.ndarray, names: list[str], seed: int) -> dict:
    """Return silver labels against human ones, and the shares of the classes, with intervals.

    `counts` (k, k) is the sample: rows silver class, columns human class, each row with one or
    more; `sizes` (k,) is how many rows of the data set have each silver class. The result has the
    keys `silver` and `shares`; its figures are weighted by the inverse inclusion probabilities.
    Intervals are 95 %: quantiles of `draw_tables`, and Wilson's for the naive shares, which take
    the silver labels for the truth.
    """
    estimate = figures(observed_shares(counts) * sizes[:, None])
    draws = figures(draw_tables(counts, sizes, np.random.default_rng(seed)))
    interval = {key: np.percentile(value, [2.5, 97.5], axis=0) for key, value in draws.items()}

    def both(key: str, k: int | None = None) -> dict:
        if k is None:
            return {key: float(estimate[key]), f"{key}_ci95": interval[key].tolist()}
        return {key: float(estimate[key][k]), f"{key}_ci95": interval[key][:, k].tolist()}

    classes = [
        {"name": name, "rows": int(counts[:, k].sum())}
        | both("precision", k)
        | both("recall", k)
        | both("f1", k)
        for k, name in enumerate(names)
    ]
    shares = [
        {
            "name": name,
            "naive": float(sizes[k] / sizes.sum()),
            "naive_ci95": wilson_interval(sizes[k], sizes.sum()),
        }
        | both("corrected", k)
        for k, name in enumerate(names)
    ]
    silver = {"rows": int(counts.sum())}
    for key in ("accuracy", "macro_f1", "cohen_kappa"):
        silver |= both(key)
    silver |= {"confusion_matrix": counts.T.tolist(), "classes": classes}
    return {"silver": silver, "shares": shares}


def figures(tables: np.ndarray) -> dict[str, np.ndarray]:
    """Return the figures of (..., k, k) tables of rows: silver class by human class."""
    hits = np.diagonal(tables, axis1=-2, axis2=-1)
    silver, human = tables.sum(-1), tables.sum(-2)
    total = tables.sum((-2, -1))
    by_truth = np.swapaxes(tables, -2, -1)
    matrices = np.concatenate([by_truth, np.zeros((*by_truth.shape[:-1], 1))], axis=-1)
    return {
        "precision": ratio(hits, silver),
        "recall": ratio(hits, human),
        "f1": ratio(2 * hits, silver + human),
        "corrected": human / total[..., None],
        "accuracy": hits.sum(-1) / total,
        "macro_f1": macro_f1(matrices),
        "cohen_kappa": cohen_kappa(matrices),
    }


def draw_tables(
    counts: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, num: int = NUM_DRAWS
) -> np.ndarray:
    """Return `num` tables (num, k, k) of the whole data set that the sample is compatible with.

    Each stratum's shares are drawn from a Dirichlet distribution with the prior of Perks (1947),
    1/k a class, which unlike a bootstrap leaves a class that the sample missed possible. The draws
    keep the prior's shape, but are moved to a centre that gives it the weight of at most one wrong
    label in all: with many strata its full weight would make good labels look worse. They spread as
    the textbook's variance of a stratified sample does, p (1 - p) / (n - 1), less for the rows that
    nobody coded (the finite population correction). `tests/test_label_quality.py` simulates the
    coverage for 2, 4 and 10 classes.
    """
    k, sampled = counts.shape[1], counts.sum(1, keepdims=True)
    smoothed = counts + 1 / k
    mean = smoothed / smoothed.sum(1, keepdims=True)
    shares = rng.standard_gamma(smoothed, size=(num, *counts.shape))
    shares /= shares.sum(-1, keepdims=True)
    observed = observed_shares(counts)
    uncoded = np.sqrt(np.clip(1 - sampled / np.maximum(sizes[:, None], 1), 0, 1))
    centre = observed + uncoded * 4 / k**2 * (mean - observed)
    spread = uncoded * np.sqrt((sampled + 2) / np.maximum(sampled - 1, 1))
    return np.maximum(centre + spread * (shares - mean), 0) * sizes[:, None]


def observed_shares(counts: np.ndarray) -> np.ndarray:
    """Return the share of each human class in each stratum of the sample, 0 in an empty one."""
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)
