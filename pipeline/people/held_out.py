"""Rows that people coded, and which split they belong in."""

from collections.abc import Iterable
from glob import glob
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.rows import find_rows, message_keys
from pipeline.common.tables import read_csv
from pipeline.people.record import PILOTS, SAMPLE_FILE


def in_samples(rows: pd.DataFrame, files: Iterable[str | Path]) -> np.ndarray:
    """Return which rows stand in any of some sample.csv files, a bool (rows,).

    Rows that moved since are known by their message, see `find_rows`; those of another data set,
    which may have the same ids, are not. Files that are not there are passed over.
    """
    found = np.zeros(len(rows), bool)
    for sample in read_samples(files):
        places = find_rows(sample, rows)
        found[places[places >= 0]] = True
    return found


def read_samples(files: Iterable[str | Path]) -> list[pd.DataFrame]:
    """Return the rows of those sample.csv files that are there."""
    there = [file for file in map(Path, files) if file.is_file()]
    return [read_csv(file, ["custom_id", "message"], "human_sample.py") for file in there]


def with_messages_of(rows: pd.DataFrame, files: Iterable[str | Path]) -> np.ndarray:
    """Return which rows have the message of any row of some sample.csv files, a bool (rows,)."""
    known = [message_keys(sample) for sample in read_samples(files)]
    return (
        np.isin(message_keys(rows), np.concatenate(known)) if known else np.zeros(len(rows), bool)
    )


def keep_samples(
    splits: dict[str, pd.DataFrame], folders: str, by_message: bool, seed: int
) -> tuple[dict[str, pd.DataFrame], int]:
    """Return the splits with the rows of samples in test, and how many rows had to move.

    What people coded before a new split must not become what models learn from. Pilots' rows leave
    test, since the codebook was refined on them. A row moves in exchange for one of its class.
    `folders` is a pattern of the folders that human_sample.py draws into; `by_message` knows rows
    by their message alone. The index of the splits is that of the rows that were split.
    """
    found = [Path(folder) for folder in sorted(glob(folders))]
    pilot_files = [file for folder in found for file in sorted(folder.glob(PILOTS))]
    if not found:
        return splits, 0
    rows = pd.concat(splits.values()).sort_index()
    known = with_messages_of if by_message else in_samples
    samples = rows.index[known(rows, [folder / SAMPLE_FILE for folder in found])]
    pilots = rows.index[known(rows, pilot_files)]
    splits, exchanged = dict(splits), 0
    for source, target, moving in (
        ("train", "test", samples),
        ("validation", "test", samples),
        ("test", "train", pilots.difference(samples)),
    ):
        leave = splits[source].index.isin(moving)
        free = ~splits[target].index.isin(samples.union(pilots))
        splits[source], splits[target] = exchange(splits[source], splits[target], leave, free, seed)
        exchanged += int(leave.sum())
        if leave.any():
            print(f"moved {leave.sum():,} rows of people's samples from {source} to {target}")
        if splits[source].empty:
            raise UserError(
                f"no row is left for {source}: people coded all of them; give --human-samples '' "
                "to split them too"
            )
    return splits, exchanged


def exchange(
    source: pd.DataFrame, target: pd.DataFrame, leave: np.ndarray, free: np.ndarray, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both splits after the rows of `source` in `leave` moved to `target`.

    As many random rows of each class come back, of those in `free`, or all of these if they are
    fewer.
    """
    moved, sizes = source[leave], source["class"][leave].value_counts()
    back = [
        rows.sample(min(len(rows), sizes.get(k, 0)), random_state=seed)
        for k, rows in target[free].groupby("class")
    ]
    given = pd.concat([target.head(0), *back])
    return (
        pd.concat([source.drop(moved.index), given]),
        pd.concat([target.drop(given.index), moved]),
    )
