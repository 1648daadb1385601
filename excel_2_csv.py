"""Step 1: turn a spreadsheet of comments into CSV.

Reads   EXCEL_FILE (.xlsx, .xls, .ods or .csv; the first row that holds anything names the columns)
Writes  CSV_FILE, every column of the sheet
        SIMPLE_FILE: custom_id (row-N, N the spreadsheet's row), message, class (-1 = no label),
        and with LABEL_COLUMN coded_by (human)
Run     python excel_2_csv.py --text-column comment
"""

import datetime
from typing import Any

import pandas as pd

from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.codebook import parse_label, read_codebook
from pipeline.common.files import check_outputs, clean_text, write_csv
from pipeline.common.rows import listed
from pipeline.sheets.reading import (
    cell_text,
    column_letter,
    find_column,
    read_sheet,
    texts_of_formulas,
)

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
EXCEL_FILE = "./pre_process/datas/weibo_data.xlsx"  # .xlsx, .xls, .ods or .csv
SHEET = ""  # the sheet's name; empty = the first
TEXT_COLUMN = "comment"  # the comments: a column's name or letter
USER_COLUMN = ""  # name or letter; when given, messages read "user: comment"
LABEL_COLUMN = (
    ""  # name or letter of classes that people coded, as numbers or names; blanks allowed
)
PROMPT_FILE = "./prompt.txt"  # the codebook, read only with LABEL_COLUMN
CSV_FILE = "./pre_process/datas/weibo_data.csv"  # every column
SIMPLE_FILE = "./pre_process/datas/simple.csv"  # what the next steps read
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    check_outputs([args.csv_file, args.simple_file], inputs=[args.excel_file])
    first, header, body, blank = read_table(args.excel_file, args.sheet)
    text = find_column(args.excel_file, header, args.text_column)
    refuse_cells_that_are_no_text(args.excel_file, header[text], body, text)
    known = {row for row, cells in body.items() if clean_text(cell_text(cells[text]))}
    formulas = texts_of_formulas(args.excel_file, args.sheet, text, first, known)
    for row, formula in formulas.items():
        body.setdefault(row, [""] * len(header))[text] = formula
    body = dict(sorted(body.items()))
    user = find_column(args.excel_file, header, args.user_column) if args.user_column else -1
    simple, counts = build_messages(body, text, user)
    if simple.empty:
        raise UserError(
            f"{args.excel_file}: column {header[text]!r} holds no text: check --text-column"
        )
    if args.label_column:
        label = find_column(args.excel_file, header, args.label_column)
        simple["class"] = read_labels(args.excel_file, body, label, simple, args.prompt_file)
        simple["coded_by"] = ["human" if k >= 0 else "" for k in simple["class"]]
    table = [[clean_text(cell_text(cell)) for cell in row[: len(header)]] for row in body.values()]
    write_csv(pd.DataFrame(table, columns=header), args.csv_file)
    write_csv(simple, args.simple_file)
    blank = [row for row in blank if row not in body]
    counts[f"blank rows left out{listed(blank)}"] = len(blank)
    counts[f"comments that the sheet took for formulas{listed(list(formulas))}"] = len(formulas)
    counts["messages that repeat an earlier one (kept)"] = int(simple["message"].duplicated().sum())
    counts["messages that people have coded"] = int((simple["class"] >= 0).sum())
    for what, count in counts.items():
        print(f"  {count:>9,}  {what}")


def read_table(path: str, sheet: str) -> tuple[int, list[str], dict[int, list[Any]], list[int]]:
    """Return the column names' row, the names, row number -> cells below, and the blank rows.

    The first row that holds anything names the columns; one without a name goes by its letter.
    """
    rows = read_sheet(path, sheet)
    first = next((number for number, row in rows.items() if row), None)
    below = {number: row for number, row in rows.items() if first is not None and number > first}
    body = {number: row for number, row in below.items() if row}
    if not below:
        raise UserError(f"{path} has no rows of data: check the file and --sheet")
    names = [clean_text(cell_text(cell)) for cell in rows[first]]
    header = [name or column_letter(index) for index, name in enumerate(names)]
    for row in body.values():
        row.extend([""] * (len(header) - len(row)))
    print(f"read {path}: {len(below):,} rows below the column names")
    return first, header, body, [number for number in below if number not in body]


def refuse_cells_that_are_no_text(
    path: str, name: str, body: dict[int, list[Any]], column: int
) -> None:
    """Stop at dates and the like, whose text the spreadsheet has lost; numbers are text enough."""
    kinds = (bool, datetime.date, datetime.time, datetime.timedelta)
    wrong = [number for number, row in body.items() if isinstance(row[column], kinds)]
    if wrong:
        cell = body[wrong[0]][column]
        raise UserError(
            f"{path}, row {wrong[0]}: column {name!r} holds {cell_text(cell)!r}, which the "
            f"spreadsheet keeps as a {type(cell).__name__} and not as text: format the column as "
            f"text and type the comment again{listed(wrong)}"
        )


def build_messages(
    body: dict[int, list[Any]], text: int, user: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the `custom_id,message,class` table and what was counted on the way.

    `body` maps the spreadsheet's row numbers to cells, `text` and `user` are column indices; with
    `user` at -1 the messages carry no user names.
    """
    cleaned, numbers, empty, records = 0, 0, [], []
    for number, row in body.items():
        raw = cell_text(row[text])
        message = clean_text(raw)
        if not message:
            empty.append(number)
            continue
        cleaned += message != raw.strip()
        numbers += not isinstance(row[text], str)
        if user >= 0 and (name := clean_text(cell_text(row[user]))):
            message = f"{name}: {message}"
        records.append((f"row-{number}", message, -1))
    counts = {
        f"empty comments left out{listed(empty)}": len(empty),
        "messages cleaned of line breaks or control characters": cleaned,
        "numbers read as text": numbers,
    }
    return pd.DataFrame(records, columns=["custom_id", "message", "class"]), counts


def read_labels(
    path: str, body: dict[int, list[Any]], column: int, simple: pd.DataFrame, prompt_file: str
) -> list[int]:
    """Return the class that people gave each row of `simple`, by number or by name, -1 if none."""
    codebook = read_codebook(prompt_file)
    labels = []
    for custom_id in simple["custom_id"]:
        number = int(custom_id.removeprefix("row-"))
        cell = clean_text(cell_text(body[number][column]))
        label = parse_label(cell, codebook)
        if label is None:
            raise UserError(
                f"{path}, row {number}: label {cell!r} is no class of {prompt_file} (0 to "
                f"{len(codebook.names) - 1}, or {', '.join(codebook.names)}): correct the cell"
            )
        labels.append(label)
    return labels


if __name__ == "__main__":
    run(main)
