"""The codes of a sheet's rows: final class, who gave it, what the model says, whether to check."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.coding.record import MODEL
from pipeline.coding.sheet_rows import SheetRows
from pipeline.coding.who import CODERS, Given
from pipeline.common.tables import PART, csv_writer

DIGITS = 6  # of a probability, as in predictions.csv
OWN_COLUMNS = ["class", "class_name", "coded_by", "check"]


@dataclass(frozen=True)
class Codes:
    """The codes of the rows of a sheet.

    `probabilities` are the model's, (comments, classes). Rows that nobody else coded and of less
    confidence than `threshold` are to be checked; None is no rule.
    """

    rows: SheetRows
    given: Given
    probabilities: np.ndarray
    threshold: float | None
    class_names: tuple[str, ...]

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the model's class, as it is written, (comments,)."""
        return self.probabilities.max(1).round(DIGITS)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The model's class of each row, int (rows,)."""
        return self.probabilities.argmax(1)[self.rows.comment]

    @cached_property
    def label(self) -> np.ndarray:
        """The final class of each row, int (rows,)."""
        return np.where(self.by_model, self.predicted, self.given.label)

    @property
    def by_model(self) -> np.ndarray:
        """Which rows nobody but the model coded, a bool (rows,)."""
        return self.given.coder == CODERS.index(MODEL)

    @cached_property
    def check(self) -> np.ndarray:
        """Which rows people should look at, a bool (rows,); all False without a rule."""
        if self.threshold is None:
            return np.zeros(len(self.rows), bool)
        return self.by_model & (self.confidence[self.rows.comment] < self.threshold)

    @property
    def checked(self) -> int | None:
        """How many rows people should look at, None without a rule."""
        return None if self.threshold is None else int(self.check.sum())

    def coded_by(self) -> dict[str, int]:
        """Return how many rows each coder has, those without any left out."""
        counts = np.bincount(self.given.coder, minlength=len(CODERS)).tolist()
        return {who: count for who, count in zip(CODERS, counts, strict=True) if count}

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Return how many rows of each class each coder has."""
        cells = self.label * len(CODERS) + self.given.coder
        counts = np.bincount(cells, minlength=len(self.class_names) * len(CODERS))
        table = counts.reshape(len(self.class_names), len(CODERS)).tolist()
        return {
            name: {who: count for who, count in zip(CODERS, row, strict=True) if count}
            for name, row in zip(self.class_names, table, strict=True)
        }


def write_codes(codes: Codes, path: Path) -> None:
    """Write codes.csv: a row for each row of the sheet that has a message."""
    names = [f"p_{name}" for name in codes.class_names]
    columns = ["custom_id", *OWN_COLUMNS, "predicted", "confidence", *names]
    rows, ids = codes.rows, codes.rows.frame["custom_id"]
    checks = {None: "", False: "0", True: "1"}
    with csv_writer(path, columns) as writer:
        for start in range(0, len(rows), PART):
            part = slice(start, start + PART)
            comment = rows.comment[part]
            shares = codes.probabilities[comment]
            writer.write_rows(
                [
                    [
                        custom_id,
                        str(label),
                        codes.class_names[label],
                        CODERS[coder],
                        checks[None if codes.threshold is None else check],
                        str(predicted),
                        f"{confidence:.{DIGITS}f}",
                        *(f"{share:.{DIGITS}f}" for share in row),
                    ]
                    for custom_id, label, coder, check, predicted, confidence, row in zip(
                        ids.iloc[part],
                        codes.label[part].tolist(),
                        codes.given.coder[part].tolist(),
                        codes.check[part].tolist(),
                        codes.predicted[part].tolist(),
                        codes.confidence[comment].tolist(),
                        shares.tolist(),
                        strict=True,
                    )
                ]
            )


def book_columns(class_names: Sequence[str], prefix: str) -> list[str]:
    """Return the names of the columns that a sheet gets, `prefix` before each."""
    return [f"{prefix}{name}" for name in (*OWN_COLUMNS, *(f"p_{name}" for name in class_names))]


class BookCells:
    """The cells of `book_columns` for a row of the sheet, by its number; none for a blank one."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._place = np.full(int(codes.rows.number.max()) + 1, -1, np.int32)
        self._place[codes.rows.number] = np.arange(len(codes.rows), dtype=np.int32)

    def __call__(self, number: int) -> list[str | int | float | None]:
        codes = self._codes
        place = int(self._place[number]) if number < len(self._place) else -1
        if place < 0:
            return []
        label = int(codes.label[place])
        check = None if codes.threshold is None else int(codes.check[place])
        shares = codes.probabilities[codes.rows.comment[place]].round(DIGITS).tolist()
        who = CODERS[codes.given.coder[place]]
        return [label, codes.class_names[label], who, check, *shares]
