"""Step 11: BERT before and after fine-tuning on the same rows.

Reads   MODEL_PATH (the encoder), TUNED_PATH (from bert_tune.py), TRAIN_FILE (to fit the probe that
        stands for "before"), TEST_FILE, PROMPT_FILE
Writes  OUTPUT_DIR/comparison.txt, comparison.json, predictions.csv, confusion_difference.png;
        stops where that folder holds another run
Run     python bert_inference_compare.py
"""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.bert.evaluate import predict_after, predict_before
from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import write_json, write_text, written_together
from pipeline.common.processes import is_main_process
from pipeline.common.rows import COLUMNS, read_test_rows
from pipeline.common.tables import write_csv
from pipeline.evaluation.comparison import compare_pairs, summary_row, with_holm
from pipeline.evaluation.comparison_text import both_as_text
from pipeline.evaluation.folder import PlannedRun, plan_run
from pipeline.evaluation.run import score_run
from pipeline.evaluation.runs import run_of
from pipeline.models.kept_rows import keeping_rows

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
MODEL_PATH = "./bert-base-chinese"  # the encoder's folder
TUNED_PATH = "./bert_checkpoints/final_model"  # the fine-tuned model's folder
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # custom_id, message, class
TEST_FILE = "./pre_process/evaluation/test.csv"  # custom_id, message, class
PROMPT_FILE = "./prompt.txt"  # the codebook of the training
OUTPUT_DIR = "./results/{model}-{run}"  # run: compare, or compare-NAME for rows of NAME.csv
UNTRAINED_HEAD = False  # "before" is a random head instead of a linear probe
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
BATCH_SIZE = 64  # rows
MAX_LENGTH = 128  # tokens, as in training
MAX_TRAIN_SAMPLES = 0  # 0 = all rows
MAX_TEST_SAMPLES = 0  # 0 = all rows
SEED = 42  # of the random head and the bootstrap intervals
# ---------------------------------------------------------------------------------------------

SHARED = ("model_path", "batch_size", "max_length", "seed")


def main(argv: list[str] | None = None) -> None:
    settings = parse_settings(globals(), argv)
    at_least_one(vars(settings), "batch_size")
    codebook = read_codebook(settings.prompt_file)
    rows = read_test_rows(settings.test_file, codebook, settings.max_test_samples)
    rows = with_class(rows, settings.test_file)
    shared = {name: getattr(settings, name) for name in SHARED} | {"settings": vars(settings)}
    planned = planned_run(settings, codebook)

    from pipeline.common.machine import start_run

    start_run(settings.dtype)
    with keeping_rows(planned.folder) as kept:
        shared |= {"kept": kept}
        after = predict_after(codebook, rows, planned, tuned_path=settings.tuned_path, **shared)
        before = predict_before(
            codebook,
            rows,
            planned,
            train_file=settings.train_file,
            max_train_samples=settings.max_train_samples,
            untrained_head=settings.untrained_head,
            **shared,
        )
        save_comparison(planned.folder, rows, before, after, codebook, settings.seed)


def planned_run(settings: Namespace, codebook: Codebook) -> PlannedRun:
    """Return the two runs as one, with its folder."""
    return plan_run(
        settings.output_dir,
        "compare",
        model_path=settings.model_path,
        trained_path=settings.tuned_path,
        random_head=settings.untrained_head,
        test_file=settings.test_file,
        max_test_samples=settings.max_test_samples,
        codebook_sha256=codebook.sha256,
    )


def with_class(rows: pd.DataFrame, test_file: str) -> pd.DataFrame:
    """Return the rows that have a class to compare by."""
    unlabelled = rows["class"] < 0
    if unlabelled.all():
        raise UserError(f"{test_file} has no row with a class: nothing to compare by")
    if unlabelled.any():
        print(f"left out {unlabelled.sum():,} rows without a class")
    return rows[~unlabelled].reset_index(drop=True)


@written_together()
def save_comparison(
    folder: Path,
    rows: pd.DataFrame,
    before: tuple[pd.DataFrame, dict],
    after: tuple[pd.DataFrame, dict],
    codebook: Codebook,
    seed: int,
) -> None:
    """Compare both predictions, each with its run's record; the main process writes the outcome."""
    if not is_main_process():
        return
    outcomes = {"before": before, "after": after}
    predictions = {stage: table for stage, (table, _) in outcomes.items()}
    metrics = {
        stage: score_run(rows, table, codebook, record, seed)
        for stage, (table, record) in outcomes.items()
    }
    predicted = {f"predicted_{stage}": table["predicted"] for stage, table in predictions.items()}
    comparison = compare(rows, predictions, metrics, seed)
    asked = rows[[name for name in COLUMNS if name in rows]]
    write_csv(asked.assign(**predicted), folder / "predictions.csv")
    draw(metrics, codebook, folder / "confusion_difference.png")
    write_json(comparison, folder / "comparison.json")
    write_text(both_as_text(comparison), folder / "comparison.txt")
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


if __name__ == "__main__":
    run(main)
