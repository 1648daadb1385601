"""Rows that a model is unsure of, for people to code: no random sample, so no estimate is made.

They lie in a folder of their own, in files with other names than a sample's, so that no step takes
them for one.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs, write_text
from pipeline.common.records import read_record, to_record, write_record
from pipeline.common.rows import read_messages
from pipeline.common.tables import write_csv
from pipeline.people.agreement import agreement
from pipeline.people.codes import adjudicate, print_open_disputes, read_codes
from pipeline.people.record import (
    ADJUDICATION_FILE,
    HUMAN_LABELS_FILE,
    RECORD_FILE,
    Agreement,
    Coder,
)
from pipeline.people.score_text import agreement_text
from pipeline.sheets.coding import is_filled_in, write_sheet

ROWS_FILE, TASK_FILE, AGREEMENT_FILE = "rows.csv", "coding.json", "agreement.json"
SAMPLES = "human_check"  # how the names of folders begin in which steps look for samples
PUT_BACK = "put back the file as plan_coding.py wrote it"


@dataclass(frozen=True)
class Task:
    """Rows for people to code, in coding.json; `threshold` is what the model's confidence lacks."""

    rows: int
    date: str
    coders: list[str]
    threshold: float
    model_path: str
    codebook_sha256: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class TaskCoded:
    """What people coded of a task, in agreement.json: how far they agree, and what is open."""

    rows: int
    coded: int
    coders: list[Coder]
    agreement: Agreement | None
    disagreements: int
    undecided: int
    codebook_sha256: str
    random_sample: bool = False


def is_task(folder: Path) -> bool:
    """Return whether a folder holds rows that a model was unsure of, and no sample."""
    return (folder / TASK_FILE).is_file()


def write_task(
    rows: pd.DataFrame,
    coders: list[str],
    threshold: float,
    model_path: str,
    codebook: Codebook,
    folder: Path,
    settings: dict[str, Any],
) -> None:
    """Write a sheet per coder, each in an order of its own, then coding.json and rows.csv.

    `rows` has `custom_id` and `message`. Raises UserError where sheets are in the folder already:
    people may have coded them.
    """
    sheets = {coder: folder / f"{coder}.xlsx" for coder in coders}
    refuse_written(folder, coders)
    check_outputs([folder / ROWS_FILE, folder / TASK_FILE, *sheets.values()])
    seed = settings["seed"]
    for number, path in enumerate(sheets.values(), start=1):
        order = rows.sample(frac=1, random_state=seed + number)
        sheet = order[["custom_id", "message"]].assign(**{"class": ""})
        write_sheet(sheet, codebook, "class", path)
    date = datetime.date.today().isoformat()
    task = Task(len(rows), date, coders, threshold, model_path, codebook.sha256, settings)
    write_record(task, folder / TASK_FILE)
    write_csv(rows[["custom_id", "message"]], folder / ROWS_FILE)


def refuse_written(folder: Path, coders: Sequence[str]) -> None:
    """Stop where rows for people are in a folder already, or samples lie in it or might.

    ROWS_FILE is written last: without it, sheets that nobody coded are those of an interrupted run.
    """
    if folder.name.startswith(SAMPLES) or (folder / RECORD_FILE).is_file():
        raise UserError(
            f"{folder} is a folder of random samples: give another --coding-dir, such as "
            f"{folder.with_name('coding')}"
        )
    if folder.parent.name.startswith(SAMPLES):
        raise UserError(
            f"{folder} lies in a folder of random samples, where code_comments.py looks for no "
            f"other rows: give another --coding-dir, such as {folder.parent.with_name('coding')}"
        )
    files = [folder / ROWS_FILE, folder / ADJUDICATION_FILE]
    sheets = [folder / f"{coder}.xlsx" for coder in coders]
    files += [sheet for sheet in sheets if sheet.exists() and is_filled_in(sheet, "class")]
    if there := [file for file in files if file.exists()]:
        raise UserError(
            f"{there[0]} is there already, perhaps with people's work: have those rows coded and "
            f"scored, or give another --coding-dir, such as {folder}_2"
        )


def read_task(folder: Path, codebook: Codebook) -> tuple[Task, pd.DataFrame]:
    """Return the record of a task and its rows; raises UserError for one of another codebook."""
    task = read_record(folder / TASK_FILE, Task, PUT_BACK)
    if task.codebook_sha256 != codebook.sha256:
        raise UserError(
            f"{folder} was made with another codebook than {codebook.path}: give --prompt-file "
            "that one, or run plan_coding.py again and apply the plan into another --coding-dir"
        )
    return task, read_messages(folder / ROWS_FILE, "plan_coding.py --apply", codebook)


def score_task(folder: Path, codebook: Codebook, output_dir: Path, ordered: bool) -> None:
    """Write what people coded: human_labels.csv, adjudication.xlsx, agreement.json, report.txt.

    No test set, no estimate of the silver labels and no class shares are made: the rows are those
    that the model is unsure of. `ordered` is whether the classes are steps of a scale.
    """
    task, rows = read_task(folder, codebook)
    check_outputs([output_dir / AGREEMENT_FILE, folder / HUMAN_LABELS_FILE])
    codes = read_codes(folder, task.coders, rows, codebook)
    final = adjudicate(folder, codes, rows, codebook)
    labels = final["label"].to_numpy()
    found = agreement(codes, len(codebook.names), ordered=ordered)
    blank = (codes < 0).sum()
    result = TaskCoded(
        rows=len(rows),
        coded=int((labels >= 0).sum()),
        coders=[Coder(name, len(codes) - int(blank[name]), int(blank[name])) for name in codes],
        agreement=to_record(found, Agreement | None),
        disagreements=int(final["disputed"].sum()),
        undecided=int((final["disputed"] & (final["label"] < 0)).sum()),
        codebook_sha256=codebook.sha256,
    )
    coded = rows[labels >= 0][["custom_id", "message"]].assign(**{"class": labels[labels >= 0]})
    write_csv(coded, folder / HUMAN_LABELS_FILE)
    write_text(task_report(result), output_dir / "report.txt")
    write_record(result, output_dir / AGREEMENT_FILE)
    print(f"wrote {output_dir}: {AGREEMENT_FILE}, report.txt\n\n{task_report(result)}")
    print_open_disputes(folder, final)
    print("next: run code_comments.py, which takes these classes into the spreadsheet")


def task_report(result: TaskCoded) -> str:
    """Return how many rows are coded, by whom, and how far the coders agree."""
    coders = "".join(
        f"  {coder.name}: {coder.coded:,} rows coded, {coder.blank:,} blank\n"
        for coder in result.coders
    )
    return (
        f"Rows that the model is unsure of: {result.coded:,} of {result.rows:,} have a class\n"
        f"{coders}"
        f"Coders disagree on {result.disagreements:,} rows, {result.undecided:,} undecided\n\n"
        f"{agreement_text(result.agreement)}"
        "These rows are no random sample: nothing here is an estimate for the data set. They are "
        "harder than others, so coders may agree less on them.\n"
    )


def task_folders(folder: str | Path) -> list[Path]:
    """Return a folder and those beside it that hold rows for people, sorted by name."""
    return sorted(path.parent for path in Path(folder).parent.glob(f"*/{TASK_FILE}"))


def earlier_rows(folder: Path, codebook: Codebook) -> list[Path]:
    """Return the files of the rows that people have or had in the folders beside one.

    Those of another codebook are left out: what people coded by it is not taken.
    """
    return [
        path / ROWS_FILE
        for path in task_folders(folder)
        if path != folder
        and read_record(path / TASK_FILE, Task, PUT_BACK).codebook_sha256 == codebook.sha256
    ]


def read_coded_tasks(folder: str | Path, codebook: Codebook) -> pd.DataFrame:
    """Return what people coded in a folder and those beside it: custom_id, message, class.

    Those of another codebook, and those that human_check.py did not read yet, are named and left
    out. Where a row is in several, the last folder counts.
    """
    found = [pd.DataFrame({"custom_id": [], "message": [], "class": []})]
    for path in task_folders(folder):
        task, labels = read_record(path / TASK_FILE, Task, PUT_BACK), path / HUMAN_LABELS_FILE
        if task.codebook_sha256 != codebook.sha256:
            print(f"left out {path}: its rows were coded by another codebook")
        elif not labels.is_file():
            print(
                f"{path} has no {HUMAN_LABELS_FILE}: once people have coded its sheets, run "
                f"human_check.py --sheets-dir {path}"
            )
        elif len(labels.read_bytes().splitlines()) == 1:
            print(
                f"{path} has no row on which people agree: fill in {path / ADJUDICATION_FILE}, "
                f"then run human_check.py --sheets-dir {path}"
            )
        else:
            found.append(read_messages(labels, "human_check.py", codebook, labelled=True))
    rows = pd.concat(found, ignore_index=True).astype({"class": int})
    return rows.drop_duplicates(["custom_id", "message"], keep="last", ignore_index=True)
