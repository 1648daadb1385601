"""Labels that are probably wrong, and near-duplicates with different labels, listed for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs, read_json, write_json, written_together
from pipeline.common.processes import is_main_process
from pipeline.common.rows import coded_by_people, find_rows
from pipeline.common.splits import RECORD as SPLITS_RECORD
from pipeline.common.splits import read_splits
from pipeline.sheets.coding import is_filled_in, write_sheet

SHEET_FILE, RECORD_FILE = "audit.xlsx", "audit.json"
TOP = 20  # rows that the page shows


@dataclass(frozen=True)
class Suspects:
    """What an audit found among rows of which each has a label and a group of near-duplicates.

    `probabilities` (rows, classes) are the classes' by the comments' text; `improbable` are the
    places of rows whose silver label these contradict, the most improbable first; `groups` (rows,)
    are the groups' numbers, `disputed` (rows,) whether a row has a silver label and its group has
    several labels.
    """

    rows: pd.DataFrame
    probabilities: np.ndarray
    improbable: np.ndarray
    groups: np.ndarray
    disputed: np.ndarray


def rows_to_audit(rows: pd.DataFrame, splits_dir: str, codebook: Codebook) -> pd.DataFrame:
    """Return those of the labelled rows that are split and no test rows; say what is left out.

    An audit of test rows would correct only those labels of theirs that a model disputes, and so
    favour that model in the comparison. With an empty `splits_dir` all rows are returned. Raises
    UserError where there are no splits, other rows are in them, or they were drawn with another
    codebook, so that the next ones are drawn anew; and where people coded all rows.
    """
    if coded_by_people(rows).all():
        raise UserError("people coded all labelled rows: there is no silver label to look at")
    if not splits_dir:
        print("auditing all rows: do not compare models on test rows that were corrected by it")
        return rows
    splits = read_splits(splits_dir)
    places = find_rows(splits, rows) if splits is not None else np.array([], int)
    if not (places >= 0).any():
        raise UserError(
            f"{splits_dir} has no splits of these rows: run split_dataset.py first, or give "
            "--splits-dir '' to audit all rows, also those that models will be tested on"
        )
    record_file = Path(splits_dir) / SPLITS_RECORD
    if record_file.is_file():
        record = read_json(record_file, "run split_dataset.py again")
        if record.get("codebook_sha256", codebook.sha256) != codebook.sha256:
            raise UserError(
                f"{splits_dir} was split with another codebook than {codebook.path}: run "
                "split_dataset.py first, which draws new test rows"
            )
    test = (splits["split"] == "test").to_numpy()
    unsplit = len(rows) - (places >= 0).sum()
    print(f"  left out {(test & (places >= 0)).sum():,} test rows: human_check.py is for those")
    if unsplit:
        print(
            f"  left out {unsplit:,} rows that are in no split, since they may become test rows: "
            "run split_dataset.py first to have them audited"
        )
    return rows.iloc[np.sort(places[~test & (places >= 0)])].reset_index(drop=True)


def find_suspects(rows: pd.DataFrame, probabilities: np.ndarray, groups: np.ndarray) -> Suspects:
    """Return the labels that class probabilities contradict, and duplicates that disagree.

    The probabilities of a row must come from a model that saw neither it nor a near-duplicate of
    it: confident learning (Northcutt et al. 2021), as cleanlab has it. Rows that people coded teach
    these models and count among the duplicates, but their own labels are no suspects.
    """
    silver = ~coded_by_people(rows)
    labels = rows["class"].to_numpy()
    improbable = find_label_issues(
        labels, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    disputed = pd.Series(labels).groupby(groups).transform("nunique").to_numpy() > 1
    improbable = improbable[silver[improbable]]
    return Suspects(rows, probabilities, improbable, groups, disputed & silver)


def refuse_few_messages(
    path: str, rows: pd.DataFrame, groups: np.ndarray, folds: int, codebook: Codebook
) -> None:
    """Stop where a class has fewer different messages than folds: some model would not know it."""
    different = pd.Series(groups).groupby(rows["class"].to_numpy()).nunique()
    if len(different) < 2:
        raise UserError(
            f"{path}: all rows have class {codebook.names[different.index[0]]}, and an audit needs "
            "two classes: label more"
        )
    if different.min() < folds:
        raise UserError(
            f"{path}: class {codebook.names[different.idxmin()]} has {different.min()} rows that "
            f"are no near-duplicates, and {folds} folds need one of each class a fold: give fewer "
            "--folds, or label more"
        )


def check_folder(path: str) -> Path:
    """Return an audit's folder.

    Stops where it cannot be written, or where it holds what people filled in.
    """
    folder = Path(path)
    sheet = folder / SHEET_FILE
    if sheet.is_file() and is_filled_in(sheet, "corrected"):
        raise UserError(
            f"{sheet} holds people's corrections: read them back by jsonl_to_csv.py --corrections, "
            "and give another --audit-dir"
        )
    check_outputs([sheet, folder / RECORD_FILE])
    return folder


def audit_table(found: Suspects, codebook: Codebook) -> pd.DataFrame:
    """Return the rows to look at: the least probable labels first, near-duplicates together."""
    rows, probabilities = found.rows, found.probabilities
    labels, best = rows["class"].to_numpy(), probabilities.argmax(1)
    names, every = np.array(codebook.names), np.arange(len(rows))
    table = pd.DataFrame(
        {
            "custom_id": rows["custom_id"],
            "message": rows["message"],
            "label": names[labels],
            "p_label": probabilities[every, labels].round(4),
            "suggested": names[best],
            "p_suggested": probabilities[every, best].round(4),
            "near_duplicates": np.where(found.disputed, found.groups.astype(str), ""),
            "corrected": "",
        }
    )
    rank = np.full(len(rows), len(rows))
    rank[found.improbable] = np.arange(len(found.improbable))
    block = np.where(found.disputed, found.groups, len(rows) + every)  # rows that stand together
    order = pd.DataFrame({"block": block, "rank": rank})
    order["first"] = order.groupby("block")["rank"].transform("min")
    shown = order[(rank < len(rows)) | found.disputed].sort_values(["first", "block", "rank"])
    return table.loc[shown.index]


def audit_record(
    found: Suspects, codebook: Codebook, method: str, labelled: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the figures of an audit and the most improbable labels, as audit.json has them.

    `rows` counts those whose silver labels were looked at, of the `labelled` ones.
    """
    rows, probabilities = found.rows, found.probabilities
    labels, best = rows["class"].to_numpy(), probabilities.argmax(1)
    return {
        "rows": int((~coded_by_people(rows)).sum()),
        "labelled": labelled,
        "method": method,
        "model_path": settings["model_path"],
        "folds": settings["folds"],
        "issues": len(found.improbable),
        "near_duplicates": len(np.unique(found.groups[found.disputed])),
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "settings": settings,
        "top": [
            {
                "custom_id": rows["custom_id"][i],
                "message": rows["message"][i],
                "class": int(labels[i]),
                "suggested": int(best[i]),
                "p_class": float(probabilities[i, labels[i]]),
                "p_suggested": float(probabilities[i, best[i]]),
            }
            for i in found.improbable[:TOP]
        ],
    }


@written_together()
def write_audit(found: Suspects, record: dict[str, Any], codebook: Codebook, folder: Path) -> None:
    """Write audit.xlsx and audit.json, in the main process, and say what people do with them."""
    if not is_main_process():
        return
    sheet = folder / SHEET_FILE
    write_sheet(audit_table(found, codebook), codebook, "corrected", sheet)
    write_json(record, folder / RECORD_FILE)
    print(
        f"{record['issues']:,} of {record['rows']:,} labels are improbable; "
        f"{record['near_duplicates']:,} groups of near-duplicates have different labels\n"
        f"next: look at {sheet}, fill in `corrected` where a label is wrong, then run "
        f"jsonl_to_csv.py --corrections {sheet} and split_dataset.py"
    )
