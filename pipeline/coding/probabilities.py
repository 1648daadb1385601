"""The probabilities of a sheet's comments: computed part by part, and kept for the next run."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.coding.model import FoundModel, open_model
from pipeline.coding.sheet_rows import SheetRows
from pipeline.common.codebook import Codebook
from pipeline.common.files import replacing
from pipeline.common.hashes import text_hashes
from pipeline.common.tables import PART
from pipeline.models.kept_rows import KeptRows

KNOWN_FILE = "probabilities.npz"
DAMAGED = (zipfile.BadZipFile, ValueError, KeyError, EOFError)


@dataclass(frozen=True)
class Known:
    """Class probabilities (comments, classes) of comments whose `hashes` are sorted, uint64."""

    hashes: np.ndarray
    values: np.ndarray

    def of(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which comments are known, a bool (comments,), and the values of these."""
        if not len(self.hashes):
            return np.zeros(len(hashes), bool), self.values
        place = np.searchsorted(self.hashes, hashes).clip(max=len(self.hashes) - 1)
        there = self.hashes[place] == hashes
        return there, self.values[place[there]]

    def confidence(self, messages: list[str]) -> np.ndarray:
        """Return the highest probability of each message, NaN for one that is not known."""
        there, values = self.of(text_hashes(messages))
        confidence = np.full(len(messages), np.nan)
        confidence[there] = values.max(1)
        return confidence


def read_known(path: Path, key: str, num_classes: int) -> Known:
    """Return what an earlier run has computed, nothing where `key` is not that of its model."""
    nothing = Known(np.zeros(0, np.uint64), np.zeros((0, num_classes)))
    if not path.is_file():
        return nothing
    try:
        with np.load(path) as stored:
            there, hashes, values = str(stored["key"]), stored["hashes"], stored["values"]
    except DAMAGED:
        print(f"{path} is damaged: all comments are computed again")
        return nothing
    if there != key:
        print(f"{path} is of another model or precision: all comments are computed")
        return nothing
    if values.shape != (len(hashes), num_classes) or not np.isfinite(values).all():
        print(f"{path} is damaged: all comments are computed again")
        return nothing
    return Known(hashes, values)


def read_stored(path: Path) -> Known | None:
    """Return what the last run left, by whatever model; None where that is nothing, or damaged."""
    try:
        with np.load(path) as stored:
            return Known(stored["hashes"], stored["values"])
    except (FileNotFoundError, *DAMAGED):
        return None


def write_known(path: Path, key: str, hashes: np.ndarray, values: np.ndarray) -> None:
    """Write the probabilities of a run's comments for the next one."""
    order = np.argsort(hashes)
    with replacing(path) as scratch, scratch.open("wb") as file:
        np.savez(file, key=np.array(key), hashes=hashes[order], values=values[order])


@dataclass(frozen=True)
class Computed:
    """Class probabilities (comments, classes), and how many comments were shortened in this run.

    `key` says by which model and in which precision they were computed.
    """

    probabilities: np.ndarray
    shortened: int
    key: str


def compute(
    rows: SheetRows,
    found: FoundModel,
    codebook: Codebook,
    folder: Path,
    kept: KeptRows,
    size: int = PART,
) -> Computed:
    """Return the probabilities of a sheet's different comments.

    What an earlier run left in `folder` is not computed; without anything else the model is not
    loaded. The others are computed `size` at a time, and `kept` has the batches of each part.
    """
    from pipeline.common.finite import check_finite
    from pipeline.common.machine import compute_dtype, dtype_name

    key = f"{found.fingerprint} {dtype_name(compute_dtype())}"
    known = read_known(folder / KNOWN_FILE, key, len(codebook.names))
    there, values = known.of(rows.hashes)
    probabilities = np.empty((len(rows.hashes), len(codebook.names)))
    probabilities[there] = values
    left = np.flatnonzero(~there)
    if there.any():
        print(f"{there.sum():,} of {len(there):,} comments were computed by an earlier run")
    if not len(left):
        return Computed(probabilities, 0, key)
    model, done = open_model(found, codebook), 0
    for messages in rows.comments(~there, size):
        end = done + len(messages)
        if len(left) > size:
            print(f"comments {done + 1:,} to {end:,} of {len(left):,}")
        part = kept.of_part(f"of comments {done + 1} to {end}", coded_by=key)
        values = model.probabilities(messages, part)
        check_finite(values, "the model's probabilities")
        probabilities[left[done:end]] = values
        done = end
    return Computed(probabilities, model.shortened, key)
