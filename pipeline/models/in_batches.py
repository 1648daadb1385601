"""Results of rows, in batches that the processes share and that are halved where memory is small.

A batch is the same whichever process computes it, so that the results are those of one process.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed
from tqdm import tqdm

from pipeline.common.cli import UserError
from pipeline.common.processes import is_main_process, num_processes, process_index
from pipeline.models.kept_rows import KeptPart
from pipeline.models.memory import unless_out_of_memory

Value = TypeVar("Value")

OTHER_ENDED = "another process of this run has ended: see what it says"
LONGEST_WAIT = timedelta(days=7)  # of a process that has done its share for the others


def compute_in_batches(
    batches: Iterable[list[int]],
    compute: Callable[[list[int]], Sequence[Value]],
    what: str | None = None,
    kept: KeptPart | None = None,
) -> list[Value]:
    """Return the value that `compute` has for every row, in the order of the rows.

    `batches` hold the numbers of the rows, each once; `compute` returns a value for each row of a
    batch, in their order, without gradients. Several processes take the batches by turns, as the
    main one has made them, and each of them gets all the values.

    Where the memory is too small for a batch, this one and all that follow are cut in half.
    Raises UserError where it is too small for a single row. `what` stands before the progress bar,
    which counts the batches of a turn as done when the main process has done its own.

    What `kept` has of an interrupted run is not computed again, and it gets each finished batch.
    """
    shared = gathered(list(batches))[0]
    there: dict[int, Value] = kept.finished(shared) if kept else {}
    values: dict[int, Value] = {}
    total, pieces = sum(map(len, shared)), kept.pieces if kept else 1
    left = [(len(batch), [row for row in batch if row not in there]) for batch in shared]
    left = [(size, waiting) for size, waiting in left if waiting]
    bar = tqdm(
        total=total, initial=len(there), unit="row", desc=what, disable=not is_main_process()
    )
    with bar:
        for first in range(0, len(left), num_processes()):
            turn = left[first : first + num_processes()]
            whole, waiting = turn[process_index()] if process_index() < len(turn) else (0, [])
            others = sum(len(waiting) for _, waiting in turn) - len(waiting)
            while waiting:
                size = math.ceil(whole / pieces)
                rows = waiting[:size]
                with torch.inference_mode():
                    found = unless_out_of_memory(compute, rows)
                if found is None:
                    pieces *= 2
                    bar.write(halved(len(rows)))
                else:
                    values |= zip(rows, found, strict=True)
                    waiting = waiting[size:]
                    bar.update(len(rows))
                    if kept:
                        kept.keep(rows, found, pieces)
            bar.update(others)
    if kept:
        kept.close()
    everyone = dict(there)
    for part in gathered(values):
        everyone |= part
    return [everyone[row] for row in range(total)]


def halved(num_rows: int) -> str:
    """Return the line that says what becomes of a batch of so many rows that did not fit.

    Raises UserError for a single row.
    """
    if num_rows == 1:
        raise UserError("the memory is too small for a single row: give a smaller --max-length")
    return (
        f"the memory is too small for {num_rows:,} rows at once: this batch and all that follow "
        "are cut in half"
    )


def wait_for_all() -> None:
    """Wait until every process is here, as before a time is taken."""
    gathered(None)


def gathered(value: Value) -> list[Value]:
    """Return what each process gives, in the order of the processes; every process must call it.

    Raises UserError where another process has ended.
    """
    if num_processes() == 1:
        return [value]
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    values: list = [None] * num_processes()
    try:
        distributed.all_gather_object(values, value)
    except RuntimeError as error:
        raise UserError(OTHER_ENDED) from error
    return values
