"""The sample that people code: drawn once, stratified by silver class, a sheet per coder."""

import datetime
import re
from glob import glob
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs, read_json, write_csv, write_json
from pipeline.common.rows import read_messages
from pipeline.people.codes import ADJUDICATION, RECORD, SAMPLE
from pipeline.people.held_out import in_samples
from pipeline.sheets.coding import write_sheet

MADE_BY = "human_check.py --draw"
RESERVED = ("custom_id", "message", "adjudicated", "adjudication", "sample", "pilot")


def sheets_folder(settings: dict) -> Path:
    """Return the folder of the sample's sheets; the pilot's is inside the main sample's."""
    return Path(settings["sheets_dir"]) / ("pilot" if settings["pilot"] else "")


def draw(settings: dict, codebook: Codebook) -> None:
    """Draw the sample, or the pilot, and write a sheet per coder.

    The sample comes from the held-out rows of `test_file`. These are a random part of each class,
    so a row's chance to be drawn is that of a draw from all of the class. The pilot comes from the
    other rows, so that no row that a codebook is refined on tests anything.
    """
    folder = sheets_folder(settings)
    coders = coder_names(settings["coders"])
    targets = [folder / name for name in (SAMPLE, RECORD, *(f"{coder}.xlsx" for coder in coders))]
    if there := [path for path in (*targets, folder / ADJUDICATION) if path.exists()]:
        raise UserError(
            f"{there[0]} is there already, perhaps with people's work: have that sample coded, or "
            f"give another --sheets-dir, such as {settings['sheets_dir']}_2"
        )
    rows, held_out = read_population(settings, codebook)
    eligible = held_out != settings["pilot"] if held_out.any() else True
    pool = rows[eligible & ~drawn_before(settings, rows)]
    for k, name in enumerate(codebook.names):
        if (rows["class"] == k).any() and not (pool["class"] == k).any():
            raise UserError(
                f"class {name} has {(rows['class'] == k).sum():,} rows and none of them is left to "
                f"draw ({'outside' if settings['pilot'] else 'in'} {settings['test_file']}): split "
                "with another --seed or a larger --test-size, or merge the class with another"
            )
    if len(pool) < settings["sample_size"]:
        print(f"only {len(pool):,} rows are left to draw, and all of them are drawn")
    sample = draw_sample(
        pool, codebook, settings["sample_size"], settings["min_per_class"], settings["seed"]
    )
    check_outputs(targets)
    strata = strata_of(rows, sample, codebook)
    for number, coder in enumerate(coders, start=1):
        order = sample.sample(frac=1, random_state=settings["seed"] + number)
        sheet = order[["custom_id", "message"]].assign(**{"class": ""})
        write_sheet(sheet, codebook, "class", folder / f"{coder}.xlsx")
    record = {
        "population": len(rows),
        "held_out": int(held_out.sum()),
        "drawn": len(sample),
        "date": datetime.date.today().isoformat(),
        "coders": coders,
        "codebook_sha256": codebook.sha256,
        "strata": strata,
        "settings": settings,
    }
    chances = {stratum["class"]: stratum["inclusion_probability"] for stratum in strata}
    write_json(record, folder / RECORD)
    write_csv(sample.assign(inclusion_probability=sample["class"].map(chances)), folder / SAMPLE)
    for stratum in strata:
        print(
            f"  {stratum['drawn']:>6,} of {stratum['population']:>8,}  {stratum['name']} "
            f"(inclusion probability {stratum['inclusion_probability']:.4f})"
        )


def coder_names(text: str) -> list[str]:
    """Return the coders' names; refuse those that are no file's or a column's of their own."""
    coders = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in coders if name in RESERVED or re.search(r'[\\/:*?"<>|]|^\.', name)]
    if wrong or not coders or len(set(coders)) < len(coders):
        refused = f" (not {wrong[0]!r})" if wrong else ""
        raise UserError(f"--coders {text!r}: give names that differ, such as ann,ben{refused}")
    return coders


def read_population(settings: dict, codebook: Codebook) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the labelled rows, and which of them are held out for tests, a bool (rows,).

    With an empty `test_file` no row is. Raises UserError where the test rows are not among the
    labelled ones, with the same class.
    """
    rows = read_messages(settings["labeled_file"], "jsonl_to_csv.py", codebook, labelled=True)
    if not settings["test_file"]:
        print("drawing from all rows: models that learn from them cannot be tested on the sample")
        return rows, np.zeros(len(rows), bool)
    if not Path(settings["test_file"]).is_file():
        raise UserError(
            f"{settings['test_file']} not found: run split_dataset.py first, or give --test-file "
            "'' to draw from all rows, also those that models learn from"
        )
    test = read_messages(settings["test_file"], "split_dataset.py", codebook, labelled=True)
    known = dict(zip(rows["custom_id"], rows["class"], strict=True))
    for custom_id, label in zip(test["custom_id"], test["class"], strict=True):
        if known.get(custom_id) != label:
            raise UserError(
                f"{settings['test_file']}: {custom_id} has class {label}, and in "
                f"{settings['labeled_file']} {known.get(custom_id, 'it is not there')}: run "
                "split_dataset.py again"
            )
    return rows, rows["custom_id"].isin(test["custom_id"]).to_numpy()


def drawn_before(settings: dict, rows: pd.DataFrame) -> np.ndarray:
    """Return which rows an earlier sample or pilot holds, a bool (rows,)."""
    other = sheets_folder(settings | {"pilot": not settings["pilot"]}) / SAMPLE
    return in_samples(rows, [*map(Path, sorted(glob(settings["exclude"], recursive=True))), other])


def strata_of(rows: pd.DataFrame, sample: pd.DataFrame, codebook: Codebook) -> list[dict]:
    """Return for each silver class its rows, those drawn, and a row's chance to be drawn."""
    population, drawn = rows["class"].value_counts(), sample["class"].value_counts()
    return [
        {
            "class": k,
            "name": name,
            "population": int(population.get(k, 0)),
            "drawn": int(drawn.get(k, 0)),
            "inclusion_probability": float(drawn.get(k, 0) / max(population.get(k, 0), 1)),
        }
        for k, name in enumerate(codebook.names)
    ]


def read_sample(folder: Path, codebook: Codebook) -> tuple[dict, pd.DataFrame]:
    """Return the record of a drawn sample and its rows, `class` being the silver label."""
    draw_first = f"run {MADE_BY} first"
    if (folder / "pilot" / RECORD).is_file():
        draw_first += ", or give --pilot to score the pilot"
    record = read_json(folder / RECORD, draw_first)
    if record["codebook_sha256"] != codebook.sha256:
        raise UserError(
            f"{folder} was drawn with another codebook than {codebook.path}: give --prompt-file "
            "that one, or draw again into another --sheets-dir"
        )
    return record, read_messages(folder / SAMPLE, MADE_BY, codebook, labelled=True)


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

    Raises UserError where the floors alone exceed `total`.
    """
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
