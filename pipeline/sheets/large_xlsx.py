"""The rows of a large .xlsx, read as they are wanted: other readers hold several times the sheet.

Cells are found by patterns that fit what spreadsheet programs write, and rows in another form by an
XML parser. `NotAsWritten` tells a file that neither understands, which is for calamine.
"""

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, BinaryIO
from xml.sax.saxutils import escape

from pipeline.common.cli import UserError
from pipeline.sheets.xlsx_parts import (
    MAIN,
    READ,
    TEXT,
    Book,
    NotAsWritten,
    date_styles,
    parse_xml,
    plain_text,
    read_parts,
    shared_strings,
    string_text,
)

ROW = re.compile(r'\s*(?:<row [^>]*/>\s*)*<row (?:[^>]* )?r="(\d+)"[^>]*>')
CELL = re.compile(  # column, style, type, formula, value, text
    r'<c r="([A-Z]+)\d+"(?: s="(\d+)")?(?: t="(\w+)")?(?:/>|>'
    r"(?:<f(?: [^>]*)?(?:/>|>([^<]*)</f>))?"
    rf"(?:<v/>|<v>([^<]*)</v>|<is>{TEXT}</is>)?</c>)"
)
Found = list[tuple[str, ...]]  # the cells of a row, each as the groups of CELL


class Formula(str):
    """The text of a formula without a value: a comment that begins with "=" became one."""


class Lost(str):
    """An error such as #NAME? that stands in place of a text."""


Row = tuple[int, list[Any]]
READERS: dict[str, Callable[[str], Any]] = {
    "str": partial(plain_text, escaped=True),
    "inlineStr": partial(plain_text, escaped=True),
    "b": {"1", "true"}.__contains__,
    "e": lambda value: "",
}


@dataclass(frozen=True)
class Layout:
    """The form of a row: `pattern` finds its number and the value of each cell, for `readers`."""

    pattern: re.Pattern[str]
    readers: list[Callable[[str], Any]]


NO_LAYOUT = Layout(re.compile("(?!)"), [])


class LargeSheet:
    """A sheet of a large .xlsx; `scratch` is an empty file for the texts in it."""

    def __init__(self, book: Book, name: str, scratch: BinaryIO) -> None:
        self._path, self._part = book.path, book.sheets[name]
        with zipfile.ZipFile(book.path) as archive:
            self._string = shared_strings(archive, book.strings, scratch)
            self._dates = date_styles(archive, book.since_1904)
        self._width = self._widest()

    def rows(self, formulas_in: int = -1) -> Iterator[Row]:
        """Yield number and cells of each row, as `Sheet.rows` does.

        Raises NotAsWritten in place of the first row that is not.
        """
        last = 0
        for number, cells in self._filled_rows(formulas_in):
            if number <= last:
                raise UserError(
                    f"{self._path}, row {number}: it stands behind row {last}: open it in a "
                    "spreadsheet program and save it again"
                )
            if len(cells) > self._width:
                raise UserError(
                    f"{self._path}, row {number}: its cells go beyond the last column of the "
                    "sheet: open it in a spreadsheet program and save it again"
                )
            yield from ((blank, []) for blank in range(last + 1, number))
            yield number, cells + [""] * (self._width - len(cells))
            last = number

    def _widest(self) -> int:
        """Return the number of columns up to the last one with a cell that is not empty.

        Where the sheet's own word and its first row differ, all rows are read for it.
        """
        with zipfile.ZipFile(self._path) as archive, archive.open(self._part) as file:
            start = file.read(READ).decode("utf-8", "ignore")
        said = re.search(r'<dimension ref="[A-Z]+\d+:([A-Z]+)\d+"', start)
        first = len(next(self._filled_rows(), (0, []))[1])
        if said and _place(said[1]) + 1 == first:
            return first
        return max((len(cells) for _, cells in self._filled_rows()), default=0)

    def _filled_rows(self, formulas_in: int = -1) -> Iterator[Row]:
        """Yield number and cells, up to the last filled one, of each row that has one."""
        layout, missed = NO_LAYOUT, False
        with zipfile.ZipFile(self._path) as archive, archive.open(self._part) as file:
            head, parts = read_parts(file, "<sheetData>", "</row>")
            for part in parts:
                for row in part.removeprefix("<sheetData>").split("</row>")[:-1]:
                    if match := layout.pattern.fullmatch(row):
                        number, *values = match.groups()
                        pairs = zip(layout.readers, values, strict=True)
                        cells = [read(value) if value else "" for read, value in pairs]
                        missed = False
                    else:
                        number, found = _found(row, head)
                        cells = self._cells(number, found, formulas_in)
                        layout, missed = self._layout(found) if missed else layout, True
                    while cells and cells[-1] == "":
                        cells.pop()
                    if cells:
                        yield int(number), cells

    def _cells(self, number: str, found: Found, formulas_in: int) -> list[Any]:
        """Return the cells of a row from column A on."""
        cells: list[Any] = []
        for letters, style, kind, formula, value, text in found:
            cell = self._reader(style, kind)(value or text) if value or text else ""
            place = _place(letters)
            if cell == "" and place == formulas_in and (formula or kind == "e"):
                cell = Formula(f"={plain_text(formula)}") if formula else Lost(value)
            if place < len(cells):
                raise NotAsWritten(f"row {number}: cells that are not in order")
            cells += [""] * (place - len(cells))
            cells.append(cell)
        return cells

    def _reader(self, style: str, kind: str) -> Callable[[str], Any]:
        """Return what makes a cell of its value, which is not empty."""
        number = self._dates.get(style, float)
        readers = {"s": self._string, "": number, "n": number, **READERS}
        if kind not in readers:
            raise NotAsWritten(f"a cell of the type {kind}")
        return readers[kind]

    def _layout(self, found: Found) -> Layout:
        """Return the form of a row, which most of the rows below it have too."""
        pattern = [r'<row (?:[^>]* )?r="(\d+)"[^>]*>']
        readers: list[Callable[[str], Any]] = []
        for letters, style, kind, *_ in found:
            if kind == "e":  # which may be a `Lost`
                continue
            while len(readers) < _place(letters):
                pattern.append("()")
                readers.append(str)
            form = "".join(
                f' {key}="{value}"' for key, value in (("s", style), ("t", kind)) if value
            )
            value = f"<is>{TEXT}</is>" if kind == "inlineStr" else "<v>([^<]*)</v>"
            pattern.append(rf'(?:<c r="{letters}\d+"{form}>{value}</c>)?')
            readers.append(self._reader(style, kind))
        return Layout(re.compile("".join(pattern)), readers)


def _found(row: str, head: str) -> tuple[str, Found]:
    """Return the number of a row and the cells in its XML; `head` is the sheet's before it."""
    start = ROW.match(row)
    if not start:
        raise NotAsWritten(row[:80])
    found = CELL.findall(row, start.end())
    if len(found) != row.count("<c", start.end()) or "<!" in row:
        found = _parsed_cells(f"{head}{row}</row></worksheet>")
    return start[1], found


def _parsed_cells(xml: str) -> Found:
    """Return the cells of a row in any form, as the groups of `CELL`."""
    found = []
    for cell in parse_xml(xml).iter(f"{MAIN}c"):
        formula, value, inline = (cell.find(f"{MAIN}{tag}") for tag in ("f", "v", "is"))
        texts = ["" if part is None else escape(part.text or "") for part in (formula, value)]
        texts.append("" if inline is None else string_text(inline))
        place = re.match("[A-Z]+", cell.get("r", ""))
        if not place:
            raise NotAsWritten("a cell that does not say where it stands")
        found.append((place[0], cell.get("s", ""), cell.get("t", ""), *texts))
    return found


@cache
def _place(letters: str) -> int:
    """Return the index of a column: A is 0."""
    place = 0
    for letter in letters:
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1
