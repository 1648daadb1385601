"""A run's `report.txt`: the report's block, and below it what the report left out."""

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from pipeline.evaluation.learned import warning_text

WEIGHTED = ", weighted to the data set that the sample stands for"


def report_table(matrix: list[list[int]], names: list[str]) -> str:
    """Return scikit-learn's classification report of the valid predictions in a matrix."""
    true, predicted = valid_predictions(matrix)
    if not len(true):
        return "(no valid predictions)\n"
    labels = range(len(names))
    return classification_report(
        true, predicted, labels=labels, target_names=names, digits=2, zero_division=0
    )


def class_scores(matrix: list[list[int]], names: list[str]) -> list[tuple]:
    """Return the figures of `report_table`, unrounded: none where there is no valid prediction.

    Rows of name, precision, recall, F1 and rows: the classes, the accuracy (as F1, the others None)
    and the two averages.
    """
    true, predicted = valid_predictions(matrix)
    if not len(true):
        return []
    labels = range(len(names))
    table = classification_report(true, predicted, labels=labels, output_dict=True, zero_division=0)
    parts = [(name, table[str(k)]) for k, name in enumerate(names)]
    parts += [(name, table[f"{name} avg"]) for name in ("macro", "weighted")]
    scores = [
        (name, part["precision"], part["recall"], part["f1-score"], int(part["support"]))
        for name, part in parts
    ]
    accuracy = ("accuracy", None, None, table["accuracy"], len(true))
    return [*scores[: len(names)], accuracy, *scores[len(names) :]]


def valid_predictions(matrix: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted classes with the counts of a (k, k + 1) matrix, less invalid."""
    counts = np.array(matrix)[:, :-1]
    true, predicted = np.indices(counts.shape).reshape(2, -1)
    return np.repeat(true, counts.ravel()), np.repeat(predicted, counts.ravel())


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
    processes = metrics.get("processes", 1)
    together = f"{processes} processes, each on " if processes > 1 else ""
    run = (
        f"Model: {metrics['model_path']}, {metrics['method']}\n"
        f"Predicted rows: {metrics['predicted_rows']}, {metrics['rows_without_class']} of them "
        f"without a class of their own, hence not scored\n"
        f"Predicted classes: {classes}\n"
        f"Answers: {answers}\n"
        f"Shortened comments: {metrics['shortened']}\n"
        f"Speed: {metrics['rows_per_second']:.1f} rows/s, {together}{metrics['device']}, "
        f"{metrics['dtype']}\n"
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
    warning = f"{text}\n" if (text := warning_text(metrics)) else ""
    return (
        f"{report_block(metrics)}\n"
        f"{warning}Measured against: {metrics['measured_against']}\n"
        f"Accuracy of the valid predictions, 95 % interval: [{low:.4f}, {high:.4f}]\n"
        f"{weighted_text(metrics)}{human_text(metrics)}"
        f"Over all {metrics['total']} rows, an invalid answer being wrong"
        f"{WEIGHTED if metrics['weighted'] else ''}, with 95 % intervals:\n"
        f"{body}"
        f"  {majority:<{width}}{metrics['majority_baseline']:.4f}\n"
        f"{calibration_text(metrics)}"
        f"{run}\nConfusion matrix (rows: true class, columns: predicted)\n"
        f"{confusion_text(metrics['confusion_matrix'], metrics['class_names'])}\n"
    )


def weighted_text(metrics: dict) -> str:
    """Return a line of the valid predictions' accuracy in the data set, where rows are weighted."""
    if "accuracy_weighted" not in metrics:
        return ""
    low, high = metrics["accuracy_weighted_ci95"]
    return f"The same{WEIGHTED}: {metrics['accuracy_weighted']:.4f}  [{low:.4f}, {high:.4f}]\n"


def human_text(metrics: dict) -> str:
    """Return a line of the accuracy on the rows that people coded, where the others are silver."""
    if metrics.get("human_rows") is None:
        return ""
    low, high = metrics["accuracy_human_rows_ci95"]
    return (
        f"Accuracy on the {metrics['human_rows']} rows that people coded, an invalid answer being "
        f"wrong: {metrics['accuracy_human_rows']:.4f}  [{low:.4f}, {high:.4f}]\n"
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
