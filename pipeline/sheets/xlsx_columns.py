"""Columns added to one sheet of an .xlsx: everything else of its XML stays as it stands."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.sheets.new_columns import NewColumns, Value
from pipeline.sheets.reading import column_letter
from pipeline.sheets.xlsx_cells import cells_xml, width_of
from pipeline.sheets.xml_edits import (
    Attributes,
    XmlEdits,
    in_attribute,
    prefix_of,
    read_over,
    with_attribute,
)

MOST_COLUMNS = 16_384  # A to XFD
CONTENT = ("v", "f", "is")  # what makes a cell more than a format


@dataclass
class SheetForm:
    """What a sheet holds beside its texts.

    `width` is the number of columns up to the last one with a cell that holds anything or is part
    of a merged one; `header_style` that of the last name in the header row, "" for none. `merged`
    are the merged cells that reach into the header row. `rows` counts the rows that are written.
    """

    width: int = 0
    rows: int = 0
    header_style: str = ""
    merged: list[str] = field(default_factory=list)
    protected: bool = False


class _Form:
    """Finds the `SheetForm` of a sheet."""

    def __init__(self, header_row: int) -> None:
        self.form = SheetForm()
        self._header_row, self._prefix = header_row, ""
        self._row = self._column = 0
        self._style = ""
        self._at_root = True

    def start(self, name: str, attributes: Attributes) -> None:
        if self._at_root:
            self._prefix, self._at_root = prefix_of(name), False
        if self._prefix:
            name = name.removeprefix(self._prefix)
        form = self.form
        if name == "c":
            place = attributes.get("r")
            self._column = _index(place.rstrip("0123456789")) if place else self._column + 1
            self._style = attributes.get("s", "")
        elif name in CONTENT:
            form.width = max(form.width, self._column + 1)
            if self._row == self._header_row:
                form.header_style = self._style
        elif name == "row":
            self._row = int(attributes.get("r", self._row + 1))
            self._column = -1
            form.rows += 1
        elif name == "mergeCell":
            first, _, last = attributes.get("ref", "").partition(":")
            (_, top), (right, bottom) = _place(first), _place(last or first)
            form.width = max(form.width, right + 1)
            if top <= self._header_row <= bottom:
                form.merged.append(attributes["ref"])
        elif name == "sheetProtection":
            form.protected = attributes.get("sheet") in ("1", "true")


def sheet_form(archive: zipfile.ZipFile, part: str, header_row: int) -> SheetForm:
    """Return what a sheet holds; raises UnusualXml where no spreadsheet program wrote it."""
    form = _Form(header_row)
    with archive.open(part) as file:
        read_over(file, form.start)
    return form.form


@lru_cache(MOST_COLUMNS)
def _index(letters: str) -> int:
    """Return the index of a column: A is 0."""
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _place(cell: str) -> tuple[int, int]:
    """Return the index of the column and the number of the row of a cell such as B7."""
    letters = cell.rstrip("0123456789")
    return _index(letters), int(cell[len(letters) :])


class _Adding:
    """Adds columns to the XML of a sheet."""

    def __init__(self, form: SheetForm, columns: NewColumns) -> None:
        self.xml = XmlEdits(self.start, self.end)
        self._columns, self._form = columns, form
        self._first, self._behind = form.width, form.width + len(columns.names)
        self._letters = [column_letter(index) for index in range(self._first, self._behind)]
        self._prefix = ""
        self._cols: list[Attributes] = []
        self._cols_begin = -1
        self._row = self._column = 0
        self._begin = 0  # of the row
        self._in_cell = False
        self._insert: int | None = None
        self._left_out: list[tuple[int, int]] = []
        self._out_from: int | None = None
        self._at_root = True

    def start(self, name: str, attributes: Attributes) -> None:
        if self._at_root:
            self._prefix, self._at_root = prefix_of(name), False
        if self._prefix:
            name = name.removeprefix(self._prefix)
        if name == "c":
            place = attributes.get("r")
            self._column = _index(place.rstrip("0123456789")) if place else self._column + 1
            self._in_cell = True
            if self._column >= self._first:
                self._leave_out(self._column < self._behind)
        elif name == "row":
            self._row = int(attributes.get("r", self._row + 1))
            self._column, self._insert, self._out_from = -1, None, None
            self._left_out.clear()
            self._begin = self.xml.hold = self.xml.place
        elif name == "extLst" and self.xml.hold is not None and not self._in_cell:
            self._leave_out(False)
        elif name == "dimension":
            self._widen(attributes)
        elif name == "cols":
            self._cols_begin = self.xml.hold = self.xml.place
        elif name == "col" and self._cols_begin >= 0:
            self._cols.append(attributes)
        elif name == "sheetData" and self._cols_begin < 0:
            self._put_widths(self.xml.place, self.xml.place)

    def end(self, name: str) -> None:
        if self._prefix:
            name = name.removeprefix(self._prefix)
        if name == "c":
            self._in_cell = False
        elif name == "row":
            self._end_row()
            self.xml.hold = None
        elif name == "cols":
            self._put_widths(self._cols_begin, self.xml.end_of(self._prefix + name)[1])
            self.xml.hold = None

    def _leave_out(self, out: bool) -> None:
        """Note a part of a row behind the new cells, or one in their place that goes."""
        place = self.xml.place
        self._insert = place if self._insert is None else self._insert
        self._end_left_out(place)
        self._out_from = place if out else None

    def _end_left_out(self, place: int) -> None:
        if self._out_from is not None:
            self._left_out.append((self._out_from, place))
            self._out_from = None

    def _end_row(self) -> None:
        if cells := self._new_cells():
            xml, name = self.xml, f"{self._prefix}row"
            tag = old = xml.tag(self._begin)
            inside, behind = xml.end_of(name)
            self._end_left_out(inside)
            tag = _with_spans(tag, self._first + 1, self._behind)
            if inside == behind:
                tag, cells = tag.removesuffix(b"/>") + b">", cells + f"</{name}>".encode()
            if tag != old:
                xml.replace(self._begin, self._begin + len(old), tag)
            place = inside if self._insert is None else self._insert
            xml.replace(place, place, cells)
            for begin, end in self._left_out:
                xml.replace(begin, end, b"")

    def _new_cells(self) -> bytes:
        """Return the new cells of the row at hand as XML."""
        row, style = self._row, ""
        if row < self._columns.header_row:
            return b""
        if row == self._columns.header_row:
            values: Sequence[Value] = self._columns.names
            style = f' s="{self._form.header_style}"' if self._form.header_style else ""
        else:
            values = self._columns.cells_of(row)
        return cells_xml(self._prefix, self._letters, row, values, style).encode()

    def _widen(self, attributes: Attributes) -> None:
        """Let the sheet's word on its size name the last new column."""
        first, _, last = attributes.get("ref", "").partition(":")
        if not first:
            return
        bottom = _place(last or first)[1]
        tag = self.xml.tag(self.xml.place)
        wider = with_attribute(tag, "ref", f"{first}:{self._letters[-1]}{bottom}")
        self.xml.replace(self.xml.place, self.xml.place + len(tag), wider)

    def _put_widths(self, begin: int, end: int) -> None:
        """Write the widths of the columns; what was said of the new ones no longer counts."""
        prefix = self._prefix
        first, behind = self._first + 1, self._behind + 1
        parts: list[tuple[int, Attributes]] = []
        for col in self._cols:
            left, right = int(col["min"]), int(col["max"])
            for low, high in ((left, min(right, first - 1)), (max(left, behind), right)):
                if low <= high:
                    parts.append((low, col | {"min": str(low), "max": str(high)}))
        for number, name in enumerate(self._columns.names, start=first):
            bounds = {"min": str(number), "max": str(number)}
            parts.append((number, bounds | {"width": str(width_of(name)), "customWidth": "1"}))
        parts.sort(key=lambda part: part[0])
        xml = "".join(
            f"<{prefix}col "
            + " ".join(f'{key}="{in_attribute(value)}"' for key, value in col.items())
            + "/>"
            for _, col in parts
        )
        self.xml.replace(begin, end, f"<{prefix}cols>{xml}</{prefix}cols>".encode())


def added_columns(
    archive: zipfile.ZipFile, part: str, form: SheetForm, columns: NewColumns
) -> Iterator[bytes]:
    """Yield the XML of a sheet with columns right of its last one; empty cells there go."""
    with archive.open(part) as file:
        yield from _Adding(form, columns).xml.run(file)


def _with_spans(tag: bytes, first: int, behind: int) -> bytes:
    """Return the tag of a row whose word on its columns, where it has one, takes in new ones."""
    said = re.search(rb"""\sspans\s*=\s*["']([\d: ]*)""", tag)
    if not said:
        return tag
    numbers = [*map(int, re.findall(rb"\d+", said[1])), first, behind]
    return with_attribute(tag, "spans", f"{min(numbers)}:{max(numbers)}")
