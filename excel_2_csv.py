"""Step 1: turn a spreadsheet of comments into CSV.

Reads   EXCEL_FILE (.xlsx, .xls, .ods or .csv; the first row that holds anything names the columns)
Writes  CSV_FILE, custom_id and every column of the sheet
        SIMPLE_FILE: custom_id (row-N, N the spreadsheet's row, or your own), message,
        class (-1 = no label), and with LABEL_COLUMN coded_by (human)
        and coded_as (the class's name)
        with MASK_PERSONAL_DATA, MASKED_FILE: custom_id, kind, count of what was hidden
Run     python excel_2_csv.py --text-column comment
"""

from pathlib import Path

from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import check_outputs, written_together
from pipeline.common.tables import csv_writer
from pipeline.sheets.comments import open_comment_sheet
from pipeline.sheets.last_run import refuse_moved_column
from pipeline.sheets.masking import MASKED_COLUMNS
from pipeline.sheets.messages import Messages

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
MASK_PERSONAL_DATA = (
    False  # hide in SIMPLE_FILE what looks like a phone number, a name after @, ...
)
MASKED_FILE = "./pre_process/datas/masked.csv"  # which comments were masked, where any was
# ---------------------------------------------------------------------------------------------


@written_together()
def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    mask, outputs = args.mask_personal_data, [args.csv_file, args.simple_file]
    check_outputs([*outputs, *([args.masked_file] if mask else [])], inputs=[args.excel_file])
    codebook = read_codebook(args.prompt_file) if args.label_column else None
    with open_comment_sheet(
        args.excel_file, args.sheet, args.text_column, args.id_column, args.encoding
    ) as sheet:
        refuse_moved_column(sheet, args.text_column, *outputs)
        messages = Messages(sheet, args.user_column, args.label_column, codebook, mask)
        with (
            csv_writer(args.simple_file, messages.columns) as simple,
            csv_writer(args.csv_file, sheet.columns) as table,
        ):
            for rows, rows_with_messages in messages.parts():
                table.write_rows(rows)
                simple.write_rows(rows_with_messages)
    if mask or Path(args.masked_file).is_file():  # an earlier record is no longer right
        with csv_writer(args.masked_file, MASKED_COLUMNS) as masked:
            masked.write_rows(messages.personal.masked)
    print_counts(messages)


def print_counts(messages: Messages) -> None:
    """Print what was left out or changed, and what looks like personal data."""
    for what, count in messages.counts().items():
        print(f"  {count:>9,}  {what}")
    for line in messages.personal.report():
        print(line)


if __name__ == "__main__":
    run(main)
