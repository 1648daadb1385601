"""Step 12: all models side by side.

Reads   RESULTS_DIR/*/metrics.json (from the evaluation steps 5, 7, 8 and 10)
Writes  RESULTS_DIR/summary.csv, summary.md and figure1.png
Run     python compare_models.py
"""

from pathlib import Path

import pandas as pd

from pipeline.cli import UserError, parse_settings, run
from pipeline.files import read_json, write_csv, write_text

# ---------------------------------------------------------------------------------------------
RESULTS_DIR = "./results"  # a folder per run
# ---------------------------------------------------------------------------------------------

COLUMNS = {
    "model": "Model",
    "stage": "Fine-tuning",
    "total": "Rows",
    "valid_rate": "Valid",
    "accuracy": "Accuracy (valid)",
    "accuracy_all_rows": "Accuracy (all rows)",
    "macro_f1": "Macro F1",
    "cohen_kappa": "Kappa",
    "rows_per_second": "Rows/s",
}
NEEDED = (*COLUMNS, "family", "test_file", "accuracy_all_rows_ci95", "scored_rows_sha256")


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    runs = read_runs(args.results_dir)
    folder = Path(args.results_dir)
    write_csv(pd.DataFrame(runs), folder / "summary.csv")
    write_text(markdown(runs), folder / "summary.md")

    from pipeline.plots import plot_comparison

    plot_comparison(runs, "Model performance before and after fine-tuning", folder / "figure1.png")
    print(f"\n{markdown(runs)}")
    print(f"Figure 1: {folder / 'figure1.png'}")


def read_runs(results_dir: str) -> list[dict]:
    """Return a summary per scored run, the models together and "before" first."""
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
    rows, seen = [], set()
    for file, metrics in sorted(scored, key=lambda run: order(run[1])):
        row = {"run": file.parent.name} | {key: metrics[key] for key in COLUMNS}
        if (row["model"], row["stage"]) in seen:
            row["model"] += f" ({file.parent.name})"
        seen.add((row["model"], row["stage"]))
        low, high = metrics["accuracy_all_rows_ci95"]
        rows.append(row | {"accuracy_all_rows_low": low, "accuracy_all_rows_high": high})
    return rows


def order(metrics: dict) -> tuple:
    """Return a key that puts causal LMs first, a model's runs together and "before" first."""
    return metrics["family"] != "llm", metrics["model"], metrics["stage"] == "after"


def markdown(runs: list[dict]) -> str:
    """Return the runs as a Markdown table; shares in per cent."""
    percent = ("valid_rate", "accuracy", "accuracy_all_rows")
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "| --- " * len(COLUMNS) + "|"]
    for one in runs:
        cells = []
        for key in COLUMNS:
            value = one[key]
            if key in percent:
                value = f"{value:.2%}"
            elif isinstance(value, float):
                value = f"{value:.1f}" if key == "rows_per_second" else f"{value:.3f}"
            cells.append(str(value))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(main)
