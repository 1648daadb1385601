"""Requests sent as batches: upload, wait, fetch the answers."""

import time

from openai import APIError, OpenAI
from tqdm import tqdm

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject
from pipeline.labelling.answer_file import add_answers, count_answers, distinct_lines
from pipeline.labelling.batch_calls import fetch, poll, submit
from pipeline.labelling.ledger import FAILED, Job, Ledger
from pipeline.labelling.provider import explain, hide_key, is_temporary
from pipeline.labelling.requests import Requests, read_span

LONGEST_SEARCH_PAUSE = 5.0  # seconds, until a batch that was made shows among the provider's
ENDED = ("completed", "failed", "expired", "cancelled")


def run_batches(
    client: OpenAI, ledger: Ledger, jobs: list[Job], requests: Requests, poll_seconds: float
) -> None:
    """Make the batches of open jobs, wait until all have ended, and add their answers.

    A batch that cannot be asked after or fetched does not keep the others waiting.
    """
    unsent = [job for job in jobs if not job.batch_id]
    for job in tqdm(unsent, unit="upload", disable=not unsent):
        content = read_span(requests.files[job.file], job.first, job.last)
        submit(client, ledger, job, content, search_pause=min(poll_seconds, LONGEST_SEARCH_PAUSE))
    progress = {job.token: (0, 0) for job in jobs}  # requests completed and failed
    given_up: dict[str, str] = {}
    with tqdm(total=sum(job.rows for job in jobs), unit="row") as bar:
        while waiting := [job for job in jobs if job.is_open and job.token not in given_up]:
            for job in waiting:
                try:
                    batch = poll(client, job)
                    counts = batch.get("request_counts") or {}
                    progress[job.token] = (counts.get("completed") or 0, counts.get("failed") or 0)
                    if batch["status"] in ENDED:
                        collect(client, ledger, job, batch, requests)
                    elif batch["status"] != job.status:
                        job.status = batch["status"]
                        ledger.save()
                except UserError as error:
                    given_up[job.token] = str(error)
                except APIError as error:
                    if not is_temporary(error):
                        given_up[job.token] = hide_key(client, why_not_found(error, client, job))
            completed, failed = map(sum, zip(*progress.values(), strict=True))
            ended = sum(not job.is_open for job in jobs)
            left = f"{len(jobs) - ended} of {len(jobs)} batches left"
            bar.set_postfix_str(f"{completed:,} completed, {failed:,} failed, {left}")
            bar.update(completed + failed - bar.n)
            if any(job.is_open and job.token not in given_up for job in jobs):
                time.sleep(poll_seconds)
    if given_up:
        raise UserError(f"{len(given_up)} batches are not fetched: {next(iter(given_up.values()))}")


def why_not_found(error: APIError, client: OpenAI, job: Job) -> str:
    """Say why a batch cannot be asked after."""
    if getattr(error, "status_code", None) != 404:
        return explain(error, str(client.base_url))
    return (
        f"{job.batch_id} or its answers are not at {client.base_url} any more (they are kept 30 "
        f"days): to pay again, take {job} out of the state file"
    )


def collect(
    client: OpenAI, ledger: Ledger, job: Job, batch: JsonObject, requests: Requests
) -> None:
    """Add what a batch that has ended brought, also of rows that failed or came before its end."""
    if batch["status"] == "failed" and not (
        batch.get("output_file_id") or batch.get("error_file_id")
    ):
        job.message = hide_key(client, reason_of_failure(batch))
        job.status = FAILED
    else:
        lines = distinct_lines(fetch(client, job, batch))
        add_answers(ledger.answers_file, lines)
        counts = count_answers(lines, set(requests.ids_of(job)))
        messages = {
            reason: hide_key(client, message) for reason, message in counts["messages"].items()
        }
        job.end(batch["status"], counts | {"messages": messages, "retried": job.retried})
    ledger.save()


def reason_of_failure(batch: JsonObject) -> str:
    """Return the first reason why a provider refused a batch: a list of texts or of records."""
    errors = batch.get("errors")
    reasons = errors.get("data") if isinstance(errors, dict) else errors
    first = reasons[0] if isinstance(reasons, list) and reasons else reasons
    if not isinstance(first, dict):
        return str(first or "no reason given")
    where = f"line {first['line']}: " if first.get("line") else ""
    return where + str(first.get("message") or first.get("code"))
