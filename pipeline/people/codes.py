"""What people coded in their sheets, and which label that gives a row."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.people.record import ADJUDICATION_FILE, SAMPLE_FILE
from pipeline.sheets.coding import read_filled_in, update_sheet


def read_codes(
    folder: Path, coders: list[str], sample: pd.DataFrame, codebook: Codebook
) -> pd.DataFrame:
    """Return the coders' labels, a row per sampled row (index custom_id) and a column per coder.

    Labels are 0..k-1, -1 for a blank or a row that a coder removed. Raises UserError for a sheet
    that nobody coded.
    """
    columns = {}
    for coder in coders:
        path, cure = folder / f"{coder}.xlsx", f"put back the sheet of coder {coder}"
        labels, _ = read_labels(path, "class", sample, codebook, cure)
        if labels.max() < 0:
            others = [file.name for file in sorted(folder.glob(f"{coder}*")) if file != path]
            beside = f" (there is also {', '.join(others)})" * bool(others)
            raise UserError(f"{path}: no row is coded: put the coded sheet in its place{beside}")
        columns[coder] = labels
    return pd.DataFrame(columns, index=sample["custom_id"])


def read_labels(
    path: Path, column: str, sample: pd.DataFrame, codebook: Codebook, cure: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return a sheet's labels of the sampled rows (-1 = none), and which of these it has.

    Raises UserError for a row that is none of the sample's; see `read_filled_in` for others.
    """
    filled = read_filled_in(path, codebook, column, sample, cure)
    strange = filled.index[filled["place"] < 0]
    if len(strange):
        raise UserError(
            f"{path}, row {strange[0]}: the comment is none of {SAMPLE_FILE} beside it: put back "
            "the sheet of this sample"
        )
    labels, there = np.full(len(sample), -1), np.zeros(len(sample), bool)
    labels[filled["place"]], there[filled["place"]] = filled["label"], True
    return labels, there


def adjudicate(
    folder: Path, codes: pd.DataFrame, sample: pd.DataFrame, codebook: Codebook
) -> pd.DataFrame:
    """Return the rows' final labels, having listed what coders disagree on in adjudication.xlsx.

    What people wrote into that sheet stays, and its rows too. See `final_labels` for the result.
    """
    path = folder / ADJUDICATION_FILE
    adjudicated, there = np.full(len(sample), -1), np.zeros(len(sample), bool)
    if path.is_file():
        cure = "remove it, and run human_check.py again"
        adjudicated, there = read_labels(path, "adjudicated", sample, codebook, cure)
    final = final_labels(codes, adjudicated, len(codebook.names))
    in_sheet = final["disputed"].to_numpy() | there
    if in_sheet.any():
        names = [*codebook.names, ""]  # [-1] is a blank
        table = sample[["custom_id", "message"]]
        for coder in codes:
            table = table.assign(**{coder: [names[label] for label in codes[coder]]})
        update_sheet(table.assign(adjudicated="")[in_sheet], codebook, "adjudicated", path)
    return final


def final_labels(codes: pd.DataFrame, adjudicated: np.ndarray, num_labels: int) -> pd.DataFrame:
    """Return each row's label (index custom_id), and how it came about.

    `adjudicated` (rows,) is what people decided, -1 where nobody did. In the result, `label` is the
    adjudicated one, else the one that most coders gave, -1 where they are tied or nobody coded.
    `disputed` is whether coders gave the row different labels.
    """
    counts = np.stack([(codes == k).sum(axis=1) for k in range(num_labels)], axis=1)
    most = counts.max(1, keepdims=True)
    majority = (most[:, 0] > 0) & ((counts == most).sum(1) == 1)
    label = np.where(majority, counts.argmax(1), -1)
    return pd.DataFrame(
        {
            "label": np.where(adjudicated >= 0, adjudicated, label),
            "adjudicated": adjudicated,
            "disputed": (counts > 0).sum(1) > 1,
        },
        index=codes.index,
    )


def print_open_disputes(folder: Path, final: pd.DataFrame) -> None:
    """Say how many disputed rows nobody decided, and where that is done."""
    waiting = final["disputed"] & (final["adjudicated"] < 0)
    if waiting.any():
        tied = int((final["label"] < 0)[waiting].sum())
        print(
            f"next: fill in `adjudicated` in {folder / ADJUDICATION_FILE} ({waiting.sum():,} rows "
            f"on which coders disagree, {tied:,} of them without a majority), then run this again"
        )
