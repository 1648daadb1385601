"""Step 3b: split the labelled rows into train, validation and test, 70/10/20, stratified by class.

Run again with the same codebook, seed and sizes, it leaves every row in its split, whatever its
label is by now, and draws only rows that are new: a test row stays one.

Reads   INPUT_FILE (from jsonl_to_csv.py, or any CSV with custom_id, message, class)
        OUTPUT_DIR/train.csv, validation.csv, test.csv, splits.json, where there are
        HUMAN_SAMPLES/sample.csv and pilot*/sample.csv, where there are (from human_sample.py)
Writes  OUTPUT_DIR/train.csv, validation.csv, test.csv, splits.json
Run     python split_dataset.py
"""

import math
from glob import glob
from pathlib import Path

import pandas as pd

from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import JsonObject, check_outputs, write_json, written_together
from pipeline.common.splits import (
    RECORD,
    SPLITS,
    add_new_rows,
    draw_splits,
    kept_splits,
    store_labelled,
    write_splits,
)
from pipeline.common.stored_rows import MESSAGE_HASH
from pipeline.people.held_out import keep_samples

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
INPUT_FILE = "./pre_process/purged_labeled_v2.csv"  # custom_id, message, class
PROMPT_FILE = "./prompt.txt"  # the codebook
HUMAN_SAMPLES = "./pre_process/human_check*"  # folders whose sample stays in test, whose pilots out
OUTPUT_DIR = "./pre_process/evaluation"  # train.csv, validation.csv and test.csv go there
TEST_SIZE = 0.2  # share of all rows
VALIDATION_SIZE = 0.1  # share of all rows
GROUP_DUPLICATES = False  # keep rows with the same message in one split
SEED = 42  # the same seed gives the same split
# ---------------------------------------------------------------------------------------------

DRAWN_WITH = ("seed", "test_size", "validation_size", "group_duplicates")


@written_together()
def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    codebook = read_codebook(args.prompt_file)
    folder, find = Path(args.output_dir), bool(glob(args.human_samples))
    stored = store_labelled(args.input_file, codebook, find or (folder / RECORD).is_file())
    pool, examples = set_examples_apart(stored.frame, codebook)
    pool = pool.drop_duplicates(MESSAGE_HASH) if args.group_duplicates else pool
    smallest = smallest_share(args.test_size, args.validation_size)
    refuse_small_classes(args.input_file, pool, codebook, smallest)
    outputs = [*(folder / f"{name}.csv" for name in SPLITS), folder / RECORD]
    check_outputs(outputs, inputs=[args.input_file])

    drawn_with = {name: getattr(args, name) for name in DRAWN_WITH}
    drawn_with["codebook_sha256"] = codebook.sha256
    splits, before = splits_of(pool, folder, drawn_with)
    splits, exchanged = keep_samples(splits, args.human_samples, args.group_duplicates, args.seed)
    splits["train"] = pd.concat([splits["train"], examples])
    if args.group_duplicates:
        splits = with_duplicates(splits, stored.frame)
    write_splits(splits, stored, folder)
    settings = drawn_with | {"input_file": args.input_file, "exchanged": before + exchanged}
    record = describe_splits(splits, len(stored.frame)) | settings
    write_json(record, folder / RECORD)
    print_shares(splits, record["shared_messages"], codebook)


def set_examples_apart(rows: pd.DataFrame, codebook: Codebook) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that are no examples in the codebook, and those that are; say how many."""
    told = rows.pop("told")
    if told.any():
        print(f"{told.sum():,} rows are examples in {codebook.path}: they go into train alone")
    return rows[~told], rows[told]


def smallest_share(test_size: float, validation_size: float) -> float:
    """Return the smallest split's share of the rows; refuse sizes that leave a split empty."""
    smallest = min(test_size, validation_size, 1 - test_size - validation_size)
    if not smallest > 0:
        raise UserError("--test-size and --validation-size: above 0, and below 1 together")
    return smallest


def refuse_small_classes(
    path: str, pool: pd.DataFrame, codebook: Codebook, smallest: float
) -> None:
    """Stop where a class has too few rows to stand in each split."""
    needed = math.ceil(round(1 / smallest, 6))
    counts = pool["class"].value_counts()
    for k, name in enumerate(codebook.names):
        if counts.get(k, 0) < needed:
            raise UserError(
                f"{path}: class {k} ({name}) has {counts.get(k, 0)} rows, and {needed} are needed "
                "to stand in each split: label more, or merge the class with another in "
                f"{codebook.path}"
            )


def splits_of(
    pool: pd.DataFrame, folder: Path, drawn_with: JsonObject
) -> tuple[dict[str, pd.DataFrame], int]:
    """Return the splits, kept or drawn, and how many rows earlier runs exchanged in them."""
    draw = {name: drawn_with[name] for name in ("test_size", "validation_size", "seed")}
    if kept := kept_splits(pool, folder, drawn_with):
        splits, exchanged = kept
        return add_new_rows(splits, pool, **draw), exchanged
    return draw_splits(pool, **draw), 0


def with_duplicates(splits: dict[str, pd.DataFrame], rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each split with all rows that have one of its messages."""
    return {
        name: rows[rows[MESSAGE_HASH].isin(part[MESSAGE_HASH])] for name, part in splits.items()
    }


def describe_splits(splits: dict[str, pd.DataFrame], total: int) -> JsonObject:
    """Return the splits' sizes, the rows in all, and how many messages are in several splits."""
    messages = pd.concat([part[MESSAGE_HASH].drop_duplicates() for part in splits.values()])
    return {name: len(part) for name, part in splits.items()} | {
        "rows": total,
        "shared_messages": messages[messages.duplicated()].nunique(),
    }


def print_shares(splits: dict[str, pd.DataFrame], shared: int, codebook: Codebook) -> None:
    """Print the classes of each split, and the messages that stand in more than one."""
    for k, name in enumerate(codebook.names):
        counts = [
            f"{split_name} {(part['class'] == k).sum():,} ({(part['class'] == k).mean():.1%})"
            for split_name, part in splits.items()
        ]
        print(f"  [{k}] {name}: {', '.join(counts)}")
    print(
        f"  {shared:,} messages stand in more than one split (--group-duplicates keeps each in one)"
    )


if __name__ == "__main__":
    run(main)
