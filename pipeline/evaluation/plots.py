"""The figures: PNG files drawn from the numbers that `metrics.json` and the trainer's log hold."""

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from pipeline.common.files import replacing
from pipeline.evaluation.comparison_text import baseline_titles
from pipeline.evaluation.learned import MARK

# Class names may be Chinese: whichever of these is installed draws them.
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Heiti SC",
)
INSTALLED = {font.name for font in font_manager.fontManager.ttflist}
plt.rcParams["font.family"] = ["DejaVu Sans", *(name for name in CJK_FONTS if name in INSTALLED)]
HAS_CJK_FONT = len(plt.rcParams["font.family"]) > 1
MIN_BIN = 10  # the accuracy of fewer rows is noise that draws the eye
DASHED = {"color": "#c05621", "linewidth": 0.9, "linestyle": "--", "zorder": 3}
BEFORE, AFTER = "#9aa5b1", "#2b6cb0"


def save_figure(figure: plt.Figure, path: str | Path) -> None:
    """Write a figure as a PNG file and close it."""
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=150, bbox_inches="tight")
    plt.close(figure)


def _labels(names: Sequence[str]) -> list[str]:
    """Return class names as the installed fonts can draw them; `[k]` where they would be boxes."""
    drawable = all(map(_drawable, names))
    return list(names) if drawable else [f"[{k}]" for k in range(len(names))]


def _drawable(text: str) -> bool:
    return HAS_CJK_FONT or all(ord(letter) < 0x2E80 for letter in text)


def _heatmap(
    axes: plt.Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], **style
) -> None:
    axes.imshow(values, aspect="auto", **style)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def plot_confusion(
    matrix: list[list[int]], names: Sequence[str], title: str, path: str | Path
) -> None:
    """Draw a (k, k + 1) confusion matrix, shaded by the share of each true class."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(1.6 + 1.1 * len(names), 1.2 + 0.8 * len(names)))
    labels = _labels(names)
    _heatmap(axes, shares, labels, [*labels, "invalid"], cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{count:,}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_title(title)
    save_figure(figure, path)


def plot_confusion_difference(
    before: list[list[int]],
    after: list[list[int]],
    names: Sequence[str],
    title: str,
    path: str | Path,
) -> None:
    """Draw how many rows of each cell the second model has more or fewer than the first."""
    change = np.array(after) - np.array(before)
    limit = max(1, int(np.abs(change).max()))
    figure, axes = plt.subplots(figsize=(1.6 + 1.1 * len(names), 1.2 + 0.8 * len(names)))
    labels = _labels(names)
    _heatmap(axes, change, labels, labels, cmap="RdBu", vmin=-limit, vmax=limit)
    for (row, column), count in np.ndenumerate(change):
        colour = "white" if abs(count) > 0.6 * limit else "black"
        axes.text(column, row, f"{count:+,}", ha="center", va="center", color=colour)
    axes.set_title(title)
    save_figure(figure, path)


def plot_loss(history: list[dict], title: str, path: str | Path) -> None:
    """Draw training and validation loss from a Trainer's `log_history`.

    Where there is the loss of the token that tells the class, it stands out from the mean over an
    answer's tokens, most of which are the same for all classes.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4))
    lines = {"": ("loss", AFTER)}
    if any("eval_class_loss" in entry for entry in history):
        lines = {", class token": ("class_loss", AFTER), ", whole answer": ("loss", BEFORE)}
    for what, (key, colour) in lines.items():
        for stage, prefix, style in (("training", "", "-"), ("validation", "eval_", "o--")):
            points = [(e["step"], e[prefix + key]) for e in history if prefix + key in e]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{stage}{what}")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.legend()
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def plot_comparison(
    runs: Sequence[dict], baselines: Sequence[dict], title: str, path: str | Path
) -> None:
    """Draw Figure 1: accuracy, macro F1 and valid predictions, before and after, per model.

    `runs` and `baselines` are those of comparison.json. Error bars are 95 % intervals, dashed lines
    the baselines on the same rows. A run on a weighted sample has its weighted scores. One that
    has a warning is marked.
    """
    titles = baseline_titles(baselines, {run["run"]: run["label_source"] for run in runs})
    sampled = any("accuracy_weighted" in run for run in runs)
    weighted = " (weighted where people coded a sample)" * sampled
    models = list(dict.fromkeys(run["model"] for run in runs))
    figure, panels = plt.subplots(
        3, 1, figsize=(2.6 + 1.45 * len(models), 7.8), sharex=True, layout="constrained"
    )
    measures = (
        ("accuracy", f"Accuracy of the valid predictions{weighted}", "{:.1%}"),
        ("macro_f1", "Macro F1", "{:.3f}"),
        ("valid_rate", "Valid predictions", "{:.1%}"),
    )
    for axes, (key, heading, style) in zip(panels, measures, strict=True):
        for stage, colour in (("before", BEFORE), ("after", AFTER)):
            for run in (run for run in runs if run["stage"] == stage and key in run):
                measure = f"{key}_weighted" if f"{key}_weighted" in run else key
                _bar(axes, _place(run, models, runs), run, measure, style, colour)
        levels = {
            title: one[key] for title, one in zip(titles, baselines, strict=True) if key in one
        }
        for one in (one for one in baselines if key in one):
            for run in (run for run in runs if run["run"] in one["runs"]):
                place = _place(run, models, runs)
                reach = 0.3 if place == round(place) else 0.2  # seen beside a bar that is alone
                axes.hlines(one[key], place - reach, place + reach, **DASHED)
        _baseline_names(axes, levels)
        axes.set_ylim(0, 1.25 if any("warning" in run for run in runs) else 1.15)
        axes.set_yticks(np.arange(0, 1.01, 0.2))
        if key != "macro_f1":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_title(heading, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xticks(range(len(models)), map(_wrapped, models), fontsize=9)
    panels[-1].set_xlim(-0.6, len(models) - 0.4)
    stages = {"before": BEFORE, "after": AFTER}
    handles = [Patch(color=stages[stage], label=f"{stage} fine-tuning") for stage in stages]
    if any("warning" in run for run in runs):
        handles.append(Patch(alpha=0, label=f"{MARK} has a warning: see summary.md"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title)
    save_figure(figure, path)


def _wrapped(name: str) -> str:
    """Return a name in lines of at most 14 letters that end at a hyphen, underscore or space."""
    return "\n".join(re.findall(r".{1,14}(?:(?<=[-_ ])|$)|.{1,14}", name))


def _place(run: dict, models: Sequence[str], runs: Sequence[dict]) -> float:
    """Return where a run's bar stands: left or right of its model's tick, on it where alone."""
    shift = {"before": -0.2, "after": 0.2}[run["stage"]]
    alone = sum(other["model"] == run["model"] for other in runs) == 1
    return models.index(run["model"]) + (0 if alone else shift)


def _bar(axes: plt.Axes, place: float, run: dict, key: str, style: str, colour: str) -> None:
    """Draw a bar, its interval, and its number above both."""
    top = run[key]
    axes.bar(place, run[key], 0.38, color=colour)
    if interval := run.get(f"{key}_ci95"):
        top = max(interval[1], top)
        axes.vlines(place, *interval, color="black", linewidth=1)
        axes.hlines(interval, place - 0.05, place + 0.05, color="black", linewidth=1)
    axes.annotate(
        f"{MARK}\n" * ("warning" in run and key != "valid_rate") + style.format(run[key]),
        (place, top),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9},
        zorder=4,
    )


def _baseline_names(axes: plt.Axes, levels: dict[str, float]) -> None:
    """Name the lines on the right; names that would overlap stand one above another."""
    height = -1.0
    for name, level in sorted(levels.items(), key=lambda item: item[1]):
        height = max(level, height + 0.08)
        axes.annotate(
            name if _drawable(name) else re.sub(r"^.*?(?= \(|$)", "Always one class", name),
            (1, height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=DASHED["color"],
        )


def _styles(runs: Sequence[dict], drawn: Sequence[str]) -> dict[str, dict]:
    """Return a line's style for each run that is drawn: a colour per model, dashes for "before"."""
    models = list(dict.fromkeys(run["model"] for run in runs if run["run"] in drawn))
    styles = {}
    for run in runs:
        if run["run"] in drawn:
            number = models.index(run["model"])
            styles[run["run"]] = {
                "color": f"C{number % 10}",
                "marker": "os^Dv<>pXh"[number % 10],
                "linestyle": "--" if run["stage"] == "before" else "-",
                "markerfacecolor": "white" if run["stage"] == "before" else f"C{number % 10}",
                "label": f"{run['model']}, {run['stage']} fine-tuning",
            }
    return styles


def plot_calibration(
    runs: Sequence[dict], calibration: dict[str, list[dict]], path: str | Path
) -> None:
    """Draw reliability diagrams: accuracy against confidence, a line per run, and where rows are.

    `runs` and `calibration` are those of comparison.json.
    """
    figure, (axes, below) = plt.subplots(
        2, 1, figsize=(5.4, 6.4), sharex=True, height_ratios=(4, 1), layout="constrained"
    )
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    errors = {run["run"]: run["ece"] for run in runs if "ece" in run}
    for name, style in _styles(runs, list(calibration)).items():
        bins = calibration[name]
        confidence, accuracy, rows = (
            np.array([one[key] for one in bins]) for key in ("confidence", "accuracy", "rows")
        )
        if name in errors:
            style["label"] += f" (ECE {errors[name]:.3f})"
        enough = rows >= MIN_BIN
        axes.plot(confidence[enough], accuracy[enough], markersize=5, **style)
        below.plot(confidence, [one["share"] for one in bins], markersize=4, **style)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("accuracy")
    axes.set_title("Calibration: how often a prediction of that confidence is right", fontsize=10)
    below.set_xlabel(f"confidence (mean of a bin; above, bins of {MIN_BIN} rows or more)")
    below.set_ylabel("share of rows")
    below.set_ylim(0)
    for one in (axes, below):
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=8
    )
    save_figure(figure, path)


def plot_coverage(runs: Sequence[dict], coverage: dict[str, list[dict]], path: str | Path) -> None:
    """Draw accuracy against the share of rows that the model codes, its most confident ones.

    `runs` and `coverage` are those of comparison.json.
    """
    figure, axes = plt.subplots(figsize=(5.4, 4.8), layout="constrained")
    for name, style in _styles(runs, list(coverage)).items():
        curve = coverage[name]
        shares = [point["coverage"] for point in curve]
        axes.plot(shares, [point["accuracy"] for point in curve], markersize=4, **style)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(top=1.01)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("rows coded by the model, the most confident ones")
    axes.set_ylabel("accuracy on them")
    people = axes.secondary_xaxis("top", functions=(lambda x: 1 - x, lambda x: 1 - x))
    people.set_xlabel("rows left to people")
    people.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=8
    )
    save_figure(figure, path)
