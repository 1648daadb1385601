"""What the page and the methods text say of a coded spreadsheet: who coded what, and the shares."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.coding.record import HUMAN, MODEL, NOBODY, TEACHER, Coding
from pipeline.evaluation.runs import Run
from pipeline.people.record import HumanCheck, Share
from pipeline.report.study import Study

CODERS = {HUMAN: "people", TEACHER: "the teacher", MODEL: "the small model"}


@dataclass(frozen=True)
class CodedClass:
    """A class of the coded rows: how many each coder gave it, in the order of `coders_of`.

    `share` is of all coded rows, and takes each code for right. `corrected` is the human check's:
    the share among the labelled rows, None where people checked none by these classes.
    """

    name: str
    rows: int
    by: list[int]
    share: float
    corrected: Share | None


def coders_of(coding: Coding) -> dict[str, str]:
    """Return the names of who coded rows, by their keys in the record."""
    return {key: name for key, name in CODERS.items() if coding.coded_by.get(key)}


def coded_rows(coding: Coding) -> int:
    """Return how many rows have a class."""
    return sum(rows for key, rows in coding.coded_by.items() if key != NOBODY)


def coded_classes(coding: Coding, check: HumanCheck | None) -> list[CodedClass]:
    """Return the classes with their rows and shares."""
    comparable = check is not None and check.class_names == coding.class_names
    shares = {share.name: share for share in check.shares} if comparable else {}
    total = max(coded_rows(coding), 1)
    found = []
    for name in coding.class_names:
        by = [coding.class_counts.get(name, {}).get(key, 0) for key in coders_of(coding)]
        found.append(CodedClass(name, sum(by), by, sum(by) / total, shares.get(name)))
    return found


def labelled_rows(check: HumanCheck) -> int:
    """Return how many rows the corrected shares are of: those with a silver or human label."""
    return check.sample.population + check.sample.by_people


def runs_of_coder(study: Study) -> list[Run]:
    """Return the runs that measured the model that coded."""
    names = {one.run for one in study.coding.quality} if study.coding else set()
    return [run for run in study.runs if run.name in names]


def link_to(path: str | Path, page: Path) -> str:
    """Return the address of a file as a page in a folder links it, "" where there is none."""
    if not Path(path).is_file():
        return ""
    try:
        return quote(Path(os.path.relpath(path, page)).as_posix())
    except ValueError:  # on Windows: another drive
        return ""
