"""Step 1: turn a spreadsheet of comments into CSV.

Reads   EXCEL_FILE (.xlsx, .xls, .ods or .csv; the first row that holds anything names the columns)
Writes  CSV_FILE, every column of the sheet
        SIMPLE_FILE: custom_id (row-N, N the spreadsheet's row), message, class (-1 = no label)
Run     python excel_2_csv.py --text-column comment
"""

import datetime
from collections import Counter
from typing import Any

import pandas as pd

from pipeline.cli import UserError, parse_settings, run
from pipeline.codebook import Codebook, read_codebook
from pipeline.files import clean_text, write_csv
from pipeline.spreadsheet import cell_text, column_letter, find_column, read_sheet

# ---------------------------------------------------------------------------------------------
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
    rows = read_sheet(args.excel_file, args.sheet)
    first = next((index for index, row in enumerate(rows) if any(cell != "" for cell in row)), None)
    if first is None or len(rows) == first + 1:
        raise UserError(f"{args.excel_file} has no rows of data: check the file and --sheet")
    header = [clean_text(cell_text(cell)) for cell in rows[first]]
    body = {
        number: row + [""] * (len(header) - len(row))
        for number, row in enumerate(rows[first + 1 :], start=first + 2)
        if any(cell != "" for cell in row)
    }
    print(f"read {args.excel_file}: {len(rows) - first - 1:,} rows below the column names")

    text = find_column(args.excel_file, header, args.text_column)
    refuse_cells_that_are_no_text(args.excel_file, header[text], body, text)
    user = find_column(args.excel_file, header, args.user_column) if args.user_column else -1
    simple, counts = build_messages(body, text, user)
    if args.label_column:
        label = find_column(args.excel_file, header, args.label_column)
        codebook = read_codebook(args.prompt_file)
        simple["class"] = [
            read_label(args.excel_file, number, body[number][label], codebook)
            for number in simple["custom_id"].str.removeprefix("row-").astype(int)
        ]
    if simple.empty:
        raise UserError(
            f"{args.excel_file}: column {header[text]!r} holds no text: check --text-column, and "
            "save the file in a spreadsheet program if it holds formulas"
        )
    names = [name or column_letter(index) for index, name in enumerate(header)]
    table = [[clean_text(cell_text(cell)) for cell in row[: len(names)]] for row in body.values()]
    write_csv(pd.DataFrame(table, columns=names), args.csv_file)
    write_csv(simple, args.simple_file)
    counts["blank rows left out"] = len(rows) - first - 1 - len(body)
    counts["messages that repeat an earlier one (kept)"] = int(simple["message"].duplicated().sum())
    counts["messages that people have coded"] = int((simple["class"] >= 0).sum())
    for what, count in counts.items():
        print(f"  {count:>9,}  {what}")


def refuse_cells_that_are_no_text(
    path: str, name: str, body: dict[int, list[Any]], column: int
) -> None:
    """Stop at dates and the like, whose text the spreadsheet has lost; numbers are text enough."""
    kinds = (bool, datetime.date, datetime.time, datetime.timedelta)
    wrong = [number for number, row in body.items() if isinstance(row[column], kinds)]
    if wrong:
        listed = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise UserError(
            f"{path}, row {listed}: column {name!r} holds {cell_text(body[wrong[0]][column])!r}, "
            f"which the spreadsheet keeps as a {type(body[wrong[0]][column]).__name__} and not as "
            f"text ({len(wrong)} such cells): format them as text and type the comments again"
        )


def build_messages(
    body: dict[int, list[Any]], text: int, user: int
) -> tuple[pd.DataFrame, Counter]:
    """Return the `custom_id,message,class` table and what was counted on the way.

    `body` maps the spreadsheet's row numbers to cells, `text` and `user` are column indices; with
    `user` at -1 the messages carry no user names.
    """
    counts = Counter(
        {"empty comments left out": 0, "messages cleaned of line breaks or controls": 0}
    )
    records = []
    for number, row in body.items():
        raw = cell_text(row[text])
        message = clean_text(raw)
        if not message:
            counts["empty comments left out"] += 1
            continue
        counts["messages cleaned of line breaks or controls"] += message != raw.strip()
        counts["numbers read as text"] += not isinstance(row[text], str)
        if user >= 0:
            message = f"{clean_text(cell_text(row[user]))}: {message}"
        records.append((f"row-{number}", message, -1))
    return pd.DataFrame(records, columns=["custom_id", "message", "class"]), counts


def read_label(path: str, number: int, cell: Any, codebook: Codebook) -> int:
    """Return the class that a cell names or numbers, -1 for a blank."""
    value = clean_text(cell_text(cell)).casefold()
    names = [name.casefold() for name in codebook.names]
    known = {"": -1, "-1": -1} | {name: k for k, name in enumerate(names)}
    known |= {str(k): k for k in range(len(names))}
    if value not in known:
        raise UserError(
            f"{path}, row {number}: label {value!r} is no class of {codebook.path} "
            f"(0 to {len(names) - 1}, or {', '.join(codebook.names)}): correct the cell"
        )
    return known[value]


if __name__ == "__main__":
    run(main)
