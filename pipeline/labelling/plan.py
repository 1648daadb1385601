"""Which requests are to be sent: those that nobody was asked, as jobs that a provider takes."""

from collections.abc import Iterator
from heapq import nsmallest

import numpy as np

from pipeline.common.cli import UserError
from pipeline.labelling.answer_file import count_answers, id_of
from pipeline.labelling.id_columns import read_columns
from pipeline.labelling.ids import rank
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
    labelled: np.ndarray,
    mode: str,
    replace_model: str,
    limit: int,
    seed: int,
) -> list[Job]:
    """Add jobs for the requests that are to be sent; return these new jobs.

    A request is not sent where it was sent before, is under way, or has a label: `labelled`, a bool
    (requests,), says which rows have one. Of what was planned or sent one by one and not answered,
    nothing is paid: it is planned anew. `limit` (0 = none) is how many of the requests may be sent
    in all: a random part, the same for the same `seed`.
    """
    drop_unsent(ledger, requests, mode, replace_model)
    jobs = ledger.jobs_of(requests.label_set)
    for job in jobs:
        if job.replace_model != replace_model:
            raise UserError(
                f"{ledger.path}: {job} were sent with --replace-model '{job.replace_model}': give "
                "the same for the rest"
            )
    ids = requests.ids
    asked, known = np.zeros(len(requests), bool), labelled.copy()
    for job in jobs:
        sent = read_columns(ledger.ids_of(job), requests.label_set)
        places = requests.places(sent)
        asked[places[places >= 0]] = True
        if job.is_open:
            known |= sent.only(sent.mark >= 0).by_message.find(ids) >= 0
    left = np.flatnonzero(~asked & ((ids.mark < 0) | ~known))
    if limit:
        free = max(0, limit - (len(requests) - len(left)))
        texts = ids.texts(requests.label_set, left)
        chosen = nsmallest(free, range(len(left)), key=lambda one: rank(texts[one], seed))
        left = left[np.sort(np.array(chosen, int))]
    new = []
    settings = next(requests.read_at(left[:1].tolist())).settings if len(left) else {}
    for part in in_parts(left, requests) if mode == "batch" else [left][: len(left)]:
        job = Job(
            requests.name,
            requests.label_set,
            requests.model,
            len(part),
            mode,
            ledger.base_url,
            settings,
            replace_model,
        )
        ledger.add(job, ids.texts(requests.label_set, part))
        new.append(job)
    return new


def in_parts(places: np.ndarray, requests: Requests) -> Iterator[np.ndarray]:
    """Yield parts that are no larger than the largest file of the requests: a provider takes it."""
    most, most_bytes = requests.largest
    begun = size = 0
    for end, length in enumerate(requests.sizes(places).tolist()):
        if end > begun and (end - begun == most or size + length > most_bytes):
            yield places[begun:end]
            begun, size = end, 0
        size += length
    if begun < len(places):
        yield places[begun:]


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
            and requests.have(ledger.ids_of(job))
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
