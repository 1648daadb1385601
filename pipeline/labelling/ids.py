"""What a request is known by: the prompt, the model and the message that it was made for.

An answer names its request, so that it belongs to these three wherever the row stands by then. A
row's own id is not sent. `<set>-<message>-<n>`: two hashes, and a number among equal messages.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from pipeline.common.hashes import text_hashes

REPEAT = "--repeat-"  # in the id of a request that is sent again to see whether answers agree
TRY = "--try-"  # in the id of a request that is sent again because no answer was a label
MARK = re.compile(rf"({REPEAT}|{TRY})([1-9][0-9]{{0,8}})\Z")
SET_DIGITS, MESSAGE_DIGITS = 8, 16
OWN = re.compile(
    rf"([0-9a-f]{{{SET_DIGITS}}})-([0-9a-f]{{{MESSAGE_DIGITS}}})-([1-9][0-9]{{0,8}})"
    rf"(?:({REPEAT}|{TRY})([1-9][0-9]{{0,8}}))?"
)


class RequestId(NamedTuple):
    """The parts of an id: `message` is its `text_hash`, `number` that among equal messages.

    `mark` is 0 in the id of a first request, the number of another try, or minus that of a repeat.
    """

    label_set: str
    message: int
    number: int
    mark: int


def read_id(custom_id: str) -> RequestId | None:
    """Return the parts of an id, None where it is none of ours."""
    found = OWN.fullmatch(custom_id)
    if not found:
        return None
    label_set, message, number, kind, mark = found.groups()
    sign = -1 if kind == REPEAT else 1
    return RequestId(label_set, int(message, 16), int(number), sign * int(mark) if mark else 0)


def write_id(label_set: str, message: int, number: int, mark: int = 0) -> str:
    """Return the id that has these parts, see `RequestId`."""
    kind = "" if not mark else f"{TRY}{mark}" if mark > 0 else f"{REPEAT}{-mark}"
    return f"{label_set}-{message:0{MESSAGE_DIGITS}x}-{number}{kind}"


@cache
def label_set_of(prompt: str, model: str) -> str:
    """Return what labels of one codebook by one teacher have in common: 8 hexadecimal digits."""
    return _digits(json.dumps([prompt, model]), SET_DIGITS)


def numbers_among_equals(messages: np.ndarray, coded: np.ndarray) -> np.ndarray:
    """Return the number of each message among its equals, an int (rows,); `messages` are hashes.

    The last numbers are those of rows that people coded (`coded`), so that those of the others,
    which are asked, do not depend on which of them people coded.
    """
    order = np.lexsort((coded, messages))
    in_order, places = messages[order], np.arange(len(order))
    begins = np.append(True, in_order[1:] != in_order[:-1])
    numbers = np.empty(len(order), np.int64)
    numbers[order] = places - np.maximum.accumulate(np.where(begins, places, 0)) + 1
    return numbers


def request_ids(
    label_set: str, messages: Iterable[str], coded: Sequence[bool] | None = None
) -> list[str]:
    """Return the id of each message's request in a label set, see `numbers_among_equals`."""
    hashes = text_hashes(messages)
    people = np.zeros(len(hashes), bool) if coded is None else np.asarray(coded, bool)
    numbers = numbers_among_equals(hashes, people)
    return [
        write_id(label_set, *pair) for pair in zip(hashes.tolist(), numbers.tolist(), strict=True)
    ]


def plain_id(custom_id: str) -> str:
    """Return an id without the mark of a repeat or another try."""
    return MARK.sub("", custom_id) if "--" in custom_id else custom_id


def set_of(custom_id: str) -> str:
    """Return the label set of an id, "" where it is none of ours."""
    own = read_id(custom_id)
    return own.label_set if own else ""


def rank(custom_id: str, seed: int) -> str:
    """Return what sorts requests at random; the same comments come first in every label set."""
    return _digits(f"{seed} {plain_id(custom_id).partition('-')[2]}", MESSAGE_DIGITS)


def _digits(text: str, number: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:number]
