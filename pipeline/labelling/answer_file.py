"""The file of the provider's answers: one line each, none twice, in the order of the requests."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path

from pipeline.common.files import JsonObject, replacing
from pipeline.labelling.outcomes import failure_of

LONGEST_LINE = 2**22  # bytes of an answer


def id_of(line: bytes) -> str:
    """Return an answer's custom_id, "" where the line is broken."""
    try:
        return str(json.loads(line)["custom_id"])
    except (ValueError, KeyError, TypeError):
        return ""


def distinct_lines(content: bytes) -> list[bytes]:
    """Return the lines of downloads, sorted; answers to one request that say the same count once.

    So the result depends neither on the order of the lines nor on how often they are fetched.
    """
    lines: dict[tuple[str, str], bytes] = {}
    for line in sorted(line for line in content.splitlines() if line.strip()):
        try:
            record = json.loads(line)
            body = (record.get("response") or {}).get("body") or {}
            said = json.dumps([body.get("choices", body), record.get("error")], sort_keys=True)
            lines.setdefault((str(record["custom_id"]), said), line)
        except (ValueError, KeyError, TypeError, AttributeError):
            lines.setdefault(("", repr(line)), line)
    return list(lines.values())


def add_answers(path: str | Path, lines: Iterable[bytes]) -> None:
    """Add lines to the answers file, except those that it has."""
    path = Path(path)
    known: set[int] = set()
    with replacing(path) as scratch, scratch.open("wb") as out:
        if path.is_file():
            with path.open("rb") as old:
                for line in old:
                    known.add(hash(line.rstrip(b"\n")))
                    out.write(line.rstrip(b"\n") + b"\n")
        for line in lines:
            if hash(line) not in known:
                out.write(line + b"\n")


def cut_half_written_line(path: str | Path) -> None:
    """End the file with a whole line: cut off what a killed process left half written."""
    if not Path(path).is_file():
        return
    with Path(path).open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - LONGEST_LINE))
        tail = file.read()
        last = tail[tail.rfind(b"\n") + 1 :]
        if last and id_of(last):
            file.write(b"\n")
        elif last:
            file.truncate(end - len(last))


def append_line(file: FileIO, line: bytes) -> None:
    """Add a line to an open file, whole or not at all, as where its disk is full."""
    end, left = file.seek(0, os.SEEK_END), line + b"\n"
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        file.truncate(end)
        raise


def lines_of(path: str | Path) -> Iterator[bytes]:
    """Yield the lines of an answers file, none where it is not there."""
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            for line in file:
                yield line.rstrip(b"\n")


def order_answers(path: str | Path, position: Callable[[str], int]) -> None:
    """Put the answers in order of `position(custom_id)`, equals as they stand."""
    places: list[tuple[int, int, int]] = []
    start = 0
    for line in lines_of(path):
        places.append((position(id_of(line)), start, len(line) + 1))
        start += len(line) + 1
    if places == sorted(places):
        return
    with replacing(path) as scratch, Path(path).open("rb") as old, scratch.open("wb") as out:
        for _, start, length in sorted(places):
            old.seek(start)
            out.write(old.read(length).rstrip(b"\n") + b"\n")


def count_answers(lines: Iterable[bytes], ids: set[str]) -> JsonObject:
    """Count what came of requests: answered, failed by reason, missing, unknown, tokens, cost.

    `messages` holds what the provider says of the first failure of each reason.
    """
    answered: set[str] = set()
    failed: dict[str, str] = {}
    messages: dict[str, str] = {}
    counts: Counter[str] = Counter()
    cost = 0.0
    for line in lines:
        custom_id = id_of(line)
        if custom_id not in ids:
            counts["unknown"] += 1
            continue
        try:
            record = json.loads(line)
            if failure := failure_of(record):
                failed[custom_id] = failure.form
                messages.setdefault(failure.form, failure.reply)
                continue
            usage = record["response"]["body"].get("usage") or {}
            for kind in ("prompt_tokens", "completion_tokens"):
                counts[kind] += int(usage.get(kind) or 0)
            cost += float(usage.get("cost") or 0)
        except (ValueError, KeyError, TypeError, AttributeError):
            failed[custom_id] = "malformed"
            continue
        answered.add(custom_id)
    reasons = Counter(reason for custom_id, reason in failed.items() if custom_id not in answered)
    return {
        "answered": len(answered),
        "failed": dict(reasons.most_common()),
        "messages": messages,
        "missing": len(ids - answered - failed.keys()),
        **counts,
        "cost": cost,
    }
