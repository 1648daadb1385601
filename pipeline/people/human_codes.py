"""The classes that people gave to sampled rows, as human_check.py keeps them beside the sample."""

from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.records import read_record
from pipeline.common.rows import find_rows, read_messages
from pipeline.people.record import RECORD_FILE, SAMPLE_FILE, Sample

LABELS_FILE = "human_labels.csv"


@dataclass(frozen=True)
class HumanCodes:
    """The coded rows of a sample: `custom_id`, `message`, `class`, and `stratum`.

    A row's `stratum` is the silver class that it was drawn as, and `sizes` says how many rows of
    the data set each stratum has.
    """

    name: str
    rows: pd.DataFrame
    class_names: tuple[str, ...]
    codebook_sha256: str
    sizes: tuple[int, ...]


def read_human_codes(sheets_dir: str) -> list[HumanCodes]:
    """Return what people coded in `sheets_dir`, in folders whose names begin so, and their pilots.

    A sample whose codes were not read yet is named. Raises UserError for a broken file.
    """
    found = []
    for place in sorted(glob(f"{escape(str(Path(sheets_dir)))}*")):
        for folder in (*sorted(Path(place).glob("pilot*")), Path(place)):
            if (folder / LABELS_FILE).is_file():
                found.append(read_folder(folder, Path(sheets_dir).parent))
            elif (folder / RECORD_FILE).is_file():
                pilot = " --pilot" * folder.name.startswith("pilot")
                print(
                    f"{folder} has no {LABELS_FILE}: once people have coded its sheets, run "
                    f"human_check.py{pilot}"
                )
    return found


def read_folder(folder: Path, parent: Path) -> HumanCodes:
    """Return what people coded in a sample's folder."""
    cure = f"restore it, or remove {folder / LABELS_FILE}"
    record = read_record(folder / RECORD_FILE, Sample, cure)
    names = tuple(stratum.name for stratum in record.strata)
    codebook = Codebook(str(folder / RECORD_FILE), "", names)
    rows = read_messages(folder / LABELS_FILE, "human_check.py", codebook, labelled=True)
    drawn = read_messages(folder / SAMPLE_FILE, "human_sample.py", codebook, labelled=True)
    places = find_rows(rows, drawn)
    if (places < 0).any():
        lost = rows["custom_id"][int(np.argmin(places))]
        raise UserError(
            f"{folder / LABELS_FILE}: {lost} is not in {SAMPLE_FILE}: run human_check.py again"
        )
    return HumanCodes(
        folder.relative_to(parent).as_posix(),
        rows.assign(stratum=drawn["class"].to_numpy()[places]),
        names,
        record.codebook_sha256,
        tuple(stratum.population for stratum in record.strata),
    )
