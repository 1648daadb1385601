"""Plan what is to be sent, send it each job in its mode, and put the answers in order."""

from collections.abc import Callable

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.labelling.answer_file import order_answers
from pipeline.labelling.label_sets import sort_answers
from pipeline.labelling.labels import have_label
from pipeline.labelling.ledger import CREATING, FAILED, OUTDATED, REPLACED, UPLOADING, Job, Ledger
from pipeline.labelling.plan import plan
from pipeline.labelling.provider import SendOptions, connect, errors_in_one_line
from pipeline.labelling.requests import Requests
from pipeline.labelling.send_batches import run_batches
from pipeline.labelling.send_singly import run_chat


def plan_by_codebook(
    ledger: Ledger,
    requests: Requests,
    codebook: Codebook,
    mode: str,
    replace_model: str,
    limit: int,
    seed: int,
) -> tuple[list[Job], list[Job]]:
    """Plan what is to be sent; return the new jobs, and those that are not to be sent.

    Those ask with another codebook than the study's.
    """
    labelled = have_label(ledger, requests)
    new = plan(ledger, requests, labelled, mode, replace_model, limit, seed)
    if requests.prompt == codebook.text:
        return new, []
    ledger.jobs = [job for job in ledger.jobs if job not in new]
    unsent = [job for job in ledger.jobs if job.status in (UPLOADING, CREATING)]
    for job in unsent:
        job.status = OUTDATED if job.status == CREATING else REPLACED
    return [], [*new, *unsent]


def refuse_outdated(jobs: list[Job], codebook: Codebook) -> None:
    """Stop where requests were not sent because they ask with another codebook."""
    if count := sum(job.rows for job in jobs if not job.batch_id):
        raise UserError(
            f"{count:,} requests were not sent: they ask with another codebook than "
            f"{codebook.path}. Run batch_infer_gen.py again to have the comments labelled by that "
            "one (the labels by the other are kept), or put the other back"
        )


def send_open_jobs(
    ledger: Ledger,
    requests: Requests,
    codebook: Codebook,
    confirm: Callable[[], None],
    options: SendOptions,
) -> list[Job]:
    """Send what was not sent yet, wait, and fetch the answers; return the jobs that were refused.

    `confirm` is called before anything is sent, and stops the program where the user says no.
    """
    jobs = ledger.open_jobs
    if jobs:
        client = connect(ledger.base_url, options.max_retries, options.timeout)
        confirm()
        ledger.save()
    models = {job.label_set: job.model for job in ledger.jobs}
    place = ledger.answers_file, ledger.label_sets_dir, requests.label_set
    sort_answers(*place, models)
    try:
        if jobs:
            with errors_in_one_line(client):
                if any(job.mode == "batch" for job in jobs):
                    may_plan = requests.prompt == codebook.text
                    run_batches(client, ledger, requests, options, may_plan)
                if chats := [job for job in jobs if job.mode == "chat"]:
                    run_chat(client, ledger, chats, requests, options.max_concurrency)
    finally:
        order_answers(ledger.answers_file, requests.places_of)
    return [job for job in jobs if job.status == FAILED]
