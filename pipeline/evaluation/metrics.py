"""Metrics from predictions: accuracy, macro F1, Cohen's kappa and their intervals."""

from statistics import NormalDist

import numpy as np

NUM_DRAWS = 2000  # bootstrap draws for an interval


def confusion(true: np.ndarray, predicted: np.ndarray, num_labels: int) -> np.ndarray:
    """Return counts of shape (k, k + 1): rows true, columns predicted, the last one "invalid".

    `true` holds 0..k-1, `predicted` holds -1 for an invalid answer.
    """
    columns = np.where(predicted < 0, num_labels, predicted)
    flat = np.bincount(
        true.astype(int) * (num_labels + 1) + columns, minlength=num_labels * (num_labels + 1)
    )
    return flat.reshape(num_labels, num_labels + 1)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, 0 where the whole is 0 or less."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0)


def share_right(matrices: np.ndarray) -> np.ndarray:
    """Return the accuracy of (..., k, k + 1) confusion matrices."""
    return np.diagonal(matrices, axis1=-2, axis2=-1).sum(-1) / matrices.sum((-2, -1))


def macro_f1(matrices: np.ndarray) -> np.ndarray:
    """Return the macro F1 of (..., k, k + 1) confusion matrices; a class without F1 counts as 0."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    margins = matrices.sum(-1) + matrices[..., :-1].sum(-2)
    return ratio(2 * hits, margins).mean(-1)


def cohen_kappa(matrices: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of (..., k, k + 1) confusion matrices, "invalid" being a category."""
    total = matrices.sum((-2, -1))
    observed = share_right(matrices)
    expected = (matrices.sum(-1) * matrices[..., :-1].sum(-2)).sum(-1) / total**2
    return ratio(observed - expected, 1 - expected)


def wilson_interval(hits: float, total: float) -> list[float]:
    """Return the 95 % interval of a share (Wilson 1927).

    `total` may be an effective sample size.
    """
    return [float(end) for end in wilson_ends(hits / total, total)]


def wilson_ends(share: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's intervals of many shares; a `total` of 0 says nothing."""
    z2 = NormalDist().inv_cdf(0.975) ** 2 / np.maximum(total, 1e-9)
    half = np.sqrt(z2 * share * (1 - share) + z2**2 / 4)
    return (share + z2 / 2 - half) / (1 + z2), (share + z2 / 2 + half) / (1 + z2)


def weighted_interval(right: np.ndarray, weights: np.ndarray) -> list[float]:
    """Return the 95 % interval of a weighted share: Wilson's, at Kish's effective sample size."""
    total = weights.sum() ** 2 / (weights**2).sum()
    return wilson_interval(total * np.average(right, weights=weights), total)


def compute_metrics(
    true: np.ndarray,
    predicted: np.ndarray,
    num_labels: int,
    seed: int,
    weights: np.ndarray | None = None,
) -> dict:
    """Return the metrics of predictions, -1 being an invalid answer.

    `accuracy` is over the valid predictions, as in the report; all else over all rows, where an
    invalid answer is wrong. `weights` (rows,), one per stratum of a sample, are how many rows of
    the data set a row stands for; they count in all but `total`, `valid`, `accuracy` and the
    matrix, and add `accuracy_weighted`, over the valid predictions. Intervals are 95 %: Wilson's
    for accuracies, percentiles of 2,000 multinomial bootstrap draws, within strata, for macro F1
    and Cohen's kappa.
    """
    matrix = confusion(true, predicted, num_labels)
    hits, total = int(np.trace(matrix)), int(matrix.sum())
    valid = total - int(matrix[:, -1].sum())
    rng = np.random.default_rng(seed)
    strata = np.ones(total) if weights is None else weights
    table, draws = 0, 0
    for weight in np.unique(strata):
        inside = strata == weight
        part = confusion(true[inside], predicted[inside], num_labels)
        size = part.sum()
        redrawn = rng.multinomial(size, part.ravel() / size, size=NUM_DRAWS)
        table = table + weight * part
        draws = draws + weight * redrawn.reshape(-1, *part.shape)
    majority = table.sum(1) / table.sum()
    answered = predicted >= 0
    over_valid = {}
    if weights is not None and answered.any():
        right = (true == predicted)[answered]
        over_valid = {
            "accuracy_weighted": float(np.average(right, weights=weights[answered])),
            "accuracy_weighted_ci95": weighted_interval(right, weights[answered]),
        }
    return over_valid | {
        "total": total,
        "valid": valid,
        "valid_rate": valid / total,
        "accuracy": hits / valid if valid else 0.0,
        "accuracy_ci95": wilson_interval(hits, valid) if valid else [0.0, 1.0],
        "accuracy_all_rows": float(share_right(table)),
        "accuracy_all_rows_ci95": weighted_interval(true == predicted, strata),
        "macro_f1": float(macro_f1(table)),
        "macro_f1_ci95": np.percentile(macro_f1(draws), [2.5, 97.5]).tolist(),
        "cohen_kappa": float(cohen_kappa(table)),
        "cohen_kappa_ci95": np.percentile(cohen_kappa(draws), [2.5, 97.5]).tolist(),
        "majority_class": int(majority.argmax()),
        "majority_baseline": float(majority.max()),
        "confusion_matrix": matrix.tolist(),
        "weighted": weights is not None,
    }
