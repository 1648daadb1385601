"""A sheet of comments: its rows, the messages in them, and the classes that people gave."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.files import clean_text
from pipeline.common.rows import row_numbers
from pipeline.sheets.reading import (
    cell_text,
    column_letter,
    find_column,
    read_sheet,
    texts_of_formulas,
)


@dataclass(frozen=True)
class CommentSheet:
    """A sheet whose first row that holds anything names the columns.

    `rows` maps the spreadsheet's row numbers to cells, in order and without blank rows; `text` is
    the index of the comments' column. `blank` and `formulas` are the numbers of blank rows and of
    comments that the spreadsheet program took for formulas.
    """

    path: str | Path
    header: list[str]
    rows: dict[int, list[Any]]
    text: int
    blank: list[int]
    formulas: list[int]

    def table(self) -> pd.DataFrame:
        """Return every column as text on one line."""
        cells = [
            [clean_text(cell_text(cell)) for cell in row[: len(self.header)]]
            for row in self.rows.values()
        ]
        return pd.DataFrame(cells, columns=self.header)


def read_comment_sheet(path: str | Path, sheet: str, text_column: str) -> CommentSheet:
    """Read a sheet whose comments stand in `text_column`, a name or a letter.

    A column without a name goes by its letter. Raises UserError for a sheet without rows, a column
    that is not there, and comments that are not text.
    """
    rows = read_sheet(path, sheet)
    first = next((number for number, row in rows.items() if row), None)
    below = {number: row for number, row in rows.items() if first is not None and number > first}
    if not below:
        raise UserError(f"{path} has no rows of data: check the file and --sheet")
    names = [clean_text(cell_text(cell)) for cell in rows[first]]
    header = [name or column_letter(index) for index, name in enumerate(names)]
    filled = {number: row + [""] * (len(header) - len(row)) for number, row in below.items() if row}
    print(f"read {path}: {len(below):,} rows below the column names")
    text = find_column(path, header, text_column)
    _refuse_cells_that_are_no_text(path, header[text], filled, text)
    known = {row for row, cells in filled.items() if clean_text(cell_text(cells[text]))}
    formulas = texts_of_formulas(path, sheet, text, first, known)
    for number, formula in formulas.items():
        filled.setdefault(number, [""] * len(header))[text] = formula
    blank = [number for number in below if number not in filled]
    return CommentSheet(path, header, dict(sorted(filled.items())), text, blank, list(formulas))


def _refuse_cells_that_are_no_text(
    path: str | Path, name: str, rows: dict[int, list[Any]], column: int
) -> None:
    """Stop at dates and the like, whose text the spreadsheet has lost; numbers are text enough."""
    kinds = (bool, datetime.date, datetime.time, datetime.timedelta)
    wrong = [number for number, row in rows.items() if isinstance(row[column], kinds)]
    if wrong:
        cell = rows[wrong[0]][column]
        raise UserError(
            f"{path}, row {wrong[0]}: column {name!r} holds {cell_text(cell)!r}, which the "
            f"spreadsheet keeps as a {type(cell).__name__} and not as text: format the column as "
            f"text and type the comment again{row_numbers(wrong)}"
        )


def build_messages(sheet: CommentSheet, user_column: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the `custom_id,message,class` table and what was counted on the way.

    With `user_column`, a name or a letter, messages read "user: comment".
    """
    user = find_column(sheet.path, sheet.header, user_column) if user_column else -1
    cleaned, numbers, empty, messages = 0, 0, [], []
    for number, row in sheet.rows.items():
        raw = cell_text(row[sheet.text])
        message = clean_text(raw)
        if not message:
            empty.append(number)
            continue
        cleaned += message != raw.strip()
        numbers += not isinstance(row[sheet.text], str)
        if user >= 0 and (name := clean_text(cell_text(row[user]))):
            message = f"{name}: {message}"
        messages.append((f"row-{number}", message, -1))
    counts = {
        f"empty comments left out{row_numbers(empty)}": len(empty),
        "messages cleaned of line breaks or control characters": cleaned,
        "numbers read as text": numbers,
    }
    return pd.DataFrame(messages, columns=["custom_id", "message", "class"]), counts


def read_labels(
    sheet: CommentSheet, label_column: str, messages: pd.DataFrame, codebook: Codebook
) -> list[int]:
    """Return the class that people gave each message, by number or by name, -1 if none."""
    column = find_column(sheet.path, sheet.header, label_column)
    labels = []
    for custom_id in messages["custom_id"]:
        number = int(custom_id.removeprefix("row-"))
        cell = clean_text(cell_text(sheet.rows[number][column]))
        label = parse_label(cell, codebook)
        if label is None:
            raise UserError(
                f"{sheet.path}, row {number}: label {cell!r} is no class of {codebook.path} "
                f"({codebook.choices}): correct the cell"
            )
        labels.append(label)
    return labels
