"""The sample that people code: drawn once, stratified by silver class, a sheet per coder."""

import datetime
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs, write_csv
from pipeline.common.records import read_record, write_record
from pipeline.common.rows import are_examples, read_messages
from pipeline.people.held_out import in_samples
from pipeline.people.intervals import FEWEST
from pipeline.people.record import ADJUDICATION_FILE, RECORD_FILE, SAMPLE_FILE, Sample, Stratum
from pipeline.sheets.coding import is_filled_in, write_sheet

RESERVED = ("custom_id", "message", "adjudicated", "adjudication", "sample", "pilot")


def sample_folder(sheets_dir: str, pilot: bool) -> Path:
    """Return the folder of a sample and its sheets; the pilot's is inside the main sample's."""
    return Path(sheets_dir) / ("pilot" if pilot else "")


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


def refuse_drawn(sheets_dir: str, pilot: bool, coders: list[str]) -> None:
    """Stop where such a sample is in `sheets_dir` already: people may have coded it.

    SAMPLE_FILE is written last: without it, sheets that nobody coded are those of a draw that was
    interrupted.
    """
    folder = sample_folder(sheets_dir, pilot)
    sheets = [folder / f"{coder}.xlsx" for coder in coders]
    files = [folder / SAMPLE_FILE, folder / ADJUDICATION_FILE]
    files += [sheet for sheet in sheets if sheet.exists() and is_filled_in(sheet, "class")]
    if there := [file for file in files if file.exists()]:
        raise UserError(
            f"{there[0]} is there already, perhaps with people's work: have that sample coded, or "
            f"give another --sheets-dir, such as {sheets_dir}_2"
        )


def read_population(
    labeled_file: str, test_file: str, codebook: Codebook
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the labelled rows, and which of them are held out for tests, a bool (rows,).

    With an empty `test_file` no row is. Raises UserError where the test rows are not among the
    labelled ones, with the same class.
    """
    rows = read_messages(labeled_file, "jsonl_to_csv.py", codebook, labelled=True)
    if not test_file:
        print("drawing from all rows: models that learn from them cannot be tested on the sample")
        return rows, np.zeros(len(rows), bool)
    if not Path(test_file).is_file():
        raise UserError(
            f"{test_file} not found: run split_dataset.py first, or give --test-file '' to draw "
            "from all rows, also those that models learn from"
        )
    test = read_messages(test_file, "split_dataset.py", codebook, labelled=True)
    known = dict(zip(rows["custom_id"], rows["class"], strict=True))
    for custom_id, label in zip(test["custom_id"], test["class"], strict=True):
        if known.get(custom_id) != label:
            raise UserError(
                f"{test_file}: {custom_id} has class {label}, and in {labeled_file} "
                f"{known.get(custom_id, 'it is not there')}: run split_dataset.py again"
            )
    return rows, rows["custom_id"].isin(test["custom_id"]).to_numpy()


def rows_to_draw_from(
    rows: pd.DataFrame,
    held_out: np.ndarray,
    pilot: bool,
    earlier: Iterable[str | Path],
    codebook: Codebook,
) -> pd.DataFrame:
    """Return the rows that a sample, or a pilot, may be drawn from.

    The sample comes from the held-out rows. These are a random part of each class, so that a row's
    chance to be drawn is that of a draw from all of the class. The pilot comes from the other rows,
    so that no row that a codebook is refined on tests anything. `earlier` are the sample.csv files
    whose rows are not drawn again; the codebook's examples are not drawn either, as coders read
    their class there. Raises UserError where too few rows of a class are left for an interval.
    """
    where, cure = "", "earlier samples hold them: label more"
    eligible = np.ones(len(rows), bool)
    if held_out.any():
        eligible = ~held_out if pilot else held_out
        where = " outside the test rows" if pilot else " among the test rows"
        cure = f"split with another --seed or a {'smaller' if pilot else 'larger'} --test-size"
    left = rows[eligible & ~in_samples(rows, earlier) & ~are_examples(rows, codebook)]
    for k, name in enumerate(codebook.names):
        there, remaining = int((rows["class"] == k).sum()), int((left["class"] == k).sum())
        if remaining < min(FEWEST, there):
            raise UserError(
                f"class {name} has {there:,} rows and {'one' if remaining else 'none'} of them is "
                f"left to draw{where}: {cure}, or merge the class with another"
            )
    return left


def write_sample(rows: pd.DataFrame, record: Sample, codebook: Codebook, folder: Path) -> None:
    """Write a sheet per coder, each in an order of its own, then sample.json and sample.csv."""
    sheets = {coder: folder / f"{coder}.xlsx" for coder in record.coders}
    check_outputs([folder / SAMPLE_FILE, folder / RECORD_FILE, *sheets.values()])
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
    sizes, sampled = (frame["class"].value_counts() for frame in (rows, drawn))
    strata = [
        Stratum(
            name=name,
            population=int(sizes.get(k, 0)),
            drawn=int(sampled.get(k, 0)),
            inclusion_probability=float(sampled.get(k, 0) / max(sizes.get(k, 0), 1)),
        )
        for k, name in enumerate(codebook.names)
    ]
    return Sample(
        population=len(rows),
        held_out=int(held_out.sum()),
        drawn=len(drawn),
        date=datetime.date.today().isoformat(),
        coders=coders,
        codebook_sha256=codebook.sha256,
        strata=strata,
        settings=settings,
    )


def read_sample(folder: Path, codebook: Codebook) -> tuple[Sample, pd.DataFrame]:
    """Return the record of a drawn sample and its rows, `class` being the silver label."""
    cure = f"run human_sample.py {'--pilot ' * (folder.name == 'pilot')}first"
    if (folder / "pilot" / RECORD_FILE).is_file():
        cure += ", or give --pilot to score the pilot"
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
