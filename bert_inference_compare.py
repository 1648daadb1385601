"""Step 11: BERT before and after fine-tuning on the same rows.

Reads   MODEL_PATH (the encoder), TUNED_PATH (from bert_tune.py), TRAIN_FILE (to fit the probe that
        stands for "before"), TEST_FILE, PROMPT_FILE
Writes  OUTPUT_DIR/comparison.txt, comparison.json, predictions.csv, confusion_difference.png
Run     python bert_inference_compare.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.bert.evaluate import predict_after, predict_before
from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import write_csv, write_json, write_text
from pipeline.common.rows import read_test_rows
from pipeline.evaluation.comparison import compare_pairs, summary_row, with_holm
from pipeline.evaluation.run import results_folder, score_run
from pipeline.evaluation.run_text import report_block
from pipeline.evaluation.runs import run_of

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

SHARED = ("model_path", "test_file", "output_dir", "batch_size", "max_length", "seed")


def main(argv: list[str] | None = None) -> None:
    settings = parse_settings(globals(), argv)
    at_least_one(vars(settings), "batch_size")
    codebook = read_codebook(settings.prompt_file)
    rows = read_test_rows(settings.test_file, codebook, settings.max_test_samples)
    rows = with_class(rows, settings.test_file)
    shared = {name: getattr(settings, name) for name in SHARED} | {"settings": vars(settings)}
    after = predict_after(codebook, rows, tuned_path=settings.tuned_path, **shared)
    before = predict_before(
        codebook,
        rows,
        train_file=settings.train_file,
        max_train_samples=settings.max_train_samples,
        untrained_head=settings.untrained_head,
        **shared,
    )
    folder = results_folder(settings.output_dir, settings.model_path)
    save_comparison(folder, rows, before, after, codebook, settings.seed)


def with_class(rows: pd.DataFrame, test_file: str) -> pd.DataFrame:
    """Return the rows that have a class to compare by."""
    unlabelled = rows["class"] < 0
    if unlabelled.all():
        raise UserError(f"{test_file} has no row with a class: nothing to compare by")
    if unlabelled.any():
        print(f"left out {unlabelled.sum():,} rows without a class")
    return rows[~unlabelled].reset_index(drop=True)


def save_comparison(
    folder: Path,
    rows: pd.DataFrame,
    before: tuple[pd.DataFrame, dict],
    after: tuple[pd.DataFrame, dict],
    codebook: Codebook,
    seed: int,
) -> None:
    """Compare both predictions, each with its run's record, and write what came of it."""
    outcomes = {"before": before, "after": after}
    predictions = {stage: table for stage, (table, _) in outcomes.items()}
    metrics = {
        stage: score_run(rows, table, codebook, record, seed)
        for stage, (table, record) in outcomes.items()
    }
    predicted = {f"predicted_{stage}": table["predicted"] for stage, table in predictions.items()}
    comparison = compare(rows, predictions, metrics, seed)
    write_csv(
        rows[["custom_id", "message", "class"]].assign(**predicted), folder / "predictions.csv"
    )
    write_json(comparison, folder / "comparison.json")
    write_text(both_as_text(comparison), folder / "comparison.txt")
    draw(metrics, codebook, folder / "confusion_difference.png")
    print(f"wrote {folder}: comparison.txt, comparison.json, confusion_difference.png\n")
    print(both_as_text(comparison))


def compare(
    rows: pd.DataFrame, predictions: dict[str, pd.DataFrame], metrics: dict[str, dict], seed: int
) -> dict:
    """Return comparison.json: `runs` and `pairs` as compare_models.py has them, and the metrics."""
    asked = rows[["custom_id", "message", "class"]].assign(weight=rows.get("weight", 1.0))
    tables = {
        stage: asked.assign(predicted=table["predicted"]).set_index("custom_id")
        for stage, table in predictions.items()
    }
    runs = [summary_row(run_of(Path(stage), metrics[stage])) for stage in metrics]
    return {"runs": runs, "pairs": with_holm(compare_pairs(tables, seed)), **metrics}


def draw(metrics: dict[str, dict], codebook: Codebook, path: Path) -> None:
    """Draw how many rows of each cell fine-tuning has moved."""
    from pipeline.evaluation.plots import plot_confusion_difference

    before, after = (
        np.array(metrics[stage]["confusion_matrix"])[:, :-1] for stage in ("before", "after")
    )
    title = f"{metrics['before']['model']}: rows after minus before fine-tuning"
    plot_confusion_difference(before, after, codebook.names, title, path)


def both_as_text(comparison: dict) -> str:
    """Return both blocks, the disagreements with their test, and the speeds."""
    before, after, [pair] = (comparison[key] for key in ("before", "after", "pairs"))
    low, high = pair["difference_ci95"]
    weighted = ""
    if "difference_weighted" in pair:
        ends = "{:+.4f}, {:+.4f}".format(*pair["difference_weighted_ci95"])
        weighted = (
            f"  the difference, weighted       {pair['difference_weighted']:+.4f}  [{ends}]\n"
        )
    return (
        f"{report_block(before)}\n{report_block(after)}\n"
        f"Measured against: {before['measured_against']}\n"
        f"On the same {pair['rows']} rows:\n"
        f"  right only after fine-tuning   {pair['only_second_right']}\n"
        f"  right only before fine-tuning  {pair['only_first_right']}\n"
        f"  accuracy, after minus before   {pair['difference']:+.4f}  [{low:+.4f}, {high:+.4f}]\n"
        f"  McNemar's exact test of it     p = {pair['p_value']:.3g}\n"
        f"{weighted}"
        f"Before: {before['method']}; {before['rows_per_second']:.1f} rows/s\n"
        f"After:  {after['method']}; {after['rows_per_second']:.1f} rows/s\n"
    )


if __name__ == "__main__":
    run(main)
