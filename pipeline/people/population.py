"""The rows that a sample may be drawn from: held out for tests, not coded before, no examples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.rows import (
    MESSAGE_KEY,
    coded_by_people,
    find_rows,
    message_keys,
    message_parts,
)
from pipeline.common.splits import store_labelled
from pipeline.common.stored_rows import StoredRows
from pipeline.people.held_out import in_samples
from pipeline.people.intervals import FEWEST
from pipeline.people.record import RECORD_FILE
from pipeline.people.sample import codebook_of, is_pilot


def read_population(
    labeled_file: str, test_file: str, codebook: Codebook, pilot: bool = False
) -> tuple[StoredRows, np.ndarray]:
    """Return the labelled rows, and which of them are held out for tests, a bool (rows,).

    The messages of the rows stay in the file, see `store_labelled`.
    With an empty `test_file` no row is, nor before the first split for a `pilot`, whose rows
    split_dataset.py keeps out of the test rows. Raises UserError where the test rows are not among
    the labelled ones, with the same class, where the labels are by another codebook, and where
    people coded all rows.
    """
    stored = store_labelled(labeled_file, codebook, find=True)
    rows = stored.frame
    people = int(coded_by_people(rows).sum())
    if people == len(rows):
        raise UserError(
            f"{labeled_file}: people coded all of its {people:,} rows: there is no silver label to "
            "check, and no sample to draw"
        )
    if people:
        print(f"  left out {people:,} rows that people coded before: they have no silver label")
    if not test_file:
        print("drawing from all rows: models that learn from them cannot be tested on the sample")
        return stored, np.zeros(len(rows), bool)
    if pilot and not Path(test_file).is_file():
        print("drawing from all rows: split_dataset.py will put these into no test set")
        return stored, np.zeros(len(rows), bool)
    if not Path(test_file).is_file():
        raise UserError(
            f"{test_file} not found: run split_dataset.py first, or give --test-file '' to draw "
            "from all rows, also those that models learn from"
        )
    test = read_test_keys(test_file, codebook)
    places = find_rows(test, rows)
    now = rows["class"].to_numpy()[places]
    wrong = np.flatnonzero((places < 0) | (now != test["class"]))
    if len(wrong):
        custom_id, label = test[["custom_id", "class"]].iloc[wrong[0]]
        is_there = places[wrong[0]] >= 0
        raise UserError(
            f"{test_file}: {custom_id} has class {label}, and in {labeled_file} "
            f"{now[wrong[0]] if is_there else 'it is not there'}: run split_dataset.py again"
        )
    held_out = np.zeros(len(rows), bool)
    held_out[places] = True
    return stored, held_out


def read_test_keys(test_file: str, codebook: Codebook) -> pd.DataFrame:
    """Return id, class and, for the message, its key of the test rows."""
    parts = message_parts(test_file, "split_dataset.py", codebook, labelled=True)
    keys = [
        part[["custom_id", "class"]].assign(**{MESSAGE_KEY: message_keys(part)}) for part in parts
    ]
    return pd.concat(keys, ignore_index=True)


def rows_to_draw_from(
    rows: pd.DataFrame,
    held_out: np.ndarray,
    pilot: bool,
    earlier: Sequence[str | Path],
    codebook: Codebook,
    floor: int,
) -> tuple[pd.DataFrame, pd.Index]:
    """Return the rows that a sample, or a pilot, may be drawn from, and which are drawn again.

    The sample comes from the held-out rows. These are a random part of each class, so that a row's
    chance to be drawn is that of a draw from all of the class. The pilot comes from the other rows,
    so that no row that a codebook is refined on tests anything. Rows that people coded before have
    no silver label, and are in neither, and so are the codebook's examples, whose class coders read
    there.

    `earlier` are the sample.csv files whose rows are not drawn again. But where this leaves fewer
    than `floor` rows of a class, all its rows of samples of the same kind (pilots for a pilot) that
    were drawn with another codebook may be drawn too: the second result. Raises UserError where too
    few rows of a class are left for an interval.
    """
    where, cure = "", "earlier samples hold them: label more"
    silver = ~coded_by_people(rows)
    eligible = silver
    if held_out.any():
        eligible = silver & (~held_out if pilot else held_out)
        where = " outside the test rows" if pilot else " among the test rows"
        cure = f"split with another --seed or a {'smaller' if pilot else 'larger'} --test-size"
    of_another = [file for file in earlier if drawn_again(Path(file), pilot, codebook)]
    possible = eligible & ~in_samples(rows, [file for file in earlier if file not in of_another])
    possible &= ~rows["told"].to_numpy()
    before = possible & in_samples(rows, of_another)
    left = possible & ~before
    for k, name in enumerate(codebook.names):
        of_class = (rows["class"] == k).to_numpy()
        if (left & of_class).sum() < min(floor, (possible & of_class).sum()):
            left |= possible & of_class
        there, remaining = int((silver & of_class).sum()), int((left & of_class).sum())
        if remaining < min(FEWEST, there):
            raise UserError(
                f"class {name} has {there:,} rows and {'one' if remaining else 'none'} of them is "
                f"left to draw{where}: {cure}, or merge the class with another"
            )
    return rows[left], rows.index[left & before]


def drawn_again(file: Path, pilot: bool, codebook: Codebook) -> bool:
    """Return whether the rows of a sample.csv may be drawn again where others are too few.

    They may for a sample of the same kind with another codebook. Pilots' rows never become test
    rows, since a codebook was refined on them.
    """
    record = file.with_name(RECORD_FILE)
    same_kind = is_pilot(file.parent) == pilot
    return same_kind and record.is_file() and codebook_of(record) != codebook.sha256
