"""Files of lines that a provider takes: cut into numbered ones where one would be too large."""

import os
import re
from collections.abc import Iterable
from contextlib import ExitStack
from glob import escape
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.faults import writing
from pipeline.common.files import flush_to_disk
from pipeline.common.scratch import scratch_beside

SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


def write_shards(
    lines: Iterable[str], path: str | Path, max_requests: int, max_bytes: int
) -> list[Path]:
    """Write lines to `path`, or to `path` numbered `-00001-of-00015` where one file is too small.

    A file holds at most `max_requests` lines and `max_bytes` bytes. Shards of an earlier run go
    once the new ones are complete.
    """
    path = Path(path)
    stale = set(existing_files(path))
    with writing(path), scratch_beside(path) as scratch:
        scratch.mkdir()
        parts = _write_files(lines, scratch, max_requests, max_bytes)
        total = len(parts)
        shards = [
            path.with_stem(f"{path.stem}-{n:05d}-of-{total:05d}") if total > 1 else path
            for n in range(1, total + 1)
        ]
        for part in parts:
            flush_to_disk(part)
        for part, shard in zip(parts, shards, strict=True):
            os.replace(part, shard)
        for old in stale - set(shards):
            old.unlink()
    return shards


def _write_files(
    lines: Iterable[str], folder: Path, max_requests: int, max_bytes: int
) -> list[Path]:
    """Write lines to numbered files of a folder, as many as they need and at least one."""
    parts: list[Path] = []
    count = size = 0
    with ExitStack() as open_part:
        for line in lines:
            data = line.encode() + b"\n"
            if len(data) > max_bytes:
                raise UserError(
                    f"a request of {len(data):,} bytes is over --max-bytes-per-file: {line[:80]}"
                )
            if not parts or count == max_requests or size + len(data) > max_bytes:
                open_part.close()
                parts.append(folder / f"{len(parts):05d}")
                out = open_part.enter_context(parts[-1].open("wb"))
                count = size = 0
            out.write(data)
            count, size = count + 1, size + len(data)
    if not parts:
        parts.append(folder / "00000")
        parts[0].touch()
    return parts


def existing_files(path: Path) -> list[Path]:
    """Return the file and its numbered shards, those that exist."""
    shards = sorted(
        p
        for p in path.parent.glob(f"{escape(path.stem)}-*{escape(path.suffix)}")
        if SHARD.search(p.stem)
    )
    return ([path] if path.is_file() else []) + shards


def request_files(path: str | Path) -> list[Path]:
    """Return a request file or all of its numbered shards; refuse a mixture or a gap."""
    path = Path(path)
    found = existing_files(path)
    if not found:
        raise UserError(
            f"{path} not found: run batch_infer_gen.py first (jsonl_to_csv.py writes a retry file)"
        )
    numbers = [tuple(map(int, SHARD.search(p.stem).groups())) for p in found if p != path]
    complete = not numbers or numbers == [(n, len(numbers)) for n in range(1, len(numbers) + 1)]
    if not complete or (numbers and path in found):
        raise UserError(
            f"{path} and its shards do not belong together ({', '.join(p.name for p in found)}): "
            "run batch_infer_gen.py again"
        )
    return found


def answer_files(named: str | Path) -> list[Path]:
    """Return the answer files that are named: paths or patterns, with commas between them.

    A path stands for its numbered shards too. Raises UserError where one is not there. Files that
    have a similar name and are not read are told.
    """
    parts = [named] if Path(named).is_file() else str(named).split(",")
    found: list[Path] = []
    for path in (Path(str(part).strip()) for part in parts):
        is_pattern = any(sign in path.name for sign in "*?[") and not path.is_file()
        files = (
            sorted(p for p in path.parent.glob(path.name) if p.is_file())
            if is_pattern
            else existing_files(path)
        )
        if not files:
            raise UserError(
                f"{path} not found: run submit_batch.py, or save the provider's answers there "
                "(several files: name them in --answers-file, with commas between them)"
            )
        found += [file for file in files if file not in found]
        if len(parts) == 1 and not is_pattern:
            _tell_of_others(path, found)
    return found


def _tell_of_others(path: Path, found: list[Path]) -> None:
    """Say which files have names that begin as that of the answers, and are not read."""
    similar = set(path.parent.glob(f"{escape(path.stem)}*{escape(path.suffix)}"))
    if others := sorted(similar - set(found)):
        print(f"not read: {', '.join(p.name for p in others)} (--answers-file names them)")
