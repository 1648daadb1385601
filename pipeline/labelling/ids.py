"""What a request is known by: the prompt, the model and the message that it was made for.

An answer names its request, so that it belongs to these three wherever the row stands by then. A
row's own id is not sent. `<set>-<message>-<n>`: two hashes, and a number among equal messages.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import pandas as pd

from pipeline.common.rows import coded_by_people

REPEAT = "--repeat-"  # in the id of a request that is sent again to see whether answers agree
TRY = "--try-"  # in the id of a request that is sent again because no answer was a label
MARK = re.compile(rf"({REPEAT}|{TRY})([0-9]{{1,9}})$")
SET_DIGITS, MESSAGE_DIGITS = 8, 16
OWN = re.compile(rf"([0-9a-f]{{{SET_DIGITS}}})-[0-9a-f]{{{MESSAGE_DIGITS}}}-[0-9]{{1,9}}")


@cache
def label_set_of(prompt: str, model: str) -> str:
    """Return what labels of one codebook by one teacher have in common: 8 hexadecimal digits."""
    return _digits(json.dumps([prompt, model]), SET_DIGITS)


def request_ids(
    label_set: str, messages: Iterable[str], coded: Sequence[bool] | None = None
) -> list[str]:
    """Return the id of each message's request in a label set; equal messages are numbered.

    The last numbers are those of rows that people coded (`coded`), so that those of the others,
    which are asked, do not depend on which of them people coded.
    """
    digits = [_digits(message, MESSAGE_DIGITS) for message in messages]
    seen: Counter[str] = Counter()
    ids = [""] * len(digits)
    for place in (
        range(len(ids)) if coded is None else sorted(range(len(ids)), key=coded.__getitem__)
    ):
        seen[digits[place]] += 1
        ids[place] = f"{label_set}-{digits[place]}-{seen[digits[place]]}"
    return ids


def ids_of_rows(label_set: str, rows: pd.DataFrame) -> pd.Series:
    """Return the id of each row's request in a label set."""
    return pd.Series(request_ids(label_set, rows["message"], coded_by_people(rows)), dtype=object)


def is_made_for(custom_id: str, label_set: str, message: str) -> bool:
    """Return whether an id is that of a message's request in a label set."""
    return custom_id.startswith(f"{label_set}-{_digits(message, MESSAGE_DIGITS)}-")


def plain_id(custom_id: str) -> str:
    """Return an id without the mark of a repeat or another try."""
    return MARK.sub("", custom_id) if "--" in custom_id else custom_id


def try_of(custom_id: str) -> int:
    """Return which try a request is, from 1 on."""
    mark = MARK.search(custom_id) if TRY in custom_id else None
    return int(mark[2]) if mark and mark[1] == TRY else 1


def repeat_of(custom_id: str) -> int:
    """Return which repeat a request is, 0 where it is none."""
    mark = MARK.search(custom_id)
    return int(mark[2]) if mark and mark[1] == REPEAT else 0


def set_of(custom_id: str) -> str:
    """Return the label set of an id, "" where it is none of ours."""
    found = OWN.match(custom_id)
    return found[1] if found else ""


def is_plain(custom_id: str) -> bool:
    """Return whether an id is one of ours, without a mark."""
    return OWN.fullmatch(custom_id) is not None


def equal_messages(custom_id: str) -> str:
    """Return what the ids of equal messages have in common."""
    return plain_id(custom_id).rpartition("-")[0]


def rank(custom_id: str, seed: int) -> str:
    """Return what sorts requests at random; the same comments come first in every label set."""
    return _digits(f"{seed} {plain_id(custom_id).partition('-')[2]}", MESSAGE_DIGITS)


def _digits(text: str, number: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:number]
