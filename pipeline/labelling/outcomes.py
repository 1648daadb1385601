"""Answer lines in, outcomes out: the label that an answer gives, or the reason why it gives none.

An answer in a format of another kind is read here, by `outcome_of`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject, clean_text
from pipeline.common.replies import parse_cut_reply, parse_reply
from pipeline.labelling.logprobs import class_probabilities
from pipeline.labelling.request_lines import Line, read_lines

TOO_LONG = "context_length_exceeded"  # OpenAI's code; other servers say it in a code of their own
SAYS_TOO_LONG = re.compile(r"context[ _](?:length|size|window)", re.IGNORECASE)
END_OF_TIME = 253_402_300_800  # seconds from 1970 to the year 10000
MALFORMED = "malformed line "
CUSTOM_ID = re.compile(r'"custom_id"\s*:\s*"([^"\\]*)"')


class Outcome(NamedTuple):
    """What an answer says: a label and its `form` (`strict` or `lenient`), or -1 and the reason.

    `probabilities` are those of the classes where the provider gave log-probabilities, None for a
    class that is not among the most probable tokens. `created` is when the provider answered, in
    seconds since 1970, 0 where it does not say, and `model` is the model that answered.
    """

    label: int
    form: str
    reply: str
    probabilities: tuple[float | None, ...] = ()
    created: float = 0
    model: str = ""


MISSING, NOT_ASKED = "missing", "not asked yet"  # forms of rows without an answer
CONFLICT, TIE = "conflicting answers", "tie"  # forms of rows that one more answer cannot decide
BROKEN = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True)
class AnswerFiles:
    """The provider's answers: read one after another, and some of them again by their places."""

    files: list[Path]
    codebook: Codebook

    def __iter__(self) -> Iterator[tuple[str, Outcome, Line]]:
        """Yield custom_id ("" where a broken line hides it), outcome and line of each answer."""
        for line in read_lines(self.files):
            custom_id, outcome = self._read(line)
            yield custom_id, outcome, line

    def _read(self, line: Line) -> tuple[str, Outcome]:
        try:
            record = json.loads(line.text)
            return str(record["custom_id"]), outcome_of(record, self.codebook)
        except BROKEN:
            text = line.text.decode(errors="replace")
            named = CUSTOM_ID.search(text)
            custom_id = named[1] if named else ""
            form = f"{MALFORMED}{line.number}"
            return custom_id, Outcome(-1, form, f"{self.files[line.file].name}: {text}")

    def again(self, places: Iterable[tuple[int, int, int]]) -> Iterator[tuple[str, Outcome]]:
        """Yield custom_id and outcome of the answers at some places: file, line number and byte."""
        opened, file = -1, None
        try:
            for place, number, start in places:
                if place != opened:
                    if file:
                        file.close()
                    opened, file = place, self.files[place].open("rb")
                file.seek(start)
                yield self._read(Line(place, number, start, file.readline().rstrip()))
        finally:
            if file:
                file.close()


def failure_of(record: JsonObject) -> Outcome | None:
    """Return why a request came to no chat completion, None where it did."""
    response = record.get("response") or {}
    body = response.get("body") or {}
    status = int(response.get("status_code") or 200)
    error = record.get("error") or (body.get("error") if isinstance(body, dict) else body)
    if not error and status < 400:
        return None
    error = error if isinstance(error, dict) else {"code": "error", "message": error or body}
    code = clean_text(str(error.get("code") or error.get("type") or "error"))
    if is_too_long(error):
        code = TOO_LONG
    code_says_more = status < 400 or code in ("content_filter", TOO_LONG)
    return Outcome(-1, code if code_says_more else f"http {status}", str(error.get("message", "")))


def is_too_long(error: JsonObject) -> bool:
    """Return whether an error says that a comment is too long for the model's context."""
    said = " ".join(str(error.get(key)) for key in ("code", "type", "message", "detail"))
    return SAYS_TOO_LONG.search(said) is not None


def outcome_of(record: JsonObject, codebook: Codebook) -> Outcome:
    """Read one answer record of the batch format."""
    if failure := failure_of(record):
        return failure
    choice = choice_of(record)
    content = (choice.get("message") or {}).get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    reply, finish = content.strip(), choice.get("finish_reason")
    if finish == "content_filter":
        return Outcome(-1, "content_filter", reply)
    parsed = (parse_cut_reply if finish == "length" else parse_reply)(reply, codebook)
    tokens = (choice.get("logprobs") or {}).get("content") or []
    probabilities = class_probabilities(tokens, parsed.label, len(codebook.names)) if tokens else ()
    body = record["response"]["body"]
    created, model = body.get("created"), str(body.get("model") or "")
    return Outcome(
        parsed.label,
        parsed.form,
        reply,
        probabilities,
        created if isinstance(created, int | float) and 0 < created < END_OF_TIME else 0,
        one_line(model),
    )


@lru_cache(maxsize=100)
def one_line(model: str) -> str:
    """Return a model's name on one line; few models give all answers."""
    return clean_text(model)


def choice_of(record: JsonObject) -> JsonObject:
    """Return the first choice of an answer record, {} where there is none."""
    body = (record.get("response") or {}).get("body") or {}
    return (body.get("choices") or [{}])[0]
