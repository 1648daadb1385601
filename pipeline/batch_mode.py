"""Requests sent as batches: upload, wait, fetch the answers."""

import time

from openai import OpenAI
from tqdm import tqdm

from pipeline.answers import add_answers, count_answers, distinct
from pipeline.batch import Requests, read_span
from pipeline.ledger import COLLECTED, FAILED, Job, Ledger
from pipeline.provider import Record, download, poll, submit

ENDED = ("completed", "failed", "expired", "cancelled")


def run_batches(
    client: OpenAI,
    ledger: Ledger,
    jobs: list[Job],
    requests: Requests,
    model: str,
    poll_seconds: float,
) -> None:
    """Make the batches of open jobs, wait until all have ended, and add their answers."""
    unsent = [job for job in jobs if not job.batch_id]
    for job in tqdm(unsent, unit="upload", disable=not unsent):
        content = read_span(requests.files[job.file], job.first, job.last)
        submit(client, ledger, job, content, model)
    done = dict.fromkeys(range(len(jobs)), 0)
    with tqdm(total=sum(job.rows for job in jobs), unit="row") as bar:
        while waiting := [n for n, job in enumerate(jobs) if job.is_open]:
            failed = 0
            for n in waiting:
                job, batch = jobs[n], poll(client, jobs[n])
                counts = batch.get("request_counts") or {}
                failed += counts.get("failed") or 0
                done[n] = (counts.get("completed") or 0) + (counts.get("failed") or 0)
                if batch["status"] in ENDED:
                    done[n] = job.rows
                    collect(client, ledger, job, batch, requests)
                elif batch["status"] != job.status:
                    job.status = batch["status"]
                    ledger.save()
            left = sum(job.is_open for job in jobs)
            bar.set_postfix_str(f"{failed:,} failed, {left} of {len(jobs)} batches left")
            bar.update(sum(done.values()) - bar.n)
            if left:
                time.sleep(poll_seconds)


def collect(client: OpenAI, ledger: Ledger, job: Job, batch: Record, requests: Requests) -> None:
    """Add what a batch that has ended brought, also of rows that failed or came before its end."""
    files = [batch.get(key) for key in ("output_file_id", "error_file_id")]
    if batch["status"] == "failed" and not any(files):
        job.message = reason_of(batch)
        job.status = FAILED
    else:
        lines = distinct(b"\n".join(download(client, file) for file in files if file))
        add_answers(ledger.answers_file, lines)
        ids = requests.ids[job.file][job.first - 1 : job.last]
        job.counts = count_answers(lines, set(ids))
        job.message = batch["status"]
        job.status = COLLECTED
    ledger.save()


def reason_of(batch: Record) -> str:
    """Return the first reason why a provider refused a batch: a list of texts or of records."""
    errors = batch.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    first = listed[0] if isinstance(listed, list) and listed else listed
    if not isinstance(first, dict):
        return str(first or "no reason given")
    where = f"line {first['line']}: " if first.get("line") else ""
    return where + str(first.get("message") or first.get("code"))
