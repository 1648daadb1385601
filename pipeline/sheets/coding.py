"""Spreadsheets for people to code in, and what they coded read back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.files import clean_text, replacing
from pipeline.sheets.reading import cell_text, find_column, read_sheet

LONGEST_CELL = 32_767  # characters; Excel's limit
WIDE, NARROW = 80, 18  # characters


def write_sheet(frame: pd.DataFrame, codebook: Codebook, fill_in: str, path: str | Path) -> None:
    """Write an .xlsx with a row per comment, and a drop-down of the class names in `fill_in`.

    `fill_in` may be "" for none. The codebook is on a second sheet. Text is stored as text, also
    where it looks like a formula. Raises UserError for a text that no cell can hold.
    """
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = "comments"
    _write_table(book.active, frame, path)
    _write_codebook(book.create_sheet("codebook"), codebook)
    if fill_in and len(frame):
        _add_drop_down(book.active, codebook, frame.columns.get_loc(fill_in) + 1, len(frame) + 1)
    _save(book, path)
    print(f"wrote {path}: {len(frame):,} rows")


def _write_table(sheet: Any, frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table with its column names into a sheet; `path` is for the error message."""
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    for column, name in enumerate(frame.columns, start=1):
        width = WIDE if name == "message" else NARROW
        sheet.column_dimensions[get_column_letter(column)].width = width
        for row, value in enumerate([name, *frame[name]], start=1):
            if isinstance(value, str) and len(value) > LONGEST_CELL:
                raise UserError(
                    f"{path}: the message of {frame['custom_id'].iloc[row - 2]} has {len(value):,} "
                    f"characters and a cell holds {LONGEST_CELL:,}: shorten it in the spreadsheet"
                )
            _put(sheet.cell(row, column), value, wrap=name == "message")
        sheet.cell(1, column).font = Font(bold=True)
    sheet.freeze_panes = "A2"


def _write_codebook(sheet: Any, codebook: Codebook) -> None:
    """Write the class names, which the drop-downs refer to, and the codebook below them."""
    from openpyxl.styles import Alignment, Font

    lines = ["class", *codebook.names, "", *codebook.text.splitlines()]
    for row, line in enumerate(lines, start=1):
        cell = sheet.cell(row, 1, line)
        cell.data_type, cell.alignment = "s", Alignment(wrap_text=True, vertical="top")
    sheet["A1"].font = Font(bold=True)
    sheet.column_dimensions["A"].width = WIDE


def update_sheet(frame: pd.DataFrame, codebook: Codebook, fill_in: str, path: Path) -> None:
    """Bring a sheet up to date with `frame`, or write it; what people wrote into it stays.

    Rows are known by custom_id: those of the sheet get the frame's values in all columns but
    `fill_in`, the others are added below.
    """
    from openpyxl import load_workbook

    if not path.is_file():
        write_sheet(frame, codebook, fill_in, path)
        return
    book = load_workbook(path)
    sheet = book.worksheets[0]
    header = next(cells for cells in sheet.iter_rows() if any(cell.value for cell in cells))
    places = {clean_text(cell_text(cell.value or "")): cell.column for cell in header}
    rows = {}
    for number in range(header[0].row + 1, sheet.max_row + 1):
        rows[clean_text(cell_text(sheet.cell(number, places["custom_id"]).value or ""))] = number
    bottom, changed = sheet.max_row, False
    for record in frame.to_dict("records"):
        row = rows.get(record["custom_id"])
        if row is None:
            row = bottom = bottom + 1
        for name, value in record.items():
            cell = sheet.cell(row, places[name]) if name in places else None
            if cell is not None and name != fill_in and cell_text(cell.value or "") != value:
                _put(cell, value, wrap=name == "message")
                changed = True
    if changed:
        sheet.data_validations.dataValidation.clear()
        _add_drop_down(sheet, codebook, places[fill_in], bottom)
        _save(book, path)
        print(f"brought {path} up to date")


def _put(cell: Any, value: Any, wrap: bool) -> None:
    """Set a cell; text stays text, and "" is an empty cell."""
    from openpyxl.styles import Alignment

    cell.value = None if value == "" else value
    cell.alignment = Alignment(wrap_text=wrap, vertical="top")
    if isinstance(value, str) and value:
        cell.data_type, cell.number_format, cell.quotePrefix = "s", "@", True


def _add_drop_down(sheet: Any, codebook: Codebook, column: int, bottom: int) -> None:
    """Let a column's cells down to the row `bottom` be chosen from the codebook sheet's names.

    It warns and does not forbid: class numbers are read as well as names.
    """
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    choice = DataValidation(
        type="list", formula1=f"codebook!$A$2:$A${len(codebook.names) + 1}", allow_blank=True
    )
    choice.errorStyle = "warning"
    choice.errorTitle, choice.error = "No class", f"Choose one of {', '.join(codebook.names)}"[:255]
    choice.showErrorMessage = True
    letter = get_column_letter(column)
    choice.add(f"{letter}2:{letter}{bottom}")
    sheet.add_data_validation(choice)


def _save(book: Any, path: str | Path) -> None:
    with replacing(path) as scratch:
        book.save(scratch)


def read_filled_in(
    path: str | Path, codebook: Codebook, column: str, messages: Mapping[str, str], cure: str
) -> dict[str, int]:
    """Return custom_id -> class of a sheet that people filled in, by number or name, -1 for blank.

    `messages` maps the ids that may stand there to their comments. Raises UserError for a cell that
    is no class, an id that stands there twice or is another's, and a comment beside the id of
    another one, as sorting a single column leaves it; with `cure` where there is no file or an
    empty one.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} not found: {cure}")
    header, rows = _read_table(path)
    if not header:
        raise UserError(f"{path} is empty: {cure}")
    for name in ("custom_id", column):
        if header.count(name) > 1:
            raise UserError(f"{path} has two columns {name!r}: remove one")
    key, value = find_column(path, header, "custom_id"), find_column(path, header, column)
    text = header.index("message") if "message" in header else -1
    labels: dict[str, int] = {}
    for number, cells in rows.items():
        label = parse_label(cells[value], codebook)
        if not cells[key] and label == -1:
            continue  # a remark below the table
        if label is None:
            raise UserError(
                f"{path}, row {number}: {column} {cells[value]!r} is no class "
                f"({codebook.choices}): correct the cell"
            )
        if cells[key] in labels:
            raise UserError(
                f"{path}, row {number}: custom_id {cells[key]!r} stands there twice: remove a row"
            )
        if cells[key] not in messages:
            raise UserError(
                f"{path}, row {number}: custom_id {cells[key]!r} is not one of the sheet's: put "
                "back the id that stood there, or clear the row"
            )
        if text >= 0 and without_space(cells[text]) != without_space(messages[cells[key]]):
            raise UserError(
                f"{path}, row {number}: the comment is not that of {cells[key]}: the sheet belongs "
                "to other data, or one column was sorted without the others"
            )
        labels[cells[key]] = label
    return labels


def is_filled_in(path: Path, column: str) -> bool:
    """Return whether anybody wrote into a column of a sheet."""
    header, rows = _read_table(path)
    if not header:
        return False
    place = find_column(path, header, column)
    return any(cells[place] for cells in rows.values())


def count_blank(path: Path, column: str) -> int:
    """Return how many of a sheet's comments have nothing in a column."""
    header, rows = _read_table(path)
    key, place = (find_column(path, header, name) for name in ("custom_id", column))
    return sum(bool(cells[key]) and not cells[place] for cells in rows.values())


def _read_table(path: str | Path) -> tuple[list[str], dict[int, list[str]]]:
    """Return a sheet's column names, and row number -> cells as text, "" where one is missing."""
    rows = {
        number: [clean_text(cell_text(cell)) for cell in cells]
        for number, cells in read_sheet(path).items()
        if cells
    }
    if not rows:
        return [], {}
    header = rows.pop(next(iter(rows)))
    blanks = [""] * len(header)
    return header, {number: cells + blanks for number, cells in rows.items()}


def without_space(text: str) -> str:
    """Return a text without its white space, which spreadsheet programs change."""
    return "".join(clean_text(text).split())
