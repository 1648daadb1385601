"""The record of a coded spreadsheet: by which model, by whom each row, at what quality."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.records import read_record, write_record

HUMAN, TEACHER, MODEL, NOBODY = "human", "teacher", "model", ""
CODES_FILE, RECORD_FILE = "codes.csv", "coded.json"
CODE_AGAIN = "run code_comments.py again"


@dataclass(frozen=True)
class CodedBy:
    """The tuned model: its folder, what it is, and the fingerprint of its probabilities."""

    path: str
    kind: str
    name: str
    fingerprint: str
    temperature: float


@dataclass(frozen=True)
class Quality:
    """What a run of the model measured; `ci95` is the accuracy's."""

    measured_against: str
    rows: int
    accuracy: float
    ci95: list[float] | None
    macro_f1: float | None
    run: str


@dataclass(frozen=True)
class Coding:
    """What code_comments.py wrote, in coded.json.

    `rows` are those of the sheet that are not blank, and `computed` its different comments.
    `coded_by` and `class_counts` count rows. `checked` are those that people should look at, by
    `threshold`, None where there is no rule. `plan` has the figures of the plan that it is from.
    """

    output_file: str
    spreadsheet: str
    sheet: str
    model: CodedBy
    codebook_sha256: str
    class_names: list[str]
    rows: int
    rows_with_message: int
    computed: int
    coded_by: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    checked: int | None
    threshold: float | None
    plan: dict[str, Any]
    quality: list[Quality]
    date: str
    seconds: float
    versions: dict[str, str]
    settings: dict[str, Any]

    def write(self, path: str | Path) -> None:
        """Write coded.json."""
        write_record(self, path)

    @classmethod
    def read(cls, path: str | Path) -> "Coding":
        """Read coded.json; raises UserError for one of an older form."""
        return read_record(path, cls, CODE_AGAIN)
