"""Ids of requests as numbers in columns: a million of them in memory, and where one stands."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pipeline.common.rows import coded_by_people
from pipeline.common.stored_rows import MESSAGE_HASH
from pipeline.labelling.ids import numbers_among_equals, read_id, write_id

AT_ONCE = 50_000  # ids that are looked for in one go


@dataclass(frozen=True)
class IdColumns:
    """Ids of one label set by their parts (`RequestId`), each an int (ids,)."""

    message: np.ndarray
    number: np.ndarray
    mark: np.ndarray

    def __len__(self) -> int:
        return len(self.message)

    @cached_property
    def by_message(self) -> "Places":
        """Where ids stand among these, whatever their marks."""
        return Places(self)

    def only(self, these: np.ndarray | slice) -> "IdColumns":
        """Return some of the ids."""
        return IdColumns(self.message[these], self.number[these], self.mark[these])

    def followed_by(self, more: Iterable[tuple[int, int]]) -> "IdColumns":
        """Return these ids and more, of which each is a message's hash and a number."""
        columns = np.array(list(more), np.uint64).reshape(-1, 2)
        return IdColumns(
            np.append(self.message, columns[:, 0]),
            np.append(self.number, columns[:, 1].astype(np.int32)),
            np.append(self.mark, np.zeros(len(columns), np.int32)),
        )

    @property
    def tries(self) -> np.ndarray:
        """Which try each of them is, from 1 on."""
        return np.maximum(self.mark, 1)

    def texts(self, label_set: str, places: Iterable[int] | slice = slice(None)) -> list[str]:
        """Return some of the ids as they are sent."""
        columns = (self.message[places], self.number[places], self.mark[places])
        parts = zip(*(column.tolist() for column in columns), strict=True)
        return [write_id(label_set, *one) for one in parts]


def ids_of_rows(frame: pd.DataFrame) -> IdColumns:
    """Return the ids of rows' first requests, from the hashes of their messages."""
    messages = frame[MESSAGE_HASH].to_numpy(np.uint64)
    numbers = numbers_among_equals(messages, coded_by_people(frame)).astype(np.int32)
    return IdColumns(messages, numbers, np.zeros(len(messages), np.int32))


class IdsRead:
    """Ids that are taken one by one, to be columns in the end."""

    def __init__(self) -> None:
        self._message, self._number, self._mark = array("Q"), array("i"), array("i")

    def add(self, message: int, number: int, mark: int) -> None:
        """Take the parts of an id."""
        self._message.append(message)
        self._number.append(number)
        self._mark.append(mark)

    def columns(self) -> IdColumns:
        """Return what was taken."""
        parts = zip((self._message, self._number, self._mark), ("u8", "i4", "i4"), strict=True)
        return IdColumns(*(np.asarray(part).astype(kind, copy=False) for part, kind in parts))


def read_columns(ids: Iterable[str], label_set: str) -> IdColumns:
    """Return ids as columns; those of other label sets are (0, 0, 0), which is no row's."""
    taken = IdsRead()
    for own in map(read_id, ids):
        taken.add(*(own[1:] if own and own.label_set == label_set else (0, 0, 0)))
    return taken.columns()


class Places:
    """Where ids stand among others, by message and number alone or with the mark."""

    def __init__(self, ids: IdColumns, with_mark: bool = False) -> None:
        self._with_mark = with_mark
        rest = self._rest(ids)
        self._order = np.lexsort((rest, ids.message)).astype(np.int32)
        self._message, self._last = ids.message[self._order], rest[self._order]

    def _rest(self, ids: IdColumns) -> np.ndarray:
        if not self._with_mark:
            return ids.number
        return (ids.number.astype(np.int64) << 32) + ids.mark

    def find(self, ids: IdColumns) -> np.ndarray:
        """Return the place of each id, int (ids,), -1 where it is none; of equals the last one."""
        parts = (slice(start, start + AT_ONCE) for start in range(0, len(ids), AT_ONCE))
        places = [self._find(ids.only(part)) for part in parts]
        return np.concatenate(places) if places else np.zeros(0, np.int32)

    def _find(self, ids: IdColumns) -> np.ndarray:
        rest = self._rest(ids)
        low = np.searchsorted(self._message, ids.message)
        high = end = np.searchsorted(self._message, ids.message, "right")
        start = low
        while (low < high).any():  # bisection in all messages' numbers at once
            middle = (low + high) // 2
            above = self._last[np.minimum(middle, len(self._last) - 1)] > rest
            low, high = (
                np.where(~above & (low < high), middle + 1, low),
                np.where(above & (low < high), middle, high),
            )
        found = low - 1
        same = (found >= start) & (found < end)
        same[same] = self._last[found[same]] == rest[same]
        places = np.full(len(rest), -1, np.int32)
        places[same] = self._order[found[same]]
        return places

    def repeated(self) -> np.ndarray:
        """Return the places of ids that stand before them too, int (some,)."""
        message, rest = self._message, self._last
        same = (message[1:] == message[:-1]) & (rest[1:] == rest[:-1])
        return self._order[1:][same]

    def have(self, messages: np.ndarray) -> np.ndarray:
        """Return which messages have an id here, a bool (messages,)."""
        at = np.searchsorted(self._message, messages)
        there = at < len(self._message)
        there[there] = self._message[at[there]] == messages[there]
        return there
