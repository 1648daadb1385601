"""The lines of a file of finished rows: values exactly as they were computed, and a checksum."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.common.files import JsonObject, readable

Values = np.ndarray | list[tuple]  # of a batch's rows: numbers (rows, ...), or what JSON can hold
SHOWN = 60  # characters of a value that has changed; hashes are longer


@dataclass(frozen=True)
class Batch:
    """A finished batch: the numbers of its rows, their values, and the seconds that it took.

    `pieces` says in how many parts the batches were cut then, for want of memory.
    """

    rows: list[int]
    values: Values
    pieces: int
    seconds: float


def line_of(value: JsonObject, numbers: bytes = b"") -> bytes:
    """Return a line of a file: a checksum, a value as JSON, and numbers that JSON would not take.

    `numbers` stand apart in base64: as a part of the JSON they would cost three times as long.
    """
    text = json.dumps(value).encode() + b"\t" + b64encode(numbers)
    return checksum(text).encode() + b"\t" + text + b"\n"


def line_of_batch(batch: Batch) -> bytes:
    """Return the line of a batch, with its values exactly."""
    value = {"rows": batch.rows, "pieces": batch.pieces, "seconds": batch.seconds}
    if isinstance(batch.values, list):
        return line_of(value | {"values": batch.values})
    kind = {"dtype": batch.values.dtype.str, "shape": batch.values.shape}
    return line_of(value | kind, batch.values.tobytes())


def read_lines(path: Path) -> Iterator[JsonObject | None]:
    """Yield the lines of a file, None for a damaged one.

    A last line without its end, which a kill or a full disk has cut, is left out.
    """
    with readable(path, "run the same command again"), path.open("rb") as lines:
        yield from (parsed(line[:-1]) for line in lines if line.endswith(b"\n"))


def parsed(line: bytes) -> JsonObject | None:
    """Return what a line holds, or None where its checksum is not that of its text."""
    sum_of_text, _, text = line.partition(b"\t")
    if sum_of_text != checksum(text).encode():
        return None
    value, _, numbers = text.partition(b"\t")
    return json.loads(value) | {"numbers": b64decode(numbers)}


def checksum(text: bytes) -> str:
    """Return 16 hexadecimal digits that tell a text from others."""
    return hashlib.sha256(text).hexdigest()[:16]


def batch_of(line: JsonObject) -> Batch:
    """Return the batch that a line holds."""
    if "dtype" in line:
        flat = np.frombuffer(line["numbers"], line["dtype"])
        values: Values = flat.reshape(line["shape"])
    else:
        values = [tuple(value) for value in line["values"]]
    return Batch(line["rows"], values, line["pieces"], line["seconds"])


def is_finite(values: Values) -> bool:
    """Return whether no number of a batch's values is NaN or infinite; texts are no numbers."""
    return isinstance(values, list) or bool(np.isfinite(values).all())


def differences(before: JsonObject, now: JsonObject) -> str:
    """Return the names of what differs, with the earlier values of settings and packages."""
    changed = []
    for name in now:
        earlier, value = before.get(name), now[name]
        if isinstance(earlier, dict) and isinstance(value, dict) and earlier != value:
            parts = {part: earlier.get(part) for part in sorted(earlier | value)}
            changed += [(part, old) for part, old in parts.items() if value.get(part) != old]
        elif earlier != value:
            changed.append((name, earlier))
    return ", ".join(name + f" ({old!r})" * (len(repr(old)) <= SHOWN) for name, old in changed)


def tokens_sha256(rows: Sequence[Sequence[int]]) -> str:
    """Return a hash of the token ids of rows."""
    digest = hashlib.sha256(np.array([len(row) for row in rows], np.int32))
    digest.update(np.fromiter(chain.from_iterable(rows), np.int32))
    return digest.hexdigest()
