"""Sample: the first rows of a spreadsheet before and after coding, as a page to take a picture of.

Reads   EXCEL_FILE, CODED_FILE (from code_comments.py)
Writes  HTML_FILE
Run     python -m pre_process.sample.coded_picture
"""

from collections.abc import Sequence

import jinja2
import openpyxl
from openpyxl.utils import get_column_letter

from pipeline.common.cli import parse_settings, run
from pipeline.common.files import write_text

# --------------------------------------------------------------------------------------------
EXCEL_FILE = "./demo/weibo_data.xlsx"  # the spreadsheet
CODED_FILE = "./demo/results/coded/weibo_data_coded.xlsx"  # the same, coded
HTML_FILE = "./demo/results/coded/before_after.html"  # the page
ROWS = 9  # that are shown, the names of the columns among them
# --------------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<meta charset="utf-8">
<style>
body { margin: 16px; font: 13px/1.5 sans-serif; background: #fff; width: 1168px; }
h2 { font-size: 15px; margin: 0 0 6px; }
table { border-collapse: collapse; margin-bottom: 18px; table-layout: fixed; }
td, th { border: 1px solid #d0d0d0; padding: 2px 6px; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; max-width: 230px; }
th { background: #f0f0f0; font-weight: normal; color: #555; }
tr:nth-child(2) td { font-weight: bold; }
td.new { background: #e8f1fb; }
</style>
{% for title, rows, old in tables %}
<h2>{{ title }}</h2>
<table>
<tr><th></th>{% for cell in rows[0] %}<th>{{ letter(loop.index) }}</th>{% endfor %}</tr>
{% for row in rows %}<tr><th>{{ loop.index }}</th>
{% for cell in row %}<td{% if loop.index > old %} class="new"{% endif %}>{{ cell }}</td>{% endfor %}
</tr>{% endfor %}
</table>
{% endfor %}
"""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    before, after = (first_rows(path, args.rows) for path in (args.excel_file, args.coded_file))
    width = len(before[0])
    tables = [("Before", before, width), ("After", after, width)]
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    write_text(page.render(tables=tables, letter=get_column_letter), args.html_file)
    print(f"wrote {args.html_file}")


def first_rows(path: str, count: int) -> list[list[str]]:
    """Return the first rows of a workbook's first sheet as they are shown."""
    sheet = openpyxl.load_workbook(path, read_only=True).worksheets[0]
    rows = sheet.iter_rows(max_row=count, values_only=True)
    return [[shown(cell) for cell in row] for row in rows]


def shown(cell: object) -> str:
    """Return a cell's value as a spreadsheet program shows it."""
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return "" if cell is None else str(cell).removesuffix(" 00:00:00")


if __name__ == "__main__":
    run(main)
