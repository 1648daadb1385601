"""A corpus coded: a folder of .csv or .parquet, file by file in this process, or on Ray.

The results are a folder: `codes` holds a .parquet for each part of the corpus, `manifest.json` says
what they are, `failed.csv` lists the rows whose message is no text, `survey` what the corpus holds.
The same command goes on after a kill, and takes in files that have come since.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.coding.check_rule import CheckRule
from pipeline.coding.model import FoundModel, fingerprint_of
from pipeline.coding.sheet_rows import refuse_unmasked
from pipeline.common.cli import UserError, option_of
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs
from pipeline.common.processes import is_main_process
from pipeline.common.records import write_record
from pipeline.common.tables import PART, write_csv
from pipeline.corpus.batch_coder import SHORTENED, BatchCoder
from pipeline.corpus.corpus_files import Columns
from pipeline.corpus.manifest import (
    MANIFEST_FILE,
    CorpusFile,
    Manifest,
    depends_on,
    read_manifest,
    refuse_another,
)
from pipeline.corpus.pieces import Piece, pieces_of, read_piece, write_codes
from pipeline.corpus.survey import Survey, survey_corpus

HERE, RAY = ENGINES = "", "ray"
FAILED_FILE = "failed.csv"
CLUSTER = "RAY_ADDRESS"  # of the environment: where a cluster is, "auto" on one of its machines
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
ALONE = {  # no address but loopback, and who connects needs the token of this run
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}
NO_RAY = "--engine ray needs Ray: run pip install -r requirements-ray.txt"


@dataclass(frozen=True)
class Engine:
    """Where parts are coded: `name` is one of `ENGINES`, `dtype` that of `start_run`.

    `workers` are Ray's; 0 is one for each GPU, else one for each core.
    """

    name: str = HERE
    workers: int = 0
    dtype: str = "auto"


def is_corpus(settings: dict[str, Any]) -> bool:
    """Return whether code_comments.py is to code a folder, by its settings.

    Raises UserError where a setting of spreadsheets was given for a folder, or the other way round.
    """
    path = settings["excel_file"]
    folder = Path(path).is_dir()
    kinds = ("a spreadsheet", "a folder") if folder else ("a folder", "a spreadsheet")
    for name in ("user_column", "label_column") if folder else ("engine", "workers"):
        if settings[name]:
            raise UserError(
                f"{option_of(name)} {settings[name]} is for {kinds[0]}, and {path} is {kinds[1]}: "
                "leave it out"
            )
    if folder:
        refuse_unmasked(settings["masked_file"], settings["mask_personal_data"])
    return folder


def code_corpus(
    input_dir: str,
    output_dir: str,
    columns: Columns,
    found: FoundModel,
    codebook: Codebook,
    rule: CheckRule,
    engine: Engine,
    settings: dict[str, Any],
    rows_per_part: int = PART,
) -> None:
    """Code the comments of a folder's files, and write a folder of .parquet with their codes.

    Rows that are coded are not computed again. `settings` are those of the script, for the record.
    Raises UserError where the folder of results is of another model, codebook or rule, where a
    number is not finite, and see `survey_corpus`.
    """
    if engine.name not in ENGINES:
        raise UserError(f"--engine {engine.name}: give ray, or leave it out for this process")
    code = code_here if engine.name == HERE else _ray_engine(engine.workers)
    output = Path(output_dir)
    from pipeline.models.in_batches import gathered

    now = depends_on(found, codebook, columns, rule.threshold, engine.dtype)
    record = Manifest(
        fingerprint=fingerprint_of(now),
        depends_on=now,
        input_dir=input_dir,
        model=found.options.path,
        class_names=list(codebook.names),
        codebook_sha256=codebook.sha256,
        threshold=rule.threshold,
        plan=rule.plan,
        engine=engine.name,
        settings=settings,
    )
    job = None
    if is_main_process():
        job = _prepare(record, output, columns, rows_per_part)
    job = gathered(job)[0]
    start = time.perf_counter()
    if job.waiting:
        if engine.name == RAY and found.options.base_url:  # what a worker prints is not shown
            from pipeline.coding.server import say_where_comments_go

            say_where_comments_go(found.options.base_url, _rows_in(job.waiting))
        code(job.waiting, found, codebook, rule.threshold, engine.dtype)
    if is_main_process():
        _finish(record, output, job, time.perf_counter() - start)


@dataclass(frozen=True)
class Job:
    """What a corpus holds, and the parts of it whose codes are not there."""

    surveys: list[Survey]
    pieces: list[Piece]
    waiting: list[Piece]


def _prepare(record: Manifest, output: Path, columns: Columns, rows_per_part: int) -> Job:
    """Return what is to be done, say what is there, and write what the codes will depend on."""
    check_outputs([output / MANIFEST_FILE, output / FAILED_FILE])
    before = read_manifest(output)
    if before and before.fingerprint != record.fingerprint:
        if any((output / "codes").glob("*.parquet")):
            refuse_another(output, before, record)
        shutil.rmtree(output / "survey", ignore_errors=True)  # nothing was coded by it
    surveys, new = survey_corpus(record.input_dir, columns, output / "survey", rows_per_part)
    pieces = pieces_of(record.input_dir, columns, surveys, output / "codes")
    waiting = [piece for piece in pieces if not Path(piece.codes).is_file()]
    rows, left = _rows_in(pieces), _rows_in(waiting)
    print(f"{record.input_dir}: {len(surveys):,} files, {new:,} new; {rows:,} comments to code")
    if left < rows:
        print(f"{rows - left:,} comments were coded by an earlier run, {left:,} are left")
    write_record(replace(record, waiting=left), output / MANIFEST_FILE)
    return Job(surveys, pieces, waiting)


def _rows_in(pieces: list[Piece]) -> int:
    return sum(piece.part.to_code for piece in pieces)


def _ray_engine(workers: int) -> Callable:
    """Return what codes parts on Ray, which reads `RAY_SETTINGS` when it is imported.

    Raises UserError where it is not installed.
    """
    os.environ.update(RAY_SETTINGS)
    if CLUSTER not in os.environ:
        os.environ.update(ALONE, RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        from pipeline.corpus.on_ray import code_on_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(NO_RAY) from error
    return partial(code_on_ray, workers=workers)


def code_here(
    waiting: list[Piece],
    found: FoundModel,
    codebook: Codebook,
    threshold: float | None,
    dtype: str,
) -> None:
    """Write the codes of the parts, one after another, in this process.

    Of several processes, as torchrun starts them, each computes its share of a part.
    """
    coder = BatchCoder(found.options, codebook, threshold, dtype)
    with tqdm(total=_rows_in(waiting), unit=" comments", disable=None) as bar:
        for number, piece in enumerate(waiting):
            coded = coder(read_piece(piece, number))
            if is_main_process():
                write_codes(waiting, coded)
            bar.update(len(coded))


def _finish(record: Manifest, output: Path, job: Job, seconds: float) -> None:
    """Write the manifest and the list of failed rows; say how many rows became what.

    Raises RuntimeError where the files of codes are not those of all comments.
    """
    from pyarrow import parquet

    coded = shortened = checked = 0
    classes = np.zeros(len(record.class_names), int)
    for piece in job.pieces:
        codes = parquet.read_table(piece.codes, columns=["class", "check"])
        coded += len(codes)
        shortened += int(codes.schema.metadata[SHORTENED.encode()])
        checked += int(codes["check"].to_pandas().sum())
        classes += np.bincount(codes["class"], minlength=len(classes))
    files = [
        CorpusFile(s.name, s.sha256, s.rows, s.to_code, s.empty, len(s.failures))
        for s in job.surveys
    ]
    rows, empty, failed = (
        sum(getattr(file, name) for file in files) for name in ("rows", "empty", "failed")
    )
    if coded + empty + failed != rows:
        raise RuntimeError(f"{coded} coded, {empty} empty and {failed} failed of {rows} rows")
    failures = [(s.name, f.row, f.custom_id, f.reason) for s in job.surveys for f in s.failures]
    write_csv(
        pd.DataFrame(failures, columns=["file", "row", "custom_id", "reason"]), output / FAILED_FILE
    )
    computed = _rows_in(job.waiting)
    done = replace(
        record,
        files=files,
        rows=rows,
        coded=coded,
        empty=empty,
        failed=failed,
        computed=computed,
        shortened=shortened,
        class_counts=dict(zip(record.class_names, classes.tolist(), strict=True)),
        checked=checked,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
    )
    write_record(done, output / MANIFEST_FILE)
    print(f"{rows:,} rows: {coded:,} coded, {empty:,} empty, {failed:,} failed ({FAILED_FILE})")
    print(f"wrote {output / 'codes'}: {computed:,} comments now, {coded:,} in all")
