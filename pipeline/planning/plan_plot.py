"""The figure of a plan: accuracy against cost, the rest coded by the teacher, or by people."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from pipeline.evaluation.plots import plt, save_figure
from pipeline.planning.plan import PEOPLE, TEACHER, Plan, Point

COLOURS = {TEACHER: "#2b6cb0", PEOPLE: "#2f855a"}
MODEL_COLOUR, CHOICE_COLOUR = "#9aa5b1", "#c05621"


def plot_plan(plan: Plan, path: str | Path) -> None:
    """Draw accuracy against what the rest costs: yuan to the teacher, hours of people.

    Bands and bars are 95 % intervals. The left end of each curve is the model alone, the right end
    the teacher or people alone. The plan's own point is marked.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.6), sharey=True, layout="constrained")
    pay = plan.costs.pay_per_hour
    unit = f"yuan, at {pay:g} an hour" if pay else "hours, of all coders together"
    for axes, who, title, label in (
        (panels[0], TEACHER, "The teacher codes the rest", "yuan to the provider"),
        (panels[1], PEOPLE, "People code the rest", unit),
    ):
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel(f"cost of the rest: {label}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        _draw(axes, plan, who)
    against = "people" if plan.measured_against.startswith("accuracy") else "the teacher's labels"
    panels[0].set_ylabel(f"rows that are right, judged by {against}")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    panels[0].set_ylim(top=1.005)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(f"{plan.model.name}: {plan.rows_to_code:,} rows to be coded", fontsize=11)
    save_figure(figure, path)


def _draw(axes: plt.Axes, plan: Plan, who: str) -> None:
    points = [point for point in plan.curve if _right(point, who) is not None]
    if not points:
        axes.text(
            0.5,
            0.5,
            "the teacher's labels of\nthese rows are not known",
            transform=axes.transAxes,
            ha="center",
            fontsize=9,
        )
        return
    costs = np.array([_cost(plan, point, who) for point in points])
    right = np.array([_right(point, who) for point in points])
    low, high = np.array([_interval(point, who) for point in points]).T
    axes.fill_between(costs, low, high, color=COLOURS[who], alpha=0.18, linewidth=0)
    name = "the teacher" if who == TEACHER else "people"
    axes.plot(costs, right, color=COLOURS[who], label=f"model and {name}, with 95 % interval")
    for place, colour, marker, label in (
        (-1, MODEL_COLOUR, "s", "model alone"),
        (0, COLOURS[who], "^", f"{name} alone"),
    ):
        bar = [[max(0.0, right[place] - low[place])], [max(0.0, high[place] - right[place])]]
        axes.errorbar(
            costs[place], right[place], bar, color=colour, marker=marker, capsize=3, label=label
        )
    if plan.threshold is not None and plan.who == who:
        low, high = plan.accuracy_ci95
        bar = [[max(0.0, plan.accuracy - low)], [max(0.0, high - plan.accuracy)]]
        axes.errorbar(
            _cost_of(plan, plan.sent_rows, who),
            plan.accuracy,
            bar,
            color=CHOICE_COLOUR,
            marker="o",
            capsize=3,
            zorder=4,
            label=f"the plan: {plan.promised:.1%} promised",
        )
        axes.axhline(plan.promised, color=CHOICE_COLOUR, linewidth=0.8, linestyle="--")


def _cost(plan: Plan, point: Point, who: str) -> float:
    return _cost_of(plan, plan.rows_to_code * (1 - point.kept_share), who)


def _cost_of(plan: Plan, rows: float, who: str) -> float:
    """Return what some rows cost, as the axis has it: yuan, or hours where people are not paid."""
    if who == TEACHER:
        return plan.costs.teacher_price(rows)
    if plan.costs.pay_per_hour:
        return plan.costs.people_price(rows)
    return plan.costs.minutes(rows) / 60


def _right(point: Point, who: str) -> float | None:
    return point.accuracy_with_teacher if who == TEACHER else point.accuracy_with_people


def _interval(point: Point, who: str) -> list[float]:
    if who == TEACHER:
        return point.accuracy_with_teacher_ci95
    return point.accuracy_with_people_ci95
