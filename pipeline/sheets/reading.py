"""Reading spreadsheets as people have them: .xlsx, .xls, .ods and .csv."""

import datetime
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.common.cli import UserError
from pipeline.common.tables import parse_csv
from pipeline.sheets.encoding import decode

SAVE_AGAIN = "open it in a spreadsheet program and save it as .xlsx"


def read_sheet(path: str | Path, sheet: str = "", encoding: str = "") -> dict[int, list[Any]]:
    """Return row number -> cells from column A on, "" where a cell is empty; blank rows are [].

    Cells keep their types (str, float, bool, date, ...). Cells with an error (#N/A) or a formula
    that was never computed count as empty; see `texts_of_formulas`. `sheet` is a name; the first
    visible sheet by default. `encoding` is that of a .csv, which is found out by default.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} not found: put your spreadsheet there, or give another --excel-file"
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes): {SAVE_AGAIN}")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _read_csv_cells(path, encoding)
    rows = _read_cells(path, sheet)
    return {
        n: row if any(cell != "" for cell in row) else [] for n, row in enumerate(rows, start=1)
    }


def _read_cells(path: Path, sheet: str) -> list[list[Any]]:
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
        return workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except calamine.CalamineError as error:
        if path.suffix.lower() == ".xlsx":
            return _read_with_openpyxl(path, sheet)
        raise UserError(
            f"{path} cannot be read as a spreadsheet ({error}): {SAVE_AGAIN}"
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which has no class to be caught by
            raise
        raise UserError(f"{path} is broken ({error}): {SAVE_AGAIN}") from error


def _read_with_openpyxl(path: Path, sheet: str) -> list[list[Any]]:
    from openpyxl.utils.escape import unescape

    def value(cell: Any) -> Any:
        if cell.value is None or cell.data_type == "e":
            return ""
        return unescape(cell.value) if isinstance(cell.value, str) else cell.value

    with _worksheet(path, sheet, data_only=True) as rows:
        return [[value(cell) for cell in row] for row in rows.iter_rows()]


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


def texts_of_formulas(
    path: str | Path, sheet: str, column: int, header_row: int, known: Collection[int]
) -> dict[int, str]:
    """Return row -> formula of the cells in `column` of an .xlsx that hold one without a value.

    Spreadsheet programs take a comment that begins with "=" for a formula; the comment is then all
    that the cell holds. Rows up to `header_row` and those of `known` texts are passed over. Raises
    UserError where a cell holds an error such as #NAME?, whose text is lost.
    """
    path, texts = Path(path), {}
    if path.suffix.lower() != ".xlsx" or not _holds_formulas(path):
        return texts
    with _worksheet(path, sheet, data_only=False) as cells:
        lines = cells.iter_rows(min_row=header_row + 1, min_col=column + 1, max_col=column + 1)
        for number, (cell, *_) in enumerate(lines, start=header_row + 1):
            if number not in known and cell.data_type == "e":
                raise UserError(
                    f"{path}, row {number}: column {column_letter(column)} holds {cell.value} and "
                    "no text: type the comment again, or clear the cell"
                )
            if number not in known and cell.data_type == "f":
                texts[number] = str(cell.value)
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


def _read_csv_cells(path: Path, encoding: str) -> dict[int, list[str]]:
    text = decode(path, path.read_bytes(), encoding)
    names = re.match(r"[\r\n]*([^\r\n]*)", text)[1]
    return parse_csv(path, text, max(",;\t", key=names.count), SAVE_AGAIN)


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


def find_column(path: str | Path, header: list[str], wanted: str) -> int:
    """Return the index of a column given by its name or, failing that, by its letter."""
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
        "names, delete its row)"
    )
