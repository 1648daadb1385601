"""A run's `report.txt`: the report's block, and below it what the report left out."""

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

WEIGHTED = ", weighted to the data set that the sample stands for"


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
