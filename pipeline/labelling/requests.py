"""Requests to an OpenAI-compatible provider, as their files hold them; repeats and other tries.

A repeat is a request that is sent again on purpose, to see whether the teacher agrees with itself.
"""

import codecs
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject
from pipeline.labelling.ids import REPEAT, TRY, is_made_for, label_set_of, plain_id, rank
from pipeline.labelling.shards import SHARD, write_shards

# What reading a line raises that is broken or has another form.
BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Request:
    """A line of a request file: `prompt` is its system turn, `line` its text as it stands there."""

    custom_id: str
    prompt: str
    message: str
    model: str
    max_tokens: int
    line: str

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


def with_id(request: Request, custom_id: str) -> str:
    """Return a request's line under another id."""
    return json.dumps(json.loads(request.line) | {"custom_id": custom_id}, ensure_ascii=False)


def read_requests(files: Iterable[Path]) -> Iterator[Request]:
    """Yield the requests of all files in order.

    Raises UserError for a line that is no request, that repeats an id, or whose id was made for
    another prompt, model or message.
    """
    seen: set[str] = set()
    first = ""
    for file, number, line in read_lines(files):
        again = "run batch_infer_gen.py again"
        try:
            request = _request_of(line)
            label_set = label_set_of(request.prompt, request.model)
            own = is_made_for(request.custom_id, label_set, request.message)
        except BROKEN as error:
            raise UserError(f"{file}, line {number} is no batch request: {again}") from error
        if not own:
            raise UserError(
                f"{file}, line {number}: {request.custom_id!r} was not made for this model, "
                f"codebook and comment: the line was changed since, so {again}"
            )
        first = first or label_set
        if label_set != first:
            raise UserError(
                f"{file}, line {number} asks another model, or with another codebook, than the "
                f"lines before it: {again}"
            )
        if request.custom_id in seen:
            raise UserError(
                f"{file}, line {number}: custom_id {request.custom_id!r} stands there twice: "
                f"{again}"
            )
        seen.add(request.custom_id)
        yield request


def _request_of(line: bytes) -> Request:
    """Read a line of a request file; raises what a broken one comes to."""
    text = line.decode()
    record = json.loads(text)
    custom_id, body = record["custom_id"], record["body"]
    prompt, message = body["messages"][0]["content"], body["messages"][-1]["content"]
    model = body["model"]
    if not all(isinstance(value, str) for value in (custom_id, prompt, message, model)):
        raise TypeError
    max_tokens = int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)
    return Request(custom_id, sys.intern(prompt), message, sys.intern(model), max_tokens, text)


class Requests:
    """The requests of some files, all of one label set; in memory are only their ids and places."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.position: dict[str, int] = {}  # by custom_id
        self._places: list[tuple[int, int, int]] = []  # file, first byte, bytes
        self.largest = 0, 0  # requests and bytes of the largest file
        self.prompt = self.model = self.label_set = ""
        requests = read_requests(files)
        for number, file in enumerate(files):
            first = len(self._places)
            for (start, length), request in zip(_spans(file), requests, strict=False):
                self.position[request.custom_id] = len(self._places)
                self._places.append((number, start, length))
                self.prompt, self.model = request.prompt, request.model
            size = sum(length + 1 for _, _, length in self._places[first:])
            most, bytes_ = self.largest
            self.largest = max(most, len(self._places) - first), max(bytes_, size)
        if not self.position:
            raise UserError(f"{files[0]} holds no requests: there is nothing to send")
        self.label_set = label_set_of(self.prompt, self.model)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def name(self) -> str:
        """The files' name without the numbers of shards."""
        return SHARD.sub("", self.files[0].stem) + self.files[0].suffix

    def size_of(self, custom_id: str) -> int:
        """Return how many bytes a request has, with its line end."""
        return self._places[self.position[custom_id]][2] + 1

    def lines(self, ids: Iterable[str]) -> Iterator[bytes]:
        """Yield the lines of some requests, without line ends."""
        opened, file = -1, None
        try:
            for custom_id in ids:
                number, start, length = self._places[self.position[custom_id]]
                if number != opened:
                    if file:
                        file.close()
                    opened, file = number, self.files[number].open("rb")
                file.seek(start)
                yield file.read(length)
        finally:
            if file:
                file.close()

    def read(self, ids: Iterable[str]) -> Iterator[Request]:
        """Yield some requests."""
        return map(_request_of, self.lines(ids))


def _spans(file: Path) -> Iterator[tuple[int, int]]:
    """Yield first byte and length of each line that `read_lines` yields."""
    start = 0
    with file.open("rb") as lines:
        for line in lines:
            if text := line.removeprefix(codecs.BOM_UTF8).strip():
                yield start + line.index(text), len(text)
            start += len(line)


def read_lines(files: Iterable[Path]) -> Iterator[tuple[Path, int, bytes]]:
    """Yield file, line number and line, without blank lines, line ends and byte order marks."""
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line := line.removeprefix(codecs.BOM_UTF8).strip():
                    yield file, number, line


def write_repeats(
    files: list[Path], times: int, rows: int, seed: int, max_requests: int, max_bytes: int
) -> list[Path]:
    """Write the requests of a random sample of rows `times` more times; return the files.

    They stand beside the requests, each time in a file of its own, cut as by `write_shards`; the
    ids have `--repeat-N` added. The rows are those that a limit with the same seed sends first.
    """
    ids = [request.custom_id for request in read_requests(files)]
    sample = set(sorted(ids, key=partial(rank, seed=seed))[:rows])
    chosen = [request for request in read_requests(files) if request.custom_id in sample]
    stem, written = SHARD.sub("", files[0].stem), []
    for time in range(1, times + 1):
        lines = (
            with_id(request, f"{plain_id(request.custom_id)}{REPEAT}{time}") for request in chosen
        )
        path = files[0].with_name(f"repeat-{time}-{stem}{files[0].suffix}")
        written += write_shards(lines, path, max_requests, max_bytes)
    return written


def another_try(request: Request, number: int) -> str:
    """Return the line of a request that is sent for the `number`-th time."""
    return with_id(request, f"{plain_id(request.custom_id)}{TRY}{number}")
