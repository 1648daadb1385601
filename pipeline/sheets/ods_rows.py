"""The rows of one table of an .ods, as its XML has them, with the places of their cells."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.sheets.xml_edits import Attributes, UnusualXml, XmlEdits

NAMESPACE = "urn:oasis:names:tc:opendocument:xmlns:{}:1.0"
COLUMNS_REPEATED, ROWS_REPEATED = "number-columns-repeated", "number-rows-repeated"


@dataclass
class Cell:
    """One cell, or several that are equal, from the index `column` on.

    It lies between two places of the XML. `filled` tells whether it is more than a format; `wide`
    and `high` are the columns and rows that it is merged of.
    """

    column: int
    repeat: int
    begin: int
    end: int
    style: str
    filled: bool
    covered: bool
    wide: int = 1
    high: int = 1

    @property
    def behind(self) -> int:
        """The index of the column behind it."""
        return self.column + max(self.repeat, self.wide)


@dataclass
class OdsRow:
    """A row, or `repeat` rows that are equal, from the number `number` on.

    Its XML is between `begin` and `end`, and its last tag begins at `inside`.
    """

    number: int
    repeat: int
    begin: int
    inside: int = 0
    end: int = 0
    cells: list[Cell] = field(default_factory=list)

    @property
    def width(self) -> int:
        """The number of columns up to the last cell that is more than a format."""
        return max((c.behind for c in self.cells if c.filled or c.wide > 1), default=0)


@dataclass(frozen=True)
class Events:
    """What is called for each row of the table, each table's tag and each other part.

    `column` is called with the tag of columns of the table and the first of them, `part` at the
    begin of each other part of the document's body, and at the end of the body.
    """

    row: Callable[[OdsRow], None]
    table: Callable[[Attributes], None]
    column: Callable[[int, Attributes], None]
    part: Callable[[], None]


class OdsRows:
    """Goes over the content.xml of an .ods and tells of the rows of the table `title`."""

    def __init__(self, title: str, events: Events) -> None:
        self.xml = XmlEdits(self._start, self._end)
        self.table = self.office = self.text = ""
        self.locked = False
        self._title, self._events = title, events
        self._depth = self._body = self._skipped = 0
        self._here = False
        self._column = self._number = 0
        self._row: OdsRow | None = None
        self._cell: Cell | None = None
        self._next_row, self._next_cell, self._next_column = 1, 0, 0

    def attribute(self, attributes: Attributes, name: str, default: str = "") -> str:
        """Return an attribute of the namespace of tables."""
        return attributes.get(f"{self.table}{name}", default)

    def _start(self, name: str, attributes: Attributes) -> None:
        if not self._depth:
            self._read_prefixes(attributes)
        self._depth += 1
        if self._skipped:
            self._skipped += 1
            if self._cell:
                self._cell.filled = True
        elif name == f"{self.office}spreadsheet":
            self._body = self._depth
            self.locked = self.attribute(attributes, "structure-protected") == "true"
        elif not self._body:
            return
        elif self._depth == self._body + 1:
            self._start_part(name, attributes)
        elif self._here:
            self._start_inside(name.removeprefix(self.table), attributes)

    def _read_prefixes(self, attributes: Attributes) -> None:
        """Find the prefixes of the names of tables, of the document's body and of texts."""
        prefixes = {space: key for key, space in attributes.items() if key.startswith("xmlns:")}
        for name in ("table", "office", "text"):
            key = prefixes.get(NAMESPACE.format(name))
            if not key:
                raise UnusualXml(f"no prefix for {NAMESPACE.format(name)}")
            setattr(self, name, f"{key.removeprefix('xmlns:')}:")

    def _start_part(self, name: str, attributes: Attributes) -> None:
        if name != f"{self.table}table":
            self._here = False
            self._events.part()
            return
        self._events.table(attributes)
        self._here = self.attribute(attributes, "name") == self._title
        self._next_row, self._next_column = 1, 0

    def _start_inside(self, name: str, attributes: Attributes) -> None:
        if name in ("table-cell", "covered-table-cell"):
            self._start_cell(name, attributes)
        elif name == "table-row":
            repeat = int(self.attribute(attributes, ROWS_REPEATED, "1"))
            self._row = OdsRow(self._next_row, repeat, self.xml.place)
            self.xml.hold = self.xml.place
            self._next_row += repeat
            self._next_cell = 0
        elif name == "table-column":
            self._events.column(self._next_column, attributes)
            self._next_column += int(self.attribute(attributes, COLUMNS_REPEATED, "1"))
        elif name == "shapes":
            self._skipped = 1

    def _start_cell(self, name: str, attributes: Attributes) -> None:
        self._cell = Cell(
            self._next_cell,
            int(self.attribute(attributes, COLUMNS_REPEATED, "1")),
            self.xml.place,
            0,
            self.attribute(attributes, "style-name"),
            f"{self.office}value-type" in attributes or f"{self.table}formula" in attributes,
            name == "covered-table-cell",
            int(self.attribute(attributes, "number-columns-spanned", "1")),
            int(self.attribute(attributes, "number-rows-spanned", "1")),
        )
        self._next_cell += self._cell.repeat
        self._skipped = 1

    def _end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            if not self._skipped and self._cell and self._row:
                self._cell.end = self.xml.end_of(name)[1]
                self._row.cells.append(self._cell)
                self._cell = None
        elif self._row and name == f"{self.table}table-row":
            self._row.inside, self._row.end = self.xml.end_of(name)
            self._events.row(self._row)
            self._row = self.xml.hold = None
        elif self._depth == self._body:
            self._events.part()
            self._body = 0
        self._depth -= 1
