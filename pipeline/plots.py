"""The figures: PNG files drawn from the numbers that `metrics.json` and the trainer's log hold."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager

from pipeline.files import replacing

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
BEFORE, AFTER = "#9aa5b1", "#2b6cb0"


def _save(figure: plt.Figure, path: str | Path) -> None:
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=150, bbox_inches="tight")
    plt.close(figure)


def _labels(names: Sequence[str]) -> list[str]:
    """Return class names as the installed fonts can draw them; `[k]` where they would be boxes."""
    drawable = HAS_CJK_FONT or all(ord(letter) < 0x2E80 for name in names for letter in name)
    return list(names) if drawable else [f"[{k}]" for k in range(len(names))]


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
    _save(figure, path)


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
    _save(figure, path)


def plot_loss(history: list[dict], title: str, path: str | Path) -> None:
    """Draw training and validation loss from a Trainer's `log_history`."""
    figure, axes = plt.subplots(figsize=(6.4, 4))
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "validation", "o-")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, path)


def plot_comparison(summary: Sequence[dict], title: str, path: str | Path) -> None:
    """Draw Figure 1: accuracy and valid-prediction rate, before and after, per model.

    `summary` holds a dict per run with `model`, `stage`, `accuracy`, `valid_rate`.
    """
    models = list(dict.fromkeys(run["model"] for run in summary))
    width = max(6.4, 1.6 + 1.6 * len(models))
    figure, panels = plt.subplots(1, 2, figsize=(2 * width, 4.4), sharey=True)
    measures = (
        ("accuracy", "Accuracy of the valid predictions"),
        ("valid_rate", "Valid predictions"),
    )
    for axes, (key, heading) in zip(panels, measures, strict=True):
        for offset, stage, colour in ((-0.2, "before", BEFORE), (0.2, "after", AFTER)):
            runs = [run for run in summary if run["stage"] == stage]
            places = [models.index(run["model"]) + offset for run in runs]
            bars = axes.bar(places, [run[key] for run in runs], 0.38, color=colour)
            bars.set_label(f"{stage} fine-tuning")
            axes.bar_label(bars, fmt="{:.1%}", fontsize=8, padding=2)
        axes.set_xticks(range(len(models)), models)
        axes.set_ylim(0, 1.12)
        axes.set_yticks(
            np.arange(0, 1.01, 0.2), [f"{share:.0%}" for share in np.arange(0, 1.01, 0.2)]
        )
        axes.set_title(heading)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(loc="upper left", frameon=False, fontsize=8)
    figure.suptitle(title)
    _save(figure, path)
