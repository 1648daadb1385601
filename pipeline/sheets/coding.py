"""Spreadsheets for people to code in, and what they coded read back."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.files import clean_text, replacing
from pipeline.common.rows import find_rows, message_keys, text_hash, without_space
from pipeline.sheets.reading import cell_text, find_column, read_sheet
from pipeline.sheets.xlsx_cells import LONGEST_CELL, escaped

WRITTEN = "as written"  # a hidden page: the codebook's hash, and each row's id and message's hash
LONGEST_LINE = 8_000  # characters of the codebook in a cell of its page
WIDE, NARROW = 80, 18  # characters


def write_sheet(frame: pd.DataFrame, codebook: Codebook, fill_in: str, path: str | Path) -> None:
    """Write an .xlsx with a row per comment, and a drop-down of the class names in `fill_in`.

    `fill_in` may be "" for none. The codebook is on a second sheet; a hidden one ties the rows to
    their comments. Text is stored as text, also where it looks like a formula. Raises UserError for
    a text that no cell can hold.
    """
    from openpyxl import Workbook

    _refuse_long_texts(frame, path)
    book = Workbook()
    book.active.title = "comments"
    _write_table(book.active, frame)
    _write_codebook(book.create_sheet("codebook"), codebook)
    if fill_in and len(frame):
        _add_drop_down(book.active, codebook, frame.columns.get_loc(fill_in) + 1, len(frame) + 1)
    if fill_in:
        _write_ties(book.create_sheet(WRITTEN), frame, codebook)
    _save(book, path)
    print(f"wrote {path}: {len(frame):,} rows")


def _refuse_long_texts(frame: pd.DataFrame, path: str | Path) -> None:
    """Raise UserError for a text that no cell can hold, as the format spells it."""
    for name in frame:
        for custom_id, value in zip(frame["custom_id"], frame[name], strict=True):
            length = len(escaped(value).encode("utf-16-le")) // 2 if isinstance(value, str) else 0
            if length > LONGEST_CELL:
                raise UserError(
                    f"{path}: the {name} of {custom_id} has {length:,} characters and a cell holds "
                    f"{LONGEST_CELL:,}: shorten it in the spreadsheet"
                )


def _write_table(sheet: Any, frame: pd.DataFrame) -> None:
    """Write a table with its column names into a sheet."""
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    for column, name in enumerate(frame.columns, start=1):
        width = WIDE if name == "message" else NARROW
        sheet.column_dimensions[get_column_letter(column)].width = width
        for row, value in enumerate([name, *frame[name]], start=1):
            _put(sheet.cell(row, column), value, wrap=name == "message")
        sheet.cell(1, column).font = Font(bold=True)
    sheet.freeze_panes = "A2"


def _write_codebook(sheet: Any, codebook: Codebook) -> None:
    """Write the class names, which the drop-downs refer to, and the codebook below them."""
    from openpyxl.styles import Font

    for row, line in enumerate(_codebook_lines(codebook), start=1):
        _put(sheet.cell(row, 1), line, wrap=True)
    sheet["A1"].font = Font(bold=True)
    sheet.column_dimensions["A"].width = WIDE


def _codebook_lines(codebook: Codebook) -> list[str]:
    """Return the cells of the codebook's page, without controls and none too long for a cell."""
    lines = [
        line[start : start + LONGEST_LINE]
        for line in codebook.text.splitlines()
        for start in range(0, len(line) or 1, LONGEST_LINE)
    ]
    return [clean_text(line) for line in ["class", *codebook.names, "", *lines]]


def _write_ties(sheet: Any, frame: pd.DataFrame, codebook: Codebook) -> None:
    """Write what shows later that the codebook and the comments are those of now."""
    ties = zip(frame["custom_id"], map(_tie, frame["message"]), strict=True)
    for row, pair in enumerate([("codebook", codebook.sha256), ("row", "comment"), *ties], start=1):
        for column, text in enumerate(pair, start=1):
            _put(sheet.cell(row, column), text, wrap=False)
    sheet.sheet_state = "hidden"


def _tie(message: str) -> str:
    """Return what ties a row to its comment: a hash, white space aside."""
    return _digits(text_hash(without_space(message)))


def _digits(key: int) -> str:
    """Return one of `message_keys` as a sheet holds it."""
    return f"{key:016x}"


def update_sheet(frame: pd.DataFrame, codebook: Codebook, fill_in: str, path: Path) -> None:
    """Bring a sheet up to date with `frame`, or write it; what people wrote into it stays.

    Its rows that stand in `frame` get the values of all columns but `fill_in`, the others of
    `frame` are added below. Rows are known by id and message, see `find_rows`.
    """
    from openpyxl import load_workbook

    if not path.is_file():
        write_sheet(frame, codebook, fill_in, path)
        return
    _refuse_long_texts(frame, path)
    book = load_workbook(path)
    sheet = book.worksheets[0]
    header = next(cells for cells in sheet.iter_rows() if any(cell.value for cell in cells))
    places = {clean_text(_text_in(cell)): cell.column for cell in header}
    first, bottom = header[0].row + 1, sheet.max_row
    there = pd.DataFrame(
        {
            name: [
                clean_text(_text_in(sheet.cell(row, places[name])))
                for row in range(first, bottom + 1)
            ]
            for name in ("custom_id", "message")
        }
    )
    changed = False
    for record, place in zip(frame.to_dict("records"), find_rows(frame, there), strict=True):
        bottom += place < 0
        row = bottom if place < 0 else first + int(place)
        for name, value in record.items():
            cell = sheet.cell(row, places[name]) if name in places else None
            if cell is not None and name != fill_in and _text_in(cell) != value:
                _put(cell, value, wrap=name == "message")
                changed = True
    if changed:
        sheet.data_validations.dataValidation.clear()
        _add_drop_down(sheet, codebook, places[fill_in], bottom)
        if WRITTEN in book:
            del book[WRITTEN]
        _write_ties(book.create_sheet(WRITTEN), frame, codebook)
        _save(book, path)
        print(f"brought {path} up to date")


def _put(cell: Any, value: Any, wrap: bool) -> None:
    """Set a cell; text stays text, also `_x0041_`, and "" is an empty cell."""
    from openpyxl.styles import Alignment

    if isinstance(value, str):
        value = escaped(value)
    cell.value = None if value == "" else value
    cell.alignment = Alignment(wrap_text=wrap, vertical="top")
    if isinstance(value, str) and value:
        cell.data_type, cell.number_format, cell.quotePrefix = "s", "@", True


def _text_in(cell: Any) -> str:
    """Return the text in a cell as `_put` was given it."""
    from openpyxl.utils.escape import unescape

    return unescape(cell_text(cell.value or ""))


def _add_drop_down(sheet: Any, codebook: Codebook, column: int, bottom: int) -> None:
    """Let a column's cells down to the row `bottom` be chosen from the codebook sheet's names.

    It warns and does not forbid: class numbers are read as well as names.
    """
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    choice = DataValidation(
        type="list", formula1=f"codebook!$A$2:$A${len(codebook.names) + 1}", allow_blank=True
    )
    choice.errorStyle = "warning"
    choice.errorTitle, choice.error = "No class", f"Choose one of {', '.join(codebook.names)}"[:255]
    choice.showErrorMessage = True
    letter = get_column_letter(column)
    choice.add(f"{letter}2:{letter}{bottom}")
    sheet.add_data_validation(choice)


def _save(book: Any, path: str | Path) -> None:
    packed = BytesIO()  # what zipfile leaves open on a full disk would fail again, with a traceback
    book.save(packed)
    with replacing(path) as scratch:
        scratch.write_bytes(packed.getbuffer())


def read_filled_in(
    path: str | Path, codebook: Codebook, column: str, rows: pd.DataFrame, cure: str
) -> pd.DataFrame:
    """Return what people filled in: `custom_id`, `message`, `label`, `place` of each of its rows.

    A label is given by number or name, and -1 for a blank; `place` is the row's place among `rows`
    (custom_id, and what `message_keys` takes) as they are now, -1 where it is gone. The index holds
    the sheet's row numbers. Raises UserError for a sheet of another codebook, a cell that is no
    class, an id that stands there twice or is another's, and a comment beside the id of another
    one, as sorting a single column leaves it; with `cure` where there is no file or an empty one.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} not found: {cure}")
    header, cells_of = _read_table(path)
    if not header:
        raise UserError(f"{path} is empty: {cure}")
    for name in ("custom_id", "message", column):
        if header.count(name) > 1:
            raise UserError(f"{path} has two columns {name!r}: remove one")
    columns = [find_column(path, header, name) for name in ("custom_id", "message", column)]
    ties = _read_ties(path, codebook)
    if not ties:
        ties = dict(zip(rows["custom_id"], map(_digits, message_keys(rows).tolist()), strict=True))
    table: dict[int, tuple[str, str, int]] = {}
    for number, cells in cells_of.items():
        custom_id, message, text = (cells[place] for place in columns)
        label = parse_label(text, codebook)
        if not custom_id and label == -1:
            continue  # a remark below the table
        if label is None:
            raise UserError(
                f"{path}, row {number}: {column} {text!r} is no class ({codebook.choices}): "
                "correct the cell"
            )
        table[number] = custom_id, message, label
    filled = pd.DataFrame.from_dict(table, "index", columns=["custom_id", "message", "label"])
    _refuse_other_rows(path, filled, ties)
    return filled.assign(place=find_rows(filled, rows))


def _refuse_other_rows(path: str | Path, filled: pd.DataFrame, ties: dict[str, str]) -> None:
    """Stop where the ids and comments of a sheet are not those that it was written with."""
    seen: set[str] = set()
    for row, custom_id, message in filled[["custom_id", "message"]].itertuples(name=None):
        if custom_id in seen:
            raise UserError(
                f"{path}, row {row}: custom_id {custom_id!r} stands there twice: remove a row"
            )
        if custom_id not in ties:
            raise UserError(
                f"{path}, row {row}: custom_id {custom_id!r} is not one of the sheet's: put back "
                "the id that stood there, or clear the row"
            )
        if _tie(message) != ties[custom_id]:
            raise UserError(
                f"{path}, row {row}: the comment is not that of {custom_id}: the sheet belongs to "
                "other data, or one column was sorted without the others"
            )
        seen.add(custom_id)


def _read_ties(path: str | Path, codebook: Codebook) -> dict[str, str]:
    """Return custom_id -> `_tie` of its comment as a sheet was written, {} where it does not say.

    Raises UserError where the sheet was written with another codebook: by the hash on its hidden
    page, or by the text of its codebook page.
    """
    pairs = [(cells[0], cells[1]) for cells in _read_page(path, WRITTEN) if len(cells) > 1]
    text = "".join(without_space(cells[0]) for cells in _read_page(path, "codebook") if cells)
    same = text in ("", "".join(map(without_space, _codebook_lines(codebook))))
    if pairs:
        same |= pairs[0][1] == codebook.sha256
    if not same:
        raise UserError(
            f"{path} was made with another codebook than {codebook.path}: give --prompt-file that "
            "one, or make a new sheet with the codebook of now"
        )
    return dict(pairs[2:])


def _read_page(path: str | Path, name: str) -> list[list[str]]:
    """Return the cells of a workbook's page as text; none where it has no such page."""
    if not zipfile.is_zipfile(path):
        return []
    try:
        rows = read_sheet(path, name)
    except UserError:
        return []
    return [[clean_text(cell_text(cell)) for cell in cells] for cells in rows.values()]


def is_filled_in(path: Path, column: str) -> bool:
    """Return whether anybody wrote into a column of a sheet."""
    header, rows = _read_table(path)
    if not header:
        return False
    place = find_column(path, header, column)
    return any(cells[place] for cells in rows.values())


def count_blank(path: Path, column: str) -> int:
    """Return how many of a sheet's comments have nothing in a column."""
    header, rows = _read_table(path)
    key, place = (find_column(path, header, name) for name in ("custom_id", column))
    return sum(bool(cells[key]) and not cells[place] for cells in rows.values())


def _read_table(path: str | Path) -> tuple[list[str], dict[int, list[str]]]:
    """Return a sheet's column names, and row number -> cells as text, "" where one is missing."""
    rows = {
        number: [clean_text(cell_text(cell)) for cell in cells]
        for number, cells in read_sheet(path).items()
        if cells
    }
    if not rows:
        return [], {}
    header = rows.pop(next(iter(rows)))
    blanks = [""] * len(header)
    return header, {number: cells + blanks for number, cells in rows.items()}
