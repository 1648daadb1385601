"""The human check as text: `report.txt` from the figures of `human_check.json`."""

import numpy as np

from pipeline.evaluation.run_text import report_table

KAPPA = "Cohen's kappa"


def human_report(result: dict) -> str:
    """Return the sample, the agreement, silver against human labels, and the class shares."""
    sample, silver, names = result["sample"], result["silver"], result["class_names"]
    coders = "".join(
        f"  {coder['name']}: {coder['coded']:,} rows coded, {coder['blank']:,} blank\n"
        for coder in result["coders"]
    )
    matrix = np.hstack([silver["confusion_matrix"], np.zeros((len(names), 1), int)])
    return (
        f"Sample: {sample['drawn']:,} of {sample['population']:,} labelled rows, stratified by "
        f"silver class, drawn {sample['date']} with seed {sample['seed']}\n"
        f"{coders}"
        f"Coders disagree on {result['disagreements']:,} rows; {result['adjudicated']:,} rows are "
        f"adjudicated, {result['undecided']:,} undecided, {result['uncoded']:,} uncoded\n\n"
        f"{agreement_text(result['agreement'])}"
        f"Silver labels against the human ones, the {silver['rows']:,} rows as they were drawn:\n\n"
        f"{report_table(matrix.tolist(), names)}\n"
        "Weighted to the data set, with 95 % intervals:\n"
        f"{figure('Accuracy', silver, 'accuracy')}"
        f"{figure('Macro F1', silver, 'macro_f1')}"
        f"{figure(KAPPA, silver, 'cohen_kappa')}"
        f"{classes_text(silver['classes'])}\n"
        "Share of each class among all labelled rows, with 95 % intervals:\n"
        f"{shares_text(result['shares'])}"
        f"{left_out(result)}"
    )


def agreement_text(found: dict | None) -> str:
    """Return the coders' agreement; alpha and kappa with their intervals."""
    if found is None:
        return "Agreement: no row was coded by two coders\n\n"
    kappas = "".join(
        figure(f"{KAPPA}, {' and '.join(pair['coders'])}", pair, "kappa", "ci95")
        for pair in found["kappa"]
        if pair["kappa"] is not None
    )
    ordinal = ""
    if "alpha_ordinal" in found:
        ordinal = figure("Krippendorff, ordinal alpha", found, "alpha_ordinal")
    return (
        f"Agreement of the coders on the {found['rows']:,} rows that two or more coded "
        f"({found['percent']:.1%} of the pairs of labels are equal), with 95 % intervals; rare "
        "classes have more weight here than in the data set:\n"
        f"{figure('Krippendorff, nominal alpha', found, 'alpha_nominal')}"
        f"{ordinal}"
        f"{kappas}\n"
    )


def figure(title: str, values: dict, key: str, interval: str = "") -> str:
    """Return a line of a figure and its interval."""
    low, high = values[interval or f"{key}_ci95"]
    return f"  {title:<36}{values[key]:.4f}  [{low:.4f}, {high:.4f}]\n"


def classes_text(classes: list[dict]) -> str:
    """Return precision, recall and F1 per class, a line each."""
    width = max(len(one["name"]) for one in classes) + 2
    head = "".join(f"{key:<27}" for key in ("precision", "recall", "F1"))
    lines = [f"  {'':<{width}}{head}".rstrip()]
    for one in classes:
        cells = "".join(f"{interval_text(one, key):<27}" for key in ("precision", "recall", "f1"))
        lines.append(f"  {one['name']:<{width}}{cells}".rstrip())
    return "\n".join(lines) + "\n"


def interval_text(values: dict, key: str) -> str:
    """Return a figure and its interval."""
    low, high = values[f"{key}_ci95"]
    return f"{values[key]:.4f} [{low:.4f}, {high:.4f}]"


def shares_text(shares: list[dict]) -> str:
    """Return the naive and the corrected share of each class, a line each."""
    width = max(len(one["name"]) for one in shares) + 2
    lines = [f"  {'':<{width}}{'naive (silver labels)':<27}corrected"]
    for one in shares:
        naive, corrected = (interval_text(one, key) for key in ("naive", "corrected"))
        lines.append(f"  {one['name']:<{width}}{naive:<27}{corrected}")
    return "\n".join(lines) + "\n"


def left_out(result: dict) -> str:
    """Return a caution where rows have no human label yet."""
    missing = result["undecided"] + result["uncoded"]
    if not missing:
        return ""
    return (
        f"{missing:,} rows without a human label are left out: have them coded or adjudicated, "
        "since the rows that people find hard are those that labels get wrong\n"
    )
