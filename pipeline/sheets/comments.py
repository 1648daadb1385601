"""A sheet of comments: its rows, the messages in them, and the classes that people gave."""

import datetime
import itertools
import re
from collections import Counter
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

ID = "custom_id"
CUSTOM_ID = "custom_id of the sheet"  # its name in our table where another column gives the ids


@dataclass(frozen=True)
class CommentSheet:
    """A sheet whose first row that holds anything names the columns.

    `rows` maps the spreadsheet's row numbers to cells, in order and without blank rows; `text` is
    the index of the comments' column. `ids` maps the same numbers to `custom_id`. `blank` and
    `formulas` are the numbers of blank rows and of comments that the spreadsheet program took for
    formulas.
    """

    path: str | Path
    header: list[str]
    rows: dict[int, list[Any]]
    text: int
    ids: dict[int, str]
    blank: list[int]
    formulas: list[int]

    def table(self) -> pd.DataFrame:
        """Return custom_id and every other column, as text on one line."""
        cells = [
            [clean_text(cell_text(cell)) for cell in row[: len(self.header)]]
            for row in self.rows.values()
        ]
        table = pd.DataFrame(cells, columns=self.header)
        if ID in self.header:
            own = table[ID].tolist() == list(self.ids.values())
            table = table.drop(columns=ID) if own else table.rename(columns={ID: CUSTOM_ID})
        table.insert(0, ID, list(self.ids.values()))
        return table


def read_comment_sheet(
    path: str | Path, sheet: str, text_column: str, id_column: str = "", encoding: str = ""
) -> CommentSheet:
    """Read a sheet whose comments stand in `text_column`, a name or a letter.

    `id_column` holds the user's own ids; see `_read_ids`. A column without a name goes by its
    letter. Raises UserError for a sheet without rows, a title above the column names, a column that
    is not there, and comments that are not text.
    """
    rows = read_sheet(path, sheet, encoding)
    first = next((number for number, row in rows.items() if row), None)
    below = {number: row for number, row in rows.items() if first is not None and number > first}
    if not below:
        raise UserError(f"{path} has no rows of data: check the file and --sheet")
    names = [clean_text(cell_text(cell)) for cell in rows[first]]
    header = [name or column_letter(index) for index, name in enumerate(names)]
    filled = {number: row + [""] * (len(header) - len(row)) for number, row in below.items() if row}
    print(f"read {path}: {len(below):,} rows below the column names")
    if text_column not in names:
        _refuse_title(path, rows)
    text = find_column(path, header, text_column)
    if text_column not in names:
        print(
            f"row {first} names the columns; the comments are in column {text_column.upper()}, "
            f"{header[text]!r}"
        )
    _refuse_cells_that_are_no_text(path, header[text], filled, text)
    known = {row for row, cells in filled.items() if clean_text(cell_text(cells[text]))}
    formulas = texts_of_formulas(path, sheet, text, first, known)
    for number, formula in formulas.items():
        filled.setdefault(number, [""] * len(header))[text] = formula
    blank = [number for number in below if number not in filled]
    filled = dict(sorted(filled.items()))
    ids = _read_ids(path, header, filled, text, id_column)
    return CommentSheet(path, header, filled, text, ids, blank, list(formulas))


def _refuse_title(path: str | Path, rows: dict[int, list[Any]]) -> None:
    """Stop where the first rows have one filled cell each and most of the rows below have more.

    A sheet of comments and nothing else has one in each row.
    """
    counts = {
        number: sum(clean_text(cell_text(cell)) != "" for cell in row)
        for number, row in rows.items()
        if row
    }
    titles = list(itertools.takewhile(lambda number: counts[number] == 1, counts))
    below = list(counts.values())[len(titles) :]
    if titles and sum(count > 1 for count in below) > len(counts) / 2:
        shown = next(text for cell in rows[titles[0]] if (text := clean_text(cell_text(cell))))
        raise UserError(
            f"{path}, row {titles[0]}: {shown!r} stands there alone, as a title does, where the "
            f"names of the columns should be: delete {'row' if len(titles) == 1 else 'rows'} "
            f"{', '.join(map(str, titles))}; if it is the name of a column, give --text-column "
            f"{shown!r}, or name the other columns too"
        )


def _read_ids(
    path: str | Path, header: list[str], rows: dict[int, list[Any]], text: int, id_column: str
) -> dict[int, str]:
    """Return row number -> custom_id: the user's own, from a column's name or letter, or row-N.

    Without `id_column` it is a column of the name custom_id, where there is one. A row without a
    comment may have none. Raises UserError where another has none, or two rows have the same one.
    """
    if not id_column and ID not in header:
        return {number: f"row-{number}" for number in rows}
    column = find_column(path, header, id_column or ID)
    if not id_column:
        print(f"column {ID!r} is taken as the rows' ids (--id-column names another one)")
    ids = {number: clean_text(cell_text(row[column])) for number, row in rows.items()}
    change = "leave out --id-column" if id_column else f"give column {ID!r} another name"
    cure = f"or {change} to have the rows numbered"
    blank = [n for n, row in rows.items() if not ids[n] and clean_text(cell_text(row[text]))]
    if blank:
        raise UserError(
            f"{path}: column {header[column]!r} has no id for {len(blank):,} of the comments"
            f"{row_numbers(blank)}: fill them in, {cure}"
        )
    counts = Counter(filter(None, ids.values()))
    repeated = [number for number, custom_id in ids.items() if counts[custom_id] > 1]
    if repeated:
        first = ids[repeated[0]]
        same = row_numbers([number for number in repeated if ids[number] == first])
        rounded = re.fullmatch(r"\d{16,}|[\d.,]+E\+\d+", first)
        cause = "; Excel keeps 15 digits of a number, so format ids as text" if rounded else ""
        raise UserError(
            f"{path}: {len(repeated):,} rows share their id in column {header[column]!r} with "
            f"another, such as {first!r}{same}: give each row its own, {cure}{cause}"
        )
    return ids


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

    Its index holds the rows' numbers in the spreadsheet. With `user_column`, a name or a letter,
    messages read "user: comment".
    """
    user = find_column(sheet.path, sheet.header, user_column) if user_column else -1
    cleaned, numbers, empty, messages = 0, 0, [], {}
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
        messages[number] = (sheet.ids[number], message, -1)
    counts = {
        f"empty comments left out{row_numbers(empty)}": len(empty),
        "messages cleaned of line breaks or control characters": cleaned,
        "numbers read as text": numbers,
    }
    columns = [ID, "message", "class"]
    return pd.DataFrame.from_dict(messages, orient="index", columns=columns), counts


def read_labels(
    sheet: CommentSheet, label_column: str, messages: pd.DataFrame, codebook: Codebook
) -> list[int]:
    """Return the class that people gave each message, by number or by name, -1 if none."""
    column = find_column(sheet.path, sheet.header, label_column)
    labels = []
    for number in messages.index:
        cell = clean_text(cell_text(sheet.rows[number][column]))
        label = parse_label(cell, codebook)
        if label is None:
            raise UserError(
                f"{sheet.path}, row {number}: label {cell!r} is no class of {codebook.path} "
                f"({codebook.choices}): correct the cell"
            )
        labels.append(label)
    return labels
