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
    the index of the comments' column, `id_column` that of the user's own ids, -1 for none. `ids`
    maps the row numbers to `custom_id`. `blank` and `formulas` are the numbers of blank rows and of
    comments that the spreadsheet program took for formulas.
    """

    path: str | Path
    header: list[str]
    rows: dict[int, list[Any]]
    text: int
    id_column: int
    ids: dict[int, str]
    blank: list[int]
    formulas: list[int]

    def table(self) -> pd.DataFrame:
        """Return custom_id and every other column, as text on one line."""
        places = [n for n, name in enumerate(self.header) if (name, n) != (ID, self.id_column)]
        names = [CUSTOM_ID if self.header[n] == ID else self.header[n] for n in places]
        cells = [
            [self.ids[number], *(clean_text(cell_text(row[n])) for n in places)]
            for number, row in self.rows.items()
        ]
        return pd.DataFrame(cells, columns=[ID, *names])


def read_comment_sheet(
    path: str | Path, sheet: str, text_column: str, id_column: str = "", encoding: str = ""
) -> CommentSheet:
    """Read a sheet whose comments stand in `text_column`, a name or a letter.

    `id_column` holds the user's own ids; by default it is a column of the name custom_id, where
    there is one, and custom_id is row-N elsewhere. A column without a name goes by its letter.
    Raises UserError for a sheet without rows, a title above the column names, a column that is not
    there, comments that are not text, and ids that are missing or stand twice.
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
    text = _find_text(path, rows, header, text_column)
    _refuse_cells_that_are_no_text(path, header[text], filled, text)
    known = {row for row, cells in filled.items() if clean_text(cell_text(cells[text]))}
    formulas = texts_of_formulas(path, sheet, text, first, known)
    for number, formula in formulas.items():
        filled.setdefault(number, [""] * len(header))[text] = formula
    blank = [number for number in below if number not in filled]
    filled = dict(sorted(filled.items()))
    own = id_column or (ID if ID in header else "")
    column = find_column(path, header, own) if own else -1
    if own and not id_column:
        print(f"column {ID!r} is taken as the rows' ids (--id-column names another one)")
    change = "leave out --id-column" if id_column else f"give column {ID!r} another name"
    ids = _read_ids(path, header, filled, text, column, f"or {change} to have the rows numbered")
    return CommentSheet(path, header, filled, text, column, ids, blank, list(formulas))


def _find_text(
    path: str | Path, rows: dict[int, list[Any]], header: list[str], text_column: str
) -> int:
    """Return the index of the comments' column, and print its name where a letter stands for it."""
    first, named = next((number, row) for number, row in rows.items() if row)
    names = [clean_text(cell_text(cell)) for cell in named]
    if text_column in names:
        return find_column(path, header, text_column)
    _refuse_title(path, rows)
    text = find_column(path, header, text_column)
    name = repr(names[text]) if names[text] else "without a name: if the row is a title, delete it"
    print(f"row {first} names the columns; the comments are in {text_column.upper()}, {name}")
    return text


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
    path: str | Path,
    header: list[str],
    rows: dict[int, list[Any]],
    text: int,
    column: int,
    cure: str,
) -> dict[int, str]:
    """Return row number -> custom_id: the cell in `column`, or row-N where that is -1.

    A row without a comment may have "". Raises UserError, which ends with `cure`, where another has
    none or two rows have the same one.
    """
    if column < 0:
        return {number: f"row-{number}" for number in rows}
    ids = {number: clean_text(cell_text(row[column])) for number, row in rows.items()}
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
                f"({codebook.choices}): correct the cell; where people coded by other classes, "
                "give --label-column a column with these, or leave it out"
            )
        labels.append(label)
    return labels
