"""Reading spreadsheets as people have them: .xlsx, .xls, .ods and .csv."""

import csv
import datetime
import io
from pathlib import Path
from typing import Any

from pipeline.cli import UserError

SAVE_AGAIN = "open it in a spreadsheet program and save it as .xlsx"


def read_sheet(path: str | Path, sheet: str = "") -> list[list[Any]]:
    """Return the cells of a sheet row by row, from cell A1, "" where a cell is empty.

    Cells keep their types (str, float, bool, date, ...). Cells with an error (#N/A) or a formula
    that was never computed count as empty. `sheet` is a name; the first sheet by default.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} not found: put your spreadsheet there, or give another --excel-file"
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes): {SAVE_AGAIN}")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _read_csv_cells(path)
    try:
        import python_calamine
    except ImportError:
        return _read_with_openpyxl(path, sheet)
    try:
        workbook = python_calamine.CalamineWorkbook.from_path(path)
        name = _choose_sheet(path, workbook.sheet_names, sheet)
        return workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except python_calamine.CalamineError as error:
        if path.suffix.lower() == ".xlsx":
            return _read_with_openpyxl(path, sheet)
        raise UserError(
            f"{path} cannot be read as a spreadsheet ({error}): {SAVE_AGAIN}"
        ) from error


def _read_with_openpyxl(path: Path, sheet: str) -> list[list[Any]]:
    from zipfile import BadZipFile

    import openpyxl
    from openpyxl.utils.escape import unescape
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        rows = workbook[_choose_sheet(path, workbook.sheetnames, sheet)].iter_rows()
        return [
            [
                ""
                if cell.value is None or cell.data_type == "e"
                else unescape(cell.value)
                if isinstance(cell.value, str)
                else cell.value
                for cell in row
            ]
            for row in rows
        ]
    except (InvalidFileException, BadZipFile, KeyError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a spreadsheet ({error}): {SAVE_AGAIN}"
        ) from error


def _choose_sheet(path: Path, names: list[str], wanted: str) -> str:
    if wanted and wanted not in names:
        raise UserError(f"{path} has no sheet {wanted!r} (it has {', '.join(map(repr, names))})")
    return wanted or names[0]


def _read_csv_cells(path: Path) -> list[list[str]]:
    """Read UTF-8, UTF-16 (Excel's "Unicode text") or GB18030 (Chinese Excel's "CSV")."""
    data = path.read_bytes()
    encodings = ["utf-16"] if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise UserError(f"{path} is neither UTF-8 nor GB18030: save it as 'CSV UTF-8'")
    print(f"{path} is read as {encoding}")
    first_line = text[: text.find("\n") if "\n" in text else None]
    delimiter = max(",;\t", key=first_line.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        for cells in reader:
            if rows and any(cells[len(rows[0]) :]):
                raise UserError(
                    f"{path}, row {len(rows) + 1}: {len(cells)} cells under {len(rows[0])} column "
                    f"names, so that some text stands outside its quotes: {SAVE_AGAIN}"
                )
            rows.append(cells)
    except csv.Error as error:
        raise UserError(f"{path}, row {len(rows) + 1}: {error}: {SAVE_AGAIN}") from error
    return rows


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
    listed = ", ".join(f"{letter} {name!r}" for letter, name in zip(letters, header, strict=True))
    raise UserError(f"{path} has no column {wanted!r}: it has {listed}")
