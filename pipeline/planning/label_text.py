"""How many labels are enough, as labels.txt says it and labels.csv lists it."""

import textwrap

import pandas as pd

from pipeline.planning.active import RANDOM
from pipeline.planning.extrapolate import UNLIKELY
from pipeline.planning.label_plan import LabelPlan, LearningCurve, More
from pipeline.planning.learning_curve import PARTS

NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1"}
NOT_WORTH = 0.005  # half a point: labels that bring less than that do not pay
# By so much a difference must exceed half its 95 % interval: three strategies are compared by two
# measures, and one of six would do so by chance in one study of seven (Bonferroni's correction).
OF_SIX = 1.35
CHANCE = (
    " An interval above 0 is no proof where six are looked at: one is so by chance in one study of "
    "seven."
)


def labels_text(plan: LabelPlan) -> str:
    """Return labels.txt."""
    counts = ", ".join(f"{count:,} {name}" for name, count in plan.class_counts.items())
    parts = [
        f"How many labels are enough: {plan.labels:,} labels from {plan.source} ({counts}).",
        f"Measured with a linear probe on {plan.encoder}, whose weights stay as they are. The rows "
        f"are divided {plan.draws} times into {PARTS} parts. Each part is predicted by probes that "
        "learned from more and more labels of the other parts. Labels here are rows to learn from: "
        "those of a test and of a validation come on top. Scores are agreement with the labels "
        "that are there. In brackets are 95 % intervals.",
    ]
    lines = ["\n".join(map(_wrapped, parts)), _points(plan), verdict(plan)]
    lines += [_backtests(plan), _trained(plan), _contests(plan)]
    return "\n\n".join(filter(None, lines)) + "\n"


def verdict(plan: LabelPlan) -> str:
    """Return what more labels cost and bring, or why nothing is said of that."""
    accuracy, macro_f1 = plan.curves
    if reason := accuracy.nothing_said or macro_f1.nothing_said:
        return _wrapped(
            f"Nothing can be said of more labels: {reason}. Label more rows, and run this again."
        )
    sentences = [
        sentence(more, also) for more, also in zip(accuracy.more, macro_f1.more, strict=True)
    ]
    source = f"A label costs {plan.price_per_label:.3g} yuan ({plan.price_source})."
    return "\n".join(map(_wrapped, [*sentences, source, *_judged(plan)]))


def sentence(more: More, macro_f1: More) -> str:
    """Return what so many more labels cost and bring."""
    return (
        f"{more.labels:,} more labels cost {_yuan(more.price)} and bring about {_points_of(more)} "
        f"of accuracy and {_points_of(macro_f1)} of macro F1."
    )


def _yuan(price: float) -> str:
    return f"{price:,.2f} yuan" if price < 100 else f"{price:,.0f} yuan"


def _points_of(more: More) -> str:
    low, high = (100 * end for end in more.gain_ci95)
    return f"{100 * more.gain:.1f} points [{low:.1f}, {high:.1f}]"


def _judged(plan: LabelPlan) -> list[str]:
    """Return the sentences that say whether more labels pay, and how far to trust that."""
    found, most = [], plan.curves[0].more[-1]
    if all(curve.more[-1].gain_ci95[1] < NOT_WORTH for curve in plan.curves):
        found.append(
            f"More labels do not pay: even {most.labels:,} bring less than half a point. The curve "
            "is flat. A larger model, clearer classes in the codebook or better labels may help."
        )
    elif all(curve.more[-1].gain_ci95[0] < NOT_WORTH for curve in plan.curves):
        found.append(
            "It is open whether more labels pay: these intervals begin near 0. Label some more, "
            "and run this again."
        )
    for curve in plan.curves:
        if not curve.fit >= UNLIKELY:
            found.append(
                f"The curve of {NAMES[curve.measure]} is no smooth curve that flattens out: do not "
                "rely on what is said of it."
            )
        if curve.backtest and not curve.backtest.holds:
            found.append(
                f"A forecast of {NAMES[curve.measure]} from the smaller sizes missed the largest "
                "size (see below): do not rely on what is said of it."
            )
    return found


def _points(plan: LabelPlan) -> str:
    """Return the measured scores as a table."""
    lines = [f"{'labels':>8}  {'accuracy':<24}macro F1"]
    for accuracy, macro_f1 in zip(*(curve.points for curve in plan.curves), strict=True):
        cells = [
            f"{one.score:.3f} [{one.score_ci95[0]:.3f}, {one.score_ci95[1]:.3f}]"
            for one in (accuracy, macro_f1)
        ]
        lines.append(f"{accuracy.labels:>8,}  {cells[0]:<24}{cells[1]}")
    return "\n".join(lines)


def _backtests(plan: LabelPlan) -> str:
    """Return what the forecasts of a known size were worth."""
    return "\n".join(
        _wrapped(_backtest(curve)) for curve in plan.curves if curve.backtest is not None
    )


def _backtest(curve: LearningCurve) -> str:
    test = curve.backtest
    low, high = (100 * end for end in test.gain_ci95)
    return (
        f"Check: from the sizes up to {test.fitted_to:,} labels, {test.predicted_for:,} were "
        f"forecast to bring {100 * test.gain:.1f} points of {NAMES[curve.measure]} [{low:.1f}, "
        f"{high:.1f}]; they brought {100 * test.measured:.1f}."
    )


def _trained(plan: LabelPlan) -> str:
    """Return the scores of the real training beside the probe's."""
    lines = [
        f"Fine-tuned on {one.labels:,} labels: {NAMES[one.measure]} {one.score:.3f}, the probe's "
        f"{one.probe_score:.3f} on the same {one.rows:,} rows, a difference of "
        f"{100 * one.difference:+.1f} points {_signed(one.difference_ci95)}."
        for one in plan.trained
    ]
    if lines:
        lines.append("What is said of more labels is the probe's curve, not that of these models.")
    return "\n".join(map(_wrapped, lines))


def _contests(plan: LabelPlan) -> str:
    """Return whether it pays to let a model choose which rows are labelled."""
    if not plan.contests:
        return ""
    first = plan.contests[0]
    lines = [
        f"Which rows to label: {first.labels:,} labels, {first.chosen:,} of them chosen out of "
        f"{first.pool:,} rows, against as many random ones. With more rows to choose from it may "
        "be otherwise."
    ]
    better = []
    for one in plan.contests:
        if one.strategy == RANDOM:
            lines.append(f"  random: {NAMES[one.measure]} {one.score:.3f}")
            continue
        low, high = one.difference_ci95
        lines.append(
            f"  {one.strategy}: {100 * one.difference:+.1f} points of {NAMES[one.measure]} "
            f"{_signed(one.difference_ci95)}"
        )
        if one.difference > OF_SIX * (high - low) / 2:
            better.append(f"{one.strategy} rows for {NAMES[one.measure]}")
    if better:
        lines.append(
            f"Choosing pays here: {', '.join(better)}. Rows that were chosen are no random sample: "
            "take other rows for validation and test."
        )
    elif all(one.difference_ci95[1] < NOT_WORTH for one in plan.contests):
        lines.append("Choosing does not pay here: label random rows.")
    else:
        above = any(one.difference_ci95[0] > 0 for one in plan.contests)
        lines.append(f"Nothing shows that choosing pays here: label random rows.{CHANCE * above}")
    return "\n".join(map(_wrapped, lines))


def _signed(ends: list[float]) -> str:
    return f"[{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def labels_table(plan: LabelPlan) -> pd.DataFrame:
    """Return labels.csv: a row for each size and measure, measured or forecast."""
    rows = []
    for curve in plan.curves:
        name = NAMES[curve.measure]
        for kind, points in (("measured", curve.points), ("forecast", curve.line)):
            rows += [(name, kind, one.labels, one.score, *one.score_ci95) for one in points]
    columns = ["measure", "kind", "labels", "score", "ci95_low", "ci95_high"]
    return pd.DataFrame(rows, columns=columns)
