"""Probabilities that mean what they say: temperature scaling and its measure (Guo et al., 2017)."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

NUM_BINS = 15


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature, 0.05 to 20, of the least negative log-likelihood.

    `logits` is (rows, classes), `labels` (rows,). Dividing logits by it changes no prediction.
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(labels)), labels].mean()

    bounds = (np.log(0.05), np.log(20))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds).x))


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return the mean distance of confidence from accuracy over 15 bins of equal width.

    `confidence` (rows,) is the probability of the predicted class, `correct` (rows,) a bool.
    """
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gap = np.bincount(bins, confidence - correct, minlength=NUM_BINS)
    return float(np.abs(gap).sum() / len(confidence))
