"""Step 12: all models side by side.

Reads   RESULTS_DIR/*/metrics.json and predictions.csv (from the evaluation steps 5, 7, 8 and 10);
        TRAIN_FILE and PROMPT_FILE for the keyword baseline
Writes  RESULTS_DIR/comparison.json, summary.csv, summary.md, errors.csv, figure1.png; and where a
        run has probabilities calibration.png and coverage.png
Run     python compare_models.py
"""

from pathlib import Path

import pandas as pd

from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import read_json, write_csv, write_json, write_text
from pipeline.common.rows import read_messages
from pipeline.evaluation.baselines import baselines
from pipeline.evaluation.comparison import compare_runs, read_predictions, same_rows
from pipeline.evaluation.comparison_text import comparison_text, error_table

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
RESULTS_DIR = "./results"  # a folder per run
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # for the keyword baseline; absent = without it
PROMPT_FILE = "./prompt.txt"  # the codebook, to read TRAIN_FILE
SEED = 42  # of the bootstrap intervals
# ---------------------------------------------------------------------------------------------

MEASURES = (
    *("total", "valid_rate", "accuracy", "accuracy_ci95", "accuracy_all_rows"),
    *("accuracy_all_rows_ci95", "macro_f1", "macro_f1_ci95", "cohen_kappa", "cohen_kappa_ci95"),
    "rows_per_second",
)
NEEDED = ("model", "stage", "family", *MEASURES, "test_file", "scored_rows_sha256", "class_names")


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    folder = Path(args.results_dir)
    runs = read_runs(args.results_dir)
    predictions = {name: read_predictions(folder / name, runs[name]) for name in runs}
    group = max(same_rows(runs), key=lambda group: runs[group[0]]["total"])
    names = runs[group[0]]["class_names"]
    train = read_training(args.train_file, args.prompt_file, names)
    scores, keywords = baselines(predictions[group[0]], train, names, args.seed)
    scores = [one | {"runs": group} for one in scores]
    comparison = {"runs": summary(runs), **compare_runs(runs, predictions, args.seed)}
    comparison |= {"baselines": scores, "keywords": keywords}

    write_json(comparison, folder / "comparison.json")
    write_csv(pd.DataFrame(map(flat, comparison["runs"])), folder / "summary.csv")
    write_csv(error_table(comparison["errors"], runs), folder / "errors.csv")
    write_text(comparison_text(comparison, runs), folder / "summary.md")
    draw(comparison, folder)
    print(f"\n{comparison_text(comparison, runs)}")
    print(f"Figure 1: {folder / 'figure1.png'}")


def read_runs(results_dir: str) -> dict[str, dict]:
    """Return the metrics of each scored run, the models together and "before" first."""
    files = sorted(Path(results_dir).glob("*/metrics.json"))
    runs = [(file, read_json(file, "run its evaluation step again")) for file in files]
    scored = [(file, metrics) for file, metrics in runs if "accuracy" in metrics]
    if not scored:
        raise UserError(
            f"{results_dir} holds no scored run (*/metrics.json): run local_inference.py, "
            "posttune_eval.py, bert_eval.py or bert_tune_eval.py first"
        )
    for file, metrics in scored:
        if missing := [key for key in NEEDED if key not in metrics]:
            raise UserError(f"{file} lacks {missing[0]}: run its evaluation step again")
    if len({metrics["scored_rows_sha256"] for _, metrics in scored}) > 1:
        print("the runs were scored on different rows; they do not compare:")
        for file, metrics in scored:
            print(f"  {file.parent.name}: {metrics['total']:,} rows of {metrics['test_file']}")
    scored.sort(key=lambda run: order(run[1]))
    return {file.parent.name: metrics for file, metrics in scored}


def order(metrics: dict) -> tuple:
    """Return a key that puts causal LMs first, a model's runs together and "before" first."""
    return metrics["family"] != "llm", metrics["model"], metrics["stage"] == "after"


def read_training(path: str, prompt_file: str, names: list[str]) -> pd.DataFrame | None:
    """Return the training rows, or None, and say why, where the keyword baseline is left out."""
    if not Path(path).is_file():
        print(f"no keyword baseline: {path} not found (split_dataset.py writes it)")
        return None
    codebook = read_codebook(prompt_file)
    if list(codebook.names) != names:
        print(f"no keyword baseline: {prompt_file} names other classes than the runs")
        return None
    return read_messages(path, "split_dataset.py", codebook, labelled=True)


def summary(runs: dict[str, dict]) -> list[dict]:
    """Return what the table and Figure 1 show of each run; models at the same stage told apart."""
    rows, seen = [], set()
    for name, metrics in runs.items():
        row = {"run": name} | {key: metrics[key] for key in ("model", "stage", "family")}
        row["label_source"] = metrics.get("label_source", "silver labels")
        if row["label_source"] != "silver labels":
            row["model"] += f" ({row['label_source']})"
        if (row["model"], row["stage"]) in seen:
            row["model"] += f" ({name})"
        seen.add((row["model"], row["stage"]))
        row |= {key: metrics[key] for key in MEASURES}
        for key in ("accuracy", "accuracy_ci95"):  # of the data set, where that is known
            row[key] = metrics.get(key.replace("accuracy", "accuracy_weighted"), row[key])
        rows.append(row | ({"ece": metrics["ece"]} if "ece" in metrics else {}))
    return rows


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
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)
        if comparison[name]:
            plot(runs, comparison[name], path)


if __name__ == "__main__":
    run(main)
