"""Labels that people corrected: read from sheets, kept, and put in the place of silver ones."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.rows import HUMAN, find_rows
from pipeline.common.tables import read_csv, write_csv
from pipeline.labelling.labels import Labels
from pipeline.sheets.coding import read_filled_in

COLUMNS = ["custom_id", "message", "class", "codebook_sha256"]


def read_corrections(
    sheet: str, kept: str, rows: pd.DataFrame, codebook: Codebook
) -> dict[str, int]:
    """Return custom_id -> class of all corrections: those of `kept`, and of `sheet` if it is given.

    `rows` (custom_id, and what `message_keys` takes) are the rows as they are now: a row that moved
    keeps its correction, and that of a row that is gone waits where it stands. `kept` is what
    `write_corrections` wrote in earlier runs; those for another codebook wait there too. Raises
    UserError where a cell is no class, and where the sheet belongs to other data or another
    codebook.
    """
    corrections: dict[str, int] = {}
    if Path(kept).is_file():
        table = read_kept(kept, rows, codebook)
        for row, text in table["class"][table["same"]].items():
            label = parse_label(text, codebook)
            if label is None or label < 0:
                raise UserError(
                    f"{kept}, row {row}: {text!r} is no class ({codebook.choices}): correct the "
                    "cell"
                )
            table.loc[row, "label"] = label
        corrections |= take(table[table["same"]], rows, kept)
        if others := int((~table["same"]).sum()):
            print(f"  {others:,} corrections in {kept} are for another codebook, and wait there")
    if sheet:
        filled = read_filled_in(sheet, codebook, "corrected", rows, "run label_audit.py first")
        corrections |= take(filled[filled["label"] >= 0], rows, sheet)
    return corrections


def read_kept(path: str, rows: pd.DataFrame, codebook: Codebook) -> pd.DataFrame:
    """Return the lines of a file of corrections, with where their rows are now.

    `place` is that among `rows`, -1 where the row is gone; `same` is whether a line is for this
    codebook, and `label` is to be filled in.
    """
    table = read_csv(path, COLUMNS, "jsonl_to_csv.py")[COLUMNS]
    twice = table.duplicated(["custom_id", "message", "codebook_sha256"])
    if twice.any():
        row = twice.idxmax()
        raise UserError(
            f"{path}, row {row}: custom_id {table['custom_id'][row]!r} stands there twice with the "
            "same comment: remove the line that is wrong"
        )
    same = table["codebook_sha256"] == codebook.sha256
    table = table.assign(same=same, label=-1, place=-1)
    table.loc[same, "place"] = find_rows(table[same], rows)
    return table


def take(table: pd.DataFrame, rows: pd.DataFrame, path: str) -> dict[str, int]:
    """Return custom_id -> class of corrections whose rows are there; say how many are not."""
    there = table[table["place"] >= 0]
    if gone := len(table) - len(there):
        print(
            f"  {gone:,} corrections in {path} are of comments that are not among the rows now: "
            "they wait there, and are given to no other comment"
        )
    ids = rows["custom_id"].iloc[there["place"]]
    return dict(zip(ids, there["label"].tolist(), strict=True))


def apply_corrections(
    labels: Labels, custom_ids: pd.Series, corrections: Mapping[str, int]
) -> Labels:
    """Return the labels with the corrected classes in their place; `custom_ids` are the rows'.

    Rows that people coded in the spreadsheet keep their class.
    """
    if not corrections:
        return labels
    rows = np.flatnonzero(custom_ids.isin(list(corrections)) & ~labels.have_form(HUMAN))
    label = labels.label.copy()
    label[rows] = custom_ids.iloc[rows].map(corrections)
    return replace(labels, label=label)


def write_corrections(
    corrections: Mapping[str, int],
    corrected: pd.DataFrame,
    rows: pd.DataFrame,
    path: str,
    codebook: Codebook,
) -> None:
    """Write all corrections, so that the next run has them again; those that wait stay there.

    `corrected` are the rows (custom_id, message) that have one, `rows` all of them as in
    `read_corrections`.
    """
    lines = corrected[["custom_id", "message"]].assign(
        **{
            "class": corrected["custom_id"].map(corrections),
            "codebook_sha256": codebook.sha256,
        }
    )
    if Path(path).is_file():
        kept = read_kept(path, rows, codebook)
        lines = pd.concat([kept[kept["place"] < 0][COLUMNS], lines])
    write_csv(lines, path)
