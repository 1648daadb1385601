"""Label sets read as tables: what a teacher said of the rows by one codebook."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label, read_codebook
from pipeline.common.files import clean_text, read_json
from pipeline.common.rows import UniqueIds
from pipeline.common.tables import read_csv

LABELS_FILE, CODEBOOK_FILE, RECORD_FILE = "labels.csv", "prompt.txt", "silver_labels.json"
MADE_BY = "jsonl_to_csv.py"
RESERVED = ("custom_id", "message", "human")  # columns of a table that has one for each set too
REPEAT = "repeat_"  # the columns of what the teacher said when it was asked again
TEACHER = "teacher"  # the column of what it said of rows that people coded


@dataclass(frozen=True)
class LabelSet:
    """The labels that one codebook and one teacher gave.

    `rows` has `custom_id`, `message`, `class` (the teacher's, -1 for none), `people` (the class of
    a row that people coded in the spreadsheet, -1 for others), and a column per repeat.
    """

    name: str
    path: Path
    rows: pd.DataFrame
    codebook: Codebook
    teachers: list[str] = field(default_factory=list)
    first_answer: str = ""
    last_answer: str = ""

    @property
    def repeats(self) -> list[str]:
        """The columns of what the teacher said when it was asked again."""
        return [name for name in self.rows if name.startswith(REPEAT)]


def read_label_sets(folder: str, named: str, prompt_file: str) -> list[LabelSet]:
    """Return the label sets of a folder in the order of their answers, or those that are `named`.

    Of sets whose first answers came on one day, that is last which jsonl_to_csv.py wrote last.
    `named` lists folders, also by their name in `folder`, and CSV files, parted by commas; they
    stay in this order. Classes in a CSV file are those of the prompt.txt beside it, else of
    `prompt_file`. Raises UserError where there is no set, and for a broken file.
    """
    if not named:
        paths = sorted(path for path in Path(folder).glob("*") if path.is_dir())
        for path in paths:
            if not (path / LABELS_FILE).is_file():
                print(f"{path} has no {LABELS_FILE} and is left out: {MADE_BY} writes it")
        found = [read_folder(path, path.name) for path in paths if (path / LABELS_FILE).is_file()]
        if not found:
            raise UserError(
                f"{folder} holds no set of labels: run {MADE_BY}, which keeps each set there, or "
                "name folders or CSV files by --sets"
            )
        return sorted(found, key=lambda one: (one.first_answer, written(one.path), one.name))
    places = [place for name in named.split(",") if (place := name.strip())]
    if twice := [place for place in places if places.count(place) > 1]:
        raise UserError(f"--sets names {twice[0]} twice: name each set once")
    names = [Path(place).stem if Path(place).is_file() else Path(place).name for place in places]
    return [
        read_named(
            folder, place, place if name in RESERVED or names.count(name) > 1 else name, prompt_file
        )
        for place, name in zip(places, names, strict=True)
    ]


def written(path: Path) -> int:
    """Return when a label set was written, in nanoseconds."""
    return (path / RECORD_FILE).stat().st_mtime_ns


def read_named(folder: str, place: str, name: str, prompt_file: str) -> LabelSet:
    """Return the label set that a folder, a folder's name or a CSV file is."""
    for path in (Path(place), Path(folder) / place):
        if path.is_dir():
            return read_folder(path, name)
    if not Path(place).is_file():
        raise UserError(f"--sets: {place} is no folder of {folder} and no file: correct the name")
    beside = Path(place).with_name(CODEBOOK_FILE)
    codebook = read_codebook(beside if beside.is_file() else prompt_file)
    return LabelSet(name, Path(place), read_labels(place, codebook), codebook)


def read_folder(path: Path, name: str) -> LabelSet:
    """Return the label set in a folder of jsonl_to_csv.py."""
    cure = f"run {MADE_BY}, which writes a set's folder whole"
    record = read_json(path / RECORD_FILE, cure)
    codebook = read_codebook(path / CODEBOOK_FILE)
    if record.get("codebook_sha256") != codebook.sha256:
        raise UserError(
            f"{path / CODEBOOK_FILE} is not the codebook of {path / RECORD_FILE}: put back the one "
            f"that the labels were given by, or {cure}"
        )
    return LabelSet(
        name,
        path,
        read_labels(path / LABELS_FILE, codebook),
        codebook,
        record.get("teachers") or [],
        record.get("first_answer") or "",
        record.get("last_answer") or "",
    )


def read_labels(path: str | Path, codebook: Codebook) -> pd.DataFrame:
    """Return the `rows` of a `LabelSet` from its CSV file."""
    frame = read_csv(path, ["custom_id", "message", "class"], MADE_BY)
    rows = frame[["custom_id", "message"]].map(clean_text)
    ids = UniqueIds(path, MADE_BY)
    ids.add(rows["custom_id"], rows["message"])
    ids.check()
    own = class_numbers(path, frame["class"], codebook)
    by_people = np.zeros(len(frame), bool)
    if "coded_by" in frame:
        by_people = (frame["coded_by"] == "human").to_numpy()
    said = class_numbers(path, frame[TEACHER], codebook) if TEACHER in frame else -1
    rows["class"] = np.where(by_people, said, own)
    rows["people"] = np.where(by_people, own, -1)
    for name in frame:
        if name.startswith(REPEAT):
            rows[name] = class_numbers(path, frame[name], codebook)
    return rows.reset_index(drop=True)


def class_numbers(path: str | Path, cells: pd.Series, codebook: Codebook) -> np.ndarray:
    """Return a column's classes as numbers, -1 for none; raises UserError for another cell."""
    numbers = {cell: parse_label(cell, codebook) for cell in cells.unique()}
    for row, cell in cells.items():
        if numbers[cell] is None:
            raise UserError(
                f"{path}, row {row}: {cells.name} {cell!r}: the classes of {codebook.path} are "
                f"{codebook.choices}; correct the cell, or put the file's own codebook beside it "
                f"as {CODEBOOK_FILE}"
            )
    return cells.map(numbers).to_numpy(int)
