"""Reading spreadsheets as people have them: .xlsx, .xls, .ods and .csv."""

import datetime
import re
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from pipeline.common.cli import UserError
from pipeline.common.files import clean_text
from pipeline.common.tables import csv_rows
from pipeline.sheets.encoding import find_encoding
from pipeline.sheets.large_xlsx import Formula, LargeSheet, Lost, Row
from pipeline.sheets.protection import refuse_password
from pipeline.sheets.xlsx_parts import Book, read_book

XLSX = (".xlsx", ".xlsm")
LARGE = 2**26  # bytes of XML; calamine and the cells that it gives take several times as many
SAVE_AGAIN = "open it in a spreadsheet program and save it as .xlsx"


@dataclass(frozen=True)
class Sheet:
    """A sheet whose rows can be read, from the first one on, as often as they are wanted.

    `rows(formulas_in)` yields row number -> cells from column A on, "" where a cell is empty; blank
    rows are []. Cells keep their types (str, float, bool, date, ...). Cells with an error (#N/A) or
    a formula that was never computed count as empty, but for those of the column `formulas_in`,
    which are a `Lost` or a `Formula`; -1 is no column. `name` is that of a sheet of a workbook,
    `encoding` that of a .csv, and `stamp` the `stamp_of` the file as it was opened.
    """

    path: Path
    rows: Callable[[int], Iterator[Row]]
    name: str = ""
    encoding: str = ""
    stamp: tuple[int, ...] = ()


@contextmanager
def open_sheet(path: str | Path, sheet: str = "", encoding: str = "") -> Iterator[Sheet]:
    """Yield a sheet of a file, and print its name where there are several.

    `sheet` is a name; the first visible sheet by default. `encoding` is that of a .csv, which is
    found out by default. A .csv and a large .xlsx are read row by row, other files whole.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} not found: put your spreadsheet there, or give another --excel-file"
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes): {SAVE_AGAIN}")
    stamp = stamp_of(path)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        encoding = find_encoding(path, encoding)
        yield Sheet(path, partial(_csv_rows, path, encoding), "", encoding, stamp)
        return
    refuse_password(path)
    book = read_book(path)
    if book and book.size > LARGE:
        name = _choose_sheet(path, book.visible, list(book.sheets), sheet)
        with TemporaryFile() as scratch:
            yield Sheet(path, _large_rows(book, name, scratch), name, "", stamp)
    else:
        name, cells = _read_cells(path, sheet)
        yield Sheet(path, partial(_rows_of, path, name, cells), name, "", stamp)


def stamp_of(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written again: its size and time; () where it is gone."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return ()
    return state.st_size, state.st_mtime_ns


def read_sheet(path: str | Path, sheet: str = "") -> dict[int, list[Any]]:
    """Return all rows of a sheet, see `Sheet.rows`."""
    with open_sheet(path, sheet) as opened:
        return dict(opened.rows(-1))


def _csv_rows(path: Path, encoding: str, formulas_in: int) -> Iterator[Row]:
    delimiter = csv_delimiter(path, encoding)
    with path.open(encoding=encoding, newline="") as file:
        lines = chain([next(file, "").removeprefix("\ufeff")], file)
        yield from csv_rows(path, lines, delimiter, SAVE_AGAIN)


def csv_delimiter(path: Path, encoding: str) -> str:
    """Return what stands between the cells of a .csv, as its first line with any text shows."""
    with path.open(encoding=encoding) as lines:
        names = next((line for line in lines if line.strip("\ufeff\n")), "")
    return max(",;\t", key=names.count)


def _large_rows(book: Book, name: str, scratch: BinaryIO) -> Callable[[int], Iterator[Row]]:
    """Return the `rows` of a sheet of a large .xlsx: as they come, or from calamine."""
    unreadable = (ValueError, zipfile.BadZipFile, zlib.error)  # NotAsWritten is a ValueError
    try:
        large = LargeSheet(book, name, scratch)
    except unreadable:
        return partial(_rows_of, book.path, *_read_cells(book.path, name))

    def rows(formulas_in: int) -> Iterator[Row]:
        read = 0
        try:
            for read, cells in large.rows(formulas_in):
                yield read, cells
        except unreadable:
            whole = _rows_of(book.path, *_read_cells(book.path, name), formulas_in)
            yield from islice(whole, read, None)

    return rows


def _rows_of(path: Path, name: str, cells: list[list[Any]], formulas_in: int) -> Iterator[Row]:
    """Yield the rows of a sheet that was read whole, with the formulas of a column."""
    formulas = {}
    if formulas_in >= 0:
        known = {n for n, row in enumerate(cells, 1) if clean_text(cell_text(row[formulas_in]))}
        formulas = _formulas(path, name, formulas_in, known)
    width = len(cells[0]) if cells else 0
    for number in range(1, max([len(cells), *formulas]) + 1):
        row = cells[number - 1] if number <= len(cells) else []
        if number in formulas:
            row = row + [""] * (width - len(row))
            row[formulas_in] = formulas[number]
        yield number, row if any(cell != "" for cell in row) else []


def _read_cells(path: Path, sheet: str) -> tuple[str, list[list[Any]]]:
    """Return a sheet's name and all its rows."""
    try:
        import python_calamine as calamine
    except ImportError:
        return _read_with_openpyxl(path, sheet)
    try:
        with path.open("rb") as data:  # by content: an .xlsx may be called .xls
            workbook = calamine.CalamineWorkbook.from_filelike(data)
        names = [
            metadata.name
            for metadata in workbook.sheets_metadata
            if metadata.typ == calamine.SheetTypeEnum.WorkSheet
            and metadata.visible == calamine.SheetVisibleEnum.Visible
        ]
        name = _choose_sheet(path, names, workbook.sheet_names, sheet)
        return name, workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except calamine.CalamineError as error:
        if path.suffix.lower() in XLSX:
            return _read_with_openpyxl(path, sheet)
        raise UserError(
            f"{path} cannot be read as a spreadsheet ({error}): {SAVE_AGAIN}"
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which has no class to be caught by
            raise
        raise UserError(f"{path} is broken ({error}): {SAVE_AGAIN}") from error


def _read_with_openpyxl(path: Path, sheet: str) -> tuple[str, list[list[Any]]]:
    from openpyxl.utils.escape import unescape

    def value(cell: Any) -> Any:
        if cell.value is None or cell.data_type == "e":
            return ""
        return unescape(cell.value) if isinstance(cell.value, str) else cell.value

    with _worksheet(path, sheet, data_only=True) as rows:
        return rows.title, [[value(cell) for cell in row] for row in rows.iter_rows()]


@contextmanager
def _worksheet(path: Path, sheet: str, data_only: bool) -> Iterator[Any]:
    """Yield an openpyxl worksheet; `data_only` shows values in place of formulas."""
    import openpyxl

    with _broken_refused(path):
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=data_only)
        shown = [s.title for s in workbook.worksheets if s.sheet_state == "visible"]
        name = _choose_sheet(path, shown, [s.title for s in workbook.worksheets], sheet)
        yield workbook[name]


@contextmanager
def _broken_refused(path: Path) -> Iterator[None]:
    """Turn what zipfile and openpyxl raise of a broken .xlsx into one line."""
    from xml.etree.ElementTree import ParseError

    from openpyxl.utils.exceptions import InvalidFileException

    broken = (InvalidFileException, zipfile.BadZipFile, zlib.error, ParseError, EOFError)
    try:
        yield
    except (*broken, LookupError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a spreadsheet ({error}): {SAVE_AGAIN}"
        ) from error


def _formulas(path: Path, sheet: str, column: int, known: Container[int]) -> dict[int, str]:
    """Return row number -> a `Formula` or a `Lost`, which cells of an .xlsx hold without a value.

    Spreadsheet programs take a comment that begins with "=" for a formula; the comment is then all
    that the cell holds. The rows of `known` texts are passed over.
    """
    texts: dict[int, str] = {}
    if path.suffix.lower() not in XLSX or not _holds_formulas(path):
        return texts
    with _worksheet(path, sheet, data_only=False) as cells:
        lines = cells.iter_rows(min_col=column + 1, max_col=column + 1)
        for number, (cell, *_) in enumerate(lines, start=1):
            if cell.data_type in ("f", "e") and number not in known:
                texts[number] = (Formula if cell.data_type == "f" else Lost)(str(cell.value))
    return texts


def _holds_formulas(path: Path) -> bool:
    """Return whether any sheet of an .xlsx has a formula or an error: far quicker than a parser."""
    if not zipfile.is_zipfile(path):
        return False
    with _broken_refused(path), zipfile.ZipFile(path) as book:
        sheets = [name for name in book.namelist() if name.startswith("xl/worksheets/")]
        return any(re.search(rb'<f[ />]|t="e"', book.read(name)) for name in sheets)


def _choose_sheet(path: Path, visible: list[str], names: list[str], wanted: str) -> str:
    """Return the wanted sheet's name, or the first visible one, and name the others."""
    if wanted and wanted not in names:
        raise UserError(f"{path} has no sheet {wanted!r} (it has {', '.join(map(repr, names))})")
    chosen = wanted or (visible or names or [""])[0]
    if not chosen:
        raise UserError(f"{path} has no sheet with cells: {SAVE_AGAIN}")
    if len(names) > 1 and not wanted:
        print(f"sheet {chosen!r} of {', '.join(map(repr, names))}")
    return chosen


def cell_text(cell: Any) -> str:
    """Return a cell as the sheet shows it: 666.0 is "666", a date is ISO, True is "TRUE"."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(sep=" ")
    return str(cell)


def column_letter(index: int) -> str:
    """Return the spreadsheet's letter of a column: 0 is A, 25 is Z, 26 is AA."""
    letters = ""
    while index >= 0:
        letters = chr(ord("A") + index % 26) + letters
        index = index // 26 - 1
    return letters


def find_column(path: str | Path, header: list[str], wanted: str, cure: str = "") -> int:
    """Return the index of a column given by its name or, failing that, by its letter.

    `cure` is what else may mend that it is not there.
    """
    if wanted in header:
        if header.count(wanted) > 1:
            raise UserError(
                f"{path} has two columns {wanted!r}: give the column's letter, such as B"
            )
        return header.index(wanted)
    letters = [column_letter(index) for index in range(len(header))]
    if wanted.upper() in letters:
        return letters.index(wanted.upper())
    columns = ", ".join(f"{letter} {name!r}" for letter, name in zip(letters, header, strict=True))
    raise UserError(
        f"{path} has no column {wanted!r}: it has {columns} (if that is a title and no column "
        f"names, delete its row{cure})"
    )
