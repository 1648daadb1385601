"""Rows that people coded, and which split they belong in."""

from collections.abc import Iterable
from glob import glob
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.files import read_csv
from pipeline.people.record import SAMPLE_FILE


def in_samples(
    rows: pd.DataFrame,
    files: Iterable[str | Path],
    by: tuple[str, ...] = ("custom_id", "message"),
) -> np.ndarray:
    """Return which rows stand in any of some sample.csv files, a bool (rows,).

    A row is known by id and message, since rows of another data set have the same ids. Files that
    are not there are passed over.
    """
    return among(rows, sampled(files, by), by)


def sampled(files: Iterable[str | Path], by: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return what the rows of sample.csv files are known by."""
    known: set[tuple[str, ...]] = set()
    for file in filter(Path.is_file, map(Path, files)):
        sample = read_csv(file, ["custom_id", "message"], "human_sample.py")
        known |= set(sample[list(by)].itertuples(index=False, name=None))
    return known


def among(rows: pd.DataFrame, known: set[tuple[str, ...]], by: tuple[str, ...]) -> np.ndarray:
    """Return which rows are known, a bool (rows,)."""
    keys = rows[list(by)].itertuples(index=False, name=None)
    return np.array([key in known for key in keys], dtype=bool)


def keep_samples(
    splits: dict[str, pd.DataFrame], folders: str, by_message: bool, seed: int
) -> tuple[dict[str, pd.DataFrame], int]:
    """Return the splits with the rows of samples in test, and how many rows had to move.

    What people coded before a new split must not become what models learn from. Pilots' rows leave
    test, since the codebook was refined on them. A row moves in exchange for one of its class.
    `folders` is a pattern of the folders that human_sample.py draws into; `by_message` knows rows
    by their message alone.
    """
    by = ("message",) if by_message else ("custom_id", "message")
    found = [Path(folder) for folder in sorted(glob(folders))]
    samples = sampled([folder / SAMPLE_FILE for folder in found], by)
    pilots = sampled([folder / "pilot" / SAMPLE_FILE for folder in found], by)
    splits, exchanged = dict(splits), 0
    for source, target, moving in (
        ("train", "test", samples),
        ("validation", "test", samples),
        ("test", "train", pilots - samples),
    ):
        leave = among(splits[source], moving, by)
        free = ~among(splits[target], samples | pilots, by)
        splits[source], splits[target] = exchange(splits[source], splits[target], leave, free, seed)
        exchanged += int(leave.sum())
        if leave.any():
            print(f"moved {leave.sum():,} rows that people coded from {source} to {target}")
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
