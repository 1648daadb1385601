"""Rows of a large CSV file whose messages stay on disk, to be read when they are written."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.codebook import Codebook
from pipeline.common.files import clean_text
from pipeline.common.rows import message_parts
from pipeline.common.tables import END_BYTE, FIRST_BYTE

MESSAGE_HASH = "message_hash"


def message_hash(message: str) -> int:
    """Return what stands for a message in memory: the first 8 bytes of its SHA-256, an integer."""
    return int.from_bytes(hashlib.sha256(message.encode()).digest()[:8])


def read_cells(path: Path, first: np.ndarray, end: np.ndarray) -> Iterator[list[str]]:
    """Return the cells of the rows of a CSV file that stand between some bytes, in that order."""
    records = []
    with path.open("rb") as file:
        for start, stop in zip(first.tolist(), end.tolist(), strict=True):
            file.seek(start)
            records.append(file.read(stop - start).strip() + b"\n")
    return csv.reader(io.StringIO(b"".join(records).decode(), ""))


@dataclass(frozen=True)
class StoredRows:
    """The rows of a CSV file but for their messages, of which it has the hashes and the places.

    `frame` is the table of `read_messages` with `message_hash` (uint64) in place of `message`, the
    index counting from 0; `first` and `end` (rows,) are the bytes between which each row stands.
    """

    path: Path
    frame: pd.DataFrame
    column: int  # of the messages
    first: np.ndarray
    end: np.ndarray

    def messages(self, places: Iterable[int]) -> list[str]:
        """Return the messages of some rows, by their places in `frame`, in that order."""
        rows = read_cells(self.path, self.first[list(places)], self.end[list(places)])
        return [clean_text(cells[self.column]) for cells in rows]

    def with_messages(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return some rows of `frame` as `read_messages` has them."""
        table = rows.rename(columns={MESSAGE_HASH: "message"})
        return table.assign(message=self.messages(rows.index))


def store_rows(
    path: str | Path, made_by: str, codebook: Codebook, labelled: bool = False
) -> StoredRows:
    """Read the rows of a CSV file with the checks of `read_messages`, but leave their messages."""
    frames, first, end = [], [], []
    for part in message_parts(path, made_by, codebook, labelled, with_bytes=True):
        first.append(part.pop(FIRST_BYTE).to_numpy())
        end.append(part.pop(END_BYTE).to_numpy())
        hashes = np.array([message_hash(message) for message in part["message"]], np.uint64)
        frames.append(part.assign(message=hashes).rename(columns={"message": MESSAGE_HASH}))
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        header = next(cells for cells in csv.reader(file) if any(cells))
    return StoredRows(
        Path(path),
        pd.concat(frames, ignore_index=True),
        header.index("message"),
        np.concatenate(first),
        np.concatenate(end),
    )
