"""The record of a plan: who codes what, at which expected accuracy and price, in plan.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.records import read_record, write_record

PLAN_FILE, CURVE_FILE, TEXT_FILE, PLOT_FILE = PLAN_FILES = (
    "plan.json",
    "plan.csv",
    "plan.txt",
    "plan.png",
)
TEACHER, PEOPLE = WHO = ("teacher", "people")
PLAN_AGAIN = "run plan_coding.py again"

Interval = list[float]  # of 95 %: the lower and the upper end


@dataclass(frozen=True)
class Point:
    """What a threshold comes to: the model keeps the rows of at least that confidence.

    `kept_accuracy` is that of the kept rows, None where none is kept; `accuracy_with_teacher` and
    `accuracy_with_people` are those of all rows when either codes the rest, the former None where
    it is not known how right the teacher is on these rows. `teacher_price` (yuan) and
    `people_minutes` are what the rest costs with either.
    """

    threshold: float
    kept_share: float
    kept_rows: int  # of the held-out ones
    kept_accuracy: float | None
    kept_accuracy_ci95: Interval | None
    accuracy_with_teacher: float | None
    accuracy_with_teacher_ci95: Interval | None
    accuracy_with_people: float
    accuracy_with_people_ci95: Interval
    teacher_price: float
    people_minutes: float


@dataclass(frozen=True)
class Costs:
    """What it costs that others code a row: the teacher in yuan, people in seconds for each coder.

    `teacher_source` says where the price comes from. `pay_per_hour` is in yuan, 0 = not counted.
    """

    teacher_per_row: float
    teacher_source: str
    seconds_per_comment: float
    coders: int
    pay_per_hour: float

    def teacher_price(self, rows: float) -> float:
        """Return the yuan that the teacher takes for so many rows."""
        return rows * self.teacher_per_row

    def minutes(self, rows: float) -> float:
        """Return the minutes that people take for so many rows, those of all coders together."""
        return rows * self.seconds_per_comment * self.coders / 60

    def people_price(self, rows: float) -> float:
        """Return the yuan that people are paid for so many rows."""
        return self.minutes(rows) / 60 * self.pay_per_hour


def confidence_below(threshold: float) -> str:
    """Return in words which confidences are below a threshold; of one above 1, all are."""
    return f"a confidence below {threshold:.6g}" if threshold <= 1 else "any confidence"


@dataclass(frozen=True)
class Model:
    """The model that a plan is for, as its run names it; `path` is the folder that was trained.

    `training_sha256` tells its training from others; runs of earlier versions do not have it.
    """

    name: str
    path: str
    temperature: float
    training_sha256: str = ""


@dataclass(frozen=True)
class Plan:
    """Who codes what, in plan.json.

    Rows of less confidence than `threshold` go to `who`; it is None, as are the figures after it,
    where neither a target nor a budget was given. `accuracy` is what to expect of all rows with its
    interval, `promised` what holds with the chance 1 - `alpha`, as `guarantee` says. `sent_rows` of
    `rows_to_code` go to others, at `price` (yuan) or `minutes`. `teacher_accuracy` is what
    human_check.py found, None without it. `others_are_right` is whether those who code the rest are
    right by definition: their labels are what the model is measured against.
    """

    run: str
    model: Model
    measured_against: str
    held_out_rows: int
    weighted: bool
    rows_to_code: int
    rows_source: str
    costs: Costs
    who: str
    others_are_right: bool
    target_accuracy: float
    budget: float
    minutes_budget: float
    alpha: float
    most_promised: float
    threshold: float | None
    kept_share: float | None
    sent_rows: int | None
    accuracy: float | None
    accuracy_ci95: Interval | None
    promised: float | None
    guarantee: str
    price: float | None
    minutes: float | None
    teacher_accuracy: float | None
    teacher_accuracy_ci95: Interval | None
    codebook_sha256: str
    class_names: list[str]
    date: str
    curve: list[Point]
    settings: dict[str, Any]

    def write(self, folder: str | Path) -> None:
        """Write plan.json."""
        write_record(self, Path(folder) / PLAN_FILE)

    @classmethod
    def read(cls, folder: str | Path) -> "Plan":
        """Read plan.json; raises UserError for one of an older form."""
        return read_record(Path(folder) / PLAN_FILE, cls, PLAN_AGAIN)
