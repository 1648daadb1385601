"""Batch requests to an OpenAI-compatible provider: their files, shards and repeats.

A file that is too large for a provider is cut into numbered shards. A repeat is a request that is
sent again on purpose, to see whether the teacher agrees with itself.
"""

import codecs
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject

SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True)
class Request:
    """A line of a request file: `prompt` is its system turn, `line` its text as it stands there."""

    custom_id: str
    prompt: str
    message: str
    max_tokens: int
    line: str


def request_line(custom_id: str, message: str, prompt: str, body: JsonObject) -> str:
    """Return a line of the batch format: `prompt` as the system turn, `message` as the user's.

    `body` holds the model and its settings.
    """
    turns = [{"role": "system", "content": prompt}, {"role": "user", "content": message}]
    request = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": body["model"], "messages": turns} | body,
    }
    return json.dumps(request, ensure_ascii=False)


def write_shards(
    lines: Iterable[str], path: str | Path, max_requests: int, max_bytes: int
) -> list[Path]:
    """Write lines to `path`, or to `path` numbered `-00001-of-00015` where one file is too small.

    A file holds at most `max_requests` lines and `max_bytes` bytes. Shards of an earlier run go
    once the new ones are complete.
    """
    path = Path(path)
    stale = set(_existing_files(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".requests-", dir=path.parent))
        try:
            parts = _write_files(lines, scratch, max_requests, max_bytes)
            total = len(parts)
            shards = [
                path.with_stem(f"{path.stem}-{n:05d}-of-{total:05d}") if total > 1 else path
                for n in range(1, total + 1)
            ]
            for part, shard in zip(parts, shards, strict=True):
                os.replace(part, shard)
        finally:
            shutil.rmtree(scratch)
        for old in stale - set(shards):
            old.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): check the folder and the free space"
        ) from error
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


def _existing_files(path: Path) -> list[Path]:
    """Return the file and its numbered shards, those that exist."""
    shards = sorted(
        p for p in path.parent.glob(f"{path.stem}-*{path.suffix}") if SHARD.search(p.stem)
    )
    return ([path] if path.is_file() else []) + shards


def request_files(path: str | Path) -> list[Path]:
    """Return a request file or all of its numbered shards; refuse a mixture or a gap."""
    path = Path(path)
    found = _existing_files(path)
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


def answer_files(path: str | Path) -> list[Path]:
    """Return the answer and error files: `path`, its siblings `<stem>-*.jsonl`, or a pattern's."""
    path = Path(path)
    if any(sign in path.name for sign in "*?["):
        found = sorted(p for p in path.parent.glob(path.name) if p.is_file())
    else:
        found = [path] if path.is_file() else []
        found += sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))
    if not found:
        raise UserError(
            f"{path} not found: run submit_batch.py, or save the provider's answers there "
            f"(several files: {path.stem}-1{path.suffix}, {path.stem}-errors{path.suffix}, ...)"
        )
    return found


def read_requests(files: Iterable[Path]) -> Iterator[Request]:
    """Yield the requests of all files in order; stop at a line that is none or repeats an id."""
    seen: set[str] = set()
    for file, number, line in read_lines(files):
        try:
            text = line.decode()
            record = json.loads(text)
            custom_id, turns = record["custom_id"], record["body"]["messages"]
            prompt, message = turns[0]["content"], turns[-1]["content"]
            body = record["body"]
            max_tokens = int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)
            if not all(isinstance(value, str) for value in (custom_id, prompt, message)):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise UserError(
                f"{file}, line {number} is no batch request: run batch_infer_gen.py again"
            ) from error
        if custom_id in seen:
            raise UserError(
                f"{file}, line {number}: custom_id {custom_id!r} stands there twice: "
                "run batch_infer_gen.py again"
            )
        seen.add(custom_id)
        yield Request(custom_id, sys.intern(prompt), message, max_tokens, text)


class Requests:
    """The requests of some files; in memory are only their ids, by the files' names."""

    def __init__(self, files: list[Path]) -> None:
        self.files = {file.name: file for file in files}
        self.ids = {file.name: [r.custom_id for r in read_requests([file])] for file in files}
        self.position = {}
        for name, ids in self.ids.items():
            if repeated := next((i for i in ids if i in self.position), ""):
                raise UserError(
                    f"{self.files[name]}: custom_id {repeated!r} stands in another shard too: run "
                    "batch_infer_gen.py again"
                )
            start = len(self.position)
            self.position |= {custom_id: n for n, custom_id in enumerate(ids, start)}
        if not self.position:
            raise UserError(f"{files[0]} holds no requests: there is nothing to send")

    def __len__(self) -> int:
        return len(self.position)

    @property
    def prompt(self) -> str:
        """The system turn of the first request."""
        return next(read_requests(self.files.values())).prompt

    def ids_of(self, span) -> list[str]:
        """Return the ids of the requests `span.first` to `span.last` (from 1) of `span.file`."""
        return self.ids[span.file][span.first - 1 : span.last]

    def read(self, span) -> Iterator[Request]:
        """Yield the requests of a span, as in `ids_of`."""
        return islice(read_requests([self.files[span.file]]), span.first - 1, span.last)


def read_span(file: Path, first: int, last: int) -> bytes:
    """Return the requests `first` to `last` (from 1) of a file as they stand there."""
    lines = (line for _, _, line in read_lines([file]))
    return b"".join(line + b"\n" for line in islice(lines, first - 1, last))


def read_lines(files: Iterable[Path]) -> Iterator[tuple[Path, int, bytes]]:
    """Yield file, line number and line, without blank lines, line ends and byte order marks."""
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line := line.removeprefix(codecs.BOM_UTF8).strip():
                    yield file, number, line


REPEAT = "--repeat-"  # in the custom_id of a request that was sent again on purpose


def write_repeats(
    files: list[Path], times: int, rows: int, seed: int, max_requests: int, max_bytes: int
) -> list[Path]:
    """Write the requests of a random sample of rows `times` more times; return the files.

    They stand beside the requests, each time in a file of its own, cut as by `write_shards`; the
    ids are those of the rows with `--repeat-N` added.
    """
    count = sum(1 for _ in read_requests(files))
    sample = set(random.Random(seed).sample(range(count), min(rows, count)))
    chosen = [request for n, request in enumerate(read_requests(files)) if n in sample]
    stem, written = SHARD.sub("", files[0].stem), []
    for time in range(1, times + 1):
        records = [json.loads(request.line) for request in chosen]
        lines = (
            json.dumps(
                record | {"custom_id": f"{record['custom_id']}{REPEAT}{time}"}, ensure_ascii=False
            )
            for record in records
        )
        path = files[0].with_name(f"repeat-{time}-{stem}{files[0].suffix}")
        written += write_shards(lines, path, max_requests, max_bytes)
    return written
