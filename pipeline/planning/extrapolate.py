"""What more labels will bring: a learning curve continued, with an interval, and when not to."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from pipeline.planning.learning_curve import Curve

FEWEST_SIZES, FEWEST_SPAN = 4, 3.0  # with fewer sizes, or a narrower span, nothing is said
FURTHEST = 4.0  # times the labels that are there; benchmarks/label_curve.py reaches so far
EXPONENTS = np.geomspace(0.1, 1.5, 50)
SHARES = np.linspace(0, 1, 201)
MISFIT = 0.002  # of a score, by which a power law misses a curve beside the noise
SAMPLES = 4000
UNLIKELY = 0.01  # a curve that departs from every power law so much by chance is no power law


@dataclass(frozen=True)
class Forecast:
    """Power laws that may have made a curve, each as likely as the others.

    `error` (samples,) is what a model gets wrong at `size` labels, `share` of it goes away with
    ever more labels, and `exponent` says how fast. `fit` is the chance of a curve that departs as
    much from the best power law.
    """

    size: float
    error: np.ndarray
    share: np.ndarray
    exponent: np.ndarray
    fit: float

    def score(self, labels: float) -> np.ndarray:
        """Return the scores (samples,) with so many labels."""
        left = self.share * (labels / self.size) ** -self.exponent
        return 1 - self.error * (1 - self.share + left)

    def gain(self, now: float, more: float) -> np.ndarray:
        """Return how much higher the scores are with `more` labels than with those of `now`."""
        return self.score(now + more) - self.score(now)


def forecast(curve: Curve, seed: int) -> Forecast:
    """Fit error = a + b * labels ** -c to a curve, by weighted least squares.

    The power law with a floor is the usual form, fitted by weighted least squares (Figueroa et al.
    2012, Predicting sample size required for classification performance). Of three forms it fits
    best on 130 data sets (Brumen et al. 2021, Overview of Machine Learning Process Modelling). Its
    three parameters are not well known from a few sizes: many floors and exponents fit alike, and
    a single best fit with resampled draws says too little of that. So all of a grid are weighed by
    how well they fit: the share of the error that more labels can take away (0 to 1, each alike
    likely at first), and the exponent (0.1 to 1.5, the same on a logarithmic scale). The error at
    the largest size is fitted exactly for each.
    """
    size, wrong = curve.sizes[-1], 1 - curve.scores
    exponent, share = (axis.ravel() for axis in np.meshgrid(EXPONENTS, SHARES))
    shape = 1 - share + share * (curve.sizes[:, None] / size) ** -exponent  # (sizes, grid)
    noise = curve.covariance + MISFIT**2 * np.eye(len(curve.sizes))
    weighted = np.linalg.solve(noise, shape)
    precision = (shape * weighted).sum(0)
    error = wrong @ weighted / precision
    left = wrong[:, None] - error * shape
    misfit = (left * np.linalg.solve(noise, left)).sum(0)
    weight = np.exp(-(misfit - misfit.min()) / 2) / np.sqrt(precision)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(weight), SAMPLES, p=weight / weight.sum())
    errors = rng.normal(error[drawn], 1 / np.sqrt(precision[drawn]))
    fit = float(chi2.sf(misfit.min(), max(len(curve.sizes) - 3, 1)))
    return Forecast(size, errors.clip(0, 1), share[drawn], exponent[drawn], fit)


def interval(samples: np.ndarray) -> list[float]:
    """Return the shortest interval that holds 95 % of samples.

    Of gains, which are never below 0, it begins at 0 where that is likely. Percentiles would not.
    """
    ordered = np.sort(samples)
    inside = int(np.ceil(0.95 * len(ordered)))
    widths = ordered[inside - 1 :] - ordered[: len(ordered) - inside + 1]
    first = int(widths.argmin())
    return [float(ordered[first]), float(ordered[first + inside - 1])]


def why_not(curve: Curve) -> str:
    """Return why nothing can be said of more labels, "" where it can."""
    if not np.isfinite(curve.scores).all() or not np.isfinite(curve.covariance).all():
        return "the scores are no finite numbers"
    span = curve.sizes[-1] / curve.sizes[0]
    if len(curve.sizes) < FEWEST_SIZES or span < FEWEST_SPAN:
        return (
            f"the curve has {len(curve.sizes)} sizes ({curve.sizes[0]:,.0f} to "
            f"{curve.sizes[-1]:,.0f} labels), and it needs {FEWEST_SIZES}, the largest "
            f"{FEWEST_SPAN:.0f} times the smallest"
        )
    return ""


@dataclass(frozen=True)
class Backtest:
    """A forecast of the largest size from the sizes up to half of it, and what was measured.

    `holds` says whether the forecast's 95 % interval, with the noise of the measurement, has it.
    """

    fitted_to: int
    predicted_for: int
    gain: float
    gain_ci95: list[float]
    measured: float
    holds: bool


def backtest(curve: Curve, seed: int) -> Backtest | None:
    """Forecast what is known; None where too few sizes are left for it."""
    known = curve.upto(int(curve.sizes[-1] / 2))
    if len(known.sizes) < FEWEST_SIZES:
        return None
    here, last = len(known.sizes) - 1, len(curve.sizes) - 1
    now, then = curve.sizes[here], curve.sizes[last]
    gains = forecast(known, seed).gain(now, then - now)
    contrast = np.zeros(len(curve.sizes))
    contrast[[here, last]] = -1, 1
    noise = np.sqrt(max(contrast @ curve.covariance @ contrast, 0))
    measured = float(contrast @ curve.scores)
    expected = gains + np.random.default_rng(seed).normal(0, noise, len(gains))
    low, high = interval(expected)
    return Backtest(
        int(now), int(then), float(np.median(gains)), [low, high], measured, low <= measured <= high
    )
