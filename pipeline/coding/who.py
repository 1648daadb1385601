"""Who coded a row of the sheet: people, else the teacher, else the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.coding.record import HUMAN, MODEL, TEACHER
from pipeline.coding.sheet_rows import SheetRows
from pipeline.common.codebook import Codebook
from pipeline.common.fitting_rows import are_by_codebook
from pipeline.common.rows import coded_by_people, find_rows, message_keys
from pipeline.common.stored_rows import store_rows
from pipeline.people.human_codes import read_human_codes
from pipeline.people.unsure_rows import read_coded_tasks

OTHER_MESSAGES = (
    ": if it is the spreadsheet that they were made from, give --user-column and "
    "--mask-personal-data as excel_2_csv.py had them"
)
CODERS = (MODEL, TEACHER, HUMAN)  # who coded a row, by number; who is later wins


@dataclass(frozen=True)
class Given:
    """The classes that people and the teacher gave the rows of a sheet, both int8 (rows,).

    `label` is -1 where neither did, and `coder` a number of `CODERS`.
    """

    label: np.ndarray
    coder: np.ndarray


@dataclass(frozen=True)
class Source:
    """Labels of one origin: `custom_id`, what `message_keys` takes, `class`, perhaps coded_by."""

    name: str
    rows: pd.DataFrame
    by_people: np.ndarray  # a bool (rows,)


def given_classes(
    rows: SheetRows,
    codebook: Codebook,
    labels_file: str,
    sheets_dir: str,
    coding_dir: str,
) -> Given:
    """Return who gave the rows which class; of people, the sheet's own column counts most.

    Then come the samples that people coded, and the rows that the model was unsure of. A label
    belongs to a row of its id and message, see `find_rows`. Labels of another codebook are left
    out, and told.
    """
    label = np.full(len(rows), -1, np.int8)
    coder = np.full(len(rows), CODERS.index(MODEL), np.int8)
    for source in _sources(codebook, labels_file, sheets_dir, coding_dir):
        places = find_rows(source.rows, rows.frame)
        there = places >= 0
        at, classes = places[there], source.rows["class"].to_numpy()[there]
        who = np.where(source.by_people[there], CODERS.index(HUMAN), CODERS.index(TEACHER))
        _say(source.name, at, classes, len(places), label, coder)
        wins = who >= coder[at]
        label[at[wins]], coder[at[wins]] = classes[wins], who[wins]
    own = rows.frame["class"].to_numpy()
    at = np.flatnonzero(own >= 0)
    if len(at):
        _say("the spreadsheet", at, own[at], len(at), label, coder)
    label[at], coder[at] = own[at], CODERS.index(HUMAN)
    return Given(label, coder)


def _sources(
    codebook: Codebook, labels_file: str, sheets_dir: str, coding_dir: str
) -> Iterator[Source]:
    """Yield the labels that there are; what comes later counts more."""
    if Path(labels_file).is_file():
        if are_by_codebook(labels_file, codebook):
            stored = store_rows(
                labels_file, "jsonl_to_csv.py", codebook, labelled=True, message_key=message_keys
            )
            yield Source(labels_file, stored.frame, coded_by_people(stored.frame))
        else:
            print(f"left out {labels_file}: its labels are by another codebook")
    else:
        print(f"{labels_file} is not there: no row has a class from the teacher")
    tasks = read_coded_tasks(coding_dir, codebook)
    if len(tasks):
        yield Source(coding_dir, tasks, np.ones(len(tasks), bool))
    for codes in read_human_codes(sheets_dir):
        if codes.codebook_sha256 == codebook.sha256:
            yield Source(codes.name, codes.rows, np.ones(len(codes.rows), bool))
        else:
            print(f"left out {codes.name}: people coded it by another codebook")


def _say(
    name: str,
    places: np.ndarray,
    classes: np.ndarray,
    num_labels: int,
    label: np.ndarray,
    coder: np.ndarray,
) -> None:
    """Print how many rows have a class from a source, and how many another one from people."""
    more = num_labels - len(places)
    gone = f", {more:,} more {'is' if more == 1 else 'are'} not in the sheet" * bool(more)
    gone += OTHER_MESSAGES * (not len(places))
    print(f"  {len(places):>9,}  rows have a class in {name}{gone}")
    by_people = coder[places] == CODERS.index(HUMAN)
    if other := int((by_people & (label[places] != classes)).sum()):
        print(f"  {other:>9,}  of them have another class from people elsewhere")
