"""A .csv with columns added: the bytes of each record stay, and the new cells follow them."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.sheets.new_columns import NewColumns, Table, Value, is_blank, number_text
from pipeline.sheets.reading import csv_delimiter

# In these encodings a byte of a delimiter, a quote or a line end may be a part of another
# character. In all others that hold ASCII as it is, each byte can be taken for a character.
SEVERAL_UNITS = ("utf_16", "utf_32", "utf_7", "iso2022", "hz")
BYTES = "latin-1"
MARKS = {
    "utf-16": {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"},
    "utf-32": {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"},
}
MARK = "\ufeff"
STRUCTURE = ',;\t"\r\n'
LINE_ENDS = ("\r\n", "\r", "\n")


@dataclass(frozen=True)
class CsvForm:
    """How a .csv is written: `channel` is how its bytes are read, so that they stay the same."""

    path: Path
    encoding: str
    channel: str
    mark: str
    delimiter: str

    def spelled(self, text: str) -> str:
        """Return a text as the channel has it; raises UserError where the encoding lacks it."""
        try:
            return text.encode(self.encoding).decode(self.channel)
        except UnicodeEncodeError as error:
            raise UserError(
                f"{self.path} is in {self.encoding}, which has no {text[error.start]!r} (in "
                f"{text[:40]!r}): save it as 'CSV UTF-8' or .xlsx"
            ) from error

    def records(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each record as it stands, with its line end, and its cells."""
        csv.field_size_limit(2**31 - 1)
        taken: list[str] = []
        with self.path.open(encoding=self.channel, newline="") as lines:

            def watched() -> Iterator[str]:
                for line in lines:
                    taken.append(line)
                    yield line.removeprefix(self.mark) if len(taken) == 1 else line

            for cells in csv.reader(watched(), delimiter=self.delimiter, strict=True):
                yield "".join(taken), cells
                taken.clear()


def csv_form(path: Path, encoding: str) -> CsvForm:
    """Return how a .csv in an encoding, as `find_encoding` gives it, is written."""
    delimiter = csv_delimiter(path, encoding)
    with path.open("rb") as file:
        start = file.read(4)
    marks = MARKS.get(encoding, {})
    encoding = next((name for mark, name in marks.items() if start.startswith(mark)), encoding)
    name = codecs.lookup(encoding).name.replace("-", "_")
    as_bytes = (
        not name.startswith(SEVERAL_UNITS)
        and STRUCTURE.encode(encoding, "replace") == STRUCTURE.encode()
    )
    channel = BYTES if as_bytes else encoding
    return CsvForm(path, encoding, channel, _mark(encoding, channel), delimiter)


def _mark(encoding: str, channel: str) -> str:
    """Return the byte order mark as the channel has it, "" in encodings without one."""
    try:
        return MARK.encode(encoding).decode(channel)
    except UnicodeEncodeError:
        return MARK


def check_csv(path: Path, encoding: str, names: Sequence[str]) -> None:
    """Refuse new columns whose names the encoding of a .csv does not have."""
    form = csv_form(path, encoding)
    for name in names:
        form.spelled(name)


def write_coded_csv(path: Path, target: Path, encoding: str, columns: NewColumns) -> None:
    """Write a .csv with columns behind those that it has; blank records stay blank."""
    form = csv_form(path, encoding)
    width = max(len(cells) for _, cells in form.records() if any(cells))
    count, quoted = len(columns.names), False
    with target.open("w", encoding=form.channel, newline="") as out:
        for number, (record, cells) in enumerate(form.records(), start=1):
            if number < columns.header_row or not any(cells):
                out.write(record)
                continue
            end = next((end for end in LINE_ENDS if record.endswith(end)), "")
            values: Sequence[Value] = columns.names
            if number == columns.header_row:
                quoted = record.removeprefix(form.mark) == _all_quoted(cells, form.delimiter) + end
            else:
                values = columns.cells_of(number) or [""] * count
            new = [_spelled(value, form, quoted) for value in values]
            missing = [""] * (width - len(cells) + 1)
            out.write(record.removesuffix(end) + form.delimiter.join([*missing, *new]) + end)


def _all_quoted(cells: Sequence[str], delimiter: str) -> str:
    return delimiter.join('"' + cell.replace('"', '""') + '"' for cell in cells)


def _spelled(value: Value, form: CsvForm, quoted: bool) -> str:
    """Return a cell as a .csv has it; `quoted` tells whether the file quotes every one."""
    if is_blank(value):
        return '""' if quoted else ""
    text = value if isinstance(value, str) else number_text(value)
    if quoted or text != text.strip() or any(char in text for char in f'{form.delimiter}"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return form.spelled(text)


def write_table(path: Path, table: Table, delimiter: str) -> None:
    """Write a table of a few rows as a .csv of its own: UTF-8 with a byte order mark."""
    with path.open("w", encoding="utf-8-sig", newline="", errors="replace") as out:
        csv.writer(out, delimiter=delimiter).writerows(
            [["" if is_blank(value) else value for value in row] for row in table]
        )
