"""The comparison of models as `summary.md` and `errors.csv` show it."""

from collections.abc import Iterable

import pandas as pd

from pipeline.evaluation.run import LABEL_SOURCES

COLUMNS = {
    "model": "Model",
    "stage": "Fine-tuning",
    "total": "Rows",
    "valid_rate": "Valid",
    "accuracy": "Accuracy (valid)",
    "accuracy_all_rows": "Accuracy (all rows)",
    "macro_f1": "Macro F1",
    "cohen_kappa": "Kappa",
    "ece": "ECE",
    "rows_per_second": "Rows/s",
}
FORMATS = {
    **dict.fromkeys(("valid_rate", "accuracy", "accuracy_all_rows"), "{:.2%}"),
    **dict.fromkeys(("macro_f1", "cohen_kappa", "ece"), "{:.3f}"),
    "rows_per_second": "{:.1f}",
}


def comparison_text(comparison: dict, runs: dict[str, dict]) -> str:
    """Return `summary.md` of a comparison.json; `runs` holds the metrics of each run."""
    sections = [summary_text(comparison["runs"]), measured_text(runs)]
    if comparison["pairs"]:
        sections.append(pairs_text(comparison["pairs"]))
    if comparison["by_hand"]:
        sections.append(by_hand_text(comparison["by_hand"]))
    if silent := [name for name in runs if name not in comparison["by_hand"]]:
        names = ", ".join(silent)
        sections.append(f"No confidence (generated text; --decoding score gives one): {names}.\n")
    sections.append(baselines_text(comparison["baselines"], comparison["keywords"]))
    return "\n".join(sections)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(header), *rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary_text(rows: list[dict]) -> str:
    """Return the runs as a table; shares in per cent, a measure that a run lacks blank.

    The measures over all rows have their 95 % intervals.
    """
    return table(COLUMNS.values(), [[cell(row, key) for key in COLUMNS] for row in rows])


def cell(row: dict, key: str) -> str:
    """Return a measure of a run, with its interval where all rows count."""
    if key not in row:
        return ""
    form = FORMATS.get(key, "{}")
    text = form.format(row[key])
    if key in ("accuracy_all_rows", "macro_f1", "cohen_kappa"):
        text += f" [{', '.join(form.format(end) for end in row[f'{key}_ci95'])}]"
    return text


def measured_text(runs: dict[str, dict]) -> str:
    """Return what the scores are: which labels they are against."""
    against: dict[str, list[str]] = {}
    for name, metrics in runs.items():
        silver = f"{LABEL_SOURCES['silver labels']} ({metrics['test_file']})"
        source = metrics["measured_against"] if "label_source" in metrics else silver
        against.setdefault(source, []).append(name)
    lines = [
        f"The scores are {source}{': ' + ', '.join(names) if len(against) > 1 else ''}.\n"
        for source, names in against.items()
    ]
    if any(metrics.get("weighted") for metrics in runs.values()):
        lines.append(
            "Scores on a sample of human labels are weighted to the data set that it stands for; "
            "McNemar's test counts rows.\n"
        )
    return "\n".join(lines)


def pairs_text(pairs: list[dict]) -> str:
    """Return the pairs as a table; differences in points of a per cent."""
    cells = [
        [
            pair["first"],
            pair["second"],
            f"{pair['only_first_right']:,}",
            f"{pair['only_second_right']:,}",
            f"{100 * pair['difference']:+.1f}",
            "{:+.1f} to {:+.1f}".format(*(100 * end for end in pair["difference_ci95"])),
            p_value(pair["p_value"]),
            p_value(pair["p_holm"]),
        ]
        for pair in pairs
    ]
    header = ("First", "Second", "Only first right", "Only second right", "Difference")
    return (
        "## Pairs of models on the same rows\n\n"
        "Accuracy over all rows, second minus first, in percentage points, with the 95 % interval "
        "of a paired bootstrap; p of McNemar's exact test, and adjusted for all pairs by Holm's "
        "method.\n\n" + table((*header, "95 % interval", "p", "p (Holm)"), cells)
    )


def p_value(p: float) -> str:
    """Return a p-value as papers print it."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def by_hand_text(by_hand: dict[str, list[dict]]) -> str:
    """Return the shares of rows to code by hand as a table."""
    targets = [target["accuracy"] for target in next(iter(by_hand.values()))]
    cells = [
        [name, *("-" if t["share"] is None else f"{t['share']:.1%}" for t in shares)]
        for name, shares in by_hand.items()
    ]
    return (
        "## Coding by hand\n\n"
        "The share of rows to leave to people, the least confident ones, for the model to reach "
        "an accuracy on the rest (- = it does not, on any 30 rows or more). The shares are chosen "
        "on the rows that they are measured on: leave more than they say to people.\n\n"
        + table(("Run", *(f"{target:.0%}" for target in targets)), cells)
    )


def baselines_text(baselines: list[dict], keywords: dict[str, list[str]]) -> str:
    """Return the baselines as a table, how they were made, and the keywords."""
    cells = [
        [
            one["name"],
            f"{one['rows']:,}",
            f"{one['accuracy']:.2%}",
            "{:.1%} to {:.1%}".format(*one["accuracy_ci95"]),
            f"{one['macro_f1']:.3f}",
            "{:.3f} to {:.3f}".format(*one["macro_f1_ci95"]),
        ]
        for one in baselines
    ]
    header = ("Baseline", "Rows", "Accuracy", "95 % interval", "Macro F1", "95 % interval")
    methods = "".join(f"{one['name']}: {one['method']}\n" for one in baselines)
    words = "".join(f"- {name}: {', '.join(found)}\n" for name, found in keywords.items())
    listed = f"\nThe strongest keywords:\n\n{words}" if words else ""
    return f"## Baselines\n\n{table(header, cells)}\n{methods}{listed}"


def error_table(errors: dict[str, list[dict]], runs: dict[str, dict]) -> pd.DataFrame:
    """Return `errors.csv`: a line per example, classes by name."""
    lines = []
    for name, cells in errors.items():
        names = [*runs[name]["class_names"], "invalid"]
        for cell in cells:
            of_cell = {
                "run": name,
                "true": names[cell["true"]],
                "predicted": names[cell["predicted"]],
                "rows": cell["rows"],
            }
            lines += [of_cell | example for example in cell["examples"]]
    columns = ["run", "true", "predicted", "rows", "custom_id", "message", "confidence"]
    return pd.DataFrame(lines, columns=columns)
