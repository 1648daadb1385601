"""The rows between the steps: custom_id, message, class."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.examples import example_key
from pipeline.common.files import clean_text
from pipeline.common.fitting_rows import (
    are_by_codebook,
    check_codebook_of,
    refuse_one_class,
    say_missing_classes,
)
from pipeline.common.tables import END_BYTE, FIRST_BYTE, PART, read_csv_parts

HUMAN = "human"  # who coded a row, in `coded_by`
COLUMNS = ("custom_id", "message", "class", "coded_by", "weight")
MESSAGE_KEY = "message_key"  # in place of a message, see `message_keys`
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: two 64-bit numbers become one
TEXT_COLUMNS = ("custom_id", "message", "coded_by")


def read_messages(
    path: str | Path, made_by: str, codebook: Codebook, labelled: bool = False
) -> pd.DataFrame:
    """Read `custom_id`, `message` and `class` (an int, -1 for no label) from a CSV file.

    Only `message` must be there: rows without a `custom_id` are called `row-N`, N the row's number
    in a spreadsheet, and rows without a `class` get -1. With `labelled`, a -1 is refused. Rows with
    an empty message are left out and counted, line breaks become spaces. Two columns more stay
    where they are there: `coded_by` (human, or blank for a silver label) and `weight` (a float: the
    rows of the data set that a row of a sample stands for). Raises UserError for a class that the
    codebook does not define, and where a row's class is not the one that `coded_as` names.
    """
    parts = message_parts(path, made_by, codebook, labelled)
    return pd.concat(map(with_text_columns, parts), ignore_index=True)


def with_text_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with pandas' own texts, which take less memory than Python's."""
    names = [name for name in TEXT_COLUMNS if name in rows]
    return rows.astype(dict.fromkeys(names, "str"))


def message_parts(
    path: str | Path,
    made_by: str,
    codebook: Codebook,
    labelled: bool = False,
    with_bytes: bool = False,
) -> Iterator[pd.DataFrame]:
    """Yield the table of `read_messages` in parts; the index counts from 0 in each of them.

    `with_bytes` is that of `read_csv_parts`.
    """
    required = ["custom_id", "message", "class"] if labelled else ["message"]
    ids, empty, cleaned, count = UniqueIds(path, made_by), [], 0, 0
    for cells in read_csv_parts(path, required, made_by, with_bytes):
        if "custom_id" not in cells:
            cells["custom_id"] = [f"row-{number}" for number in cells.index]
        if "class" not in cells:
            cells["class"] = ""
        frame = cells[[name for name in (*COLUMNS, FIRST_BYTE, END_BYTE) if name in cells]]
        if "weight" in frame:
            frame = frame.assign(weight=read_weights(path, frame["weight"]))
        messages = _cleaned(frame["message"])
        frame = frame.assign(custom_id=_cleaned(frame["custom_id"]))
        ids.add(frame["custom_id"], messages)
        if "coded_as" in cells:
            _refuse_other_classes(path, frame, cells["coded_as"], codebook)
        frame = frame.assign(**{"class": _read_classes(path, frame["class"], codebook, labelled)})
        blank, raw = messages == "", frame["message"]
        changed = raw[~blank & (messages != raw)]
        cleaned += int((changed.str.strip() != messages[changed.index]).sum())
        empty += frame.index[blank].tolist()
        part = frame.assign(message=messages)[~blank].reset_index(drop=True)
        count += len(part)
        yield part
    ids.check()
    if cleaned:
        print(f"  cleaned {cleaned:,} messages of line breaks or controls")
    if empty:
        print(f"  left out {len(empty):,} empty messages{row_numbers(empty)}")
    if not count:
        raise UserError(f"{path} holds no message: run {made_by} first")


def _cleaned(cells: pd.Series) -> pd.Series:
    """Return the texts of cells on one line."""
    return pd.Series([clean_text(cell) for cell in cells], cells.index, dtype=object)


class UniqueIds:
    """Sees to it that each row of a file has an id of its own; keeps 8 bytes a row."""

    def __init__(self, path: str | Path, made_by: str) -> None:
        self._path, self._made_by = path, made_by
        self._hashes: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def add(self, ids: pd.Series, messages: pd.Series) -> None:
        """Take the ids of some rows, the index being their numbers; refuse a message without one.

        A row without a message may be without an id.
        """
        nameless = (ids == "") & (messages != "")
        if nameless.any():
            raise UserError(
                f"{self._path}, row {nameless.idxmax()} has no custom_id: give each row its own, "
                f"or run {self._made_by} again"
            )
        named = ids[ids != ""]
        self._hashes.append(pd.util.hash_array(named.to_numpy(dtype=object)))
        self._rows.append(named.index.to_numpy())

    def check(self) -> None:
        """Raise UserError where two rows have the same id."""
        hashes, rows = np.concatenate(self._hashes), np.concatenate(self._rows)
        order = np.argsort(hashes, kind="stable")
        repeats = order[1:][hashes[order][1:] == hashes[order][:-1]]
        if len(repeats):
            row = rows[repeats].min()
            parts = read_csv_parts(self._path, ["custom_id"], self._made_by)
            repeated = next(part["custom_id"][row] for part in parts if row in part.index)
            raise UserError(
                f"{self._path}, row {row}: custom_id {clean_text(repeated)!r} stands there twice; "
                f"give each row its own, or run {self._made_by} again"
            )


def _read_classes(
    path: str | Path, cells: pd.Series, codebook: Codebook, labelled: bool
) -> pd.Series:
    """Return the class of each cell, an int; with `labelled`, a cell without one is refused."""
    known = {cell: parse_label(cell, codebook) for cell in cells.unique()}
    labels = cells.map(known)
    if None in known.values():
        row = labels.isna().idxmax()
        raise UserError(
            f"{path}, row {row}: class {cells[row]!r}: the codebook's classes are "
            f"{codebook.choices}; correct the cell"
        )
    if labelled and (labels < 0).any():
        row = (labels < 0).idxmax()
        raise UserError(
            f"{path}, row {row}: class {cells[row]!r}: it has no label; leave such rows out, as "
            "purged_labeled_v2.csv does"
        )
    return labels.astype(int)


def _refuse_other_classes(
    path: str | Path, rows: pd.DataFrame, coded_as: pd.Series, codebook: Codebook
) -> None:
    """Stop where the class that people gave a row, by its name, has another number by now."""
    for row, name in coded_as[coded_as != ""].items():
        if parse_label(rows["class"][row], codebook) != parse_label(name, codebook):
            raise UserError(
                f"{path}, row {row}: people coded it as {name!r}, class {rows['class'][row]} then, "
                f"and the classes of {codebook.path} are others now ({codebook.choices}): run "
                "excel_2_csv.py again; where classes were merged or renamed, give --label-column a "
                "column with the new ones, or leave it out to have these rows asked"
            )


def read_weights(path: str | Path, cells: pd.Series) -> pd.Series:
    """Return a column of weights as floats above 0; raises UserError for another cell."""
    weights = pd.to_numeric(cells, errors="coerce")
    wrong = ~(weights > 0) | (weights == float("inf"))
    if wrong.any():
        raise UserError(
            f"{path}, row {wrong.idxmax()}: weight {cells[wrong].iloc[0]!r} is no number above 0: "
            "correct the cell, or remove the column"
        )
    return weights


def refuse_other_codebook(path: str | Path, codebook: Codebook) -> None:
    """Stop where the record beside labels says that they are by another codebook."""
    if not are_by_codebook(path, codebook):
        raise UserError(
            f"{path} holds labels by another codebook than {codebook.path}: have the comments "
            "labelled by this one (batch_infer_gen.py, submit_batch.py, jsonl_to_csv.py), or put "
            "the other back"
        )


def read_labelled(path: str | Path, codebook: Codebook) -> pd.DataFrame:
    """Read the rows with a label, as `read_messages` does, by this codebook."""
    refuse_other_codebook(path, codebook)
    return read_messages(path, "jsonl_to_csv.py", codebook, labelled=True)


def read_training_rows(
    train_file: str, validation_file: str, codebook: Codebook, max_train_samples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the training rows, at most `max_train_samples` (0 = all), and the validation rows."""
    train, validation = (
        read_messages(file, "split_dataset.py", codebook, labelled=True)
        for file in (train_file, validation_file)
    )
    train = train.head(max_train_samples or len(train))
    for file, rows in ((train_file, train), (validation_file, validation)):
        check_codebook_of(file, codebook)
        say_missing_classes(file, rows, codebook)
    refuse_one_class(train_file, train, codebook)
    return train, validation


def read_test_rows(test_file: str, codebook: Codebook, max_test_samples: int) -> pd.DataFrame:
    """Read the rows to predict, at most `max_test_samples` of them (0 = all)."""
    rows = read_messages(test_file, "split_dataset.py", codebook)
    rows = rows.head(max_test_samples or len(rows))
    check_codebook_of(test_file, codebook)
    say_missing_classes(test_file, rows, codebook)
    refuse_examples(test_file, rows, codebook)
    return rows


def are_examples(rows: pd.DataFrame, codebook: Codebook) -> np.ndarray:
    """Return which rows stand in the codebook as an example, a bool (rows,).

    White space and quotes do not count.
    """
    keys = {example_key(text) for _, text in codebook.examples}
    return np.array([bool(keys) and example_key(text) in keys for text in rows["message"]], bool)


def refuse_examples(test_file: str, rows: pd.DataFrame, codebook: Codebook) -> None:
    """Stop where a row to be scored stands in the codebook as an example: its answer was told."""
    told = rows[are_examples(rows, codebook) & (rows["class"] >= 0)]
    if len(told):
        row = told.iloc[0]
        more = f" (so are {len(told) - 1:,} other rows)" if len(told) > 1 else ""
        raise UserError(
            f"{test_file}, {row['custom_id']}: {row['message'][:80]!r} is an example in "
            f"{codebook.path}{more}, where its class is told: run split_dataset.py again, which "
            "puts it into train, or remove the row"
        )


def find_rows(wanted: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """Return the place of each wanted row among `rows` now, int (wanted,), -1 where it is gone.

    Both have `custom_id` and what `message_keys` takes. A row is the one with the same id and the
    same message, white space aside; else it has moved, and is the first row with the same message
    that is no other's. An id alone says nothing: it may have another message by now. No place is
    given twice.
    """
    sought, there = message_keys(wanted), message_keys(rows)
    places, free = np.full(len(sought), -1), np.ones(len(there), bool)

    def give(numbers: np.ndarray, of_wanted: np.ndarray, left: np.ndarray, of_rows: np.ndarray):
        """Give the places in `left` to the wanted rows whose value is the same, each once."""
        _, one, other = np.intersect1d(of_wanted, of_rows, assume_unique=True, return_indices=True)
        places[numbers[one]] = left[other]
        free[left[other]] = False

    of_wanted, of_rows = (
        keys + FACTOR * _id_hashes(table) for keys, table in ((sought, wanted), (there, rows))
    )
    first = np.flatnonzero(_turns(of_wanted) == 0)
    last = np.flatnonzero(_turns(of_rows[::-1])[::-1] == 0)
    give(first, of_wanted[first], last, of_rows[last])
    moved, left = np.flatnonzero(places < 0), np.flatnonzero(free)
    of_wanted, of_rows = (
        keys + FACTOR * _turns(keys).astype(np.uint64) for keys in (sought[moved], there[left])
    )
    give(moved, of_wanted, left, of_rows)
    return places


def _id_hashes(rows: pd.DataFrame) -> np.ndarray:
    """Return a 64-bit number for each id, uint64 (rows,)."""
    parts = [rows["custom_id"].iloc[start : start + PART] for start in range(0, len(rows), PART)]
    hashes = [pd.util.hash_array(part.to_numpy(dtype=object)) for part in parts]
    return np.concatenate([np.array([], np.uint64), *hashes])


def _turns(keys: np.ndarray) -> np.ndarray:
    """Return how many equal keys stand before each, int (rows,)."""
    order = np.argsort(keys, kind="stable")
    begins = np.diff(keys[order], prepend=~keys[order[:1]]) != 0
    count = np.arange(len(keys))
    turns = np.empty(len(keys), int)
    turns[order] = count - np.maximum.accumulate(np.where(begins, count, 0))
    return turns


def message_keys(rows: pd.DataFrame) -> np.ndarray:
    """Return what tells messages apart, white space aside: 64-bit numbers (rows,).

    They are taken from the column `message_key`, where there, or computed from `message`.
    """
    if MESSAGE_KEY in rows:
        return rows[MESSAGE_KEY].to_numpy()
    return np.array([text_hash(without_space(text)) for text in rows["message"]], np.uint64)


def text_hash(text: str) -> int:
    """Return a number that stands for a text: the first 64 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8])


def coded_by_people(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows have their class from people and not from a teacher, a bool (rows,)."""
    if "coded_by" not in rows:
        return np.zeros(len(rows), bool)
    return ((rows["coded_by"] == HUMAN) & (rows["class"] >= 0)).to_numpy()


def without_space(text: str) -> str:
    """Return a text without its white space, which spreadsheet programs change."""
    return "".join(clean_text(text).split())


def row_numbers(numbers: list[int]) -> str:
    """Return the first row numbers, as in " (rows 3, 5, 8, ...)"."""
    more = ", ..." if len(numbers) > 5 else ""
    return f" (rows {', '.join(map(str, numbers[:5]))}{more})" if numbers else ""
