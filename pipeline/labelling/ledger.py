"""What was sent to a provider and what came of it: one readable JSON file beside the requests.

Which requests a job is of stands in a file of its own, written once, in the folder `jobs` beside
it: a job is fetched and counted whatever became of the requests' file.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import get_origin

import numpy as np

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject, read_json, read_text, write_json, write_text
from pipeline.common.lock import lock
from pipeline.labelling.answer_file import id_of, lines_of
from pipeline.labelling.id_columns import IdColumns, read_columns
from pipeline.labelling.label_sets import answers_elsewhere, folder_of
from pipeline.labelling.requests import Requests
from pipeline.labelling.shards import answer_files, existing_files

# A job's own states, beside those that the provider gives its batch.
PLANNED, UPLOADING, CREATING, SENDING = "planned", "uploading", "creating", "sending"
OUTDATED = "outdated"  # perhaps made, and not to be made any more: it is only looked for
DOWNLOADING = "downloading"  # again: the provider still has what the answers file has lost
COLLECTED, FAILED, REPLACED = "collected", "failed", "replaced"
NAME = re.compile(r"[\w-]*")  # of a part of a file's name


def new_token() -> str:
    """Return a name that no other job has."""
    return secrets.token_hex(8)


@dataclass
class Job:
    """Requests that are sent as one batch or one by one (`chat`).

    `token` names the job to the provider, in the upload's name and the batch's metadata, so that
    what was made just before a crash can be found. `file` is the requests', `label_set` what their
    ids begin with, `settings` what their bodies hold beside the messages.
    """

    file: str
    label_set: str
    model: str
    rows: int
    mode: str
    base_url: str
    settings: JsonObject
    replace_model: str = ""  # what SiliconFlow puts in place of the requests' model
    token: str = field(default_factory=new_token)
    planned: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    status: str = PLANNED
    input_file_id: str = ""
    batch_id: str = ""
    message: str = ""
    ended: float = 0.0  # when its batch was first seen to have ended, in seconds since 1970
    retried: int = 0  # calls that were tried again
    counts: dict = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status not in (COLLECTED, FAILED, REPLACED)

    @property
    def is_sent(self) -> bool:
        """Whether it is open and may have cost something."""
        return self.is_open and self.status not in (PLANNED, UPLOADING)

    def end(self, message: str, counts: dict) -> None:
        """Note that the answers are in their file."""
        self.status, self.message, self.counts = COLLECTED, message, counts
        self.ended = self.ended or time.time()

    def __str__(self) -> str:
        return f"{self.rows:,} requests of {self.file}"


@dataclass
class Ledger:
    """All jobs of a study.

    Answers of `label_set`, the set that is asked for now, go to `answers_file`, those of other
    sets to the sets' folders in `label_sets_dir`.
    """

    path: Path
    base_url: str
    answers_file: str
    label_sets_dir: str
    label_set: str
    jobs: list[Job]
    _unsaved: dict[str, list[str]] = field(default_factory=dict)  # ids, by the token of their job

    @property
    def open_jobs(self) -> list[Job]:
        """The jobs whose answers are not all there."""
        return [job for job in self.jobs if job.is_open]

    def jobs_of(self, label_set: str) -> list[Job]:
        """Return the jobs of a label set whose requests were sent, or are to be."""
        jobs = [job for job in self.jobs if job.label_set == label_set]
        return [job for job in jobs if job.status not in (FAILED, REPLACED)]

    def answers_of(self, job: Job) -> Path:
        """Return the file that a job's answers go to."""
        if job.label_set == self.label_set:
            return Path(self.answers_file)
        folder = folder_of(self.label_sets_dir, job.label_set, job.model)
        return folder / Path(self.answers_file).name

    def answer_lines(self, job: Job) -> Iterator[bytes]:
        """Yield the lines of the files where a job's answers may lie.

        They are sorted into those of label sets only when something is sent.
        """
        elsewhere = answers_elsewhere(self.answers_file, self.label_sets_dir, job.label_set)
        for file in {Path(self.answers_file), elsewhere}:
            yield from lines_of(file)

    def add(self, job: Job, ids: list[str]) -> None:
        """Add a job of the requests with these ids."""
        self.jobs.append(job)
        self.keep(job, ids)

    def keep(self, job: Job, ids: list[str]) -> None:
        """Let a job be one of these requests alone."""
        job.rows, self._unsaved[job.token] = len(ids), ids

    def ids_of(self, job: Job) -> list[str]:
        """Return the ids of a job's requests."""
        if job.token in self._unsaved:
            return self._unsaved[job.token]
        cure = (
            f"restore it from a copy; or, where no batch is under way, move {self.path} away: "
            "comments with a label are not sent again"
        )
        return read_text(self._ids_file(job), cure).split()

    def _ids_file(self, job: Job) -> Path:
        return self.path.parent / "jobs" / f"{job.token}.txt"

    def save(self) -> None:
        """Write what has changed, the jobs last; a killed write leaves the old file."""
        for job in self.jobs:
            if job.token in self._unsaved:
                ids = self._unsaved[job.token]
                write_text("".join(f"{i}\n" for i in ids), self._ids_file(job))
        self._unsaved.clear()
        jobs = [asdict(job) for job in self.jobs]
        record = {"answers_file": _beside(self.path, self.answers_file), "jobs": jobs}
        write_json(record, self.path)


@contextmanager
def open_ledger(
    path: str | Path, base_url: str, answers_file: str, label_sets_dir: str, label_set: str
) -> Iterator[Ledger]:
    """Read the ledger, or begin one, and keep other processes from it and from the answers."""
    path, answers_file = Path(path), Path(answers_file).as_posix()
    with _locked(path), _locked(Path(answers_file)):
        ledger = Ledger(path, base_url, answers_file, label_sets_dir, label_set, [])
        if path.exists():
            cure = f"restore it, or look up at {base_url} what was sent before you delete it"
            into, ledger.jobs = read_jobs(path, cure)
            _check(ledger, into)
        yield ledger


def read_jobs(path: Path, cure: str) -> tuple[str, list[Job]]:
    """Read a ledger as it was saved: the answers file and the jobs."""
    record = read_json(path, cure)
    try:
        json.dumps(record, allow_nan=False)  # a number that is infinite is not saved again
        into = Path(os.path.normpath(path.parent / record["answers_file"])).as_posix()
        if b"\0" in os.fsencode(into):
            raise ValueError
        return into, [_job_of(job) for job in record["jobs"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no state of this submit_batch.py: {cure}") from error


def _job_of(record: JsonObject) -> Job:
    """Return a job as it was saved.

    Raises TypeError where it lacks a field or one has another type, and ValueError where its token
    or its label set, after which files are called, is more than a name.
    """
    job = Job(**record)
    for part in fields(Job):
        kind = (int, float) if part.type is float else get_origin(part.type) or part.type
        if not isinstance(getattr(job, part.name), kind):
            raise TypeError(part.name)
    if not NAME.fullmatch(job.token) or not NAME.fullmatch(job.label_set):
        raise ValueError("token or label_set is no name")
    counted = {name: value for name, value in job.counts.items() if name != "messages"}
    failed = counted.pop("failed", {})
    if not all(isinstance(count, int | float) for count in (*counted.values(), *failed.values())):
        raise TypeError("counts")
    return job


def _beside(path: Path, file: str) -> str:
    """Return how a file is found from the folder of `path`, so that both can be moved together."""
    try:
        return Path(os.path.relpath(file, path.parent)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(file).resolve().as_posix()


def what_was_sent(
    path: str | Path, label_set: str, requests: Requests | None, rows: IdColumns
) -> tuple[np.ndarray, JsonObject]:
    """Return how often each row was sent for a label set, and the settings that most of it had.

    Where the ledger says nothing of the set, all `requests` were sent once, by hand.
    """
    _, jobs = read_jobs(Path(path), "restore it") if Path(path).is_file() else ("", [])
    ledger = Ledger(Path(path), "", "", "", label_set, jobs)
    times = np.zeros(len(rows), np.int64)
    if sent := ledger.jobs_of(label_set):
        for job in sent:
            ids = read_columns(ledger.ids_of(job), label_set)
            places = rows.by_message.find(ids)
            there = places >= 0
            np.maximum.at(times, places[there], ids.tries[there])
        return times, max(sent, key=lambda job: job.rows).settings
    if requests is None:
        return times, {}
    times[requests.ids.by_message.find(rows) >= 0] = 1
    return times, requests.settings


def answers_to_read(
    answers_file: str, state_file: str | Path, label_sets_dir: str | Path, label_set: str
) -> list[Path]:
    """Return the files that hold a set's answers: those that are named, and its folder's.

    Where a single one is named and not there, that to which the ledger says that answers went.
    """
    recorded = Path(state_file).is_file()
    into = read_jobs(Path(state_file), "restore it")[0] if recorded else answers_file
    own = answers_elsewhere(into, label_sets_dir, label_set)
    others = [path for path in (Path(into), own) if path.is_file()]
    is_one = not any(sign in Path(answers_file).name for sign in "*?[,")
    if others and is_one and not existing_files(Path(answers_file)):
        print(f"{answers_file} not found: reading what submit_batch.py received")
        return others
    return [*answer_files(answers_file), *([own] if own in others else [])]


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


def _check(ledger: Ledger, into: str) -> None:
    """Stop where the jobs belong to another provider or file, or their answers are gone."""
    kept = [job for job in ledger.jobs if job.status not in (FAILED, REPLACED)]
    for job in kept:
        if job.base_url != ledger.base_url:
            if job.is_sent and job.mode == "batch":
                raise UserError(
                    f"{ledger.path}: batches are under way at {job.base_url}: give --base-url "
                    f"{job.base_url}"
                )
            job.status = REPLACED if job.status == UPLOADING else job.status
    if Path(into).resolve() != Path(ledger.answers_file).resolve() and kept:
        raise UserError(
            f"{ledger.path}: the answers so far are in {into}: give --answers-file {into}, or "
            "another --state-file to start anew"
        )
    there: dict[str, set[str]] = {}
    for job in kept:
        if job.status != COLLECTED:
            continue
        if job.label_set not in there:
            there[job.label_set] = set(map(id_of, ledger.answer_lines(job)))
        got = job.counts.get("answered", 0) + sum(job.counts.get("failed", {}).values())
        if len(there[job.label_set].intersection(ledger.ids_of(job))) >= got:
            continue
        if job.mode == "chat" or job.base_url != ledger.base_url:
            raise UserError(
                f"{ledger.answers_of(job)} has lost answers that were paid for: put it back, or "
                f"move {ledger.path} away to pay again"
            )
        job.status = DOWNLOADING
