"""The human check as text: `report.txt` from the figures of `human_check.json`."""

from pipeline.evaluation.run_text import report_table
from pipeline.people.record import Agreement, ClassQuality, HumanCheck, Interval, Share

KAPPA = "Cohen's kappa"


def human_report(check: HumanCheck) -> str:
    """Return the sample, the agreement, silver against human labels, and the class shares."""
    sample, silver = check.sample, check.silver
    coders = "".join(
        f"  {coder.name}: {coder.coded:,} rows coded, {coder.blank:,} blank\n"
        for coder in check.coders
    )
    people = sample.by_people
    population = "rows with a silver label" if people else "labelled rows"
    counted = f", {people:,} of which people coded before" * bool(people)
    matrix = [[*counts, 0] for counts in silver.confusion_matrix]  # people give no invalid answer
    return (
        f"Sample: {sample.drawn:,} of {sample.population - people:,} {population}, stratified by "
        f"silver class, drawn {sample.date} with seed {sample.seed}\n"
        f"{coders}"
        f"Coders disagree on {check.disagreements:,} rows; {check.adjudicated:,} rows are "
        f"adjudicated, {check.undecided:,} undecided, {check.uncoded:,} uncoded\n\n"
        f"{agreement_text(check.agreement)}"
        f"Silver labels against the human ones, the {silver.rows:,} rows as they were drawn:\n\n"
        f"{report_table(matrix, check.class_names)}\n"
        f"Weighted to the {'rows with a silver label' if people else 'data set'}, with 95 % "
        "intervals:\n"
        f"{figure('Accuracy', silver.accuracy, silver.accuracy_ci95)}"
        f"{figure('Macro F1', silver.macro_f1, silver.macro_f1_ci95)}"
        f"{figure(KAPPA, silver.cohen_kappa, silver.cohen_kappa_ci95)}"
        f"{classes_text(silver.classes)}\n"
        f"Share of each class among all labelled rows{counted}, with 95 % intervals:\n"
        f"{shares_text(check.shares)}"
        f"{left_out(check)}"
    )


def agreement_text(found: Agreement | None) -> str:
    """Return the coders' agreement; alpha and kappa with their intervals."""
    if found is None:
        return "Agreement: no row was coded by two coders\n\n"
    figures = [("Krippendorff, nominal alpha", found.alpha_nominal, found.alpha_nominal_ci95)]
    if found.alpha_ordinal is not None:
        figures += [("Krippendorff, ordinal alpha", found.alpha_ordinal, found.alpha_ordinal_ci95)]
    figures += [
        (f"{KAPPA}, {' and '.join(pair.coders)}", pair.kappa, pair.ci95)
        for pair in found.kappa
        if pair.kappa is not None
    ]
    return (
        f"Agreement of the coders on the {found.rows:,} rows that two or more coded "
        f"({found.percent:.1%} of the pairs of labels are equal), with 95 % intervals; rare "
        "classes have more weight here than in the data set:\n"
        f"{''.join(figure(*one) for one in figures)}\n"
    )


def figure(title: str, value: float, interval: Interval) -> str:
    """Return a line of a figure and its interval."""
    low, high = interval
    return f"  {title:<36}{value:.4f}  [{low:.4f}, {high:.4f}]\n"


def classes_text(classes: list[ClassQuality]) -> str:
    """Return precision, recall and F1 per class, a line each."""
    width = max(len(one.name) for one in classes) + 2
    head = "".join(f"{key:<27}" for key in ("precision", "recall", "F1"))
    lines = [f"  {'':<{width}}{head}".rstrip()]
    for one in classes:
        cells = [
            with_interval(one.precision, one.precision_ci95),
            with_interval(one.recall, one.recall_ci95),
            with_interval(one.f1, one.f1_ci95),
        ]
        line = f"  {one.name:<{width}}{''.join(f'{cell:<27}' for cell in cells)}"
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def with_interval(value: float, interval: Interval) -> str:
    """Return a figure and its interval."""
    low, high = interval
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def shares_text(shares: list[Share]) -> str:
    """Return the naive and the corrected share of each class, a line each."""
    width = max(len(one.name) for one in shares) + 2
    lines = [f"  {'':<{width}}{'naive (silver labels)':<27}corrected"]
    for one in shares:
        naive = with_interval(one.naive, one.naive_ci95)
        corrected = with_interval(one.corrected, one.corrected_ci95)
        lines.append(f"  {one.name:<{width}}{naive:<27}{corrected}")
    return "\n".join(lines) + "\n"


def left_out(check: HumanCheck) -> str:
    """Return a caution where rows have no human label yet."""
    if not check.without_label:
        return ""
    return (
        f"{check.without_label:,} rows without a human label are left out: have them coded or "
        "adjudicated, since the rows that people find hard are those that labels get wrong\n"
    )
