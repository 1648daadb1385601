"""The report of a run: metrics from predictions, and the files that show them.

Everything is computed once, into `metrics.json`; text and plots are renderings of it.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.metrics import classification_report

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import (
    check_outputs,
    clean_text,
    read_json,
    write_csv,
    write_json,
    write_text,
)
from pipeline.evaluation.calibration import expected_calibration_error

NUM_DRAWS = 2000  # bootstrap draws behind an interval
WEIGHTED = ", weighted to the data set that the sample stands for"
LABEL_SOURCES = {  # what a score is against -> how the report calls it
    "silver labels": "agreement with silver labels",
    "human coders": "accuracy against human coders",
    "silver labels and human coders": "agreement with labels by silver and by human coders",
}


def confusion(true: np.ndarray, predicted: np.ndarray, num_labels: int) -> np.ndarray:
    """Return counts of shape (k, k + 1): rows true, columns predicted, the last one "invalid".

    `true` holds 0..k-1, `predicted` holds -1 for an invalid answer.
    """
    columns = np.where(predicted < 0, num_labels, predicted)
    flat = np.bincount(true * (num_labels + 1) + columns, minlength=num_labels * (num_labels + 1))
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
    share, z2 = hits / total, norm.ppf(0.975) ** 2
    middle = share + z2 / (2 * total)
    half = np.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2)))
    return [float(end / (1 + z2 / total)) for end in (middle - half, middle + half)]


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


def report_table(matrix: list[list[int]], names: list[str]) -> str:
    """Return scikit-learn's classification report of the valid predictions in a matrix."""
    counts = np.array(matrix)[:, :-1]
    labels = np.arange(len(names))
    true = np.repeat(np.repeat(labels, len(names)), counts.ravel())
    predicted = np.repeat(np.tile(labels, len(names)), counts.ravel())
    if not len(true):
        return "(no valid predictions)\n"
    return classification_report(
        true, predicted, labels=labels, target_names=names, digits=2, zero_division=0
    )


def report_block(metrics: dict) -> str:
    """Return the report's block for a model, to the character."""
    if metrics["family"] == "bert":
        numbers = [str(k) for k in range(len(metrics["class_names"]))]
        return (
            f"{metrics['stage'].capitalize()} fine tune\n"
            f"Test accuracy: {metrics['accuracy']:.4f}\n\n"
            "Classification report:\n" + report_table(metrics["confusion_matrix"], numbers)
        )
    if metrics["adapter_path"]:
        models = f"Base Model: {metrics['model_path']}\nLoRA Adapter: {metrics['adapter_path']}\n"
    else:
        models = f"Model: {metrics['model_path']}\n"
    return (
        f"{models}Test set: {metrics['test_file']}\n"
        f"Total samples: {metrics['total']}\n"
        f"Valid predictions: {metrics['valid']} ({metrics['valid_rate']:.2%})\n"
        f"Accuracy: {metrics['accuracy']:.4f}\n\n"
        "Classification Report:\n"
        + report_table(metrics["confusion_matrix"], metrics["class_names"])
    )


def report_text(metrics: dict) -> str:
    """Return `report.txt`: the report's block, and below it what the report left out."""
    answers, classes = (
        ", ".join(f"{name} {count}" for name, count in metrics[key].items())
        for key in ("answers", "predicted_classes")
    )
    run = (
        f"Model: {metrics['model_path']}, {metrics['method']}\n"
        f"Predicted rows: {metrics['predicted_rows']}, {metrics['rows_without_class']} of them "
        f"without a class of their own, hence not scored\n"
        f"Predicted classes: {classes}\n"
        f"Answers: {answers}\n"
        f"Shortened comments: {metrics['shortened']}\n"
        f"Speed: {metrics['rows_per_second']:.1f} rows/s, {metrics['device']}, {metrics['dtype']}\n"
    )
    if "accuracy" not in metrics:
        return f"Test set: {metrics['test_file']}\n{run}"
    low, high = metrics["accuracy_ci95"]
    majority = f"Always {metrics['class_names'][metrics['majority_class']]}"
    scores = {
        "Accuracy": "accuracy_all_rows",
        "Macro F1": "macro_f1",
        "Cohen's kappa": "cohen_kappa",
    }
    width = max(map(len, [*scores, majority])) + 2
    body = "".join(
        f"  {title:<{width}}{metrics[key]:.4f}  [{metrics[key + '_ci95'][0]:.4f}, "
        f"{metrics[key + '_ci95'][1]:.4f}]\n"
        for title, key in scores.items()
    )
    return (
        f"{report_block(metrics)}\n"
        f"Measured against: {metrics['measured_against']}\n"
        f"Accuracy of the valid predictions, 95 % interval: [{low:.4f}, {high:.4f}]\n"
        f"Over all {metrics['total']} rows, an invalid answer being wrong"
        f"{WEIGHTED if metrics['weighted'] else ''}, with 95 % intervals:\n"
        f"{body}"
        f"  {majority:<{width}}{metrics['majority_baseline']:.4f}\n"
        f"{calibration_text(metrics)}"
        f"{run}\nConfusion matrix (rows: true class, columns: predicted)\n"
        f"{confusion_text(metrics['confusion_matrix'], metrics['class_names'])}\n"
    )


def calibration_text(metrics: dict) -> str:
    """Return a line on how far confidence is from accuracy, where there are probabilities."""
    if "ece" not in metrics:
        return ""
    line = f"Expected calibration error of the confidence: {metrics['ece']:.4f}"
    if metrics.get("temperature", 1.0) != 1.0:
        line += (
            f" at temperature {metrics['temperature']:.3f}, "
            f"{metrics['ece_without_temperature']:.4f} without"
        )
    return line + "\n"


def confusion_text(matrix: list[list[int]], names: list[str]) -> str:
    """Return a confusion matrix as text, "invalid" being the last column."""
    return pd.DataFrame(matrix, index=names, columns=[*names, "invalid"]).to_string()


def predictions_from(probabilities: np.ndarray, codebook: Codebook) -> pd.DataFrame:
    """Return the columns of predictions.csv for class probabilities (rows, classes)."""
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


def save_results(
    rows: pd.DataFrame, predictions: pd.DataFrame, codebook: Codebook, run: dict
) -> dict:
    """Write predictions.csv, metrics.json, report.txt and confusion_matrix.png; return the metrics.

    `rows` is `read_messages`' table; `predictions`, in the same order, `predicted` (-1 =
    invalid), `reply`, `form` (strict, lenient, or why there is no label), `confidence` and `p_*`.
    Rows of class -1 are predicted, not scored. `run` is `run_record`'s; see `results_folder`.
    """
    from pipeline.evaluation.plots import plot_confusion

    folder = results_folder(run["settings"], run["model_path"])
    true, predicted = rows["class"].to_numpy(), predictions["predicted"].to_numpy()
    scored = true >= 0
    metrics = run | {
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "predicted_rows": len(rows),
        "rows_without_class": int((~scored).sum()),
        "predicted_classes": {
            name: int((predicted == k).sum()) for k, name in enumerate(codebook.names)
        },
        "answers": predictions["form"].value_counts().to_dict(),
    }
    picture = folder / "confusion_matrix.png"
    picture.unlink(missing_ok=True)
    if scored.any():
        seed = run["settings"]["seed"]
        source = label_source(rows[scored])
        metrics |= {
            "label_source": source,
            "measured_against": f"{LABEL_SOURCES[source]} ({run['test_file']})",
        }
        weights = rows["weight"].to_numpy()[scored] if "weight" in rows else None
        metrics |= compute_metrics(
            true[scored], predicted[scored], len(codebook.names), seed, weights
        )
        scored_rows = rows.loc[scored, ["custom_id", "class"]].to_csv(index=False)
        shares = predictions.filter(regex="^p_").to_numpy(dtype=float)
        if shares.size:
            metrics["ece"] = calibration_error(shares, rows)
        metrics["scored_rows_sha256"] = hashlib.sha256(scored_rows.encode()).hexdigest()
        plot_confusion(
            metrics["confusion_matrix"],
            metrics["class_names"],
            f"{metrics['model']}, {metrics['stage']} fine-tuning",
            picture,
        )
    asked = rows[["custom_id", "message", "class"]].reset_index(drop=True)
    table = pd.concat([asked, predictions.drop(columns="form")], axis=1)
    if "weight" in rows:
        table["weight"] = rows["weight"].to_numpy()
    table["reply"] = table["reply"].map(clean_text)
    write_csv(table, folder / "predictions.csv")
    write_json(metrics, folder / "metrics.json")
    write_text(report_text(metrics), folder / "report.txt")
    drawn = ", confusion_matrix.png" if scored.any() else ""
    print(f"wrote {folder}: report.txt, metrics.json{drawn}\n")
    print(report_text(metrics))
    return metrics


def label_source(rows: pd.DataFrame) -> str:
    """Return who gave the rows their class: people where `coded_by` says human, else silver."""
    human = rows["coded_by"] == "human" if "coded_by" in rows else pd.Series([False])
    if human.all():
        return "human coders"
    return "silver labels and human coders" if human.any() else "silver labels"


def results_folder(settings: dict, model_path: str) -> Path:
    """Return the setting `output_dir`, {model} being the name of the model's folder."""
    return Path(settings["output_dir"].replace("{model}", Path(model_path).resolve().name))


def claim_results(settings: dict, model_path: str, rows: pd.DataFrame) -> None:
    """Stop before any work where the results could not be written, or would replace a scored run.

    Predicting new rows without a class leaves the evaluation of a test set alone.
    """
    folder = results_folder(settings, model_path)
    check_outputs([folder / "metrics.json"])
    if (rows["class"] < 0).all() and (folder / "metrics.json").is_file():
        earlier = read_json(folder / "metrics.json", "remove it")
        if "accuracy" in earlier:
            raise UserError(
                f"{folder} holds the scores on {earlier['test_file']}, and {settings['test_file']} "
                "has no class to score: give another --output-dir"
            )


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
    settings: dict,
) -> dict:
    """Return what `save_results` needs to know of a run; `stage` is `before` or `after`."""
    from pipeline.common.machine import describe_device, versions

    return {
        "model": Path(model_path).resolve().name,
        "family": family,
        "stage": stage,
        "model_path": model_path,
        "adapter_path": adapter_path,
        "test_file": settings["test_file"],
        "method": method,
        "shortened": shortened,
        "seconds": round(seconds, 3),
        "rows_per_second": round(num_rows / max(seconds, 1e-9), 3),
        "device": describe_device(),
        "dtype": str(dtype).removeprefix("torch."),
        "settings": settings,
        "versions": versions(),
    }
