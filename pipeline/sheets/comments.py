"""A sheet of comments: where its column names, its comments and its ids stand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.files import clean_text
from pipeline.sheets.reading import Row, Sheet, cell_text, column_letter, find_column, open_sheet

ID = "custom_id"
CUSTOM_ID = "custom_id of the sheet"  # its name in our table where another column gives the ids


@dataclass(frozen=True)
class CommentSheet:
    """A sheet whose row `first`, the first one that holds anything, names the columns.

    `text` is the index of the comments' column, `id_column` that of the user's own ids, -1 for
    none; `change` is what the user may do about the latter.
    """

    path: str | Path
    sheet: Sheet
    first: int
    header: list[str]
    text: int
    id_column: int
    change: str

    @property
    def places(self) -> list[int]:
        """The indices of the columns of our table, custom_id aside."""
        return [n for n, name in enumerate(self.header) if (name, n) != (ID, self.id_column)]

    @property
    def columns(self) -> list[str]:
        """The columns of our table: custom_id and every other one."""
        return [ID, *(CUSTOM_ID if (name := self.header[n]) == ID else name for n in self.places)]

    def rows(self) -> Iterator[Row]:
        """Yield number and cells of each row below the names; blank rows are []."""
        width = len(self.header)
        for number, cells in self.sheet.rows(self.text):
            if number > self.first:
                yield number, cells and (cells + [""] * (width - len(cells)))[:width]


@contextmanager
def open_comment_sheet(
    path: str | Path, sheet: str, text_column: str, id_column: str = "", encoding: str = ""
) -> Iterator[CommentSheet]:
    """Yield a sheet whose comments stand in `text_column`, a name or a letter.

    `id_column` holds the user's own ids; by default it is a column of the name custom_id, where
    there is one, and custom_id is row-N elsewhere. A column without a name goes by its letter.
    Raises UserError for a sheet without rows, a title above the column names, and a column that is
    not there.
    """
    with open_sheet(path, sheet, encoding) as opened:
        rows = opened.rows(-1)
        first, cells = next(((number, cells) for number, cells in rows if cells), (0, []))
        if next(rows, None) is None:
            raise UserError(f"{path} has no rows of data: check the file and --sheet")
        names = [clean_text(cell_text(cell)) for cell in cells]
        header = [name or column_letter(index) for index, name in enumerate(names)]
        cure = "; if the comments are in another sheet, give --sheet its name"
        cure *= bool(opened.name and not sheet)
        text = _find_text(opened, names, header, text_column, first, cure)
        own = id_column or (ID if ID in header else "")
        column = find_column(path, header, own) if own else -1
        if own and not id_column:
            print(f"column {ID!r} is taken as the rows' ids (--id-column names another one)")
        change = "leave out --id-column" if id_column else f"give column {ID!r} another name"
        yield CommentSheet(path, opened, first, header, text, column, change)


def _find_text(
    sheet: Sheet, names: list[str], header: list[str], text_column: str, first: int, cure: str
) -> int:
    """Return the index of the comments' column, and print its name where a letter stands for it."""
    if text_column in names:
        return find_column(sheet.path, header, text_column)
    if sum(map(bool, names)) == 1:
        _refuse_title(sheet, next(filter(None, names)))
    text = find_column(sheet.path, header, text_column, cure)
    name = repr(names[text]) if names[text] else "without a name: if the row is a title, delete it"
    print(f"row {first} names the columns; the comments are in {text_column.upper()}, {name}")
    return text


def _refuse_title(sheet: Sheet, shown: str) -> None:
    """Stop where the first rows have one filled cell each and most of the rows below have more.

    A sheet of comments and nothing else has one in each row. `shown` is what the first row holds.
    """
    titles: list[int] = []
    rows = wider = 0
    for number, cells in sheet.rows(-1):
        if not cells:
            continue
        filled = sum(clean_text(cell_text(cell)) != "" for cell in cells)
        if filled == 1 and len(titles) == rows:
            titles.append(number)
        rows += 1
        wider += filled > 1
    if wider > rows / 2:
        raise UserError(
            f"{sheet.path}, row {titles[0]}: {shown!r} stands there alone, as a title does, where "
            f"the names of the columns should be: delete {'row' if len(titles) == 1 else 'rows'} "
            f"{', '.join(map(str, titles))}; if it is the name of a column, give --text-column "
            f"{shown!r}, or name the other columns too"
        )
