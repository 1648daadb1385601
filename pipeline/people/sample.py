"""The sample that people code: drawn once, stratified by silver class, a sheet per coder."""

import datetime
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs
from pipeline.common.records import read_record, write_record
from pipeline.common.rows import (
    are_examples,
    coded_by_people,
    find_rows,
    read_labelled,
    read_messages,
)
from pipeline.common.tables import write_csv
from pipeline.people.held_out import in_samples
from pipeline.people.intervals import FEWEST
from pipeline.people.record import (
    ADJUDICATION_FILE,
    PILOT,
    RECORD_FILE,
    SAMPLE_FILE,
    Sample,
    Stratum,
)
from pipeline.sheets.coding import is_filled_in, write_sheet

RESERVED = ("custom_id", "message", "adjudicated", "adjudication", "sample", "pilot")


def sample_folder(sheets_dir: str, pilot: bool, codebook: Codebook) -> Path:
    """Return the folder of a sample and its sheets; a pilot's is inside the main sample's.

    Each codebook has a pilot of its own: the first folder of `pilot`, `pilot_2`, ... whose sample
    was drawn with this codebook, or in which none was drawn yet.
    """
    if not pilot:
        return Path(sheets_dir)
    for number in count(1):
        folder = Path(sheets_dir) / (PILOT if number == 1 else f"{PILOT}_{number}")
        record = folder / RECORD_FILE
        if not record.is_file() or codebook_of(record) == codebook.sha256:
            return folder


def is_pilot(folder: Path) -> bool:
    """Return whether a folder is a pilot's, by its name."""
    return re.fullmatch(rf"{PILOT}(_\d+)?", folder.name) is not None


def codebook_of(record: Path) -> str:
    """Return the hash of the codebook that a sample was drawn with, from its sample.json."""
    return read_record(record, Sample, "put back the file as it was").codebook_sha256


def coder_names(text: str) -> list[str]:
    """Return the coders' names; refuse those that are no file's or a column's of their own.

    Two names that differ in case alone are the same file on Windows and macOS.
    """
    coders = [name.strip() for name in text.split(",") if name.strip()]
    bare = [name.casefold() for name in coders]
    wrong = [
        name
        for name in coders
        if name.casefold() in RESERVED or re.search(r'[\\/:*?"<>|]|^\.', name)
    ]
    if wrong or not coders or len(set(bare)) < len(coders):
        refused = f" (not {wrong[0]!r})" if wrong else ""
        raise UserError(f"--coders {text!r}: give names that differ, such as ann,ben{refused}")
    return coders


def refuse_drawn(folder: Path, coders: list[str]) -> None:
    """Stop where a sample is in a folder already: people may have coded it.

    SAMPLE_FILE is written last: without it, sheets that nobody coded are those of a draw that was
    interrupted.
    """
    sheets = [folder / f"{coder}.xlsx" for coder in coders]
    files = [folder / SAMPLE_FILE, folder / ADJUDICATION_FILE]
    files += [sheet for sheet in sheets if sheet.exists() and is_filled_in(sheet, "class")]
    if there := [file for file in files if file.exists()]:
        sheets_dir = folder.parent if is_pilot(folder) else folder
        raise UserError(
            f"{there[0]} is there already, perhaps with people's work: have that sample coded, or "
            f"give another --sheets-dir, such as {sheets_dir}_2"
        )


def read_population(
    labeled_file: str, test_file: str, codebook: Codebook, pilot: bool = False
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the labelled rows, and which of them are held out for tests, a bool (rows,).

    With an empty `test_file` no row is, nor before the first split for a `pilot`, whose rows
    split_dataset.py keeps out of the test rows. Raises UserError where the test rows are not among
    the labelled ones, with the same class, where the labels are by another codebook, and where
    people coded all rows.
    """
    rows = read_labelled(labeled_file, codebook)
    people = int(coded_by_people(rows).sum())
    if people == len(rows):
        raise UserError(
            f"{labeled_file}: people coded all of its {people:,} rows: there is no silver label to "
            "check, and no sample to draw"
        )
    if people:
        print(f"  left out {people:,} rows that people coded before: they have no silver label")
    if not test_file:
        print("drawing from all rows: models that learn from them cannot be tested on the sample")
        return rows, np.zeros(len(rows), bool)
    if pilot and not Path(test_file).is_file():
        print("drawing from all rows: split_dataset.py will put these into no test set")
        return rows, np.zeros(len(rows), bool)
    if not Path(test_file).is_file():
        raise UserError(
            f"{test_file} not found: run split_dataset.py first, or give --test-file '' to draw "
            "from all rows, also those that models learn from"
        )
    test = read_messages(test_file, "split_dataset.py", codebook, labelled=True)
    places = find_rows(test, rows)
    labels = rows["class"].to_numpy()[places]
    for custom_id, label, place, now in zip(
        test["custom_id"], test["class"], places, labels, strict=True
    ):
        if place < 0 or label != now:
            raise UserError(
                f"{test_file}: {custom_id} has class {label}, and in {labeled_file} "
                f"{now if place >= 0 else 'it is not there'}: run split_dataset.py again"
            )
    held_out = np.zeros(len(rows), bool)
    held_out[places] = True
    return rows, held_out


def rows_to_draw_from(
    rows: pd.DataFrame,
    held_out: np.ndarray,
    pilot: bool,
    earlier: Sequence[str | Path],
    codebook: Codebook,
    floor: int,
) -> tuple[pd.DataFrame, pd.Index]:
    """Return the rows that a sample, or a pilot, may be drawn from, and which are drawn again.

    The sample comes from the held-out rows. These are a random part of each class, so that a row's
    chance to be drawn is that of a draw from all of the class. The pilot comes from the other rows,
    so that no row that a codebook is refined on tests anything. Rows that people coded before have
    no silver label, and are in neither, and so are the codebook's examples, whose class coders read
    there.

    `earlier` are the sample.csv files whose rows are not drawn again. But where this leaves fewer
    than `floor` rows of a class, all its rows of samples of the same kind (pilots for a pilot) that
    were drawn with another codebook may be drawn too: the second result. Raises UserError where too
    few rows of a class are left for an interval.
    """
    where, cure = "", "earlier samples hold them: label more"
    silver = ~coded_by_people(rows)
    eligible = silver
    if held_out.any():
        eligible = silver & (~held_out if pilot else held_out)
        where = " outside the test rows" if pilot else " among the test rows"
        cure = f"split with another --seed or a {'smaller' if pilot else 'larger'} --test-size"
    of_another = [file for file in earlier if drawn_again(Path(file), pilot, codebook)]
    possible = eligible & ~in_samples(rows, [file for file in earlier if file not in of_another])
    possible &= ~are_examples(rows, codebook)
    before = possible & in_samples(rows, of_another)
    left = possible & ~before
    for k, name in enumerate(codebook.names):
        of_class = (rows["class"] == k).to_numpy()
        if (left & of_class).sum() < min(floor, (possible & of_class).sum()):
            left |= possible & of_class
        there, remaining = int((silver & of_class).sum()), int((left & of_class).sum())
        if remaining < min(FEWEST, there):
            raise UserError(
                f"class {name} has {there:,} rows and {'one' if remaining else 'none'} of them is "
                f"left to draw{where}: {cure}, or merge the class with another"
            )
    return rows[left], rows.index[left & before]


def drawn_again(file: Path, pilot: bool, codebook: Codebook) -> bool:
    """Return whether the rows of a sample.csv may be drawn again where others are too few.

    They may for a sample of the same kind with another codebook. Pilots' rows never become test
    rows, since a codebook was refined on them.
    """
    record = file.with_name(RECORD_FILE)
    same_kind = is_pilot(file.parent) == pilot
    return same_kind and record.is_file() and codebook_of(record) != codebook.sha256


def say_drawn_again(drawn: pd.DataFrame, before: pd.Index) -> None:
    """Say how many rows people coded before, with another codebook."""
    if again := int(drawn.index.isin(before).sum()):
        print(
            f"{again:,} of the {len(drawn):,} rows were coded before, with another codebook: of "
            "their classes too few others are left"
        )


def write_sample(rows: pd.DataFrame, record: Sample, codebook: Codebook, folder: Path) -> None:
    """Write a sheet per coder, each in an order of its own, then sample.json and sample.csv."""
    sheets = {coder: folder / f"{coder}.xlsx" for coder in record.coders}
    check_outputs([folder / SAMPLE_FILE, folder / RECORD_FILE, *sheets.values()])
    refuse_drawn(folder, record.coders)  # by another process, since this one began
    for number, path in enumerate(sheets.values(), start=1):
        order = rows.sample(frac=1, random_state=record.seed + number)
        sheet = order[["custom_id", "message"]].assign(**{"class": ""})
        write_sheet(sheet, codebook, "class", path)
    write_record(record, folder / RECORD_FILE)
    chances = dict(enumerate(stratum.inclusion_probability for stratum in record.strata))
    table = rows.assign(inclusion_probability=rows["class"].map(chances))
    write_csv(table, folder / SAMPLE_FILE)
    for stratum in record.strata:
        print(
            f"  {stratum.drawn:>6,} of {stratum.population:>8,}  {stratum.name} (inclusion "
            f"probability {stratum.inclusion_probability:.4f})"
        )


def sample_record(
    drawn: pd.DataFrame,
    rows: pd.DataFrame,
    held_out: np.ndarray,
    coders: list[str],
    codebook: Codebook,
    settings: dict[str, Any],
) -> Sample:
    """Return the record of rows that were just drawn from the labelled `rows`."""
    people = coded_by_people(rows)
    parts = (rows[~people], drawn, rows[people])
    sizes, sampled, by_people = (frame["class"].value_counts() for frame in parts)
    strata = [
        Stratum(
            name=name,
            population=int(sizes.get(k, 0)),
            drawn=int(sampled.get(k, 0)),
            inclusion_probability=float(sampled.get(k, 0) / max(sizes.get(k, 0), 1)),
            by_people=int(by_people.get(k, 0)),
        )
        for k, name in enumerate(codebook.names)
    ]
    return Sample(
        population=len(rows),
        held_out=int((held_out & ~people).sum()),
        drawn=len(drawn),
        date=datetime.date.today().isoformat(),
        coders=coders,
        codebook_sha256=codebook.sha256,
        strata=strata,
        settings=settings,
    )


def read_sample(folder: Path, codebook: Codebook) -> tuple[Sample, pd.DataFrame]:
    """Return the record of a drawn sample and its rows, `class` being the silver label."""
    pilot = is_pilot(folder)
    cure = f"run human_sample.py {'--pilot ' * pilot}first"
    if (folder / PILOT / RECORD_FILE).is_file():
        cure += ", or give --pilot to score the pilot"
    if pilot and folder.name != PILOT:
        cure += ", or give --prompt-file the codebook of an earlier pilot"
    record = read_record(folder / RECORD_FILE, Sample, cure)
    if record.codebook_sha256 != codebook.sha256:
        raise UserError(
            f"{folder} was drawn with another codebook than {codebook.path}: give --prompt-file "
            "that one, or draw again into another --sheets-dir"
        )
    return record, read_messages(folder / SAMPLE_FILE, "human_sample.py", codebook, labelled=True)


def allocate(sizes: np.ndarray, total: int, floor: int) -> np.ndarray:
    """Return how many rows to draw from strata of `sizes` (k,): `total` in all, int.

    In proportion to size, but at least `floor` from each, or the whole of a smaller one. Fractions
    go by largest remainder. A `total` beyond the rows there are takes them all.
    """
    sizes = np.asarray(sizes)
    total = min(total, int(sizes.sum()))
    least = np.minimum(floor, sizes)
    quotas = np.zeros(len(sizes))
    raised = np.zeros(len(sizes), bool)
    while True:
        rest = total - least[raised].sum()
        quotas[~raised] = rest * sizes[~raised] / max(sizes[~raised].sum(), 1)
        short = ~raised & (quotas < least)
        if not short.any():
            break
        raised |= short
    quotas[raised] = least[raised]
    drawn = np.floor(quotas).astype(int)
    by_remainder = np.argsort(drawn - quotas, kind="stable")
    drawn[by_remainder[: total - drawn.sum()]] += 1
    return drawn


def draw_sample(
    frame: pd.DataFrame, codebook: Codebook, total: int, floor: int, seed: int
) -> pd.DataFrame:
    """Return a random sample of `frame`, stratified by `class`, in random order.

    Raises UserError where `floor` is too small for an interval, or all floors exceed `total`.
    """
    if floor < FEWEST:
        raise UserError(f"--min-per-class {floor}: an interval needs {FEWEST} rows of each class")
    num_labels = len(codebook.names)
    sizes = frame["class"].value_counts().reindex(range(num_labels), fill_value=0).to_numpy()
    if np.minimum(sizes, floor).sum() > total:
        raise UserError(
            f"--min-per-class {floor} of {num_labels} classes exceeds --sample-size {total}: give "
            "a larger sample or a lower floor"
        )
    parts = [
        frame[frame["class"] == k].sample(n, random_state=seed)
        for k, n in enumerate(allocate(sizes, total, floor))
    ]
    return pd.concat(parts).sample(frac=1, random_state=seed)
