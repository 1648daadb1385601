"""Rows that people coded, and where they may stand."""

from glob import glob
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.files import read_csv


def in_samples(
    rows: pd.DataFrame, files: list[Path], by: tuple[str, ...] = ("custom_id", "message")
) -> np.ndarray:
    """Return which rows stand in any of some sample.csv files, a bool (rows,).

    A row is known by id and message: rows of another data set have the same ids.
    """
    known: set[tuple[str, ...]] = set()
    for file in files:
        if file.is_file():
            sample = read_csv(file, ["custom_id", "message"], "human_check.py --draw")
            known |= set(sample[list(by)].itertuples(index=False, name=None))
    pairs = rows[list(by)].itertuples(index=False, name=None)
    return np.array([pair in known for pair in pairs], dtype=bool)


def keep_samples(
    splits: dict[str, pd.DataFrame], folders: str, by_message: bool, seed: int
) -> tuple[dict[str, pd.DataFrame], int]:
    """Return the splits with coded rows in test and pilots' outside it, and how many had to move.

    What people coded before a new split must not become what models learn from, nor test rows what
    the codebook was refined on. A row moves in exchange for one of its class. `folders` is the
    pattern of human_check.py's; `by_message` knows rows by their message alone.
    """
    by = ("message",) if by_message else ("custom_id", "message")
    samples = [Path(folder) / "sample.csv" for folder in sorted(glob(folders))]
    pilots = [Path(folder) / "pilot/sample.csv" for folder in sorted(glob(folders))]
    splits, exchanged = dict(splits), 0
    for source, target, files, other in (
        ("train", "test", samples, []),
        ("validation", "test", samples, []),
        ("test", "train", pilots, samples),
    ):
        stays = in_samples(splits[source], other, by)
        moved = splits[source][in_samples(splits[source], files, by) & ~stays]
        free = splits[target][~in_samples(splits[target], [*samples, *pilots], by)]
        given = pd.concat(
            [free.head(0)]
            + [
                of_class.sample(min(len(of_class), (moved["class"] == k).sum()), random_state=seed)
                for k, of_class in free.groupby("class")
            ]
        )
        splits[source] = pd.concat([splits[source].drop(moved.index), given])
        splits[target] = pd.concat([splits[target].drop(given.index), moved])
        exchanged += len(moved)
        if len(moved):
            print(f"moved {len(moved):,} rows that people coded from {source} to {target}")
        if splits[source].empty:
            raise UserError(
                f"no row is left for {source}: people coded all of them; give --human-samples '' "
                "to split them too"
            )
    return splits, exchanged
