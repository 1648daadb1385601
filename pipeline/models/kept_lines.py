"""The lines of a file of finished rows: values exactly as they were computed, and a checksum."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.common.files import JsonObject, readable

Values = np.ndarray | list[tuple]  # of a batch's rows: numbers (rows, ...), or what JSON can hold
SHOWN = 30  # characters of a setting that has changed; hashes are longer


@dataclass(frozen=True)
class Batch:
    """A finished batch: the numbers of its rows, their values, and the seconds that it took.

    `pieces` says in how many parts the batches were cut then, for want of memory.
    """

    rows: list[int]
    values: Values
    pieces: int
    seconds: float


def line_of(value: JsonObject) -> bytes:
    """Return a line of a file: a checksum, the value as JSON and the line's end."""
    text = json.dumps(value).encode()
    return f"{checksum(text)} ".encode() + text + b"\n"


def read_lines(path: Path) -> list[JsonObject | None]:
    """Return the lines of a file, None for a damaged one.

    A last line without its end, which a kill or a full disk has cut, is left out.
    """
    with readable(path, "run the same command again"), path.open("rb") as lines:
        return [parsed(line[:-1]) for line in lines if line.endswith(b"\n")]


def parsed(line: bytes) -> JsonObject | None:
    """Return what a line holds, or None where its checksum is not that of its text."""
    sum_of_text, _, text = line.partition(b" ")
    return json.loads(text) if sum_of_text == checksum(text).encode() else None


def checksum(text: bytes) -> str:
    """Return 16 hexadecimal digits that tell a text from others."""
    return hashlib.sha256(text).hexdigest()[:16]


def encoded(values: Values) -> JsonObject:
    """Return the values of a batch for JSON, exactly."""
    if isinstance(values, list):
        return {"values": values}
    kind = {"dtype": values.dtype.str, "shape": values.shape}
    return kind | {"values": b64encode(np.ascontiguousarray(values)).decode()}


def batch_of(line: JsonObject) -> Batch:
    """Return the batch that a line holds."""
    if "dtype" in line:
        flat = np.frombuffer(b64decode(line["values"]), line["dtype"])
        values: Values = flat.reshape(line["shape"])
    else:
        values = [tuple(value) for value in line["values"]]
    return Batch(line["rows"], values, line["pieces"], line["seconds"])


def is_finite(values: Values) -> bool:
    """Return whether no number of a batch's values is NaN or infinite; texts are no numbers."""
    return isinstance(values, list) or bool(np.isfinite(values).all())


def differences(before: JsonObject, now: JsonObject) -> str:
    """Return the names of what differs, with the earlier values of settings."""
    changed = [name for name in now if before.get(name) != now[name]]
    shown = {name: f" ({before.get(name)!r})" for name in changed}
    return ", ".join(name + shown[name] * (len(shown[name]) <= SHOWN) for name in changed)


def tokens_sha256(rows: Sequence[Sequence[int]]) -> str:
    """Return a hash of the token ids of rows."""
    digest = hashlib.sha256(np.array([len(row) for row in rows], np.int32))
    digest.update(np.fromiter(chain.from_iterable(rows), np.int32))
    return digest.hexdigest()
