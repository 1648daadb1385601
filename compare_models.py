"""Step 12: all models side by side.

Reads   RESULTS_DIR/*/metrics.json and predictions.csv (from the evaluation steps 5, 7, 8 and 10);
        TRAIN_FILE and PROMPT_FILE for the keyword baseline
Writes  RESULTS_DIR/comparison.json, summary.csv, summary.md, errors.csv, figure1.png; and where a
        run has probabilities calibration.png and coverage.png
Run     python compare_models.py
"""

from pathlib import Path

import pandas as pd

from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import (
    check_outputs,
    remove_outdated,
    write_json,
    write_text,
    written_together,
)
from pipeline.common.rows import message_parts
from pipeline.common.tables import write_csv
from pipeline.evaluation.baselines import Trained, baselines, train_baselines
from pipeline.evaluation.comparison import compare_runs, confusions, summary_row
from pipeline.evaluation.comparison_text import comparison_text, error_table
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.runs import Run, on_same_rows, read_runs

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
RESULTS_DIR = "./results"  # a folder per run
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # for the keyword baseline; absent = without it
PROMPT_FILE = "./prompt.txt"  # the codebook, to read TRAIN_FILE
SEED = 42  # of the bootstrap intervals, and of the rows that keywords are looked for in
# ---------------------------------------------------------------------------------------------


@written_together()
def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    folder = Path(args.results_dir)
    runs = [run for run in read_runs(folder) if run.scored]
    check_outputs([folder / "comparison.json"])
    groups = on_same_rows(runs)
    print_groups(groups)
    train = read_training(args.train_file, args.prompt_file, runs, args.seed)
    predictions = {run.name: read_predictions(run).scored for run in runs}
    comparison = {"runs": [summary_row(run) for run in runs]}
    by_name = [[run.name for run in group] for group in groups]
    tables = {name: found.frame for name, found in predictions.items()}
    comparison |= compare_runs(by_name, tables, args.seed)
    comparison["errors"] = {name: confusions(found) for name, found in predictions.items()}
    comparison |= baselines(groups, predictions, train, args.seed)

    classes = {run.name: run.class_names for run in runs}
    write_json(comparison, folder / "comparison.json")
    write_csv(pd.DataFrame(map(flat, comparison["runs"])), folder / "summary.csv")
    write_csv(error_table(comparison["errors"], classes), folder / "errors.csv")
    write_text(comparison_text(comparison), folder / "summary.md")
    draw(comparison, folder)
    print(f"\n{comparison_text(comparison)}")
    print(f"Figure 1: {folder / 'figure1.png'}")


def print_groups(groups: list[list[Run]]) -> None:
    """Print which runs do not compare, for they were scored on different rows."""
    if len(groups) > 1:
        print("the runs were scored on different rows; they do not compare:")
        for run in (run for group in groups for run in group):
            print(f"  {run.name}: {run.metrics['total']:,} rows of {run.metrics['test_file']}")


def read_training(path: str, prompt_file: str, runs: list[Run], seed: int) -> Trained | None:
    """Return what the baselines take from the training rows; None, and say why, without them."""
    if not Path(path).is_file():
        print(f"no keyword baseline: {path} not found (split_dataset.py writes it)")
        return None
    codebook = read_codebook(prompt_file)
    if any(run.class_names != codebook.names for run in runs):
        print(f"no keyword baseline: {prompt_file} names other classes than the runs")
        return None
    parts = message_parts(path, "split_dataset.py", codebook, labelled=True)
    return train_baselines(parts, len(codebook.names), seed)


def flat(row: dict) -> dict:
    """Return a row of summary.csv: the two ends of an interval in columns of their own."""
    cells = {}
    for key, value in row.items():
        name = key.removesuffix("ci95")
        cells |= {key: value} if name == key else {f"{name}low": value[0], f"{name}high": value[1]}
    return cells


def draw(comparison: dict, folder: Path) -> None:
    """Draw the figures; those of an earlier comparison go where no run has probabilities."""
    from pipeline.evaluation.plots import plot_calibration, plot_comparison, plot_coverage

    runs = comparison["runs"]
    title = "Model performance before and after fine-tuning"
    plot_comparison(runs, comparison["baselines"], title, folder / "figure1.png")
    for name, plot in (("calibration", plot_calibration), ("coverage", plot_coverage)):
        if comparison[name]:
            plot(runs, comparison[name], folder / f"{name}.png")
        else:
            remove_outdated(folder / f"{name}.png")


if __name__ == "__main__":
    run(main)
