"""Reading and writing the files between the steps: checked on the way in, atomic on the way out."""

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.cli import UserError

# Everything that ends a line for some reader (str.splitlines), and what no text should hold.
LINE_BREAKS = r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
CONTROLS = r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]"


def clean_text(text: str) -> str:
    """Return a text on one line: line breaks become a space, control characters go."""
    return re.sub(CONTROLS, "", re.sub(rf"{LINE_BREAKS}+", " ", text)).strip()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path to write beside `path`, and rename it to `path` when all went well."""
    path = Path(path)
    scratch = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}): "
            "check the folder, its permissions and the free space"
        ) from error
    finally:
        with suppress(OSError):
            scratch.unlink()


def check_writable(folder: str | Path) -> Path:
    """Make a folder and try to write into it, before hours of work end in an error."""
    folder = Path(folder)
    with replacing(folder / "probe") as scratch:
        scratch.touch()
    (folder / "probe").unlink()
    return folder


def write_text(text: str, path: str | Path) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(value: Any, path: str | Path) -> None:
    """Write a JSON file that people can read."""
    write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", path)


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a CSV file: UTF-8, every field quoted, `\\n` line ends."""
    with replacing(path) as scratch:
        frame.to_csv(
            scratch, index=False, quoting=csv.QUOTE_ALL, lineterminator="\n", encoding="utf-8"
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


def read_csv(path: str | Path, columns: Sequence[str], made_by: str) -> pd.DataFrame:
    """Read a CSV file as text, and check that it has rows and `columns`.

    Every cell is text as it stands: "NA" and "001" stay so. `made_by` is the script that writes
    the file, for the error messages.
    """
    cure = f"run {made_by} first"
    with _readable(path, cure):
        try:
            frame = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8-sig")
        except pd.errors.EmptyDataError as error:
            raise UserError(f"{path} is empty: {cure}") from error
        except pd.errors.ParserError as error:
            where = re.search(r"line (\d+)|row (\d+)", str(error))
            line = f", line {where[1] or where[2]}" if where else ""
            raise UserError(
                f"{path}{line}: a row has more cells than the first line or an open quote; "
                f"repair it, or run {made_by} again"
            ) from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]!r} (it has {', '.join(map(repr, frame.columns))}): "
            f"give a file such as {made_by} writes"
        )
    if frame.empty:
        raise UserError(f"{path} has no rows: {cure}")
    print(f"read {path}: {len(frame):,} rows")
    return frame


def read_messages(
    path: str | Path, made_by: str, num_labels: int, labelled: bool = False
) -> pd.DataFrame:
    """Read `custom_id`, `message` and `class` (an int, -1 for no label) from a CSV file.

    Only `message` must be there: rows without a `custom_id` are called `row-N`, N the line in a
    spreadsheet, and rows without a `class` get -1. With `labelled`, a -1 is refused. Raises
    UserError for a class that the codebook of `num_labels` classes does not define.
    """
    required = ["custom_id", "message", "class"] if labelled else ["message"]
    frame = read_csv(path, required, made_by)
    if "custom_id" not in frame:
        frame["custom_id"] = [f"row-{n}" for n in range(2, len(frame) + 2)]
    if "class" not in frame:
        frame["class"] = "-1"
    repeated = frame["custom_id"].duplicated()
    if repeated.any():
        raise UserError(
            f"{path}, row {_row(repeated)}: custom_id {frame['custom_id'][repeated].iloc[0]!r} "
            f"stands there twice; give each row its own, or run {made_by} again"
        )
    allowed = {str(k): k for k in range(0 if labelled else -1, num_labels)}
    labels = frame["class"].str.strip().str.removesuffix(".0").map(allowed)
    wrong = labels.isna()
    if wrong.any():
        first = frame["class"][wrong].iloc[0]
        cure = (
            "it has no label; leave such rows out, as purged_labeled_v2.csv does"
            if first == "-1"
            else f"the codebook's classes are 0 to {num_labels - 1}; correct the cell"
        )
        raise UserError(f"{path}, row {_row(wrong)}: class {first!r}: {cure}")
    frame["class"] = labels.astype(int)
    return frame[["custom_id", "message", "class"]]


def _row(mask: pd.Series) -> int:
    """Return the spreadsheet row (the first line is 1) of the first True in a mask."""
    return int(mask.to_numpy().argmax()) + 2
