"""Lines of request files: what one holds, written and read.

All requests of a file share their prompt and settings. That part is encoded once and, where a line
has it byte for byte, not parsed again.
"""

import codecs
import json
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from json.decoder import scanstring
from pathlib import Path
from typing import NamedTuple

from pipeline.common.files import JsonObject
from pipeline.labelling.ids import OWN

# What a line that is no request comes to.
NO_REQUEST = (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError)
LONGEST_ID = 64  # characters


@dataclass(frozen=True)
class Request:
    """A line of a request file: `prompt` is its system turn, `line` its text as it stands there."""

    custom_id: str
    prompt: str
    message: str
    model: str
    max_tokens: int
    line: bytes

    @property
    def settings(self) -> JsonObject:
        """What the body holds beside the messages: the model, the temperature and so on."""
        body = json.loads(self.line)["body"]
        return {name: value for name, value in body.items() if name != "messages"}


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


def line_maker(prompt: str, body: JsonObject) -> Callable[[str, str], str]:
    """Return `request_line` of an id and a message; what all lines share is encoded once."""
    here = secrets.token_hex(16)  # stands nowhere else, and is the same in JSON
    before, between, after = request_line(here, here, prompt, body).split(here)
    encode = json.JSONEncoder(ensure_ascii=False).encode

    def line_of(custom_id: str, message: str) -> str:
        return f"{before}{custom_id}{between}{encode(message)[1:-1]}{after}"

    return line_of


def with_id(request: Request, custom_id: str) -> str:
    """Return a request's line under another id."""
    return json.dumps(json.loads(request.line) | {"custom_id": custom_id}, ensure_ascii=False)


class Line(NamedTuple):
    """A line without blanks around it: the file's place, the line's number from 1, first byte."""

    file: int
    number: int
    start: int
    text: bytes


def read_lines(files: Iterable[Path]) -> Iterator[Line]:
    """Yield the lines of files, without blank lines, line ends and byte order marks."""
    for place, file in enumerate(files):
        with file.open("rb") as lines:
            end = 0
            for number, line in enumerate(lines, start=1):
                end += len(line)
                begun = line.removeprefix(codecs.BOM_UTF8).lstrip()
                if begun:
                    yield Line(place, number, end - len(begun), begun.rstrip())


def max_tokens_of(body: JsonObject) -> int:
    """Return how long an answer may be, in tokens, 0 where a request's body does not say."""
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)


def read_request(line: bytes) -> Request:
    """Read a line of a request file; raises one of `NO_REQUEST` where it is none."""
    record = json.loads(line.decode())
    custom_id, body = record["custom_id"], record["body"]
    prompt, message = body["messages"][0]["content"], body["messages"][-1]["content"]
    model = body["model"]
    if not all(isinstance(value, str) for value in (custom_id, prompt, message, model)):
        raise TypeError
    message.encode()  # a ValueError where it holds half of a character
    return Request(
        custom_id, sys.intern(prompt), message, sys.intern(model), max_tokens_of(body), line
    )


class RequestReader:
    """Reads lines one after another; of one like the last, only the id and the message."""

    def __init__(self) -> None:
        self._last: Request | None = None
        self._frame: tuple[bytes, bytes, bytes] | None = None  # around the id and the message

    def read(self, line: bytes) -> Request:
        """Read a line; see `read_request`."""
        if request := self._read_in_frame(line):
            return request
        self._last = read_request(line)
        self._frame = _frame_of(self._last)
        return self._last

    def _read_in_frame(self, line: bytes) -> Request | None:
        """Return the request of a line that differs from the last in id and message alone."""
        if not self._frame:
            return None
        before, between, after = self._frame
        found = OWN.match(line[len(before) : len(before) + LONGEST_ID].decode("latin-1"))
        if not found:
            return None
        id_end = len(before) + found.end()
        begin, end = id_end + len(between), len(line) - len(after)
        same = line.startswith(before) and line.startswith(between, id_end) and line.endswith(after)
        text = line[begin:end]
        if not same or end < begin or b"\\u" in text:
            return None
        try:
            quoted = text.decode() + '"'
            message, read = scanstring(quoted, 0)
        except ValueError:
            return None
        if read != len(quoted):
            return None
        last = self._last
        return Request(found[0], last.prompt, message, last.model, last.max_tokens, line)


def _frame_of(request: Request) -> tuple[bytes, bytes, bytes] | None:
    """Return what stands before, between and after id and message in a line, None if unclear."""
    custom_id = json.dumps(request.custom_id).encode()
    message = json.dumps(request.message, ensure_ascii=False).encode()
    at, of_message = request.line.find(custom_id), request.line.rfind(message)
    if not 0 <= at < of_message:
        return None
    parts = (
        request.line[: at + 1],
        request.line[at + len(custom_id) - 1 : of_message + 1],
        request.line[of_message + len(message) - 1 :],
    )
    here = secrets.token_hex(16)
    other = json.loads(here.encode().join(parts))
    record = json.loads(request.line)
    record["custom_id"] = record["body"]["messages"][-1]["content"] = here
    return parts if other == record else None
