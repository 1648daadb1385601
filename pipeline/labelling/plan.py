"""Which requests are to be sent: those that nobody was asked, as jobs that a provider takes."""

from collections.abc import Collection, Iterable, Iterator
from functools import partial

from pipeline.common.cli import UserError
from pipeline.labelling.answer_file import count_answers, id_of
from pipeline.labelling.ids import REPEAT, plain_id, rank
from pipeline.labelling.ledger import (
    CREATING,
    OUTDATED,
    PLANNED,
    REPLACED,
    SENDING,
    UPLOADING,
    Job,
    Ledger,
)
from pipeline.labelling.requests import Requests


def plan(
    ledger: Ledger,
    requests: Requests,
    labelled: Collection[str],
    mode: str,
    replace_model: str,
    limit: int,
    seed: int,
) -> list[Job]:
    """Add jobs for the requests that are to be sent; return these new jobs.

    A request is not sent where it was sent before, is under way, or has a label. `labelled` holds
    plain ids. Of what was planned or sent one by one and not answered, nothing is paid: it is
    planned anew. `limit` (0 = none) is how many of the requests may be sent in all: a random part,
    the same for the same `seed`.
    """
    drop_unsent(ledger, requests, mode, replace_model)
    jobs = ledger.jobs_of(requests.label_set)
    for job in jobs:
        if job.replace_model != replace_model:
            raise UserError(
                f"{ledger.path}: {job} were sent with --replace-model '{job.replace_model}': give "
                "the same for the rest"
            )
    asked = {custom_id for job in jobs for custom_id in ledger.ids_of(job)}
    under_way = [i for job in jobs if job.is_open for i in ledger.ids_of(job)]
    known = {plain_id(custom_id) for custom_id in under_way if REPEAT not in custom_id}
    known.update(labelled)
    left = [
        custom_id
        for custom_id in requests.position
        if custom_id not in asked and (REPEAT in custom_id or plain_id(custom_id) not in known)
    ]
    if limit:
        free = max(0, limit - (len(requests) - len(left)))
        chosen = set(sorted(left, key=partial(rank, seed=seed))[:free])
        left = [custom_id for custom_id in left if custom_id in chosen]
    new, settings = [], next(requests.read(left)).settings if left else {}
    for ids in in_parts(left, requests) if mode == "batch" else [left] * bool(left):
        job = Job(
            requests.name,
            requests.label_set,
            requests.model,
            len(ids),
            mode,
            ledger.base_url,
            settings,
            replace_model,
        )
        ledger.add(job, ids)
        new.append(job)
    return new


def in_parts(ids: Iterable[str], requests: Requests) -> Iterator[list[str]]:
    """Yield parts that are no larger than the largest file of the requests: a provider takes it."""
    most, most_bytes = requests.largest
    part: list[str] = []
    size = 0
    for custom_id in ids:
        length = requests.size_of(custom_id)
        if part and (len(part) == most or size + length > most_bytes):
            yield part
            part, size = [], 0
        part.append(custom_id)
        size += length
    if part:
        yield part


def drop_unsent(ledger: Ledger, requests: Requests, mode: str, replace_model: str) -> None:
    """Take out of the ledger what was not sent, and cannot or need not go on as it was planned.

    A batch of another label set that may have been made is looked for, and not made.
    """
    kept = []
    for job in ledger.jobs:
        if job.status == PLANNED:
            continue
        if job.status == UPLOADING and not (
            (job.mode, job.replace_model) == (mode, replace_model)
            and requests.position.keys() >= set(ledger.ids_of(job))
        ):
            job.status = REPLACED
        if job.status in (CREATING, OUTDATED):
            job.status = CREATING if job.label_set == requests.label_set else OUTDATED
        if job.status == SENDING and not end_interrupted(ledger, job):
            continue
        kept.append(job)
    ledger.jobs = kept


def end_interrupted(ledger: Ledger, job: Job) -> bool:
    """End a job that was sent one by one, with the answers that came; return whether any did."""
    ids = set(ledger.ids_of(job))
    lines = {line for line in ledger.answer_lines(job) if id_of(line) in ids}
    answered = {id_of(line) for line in lines}
    if answered:
        ledger.keep(job, [custom_id for custom_id in ledger.ids_of(job) if custom_id in answered])
        job.end("interrupted", count_answers(lines, answered))
    return bool(answered)
