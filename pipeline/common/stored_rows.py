"""Rows of a large CSV file whose messages stay on disk, to be read when they are written."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.codebook import Codebook
from pipeline.common.files import clean_text
from pipeline.common.hashes import text_hashes
from pipeline.common.rows import message_parts, with_text_columns
from pipeline.common.tables import END_BYTE, FIRST_BYTE, PART

MESSAGE_HASH = "message_hash"


def read_cells(path: Path, first: np.ndarray, end: np.ndarray) -> Iterator[list[str]]:
    """Return the cells of those rows of a CSV file that stand between some bytes, in that order."""
    if not len(first):
        return iter(())
    apart = np.flatnonzero(first[1:] != end[:-1]) + 1  # the others follow the row before them
    starts, stops = first[np.append(0, apart)], end[np.append(apart, len(end)) - 1]
    records = []
    with path.open("rb", buffering=0) as file:
        for start, size in zip(starts.tolist(), (stops - starts).tolist(), strict=True):
            file.seek(start)
            records.append(file.read(size).rstrip(b"\r\n"))
    return csv.reader(io.StringIO(b"\n".join(records).decode(), newline=""))


@dataclass(frozen=True)
class StoredRows:
    """The rows of a CSV file but for their messages, of which it has the hashes and the places.

    `frame` is the table of `read_messages` with `message_hash` (uint64, see `text_hash`) in place
    of `message`, the index counting from 0; `first` and `end` (rows,) are the bytes between which
    each row stands in the file.
    """

    path: Path
    frame: pd.DataFrame
    column: int  # of the messages
    first: np.ndarray
    end: np.ndarray

    def messages(self, places: Sequence[int]) -> list[str]:
        """Return the messages of some rows, by their places in `frame`, in that order."""
        rows = read_cells(self.path, self.first[places], self.end[places])
        return [clean_text(cells[self.column]) for cells in rows]

    def parts(self, rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Yield some rows of `frame` with `message` in place of its hash, in parts."""
        for start in range(0, len(rows), PART):
            part = rows.iloc[start : start + PART].rename(columns={MESSAGE_HASH: "message"})
            messages = pd.Series(self.messages(part.index), part.index, dtype=object)
            yield part.assign(message=messages)


def store_rows(
    path: str | Path,
    made_by: str,
    codebook: Codebook,
    labelled: bool = False,
    **columns: Callable[[pd.DataFrame], np.ndarray],
) -> StoredRows:
    """Read the rows of a CSV file with the checks of `read_messages`, but leave their messages.

    Each of `columns` is one more column of the frame: what a function returns for `read_messages`'
    table of some rows, (rows,).
    """
    frames, first, end = [], [], []
    for part in message_parts(path, made_by, codebook, labelled, with_bytes=True):
        first.append(part.pop(FIRST_BYTE).to_numpy())
        end.append(part.pop(END_BYTE).to_numpy())
        more = {name: values_of(part) for name, values_of in columns.items()}
        part = part.assign(message=text_hashes(part["message"]), **more)
        part = part.rename(columns={"message": MESSAGE_HASH})
        frames.append(with_text_columns(part))
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        header = next(cells for cells in csv.reader(file) if any(cells))
    return StoredRows(
        path=Path(path),
        frame=pd.concat(frames, ignore_index=True),
        column=header.index("message"),
        first=np.concatenate(first),
        end=np.concatenate(end),
    )
