"""The messages in a sheet of comments, checked and counted while the rows are read."""

import datetime
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.files import CLEAN_START, clean_text
from pipeline.common.rows import HUMAN, row_numbers
from pipeline.common.tables import PART
from pipeline.sheets.comments import ID, CommentSheet
from pipeline.sheets.masking import PersonalData
from pipeline.sheets.reading import Formula, Lost, cell_text, column_letter, find_column

CODED_BY = "coded_by"
CODES = ("class", "class_name", CODED_BY)  # columns of a spreadsheet that code_comments.py wrote
NO_TEXT = (bool, datetime.date, datetime.time, datetime.timedelta)


@dataclass
class Count:
    """How many rows there are of a kind, and the numbers of the first of them."""

    rows: int = 0
    numbers: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.rows += 1
        if len(self.numbers) < 6:  # as many as `row_numbers` looks at
            self.numbers.append(number)

    def __str__(self) -> str:
        return row_numbers(self.numbers)


def clean_cells(cells: list[str]) -> list[str]:
    """Return what `clean_text` makes of each cell of a row; most rows are clean."""
    if "".join(cells).isprintable():
        return [c if c and c[0] in CLEAN_START and c[-1] != " " else clean_text(c) for c in cells]
    return [clean_text(cell) for cell in cells]


def _refuse_codes(sheet: CommentSheet, name: str) -> None:
    """Stop where the column of people's classes is one of those of a spreadsheet that was coded."""
    for own in CODES:
        prefix = name.removesuffix(own)
        if name.endswith(own) and all(f"{prefix}{column}" in sheet.header for column in CODES):
            raise UserError(
                f"{sheet.path}: column {name!r} is what code_comments.py wrote, by the model too, "
                f"as {prefix + CODED_BY!r} says: copy the classes that people gave into a column "
                "of their own, and give --label-column that one"
            )


class Messages:
    """Makes the rows of our two tables of those of a sheet, and counts what is left out or changed.

    With `user_column`, a name or a letter, messages read "user: comment". `label_column` holds the
    classes that people gave, by number or by name of `codebook`, blank for none. `mask` hides what
    looks like personal data in the comments; users' names stay.
    """

    def __init__(
        self,
        sheet: CommentSheet,
        user_column: str = "",
        label_column: str = "",
        codebook: Codebook | None = None,
        mask: bool = False,
    ) -> None:
        self._sheet, self._codebook = sheet, codebook
        self.personal = PersonalData(mask)
        self._user = find_column(sheet.path, sheet.header, user_column) if user_column else -1
        self._label = find_column(sheet.path, sheet.header, label_column) if label_column else -1
        if label_column:
            _refuse_codes(sheet, sheet.header[self._label])
        self.columns = [ID, "message", "class", *(["coded_by", "coded_as"] if label_column else [])]
        self._classes: dict[str, list[str]] = {}
        self.numbers = array("q")  # of the rows with a message, in their order
        self._rows = self._cleaned = self._numbers = self._coded = 0
        self._empty, self._blank, self._formulas = Count(), Count(), Count()
        self._dates, self._nameless = Count(), Count()
        self._date: Any = None
        self._hashes = array("q")
        self._id_hashes, self._id_rows = array("q"), array("q")

    def parts(self) -> Iterator[tuple[list[list[str]], list[list[str]]]]:
        """Yield rows of the table with every column, and of that of messages, part by part.

        Raises UserError for a class that is none and a text that is lost, and, when all rows are
        read, for comments that are not text, ids that are missing or stand twice, and no message.
        """
        sheet, places = self._sheet, self._sheet.places
        all_places = len(places) == len(sheet.header)
        table: list[list[str]] = []
        messages: list[list[str]] = []
        for number, cells in sheet.rows():
            self._rows += 1
            if not cells:
                self._blank.add(number)
                continue
            texts = clean_cells([c if type(c) is str else cell_text(c) for c in cells])
            custom_id = self._read_id(number, texts)
            kept = texts if all_places else [texts[place] for place in places]
            table.append([custom_id, *kept])
            if message := self._read_message(number, custom_id, cells[sheet.text], texts):
                messages.append([custom_id, message, *self._read_class(number, texts)])
            if len(table) == PART:
                yield table, messages
                table, messages = [], []
        self._check()
        print(f"read {sheet.path}: {self._rows:,} rows below the column names")
        yield table, messages

    def _read_id(self, number: int, texts: list[str]) -> str:
        """Return a row's custom_id, "" where it has none."""
        sheet = self._sheet
        if sheet.id_column < 0:
            return f"row-{number}"
        custom_id = texts[sheet.id_column]
        if custom_id:
            self._id_hashes.append(hash(custom_id))
            self._id_rows.append(number)
        elif texts[sheet.text]:
            self._nameless.add(number)
        return custom_id

    def _read_message(self, number: int, custom_id: str, cell: Any, texts: list[str]) -> str:
        """Return a row's message, "" where it has none."""
        message = texts[self._sheet.text]
        if type(cell) is not str:
            cell = self._read_other(number, cell)
        if not message:
            self._empty.add(number)
            return ""
        self._cleaned += message != cell and message != cell.strip()
        message = self.personal.look_at(custom_id, message)
        if self._user >= 0 and (name := texts[self._user]):
            message = f"{name}: {message}"
        self._hashes.append(hash(message))
        self.numbers.append(number)
        return message

    def _read_other(self, number: int, cell: Any) -> str:
        """Return the text of a comment that is no plain one, and count its kind.

        Numbers are text enough. Raises UserError where the text is lost.
        """
        if isinstance(cell, Lost):
            raise UserError(
                f"{self._sheet.path}, row {number}: column {column_letter(self._sheet.text)} holds "
                f"{cell} and no text: type the comment again, or clear the cell"
            )
        if isinstance(cell, Formula):
            self._formulas.add(number)
            return cell
        if isinstance(cell, NO_TEXT):
            self._dates.add(number)
            self._date = cell if self._date is None else self._date
        self._numbers += 1
        return cell_text(cell)

    def _read_class(self, number: int, texts: list[str]) -> list[str]:
        """Return the class that people gave a message, who gave it and its name; -1 if none did."""
        if self._label < 0 or self._codebook is None:
            return ["-1"]
        cell, codebook = texts[self._label], self._codebook
        if cell not in self._classes:
            label = parse_label(cell, codebook)
            if label is None:
                raise UserError(
                    f"{self._sheet.path}, row {number}: label {cell!r} is no class of "
                    f"{codebook.path} ({codebook.choices}): correct the cell; where people coded "
                    "by other classes, give --label-column a column with these, or leave it out"
                )
            coded = ["-1", "", ""] if label < 0 else [str(label), HUMAN, codebook.names[label]]
            self._classes[cell] = coded
        self._coded += self._classes[cell][1] == HUMAN
        return self._classes[cell]

    def _check(self) -> None:
        sheet = self._sheet
        if self._dates.rows:
            raise UserError(
                f"{sheet.path}, row {self._dates.numbers[0]}: column {sheet.header[sheet.text]!r} "
                f"holds {cell_text(self._date)!r}, which the spreadsheet keeps as a "
                f"{type(self._date).__name__} and not as text: format the column as text and type "
                f"the comment again{self._dates}"
            )
        self._check_ids(f"or {sheet.change} to have the rows numbered")
        if not self._hashes:
            raise UserError(
                f"{sheet.path}: column {sheet.header[sheet.text]!r} holds no text: check "
                "--text-column"
            )

    def _check_ids(self, cure: str) -> None:
        """Stop where a comment has no id or two rows have the same one."""
        sheet = self._sheet
        if self._nameless.rows:
            raise UserError(
                f"{sheet.path}: column {sheet.header[sheet.id_column]!r} has no id for "
                f"{self._nameless.rows:,} of the comments{self._nameless}: fill them in, {cure}"
            )
        hashes, rows = np.array(self._id_hashes), np.array(self._id_rows)
        _, place, count = np.unique(hashes, return_inverse=True, return_counts=True)
        repeated = rows[count[place] > 1].tolist()
        if repeated:
            same = rows[hashes == hashes[rows == repeated[0]]].tolist()
            cells = next(cells for number, cells in sheet.rows() if number == repeated[0])
            first = clean_text(cell_text(cells[sheet.id_column]))
            rounded = re.fullmatch(r"\d{16,}|[\d.,]+E\+\d+", first)
            cause = "; Excel keeps 15 digits of a number, so format ids as text" if rounded else ""
            raise UserError(
                f"{sheet.path}: {len(repeated):,} rows share their id in column "
                f"{sheet.header[sheet.id_column]!r} with another, such as "
                f"{first!r}{row_numbers(same)}: give each row its own, {cure}{cause}"
            )

    @property
    def num_rows(self) -> int:
        """How many rows that are not blank were read so far."""
        return self._rows - self._blank.rows

    def counts(self) -> dict[str, int]:
        """Return what was left out or changed, and how many rows; once all are read."""
        repeats = len(self._hashes) - len(np.unique(np.array(self._hashes)))
        return {
            f"empty comments left out{self._empty}": self._empty.rows,
            "messages cleaned of line breaks or control characters": self._cleaned,
            "numbers read as text": self._numbers,
            f"blank rows left out{self._blank}": self._blank.rows,
            f"comments that the sheet took for formulas{self._formulas}": self._formulas.rows,
            "messages that repeat an earlier one (kept)": repeats,
            "messages that people have coded": self._coded,
        }
