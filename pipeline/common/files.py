"""Reading and writing the files between the steps: checked on the way in, atomic on the way out."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.common.cli import UserError

JsonObject = dict[str, Any]  # as json.loads returns it

# Everything that ends a line for some reader (str.splitlines), and what no text should hold.
LINE_BREAKS = r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
# What shows nothing: soft hyphen, zero-width characters, marks of direction, fillers, selectors.
# Inside a text they have a use (emoji, Persian, Arabic), so that only a text of nothing else is "".
UNSEEN = (
    r"\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\uffa0\ufff9-\ufffb"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
INVISIBLE = re.compile(rf"[{UNSEEN}]*")
CONTROLS = r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]"


def clean_text(text: str) -> str:
    """Return a text on one line: line breaks become a space, control characters go.

    A text of nothing that can be seen is "".
    """
    if not text.isprintable():  # most texts hold neither, and 75,000 are read in each step
        text = re.sub(CONTROLS, "", re.sub(rf"{LINE_BREAKS}+", " ", text))
    line = text.strip()
    return "" if INVISIBLE.fullmatch(line) else line


@contextmanager
def replacing(path: str | Path, keep: bool = False) -> Iterator[Path]:
    """Yield a path to write beside `path`, and rename it to `path` when all went well.

    With `keep`, `path` stays as it is: a trial of whether it could be written.
    """
    path = Path(path)
    scratch = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        if not keep:
            os.replace(scratch, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}): close it in other programs, such as "
            "Excel, and check the folder, its permissions and the free space"
        ) from error
    finally:
        with suppress(OSError):
            scratch.unlink()


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path] = ()) -> None:
    """Stop where an output cannot be written or is an input, before anything is written."""
    sources = {Path(path).resolve() for path in inputs}
    for path in map(Path, outputs):
        if path.resolve() in sources:
            raise UserError(f"{path} would be overwritten by its own output: give another path")
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the path of a file")
        with replacing(path, keep=True) as scratch:
            scratch.touch()
            if path.is_file():
                path.open("r+b").close()  # on Windows it fails where another program has the file


def write_text(text: str, path: str | Path) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(value: Any, path: str | Path) -> None:
    """Write a JSON file that people can read; NaN and infinity, which JSON has not, are null."""
    write_text(
        json.dumps(_finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n", path
    )


def _finite(value: Any) -> Any:
    """Return a JSON value with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a CSV file: UTF-8 with a byte order mark, every field quoted, `\\n` line ends."""
    with replacing(path) as scratch:
        frame.to_csv(
            scratch, index=False, quoting=csv.QUOTE_ALL, lineterminator="\n", encoding="utf-8-sig"
        )
    print(f"wrote {path}: {len(frame):,} rows")


@contextmanager
def _readable(path: str | Path, cure: str) -> Iterator[None]:
    """Turn what can be wrong with a text file into one line."""
    if not Path(path).is_file():
        raise UserError(f"{path} not found: {cure}")
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}): save it as 'CSV UTF-8' or UTF-8 text"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def read_text(path: str | Path, cure: str) -> str:
    """Read a UTF-8 text file, with or without a byte order mark."""
    with _readable(path, cure):
        return Path(path).read_text(encoding="utf-8-sig")


def read_json(path: str | Path, cure: str) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path, cure))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno} is not JSON: {cure}") from error


def parse_csv(path: str | Path, text: str, delimiter: str, cure: str) -> dict[int, list[str]]:
    """Return row number -> cells of a CSV text, as a spreadsheet numbers rows; blank rows are [].

    The first row that holds anything names the columns; no row may have more cells than it.
    """
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: dict[int, list[str]] = {}
    header: list[str] = []
    try:
        for number, cells in enumerate(reader, start=1):
            rows[number] = cells if any(cells) else []
            header = header or rows[number]
            if any(cells[len(header) :]):
                raise UserError(
                    f"{path}, row {number}: {len(cells)} cells under {len(header)} column names: "
                    f"some text stands outside its quotes, or the first row is a title; {cure}"
                )
    except csv.Error as error:
        raise UserError(f"{path}, row {len(rows) + 1}: {error}; {cure}") from error
    return rows


def read_csv(path: str | Path, columns: Sequence[str], made_by: str) -> pd.DataFrame:
    """Read a CSV file as text, and check that it has rows and `columns`, no column twice.

    Every cell is text as it stands: "NA" and "001" stay so. The index holds the rows' numbers in a
    spreadsheet. `made_by` is the script that writes the file, for the error messages.
    """
    rows = parse_csv(path, read_text(path, f"run {made_by} first"), ",", f"run {made_by} again")
    table = {number: cells for number, cells in rows.items() if cells}
    if not table:
        raise UserError(f"{path} is empty: run {made_by} first")
    header = table.pop(next(iter(table)))
    missing = [column for column in columns if column not in header]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]!r} (it has {', '.join(map(repr, header))}): "
            f"give a file such as {made_by} writes"
        )
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise UserError(f"{path} has two columns {twice[0]!r}: remove one, or give it another name")
    if not table:
        raise UserError(f"{path} has no rows: run {made_by} first")
    for number, cells in table.items():
        if len(cells) < len(header):
            raise UserError(
                f"{path}, row {number}: {len(cells)} cells under {len(header)} column names: "
                f"complete the row, or run {made_by} again"
            )
    frame = pd.DataFrame(
        [cells[: len(header)] for cells in table.values()],
        index=list(table),
        columns=header,
        dtype=str,
    )
    blank = len(rows) - 1 - len(frame)
    print(f"read {path}: {len(frame):,} rows{f', and {blank:,} blank ones' if blank else ''}")
    return frame
