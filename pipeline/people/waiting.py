"""Which sheets of a folder wait for people, for `make`: its exit status is 1 where a coder's does.

Run     python -m pipeline.people.waiting studies/gender/pre_process/human_check
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path

from pipeline.common.cli import run
from pipeline.common.records import read_record
from pipeline.people.record import ADJUDICATION_FILE, RECORD_FILE, Sample
from pipeline.people.unsure_rows import TASK_FILE, Task, is_task
from pipeline.sheets.coding import count_blank, is_filled_in


def main() -> None:
    folder = Path(sys.argv[1])
    if not (folder / RECORD_FILE).is_file() and not is_task(folder):
        sys.exit("no sample was drawn for people to code: make sample draws one")
    sheets = uncoded_sheets(folder)
    for sheet in sheets:
        print(f"waiting for {sheet}: have it coded")
    if rows := undecided_rows(folder):
        print(f"waiting for {folder / ADJUDICATION_FILE}: {rows:,} rows to be decided")
    sys.exit(bool(sheets))


def uncoded_sheets(folder: Path) -> list[Path]:
    """Return the coders' sheets in `folder` that are missing or that nobody coded.

    They are those of a sample, or of rows that a model is unsure of.
    """
    name, kind = (TASK_FILE, Task) if is_task(folder) else (RECORD_FILE, Sample)
    coders = read_record(folder / name, kind, "restore it").coders
    sheets = [folder / f"{coder}.xlsx" for coder in coders]
    with redirect_stdout(None):
        return [
            sheet for sheet in sheets if not sheet.is_file() or not is_filled_in(sheet, "class")
        ]


def undecided_rows(folder: Path) -> int:
    """Return how many rows of the sheets in `folder` coders disagree on and nobody decided."""
    sheet = folder / ADJUDICATION_FILE
    with redirect_stdout(None):
        return count_blank(sheet, "adjudicated") if sheet.is_file() else 0


if __name__ == "__main__":
    run(main)
