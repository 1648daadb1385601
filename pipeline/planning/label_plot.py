"""The figure of how many labels are enough: measured scores, and the curve that goes on."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from pipeline.evaluation.plots import plt, save_figure
from pipeline.planning.active import RANDOM
from pipeline.planning.label_plan import LabelPlan, LearningCurve
from pipeline.planning.label_text import NAMES

COLOUR, TRAINED_COLOUR, NOW_COLOUR = "#2b6cb0", "#2f855a", "#c05621"
MOST_TICKS = 8


def plot_labels(plan: LabelPlan, path: str | Path) -> None:
    """Draw scores against labels, the forecast as a band, and what chosen labels bring."""
    count = 2 + bool(plan.contests)
    figure, panels = plt.subplots(1, count, figsize=(4.6 * count, 4.4), layout="constrained")
    for axes, curve in zip(panels, plan.curves, strict=False):
        _draw_curve(axes, plan, curve)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    if plan.contests:
        _draw_contests(panels[2], plan)
    handles = {
        label: handle
        for axes in panels[:2]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(f"{plan.labels:,} labels, and more of them", fontsize=11)
    save_figure(figure, path)


def _draw_curve(axes: plt.Axes, plan: LabelPlan, curve: LearningCurve) -> None:
    """Draw a measure's curve; where nothing is said of more labels, a line says so."""
    sizes = [one.labels for one in curve.points]
    scores = np.array([one.score for one in curve.points])
    low, high = np.array([one.score_ci95 for one in curve.points]).T
    axes.errorbar(
        sizes,
        scores,
        [scores - low, high - scores],
        color=COLOUR,
        fmt="o",
        markersize=4,
        capsize=2,
        label="measured, with 95 % interval",
    )
    if curve.line:
        line = [one.labels for one in curve.line]
        ends = np.array([one.score_ci95 for one in curve.line]).T
        axes.fill_between(line, *ends, color=COLOUR, alpha=0.18, linewidth=0, label="forecast")
        axes.plot(line, [one.score for one in curve.line], color=COLOUR, linewidth=1)
    trained = [one for one in plan.trained if one.measure == curve.measure]
    if trained:
        axes.plot(
            [one.labels for one in trained],
            [one.score for one in trained],
            "D",
            color=TRAINED_COLOUR,
            label=f"fine-tuned, on {trained[0].rows:,} rows",
        )
    axes.axvline(plan.labels, color=NOW_COLOUR, linewidth=0.9, linestyle="--", label="labels now")
    axes.set_xscale("log")
    more = [plan.labels + one.labels for one in curve.more]
    ticks = sorted({*sizes[:: 1 + len(sizes) // MOST_TICKS * 2], *more})
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelrotation=45, labelsize=8)
    axes.set_xlabel("labels to learn from")
    axes.set_title(NAMES[curve.measure].capitalize().replace("f1", "F1"), fontsize=10, loc="left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_contests(axes: plt.Axes, plan: LabelPlan) -> None:
    """Draw how far each strategy is from random choice."""
    shown = [one for one in plan.contests if one.strategy != RANDOM]
    names = list(dict.fromkeys(one.strategy for one in shown))
    for shift, (measure, name) in zip((0.12, -0.12), NAMES.items(), strict=True):
        these = [one for one in shown if one.measure == measure]
        values = np.array([100 * one.difference for one in these])
        low, high = 100 * np.array([one.difference_ci95 for one in these]).T
        axes.errorbar(
            values,
            np.arange(len(names))[::-1] + shift,
            xerr=[values - low, high - values],
            fmt="o" if measure == "accuracy" else "s",
            color=COLOUR if measure == "accuracy" else TRAINED_COLOUR,
            markersize=4,
            capsize=2,
            label=name,
        )
    axes.axvline(0, color="grey", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(names)), names[::-1])
    axes.set_ylim(-0.5, len(names) - 0.5)
    axes.set_xlabel("points more than with as many random labels")
    first = shown[0]
    axes.set_title(
        f"{first.labels:,} labels, {first.chosen:,} chosen of {first.pool:,}",
        fontsize=10,
        loc="left",
    )
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
