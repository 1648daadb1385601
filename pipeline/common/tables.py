"""CSV files: read as text and checked, whole or in parts; written as every step writes them."""

import csv
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress, islice
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.files import readable, replacing

PART = 20_000  # rows that are in memory at once
FIRST_BYTE, END_BYTE = "first byte", "end byte"  # where a row stands in its file


class CsvWriter:
    """Writes the rows of a CSV file, all at once or in parts, and counts them."""

    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        self._out, self._inner_quotes = out, 2 * len(columns) - 2
        self.count = -1  # the names of the columns are no row
        self.write_rows([columns])

    def write_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Write rows of cells that are text."""
        lines = ['","'.join(cells) for cells in rows]  # a third of the time of csv.writer
        for place, cells in enumerate(rows):
            if lines[place].count('"') != self._inner_quotes:
                lines[place] = '","'.join([cell.replace('"', '""') for cell in cells])
        if lines:
            self._out.write('"' + '"\n"'.join(lines) + '"\n')
        self.count += len(lines)

    def write_frame(self, frame: pd.DataFrame) -> None:
        """Write the rows of a table that has the file's columns."""
        frame.to_csv(
            self._out, index=False, header=False, quoting=csv.QUOTE_ALL, lineterminator="\n"
        )
        self.count += len(frame)


@contextmanager
def csv_writer(path: str | Path, columns: Sequence[str]) -> Iterator[CsvWriter]:
    """Yield what writes a CSV file in parts; it takes its place when all went well."""
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as out:
        out.write("\ufeff")
        writer = CsvWriter(out, columns)
        yield writer
    print(f"wrote {path}: {writer.count:,} rows")


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a CSV file: UTF-8 with a byte order mark, every field quoted, `\\n` line ends."""
    with csv_writer(path, list(frame.columns)) as writer:
        writer.write_frame(frame)


def csv_rows(
    path: str | Path, lines: Iterable[str], delimiter: str, cure: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each row of a CSV file, as a spreadsheet numbers rows.

    Blank rows are []. `lines` are those of the file, with their ends. The first row that holds
    anything names the columns; no row may have more cells than it.
    """
    number, width = 0, 0
    for rows, _ in _batches(path, lines, delimiter, cure):
        for cells in rows:
            number += 1
            cells = cells if any(cells) else []
            width = width or len(cells)
            if len(cells) > width:
                _refuse_cells(path, number, cells, width, cure)
            yield number, cells


def _batches(
    path: str | Path, lines: Iterable[str], delimiter: str, cure: str, with_ends: bool = False
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Yield the cells of up to `PART` rows and, `with_ends`, the line that ends each of them."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    ends: list[int] = []
    count = 0
    try:
        while True:
            if with_ends:
                for cells in islice(reader, PART):
                    rows.append(cells)
                    ends.append(reader.line_num)
            else:
                rows.extend(islice(reader, PART))
            if not rows:
                return
            yield rows, ends
            count += len(rows)
            rows, ends = [], []
    except csv.Error as error:
        yield rows, ends  # what is wrong in the rows before comes first
        raise UserError(f"{path}, row {count + len(rows) + 1}: {error}; {cure}") from error


def _refuse_cells(path: str | Path, number: int, cells: list[str], width: int, cure: str) -> None:
    """Refuse a row that holds anything beyond the columns that have a name."""
    if any(cells[width:]):
        raise UserError(
            f"{path}, row {number}: {len(cells)} cells under {width} column names: "
            f"some text stands outside its quotes, or the first row is a title; {cure}"
        )


class CountedLines:
    """The lines of an open UTF-8 file, and the byte behind each of them."""

    def __init__(self, file: TextIO, first_byte: int) -> None:
        self._file, self.ends, self._forgotten = file, [first_byte], 0

    def __iter__(self) -> Iterator[str]:
        ends = self.ends
        for line in self._file:
            ends.append(ends[-1] + (len(line) if line.isascii() else len(line.encode())))
            yield line

    def places(self, last_lines: list[int], chosen: list[bool]) -> np.ndarray:
        """Return the bytes between which the chosen rows stand, int64 (2, rows), and forget them.

        `last_lines` are the numbers of the lines that end the rows, which follow each other.
        """
        behind = np.array(self.ends)[np.array(last_lines) - self._forgotten]
        first = np.concatenate([self.ends[:1], behind[:-1]])
        self._forgotten = last_lines[-1]
        del self.ends[:-1]
        return np.stack([first, behind])[:, chosen]


def read_csv_parts(
    path: str | Path, columns: Sequence[str], made_by: str, with_bytes: bool = False
) -> Iterator[pd.DataFrame]:
    """Yield the tables of `read_csv` in parts of `PART` rows, the cells being Python's own texts.

    `with_bytes` adds the columns `FIRST_BYTE` and `END_BYTE`, between which a row stands in the
    file.
    """
    again, first = f"run {made_by} again", f"run {made_by} first"
    header: list[str] = []
    before, count, blank = 0, 0, 0
    with readable(path, first), Path(path).open("rb") as start:
        mark = len(BOM_UTF8) if start.read(len(BOM_UTF8)) == BOM_UTF8 else 0
    with readable(path, first), Path(path).open(encoding="utf-8-sig", newline="") as file:
        lines = CountedLines(file, mark)
        source = lines if with_bytes else file
        for rows, ends in _batches(path, source, ",", again, with_bytes):
            numbers = range(before + 1, before + len(rows) + 1)
            before += len(rows)
            filled = list(map(any, rows))
            if not header and True in filled:
                named = filled.index(True)
                header = rows[named]
                _check_header(path, header, columns, made_by)
                filled[named] = False
                blank -= 1
            width = len(header)
            if set(map(len, compress(rows, filled))) - {width}:
                _refuse_rows(path, compress(zip(numbers, rows, strict=True), filled), width, again)
                rows = [cells[:width] for cells in rows]
            kept = list(compress(rows, filled))
            blank += len(rows) - len(kept)
            count += len(kept)
            places = lines.places(ends, filled) if with_bytes and ends else ()
            if kept:
                index = list(compress(numbers, filled))
                part = pd.DataFrame(np.array(kept, object), index, header, dtype=object)
                if with_bytes:
                    part[FIRST_BYTE], part[END_BYTE] = places
                yield part
    if not header:
        raise UserError(f"{path} is empty: {first}")
    if not count:
        raise UserError(f"{path} has no rows: {first}")
    print(f"read {path}: {count:,} rows{f', and {blank:,} blank ones' if blank else ''}")


def _refuse_rows(
    path: str | Path, rows: Iterable[tuple[int, list[str]]], width: int, cure: str
) -> None:
    """Refuse rows (number and cells) of which one has less or more cells than there are columns."""
    for number, cells in rows:
        if len(cells) < width:
            raise UserError(
                f"{path}, row {number}: {len(cells)} cells under {width} column names: "
                f"complete the row, or {cure}"
            )
        _refuse_cells(path, number, cells, width, cure)


def _check_header(
    path: str | Path, header: list[str], columns: Sequence[str], made_by: str
) -> None:
    """Refuse a file that lacks one of `columns`, or has a column twice."""
    missing = [column for column in columns if column not in header]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]!r} (it has {', '.join(map(repr, header))}): "
            f"give a file such as {made_by} writes"
        )
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise UserError(f"{path} has two columns {twice[0]!r}: remove one, or give it another name")


def read_csv(path: str | Path, columns: Sequence[str], made_by: str) -> pd.DataFrame:
    """Read a CSV file as text, and check that it has rows and `columns`, no column twice.

    Every cell is text as it stands: "NA" and "001" stay so. The index holds the rows' numbers in a
    spreadsheet. `made_by` is the script that writes the file, for the error messages.
    """
    return pd.concat(part.astype(str) for part in read_csv_parts(path, columns, made_by))
