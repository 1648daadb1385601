"""Plan what is to be sent, send it each job in its mode, and put the answers in order."""

from collections.abc import Callable

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.labelling.answer_file import order_answers
from pipeline.labelling.ledger import FAILED, Job, Ledger, plan
from pipeline.labelling.provider import connect, errors_in_one_line
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
) -> tuple[list[Job], int]:
    """Plan what is to be sent; return the new jobs, and how many requests are not sent.

    Those ask with another codebook than the study's.
    """
    new = plan(ledger, requests, mode, replace_model, limit)
    if requests.prompt == codebook.text:
        return new, 0
    ledger.jobs = [job for job in ledger.jobs if job not in new]
    return [], sum(job.rows for job in new)


def refuse_outdated(count: int, codebook: Codebook, state_file: str, answers_file: str) -> None:
    """Stop where requests were not sent because they ask with another codebook."""
    if count:
        raise UserError(
            f"{count:,} requests were not sent: they ask with another codebook than "
            f"{codebook.path}. Put that one back, or have all comments labelled anew: move "
            f"{state_file} and {answers_file} away, where there are, and run batch_infer_gen.py "
            "again"
        )


def send_open_jobs(
    ledger: Ledger,
    requests: Requests,
    confirm: Callable[[], None],
    max_retries: int,
    timeout: float,
    poll_seconds: float,
    max_concurrency: int,
) -> list[Job]:
    """Send what was not sent yet, wait, and fetch the answers; return the jobs that were refused.

    `confirm` is called before anything is sent, and stops the program where the user says no.
    """
    jobs = ledger.open_jobs
    try:
        if jobs:
            client = connect(ledger.base_url, max_retries, timeout)
            confirm()
            ledger.save()
            with errors_in_one_line(client):
                if batches := [job for job in jobs if job.mode == "batch"]:
                    run_batches(client, ledger, batches, requests, poll_seconds)
                if chats := [job for job in jobs if job.mode == "chat"]:
                    run_chat(client, ledger, chats, requests, max_concurrency)
    finally:
        _put_in_order(ledger, requests)
    return [job for job in jobs if job.status == FAILED]


def _put_in_order(ledger: Ledger, requests: Requests) -> None:
    """Put the answers in the requests' order, unless a job still counts on where they stand."""
    if not any(job.mode == "chat" for job in ledger.open_jobs):
        order_answers(ledger.answers_file, lambda custom_id: requests.position.get(custom_id, -1))
