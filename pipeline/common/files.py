"""Reading and writing the files between the steps: checked on the way in, atomic on the way out."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.common.cli import UserError
from pipeline.common.faults import writing
from pipeline.common.lock import claim
from pipeline.common.scratch import scratch_beside

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
# A text without controls that begins with one of these, and ends with no space, stays as it is.
CLEAN_START = frozenset(map(chr, [*range(0x21, 0x7F), *range(0x4E00, 0xA000)]))
CONTROLS = r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]"


def clean_text(text: str) -> str:
    """Return a text on one line: line breaks become a space, control characters go.

    A text of nothing that can be seen is "".
    """
    if not text.isprintable():
        text = re.sub(CONTROLS, "", re.sub(rf"{LINE_BREAKS}+", " ", text))
    elif text[:1] in CLEAN_START and text[-1] != " ":  # most texts
        return text
    line = text.strip()
    return "" if INVISIBLE.fullmatch(line) else line


@contextmanager
def replacing(path: str | Path, keep: bool = False) -> Iterator[Path]:
    """Yield a path to write beside `path`, and rename it to `path` when all went well.

    What is renamed is on the disk by then: where the power fails, the old file is there or the new
    one. With `keep`, `path` stays as it is: a trial of whether it could be written.
    """
    path = Path(path)
    with ExitStack() as beside:
        with writing(path):
            scratch = beside.enter_context(scratch_beside(path))
        with writing(path, scratch):
            yield scratch
            if keep:
                return
            flush_to_disk(scratch)
            if _together:
                _together[-1].add(path, scratch, beside.pop_all())
            else:
                os.replace(scratch, path)


class Together:
    """Complete files that wait beside their places for the others of their run."""

    def __init__(self) -> None:
        self._moves: list[tuple[Path, Path]] = []
        self._outdated: list[Path] = []
        self._beside = ExitStack()

    def add(self, path: Path, scratch: Path, beside: ExitStack) -> None:
        """Let a file wait; `beside` removes it where it does not take its place."""
        self._moves.append((path, scratch))
        self._beside.push(beside)

    def remove(self, path: Path) -> None:
        """Let a file of an earlier run go when those of this one take their places."""
        self._outdated.append(path)

    def move(self) -> None:
        """Rename all files, in the order in which they were written; outdated ones go first."""
        for path in self._outdated:
            with writing(path):
                path.unlink(missing_ok=True)
        for path, scratch in self._moves:
            with writing(path):
                os.replace(scratch, path)

    def drop(self) -> None:
        """Remove those that have not taken their places, and say so."""
        if left := [path.name for path, scratch in self._moves if scratch.exists()]:
            print(f"{', '.join(left)}: not kept, the earlier ones stay as they were")
        self._beside.close()


_together: list[Together] = []


@contextmanager
def written_together() -> Iterator[None]:
    """Let the files that are written inside take their places one after another at its end.

    So they are of one run, or stay those of the run before: where one cannot be written, none is.
    Only a process that is killed between two renames leaves a mixture. It decorates functions too.
    """
    files = Together()
    _together.append(files)
    try:
        yield
        files.move()
    finally:
        _together.remove(files)
        files.drop()


def remove_outdated(path: str | Path) -> None:
    """Remove a file that an earlier run wrote, if it is there, with the changes of this run."""
    if _together:
        _together[-1].remove(Path(path))
    else:
        Path(path).unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Return once the system has a file's content on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path] = ()) -> None:
    """Stop where an output cannot be written or is an input, before anything is written.

    Until the script ends, no other process that runs it may write these outputs.
    """
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
            claim(path)


def write_text(text: str, path: str | Path) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(value: Any, path: str | Path) -> None:
    """Write a JSON file that people can read; NaN and infinity, which JSON has not, are null."""
    text = json.dumps(_finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    # Half a pair of surrogates is written as JSON escapes it.
    write_text(text.encode(errors="backslashreplace").decode(), path)


def _finite(value: Any) -> Any:
    """Return a JSON value with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def readable(path: str | Path, cure: str) -> Iterator[None]:
    """Turn what can be wrong with a text file into one line."""
    if not Path(path).is_file():
        raise UserError(f"{path} not found: {cure}")
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {_first_broken_byte(path)}): save it as 'CSV UTF-8' or "
            "UTF-8 text"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _first_broken_byte(path: str | Path) -> int:
    """Return the place of the first byte that is not UTF-8; the error tells its place in a part."""
    before = 0
    with Path(path).open("rb") as lines:
        for line in lines:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return before + error.start
            before += len(line)
    return before


def read_text(path: str | Path, cure: str) -> str:
    """Read a UTF-8 text file, with or without a byte order mark."""
    with readable(path, cure):
        return Path(path).read_text(encoding="utf-8-sig")


def read_json(path: str | Path, cure: str) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path, cure))
    except (ValueError, RecursionError) as error:  # also of numbers too long, lists too deep
        place = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}{place} is not JSON: {cure}") from error
