"""Comparisons of models as `summary.md`, `errors.csv` and `comparison.txt` show them."""

from collections.abc import Iterable, Sequence

import pandas as pd

from pipeline.evaluation.learned import MARK, warning_text
from pipeline.evaluation.run_text import human_text, report_block

COLUMNS = {
    "model": "Model",
    "stage": "Fine-tuning",
    "total": "Rows",
    "valid_rate": "Valid",
    "accuracy": "Accuracy (valid)",
    "accuracy_weighted": "Accuracy (valid, weighted)",
    "accuracy_all_rows": "Accuracy (all rows)",
    "accuracy_human_rows": "Accuracy (human rows)",
    "macro_f1": "Macro F1",
    "cohen_kappa": "Kappa",
    "ece": "ECE",
    "rows_per_second": "Rows/s",
}
WITH_INTERVALS = ("accuracy_all_rows", "accuracy_human_rows", "macro_f1", "cohen_kappa")
FORMATS = {
    **dict.fromkeys(("valid_rate", "accuracy", "accuracy_weighted"), "{:.2%}"),
    **dict.fromkeys(("accuracy_all_rows", "accuracy_human_rows"), "{:.2%}"),
    **dict.fromkeys(("macro_f1", "cohen_kappa", "ece"), "{:.3f}"),
    "rows_per_second": "{:.1f}",
}


def comparison_text(comparison: dict) -> str:
    """Return `summary.md` of a comparison.json."""
    runs = comparison["runs"]
    sections = [summary_text(runs), *warnings_text(runs), measured_text(runs)]
    if comparison["pairs"]:
        sections.append(pairs_text(comparison["pairs"]))
    if comparison["by_hand"]:
        sections.append(by_hand_text(comparison["by_hand"]))
    if without := [run["run"] for run in runs if run["run"] not in comparison["by_hand"]]:
        names = ", ".join(without)
        sections.append(f"No confidence (generated text; --decoding score gives one): {names}.\n")
    sections.append(baselines_text(comparison["baselines"], comparison["keywords"], runs))
    return "\n".join(sections)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(header), *rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary_text(runs: list[dict]) -> str:
    """Return the runs as a table; shares in per cent, a measure that a run lacks blank.

    The measures over all rows have their 95 % intervals. A weighted accuracy, and one on the rows
    that people coded, have a column where a run has one. A warning is marked beside kappa.
    """
    columns = dict(COLUMNS)
    for key in ("accuracy_weighted", "accuracy_human_rows"):
        if not any(key in run for run in runs):
            del columns[key]
    return table(columns.values(), [[cell(run, key) for key in columns] for run in runs])


def cell(row: dict, key: str) -> str:
    """Return a measure of a run, with its interval where all rows count."""
    if key not in row:
        return ""
    form = FORMATS.get(key, "{}")
    text = form.format(row[key])
    if key in WITH_INTERVALS and f"{key}_ci95" in row:
        text += f" [{', '.join(form.format(end) for end in row[f'{key}_ci95'])}]"
    return f"{MARK} {text}" if key == "cohen_kappa" and "warning" in row else text


def warnings_text(runs: list[dict]) -> list[str]:
    """Return what is wrong with each run that the table marks, and what to try."""
    return [f"{MARK} {run['run']}\n{warning_text(run)}" for run in runs if "warning" in run]


def measured_text(runs: list[dict]) -> str:
    """Return what the scores are: which labels they are against, and which are weighted."""
    against: dict[str, list[str]] = {}
    for run in runs:
        against.setdefault(run["measured_against"], []).append(run["run"])
    lines = [
        f"The scores are {source}{': ' + ', '.join(names) if len(against) > 1 else ''}.\n"
        for source, names in against.items()
    ]
    if weighted := [run["run"] for run in runs if run["weighted"]]:
        lines.append(
            f"All scores of {', '.join(weighted)} are weighted to the data set that the sample of "
            "human labels stands for, but for the accuracy (valid).\n"
        )
    return "\n".join(lines)


def pairs_text(pairs: list[dict]) -> str:
    """Return the pairs as a table; differences in points of a per cent."""
    header = ["First", "Second", "Only first right", "Only second right"]
    header += ["Difference", "95 % interval", "p", "p (Holm)"]
    cells = [
        [
            pair["first"],
            pair["second"],
            f"{pair['only_first_right']:,}",
            f"{pair['only_second_right']:,}",
            *points(pair, "difference"),
            p_value(pair["p_value"]),
            p_value(pair["p_holm"]),
        ]
        for pair in pairs
    ]
    weighted = ""
    if any("difference_weighted" in pair for pair in pairs):
        header += ["Weighted difference", "95 % interval"]
        for line, pair in zip(cells, pairs, strict=True):
            line += points(pair, "difference_weighted")
        weighted = (
            " The weighted difference counts each row of a sample for those of the data set that "
            "it stands for; McNemar's test does not test it."
        )
    return (
        "## Pairs of models on the same rows\n\n"
        "Accuracy over all rows, second minus first, in percentage points, with the 95 % interval "
        "of a paired bootstrap; p of McNemar's exact test of this difference, and adjusted for all "
        f"pairs by Holm's method.{weighted}\n\n{table(header, cells)}"
    )


def points(pair: dict, key: str) -> list[str]:
    """Return a difference and its interval in percentage points, blank where the pair has none."""
    if key not in pair:
        return ["", ""]
    interval = "{:+.1f} to {:+.1f}".format(*(100 * end for end in pair[f"{key}_ci95"]))
    return [f"{100 * pair[key]:+.1f}", interval]


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


def baselines_text(baselines: list[dict], keywords: dict[str, list[str]], runs: list[dict]) -> str:
    """Return the baselines as a table, how they were made, and the keywords."""
    titles = baseline_titles(baselines, {run["run"]: run["label_source"] for run in runs})
    cells = [
        [
            title,
            f"{one['rows']:,}",
            f"{one['accuracy']:.2%}",
            "{:.1%} to {:.1%}".format(*one["accuracy_ci95"]),
            f"{one['macro_f1']:.3f}",
            "{:.3f} to {:.3f}".format(*one["macro_f1_ci95"]),
        ]
        for title, one in zip(titles, baselines, strict=True)
    ]
    header = ("Baseline", "Rows", "Accuracy", "95 % interval", "Macro F1", "95 % interval")
    methods = "".join(
        f"{title}: {one['method']}\n" for title, one in zip(titles, baselines, strict=True)
    )
    words = "".join(f"- {name}: {', '.join(found)}\n" for name, found in keywords.items())
    listed = f"\nThe strongest keywords:\n\n{words}" if words else ""
    return f"## Baselines\n\n{table(header, cells)}\n{methods}{listed}"


def baseline_titles(baselines: Sequence[dict], labels: dict[str, str]) -> list[str]:
    """Return the names of a comparison's baselines, where there are several groups with theirs.

    A group is named by the labels that its runs are scored against, which `labels` holds by run,
    and by its number of rows where that does not tell it from another.
    """
    if len({tuple(one.get("runs", ())) for one in baselines}) < 2:
        return [one["name"] for one in baselines]
    groups = [labels.get(next(iter(one["runs"])), "other labels") for one in baselines]
    names = [f"{one['name']} ({group})" for one, group in zip(baselines, groups, strict=True)]
    return [
        f"{name[:-1]}, {one['rows']:,} rows)" if names.count(name) > 1 else name
        for name, one in zip(names, baselines, strict=True)
    ]


def error_table(
    errors: dict[str, list[dict]], class_names: dict[str, Sequence[str]]
) -> pd.DataFrame:
    """Return `errors.csv`: a line per example, classes by name; both arguments are by run."""
    lines = []
    for name, cells in errors.items():
        names = [*class_names[name], "invalid"]
        for cell in cells:
            of_cell = {
                "run": name,
                "true": names[cell["true"]],
                "predicted": names[cell["predicted"]],
                "rows": cell["rows"],
            }
            lines += [of_cell | example for example in cell["examples"]]
    columns = ["run", "true", "predicted", "rows", "custom_id", "message", "confidence"]
    columns += ["coded_by"] * any("coded_by" in line for line in lines)
    return pd.DataFrame(lines, columns=columns)


def both_as_text(comparison: dict) -> str:
    """Return `comparison.txt`: both blocks, the disagreements with their test, and the speeds."""
    before, after, [pair] = (comparison[key] for key in ("before", "after", "pairs"))
    low, high = pair["difference_ci95"]
    weighted = ""
    if "difference_weighted" in pair:
        ends = "{:+.4f}, {:+.4f}".format(*pair["difference_weighted_ci95"])
        weighted = (
            f"  the difference, weighted       {pair['difference_weighted']:+.4f}  [{ends}]\n"
        )
    warnings = "".join(
        f"{stage.capitalize()} fine-tuning {MARK}\n{text}\n"
        for stage in ("before", "after")
        if (text := warning_text(comparison[stage]))
    )
    on_human = "".join(
        f"{stage.capitalize()} fine-tuning: {text[0].lower()}{text[1:]}"
        for stage in ("before", "after")
        if (text := human_text(comparison[stage]))
    )
    return (
        f"{report_block(before)}\n{report_block(after)}\n{warnings}"
        f"Measured against: {before['measured_against']}\n{on_human}"
        f"On the same {pair['rows']} rows:\n"
        f"  right only after fine-tuning   {pair['only_second_right']}\n"
        f"  right only before fine-tuning  {pair['only_first_right']}\n"
        f"  accuracy, after minus before   {pair['difference']:+.4f}  [{low:+.4f}, {high:+.4f}]\n"
        f"  McNemar's exact test of it     p = {pair['p_value']:.3g}\n"
        f"{weighted}"
        f"Before: {before['method']}; {before['rows_per_second']:.1f} rows/s\n"
        f"After:  {after['method']}; {after['rows_per_second']:.1f} rows/s\n"
    )
