"""The rows to be coded: those of results/coded that nobody but the model codes, or of the sheet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.coding.record import CODE_AGAIN, CODES_FILE, HUMAN, RECORD_FILE, TEACHER
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json
from pipeline.common.fitting_rows import are_by_codebook
from pipeline.common.tables import read_csv_parts
from pipeline.planning.plan import Model

OTHERS = (HUMAN, TEACHER)  # who coded a row that needs no model


@dataclass(frozen=True)
class CodedRows:
    """The rows of codes.csv that nobody but the model coded: `custom_id` and `confidence`.

    `model` is what coded.json says of the model, `by_others` counts the other rows.
    """

    path: Path
    rows: pd.DataFrame
    by_others: int
    model: Model
    codebook_sha256: str


def read_coded(folder: str | Path) -> CodedRows | None:
    """Return what code_comments.py left, None where it did not run.

    Raises UserError for a row without a confidence from 0 to 1.
    """
    path, record_file = Path(folder) / CODES_FILE, Path(folder) / RECORD_FILE
    if not path.is_file() or not record_file.is_file():
        return None
    record = read_json(record_file, CODE_AGAIN)
    try:
        of_model = record["model"]
        model = Model(of_model["name"], of_model["path"], of_model["temperature"] or 1.0)
        codebook_sha256 = record["codebook_sha256"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{record_file} does not name the model: {CODE_AGAIN}") from error
    parts, by_others = [], 0
    columns = ["custom_id", "coded_by", "confidence"]
    for cells in read_csv_parts(path, columns, "code_comments.py"):
        left = cells.loc[~cells["coded_by"].isin(OTHERS), columns]
        by_others += len(cells) - len(left)
        confidence = pd.to_numeric(left["confidence"], errors="coerce")
        if not (fits := confidence.between(0, 1)).all():
            row = fits.idxmin()
            raise UserError(
                f"{path}, row {row}: confidence {left['confidence'][row]!r} is no share from 0 to "
                f"1: {CODE_AGAIN}"
            )
        ids = left["custom_id"].astype("str")
        parts.append(pd.DataFrame({"custom_id": ids, "confidence": confidence.astype(float)}))
    rows = pd.concat(parts, ignore_index=True)
    return CodedRows(path, rows, by_others, model, codebook_sha256)


def refuse_other_model(coded: CodedRows, model: Model, codebook: Codebook) -> None:
    """Stop where the rows were coded by another model or codebook than a plan is for."""
    if why := _why_other(coded, model, codebook):
        raise UserError(": ".join(why))


def _why_other(coded: CodedRows, model: Model, codebook: Codebook) -> tuple[str, str] | None:
    """Return in what a plan's model differs from the one that coded rows, and the cure, or None."""
    if coded.codebook_sha256 != codebook.sha256:
        return f"{coded.path} was coded with another codebook than {codebook.path}", CODE_AGAIN
    if Path(coded.model.path).resolve() != Path(model.path).resolve():
        return (
            f"{coded.path} was coded by {coded.model.path}, and the plan is for {model.path}",
            f"run code_comments.py --model {model.path}, or give --model {coded.model.path}",
        )
    if not np.isclose(coded.model.temperature, model.temperature):
        return (
            f"{coded.path} has probabilities at temperature {coded.model.temperature:g}, and the "
            f"run that was planned by at {model.temperature:g}",
            "evaluate the model again, and run code_comments.py again",
        )
    return None


def rows_to_code(
    coded: CodedRows | None,
    model: Model,
    codebook: Codebook,
    input_file: str,
    labeled_file: str,
) -> tuple[np.ndarray | int, str]:
    """Return the model's confidences of the rows to be coded, or how many they are; and which.

    They are counted where another model or training coded them, or none did by now.
    """
    if coded is None:
        return count_rows(input_file, labeled_file, codebook)
    if why := _why_other(coded, model, codebook):
        print(f"{why[0]}: the rows are counted, and these confidences not used")
        return count_rows(input_file, labeled_file, codebook)
    rows = f"the rows of {coded.path} that nobody but the model coded"
    return coded.rows["confidence"].to_numpy(), rows


def count_rows(input_file: str, labeled_file: str, codebook: Codebook) -> tuple[int, str]:
    """Return how many rows of the sheet have no label by a codebook, and what that number is.

    Where all have one, it is all that people did not code, as if they were to be coded anew.
    """
    sheet, labelled = _count_silver(input_file, "excel_2_csv.py"), 0
    if Path(labeled_file).is_file() and are_by_codebook(labeled_file, codebook):
        labelled = _count_silver(labeled_file, "jsonl_to_csv.py")
    if labelled >= sheet:
        return sheet, f"all rows of {input_file}, as if they had no label yet: all have one"
    without = f" without a label in {labeled_file}" * bool(labelled)
    return sheet - labelled, f"the rows of {input_file}{without}"


def _count_silver(path: str, made_by: str) -> int:
    """Return how many rows of a file people did not code."""
    return sum(
        len(cells) - int((cells["coded_by"] == HUMAN).sum()) if "coded_by" in cells else len(cells)
        for cells in read_csv_parts(path, ["custom_id"], made_by)
    )
