"""What is added to a spreadsheet: columns to one of its sheets, and sheets of a few rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Value = str | int | float | None
CellsOf = Callable[[int], Sequence[Value]]
Table = Sequence[Sequence[Value]]


@dataclass(frozen=True)
class NewColumns:
    """Columns of these names, right of a sheet's own; row `header_row` holds its own names.

    `cells_of` gives the new cells of a row by its number, one for each name, or none at all; None
    and "" are empty cells.
    """

    names: Sequence[str]
    header_row: int
    cells_of: CellsOf


def is_blank(value: Value) -> bool:
    """Return whether a cell is empty."""
    return value is None or value == ""


def number_text(value: float) -> str:
    """Return a finite number as a cell has it; raises ValueError for another."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number for a cell")
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
