"""What a corpus holds, read once before anything is coded: rows, ids, parts, rows that are no text.

A file that was surveyed is not read again as long as it is the same: its survey lies in a folder of
the results, with 8 bytes for each row by which ids that stand twice are found.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.common.cli import UserError
from pipeline.common.files import replacing
from pipeline.common.records import read_record, write_record
from pipeline.corpus.corpus_files import (
    Columns,
    Part,
    Rows,
    cells_of_file,
    cleaned,
    corpus_files,
)

MOST_BYTES = 2**25  # of a part's text: Ray Data divides tables of more than 2**27
AGAIN = "give another --output-dir, by which the corpus is read again"


@dataclass(frozen=True)
class Failure:
    """A row whose message is no text; `row` is the row's number in a spreadsheet, of a .csv."""

    custom_id: str
    row: int
    reason: str


@dataclass(frozen=True)
class Survey:
    """A file of the corpus; `number`, from 1, is the place in which it was taken in.

    `rows` are those that are not blank: `to_code`, `empty` and `failures` of them.
    """

    number: int
    name: str
    size: int  # bytes
    modified_ns: int
    sha256: str
    rows: int
    to_code: int
    empty: int
    failures: list[Failure]
    parts: list[Part]


def survey_corpus(
    folder: str, columns: Columns, state: Path, rows_per_part: int
) -> tuple[list[Survey], int]:
    """Return the surveys of all files of a corpus, and how many of them are new.

    Those of new files are written into the folder `state` when no id stands twice. Raises UserError
    for a file that was taken in and has changed or is gone, an id that is missing or stands twice,
    and a corpus without a message.
    """
    names = corpus_files(folder)
    known = {survey.name: survey for survey in read_surveys(state)}
    if gone := [name for name in known if name not in set(names)]:
        raise UserError(
            f"{Path(folder) / gone[0]} is gone, whose rows are coded: put it back, or {AGAIN}"
        )
    for name, survey in known.items():
        known[name] = _unchanged(Path(folder) / name, survey)
    hashes: dict[str, np.ndarray] = {}
    new = [name for name in names if name not in known]
    told = tqdm(new, "reading", unit=" files", disable=None)
    for number, name in enumerate(told, len(known) + 1):
        known[name], hashes[name] = _survey(folder, name, number, columns, rows_per_part)
    if new:
        before = {name: known[name] for name in names if name not in hashes}
        there = {name: np.load(_ids_file(state, survey)) for name, survey in before.items()}
        _refuse_repeats(folder, columns, there | hashes)
    surveys = sorted(known.values(), key=lambda survey: survey.number)
    if not any(survey.to_code for survey in surveys):
        raise UserError(f"{folder}: column {columns.text!r} holds no text: check --text-column")
    for name in new:
        with replacing(_ids_file(state, known[name])) as scratch, scratch.open("wb") as file:
            np.save(file, hashes[name])
        write_record(known[name], state / f"{known[name].number:06d}.json")
    return surveys, len(new)


def read_surveys(state: Path) -> list[Survey]:
    """Return the surveys of the files that earlier runs have taken in."""
    return [read_record(path, Survey, AGAIN) for path in sorted(state.glob("*.json"))]


def _ids_file(state: Path, survey: Survey) -> Path:
    return state / f"{survey.number:06d}.npy"


def _unchanged(path: Path, survey: Survey) -> Survey:
    """Return the survey of a file, with its new time if it has one; refuse one that has changed."""
    found = path.stat()
    if (found.st_size, found.st_mtime_ns) == (survey.size, survey.modified_ns):
        return survey
    if found.st_size != survey.size or _sha256(path) != survey.sha256:
        raise UserError(
            f"{path} has changed since it was taken in: put it back as it was and new rows into a "
            f"file of their own, or {AGAIN}"
        )
    return replace(survey, modified_ns=found.st_mtime_ns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _survey(
    folder: str, name: str, number: int, columns: Columns, rows_per_part: int
) -> tuple[Survey, np.ndarray]:
    """Return what a file holds, and a number for each of its ids, uint64 (rows that have one,)."""
    path, found = Path(folder) / name, (Path(folder) / name).stat()
    parts: list[Part] = []
    failures: list[Failure] = []
    hashes: list[np.ndarray] = [np.array([], np.uint64)]
    count = to_code = 0
    for cells in cells_of_file(path, columns):
        rows = cleaned(cells.ids, cells.texts)
        for place, custom_id in enumerate(rows.ids):
            if not custom_id and (rows.messages[place] or place in rows.failed):
                raise UserError(
                    f"{path}, row {cells.numbers[place]} has no id in column {columns.id!r}: give "
                    "each row its own, or name another column by --id-column"
                )
        failures += [
            Failure(rows.ids[place], cells.numbers[place], reason)
            for place, reason in rows.failed.items()
        ]
        named = np.array([custom_id for custom_id in rows.ids if custom_id], object)
        hashes.append(pd.util.hash_array(named))
        for low, high in _cuts(rows, rows_per_part):
            if coded := sum(map(bool, rows.messages[low:high])):
                place = (cells.starts[low], cells.ends[high - 1])
                parts.append(Part(count + low, coded, *place))
                to_code += coded
        count += len(rows.ids)
    empty = count - to_code - len(failures)
    survey = Survey(
        number,
        name,
        found.st_size,
        found.st_mtime_ns,
        _sha256(path),
        count,
        to_code,
        empty,
        failures,
        parts,
    )
    return survey, np.concatenate(hashes)


def _cuts(rows: Rows, rows_per_part: int) -> Iterator[tuple[int, int]]:
    """Yield where the parts of some rows begin and end."""
    low = size = 0
    for place, message in enumerate(rows.messages):
        size += len(message.encode())
        if place + 1 - low == rows_per_part or size > MOST_BYTES:
            yield low, place + 1
            low, size = place + 1, 0
    if low < len(rows.messages):
        yield low, len(rows.messages)


def _refuse_repeats(folder: str, columns: Columns, hashes: dict[str, np.ndarray]) -> None:
    """Stop where an id stands twice in the corpus; 8 bytes a row are in memory."""
    together = np.concatenate(list(hashes.values()))
    together.sort()
    for repeated in np.unique(together[1:][together[1:] == together[:-1]]):
        found: dict[str, str] = {}
        for name in (name for name, some in hashes.items() if (some == repeated).any()):
            for cells in cells_of_file(Path(folder) / name, columns):
                rows = cleaned(cells.ids, cells.texts)
                for place in np.flatnonzero(_hashes(rows.ids) == repeated):
                    where = f"{name}, row {cells.numbers[place]}"
                    if first := found.get(rows.ids[place]):
                        raise UserError(
                            f"{folder}: id {rows.ids[place]!r} in column {columns.id!r} stands "
                            f"twice ({first}; {where}): give each row its own, or name another "
                            "column by --id-column"
                        )
                    found[rows.ids[place]] = where


def _hashes(ids: list[str]) -> np.ndarray:
    return pd.util.hash_array(np.array(ids, object))
