"""Step 1: turn a spreadsheet of comments into CSV.

Reads   EXCEL_FILE (.xlsx, .xls, .ods or .csv; the first row that holds anything names the columns)
Writes  CSV_FILE, custom_id and every column of the sheet
        SIMPLE_FILE: custom_id (row-N, N the spreadsheet's row, or your own), message,
        class (-1 = no label), and with LABEL_COLUMN coded_by (human)
        and coded_as (the class's name)
Run     python excel_2_csv.py --text-column comment
"""

import pandas as pd

from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import check_outputs, written_together
from pipeline.common.rows import row_numbers
from pipeline.common.tables import write_csv
from pipeline.sheets.comments import CommentSheet, build_messages, read_comment_sheet, read_labels

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
EXCEL_FILE = "./pre_process/datas/weibo_data.xlsx"  # .xlsx, .xls, .ods or .csv
SHEET = ""  # the sheet's name; empty = the first
ENCODING = ""  # of a .csv, such as gb18030 or cp1252; empty = found out
TEXT_COLUMN = "comment"  # the comments: a column's name or letter
ID_COLUMN = ""  # name or letter of your own ids, each once; empty = custom_id if there, else row-N
USER_COLUMN = ""  # name or letter; when given, messages read "user: comment"
LABEL_COLUMN = (
    ""  # name or letter of classes that people coded, as numbers or names; blanks allowed
)
PROMPT_FILE = "./prompt.txt"  # the codebook, read only with LABEL_COLUMN
CSV_FILE = "./pre_process/datas/weibo_data.csv"  # every column
SIMPLE_FILE = "./pre_process/datas/simple.csv"  # what the next steps read
# ---------------------------------------------------------------------------------------------


@written_together()
def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    check_outputs([args.csv_file, args.simple_file], inputs=[args.excel_file])
    sheet = read_comment_sheet(
        args.excel_file, args.sheet, args.text_column, args.id_column, args.encoding
    )
    messages, counts = build_messages(sheet, args.user_column)
    if messages.empty:
        raise UserError(
            f"{args.excel_file}: column {sheet.header[sheet.text]!r} holds no text: check "
            "--text-column"
        )
    if args.label_column:
        codebook = read_codebook(args.prompt_file)
        messages["class"] = read_labels(sheet, args.label_column, messages, codebook)
        messages["coded_by"] = ["human" if k >= 0 else "" for k in messages["class"]]
        names = ["", *codebook.names]
        messages["coded_as"] = [names[k + 1] for k in messages["class"]]
    write_csv(sheet.table(), args.csv_file)
    write_csv(messages, args.simple_file)
    print_counts(sheet, messages, counts)


def print_counts(sheet: CommentSheet, messages: pd.DataFrame, counts: dict[str, int]) -> None:
    """Print how many rows were left out or changed, and why."""
    counts |= {
        f"blank rows left out{row_numbers(sheet.blank)}": len(sheet.blank),
        f"comments that the sheet took for formulas{row_numbers(sheet.formulas)}": len(
            sheet.formulas
        ),
        "messages that repeat an earlier one (kept)": int(messages["message"].duplicated().sum()),
        "messages that people have coded": int((messages["class"] >= 0).sum()),
    }
    for what, count in counts.items():
        print(f"  {count:>9,}  {what}")


if __name__ == "__main__":
    run(main)
