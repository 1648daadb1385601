"""Batch requests to an OpenAI-compatible provider, and its answers."""

import codecs
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cli import UserError
from pipeline.codebook import Codebook, parse_reply

SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
CUSTOM_ID = re.compile(r'"custom_id"\s*:\s*"([^"\\]*)"')


@dataclass(frozen=True)
class Request:
    """A line of a request file: `prompt` is its system turn, `line` its text as it stands there."""

    custom_id: str
    prompt: str
    message: str
    line: str


@dataclass(frozen=True)
class Outcome:
    """What came of a request: a label, or -1 and the reason; `form` is `strict` or `lenient`."""

    label: int
    form: str
    reply: str


MISSING = Outcome(-1, "missing", "")


def write_shards(
    lines: Iterable[str], path: str | Path, max_requests: int, max_bytes: int
) -> list[Path]:
    """Write lines to `path`, or to `path` numbered `-00001-of-00015` where one file is too small.

    A file holds at most `max_requests` lines and `max_bytes` bytes. Shards of an earlier run go
    once the new ones are complete.
    """
    path = Path(path)
    stale = set(_written(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".requests-", dir=path.parent))
        try:
            parts = _write_parts(lines, scratch, max_requests, max_bytes)
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


def _write_parts(
    lines: Iterable[str], folder: Path, max_requests: int, max_bytes: int
) -> list[Path]:
    parts = [folder / "00000"]
    out, count, size = parts[0].open("wb"), 0, 0
    for line in lines:
        data = line.encode() + b"\n"
        if len(data) > max_bytes:
            raise UserError(
                f"a request of {len(data):,} bytes is over --max-bytes-per-file: {line[:80]}"
            )
        if count == max_requests or size + len(data) > max_bytes:
            out.close()
            parts.append(folder / f"{len(parts):05d}")
            out, count, size = parts[-1].open("wb"), 0, 0
        out.write(data)
        count, size = count + 1, size + len(data)
    out.close()
    return parts


def _written(path: Path) -> list[Path]:
    """Return the file and its numbered shards, those that exist."""
    shards = sorted(
        p for p in path.parent.glob(f"{path.stem}-*{path.suffix}") if SHARD.search(p.stem)
    )
    return ([path] if path.is_file() else []) + shards


def request_files(path: str | Path) -> list[Path]:
    """Return a request file or all of its numbered shards; refuse a mixture or a gap."""
    path = Path(path)
    found = _written(path)
    if not found:
        raise UserError(f"{path} not found: run batch_infer_gen.py first")
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
            f"{path} not found: send the requests to the provider and save its answers there "
            f"(several files: {path.stem}-1{path.suffix}, {path.stem}-errors{path.suffix}, ...)"
        )
    return found


def read_requests(files: Iterable[Path]) -> Iterator[Request]:
    """Yield the requests of all files in order; stop at a line that is none or repeats an id."""
    seen: set[str] = set()
    for file, number, line in _lines(files):
        try:
            text = line.decode()
            record = json.loads(text)
            custom_id, turns = record["custom_id"], record["body"]["messages"]
            prompt, message = turns[0]["content"], turns[-1]["content"]
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
        yield Request(custom_id, sys.intern(prompt), message, text)


def _lines(files: Iterable[Path]) -> Iterator[tuple[Path, int, bytes]]:
    """Yield file, line number and line, without blank lines, line ends and byte order marks."""
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line := line.removeprefix(codecs.BOM_UTF8).strip():
                    yield file, number, line


def read_answers(files: Iterable[Path], codebook: Codebook) -> Iterator[tuple[str, Outcome]]:
    """Yield custom_id ("" where a broken line hides it) and outcome of each answer line."""
    for file, number, line in _lines(files):
        try:
            record = json.loads(line)
            yield str(record["custom_id"]), outcome_of(record, codebook)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            text = line.decode(errors="replace")
            named = CUSTOM_ID.search(text)
            custom_id = named[1] if named else ""
            yield custom_id, Outcome(-1, f"malformed line {number}", f"{file.name}: {text}")


def outcome_of(record: dict[str, Any], codebook: Codebook) -> Outcome:
    """Read one answer record of the batch format; a reply cut by `length` must still be a label."""
    response = record.get("response") or {}
    body = response.get("body") or {}
    status = int(response.get("status_code") or 200)
    error = record.get("error") or (body.get("error") if isinstance(body, dict) else body)
    if error or status >= 400:
        error = error if isinstance(error, dict) else {"code": "error", "message": error or body}
        code = str(error.get("code") or error.get("type") or "error")
        told = status < 400 or code == "content_filter"
        return Outcome(-1, code if told else f"http {status}", str(error.get("message", "")))

    choice = (body.get("choices") or [{}])[0]
    content = (choice.get("message") or {}).get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    reply, finish = content.strip(), choice.get("finish_reason")
    if finish == "content_filter":
        return Outcome(-1, "content_filter", reply)
    parsed = parse_reply(reply, codebook)
    cut = parsed.label < 0 and finish == "length"
    return Outcome(parsed.label, "length" if cut else parsed.form, reply)


def merge(first: Outcome, second: Outcome) -> Outcome:
    """Return what two answers to one request come to: a label beats a failure, two must agree."""
    if second.label < 0:
        return first if first.label >= 0 or first.form == "conflicting answers" else second
    if first.form == "conflicting answers" or first.label not in (-1, second.label):
        return Outcome(-1, "conflicting answers", f"{first.reply} | {second.reply}")
    return second if first.label < 0 else first
