"""The records of people's work: the sample as it was drawn, and the human check of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.records import read_record, write_record

SAMPLE_FILE, RECORD_FILE = "sample.csv", "sample.json"
ADJUDICATION_FILE, HUMAN_LABELS_FILE = "adjudication.xlsx", "human_labels.csv"
PILOT = "pilot"  # the first pilot's folder; those of refined codebooks are pilot_2, pilot_3, ...
PILOTS = f"{PILOT}*/{SAMPLE_FILE}"

Interval = list[float]  # of 95 %: the lower and the upper end
SCORE_AGAIN = "run human_check.py again, which reads only the coded sheets"


@dataclass(frozen=True)
class Stratum:
    """The rows of one silver class; `coded` counts the drawn rows that have a human label.

    `by_people` counts the labelled rows to which people gave the class before: they have no silver
    label, and are no part of `population`.
    """

    name: str
    population: int
    drawn: int
    inclusion_probability: float
    coded: int = 0
    by_people: int = 0


@dataclass(frozen=True)
class Sample:
    """A sample as it was drawn, in sample.json.

    `population` counts the labelled rows, `held_out` those of them that are kept for tests, 0 where
    the sample comes from all rows. `strata` are in the order of the classes. `settings` are those
    of human_sample.py.
    """

    population: int
    held_out: int
    drawn: int
    date: str
    coders: list[str]
    codebook_sha256: str
    strata: list[Stratum]
    settings: dict[str, Any]

    @property
    def seed(self) -> int:
        """The seed of the draw."""
        return self.settings["seed"]

    @property
    def by_people(self) -> int:
        """How many of the labelled rows people had coded before, so that none was drawn."""
        return sum(stratum.by_people for stratum in self.strata)

    @property
    def min_per_class(self) -> int:
        """How many rows of each class were to be drawn at least."""
        return self.settings["min_per_class"]


@dataclass(frozen=True)
class Coder:
    """How many rows of the sample a coder gave a class, and how many not."""

    name: str
    coded: int
    blank: int


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa of two coders over the rows that both coded; None where there are none."""

    coders: list[str]
    rows: int
    kappa: float | None
    ci95: Interval | None


@dataclass(frozen=True)
class Agreement:
    """How far the coders agree on the rows that two or more of them coded.

    `percent` is the share of pairs of labels that agree; alpha is Krippendorff's, of which the
    ordinal one may be left out.
    """

    rows: int
    percent: float
    alpha_nominal: float
    alpha_nominal_ci95: Interval
    kappa: list[Kappa]
    alpha_ordinal: float | None = None
    alpha_ordinal_ci95: Interval | None = None


@dataclass(frozen=True)
class ClassQuality:
    """The silver labels of one class against people's; `rows` are those that people gave it."""

    name: str
    rows: int
    precision: float
    precision_ci95: Interval
    recall: float
    recall_ci95: Interval
    f1: float
    f1_ci95: Interval


@dataclass(frozen=True)
class SilverQuality:
    """The silver labels against people's, weighted to the data set.

    `confusion_matrix` counts the rows as they were drawn: people in rows, silver labels in columns.
    """

    rows: int
    accuracy: float
    accuracy_ci95: Interval
    macro_f1: float
    macro_f1_ci95: Interval
    cohen_kappa: float
    cohen_kappa_ci95: Interval
    confusion_matrix: list[list[int]]
    classes: list[ClassQuality]


@dataclass(frozen=True)
class Share:
    """A class's share of the labelled rows: by silver labels, and corrected for their errors.

    Rows that people had coded before count with their class in both.
    """

    name: str
    naive: float
    naive_ci95: Interval
    corrected: float
    corrected_ci95: Interval


@dataclass(frozen=True)
class HumanCheck:
    """What human_check.py found, in human_check.json.

    `disagreements` counts the rows that coders coded differently, `adjudicated` those that somebody
    decided, `undecided` those where coders are tied and nobody decided, `uncoded` those that nobody
    coded. The last two have no human label.
    """

    class_names: list[str]
    codebook_sha256: str
    sample: Sample
    coders: list[Coder]
    agreement: Agreement | None
    disagreements: int
    adjudicated: int
    undecided: int
    uncoded: int
    silver: SilverQuality
    shares: list[Share]
    settings: dict[str, Any]

    @property
    def without_label(self) -> int:
        """How many rows of the sample have no human label."""
        return self.undecided + self.uncoded

    def write(self, path: str | Path) -> None:
        """Write human_check.json."""
        write_record(self, path)

    @classmethod
    def read(cls, path: str | Path) -> "HumanCheck":
        """Read human_check.json; raises UserError for one of an older form."""
        return read_record(path, cls, SCORE_AGAIN)
