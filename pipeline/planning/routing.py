"""Who codes what: how right rows are where the model codes those it is surest of, others the rest.

A threshold on the model's confidence decides. Held-out rows, whose class is known, say what each
threshold is worth. Nothing here reads or writes a file.

A promised accuracy is that of Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei 2021):
thresholds are tested from the highest down, each for "fewer rows than the target are right", and
the last one before the first that is not refuted is taken. So the chance to take a threshold that
misses the target is at most alpha, and all held-out rows serve both the choice and its measure;
a choice on one half, measured on the other, would have half the rows for each and promise nothing.
Where all that others code counts as right, a lower threshold can only add errors, and this is the
risk-controlling set of Bates, Angelopoulos, Lei, Malik and Jordan (2021).
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binom, hypergeom

from pipeline.evaluation.metrics import ratio, wilson_ends

ABOVE_ALL = 2.0  # a threshold that no confidence reaches: the model keeps no row


@dataclass(frozen=True)
class Routes:
    """What held-out rows come to with each threshold, the highest first, which keeps no row.

    All are arrays (thresholds,): the model keeps the rows of at least that confidence. `kept_share`
    is weighted, `kept_right` (0 where none is kept) and `right` are accuracies, of the kept rows
    and of all, and the sizes are the rows of a simple random sample that would say as much.
    `errors` counts wrong rows of all, unweighted.
    """

    threshold: np.ndarray
    kept: np.ndarray
    kept_share: np.ndarray
    kept_right: np.ndarray
    kept_size: np.ndarray
    right: np.ndarray
    size: np.ndarray
    errors: np.ndarray
    rows: int
    weighted: bool
    others_are_right: bool  # by definition

    def at(self, threshold: float) -> int:
        """Return the place of what a threshold keeps: the lowest one that is not below it."""
        return int(np.searchsorted(-self.threshold, -threshold, side="right")) - 1

    def keeping(self, share: float) -> int:
        """Return the place of the highest threshold that keeps at least a share of the rows."""
        place = int(np.searchsorted(self.kept_share, share - 1e-12))
        return min(place, len(self.threshold) - 1)

    def interval(self, place: int, rows_to_code: int = 0) -> list[float]:
        """Return the 95 % interval of `right` at a place, for so many rows like the held-out ones.

        It is Wilson's, at the effective size, which allows for the chance in these rows too; 0 =
        infinitely many.
        """
        if self.others_are_right and not self.kept[place]:
            return [1.0, 1.0]
        return _ends(self.right[place], self.size[place], rows_to_code)

    def kept_interval(self, place: int, rows_to_code: int = 0) -> list[float]:
        """Return the 95 % interval of `kept_right` at a place, see `interval`."""
        kept = max(1.0, rows_to_code * self.kept_share[place]) if rows_to_code else 0
        return _ends(self.kept_right[place], self.kept_size[place], kept)


def _ends(share: float, size: float, rows_to_code: float) -> list[float]:
    low, high = wilson_ends(np.array(share), np.array(_joint_size(size, rows_to_code)))
    return [max(0.0, float(low)), min(1.0, float(high))]


def _joint_size(size: np.ndarray | float, rows_to_code: float) -> np.ndarray | float:
    """Return the size whose share varies as the difference of two samples' shares does."""
    return size * rows_to_code / (size + rows_to_code) if rows_to_code else size


def find_routes(
    confidence: np.ndarray,
    model_wrong: np.ndarray,
    others_wrong: np.ndarray | None,
    weights: np.ndarray,
) -> Routes:
    """Return what held-out rows (rows,) come to with each threshold.

    `others_wrong` says for which rows those who code the rest are wrong, None where what they say
    is right by definition. Rows of equal confidence stay together. Raises ValueError where a
    confidence or a weight is not finite.
    """
    if not np.isfinite(confidence).all() or not np.isfinite(weights).all():
        raise ValueError("confidences and weights must be finite numbers")
    others = np.zeros(len(confidence)) if others_wrong is None else others_wrong.astype(float)
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-1.0))

    def from_top(values: np.ndarray) -> np.ndarray:
        """Return the sums over the kept rows (thresholds,), 0 where none is kept."""
        return np.append(0.0, values[order].cumsum()[last])

    def mixed(values: np.ndarray) -> np.ndarray:
        """Return the sums of wrong rows' values, whoever coded them (thresholds,)."""
        return (values * others).sum() + from_top(values * (model_wrong - others))

    squares, total = weights**2, weights.sum()
    kept_wrong, kept_size = _wrong_share(
        from_top(weights),
        from_top(squares),
        from_top(weights * model_wrong),
        from_top(squares * model_wrong),
    )
    wrong, size = _wrong_share(total, squares.sum(), mixed(weights), mixed(squares))
    return Routes(
        threshold=np.append(ABOVE_ALL, confidence[order][last]),
        kept=np.append(0, last + 1),
        kept_share=from_top(weights) / total,
        kept_right=np.append(0.0, 1 - kept_wrong[1:]),
        kept_size=kept_size,
        right=1 - wrong,
        size=size,
        errors=np.rint(mixed(np.ones(len(weights)))).astype(int),
        rows=len(weights),
        weighted=bool((weights != weights[0]).any()),
        others_are_right=others_wrong is None,
    )


def _wrong_share(
    total: np.ndarray | float, squares: np.ndarray | float, wrong: np.ndarray, wrong_2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted shares of wrong rows, and their effective sample sizes.

    The arguments are sums of the weights and of their squares, over all rows and over the wrong
    ones. A size is that of Kish (1965), or of the share's linearized variance where that is less,
    as Korn and Graubard (1998) have it: of equal weights it is the number of rows.
    """
    share = np.clip(ratio(wrong, np.asarray(total)), 0, 1)
    variance = ratio(wrong_2 * (1 - 2 * share) + share**2 * squares, np.asarray(total) ** 2)
    kish = ratio(np.asarray(total) ** 2, np.asarray(squares))
    varied = variance > 1e-15
    own = np.where(varied, share * (1 - share) / np.where(varied, variance, 1), np.inf)
    return share, np.minimum(kish, own)


def p_values(routes: Routes, target: float, rows_to_code: int) -> np.ndarray:
    """Return how probable so few errors are where a threshold misses a target, (thresholds,).

    The target is missed where fewer of `rows_to_code` (0 = infinitely many) other rows than that
    share are right. Of equal weights the tail is exact: with K errors among both, those among the
    held-out rows are hypergeometric, so that a small corpus, whose accuracy varies by itself, is
    allowed for. Of others it is the tail of the binomial distribution at the effective sample size
    (Korn and Graubard 1998), which is an approximation.
    """
    if routes.weighted:
        size = _joint_size(routes.size, rows_to_code)
        right = size * routes.right
        tails = beta.cdf(target, np.maximum(right, 1e-9), size - right + 1)
        return np.where(right > 0, tails, 1.0)
    counts, places = np.unique(routes.errors, return_inverse=True)
    return _tails(counts, routes.rows, target, rows_to_code)[places]


def _tails(counts: np.ndarray, rows: int, target: float, rows_to_code: int) -> np.ndarray:
    """Return the exact chances of so many errors or fewer among held-out rows, see `p_values`."""
    if not rows_to_code:
        return binom.cdf(counts, rows, 1 - target)
    allowed = int(np.floor((1 - target) * rows_to_code + 1e-9))
    total, in_all = rows + rows_to_code, counts + allowed + 1
    tails = hypergeom.cdf(counts, total, np.minimum(in_all, total), rows)
    return np.where(in_all > total, 0.0, tails)


def _passed(routes: Routes, target: float, alpha: float, rows_to_code: int) -> np.ndarray:
    """Return for which thresholds the chance is at most `alpha`, a bool (thresholds,).

    Of equal weights, the chance grows with the errors: the most that are allowed are looked for,
    since a chance for each of thousands of thresholds takes seconds.
    """
    if routes.weighted:
        return p_values(routes, target, rows_to_code) <= alpha
    counts = range(int(routes.errors.max()) + 1)
    fewest = bisect_right(
        counts, alpha, key=lambda n: _tails(np.array([n]), routes.rows, target, rows_to_code)[0]
    )
    return routes.errors < fewest


def lowest_promised(routes: Routes, target: float, alpha: float, rows_to_code: int) -> int | None:
    """Return the place of the lowest threshold for which a target can be promised, None without.

    `alpha` is the chance of held-out rows for which the promise does not hold.
    """
    passed = _passed(routes, target, alpha, rows_to_code)
    passed[0] |= routes.others_are_right
    count = len(passed) if passed.all() else int(passed.argmin())
    return count - 1 if count else None


def promised_at(routes: Routes, place: int, alpha: float, rows_to_code: int) -> float:
    """Return the accuracy that can be promised for a threshold that no class had a part in."""
    if routes.others_are_right and not routes.kept[place]:
        return 1.0
    return _greatest(lambda target: bool(_passed(routes, target, alpha, rows_to_code)[place]))


def most_promised(routes: Routes, alpha: float, rows_to_code: int) -> float:
    """Return the greatest target for which the model may keep any row, 0 where there is none."""
    return _greatest(lambda target: bool(lowest_promised(routes, target, alpha, rows_to_code)))


def _greatest(holds: Callable[[float], bool]) -> float:
    """Return the greatest share, rounded down to 4 decimals, for which something holds."""
    low, high = 0, 10_000
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle / 10_000) else (low, middle - 1)
    return low / 10_000


def rows_needed(target: float, alpha: float) -> int:
    """Return how many held-out rows without an error it takes to promise a target."""
    return int(np.ceil(np.log(alpha) / np.log(target) - 1e-9))
