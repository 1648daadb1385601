"""What was sent to a provider and what came of it: one readable JSON file beside the requests."""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.files import read_json, write_json
from pipeline.common.lock import lock
from pipeline.labelling.labels import labelled_ids
from pipeline.labelling.requests import Requests, read_span

# A job's own states, beside those that the provider gives its batch.
PLANNED, UPLOADING, CREATING, SENDING = "planned", "uploading", "creating", "sending"
COLLECTED, FAILED, REPLACED = "collected", "failed", "replaced"


@dataclass
class Job:
    """Requests `first` to `last` (from 1) of a file, sent as one batch or one by one (`chat`).

    `token` names the job to the provider, in the upload's name and the batch's metadata, so that
    what was made just before a crash can be found. `sha256` is that of the requests' lines.
    """

    file: str
    first: int
    last: int
    sha256: str
    mode: str
    offset: int = 0  # bytes of the answers file when the job was planned
    replace_model: str = ""  # what SiliconFlow puts in place of the requests' model
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    planned: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    status: str = PLANNED
    input_file_id: str = ""
    batch_id: str = ""
    message: str = ""
    ended: float = 0.0  # seconds since 1970
    retried: int = 0  # calls that were tried again
    counts: dict = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status not in (COLLECTED, FAILED, REPLACED)

    @property
    def is_sent(self) -> bool:
        """Whether it is open and may have cost something."""
        return self.is_open and self.status not in (PLANNED, UPLOADING)

    @property
    def rows(self) -> int:
        return self.last - self.first + 1

    def end(self, message: str, counts: dict) -> None:
        """Note that the answers are in the answers file."""
        self.status, self.message, self.counts, self.ended = COLLECTED, message, counts, time.time()

    def __str__(self) -> str:
        return f"{self.file}, requests {self.first:,} to {self.last:,}"


@dataclass
class Ledger:
    """All jobs whose answers go to one file, at one provider."""

    path: Path
    base_url: str
    answers_file: str
    jobs: list[Job]

    @property
    def open_jobs(self) -> list[Job]:
        """The jobs whose answers are not all there."""
        return [job for job in self.jobs if job.is_open]

    def jobs_of(self, file: str) -> list[Job]:
        """Return the jobs of a request file that count, in the file's order."""
        jobs = [job for job in self.jobs if job.file == file]
        kept = [job for job in jobs if job.status not in (FAILED, REPLACED)]
        return sorted(kept, key=lambda job: job.first)

    def save(self) -> None:
        """Write the file; a killed write leaves the old one."""
        record = asdict(self)
        del record["path"]
        write_json(record, self.path)


@contextmanager
def open_ledger(path: str | Path, base_url: str, answers_file: str) -> Iterator[Ledger]:
    """Read the ledger, or begin one, and keep other processes from it and from the answers."""
    path, answers_file = Path(path), Path(answers_file).as_posix()
    with _locked(path), _locked(Path(answers_file)):
        ledger = Ledger(path, base_url, answers_file, [])
        if path.exists():
            cure = f"restore it, or look up at {base_url} what was sent before you delete it"
            saved = read_ledger(path, cure)
            ledger.jobs = saved.jobs
            _check(ledger, saved.base_url, saved.answers_file)
        yield ledger


def read_ledger(path: Path, cure: str) -> Ledger:
    """Read a ledger as it was saved."""
    record = read_json(path, cure)
    try:
        jobs = [Job(**job) for job in record["jobs"]]
        return Ledger(path, record["base_url"], record["answers_file"], jobs)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is no state of submit_batch.py: {cure}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from a file; the system frees the lock of a process that is killed."""
    try:
        held = lock(path, "submit_batch.py")
    except OSError as error:
        raise UserError(
            f"cannot lock {path} ({error.strerror or error}): keep the study on a disk of this "
            "machine, in a folder that you may write to"
        ) from error
    try:
        yield
    finally:
        held.release()


def _check(ledger: Ledger, at: str, into: str) -> None:
    """Stop where the jobs belong to another provider or file, or their answers are gone."""
    kept = [job for job in ledger.jobs if job.status not in (FAILED, REPLACED)]
    if at != ledger.base_url:
        if any(job.is_sent and job.mode == "batch" for job in kept):
            raise UserError(f"{ledger.path}: batches are under way at {at}: give --base-url {at}")
        for job in kept:
            job.status = REPLACED if job.status == UPLOADING else job.status
    if Path(into) != Path(ledger.answers_file) and kept:
        raise UserError(
            f"{ledger.path}: the answers so far are in {into}: give --answers-file {into}, or "
            "another --state-file to start anew"
        )
    size = _size(into)
    for job in kept:
        if job.mode == "chat" and size < job.offset + (job.status == COLLECTED):
            raise UserError(
                f"{into} has lost answers that were paid for: put it back, or move {ledger.path} "
                "away to pay again"
            )
        if job.mode == "batch" and job.status == COLLECTED and not size:
            job.status = "downloading"  # the provider still has the files


def plan(
    ledger: Ledger,
    requests: Requests,
    mode: str,
    replace_model: str,
    limit: int,
) -> list[Job]:
    """Add a job for each span of requests that none covers yet; return these new jobs.

    Jobs of which nothing was sent or answered are planned anew, and so are those of a retry that
    brought no label once it is written again. `limit` (0 = none) is how many requests may be sent
    in all, from the first on. Stops where the requests of a job under way have changed or belong to
    another file, and where one has a label already.
    """
    labelled = cache(lambda: labelled_ids(ledger.answers_file, requests.prompt))
    offset = _size(ledger.answers_file)
    ledger.jobs = [
        job
        for job in ledger.jobs
        if job.status != PLANNED and not (job.status == SENDING and job.offset == offset)
    ]
    for job in ledger.jobs:
        if job.status == UPLOADING and (
            (job.mode, job.replace_model) != (mode, replace_model) or job.file not in requests.files
        ):
            job.status = REPLACED
        if job.is_open and job.file not in requests.files:
            raise UserError(
                f"{ledger.path}: {job} are under way: run submit_batch.py for that file first"
            )
    left = limit or len(requests)
    new: list[Job] = []
    for name, ids in requests.ids.items():
        start = 1  # the first request after those that a job has
        for job in [*_current(ledger, requests, name, labelled), None]:
            if job and job.replace_model != replace_model:
                raise UserError(
                    f"{ledger.path}: {job} were sent with --replace-model "
                    f"'{job.replace_model}': give the same for the rest"
                )
            end = min(job.first - 1 if job else len(ids), start + left - 1)
            if start <= end:
                digest = _digest(requests.files[name], start, end)
                new.append(Job(name, start, end, digest, mode, offset, replace_model))
                left -= end - start + 1
            if job:
                start, left = job.last + 1, max(0, left - job.rows)
    if new and (again := {i for job in new for i in requests.ids_of(job)} & labelled()):
        raise UserError(
            f"{len(again):,} of these requests have a label in {ledger.answers_file} already: run "
            "jsonl_to_csv.py and send its retry file, or give another --answers-file and "
            "--state-file"
        )
    ledger.jobs += new
    return new


def _current(
    ledger: Ledger, requests: Requests, name: str, labelled: Callable[[], set[str]]
) -> list[Job]:
    """Return the jobs of a file as it is now, in its order.

    Jobs of requests that have changed become `replaced`. `labelled()` are the ids with a label.
    """
    file = requests.files[name]
    for job in ledger.jobs_of(name):
        if _digest(file, job.first, job.last) != job.sha256:
            if job.is_sent:
                raise UserError(
                    f"{file} has changed since its requests {job.first:,} to {job.last:,} were "
                    f"sent ({job.batch_id or job.mode}): restore it by the same run of "
                    "batch_infer_gen.py, or give them up: cancel the batch at the provider and "
                    f"delete {ledger.path}"
                )
            job.status = REPLACED
            continue
        written_anew = job.status == COLLECTED and file.stat().st_mtime > job.ended
        if written_anew and labelled().isdisjoint(requests.ids_of(job)):
            job.status = REPLACED
    return ledger.jobs_of(name)


def _digest(file: Path, first: int, last: int) -> str:
    return hashlib.sha256(read_span(file, first, last)).hexdigest()


def _size(path: str | Path) -> int:
    return Path(path).stat().st_size if Path(path).is_file() else 0
