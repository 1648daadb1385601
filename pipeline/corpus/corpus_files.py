"""The files of a corpus: .csv (UTF-8) and .parquet, read a part at a time, in any order.

A part is what is coded, written and lost at once: at most `PART` rows of one file that follow each
other. Cells become text and are cleaned as the cells of a spreadsheet are.
"""

import csv
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.cli import UserError
from pipeline.common.files import clean_text
from pipeline.common.tables import END_BYTE, FIRST_BYTE, PART, read_csv_parts
from pipeline.sheets.reading import cell_text, find_column

CSV, PARQUET = KINDS = ".csv", ".parquet"
WRITER = "the program that wrote it"
NOT_UTF8, NO_NUMBER = "not UTF-8", "NaN, not a text"


@dataclass(frozen=True)
class Columns:
    """The columns that are read of a corpus, by name, or by a spreadsheet's letter.

    `mask` hides personal data in the comments from the model, as excel_2_csv.py does.
    """

    id: str
    text: str
    mask: bool = False


@dataclass(frozen=True)
class Part:
    """Rows of a file: `to_code` of them have a message; `first` counts the file's rows from 0.

    `start` and `end` are bytes of a .csv, and rows of a .parquet.
    """

    first: int
    to_code: int
    start: int
    end: int


@dataclass(frozen=True)
class Cells:
    """Rows of a file as they stand: their numbers for people, ids and messages, and their places.

    Row i lies between `starts[i]` and `ends[i]`, see `Part`.
    """

    numbers: list[int]
    ids: list[Any]
    texts: list[Any]
    starts: list[int]
    ends: list[int]


@dataclass(frozen=True)
class Rows:
    """Cleaned rows; what is empty is "", and `failed` says why a message is no text, by place."""

    ids: list[str]
    messages: list[str]
    failed: dict[int, str]

    def to_code(self) -> list[int]:
        """Return the places of the rows that have a message."""
        return [n for n, message in enumerate(self.messages) if message]


def corpus_files(folder: str | Path) -> list[str]:
    """Return the paths of a corpus's files below its folder, sorted, with `/` between folders.

    Files and folders whose name begins with a dot or an underscore are passed over, as the
    programs that write corpora use them for themselves.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the folder of the corpus's .csv or .parquet")
    found = [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.suffix.lower() in KINDS and path.is_file()
    ]
    names = [path.as_posix() for path in found if not any(p[0] in "._" for p in path.parts)]
    if not names:
        raise UserError(f"{folder} holds no .csv and no .parquet: put the corpus's files there")
    return sorted(names)


def _places(path: Path, header: list[str], columns: Columns) -> list[int]:
    """Return where the ids and the comments stand in a file."""
    cure = "; give --id-column the name of the column with the rows' ids"
    return [
        find_column(path, header, columns.id, cure),
        find_column(path, header, columns.text),
    ]


def cells_of_file(path: Path, columns: Columns) -> Iterator[Cells]:
    """Yield all rows of a file, up to `PART` at a time.

    Raises UserError for a file that is broken, lacks a column or whose messages are of a kind that
    is no text, such as dates.
    """
    if path.suffix.lower() == PARQUET:
        with _parquet(path, columns) as (file, id_name, text_name):
            yield from _parquet_cells(file, id_name, text_name, 0, file.metadata.num_rows)
        return
    places: list[int] = []
    for part in _quietly(read_csv_parts(path, [], WRITER, with_bytes=True)):
        header = [str(name) for name in part.columns[:-2]]
        places = places or _places(path, header, columns)
        yield Cells(
            part.index.tolist(),
            part.iloc[:, places[0]].tolist(),
            part.iloc[:, places[1]].tolist(),
            part[FIRST_BYTE].tolist(),
            part[END_BYTE].tolist(),
        )


def _quietly(parts: Iterator[Any]) -> Iterator[Any]:
    """Yield what an iterator yields, without what it prints: a line for each of many files."""
    while True:
        with redirect_stdout(io.StringIO()):
            part = next(parts, None)
        if part is None:
            return
        yield part


def read_part(path: Path, columns: Columns, part: Part) -> Rows:
    """Return the cleaned rows of a part of a file."""
    if path.suffix.lower() == PARQUET:
        with _parquet(path, columns) as (file, id_name, text_name):
            cells = list(_parquet_cells(file, id_name, text_name, part.start, part.end))
        return cleaned(
            [cell for some in cells for cell in some.ids],
            [cell for some in cells for cell in some.texts],
        )
    with path.open("rb") as file:
        header = next(
            row for row in csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline="")) if any(row)
        )
    id_place, text_place = _places(path, header, columns)
    with path.open("rb") as file:
        file.seek(part.start)
        text = file.read(part.end - part.start).decode()
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(row)]
    return cleaned([row[id_place] for row in rows], [row[text_place] for row in rows])


def cleaned(ids: list[Any], texts: list[Any]) -> Rows:
    """Return ids and messages as text on one line.

    None and an id that is no text are "".
    """
    failed: dict[int, str] = {}
    messages = [clean_text(cell) if type(cell) is str else "" for cell in texts]
    for n, cell in enumerate(texts):
        if type(cell) is not str:
            messages[n], reason = _text(cell)
            if reason:
                failed[n] = reason
    return Rows([_text(cell)[0] for cell in ids], messages, failed)


def _text(cell: Any) -> tuple[str, str]:
    """Return a cell as text on one line and ""; where it is no text, "" and the reason."""
    if cell is None:
        return "", ""
    if isinstance(cell, bytes):
        try:
            return clean_text(cell.decode()), ""
        except UnicodeDecodeError:
            return "", NOT_UTF8
    if isinstance(cell, float) and not math.isfinite(cell):
        return "", NO_NUMBER
    return clean_text(cell_text(cell)), ""


@contextmanager
def _parquet(path: Path, columns: Columns) -> Iterator[tuple[Any, str, str]]:
    """Yield an open .parquet and the names of its two columns."""
    import pyarrow as pa
    from pyarrow import parquet, types

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} cannot be read as a .parquet ({error}): write it again") from error
    with file:
        names = file.schema_arrow.names
        id_name, text_name = (names[place] for place in _places(path, names, columns))
        for name in (id_name, text_name):
            kind = file.schema_arrow.field(name).type
            kind = kind.value_type if types.is_dictionary(kind) else kind
            if not any(test(kind) for test in _text_kinds(types)):
                raise UserError(
                    f"{path}: column {name!r} holds {kind}, which is no text: write it as a "
                    "column of strings"
                )
        yield file, id_name, text_name


def _text_kinds(types: Any) -> list[Any]:
    """Return the tests of Arrow's kinds that are text, or numbers, which a sheet shows as text."""
    strings = [types.is_string, types.is_large_string, types.is_string_view, types.is_null]
    binary = [types.is_binary, types.is_large_binary, types.is_fixed_size_binary]
    return [*strings, *binary, types.is_integer, types.is_floating, types.is_decimal]


def _parquet_cells(
    file: Any, id_name: str, text_name: str, start: int, end: int
) -> Iterator[Cells]:
    """Yield the rows from `start` to `end` of an open .parquet, up to `PART` at a time."""
    first = 0  # row of the group
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        at, first = first, first + rows
        if at >= end or first <= start:
            continue
        for batch in file.iter_batches(PART, [group], list({id_name, text_name})):
            low, high = max(start - at, 0), min(end - at, len(batch))
            if low < high:
                part = batch.slice(low, high - low)
                places = range(at + low, at + high)
                yield Cells(
                    [place + 1 for place in places],
                    _values(part[id_name]),
                    _values(part[text_name]),
                    list(places),
                    [place + 1 for place in places],
                )
            at += len(batch)


def _values(column: Any) -> list[Any]:
    """Return a column's cells; where a string is not UTF-8, all of them as bytes."""
    import pyarrow as pa

    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(pa.binary()).to_pylist()
