"""CSV files: read as text and checked, whole or in parts; written as every step writes them."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.files import readable, replacing

FORMAT = {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}  # with a byte order mark, for Excel
PART = 20_000  # rows that are in memory at once
FIRST_BYTE, END_BYTE = "first byte", "end byte"  # where a row stands in its file


class CsvWriter:
    """Writes the rows of a CSV file, all at once or in parts, and counts them."""

    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        self._out = out
        self._writer = csv.writer(out, **FORMAT)
        self._writer.writerow(columns)
        self.count = 0

    def write_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Write rows of cells that are text."""
        self._writer.writerows(rows)
        self.count += len(rows)

    def write_frame(self, frame: pd.DataFrame) -> None:
        """Write the rows of a table that has the file's columns."""
        frame.to_csv(self._out, index=False, header=False, **FORMAT)
        self.count += len(frame)


@contextmanager
def csv_writer(path: str | Path, columns: Sequence[str]) -> Iterator[CsvWriter]:
    """Yield what writes a CSV file in parts; it takes its place when all went well."""
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8-sig", newline="") as out:
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
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number, width = 0, 0
    try:
        for number, cells in enumerate(reader, start=1):
            if not any(cells):
                cells = []
            width = width or len(cells)
            if any(cells[width:]):
                raise UserError(
                    f"{path}, row {number}: {len(cells)} cells under {width} column names: "
                    f"some text stands outside its quotes, or the first row is a title; {cure}"
                )
            yield number, cells
    except csv.Error as error:
        raise UserError(f"{path}, row {number + 1}: {error}; {cure}") from error


class CountedLines:
    """The lines of an open UTF-8 file, and how many bytes were read so far."""

    def __init__(self, file: TextIO, first_byte: int) -> None:
        self._file, self.bytes = file, first_byte

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.bytes += len(line) if line.isascii() else len(line.encode())
            yield line


def read_csv_parts(
    path: str | Path, columns: Sequence[str], made_by: str, with_bytes: bool = False
) -> Iterator[pd.DataFrame]:
    """Yield the tables of `read_csv` in parts of `PART` rows.

    `with_bytes` adds the columns `FIRST_BYTE` and `END_BYTE`, between which a row stands in the
    file.
    """
    again = f"run {made_by} again"
    header: list[str] = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    places: list[tuple[int, int]] = []
    count = blank = 0

    def part() -> pd.DataFrame:
        frame = pd.DataFrame(rows, index=numbers, columns=header, dtype=str)
        if with_bytes:
            frame[[FIRST_BYTE, END_BYTE]] = pd.DataFrame(places, index=numbers, dtype="int64")
        return frame

    with readable(path, f"run {made_by} first"), Path(path).open("rb") as start:
        mark = len(b"\xef\xbb\xbf") if start.read(3) == b"\xef\xbb\xbf" else 0
    with (
        readable(path, f"run {made_by} first"),
        Path(path).open(encoding="utf-8-sig", newline="") as file,
    ):
        lines, before = CountedLines(file, mark), mark
        for number, cells in csv_rows(path, lines, ",", again):
            place, before = (before, lines.bytes), lines.bytes
            if not cells:
                blank += 1
                continue
            if not header:
                header = cells
                _check_header(path, header, columns, made_by)
                continue
            if len(cells) < len(header):
                raise UserError(
                    f"{path}, row {number}: {len(cells)} cells under {len(header)} column names: "
                    f"complete the row, or {again}"
                )
            numbers.append(number)
            rows.append(cells[: len(header)])
            places.append(place)
            if len(rows) == PART:
                yield part()
                count += len(rows)
                numbers, rows, places = [], [], []
    if not header:
        raise UserError(f"{path} is empty: run {made_by} first")
    count += len(rows)
    if not count:
        raise UserError(f"{path} has no rows: run {made_by} first")
    if rows:
        yield part()
    print(f"read {path}: {count:,} rows{f', and {blank:,} blank ones' if blank else ''}")


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
    return pd.concat(read_csv_parts(path, columns, made_by))
