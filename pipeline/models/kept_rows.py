"""Rows that a run has finished: kept as they come, so that the same command goes on after a kill.

In the folder `unfinished` of a run's results each process appends its batches to a file of its own,
a line each, with a checksum. No later run changes a file; it begins another. The first line says
what the values depend on: where anything of it is different, they are not used. The files go away
when the results are complete.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from io import FileIO
from itertools import chain
from os import fsync
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject
from pipeline.common.lock import lock, remove_lock
from pipeline.common.processes import is_main_process, process_index
from pipeline.models.kept_lines import (
    Batch,
    Values,
    batch_of,
    checksum,
    differences,
    is_finite,
    line_of,
    line_of_batch,
    read_lines,
)

UNFINISHED = "unfinished"
FORMAT = 1  # to be raised where the code computes other values, or lines have another form
SECONDS_TO_DISK = 5  # what a power failure may cost; of a killed process the system writes all
NAME = re.compile(r"(.+)-([0-9a-f]{16})-(\d+)-(\d+)\.jsonl")  # values, what of, run, process


@dataclass(frozen=True)
class Found:
    """What earlier runs have kept: batches, the seconds they took, how large a batch could be.

    `limit` is in rows or tokens, 0 where it is not known; `run` is the number of the next run.
    """

    batches: list[Batch] = field(default_factory=list)
    seconds: float = 0.0
    limit: int = 0
    run: int = 1


class KeptRows:
    """The finished rows of a run whose results are written into a folder."""

    def __init__(self, results: Path):
        self.results, self.folder = results, results / UNFINISHED
        self.of, self.all_depend_on = "", dict[str, Any]()
        self.parts: list[KeptPart] = []
        self.held: FileLock | None = None

    def claim(self) -> None:
        """Keep other runs from the folder of the results; the main process does so for all.

        On a disk that knows no locks nobody has one. Raises UserError where another run is at work.
        """
        if is_main_process() and self.held is None:
            with suppress(OSError):
                self.held = lock(self.results, "run")

    def of_part(self, name: str, **all_depend_on: Any) -> "KeptRows":
        """Return the same rows for a part of the run, whose values have names of their own.

        `all_depend_on` is what all of its values follow from.
        """
        part = copy(self)
        part.of, part.all_depend_on = f" {name}", all_depend_on
        return part

    def part(self, what: str, **depends_on: Any) -> "KeptPart":
        """Return where the values of a computation are kept, with those that are there.

        `what` is the computation's name in the run, `depends_on` all that its values follow from
        but for the device, the precision and the packages' versions. Every process must call it.
        """
        from pipeline.common.machine import compute_dtype, describe_device, dtype_name, versions
        from pipeline.models.in_batches import gathered

        machine = {
            "format": FORMAT,
            "device": describe_device(),
            "dtype": dtype_name(compute_dtype()),
            "versions": versions(),
        }
        depends_on = machine | self.all_depend_on | depends_on
        part = KeptPart(self.folder, what + self.of, depends_on)
        part.found = gathered(part.read() if is_main_process() else Found())[0]
        self.parts.append(part)
        return part

    def remove(self, **depends_on: Any) -> None:
        """Delete the rows of killed runs that follow from this, as they stand elsewhere by now."""
        for path in self.folder.glob("*.jsonl"):
            header = next(read_lines(path), None) or {}
            if depends_on.items() <= header.get("depends_on", {}).items():
                path.unlink()

    def complete(self) -> None:
        """Delete the rows that the results have replaced; say where those of another run remain."""
        for part in self.parts:
            for path in part.files():
                path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or not empty
            self.folder.rmdir()
        if self.folder.is_dir():
            print(
                f"{self.folder} still holds rows of an interrupted run with other settings: delete "
                "it if that run is not to go on"
            )


class KeptPart:
    """The values of one computation: those that are there, and the file that takes new ones."""

    def __init__(self, folder: Path, what: str, depends_on: JsonObject):
        text = json.dumps(depends_on, sort_keys=True)
        self.folder, self.what, self.name = folder, what, what.replace(" ", "-")
        self.depends_on, self.fingerprint = json.loads(text), checksum(text.encode())
        self.found, self.limit = Found(), 0
        self.file: FileIO | None = None
        self.last_kept = self.last_to_disk = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds that earlier runs took for the batches that are there."""
        return self.found.seconds

    @property
    def pieces(self) -> int:
        """In how many parts the batches were cut at last, 1 where they were whole."""
        return max((batch.pieces for batch in self.found.batches), default=1)

    def files(self) -> list[Path]:
        """Return the files of this computation, of all processes, in the order of the runs."""
        found = self.folder.glob(f"{self.name}-{self.fingerprint}-*.jsonl")
        return sorted(found, key=run_and_process)

    def read(self) -> Found:
        """Return what earlier runs have kept; say what of it cannot be used."""
        self.tell_of_other_runs()
        batches: list[Batch] = []
        seconds: dict[int, list[float]] = defaultdict(list)
        limit = run = 0
        for path in self.files():
            run, _ = run_and_process(path)
            lines = read_lines(path)
            header = next(lines, {})  # a file may be empty
            if header is None:
                print(f"{path}: the first line is damaged; its rows are computed again")
            if not header or header.get("depends_on") != self.depends_on:
                continue
            there = [line and batch_of(line) for line in lines]
            whole = [batch for batch in there if batch is not None]
            if damaged := len(there) - len(whole):
                print(f"{path}: {damaged:,} lines are damaged; their rows are computed again")
            limit = limit or header["limit"]
            batches += whole
            seconds[run].append(sum(batch.seconds for batch in whole))
        return Found(batches, sum(map(max, seconds.values())), limit, run + 1)

    def tell_of_other_runs(self) -> None:
        """Say in a line for each other run what is there of it, and in what it differs."""
        others: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.glob(f"{self.name}-*.jsonl")):
            match = NAME.fullmatch(path.name)
            if match and match[1] == self.name and match[2] != self.fingerprint:
                others[match[2]].append(path)
        for paths in others.values():
            rows, before = 0, {}
            for line in filter(None, chain.from_iterable(map(read_lines, paths))):
                rows += len(line.get("rows", []))
                before |= line.get("depends_on", {})
            print(
                f"{self.folder} holds {rows:,} rows of an interrupted run that differs in "
                f"{differences(before, self.depends_on)}: they are not used, and stay there for "
                "the same command with what it had"
            )

    def finished(self, batches: Sequence[Sequence[int]]) -> dict[int, Any]:
        """Return row -> value of what earlier runs have kept, and say how many rows that is.

        `batches` are those of this run, whose clock starts here. The values of rows that no batch
        holds together, and values that are not finite, are left out.
        """
        self.last_kept = time.perf_counter()
        batch_of_row = {row: n for n, batch in enumerate(batches) for row in batch}
        values: dict[int, Any] = {}
        for batch in self.found.batches:
            together = {batch_of_row.get(row) for row in batch.rows}
            if len(together) == 1 and None not in together and is_finite(batch.values):
                values |= zip(batch.rows, batch.values, strict=True)
        if values:
            print(
                f"{self.what}: {len(values):,} of {len(batch_of_row):,} rows were there from a run "
                "that was interrupted"
            )
        return values

    def keep(self, rows: list[int], values: Values, pieces: int = 1) -> None:
        """Append the values of a batch; raises UserError where the disk does not take them."""
        now = time.perf_counter()
        if self.file is None:
            self.append(line_of({"depends_on": self.depends_on, "limit": self.limit}))
        self.append(line_of_batch(Batch(rows, values, pieces, now - self.last_kept)))
        self.last_kept = now

    def append(self, line: bytes) -> None:
        """Append a line to this process's file, which the first line makes."""
        left = memoryview(line)
        name = f"{self.name}-{self.fingerprint}-{self.found.run}-{process_index()}.jsonl"
        try:
            if self.file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.file = FileIO(self.folder / name, "x")
            while left:  # a disk that is nearly full takes a part
                left = left[self.file.write(left) :]
            if time.perf_counter() - self.last_to_disk > SECONDS_TO_DISK:
                fsync(self.file)
                self.last_to_disk = time.perf_counter()
        except OSError as error:
            self.close()
            raise UserError(
                f"cannot write {self.folder / name} ({error.strerror}): check the free space, the "
                "folder and its permissions, and run the same command again: the finished rows "
                "are kept"
            ) from error

    def close(self) -> None:
        """End this process's file."""
        if self.file is not None:
            with suppress(OSError):
                self.file.close()

    def whole(self, num_rows: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the values of rows that `compute` gives together, or those that are there."""
        rows = list(range(num_rows))
        there = self.finished([rows])
        if len(there) == num_rows:
            return np.stack([there[row] for row in rows])
        values = compute()
        self.keep(rows, values)
        self.close()
        return values


@contextmanager
def keeping_rows(results: Path) -> Iterator[KeptRows]:
    """Yield the finished rows of a run, which are deleted where it ends without an error.

    The results must have been written into the folder `results` then.
    """
    kept = KeptRows(results)
    try:
        yield kept
        if is_main_process():
            kept.complete()
    finally:
        for part in kept.parts:
            part.close()
        if kept.held is not None:
            remove_lock(kept.held)


def limit_of(kept: KeptPart | None, choose: Callable[[], int]) -> int:
    """Return how large a batch may be: as in the run that was interrupted, else as `choose` says.

    The free memory of the moment, by which it is chosen, would make other batches, and these values
    that differ in their last bits.
    """
    if kept is None:
        return choose()
    kept.limit = kept.found.limit or choose()
    return kept.limit


def run_and_process(path: Path) -> tuple[int, int]:
    """Return the numbers of the run and the process that wrote a file."""
    *_, run, process = path.stem.split("-")
    return int(run), int(process)
