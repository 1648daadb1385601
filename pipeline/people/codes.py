"""What people coded in their sheets, and which label that gives a row."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.sheets.coding import read_filled_in, update_sheet

SAMPLE, RECORD, ADJUDICATION = "sample.csv", "sample.json", "adjudication.xlsx"


def read_codes(
    folder: Path, coders: list[str], sample: pd.DataFrame, codebook: Codebook
) -> pd.DataFrame:
    """Return the coders' labels, a row per sampled row (index custom_id) and a column per coder.

    Labels are 0..k-1, -1 for a blank or a row that a coder removed. Raises UserError for a sheet
    that nobody coded.
    """
    messages = dict(zip(sample["custom_id"], sample["message"], strict=True))
    columns = {}
    for coder in coders:
        path, cure = folder / f"{coder}.xlsx", f"put back the sheet of coder {coder}"
        labels = read_filled_in(path, codebook, "class", messages, cure)
        if max(labels.values(), default=-1) < 0:
            others = [file.name for file in sorted(folder.glob(f"{coder}*")) if file != path]
            beside = f" (there is also {', '.join(others)})" * bool(others)
            raise UserError(f"{path}: no row is coded: put the coded sheet in its place{beside}")
        columns[coder] = [labels.get(custom_id, -1) for custom_id in messages]
    return pd.DataFrame(columns, index=sample["custom_id"])


def settle(
    codes: pd.DataFrame, sample: pd.DataFrame, codebook: Codebook, path: Path
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the rows' final labels and the disagreements, having listed these for adjudication.

    A final label is the adjudicated one, else the one that most coders gave: `label`, -1 where they
    are tied or nobody coded; `adjudicated` is -1 where nobody decided. The second result is a bool
    per row. `path` is the .xlsx of adjudication, where what people wrote stays.
    """
    counts = np.stack([(codes == k).sum(axis=1) for k in range(len(codebook.names))], axis=1)
    most = counts.max(1, keepdims=True)
    decided = (most[:, 0] > 0) & ((counts == most).sum(1) == 1)
    disputed = pd.Series((counts > 0).sum(1) > 1, index=codes.index)
    messages = dict(zip(sample["custom_id"], sample["message"], strict=True))
    written = {}
    if path.is_file():
        written = read_filled_in(path, codebook, "adjudicated", messages, "")
    adjudicated = np.array([written.get(custom_id, -1) for custom_id in codes.index])
    listed = (disputed | codes.index.isin(list(written))).to_numpy()
    if listed.any():
        names = [*codebook.names, ""]  # [-1] is a blank
        table = sample[["custom_id", "message"]]
        for coder in codes:
            table = table.assign(**{coder: [names[label] for label in codes[coder]]})
        update_sheet(table.assign(adjudicated="")[listed], codebook, "adjudicated", path)
    label = np.where(decided, counts.argmax(1), -1)
    final = pd.DataFrame(
        {"label": np.where(adjudicated >= 0, adjudicated, label), "adjudicated": adjudicated},
        index=codes.index,
    )
    return final, disputed
