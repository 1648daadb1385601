"""A new sheet of an .xlsx: a table of a few rows, as XML."""

from collections.abc import Iterator, Sequence

from pipeline.sheets.new_columns import Table, Value
from pipeline.sheets.reading import column_letter
from pipeline.sheets.xlsx_cells import cells_xml, width_of
from pipeline.sheets.xml_edits import in_attribute

DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
LONGEST_TEXT = 4_000  # characters; a longer one goes on in the row below
WIDEST = 80  # characters of the width of a column


def page_xml(space: str, table: Table) -> bytes:
    """Return a table as the XML of a sheet; `space` is the namespace of the workbook."""
    rows = [row for values in table for row in rows_of(values)]
    count = max(map(len, rows), default=0)
    letters = [column_letter(index) for index in range(count)]
    widths = [1] * count
    for row in rows:
        for place, value in enumerate(row):
            widths[place] = max(widths[place], width_of(str(value), WIDEST))
    cols = "".join(
        f'<col min="{n}" max="{n}" width="{width}" customWidth="1"/>'
        for n, width in enumerate(widths, start=1)
    )
    data = "".join(
        f'<row r="{n}">{cells_xml("", letters[: len(row)], n, row)}</row>'
        for n, row in enumerate(rows, start=1)
    )
    return (
        f'{DECLARATION}<worksheet xmlns="{in_attribute(space)}">'
        f"{f'<cols>{cols}</cols>' if cols else ''}<sheetData>{data}</sheetData></worksheet>"
    ).encode()


def rows_of(values: Sequence[Value]) -> Iterator[list[Value]]:
    """Yield the row that holds these values, and below it what is too long for its cells."""
    texts = [
        [value[start : start + LONGEST_TEXT] for start in range(0, len(value), LONGEST_TEXT)]
        if isinstance(value, str)
        else [value]
        for value in values
    ]
    for number in range(max(map(len, texts), default=0) or 1):
        yield [parts[number] if number < len(parts) else None for parts in texts]
