"""The rows of a sheet that are to be coded: their texts on disk, equal comments once."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.coding.model import FoundModel
from pipeline.common.cli import UserError
from pipeline.common.fitting_rows import LearnedRows
from pipeline.common.hashes import text_hashes
from pipeline.common.rows import MESSAGE_KEY, message_keys
from pipeline.common.tables import read_csv_parts
from pipeline.sheets.masking import MASKED_COLUMNS
from pipeline.sheets.messages import Messages


@dataclass(frozen=True)
class SheetRows:
    """The rows of a sheet with a message, whose messages are the lines of a file.

    `frame` has `custom_id`, `message_key` (see `find_rows`) and `class`, that of the sheet's own
    column, -1 for none. `number` (rows,) are the rows' numbers in the sheet, `comment` (rows,) says
    which of the different messages a row has, in the order in which they come first, and `hashes`
    (comments,) stand for these, uint64. `num_rows` are the sheet's rows that are not blank.
    """

    path: Path
    frame: pd.DataFrame
    number: np.ndarray
    comment: np.ndarray
    hashes: np.ndarray
    num_rows: int

    def __len__(self) -> int:
        return len(self.frame)

    def comments(self, wanted: np.ndarray, size: int) -> Iterator[list[str]]:
        """Yield the wanted ones of the different messages, `size` at a time, in their order.

        `wanted` is a bool (comments,).
        """
        first = np.zeros(len(self), bool)
        first[np.unique(self.comment, return_index=True)[1]] = True
        chosen = first & wanted[self.comment]
        with self.path.open(encoding="utf-8", newline="\n") as lines:
            texts = (line[:-1] for line in compress(lines, chosen))
            while part := list(islice(texts, size)):
                yield part


def read_rows(messages: Messages, path: Path, learned: LearnedRows) -> SheetRows:
    """Read the rows of a sheet, whose messages are written to `path`; a message is one line.

    `learned` counts those that taught the model.
    """
    frames, hashes = [], []
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for _, cells in messages.parts():
            part = pd.DataFrame(cells, columns=messages.columns, dtype=object)
            out.writelines(f"{message}\n" for message in part["message"])
            learned.add(part)
            hashes.append(text_hashes(part["message"]))
            table = {MESSAGE_KEY: message_keys(part), "class": part["class"].astype(np.int8)}
            frames.append(part[["custom_id"]].astype("str").assign(**table))
    every = np.concatenate(hashes)
    _, first, place = np.unique(every, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return SheetRows(
        path=path,
        frame=pd.concat(frames, ignore_index=True),
        number=np.array(messages.numbers, np.int64),
        comment=rank[place],
        hashes=every[first[order]],
        num_rows=messages.num_rows,
    )


def refuse_unmasked(masked_file: str, mask: bool) -> None:
    """Stop where step 1 hid personal data and it is not to be hidden (`mask`) from the model now.

    `masked_file` is where excel_2_csv.py says what it has hidden; without rows it hid nothing.
    """
    path = Path(masked_file)
    if not mask and path.is_file() and len(path.read_bytes().splitlines()) > 1:
        found = sum(map(len, read_csv_parts(path, MASKED_COLUMNS, "excel_2_csv.py")))
        raise UserError(
            f"{path} shows that excel_2_csv.py hid personal data ({found:,} times), so that the "
            "model learned masked comments: give --mask-personal-data; or, if the model learned "
            "comments as they are, another --masked-file"
        )


def learned_rows(found: FoundModel) -> LearnedRows:
    """Return what counts the rows that taught a model."""
    trained = found.record.get("num_rows", {}).get("train", 0)
    return LearnedRows(found.record.get("train_sample", ""), trained)
