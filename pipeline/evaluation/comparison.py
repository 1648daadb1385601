"""Models side by side on the same rows: tests, intervals, curves and errors from predictions."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from pipeline.common.cli import UserError
from pipeline.common.files import read_csv
from pipeline.evaluation.calibration import reliability_bins
from pipeline.evaluation.metrics import NUM_DRAWS, confusion

MADE_BY = {
    ("llm", "before"): "local_inference.py",
    ("llm", "after"): "posttune_eval.py",
    ("bert", "before"): "bert_eval.py",
    ("bert", "after"): "bert_tune_eval.py",
}
TARGETS = (0.80, 0.85, 0.90, 0.95, 0.99)
# Of 30 rows that are all right, the 95 % interval (Wilson) still begins at 0.886: fewer say nothing
# about the higher targets.
MIN_ROWS = 30
NUM_EXAMPLES = 3


def read_predictions(folder: Path, metrics: dict) -> pd.DataFrame:
    """Return the scored rows of a run's predictions.csv, one per custom_id, which is the index.

    The columns are `message`, `class` and `predicted` (ints, -1 = invalid) and `confidence` (NaN
    where the run generated text), and `weight`, 1 where the file has none. Raises UserError where
    `metrics` is not of these rows.
    """
    made_by = MADE_BY.get((metrics["family"], metrics["stage"]), "its evaluation step")
    columns = ["custom_id", "message", "class", "predicted", "confidence"]
    frame = read_csv(folder / "predictions.csv", columns, made_by)
    weights = pd.to_numeric(frame["weight"]) if "weight" in frame else 1.0
    frame = frame[columns].assign(weight=weights)
    blank = frame["confidence"] == ""
    for name in columns[2:]:
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    fits = (frame["confidence"].between(0, 1) | blank).all()
    frame = frame[frame["class"] != -1].set_index("custom_id")
    labels = range(len(metrics["class_names"]))
    fits &= frame["class"].isin(labels).all() and frame["predicted"].isin([-1, *labels]).all()
    if fits:
        frame = frame.astype({"class": int, "predicted": int})
        counts = confusion(frame["class"].to_numpy(), frame["predicted"].to_numpy(), len(labels))
        fits = counts.tolist() == metrics["confusion_matrix"]
    if not fits or frame.index.has_duplicates:
        raise UserError(
            f"{folder / 'predictions.csv'} does not fit the metrics.json beside it: run {made_by} "
            "again"
        )
    return frame


def compare_runs(
    runs: dict[str, dict], predictions: dict[str, pd.DataFrame], seed: int
) -> dict[str, list | dict]:
    """Return `pairs`, and by run `coverage`, `by_hand`, `calibration` and `errors`.

    `runs` holds the metrics, `predictions` the tables of `read_predictions`. A run without
    confidence (generated text) is in `pairs` and `errors` only.
    """
    pairs = []
    for group in same_rows(runs):
        pairs += compare_pairs({name: predictions[name] for name in group}, seed)
    for pair, p_holm in zip(pairs, holm([pair["p_value"] for pair in pairs]), strict=True):
        pair["p_holm"] = p_holm
    sure = {name: rows for name, rows in predictions.items() if rows["confidence"].notna().all()}
    return {
        "pairs": pairs,
        "coverage": {name: coverage_curve(rows) for name, rows in sure.items()},
        "by_hand": {name: by_hand(rows) for name, rows in sure.items()},
        "calibration": {
            name: reliability_bins(
                rows["confidence"].to_numpy(), is_right(rows).to_numpy(), rows["weight"].to_numpy()
            ).to_dict("records")
            for name, rows in sure.items()
        },
        "errors": {name: confusions(rows) for name, rows in predictions.items()},
    }


def same_rows(runs: dict[str, dict]) -> list[list[str]]:
    """Return the runs in groups that were scored on the same rows."""
    groups: dict[str, list[str]] = {}
    for name, metrics in runs.items():
        groups.setdefault(metrics["scored_rows_sha256"], []).append(name)
    return list(groups.values())


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
    """Return each pair of runs on the same rows: difference, its interval and McNemar's test.

    The difference is weighted, the test counts rows. Rows are joined by custom_id. Raises
    UserError where two runs do not hold the same ones.
    """
    pairs = []
    for first, second in combinations(predictions, 2):
        a, b = is_right(predictions[first]), is_right(predictions[second])
        if set(a.index) != set(b.index):
            raise UserError(
                f"the predictions.csv of {first} and {second} hold different custom_ids, which "
                "their metrics.json do not: run the evaluation step of both again"
            )
        b = b.reindex(a.index)
        only_first, only_second = (a & ~b).to_numpy(), (b & ~a).to_numpy()
        weights = predictions[first]["weight"].to_numpy()
        counts = int(only_first.sum()), int(only_second.sum())
        pairs.append(
            {
                "first": first,
                "second": second,
                "rows": len(a),
                "only_first_right": counts[0],
                "only_second_right": counts[1],
                "difference": float(
                    np.average(only_second.astype(int) - only_first, weights=weights)
                ),
                "difference_ci95": difference_interval(only_first, only_second, weights, seed),
                "p_value": mcnemar_exact(*counts),
            }
        )
    return pairs


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


def confusions(rows: pd.DataFrame) -> list[dict]:
    """Return the errors by true and predicted class, the most frequent first, with examples.

    The examples are the most confident ones; the first of the file where there is no confidence.
    """
    wrong = rows[~is_right(rows)].sort_values("confidence", ascending=False, kind="stable")
    cells = []
    for (true, predicted), errors in wrong.groupby(["class", "predicted"]):
        examples = [
            {
                "custom_id": custom_id,
                "message": row["message"],
                "confidence": None if pd.isna(row["confidence"]) else row["confidence"],
            }
            for custom_id, row in errors.head(NUM_EXAMPLES).iterrows()
        ]
        cell = {"true": int(true), "predicted": int(predicted), "rows": len(errors)}
        cells.append(cell | {"examples": examples})
    return sorted(cells, key=lambda cell: -cell["rows"])
