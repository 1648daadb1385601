"""A run's folder: its predictions and metrics, and the files that show them.

Everything is computed once, into `metrics.json`; text and plots are renderings of it.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import (
    clean_text,
    remove_outdated,
    write_json,
    write_text,
    written_together,
)
from pipeline.common.processes import is_main_process, num_processes
from pipeline.common.rows import coded_by_people
from pipeline.common.tables import write_csv
from pipeline.evaluation.calibration import at_temperature, expected_calibration_error
from pipeline.evaluation.learned import verdict
from pipeline.evaluation.metrics import compute_metrics, wilson_interval
from pipeline.evaluation.run_text import report_text
from pipeline.evaluation.runs import HUMAN, MIXED, SILVER, mixed_score_name, score_name


def predictions_from(probabilities: np.ndarray, codebook: Codebook) -> pd.DataFrame:
    """Return the columns of predictions.csv for class probabilities (rows, classes).

    Raises UserError where a probability is no number.
    """
    if broken := int((~np.isfinite(probabilities)).any(1).sum()):
        raise UserError(
            f"the model gives no probabilities for {broken:,} of {len(probabilities):,} rows, as "
            "its numbers overflow: clone or train it again, or compute on another device"
        )
    predicted = probabilities.argmax(1)
    table = {"predicted": predicted, "reply": "", "form": "most probable class"}
    table["confidence"] = probabilities.max(1).round(6)
    for k, name in enumerate(codebook.names):
        table[f"p_{name}"] = probabilities[:, k].round(6)
    return pd.DataFrame(table)


def calibration_error(probabilities: np.ndarray, rows: pd.DataFrame) -> float | None:
    """Return the expected calibration error of (rows, classes) where rows have a class."""
    true = rows["class"].to_numpy()
    scored = true >= 0
    if not scored.any():
        return None
    correct = probabilities.argmax(1)[scored] == true[scored]
    weights = rows["weight"].to_numpy()[scored] if "weight" in rows else None
    return expected_calibration_error(probabilities.max(1)[scored], correct, weights)


def calibrated(
    logits: np.ndarray, temperature: float, rows: pd.DataFrame, codebook: Codebook
) -> tuple[pd.DataFrame, dict]:
    """Return predictions at a temperature, and what the run's record says of it."""
    predictions = predictions_from(at_temperature(logits, temperature), codebook)
    record = {"temperature": temperature}
    if (error := calibration_error(at_temperature(logits, 1.0), rows)) is not None:
        record["ece_without_temperature"] = error
    return predictions, record


def score_run(
    rows: pd.DataFrame, predictions: pd.DataFrame, codebook: Codebook, record: dict, seed: int
) -> dict:
    """Return a run's metrics: its record, counts, and where rows have a class the scores.

    `rows` is `read_messages`' table; `predictions`, in the same order, `predicted` (-1 =
    invalid), `form` (strict, lenient, or why there is no label), `confidence` and `p_*`. Rows of
    class -1 are predicted, not scored. `record` is `run_record`'s, `seed` that of the intervals.
    """
    true, predicted = rows["class"].to_numpy(), predictions["predicted"].to_numpy()
    scored = true >= 0
    metrics = record | {
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "predicted_rows": len(rows),
        "rows_without_class": int((~scored).sum()),
        "predicted_classes": {
            name: int((predicted == k).sum()) for k, name in enumerate(codebook.names)
        },
        "answers": predictions["form"].value_counts().to_dict(),
    }
    if not scored.any():
        return metrics
    human, right = coded_by_people(rows)[scored], (true == predicted)[scored]
    metrics |= source_of_labels(human, right, record["test_file"])
    weights = rows["weight"].to_numpy()[scored] if "weight" in rows else None
    metrics |= compute_metrics(true[scored], predicted[scored], len(codebook.names), seed, weights)
    metrics |= verdict(metrics, codebook.names, record["stage"])
    shares = predictions.filter(regex="^p_").to_numpy(dtype=float)
    if shares.size:
        metrics["ece"] = calibration_error(shares, rows)
    scored_rows = rows.loc[scored, ["custom_id", "class"]].to_csv(index=False)
    metrics["scored_rows_sha256"] = hashlib.sha256(scored_rows.encode()).hexdigest()
    return metrics


@written_together()
def save_results(
    folder: Path,
    rows: pd.DataFrame,
    predictions: pd.DataFrame,
    codebook: Codebook,
    record: dict,
    seed: int,
) -> dict:
    """Write confusion_matrix.png, predictions.csv, report.txt and metrics.json; return the metrics.

    Of several processes the main one writes.
    metrics.json is the last one, so that a run that was killed is not taken for a complete one. The
    arguments are those of `score_run`; `predictions` has the column `reply` as well.
    """
    from pipeline.evaluation.plots import plot_confusion

    metrics = score_run(rows, predictions, codebook, record, seed)
    if not is_main_process():
        return metrics
    picture = folder / "confusion_matrix.png"
    drawn = ""
    if "accuracy" not in metrics:
        remove_outdated(picture)
    else:
        title = f"{metrics['model']}, {metrics['stage']} fine-tuning"
        plot_confusion(metrics["confusion_matrix"], metrics["class_names"], title, picture)
        drawn = f", {picture.name}"
    asked = rows[["custom_id", "message", "class"]].reset_index(drop=True)
    table = pd.concat([asked, predictions.drop(columns="form")], axis=1)
    for name in ("coded_by", "weight"):
        if name in rows:
            table[name] = rows[name].to_numpy()
    table["reply"] = table["reply"].map(clean_text)
    write_csv(table, folder / "predictions.csv")
    write_text(report_text(metrics), folder / "report.txt")
    write_json(metrics, folder / "metrics.json")
    print(f"wrote {folder}: report.txt, metrics.json{drawn}\n")
    print(report_text(metrics))
    return metrics


def source_of_labels(human: np.ndarray, right: np.ndarray, test_file: str) -> dict:
    """Return what the scores are measured against, by which rows people coded: (rows,) bools.

    Where they coded some of the rows, the accuracy on these stands apart, each row counting once,
    with its 95 % interval; `right` (rows,) says which predictions are the row's class.
    """
    if human.all() or not human.any():
        source = HUMAN if human.all() else SILVER
        return {"label_source": source, "measured_against": score_name(source, test_file)}
    count, hits = int(human.sum()), int(right[human].sum())
    return {
        "label_source": MIXED,
        "measured_against": mixed_score_name(count, len(human) - count, test_file),
        "human_rows": count,
        "accuracy_human_rows": hits / count,
        "accuracy_human_rows_ci95": wilson_interval(hits, count),
    }


def run_record(
    *,
    family: str,
    stage: str,
    model_path: str,
    adapter_path: str = "",
    method: str,
    shortened: int,
    seconds: float,
    num_rows: int,
    dtype: Any,
    test_file: str,
    settings: dict,
) -> dict:
    """Return what metrics.json says of a run beside its scores; `stage` is `before` or `after`.

    `seconds` and rows per second are those of all processes together. `settings` are all of the
    script's, only to be kept.
    """
    from pipeline.common.machine import describe_device, versions

    return {
        "model": Path(model_path).resolve().name,
        "family": family,
        "stage": stage,
        "model_path": model_path,
        "adapter_path": adapter_path,
        "test_file": test_file,
        "method": method,
        "shortened": shortened,
        "seconds": round(seconds, 3),
        "rows_per_second": round(num_rows / max(seconds, 1e-9), 3),
        "processes": num_processes(),
        "device": describe_device(),
        "dtype": str(dtype).removeprefix("torch."),
        "settings": settings,
        "versions": versions(),
    }
