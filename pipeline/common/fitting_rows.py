"""Whether the rows that models learn from and are scored on fit each other, and the codebook."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json

RECORDS = {  # a file of rows -> the record beside it that names their codebook
    "train.csv": "splits.json",
    "validation.csv": "splits.json",
    "test.csv": "splits.json",
    "human_test.csv": "human_test.json",
}
LABELS_RECORD = "silver_labels.json"  # of jsonl_to_csv.py, beside the labels
SAMPLED = 2_000  # training rows by which a model's record knows all of them
DIGITS = 10  # hexadecimal, of what stands for a row
FEW = 0.01  # a share of test rows that a model may have learned: two data sets have equal rows


def check_codebook_of(path: str | Path, codebook: Codebook) -> None:
    """Stop where the record beside a file of rows says that their classes are another codebook's.

    Class 1 of the one may be another class of the other.
    """
    name = Path(path).name
    record_file = Path(path).with_name(RECORDS.get(name, name))
    if name not in RECORDS or not record_file.is_file():
        return
    made_by = "human_check.py" if name == "human_test.csv" else "split_dataset.py"
    record = read_json(record_file, f"run {made_by} again")
    if record.get("codebook_sha256", codebook.sha256) != codebook.sha256:
        raise UserError(
            f"{path} holds classes by another codebook than {codebook.path}, as {record_file} "
            f"says: run {made_by} with this codebook, or give --prompt-file the one of these rows"
        )


def are_by_codebook(path: str | Path, codebook: Codebook) -> bool:
    """Return whether labels are by this codebook, as far as the record beside them says."""
    record_file = Path(path).with_name(LABELS_RECORD)
    record = read_json(record_file, "run jsonl_to_csv.py again") if record_file.is_file() else {}
    return record.get("codebook_sha256", codebook.sha256) == codebook.sha256


def say_missing_classes(path: str | Path, rows: pd.DataFrame, codebook: Codebook) -> None:
    """Say which classes no row of a file has, where any has one."""
    there = set(rows["class"])
    if not max(there, default=-1) < 0:
        for k, name in enumerate(codebook.names):
            if k not in there:
                print(
                    f"  no row of {path} has class {k} ({name}): a model cannot learn it from "
                    "these rows, nor be scored on it by them; label more, or run split_dataset.py"
                )


def refuse_one_class(path: str | Path, rows: pd.DataFrame, codebook: Codebook) -> None:
    """Stop where all training rows have one class: a model would learn to say nothing else."""
    [first, *others] = sorted(set(rows["class"]))
    if not others:
        raise UserError(
            f"{path}: all {len(rows):,} rows to train on have class {first} "
            f"({codebook.names[first]}), and a model learns nothing from one class: label more, "
            "run split_dataset.py again, or give a larger --max-train-samples"
        )


def sample_of(rows: pd.DataFrame) -> str:
    """Return what stands for rows in a model's record: the smallest hashes of id and message.

    They are a random sample of `SAMPLED` rows, or all, by which other rows can be compared with
    these in a few kilobytes (the smallest k hashes of a set, as Broder 1997 uses them).
    """
    return "".join(sorted(set(_hashes(rows)))[:SAMPLED])


def _hashes(rows: pd.DataFrame) -> list[str]:
    pairs = zip(rows["custom_id"], rows["message"], strict=True)
    return [hashlib.sha256("\n".join(pair).encode()).hexdigest()[:DIGITS] for pair in pairs]


@dataclass
class LearnedRows:
    """Counts the rows that a model learned from, by `sample_of` these, as other rows are read.

    `num_rows` is how many it learned from; `sample` is "" where that is not on record.
    """

    sample: str
    num_rows: int
    found: int = 0

    def add(self, rows: pd.DataFrame) -> None:
        """Look at some rows (custom_id, message)."""
        self.found += len(set(_hashes(rows)) & self._known)

    @cached_property
    def _known(self) -> set[str]:
        return {self.sample[i : i + DIGITS] for i in range(0, len(self.sample), DIGITS)}

    def __str__(self) -> str:
        """Return how many rows taught the model, "" where that is not known."""
        if not self.sample:
            return ""
        if not self.found:
            return (
                "none of the rows taught the model, which is right for new comments; for those "
                "that it learned from, give the columns and --mask-personal-data of excel_2_csv.py"
            )
        if len(self._known) < SAMPLED:
            return f"{self.found:,} of the rows taught the model"
        return f"about {round(self.num_rows * self.found / SAMPLED):,} of the rows taught the model"


def refuse_learned_rows(test_file: str | Path, rows: pd.DataFrame, sample: str, model: str) -> None:
    """Stop where a model was trained on rows that it is to be scored on.

    `sample` is `sample_of` the training rows, "" where that is not known. A row is the same where
    it has the same id and message: equal comments under other ids stand in both splits, and
    split_dataset.py counts them. A few equal rows are told.
    """
    rows = rows[rows["class"] >= 0]
    learned = {sample[i : i + DIGITS] for i in range(0, len(sample), DIGITS)}
    last = "g" if len(learned) < SAMPLED else max(learned)
    hashes = np.array(_hashes(rows), dtype=object)
    compared = hashes <= last
    found = compared & np.isin(hashes, list(learned))
    share = found.sum() / max(compared.sum(), 1)
    if not found.any():
        return
    named = f"such as {rows['custom_id'].to_numpy()[found.argmax()]}"
    if share > FEW:
        raise UserError(
            f"{test_file}: {'about ' * (len(learned) == SAMPLED)}{share:.0%} of its rows are rows "
            f"that {model} learned from ({named}), on which no model shows what it can do: give "
            "--test-file the test.csv of the split that it was trained on, or train again on the "
            "train.csv beside this one"
        )
    print(f"  {share:.2%} of {test_file} are rows that {model} learned from ({named}): remove them")


def say_validation_file(test_file: str | Path, record: dict) -> None:
    """Say so where a model is scored on the rows by which its best epoch was chosen."""
    data = hashlib.sha256(Path(test_file).read_bytes()).hexdigest()
    if record.get("data_sha256", {}).get("validation_file") == data:
        print(
            f"  {test_file} is the validation file of the training, by which its best weights were "
            "chosen: its scores flatter the model; give --test-file the test.csv"
        )
