"""The record of how many labels are enough: measured, continued and priced, in labels.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.records import read_record, write_record
from pipeline.planning.active import Contest
from pipeline.planning.extrapolate import Backtest
from pipeline.planning.trained_curve import Trained

LABELS_FILE, POINTS_FILE, LABELS_TEXT, LABELS_PLOT = LABELS_FILES = (
    "labels.json",
    "labels.csv",
    "labels.txt",
    "labels.png",
)

Interval = list[float]  # of 95 %: the lower and the upper end


@dataclass(frozen=True)
class Point:
    """A score with so many labels to learn from."""

    labels: int
    score: float
    score_ci95: Interval


@dataclass(frozen=True)
class More:
    """What more labels cost, in yuan, and how much higher they make a score."""

    labels: int
    price: float
    gain: float
    gain_ci95: Interval


@dataclass(frozen=True)
class LearningCurve:
    """The curve of linear probes by one measure, and what more labels will do to it.

    `nothing_said` is why nothing is said of more labels; `fit`, `more` and `line` are empty then.
    `fit` is the chance of a curve that departs as much from the best power law. `line` has points
    of the forecast, for a figure.
    """

    measure: str
    points: list[Point]
    nothing_said: str
    fit: float | None
    backtest: Backtest | None
    more: list[More]
    line: list[Point]


@dataclass(frozen=True)
class LabelPlan:
    """How many labels are enough, in labels.json.

    `labels` are those that a model can learn from now. The curves are by accuracy, then macro F1.
    """

    source: str
    labels: int
    class_counts: dict[str, int]
    encoder: str
    draws: int
    price_per_label: float
    price_source: str
    curves: list[LearningCurve]
    trained: list[Trained]
    contests: list[Contest]
    codebook_sha256: str
    class_names: list[str]
    date: str
    settings: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write labels.json."""
        write_record(self, folder / LABELS_FILE)

    @classmethod
    def read(cls, folder: str | Path) -> "LabelPlan":
        """Read labels.json; raises UserError for one of an older form."""
        cure = "run plan_coding.py --labels again"
        return read_record(Path(folder) / LABELS_FILE, cls, cure)
