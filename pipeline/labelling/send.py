"""Send what a ledger holds, each job in its mode, and leave the answers in the requests' order."""

from collections.abc import Callable

from pipeline.labelling.answer_file import order_answers
from pipeline.labelling.ledger import FAILED, Job, Ledger
from pipeline.labelling.provider import connect, errors_in_one_line
from pipeline.labelling.requests import Requests
from pipeline.labelling.send_batches import run_batches
from pipeline.labelling.send_singly import run_chat


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
