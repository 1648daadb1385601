"""The sample that people code: drawn once, stratified by silver class, a sheet per coder."""

import datetime
import re
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs
from pipeline.common.records import read_record, write_record
from pipeline.common.rows import COLUMNS, coded_by_people, read_messages
from pipeline.common.stored_rows import StoredRows
from pipeline.common.tables import write_csv
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
    parts = (rows["class"][~people], drawn["class"], rows["class"][people])
    sizes, sampled, by_people = (classes.value_counts() for classes in parts)
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


def with_messages(drawn: pd.DataFrame, stored: StoredRows) -> pd.DataFrame:
    """Return drawn rows as `read_messages` has them."""
    rows = drawn.assign(message=stored.messages(drawn.index))
    return rows[[name for name in COLUMNS if name in rows]]


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
