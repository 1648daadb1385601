"""An .ods with columns added to one table, and tables added behind the others."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.sheets.coded_xlsx import refuse_titles, refuse_width
from pipeline.sheets.new_columns import NewColumns, Table, Value, is_blank, number_text
from pipeline.sheets.ods_rows import COLUMNS_REPEATED, ROWS_REPEATED, Events, OdsRow, OdsRows
from pipeline.sheets.xml_edits import (
    NOT_IN_XML,
    Attributes,
    in_attribute,
    in_text,
    with_attribute,
)
from pipeline.sheets.zip_parts import checked_zip, copy_zip

CONTENT = "content.xml"
SIGNATURES = "META-INF/documentsignatures.xml"
HIDDEN = ("collapse", "filter")
NEW_CELL = 200  # bytes of XML, hardly ever more


@dataclass
class TableForm:
    """What a table holds beside its texts, see `SheetForm`; `titles` are those of all tables."""

    width: int = 0
    rows: int = 0
    header_style: str = ""
    merged: bool = False
    protected: bool = False
    locked: bool = False
    titles: list[str] = field(default_factory=list)


def table_form(archive: zipfile.ZipFile, title: str, header_row: int) -> TableForm:
    """Return what a table holds; raises UnusualXml where no spreadsheet program wrote it."""
    form = TableForm()

    def read_row(row: OdsRow) -> None:
        form.width = max(form.width, row.width)
        form.rows += row.repeat if row.width else 1
        if row.number <= header_row < row.number + row.repeat:
            form.merged = any(c.wide > 1 or c.high > 1 or c.covered for c in row.cells)
            form.header_style = next((c.style for c in row.cells[::-1] if c.filled), "")

    def read_table(attributes: Attributes) -> None:
        form.titles.append(rows.attribute(attributes, "name"))
        if form.titles[-1] == title:
            form.protected = rows.attribute(attributes, "protected") == "true"

    rows = OdsRows(title, Events(read_row, read_table, lambda *_: None, lambda: None))
    with archive.open(CONTENT) as file:
        for _ in rows.xml.run(file):
            pass
    form.locked = rows.locked
    return form


def check_ods(
    path: Path, title: str, header_row: int, names: Sequence[str], titles: Sequence[str]
) -> None:
    """Refuse a workbook as `check_xlsx` does; print what is protected."""
    with checked_zip(path) as archive:
        form = table_form(archive, title, header_row)
        signed = SIGNATURES in archive.namelist()
    if form.merged:
        raise UserError(
            f"{path}, sheet {title!r}, row {header_row}: cells are merged there, so that a column "
            "has no name of its own: unmerge them, and name each column"
        )
    refuse_width(path, title, form.width, len(names))
    refuse_titles(path, form.titles, titles)
    if form.protected:
        print(f"{path}: sheet {title!r} is protected; it stays so, with the new columns in it")
    if form.locked:
        print(f"{path}: its list of sheets is protected; it stays so, with the new sheets in it")
    if signed:
        print(f"{path} has a digital signature, which is not valid for the coded workbook")


def write_ods(
    path: Path, target: Path, title: str, columns: NewColumns, more_sheets: Mapping[str, Table]
) -> None:
    """Write a workbook with columns right of those of the sheet `title`, and more sheets."""
    with zipfile.ZipFile(path) as old:
        form = table_form(old, title, columns.header_row)
        refuse_titles(path, form.titles, list(more_sheets))
        adding = _Adding(title, form, columns, more_sheets)
        with old.open(CONTENT) as file:
            growth = form.rows * len(columns.names) * NEW_CELL
            copy_zip(old, target, {CONTENT: adding.rows.xml.run(file)}, {}, growth)


class _Adding:
    """Adds columns to a table, and tables behind the last one."""

    def __init__(
        self, title: str, form: TableForm, columns: NewColumns, more_sheets: Mapping[str, Table]
    ) -> None:
        self.rows = OdsRows(title, Events(self._row, self._table, self._show, self._part))
        self._form, self._columns, self._more_sheets = form, columns, more_sheets
        self._first, self._behind = form.width, form.width + len(columns.names)
        self._after_tables = False

    def _table(self, attributes: Attributes) -> None:
        self._after_tables = True

    def _part(self) -> None:
        if self._after_tables:
            xml = "".join(
                self._table_xml(title, table) for title, table in self._more_sheets.items()
            )
            self.rows.xml.replace(self.rows.xml.place, self.rows.xml.place, xml.encode())
            self._after_tables, self._more_sheets = False, {}

    def _table_xml(self, title: str, table: Table) -> str:
        name = self.rows.table
        rows = "".join(
            f"<{name}table-row>{self._cells(values, '')}</{name}table-row>" for values in table
        )
        columns = max(map(len, table), default=0) or 1
        return (
            f'<{name}table {name}name="{in_attribute(title)}"><{name}table-column '
            f'{name}{COLUMNS_REPEATED}="{columns}"/>{rows or self._empty_row()}</{name}table>'
        )

    def _empty_row(self) -> str:
        name = self.rows.table
        return f"<{name}table-row><{name}table-cell/></{name}table-row>"

    def _show(self, first: int, attributes: Attributes) -> None:
        """Show new columns that are among columns which are hidden."""
        name, xml = self.rows.table, self.rows.xml
        tag = xml.tag(xml.place)
        behind = first + int(self.rows.attribute(attributes, COLUMNS_REPEATED, "1"))
        low, high = max(first, self._first), min(behind, self._behind)
        hidden = self.rows.attribute(attributes, "visibility") in HIDDEN
        if hidden and low < high and tag.endswith(b"/>"):
            shown = with_attribute(tag, f"{name}visibility", "visible")
            parts = ((tag, low - first), (shown, high - low), (tag, behind - high))
            new = b"".join(_repeated(part, name, count) for part, count in parts if count)
            xml.replace(xml.place, xml.place + len(tag), new)

    def _row(self, row: OdsRow) -> None:
        if row.width == 0 or row.number + row.repeat <= self._columns.header_row:
            return
        xml, name = self.rows.xml, self.rows.table
        numbers = range(row.number, row.number + row.repeat)
        groups = [
            (cells, sum(1 for _ in equal)) for cells, equal in groupby(map(self._new, numbers))
        ]
        if any(cells for cells, _ in groups):
            tag = xml.tag(row.begin)
            before, after = self._parts(row, row.begin + len(tag))
            pieces = []
            for cells, count in groups:
                content = (
                    before + cells.encode() + after
                    if cells
                    else xml.raw(row.begin + len(tag), row.inside)
                )
                pieces += [_with_count(tag, f"{name}{ROWS_REPEATED}", count), content]
                pieces.append(xml.raw(row.inside, row.end))
            xml.replace(row.begin, row.end, b"".join(pieces))

    def _new(self, number: int) -> str:
        """Return the new cells of a row as XML, "" where all are empty."""
        if number < self._columns.header_row:
            return ""
        if number == self._columns.header_row:
            return self._cells(self._columns.names, self._form.header_style)
        values = self._columns.cells_of(number)
        filled = not all(map(is_blank, values))
        return self._cells(values, "") if filled else ""

    def _parts(self, row: OdsRow, inside: int) -> tuple[bytes, bytes]:
        """Return the XML of a row's cells before the new ones and behind them."""
        xml, name = self.rows.xml, self.rows.table
        before, after, column = [], [], 0
        for cell in row.cells:
            column = cell.column + cell.repeat
            if column <= self._first:
                before.append(xml.raw(inside, cell.end))
                inside = cell.end
                continue
            tag = xml.tag(cell.begin)
            rest = xml.raw(cell.begin + len(tag), cell.end)
            if cell.column < self._first:
                before.append(_repeated(tag, name, self._first - cell.column) + rest)
            if cell.column >= self._behind:
                after.append(xml.raw(cell.begin, cell.end))
            elif column > self._behind:
                after.append(_repeated(tag, name, column - self._behind) + rest)
        if column < self._first:
            before.append(_repeated(f"<{name}table-cell/>".encode(), name, self._first - column))
        return b"".join(before), b"".join(after)

    def _cells(self, values: Sequence[Value], style: str) -> str:
        return "".join(self._cell(value, style) for value in values)

    def _cell(self, value: Value, style: str) -> str:
        name, office, text = self.rows.table, self.rows.office, self.rows.text
        head = f"<{name}table-cell"
        if style:
            head += f' {name}style-name="{in_attribute(style)}"'
        if is_blank(value):
            return f"{head}/>"
        if isinstance(value, str):
            kind, content = "string", paragraphs(value, text)
        else:
            number = number_text(value)
            kind = f'float" {office}value="{number}'
            content = f"<{text}p>{number}</{text}p>"
        return f'{head} {office}value-type="{kind}">{content}</{name}table-cell>'


def paragraphs(text: str, prefix: str) -> str:
    """Return a text as the paragraphs of a cell; what XML cannot hold is left out."""
    lines = NOT_IN_XML.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    return "".join(f"<{prefix}p>{_spaces_kept(line, prefix)}</{prefix}p>" for line in lines)


def _spaces_kept(line: str, prefix: str) -> str:
    """Return a line with the white space spelled out that would be taken for one space."""
    line = re.sub(
        "^ +| +$|(?<= ) +|(?<=\t) +| +(?=\t)",
        lambda match: f"\0{len(match[0])}\0",
        line,
    )
    line = in_text(line)
    line = re.sub("\0(\\d+)\0", rf'<{prefix}s {prefix}c="\1"/>', line)
    return line.replace("\t", f"<{prefix}tab/>")


def _with_count(tag: bytes, name: str, count: int) -> bytes:
    """Return a tag that stands for so many equal cells, columns or rows."""
    if re.search(rb"\s%b\s*=" % re.escape(name).encode(), tag):
        return with_attribute(tag, name, str(count))
    if count == 1:
        return tag
    end = b"/>" if tag.endswith(b"/>") else b">"
    return tag.removesuffix(end) + f' {name}="{count}"'.encode() + end


def _repeated(tag: bytes, prefix: str, count: int) -> bytes:
    return _with_count(tag, f"{prefix}{COLUMNS_REPEATED}", count)
