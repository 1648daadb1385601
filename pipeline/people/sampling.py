"""A stratified random sample of labelled rows for people to code."""

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook


def allocate(sizes: np.ndarray, total: int, floor: int) -> np.ndarray:
    """Return how many rows to draw from strata of `sizes` (k,): `total` in all, int.

    In proportion to size, but at least `floor` from each, or the whole of a smaller one. Fractions
    go by largest remainder. A `total` beyond the rows there are takes them all.
    """
    sizes = np.asarray(sizes)
    total = min(total, int(sizes.sum()))
    least = np.minimum(floor, sizes)
    quotas = np.zeros(len(sizes))
    raised = np.zeros(len(sizes), bool)
    while True:
        rest = total - least[raised].sum()
        quotas[~raised] = rest * sizes[~raised] / max(sizes[~raised].sum(), 1)
        short = ~raised & (quotas < least)
        if not short.any():
            break
        raised |= short
    quotas[raised] = least[raised]
    drawn = np.floor(quotas).astype(int)
    by_remainder = np.argsort(drawn - quotas, kind="stable")
    drawn[by_remainder[: total - drawn.sum()]] += 1
    return drawn


def draw_sample(
    frame: pd.DataFrame, codebook: Codebook, total: int, floor: int, seed: int
) -> pd.DataFrame:
    """Return a random sample of `frame`, stratified by `class`, in random order.

    Raises UserError where the floors alone exceed `total`.
    """
    num_labels = len(codebook.names)
    sizes = frame["class"].value_counts().reindex(range(num_labels), fill_value=0).to_numpy()
    if np.minimum(sizes, floor).sum() > total:
        raise UserError(
            f"--min-per-class {floor} of {num_labels} classes exceeds --sample-size {total}: give "
            "a larger sample or a lower floor"
        )
    parts = [
        frame[frame["class"] == k].sample(n, random_state=seed)
        for k, n in enumerate(allocate(sizes, total, floor))
    ]
    return pd.concat(parts).sample(frac=1, random_state=seed)
