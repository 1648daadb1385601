"""The splits of the labelled rows: drawn at random, and kept where labels change or rows come."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject, clean_text, read_json
from pipeline.common.hashes import text_hashes
from pipeline.common.rows import (
    COLUMNS,
    MESSAGE_KEY,
    are_examples,
    find_rows,
    message_keys,
    refuse_other_codebook,
)
from pipeline.common.stored_rows import MESSAGE_HASH, StoredRows, store_rows
from pipeline.common.tables import csv_writer, read_csv_parts

SPLITS = ("train", "validation", "test")
RECORD = "splits.json"


def store_labelled(path: str, codebook: Codebook, find: bool) -> StoredRows:
    """Read the labelled rows, but for their messages, for which the frame has two columns more.

    `told` says which rows stand in the codebook as an example; `message_key` is there where earlier
    splits or samples are to be found among the rows (`find`).
    """
    refuse_other_codebook(path, codebook)
    columns = {"told": lambda part: are_examples(part, codebook)}
    if find:
        columns[MESSAGE_KEY] = message_keys
    return store_rows(path, "jsonl_to_csv.py", codebook, labelled=True, **columns)


def draw_splits(
    rows: pd.DataFrame, test_size: float, validation_size: float, seed: int
) -> dict[str, pd.DataFrame]:
    """Return the report's splits: the test rows first, then the validation rows from the rest."""
    rest, test = train_test_split(
        rows, test_size=test_size, stratify=rows["class"], random_state=seed
    )
    train, validation = train_test_split(
        rest,
        test_size=validation_size / (1 - test_size),
        stratify=rest["class"],
        random_state=seed,
    )
    return dict(zip(SPLITS, (train, validation, test), strict=True))


def read_splits(folder: str | Path) -> pd.DataFrame | None:
    """Return the rows of the splits in a folder; None where one lacks.

    They have `custom_id`, `split` (its name), and `message_hash` and `message_key` for a message.
    """
    files = {name: Path(folder) / f"{name}.csv" for name in SPLITS}
    if not all(file.is_file() for file in files.values()):
        return None
    parts = [
        pd.DataFrame(
            {
                "custom_id": part["custom_id"].astype("str"),
                MESSAGE_HASH: text_hashes(map(clean_text, part["message"])),
                MESSAGE_KEY: message_keys(part),
                "split": pd.Categorical([name] * len(part), SPLITS),
            }
        )
        for name, file in files.items()
        for part in read_csv_parts(file, ["custom_id", "message"], "split_dataset.py")
    ]
    return pd.concat(parts, ignore_index=True)


def kept_splits(
    rows: pd.DataFrame, folder: str | Path, drawn_with: JsonObject
) -> tuple[dict[str, pd.DataFrame], int] | None:
    """Return the splits that rows are in already, and how many rows were exchanged in them.

    None where there are no splits, or they were drawn with other settings or another codebook than
    `drawn_with`. Rows that moved since are known by their message, see `find_rows`. The order is
    that of the files, and the labels are those of `rows`, which has `message_key`.
    """
    before, record_file = read_splits(folder), Path(folder) / RECORD
    if before is None or not record_file.is_file():
        return None
    record = read_json(record_file, "remove it, and run split_dataset.py again")
    if other := [name for name, value in drawn_with.items() if record.get(name) != value]:
        named = ["codebook" if name == "codebook_sha256" else name for name in other]
        print(
            f"drawing new splits: those in {folder} were drawn with another {' and '.join(named)}"
        )
        return None
    if drawn_with["group_duplicates"]:
        before = before.drop_duplicates(MESSAGE_HASH)
    places = find_rows(before, rows)
    there = places >= 0
    splits = {
        name: rows.iloc[places[there & (before["split"] == name).to_numpy()]] for name in SPLITS
    }
    print(
        f"kept the splits in {folder}: {there.sum():,} rows stay where they were, "
        f"{len(rows) - there.sum():,} are new and are drawn, {(~there).sum():,} are gone (another "
        "--seed draws all anew)"
    )
    return splits, int(record.get("exchanged", 0))


def add_new_rows(
    splits: dict[str, pd.DataFrame],
    rows: pd.DataFrame,
    test_size: float,
    validation_size: float,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Return the splits with those of `rows` that are in none, drawn at random.

    Of each class, test and validation get as many as they lack of their share of all its rows, as
    far as there are new ones, and train gets the others.
    """
    kept = pd.concat(splits.values())
    new = rows.drop(kept.index).sample(frac=1, random_state=seed)
    parts = {name: [splits[name]] for name in SPLITS}
    for k, group in new.groupby("class"):
        total = len(group) + int((kept["class"] == k).sum())
        for name, share in (("test", test_size), ("validation", validation_size)):
            lacking = round(share * total) - int((splits[name]["class"] == k).sum())
            drawn = group.head(int(np.clip(lacking, 0, len(group))))
            parts[name].append(drawn)
            group = group.drop(drawn.index)
        parts["train"].append(group)
    return {name: pd.concat(frames) for name, frames in parts.items()}


def write_splits(splits: dict[str, pd.DataFrame], stored: StoredRows, folder: Path) -> None:
    """Write each split as a CSV file, its messages from the file of all rows."""
    for name, rows in splits.items():
        columns = [name for name in COLUMNS if name in (*rows, "message")]
        with csv_writer(folder / f"{name}.csv", columns) as writer:
            for part in stored.parts(rows):
                cells = (map(str, part[name].tolist()) for name in columns)
                writer.write_rows(list(zip(*cells, strict=True)))
