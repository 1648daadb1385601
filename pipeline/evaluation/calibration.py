"""Calibration of probabilities: temperature scaling, and the error of it (Guo et al., 2017)."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

NUM_BINS = 15


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature, 0.05 to 20, of the least negative log-likelihood.

    `logits` is (rows, classes), `labels` (rows,). Dividing logits by it changes no prediction.
    Raises ValueError where a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise ValueError("logits that are not finite have no temperature")

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(labels)), labels].mean()

    bounds = (np.log(0.05), np.log(20))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds).x))


def at_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return class probabilities, float64 (rows, classes), of logits at a temperature."""
    return softmax(logits.astype(float) / temperature, axis=1)


def calibration_of(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return what a training's record says of validation logits (rows, classes) and their classes.

    `temperature` is fitted on them; `ece` is the expected calibration error without it, and
    `ece_with_temperature` the one with it. Raises ValueError where a logit is not finite.
    """
    temperature, correct = fit_temperature(logits, labels), logits.argmax(1) == labels
    ece, scaled_ece = (
        expected_calibration_error(at_temperature(logits, t).max(1), correct)
        for t in (1.0, temperature)
    )
    return {"temperature": temperature, "ece": ece, "ece_with_temperature": scaled_ece}


def reliability_bins(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """Return mean `confidence`, `accuracy` and `rows` of each of 15 bins of equal width with rows.

    `confidence` (rows,) is the probability of the predicted class, `correct` (rows,) a bool, and
    `weights` (rows,) count in the means; `share` is a bin's share of all weights.
    """
    weights = np.ones(len(confidence)) if weights is None else weights
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    mass = np.bincount(bins, weights, NUM_BINS)
    rows = np.bincount(bins, minlength=NUM_BINS)
    sums = {"confidence": confidence, "accuracy": correct}
    with np.errstate(invalid="ignore"):
        means = {
            name: np.bincount(bins, weights * of, NUM_BINS) / mass for name, of in sums.items()
        }
    table = pd.DataFrame(means | {"rows": rows, "share": mass / weights.sum()})
    return table[rows > 0].reset_index(drop=True)


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the mean distance of confidence from accuracy over the bins of `reliability_bins`."""
    bins = reliability_bins(confidence, correct, weights)
    return float(((bins["confidence"] - bins["accuracy"]).abs() * bins["share"]).sum())
