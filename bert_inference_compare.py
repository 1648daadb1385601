"""Step 11: BERT before and after fine-tuning on the same rows.

Reads   MODEL_PATH (the encoder), TUNED_PATH (from bert_tune.py), TRAIN_FILE (to fit the probe that
        stands for "before"), TEST_FILE, PROMPT_FILE
Writes  OUTPUT_DIR/comparison.txt, comparison.json, predictions.csv, confusion_difference.png
Run     python bert_inference_compare.py
"""

import numpy as np
import pandas as pd

from pipeline.bert.evaluate import predict_after, predict_before, read_test
from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import write_csv, write_json, write_text
from pipeline.evaluation.comparison import mcnemar_exact
from pipeline.evaluation.metrics import compute_metrics
from pipeline.evaluation.run import LABEL_SOURCES, label_source, results_folder
from pipeline.evaluation.run_text import report_block

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
MODEL_PATH = "./bert-base-chinese"  # the encoder's folder
TUNED_PATH = "./bert_checkpoints/final_model"  # the fine-tuned model's folder
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # custom_id, message, class
TEST_FILE = "./pre_process/evaluation/test.csv"  # custom_id, message, class
PROMPT_FILE = "./prompt.txt"  # the codebook of the training
OUTPUT_DIR = "./results/{model}-compare"  # {model} = the name of the encoder's folder
UNTRAINED_HEAD = False  # "before" is a random head instead of a linear probe
BATCH_SIZE = 64  # rows
MAX_LENGTH = 128  # tokens, as in training
MAX_TRAIN_SAMPLES = 0  # 0 = all rows
MAX_TEST_SAMPLES = 0  # 0 = all rows
SEED = 42  # of the random head and the bootstrap intervals
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    codebook = read_codebook(settings["prompt_file"])
    at_least_one(settings, "batch_size")
    rows = read_test(settings["test_file"], codebook, settings["max_test_samples"])
    unlabelled = rows["class"] < 0
    if unlabelled.any():
        print(f"left out {unlabelled.sum():,} rows without a class")
    rows = rows[~unlabelled].reset_index(drop=True)
    if rows.empty:
        raise UserError(f"{settings['test_file']} has no row with a class: nothing to compare by")
    shared = {name: settings[name] for name in ("model_path", "batch_size", "max_length", "seed")}
    runs = {
        "after": predict_after(
            codebook, rows, tuned_path=settings["tuned_path"], settings=settings, **shared
        ),
        "before": predict_before(
            codebook,
            rows,
            train_file=settings["train_file"],
            max_train_samples=settings["max_train_samples"],
            untrained_head=settings["untrained_head"],
            settings=settings,
            **shared,
        ),
    }
    predictions, metrics = {}, {}
    for stage, (table, record) in runs.items():
        true, predicted = rows["class"].to_numpy(), table["predicted"].to_numpy()
        predictions[stage] = table
        metrics[stage] = record | {"class_names": list(codebook.names)}
        weights = rows["weight"].to_numpy() if "weight" in rows else None
        metrics[stage] |= compute_metrics(
            true, predicted, len(codebook.names), settings["seed"], weights
        )

    right = {stage: predictions[stage]["predicted"] == rows["class"] for stage in predictions}
    test = {
        "only_before_right": int((right["before"] & ~right["after"]).sum()),
        "only_after_right": int((right["after"] & ~right["before"]).sum()),
    }
    test["p_value"] = mcnemar_exact(*test.values())
    against = f"{LABEL_SOURCES[label_source(rows)]} ({settings['test_file']})"
    comparison = {"measured_against": against}
    comparison |= {"before": metrics["before"], "after": metrics["after"], "mcnemar": test}
    folder = results_folder(settings, settings["model_path"])
    columns = {f"predicted_{stage}": predictions[stage]["predicted"] for stage in right}
    asked = rows[["custom_id", "message", "class"]]
    write_csv(pd.concat([asked, pd.DataFrame(columns)], axis=1), folder / "predictions.csv")
    write_json(comparison, folder / "comparison.json")
    write_text(comparison_text(comparison), folder / "comparison.txt")

    from pipeline.evaluation.plots import plot_confusion_difference

    plot_confusion_difference(
        *(np.array(metrics[stage]["confusion_matrix"])[:, :-1] for stage in ("before", "after")),
        codebook.names,
        f"{metrics['before']['model']}: rows after minus before fine-tuning",
        folder / "confusion_difference.png",
    )
    print(f"wrote {folder}: comparison.txt, comparison.json, confusion_difference.png\n")
    print(comparison_text(comparison))


def comparison_text(comparison: dict) -> str:
    """Return both blocks, the disagreements with their test, and the speeds."""
    before, after, test = (comparison[key] for key in ("before", "after", "mcnemar"))
    return (
        f"{report_block(before)}\n{report_block(after)}\n"
        f"Measured against: {comparison['measured_against']}\n"
        f"On the same {before['total']} rows:\n"
        f"  right only after fine-tuning   {test['only_after_right']}\n"
        f"  right only before fine-tuning  {test['only_before_right']}\n"
        f"  McNemar's exact test           p = {test['p_value']:.3g}\n"
        f"Before: {before['method']}; {before['rows_per_second']:.1f} rows/s\n"
        f"After:  {after['method']}; {after['rows_per_second']:.1f} rows/s\n"
    )


if __name__ == "__main__":
    run(main)
