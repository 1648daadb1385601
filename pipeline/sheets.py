"""Spreadsheets for people to code in, and what they coded read back."""

from pathlib import Path

import pandas as pd

from pipeline.cli import UserError
from pipeline.codebook import Codebook, parse_label
from pipeline.files import clean_text, replacing
from pipeline.spreadsheet import cell_text, find_column, read_sheet

SHEET = "comments"
LONGEST_CELL = 32_767  # characters; Excel's limit
WIDE, NARROW = 80, 18  # characters


def write_sheet(frame: pd.DataFrame, codebook: Codebook, fill_in: str, path: str | Path) -> None:
    """Write an .xlsx with a row per comment, and a drop-down of the class names in `fill_in`.

    `fill_in` may be "" for none. The codebook is on a second sheet. Text is stored as text, also
    where it looks like a formula. Raises UserError for a text that no cell can hold.
    """
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    book = Workbook()
    sheet, rules = book.active, book.create_sheet("codebook")
    sheet.title = SHEET
    for column, name in enumerate(frame.columns, start=1):
        letter = get_column_letter(column)
        sheet.column_dimensions[letter].width = WIDE if name == "message" else NARROW
        for row, value in enumerate([name, *frame[name]], start=1):
            if isinstance(value, str) and len(value) > LONGEST_CELL:
                raise UserError(
                    f"{path}: the message of {frame['custom_id'].iloc[row - 2]} has {len(value):,} "
                    f"characters and a cell holds {LONGEST_CELL:,}: shorten it in the spreadsheet"
                )
            cell = sheet.cell(row, column, None if value == "" else value)
            cell.alignment = Alignment(wrap_text=name == "message", vertical="top")
            if isinstance(value, str) and value:
                cell.data_type, cell.number_format, cell.quotePrefix = "s", "@", True
        sheet.cell(1, column).font = Font(bold=True)
    sheet.freeze_panes = "A2"
    lines = ["class", *codebook.names, "", *codebook.text.splitlines()]
    for row, line in enumerate(lines, start=1):
        cell = rules.cell(row, 1, line)
        cell.data_type, cell.alignment = "s", Alignment(wrap_text=True, vertical="top")
    rules["A1"].font = Font(bold=True)
    rules.column_dimensions["A"].width = WIDE
    if fill_in and len(frame):
        letter = get_column_letter(frame.columns.get_loc(fill_in) + 1)
        sheet.add_data_validation(drop_down(codebook, f"{letter}2:{letter}{len(frame) + 1}"))
    with replacing(path) as scratch:
        book.save(scratch)
    print(f"wrote {path}: {len(frame):,} rows")


def drop_down(codebook: Codebook, cells: str):
    """Return a validation of cells by the class names on the codebook's sheet."""
    from openpyxl.worksheet.datavalidation import DataValidation

    choice = DataValidation(
        type="list", formula1=f"codebook!$A$2:$A${len(codebook.names) + 1}", allow_blank=True
    )
    choice.errorTitle, choice.error = "No class", f"Choose one of {', '.join(codebook.names)}"[:255]
    choice.showErrorMessage = True
    choice.add(cells)
    return choice


def read_filled_in(
    path: str | Path, codebook: Codebook, column: str, cure: str = "check the path"
) -> dict[str, int]:
    """Return custom_id -> class of a sheet that people filled in, by number or name, -1 for blank.

    Raises UserError for a cell that is no class, and for an id that stands there twice.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} not found: {cure}")
    rows = {number: cells for number, cells in read_sheet(path, SHEET).items() if cells}
    if not rows:
        raise UserError(f"{path} is empty: put the sheet back that human_check.py wrote")
    header = [clean_text(cell_text(cell)) for cell in rows.pop(next(iter(rows)))]
    key, value = find_column(path, header, "custom_id"), find_column(path, header, column)
    labels: dict[str, int] = {}
    for number, cells in rows.items():
        cells = [clean_text(cell_text(cell)) for cell in cells] + [""] * len(header)
        label = parse_label(cells[value], codebook)
        if label is None:
            raise UserError(
                f"{path}, row {number}: {column} {cells[value]!r} is no class (0 to "
                f"{len(codebook.names) - 1}, or {', '.join(codebook.names)}): correct the cell"
            )
        if cells[key] in labels:
            raise UserError(
                f"{path}, row {number}: custom_id {cells[key]!r} stands there twice: remove a row"
            )
        labels[cells[key]] = label
    return labels
