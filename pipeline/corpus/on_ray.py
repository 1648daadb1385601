"""The parts of a corpus coded by Ray Data: on the cores or GPUs of one machine, or of a cluster.

Parts are read by tasks, coded by a pool of `BatchCoder` and written by tasks. What is on its way is
in memory, and nothing of the rows that are done. Needs requirements-ray.txt.
"""

import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import ray
import ray.data
from ray.data.block import Block, BlockAccessor, BlockMetadata
from ray.data.datasource import Datasink, Datasource, ReadTask

from pipeline.coding.model import FoundModel
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.corpus.batch_coder import BatchCoder
from pipeline.corpus.pieces import Piece, read_piece, write_codes

PROJECT = Path(__file__).resolve().parents[2]
CORES_TO_READ = 1  # beside the workers', for the tasks that read and write
# The path of a socket below it may have 107 bytes, on macOS 103, where the usual folder has many.
TEMPORARY = Path("/tmp" if os.name == "posix" else tempfile.gettempdir())


class Pieces(Datasource):
    """Reads each part of a corpus by a task of its own."""

    def __init__(self, pieces: list[Piece]) -> None:
        super().__init__()
        self._pieces = pieces

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all parts, or their rows where the files are .parquet."""
        return sum(piece.part.end - piece.part.start for piece in self._pieces)

    def get_read_tasks(self, parallelism: int, per_task_row_limit=None, data_context=None):
        """Return a task for each part; `parallelism` is the number of parts."""
        return [
            ReadTask(partial(_rows_of, piece, number), _metadata(piece))
            for number, piece in enumerate(self._pieces)
        ]


def _rows_of(piece: Piece, number: int) -> list[Block]:
    return [read_piece(piece, number)]


def _metadata(piece: Piece) -> BlockMetadata:
    return BlockMetadata(
        num_rows=piece.part.to_code, size_bytes=None, exec_stats=None, input_files=None
    )


class Codes(Datasink[int]):
    """Writes the codes of each part as a file of its own."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces

    def write(self, blocks: Iterable[Block], ctx) -> int:
        """Write the parts of some blocks; return the number of rows."""
        tables = (BlockAccessor.for_block(block).to_arrow() for block in blocks)
        return sum(write_codes(self._pieces, table) for table in tables)


def code_on_ray(
    waiting: list[Piece],
    found: FoundModel,
    codebook: Codebook,
    threshold: float | None,
    dtype: str,
    workers: int,
) -> None:
    """Write the codes of the parts; `workers` 0 is one for each GPU, else one for each core.

    Raises UserError where a worker did, and where the machines have fewer cores than workers.
    """
    options = replace(
        found.options,
        path=str(Path(found.options.path).resolve()),
        base_path=str(Path(found.base_path).resolve()),
    )
    with _running(workers, Path(waiting[0].codes).parent):
        gpus, cores = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        size = min(workers or gpus or cores - CORES_TO_READ, len(waiting))
        if size > (gpus or cores - CORES_TO_READ) or size < 1:
            have = f"{gpus} GPUs" if gpus else f"{cores} cores, of which {CORES_TO_READ} reads"
            raise UserError(
                f"--workers {size}: the machines have {have}: give fewer, or more machines"
            )
        print(f"Ray: {size} workers, on {'a GPU' if gpus else 'a core'} each")
        try:
            _read(waiting).map_batches(
                BatchCoder,
                fn_constructor_args=(options, codebook, threshold, dtype),
                batch_size=None,  # a part, as in one process
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=size),
                num_cpus=1,
                num_gpus=int(gpus > 0),
            ).write_datasink(Codes(waiting))
        except ray.exceptions.RayError as error:
            raise _mistake_in(error) or error from None


def _read(waiting: list[Piece]) -> ray.data.Dataset:
    return ray.data.read_datasource(Pieces(waiting), override_num_blocks=len(waiting))


def _mistake_in(error: Exception) -> UserError | None:
    """Return the user's mistake that a worker stopped with, None where it was no such mistake.

    It comes as text: what an error was raised from is lost on its way between processes.
    """
    found = re.search(rf"^{UserError.__module__}\.UserError: (.+)$", str(error), re.MULTILINE)
    return found and UserError(found[1])


@contextmanager
def _running(workers: int, results: Path) -> Iterator[None]:
    """Connect to the cluster of the environment, or run Ray on this machine until the end.

    On this machine Ray's logs and sockets lie in a folder for temporary files that goes at the end;
    that of a run which was killed goes when the next one for the same `results` begins.
    """
    mark, folder = mark_of(results), None
    paths = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    start = {"runtime_env": {"env_vars": {"PYTHONPATH": paths}}}
    if "RAY_ADDRESS" not in os.environ:
        for left in TEMPORARY.glob(f"{mark}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.mkdtemp(prefix=mark, dir=TEMPORARY)
        start |= {
            "num_cpus": (workers or os.cpu_count() or 1) + CORES_TO_READ,
            "include_dashboard": False,
            "_temp_dir": folder,
        }
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **start)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs what it raises
        shown = ray.data.DataContext.get_current()
        shown.enable_progress_bars, shown.enable_operator_progress_bars = sys.stderr.isatty(), False
        yield
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def mark_of(results: Path) -> str:
    """Return how the names of Ray's folders begin, of the runs that write into a folder."""
    return f"ray-{hashlib.sha256(str(results).encode()).hexdigest()[:8]}-"
