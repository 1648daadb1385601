"""Models side by side on the same rows: tests, intervals, curves and errors from predictions."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from pipeline.common.cli import UserError
from pipeline.evaluation.calibration import reliability_bins
from pipeline.evaluation.metrics import NUM_DRAWS
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.runs import Run

MEASURES = (
    *("total", "valid_rate", "accuracy", "accuracy_ci95"),
    *("accuracy_weighted", "accuracy_weighted_ci95", "accuracy_all_rows"),
    *("accuracy_all_rows_ci95", "macro_f1", "macro_f1_ci95", "cohen_kappa", "cohen_kappa_ci95"),
    *("rows_per_second", "ece", "human_rows", "accuracy_human_rows", "accuracy_human_rows_ci95"),
    *("warning", "what_to_try"),
)
TARGETS = (0.80, 0.85, 0.90, 0.95, 0.99)
# Of 30 rows that are all right, the 95 % interval (Wilson) still begins at 0.886: fewer say nothing
# about the higher targets.
MIN_ROWS = 30
NUM_EXAMPLES = 3


def summary_row(run: Run) -> dict:
    """Return what tables and figures show of a run; a measure that it lacks is left out.

    As in metrics.json, `accuracy` is over the valid predictions and unweighted, `accuracy_weighted`
    the same with the rows of a sample weighted to the data set.
    """
    row = {
        "run": run.name,
        "model": run.display_name,
        "stage": run.stage,
        "family": run.family,
        "label_source": run.label_source,
        "measured_against": run.measured_against,
        "weighted": run.weighted,
    }
    return row | {key: run.metrics[key] for key in MEASURES if run.metrics[key] is not None}


def compare_runs(
    groups: list[list[str]], predictions: dict[str, pd.DataFrame], seed: int
) -> dict[str, list | dict]:
    """Return `pairs`, and by run `coverage`, `by_hand` and `calibration`.

    `groups` holds the names of runs on the same rows, `predictions` the `frame` of their scored
    rows. A run without confidence (generated text) is in `pairs` only.
    """
    pairs = []
    for group in groups:
        pairs += compare_pairs({name: predictions[name] for name in group}, seed)
    with_confidence = {
        name: rows for name, rows in predictions.items() if rows["confidence"].notna().all()
    }
    return {
        "pairs": with_holm(pairs),
        "coverage": {name: coverage_curve(rows) for name, rows in with_confidence.items()},
        "by_hand": {name: by_hand(rows) for name, rows in with_confidence.items()},
        "calibration": {
            name: reliability_bins(
                rows["confidence"].to_numpy(), is_right(rows).to_numpy(), rows["weight"].to_numpy()
            ).to_dict("records")
            for name, rows in with_confidence.items()
        },
    }


def is_right(rows: pd.DataFrame) -> pd.Series:
    """Return whether each prediction is the row's class; an invalid answer is wrong."""
    return rows["predicted"] == rows["class"]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test of two models on the same rows.

    Under the null hypothesis the rows that only one model got right are split evenly between the
    two (McNemar 1947); the p-value is the two-sided binomial one.
    """
    pairs = only_first + only_second
    return float(binomtest(only_first, pairs, 0.5).pvalue) if pairs else 1.0


def with_holm(pairs: list[dict]) -> list[dict]:
    """Return pairs with `p_holm`, the p-value adjusted for all of them."""
    adjusted = holm([pair["p_value"] for pair in pairs])
    return [pair | {"p_holm": p} for pair, p in zip(pairs, adjusted, strict=True)]


def holm(p_values: list[float]) -> list[float]:
    """Return p-values adjusted for being several, by Holm's step-down method (Holm 1979)."""
    p = np.array(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted.tolist()


def difference_interval(
    only_first: np.ndarray, only_second: np.ndarray, weights: np.ndarray, seed: int
) -> list[float]:
    """Return the 95 % interval of the second model's accuracy minus the first's, over all rows.

    Percentiles of bootstrap draws of whole rows, within the strata that the weights are: what
    counts of a row is whether one model alone got it right, so that a draw is one from a
    multinomial. All three arrays have an entry per row, the first two are bools.
    """
    rng, total = np.random.default_rng(seed), 0
    for weight in np.unique(weights):
        inside = weights == weight
        counts = np.array([(only_first & inside).sum(), (only_second & inside).sum()])
        rest = inside.sum() - counts.sum()
        draws = rng.multinomial(inside.sum(), [*counts, rest] / inside.sum(), size=NUM_DRAWS)
        total = total + weight * (draws[:, 1] - draws[:, 0])
    return np.percentile(total / weights.sum(), [2.5, 97.5]).tolist()


def compare_pairs(predictions: dict[str, pd.DataFrame], seed: int) -> list[dict]:
    """Return each pair of runs on the same rows: McNemar's test, and the difference that it tests.

    `difference`, the second's accuracy minus the first's over all rows, counts rows, as the test
    does. Where rows have different weights, `difference_weighted` counts each for those of the data
    set that it stands for. Rows are joined by the index. Raises UserError where two runs do not
    hold the same ones.
    """
    pairs = []
    for first, second in combinations(predictions, 2):
        a, b = is_right(predictions[first]), is_right(predictions[second])
        same_order = a.index.equals(b.index)
        if not same_order and (len(a) != len(b) or not a.index.isin(b.index).all()):
            raise UserError(
                f"the predictions.csv of {first} and {second} hold different custom_ids, which "
                "their metrics.json do not: run the evaluation step of both again"
            )
        b = b if same_order else b.reindex(a.index)
        only_first, only_second = (a & ~b).to_numpy(), (b & ~a).to_numpy()
        weights = predictions[first]["weight"].to_numpy()
        counts = int(only_first.sum()), int(only_second.sum())
        pair = {
            "first": first,
            "second": second,
            "rows": len(a),
            "only_first_right": counts[0],
            "only_second_right": counts[1],
            **difference("difference", only_first, only_second, np.ones(len(a)), seed),
            "p_value": mcnemar_exact(*counts),
        }
        if len(np.unique(weights)) > 1:
            pair |= difference("difference_weighted", only_first, only_second, weights, seed)
        pairs.append(pair)
    return pairs


def difference(
    name: str, only_first: np.ndarray, only_second: np.ndarray, weights: np.ndarray, seed: int
) -> dict[str, float | list[float]]:
    """Return the second model's accuracy minus the first's, by `name`, and its 95 % interval."""
    gains = only_second.astype(int) - only_first
    return {
        name: float(np.average(gains, weights=weights)),
        f"{name}_ci95": difference_interval(only_first, only_second, weights, seed),
    }


def most_confident_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of equal confidence together, the most confident first.

    A threshold cannot part them. The columns are `confidence`, `rows`, `weight`, the sum of their
    weights, and `right`, that of the right ones.
    """
    right = rows["weight"] * is_right(rows)
    table = rows[["confidence", "weight"]].assign(rows=1, right=right)
    return table.groupby("confidence").sum().sort_index(ascending=False).reset_index()


def coverage_curve(rows: pd.DataFrame) -> list[dict]:
    """Return the accuracy on the most confident 5 %, 10 %, ..., 100 % of a run's rows.

    Where rows of equal confidence are cut, each counts with the mean accuracy of all of them: what
    a random order gives on average, whatever the order of the file. `threshold` is the confidence
    of the last row. Shares and accuracies are weighted.
    """
    ties = most_confident_first(rows)
    weight, right = (np.append(0, ties[name].cumsum()) for name in ("weight", "right"))
    counts = np.append(0, ties["rows"].cumsum())
    curve = []
    for percent in range(5, 101, 5):
        count = -(-len(rows) * percent // 100)
        last = int(np.searchsorted(counts, count)) - 1
        kept, hits = np.interp(count, counts, weight), np.interp(count, counts, right)
        curve.append(
            {
                "coverage": float(kept / weight[-1]),
                "rows": count,
                "accuracy": float(hits / kept),
                "threshold": float(ties["confidence"][last]),
            }
        )
    return curve


def by_hand(rows: pd.DataFrame) -> list[dict]:
    """Return the smallest share of rows to leave to people for each target accuracy on the rest.

    The rest are the rows from some confidence upwards, 30 or more; `share` is None where no such
    rest reaches the target. It is chosen on the rows that it is measured on, and so is too small by
    chance more often than too large.
    """
    ties = most_confident_first(rows)
    kept, weight = ties["rows"].cumsum(), ties["weight"].cumsum()
    accuracy = ties["right"].cumsum() / weight
    shares = []
    for target in TARGETS:
        reached = weight[(kept >= MIN_ROWS) & (accuracy >= target)]
        share = float(1 - reached.iloc[-1] / weight.iloc[-1]) if len(reached) else None
        shares.append({"accuracy": target, "share": share})
    return shares


def confusions(predictions: Predictions) -> list[dict]:
    """Return the errors by true and predicted class, the most frequent first, with examples.

    The examples are the most confident ones; the first of the file where there is no confidence.
    """
    rows = predictions.frame
    table = rows[["class", "predicted", "confidence"]].assign(place=np.arange(len(rows)))
    wrong = table[~is_right(rows)].sort_values("confidence", ascending=False, kind="stable")
    cells = []
    for (true, predicted), errors in wrong.groupby(["class", "predicted"]):
        shown = examples(predictions, errors["place"].head(NUM_EXAMPLES).tolist())
        cell = {"true": int(true), "predicted": int(predicted), "rows": len(errors)}
        cells.append(cell | {"examples": shown})
    return sorted(cells, key=lambda cell: -cell["rows"])


def examples(predictions: Predictions, places: list[int]) -> list[dict]:
    """Return rows as examples; one whose class people gave says so."""
    rows, found = predictions.frame.iloc[places], []
    for text, sure, human in zip(
        predictions.texts(places).itertuples(), rows["confidence"], rows["human"], strict=True
    ):
        shown = {
            "custom_id": text.custom_id,
            "message": text.message,
            "confidence": None if np.isnan(sure) else sure,
        }
        found.append(shown | ({"coded_by": "human"} if human else {}))
    return found
