"""95 % intervals of figures from samples: the jackknife's variance, Wilson's interval."""

import numpy as np

from pipeline.evaluation.metrics import wilson_ends

FEWEST = 2  # rows of a stratum: one alone does not say how much rows of the stratum differ


def jackknife_variance(
    without: np.ndarray, counts: np.ndarray, uncoded: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return the variance of figures of a stratified sample, float (..., figures).

    The stratified jackknife (Wolter 2007, Introduction to Variance Estimation, chapter 4). Of a
    share it is the textbook's stratified variance (Cochran 1977, Sampling Techniques, chapter 5).
    `counts` (..., strata, kinds) says how many rows are of each kind, `without` (..., strata,
    kinds, figures) has the figures without one row of that kind, and `uncoded` (strata,) is the
    share of each stratum that is not in the sample: the finite population correction. A stratum of
    fewer than `FEWEST` rows counts as if all its rows were alike; callers refuse it.
    """
    rows, weights = counts.sum(-1), counts[..., None]
    middle = (weights * without).sum(-2, keepdims=True) / np.maximum(rows, 1)[..., None, None]
    squares = (weights * (without - middle) ** 2).sum(-2)
    return (squares * (uncoded * (rows - 1) / np.maximum(rows, 1))[..., None]).sum(-2)


def effective_interval(
    share: np.ndarray, variance: np.ndarray, rows: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's (1927) intervals at the effective sample size.

    This is the size of a simple random sample with the same variance (Kish 1965). Franco et al.
    (2019) recommend it for shares of 0 to 1 in stratified samples. Where the sample has no
    variance, as where all rows are right, its `rows` are the size, as usual for such shares.
    """
    varied = variance > 1e-15
    size = np.where(varied, share * (1 - share) / np.where(varied, variance, 1), rows)
    return wilson_ends(share, size)


def agreement_interval(value: float, variance: float, rows: int) -> list[float]:
    """Return the interval of a coefficient of -1 to 1, as that of the share (1 + value) / 2."""
    ends = effective_interval(np.array((1 + value) / 2), np.array(variance / 4), rows)
    return [float(2 * end - 1) for end in ends]
