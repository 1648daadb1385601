"""The methods text on how many labels are enough: what was measured, and what more would bring."""

from pipeline.planning.label_plan import LabelPlan
from pipeline.planning.label_text import verdict
from pipeline.report.words import fill


def label_plan_sentences(plan: LabelPlan | None) -> tuple[list[str], list[str]]:
    """Return how the learning curve was measured, and what more labels would bring."""
    if plan is None:
        return [], []
    return [
        measured_sentence(plan),
        verdict_of(plan),
        "These figures stand in results/plan/labels.json.",
    ], []


def measured_sentence(plan: LabelPlan) -> str:
    """Return what the curve is, and what it is measured on."""
    return fill(
        "A learning curve was measured on {labels:label|labels} of {source}, on {date}, by linear "
        "probes on {encoder} and {draws:draw|draws} of nested subsets; its scores are agreement "
        "with these labels.",
        vars(plan),
    )


def verdict_of(plan: LabelPlan) -> str:
    """Return what more labels cost and bring, as labels.txt has it, without its line ends."""
    return " ".join(verdict(plan).split())


def curve_description(plan: LabelPlan) -> str:
    """Return what the figure of the curve shows, for who does not see it."""
    parts = []
    for curve in plan.curves:
        ends = [
            fill("{score:.3f} {score_ci95:.3f} with {labels:label|labels}", vars(point))
            for point in (curve.points[0], curve.points[-1])
        ]
        parts.append(f"{curve.measure.replace('_', ' ')}: {', '.join(ends)}")
    return f"Scores against the number of labels. {'; '.join(parts)}."
