"""The reader of predictions.csv: what a run predicted, row by row.

The texts of a row stay on disk and are read for those that are shown, so that a million predictions
take some 60 MB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.rows import HUMAN as BY_PEOPLE
from pipeline.common.rows import read_weights
from pipeline.common.stored_rows import read_cells
from pipeline.common.tables import END_BYTE, FIRST_BYTE, PART, read_csv_parts
from pipeline.evaluation.metrics import confusion
from pipeline.evaluation.runs import HUMAN, Run

TEXTS = ["custom_id", "message", "reply"]
COLUMNS = [*TEXTS, "class", "predicted", "confidence"]


@dataclass(frozen=True)
class Predictions:
    """What a run predicted for each row of its predictions.csv.

    `frame` has `class` and `predicted` (ints, -1 for no class and for an invalid answer),
    `confidence` (NaN where the run generated text), `human` (whether people coded the row),
    `weight` (1 where the file has none) and `message_hash`; the index is a hash of custom_id, each
    once. Hashes have 8 bytes. `first` and `end` (rows,) are the bytes between which a row stands.
    """

    path: Path
    frame: pd.DataFrame
    columns: tuple[int, ...]  # of TEXTS in the file
    first: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def scored(self) -> "Predictions":
        """Those of the rows that have a class to score the prediction by."""
        there = (self.frame["class"] >= 0).to_numpy()
        if there.all():
            return self
        return replace(self, frame=self.frame[there], first=self.first[there], end=self.end[there])

    def texts(self, places: Sequence[int]) -> pd.DataFrame:
        """Return `custom_id`, `message` and `reply` of the rows at some places, in that order."""
        cells = read_cells(self.path, self.first[places], self.end[places])
        return pd.DataFrame([[row[n] for n in self.columns] for row in cells], columns=TEXTS)

    def message_parts(self) -> Iterator[list[str]]:
        """Yield the messages of all rows, in parts."""
        for start in range(0, len(self), PART):
            yield self.texts(np.arange(start, min(start + PART, len(self))))["message"].tolist()


def read_predictions(run: Run) -> Predictions:
    """Read a run's predictions.

    Raises UserError where a cell is none of what `Predictions` holds, an id stands there twice, or
    metrics.json is of other rows.
    """
    path = run.predictions_file
    frames, first, end, columns = [], [], [], ()
    for cells in read_csv_parts(path, COLUMNS, run.made_by, with_bytes=True):
        columns = tuple(cells.columns.get_loc(name) for name in TEXTS)
        first.append(cells[FIRST_BYTE].to_numpy())
        end.append(cells[END_BYTE].to_numpy())
        frames.append(numbers_of(cells, run))
    frame = pd.concat(frames)
    ids = np.sort(frame.index.to_numpy())
    if (ids[1:] == ids[:-1]).any() or (run.scored and not fits_metrics(frame, run)):
        raise UserError(f"{path} does not fit the metrics.json beside it: run {run.made_by} again")
    return Predictions(path, frame, columns, np.concatenate(first), np.concatenate(end))


def numbers_of(cells: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return the `frame` of a `Predictions`; the index of `cells` are the numbers of the rows."""
    labels = range(-1, len(run.class_names))
    numbers = {
        name: pd.to_numeric(cells[name], errors="coerce")
        for name in ("class", "predicted", "confidence")
    }
    blank = cells["confidence"] == ""
    for name, fits, meaning in (
        ("class", numbers["class"].isin(labels), "none of the classes"),
        ("predicted", numbers["predicted"].isin(labels), "none of the classes"),
        ("confidence", numbers["confidence"].between(0, 1) | blank, "no share from 0 to 1"),
    ):
        if not fits.all():
            row = (~fits).idxmax()
            raise UserError(
                f"{run.predictions_file}, row {row}: {name} {cells[name][row]!r} is {meaning}: run "
                f"{run.made_by} again"
            )
    weights = read_weights(run.predictions_file, cells["weight"]) if "weight" in cells else 1.0
    human = cells["coded_by"] == BY_PEOPLE if "coded_by" in cells else run.label_source == HUMAN
    frame = pd.DataFrame(numbers).astype({"class": np.int8, "predicted": np.int8})
    frame = frame.assign(human=human, weight=weights, message_hash=hashes(cells["message"]))
    return frame.set_index(pd.Index(hashes(cells["custom_id"]), name="custom_id"))


def hashes(texts: pd.Series) -> np.ndarray:
    """Return 8 bytes that stand for each text, uint64 (rows,)."""
    return pd.util.hash_array(texts.to_numpy(dtype=object), categorize=False)


def fits_metrics(frame: pd.DataFrame, run: Run) -> bool:
    """Return whether the confusion matrix of some predictions is that of the run's metrics."""
    rows = frame[frame["class"] >= 0]
    counts = confusion(rows["class"].to_numpy(), rows["predicted"].to_numpy(), len(run.class_names))
    return counts.tolist() == run.metrics["confusion_matrix"]
