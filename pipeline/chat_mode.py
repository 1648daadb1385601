"""Requests sent one by one to `/chat/completions`, several at once."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import Any

from openai import APIError, APIStatusError, OpenAI
from tqdm import tqdm

from pipeline.answers import count_answers, id_of, lines_since
from pipeline.batch import Request, Requests
from pipeline.cli import UserError
from pipeline.ledger import COLLECTED, SENDING, Job, Ledger
from pipeline.provider import explain, hide_key, is_passing, message_of

FAILURES_IN_A_ROW = 20  # and none answered between them: the provider is down, not the rows bad
FILTERED = ("content_filter", "data_inspection_failed", "content_policy_violation")

Record = dict[str, Any]


def run_chat(
    client: OpenAI, ledger: Ledger, jobs: list[Job], requests: Requests, concurrency: int
) -> None:
    """Send the requests of open jobs that have no answer yet; add each answer as it comes."""

    def lines() -> Iterator[bytes]:
        return lines_since(ledger.answers_file, min(job.offset for job in jobs))

    for job in jobs:
        job.status = SENDING
    ledger.save()
    ids = [set(requests.ids[job.file][job.first - 1 : job.last]) for job in jobs]
    known = {id_of(line) for line in lines()} & set().union(*ids)
    asked = chain.from_iterable(requests.read(job.file, job.first, job.last) for job in jobs)
    left = (request for request in asked if request.custom_id not in known)
    with (
        tqdm(total=sum(job.rows for job in jobs), initial=len(known), unit="row") as bar,
        open(ledger.answers_file, "ab", buffering=0) as answers,
    ):
        retried = send_all(client, left, concurrency, lambda line: answers.write(line + b"\n"), bar)
    for job, own in zip(jobs, ids, strict=True):
        job.counts = count_answers((line for line in lines() if id_of(line) in own), own)
        job.status = COLLECTED
    jobs[0].counts["retried"] = retried
    ledger.save()


def send_all(
    client: OpenAI,
    requests: Iterable[Request],
    concurrency: int,
    write: Callable[[bytes], None],
    bar: tqdm,
) -> int:
    """Send requests, `concurrency` at once; return how many calls were tried again.

    `write` gets each answer as a line of the batch format, as it comes; of a failure, once a later
    call went well. Requests that the provider refuses before it has answered any stop the run, and
    so do failures of one call after another. What is under way then is awaited, and written.
    """
    pending: set[Future] = set()
    source = iter(requests)
    failures: list[bytes] = []
    answered = retried = 0
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            while True:
                new = islice(source, concurrency - len(pending))
                pending |= {pool.submit(_send, client, request) for request in new}
                if not pending:
                    break
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                stop = ""
                for line, retries, error in map(Future.result, done):
                    retried += retries
                    bar.update()
                    if error and (why := _why_stop(error, answered, len(failures) + 1)):
                        stop = why
                    elif error:
                        failures.append(line)
                    else:
                        for failure in failures:
                            write(failure)
                        failures.clear()
                        answered += 1
                        write(line)
                if stop:
                    raise UserError(hide_key(client, stop))
        finally:
            for line, _, error in map(Future.result, pending):
                if not error:
                    write(line)
    for failure in failures:
        write(failure)
    return retried


def _send(client: OpenAI, request: Request) -> tuple[bytes, int, APIError | None]:
    """Send a request; return its answer as a line, how often it was tried again, and the error."""
    body = json.loads(request.line)["body"]
    record: Record = {"id": None, "custom_id": request.custom_id, "response": None, "error": None}
    error = None
    try:
        raw = client.chat.completions.with_raw_response.create(
            model=body["model"], messages=body["messages"], extra_body=body
        )
        retries, response, answer = raw.retries_taken, raw.http_response, raw.http_response.json()
        record["id"] = answer.get("id")
    except (ValueError, AttributeError):
        raise UserError(f"{client.base_url} answers, but no JSON: check --base-url") from None
    except APIStatusError as failure:
        error, response = failure, failure.response
        told = failure.body if isinstance(failure.body, dict) else {}
        answer = {"error": told | {"message": hide_key(client, message_of(failure))}}
        retries = client.max_retries if is_passing(failure) else 0
    except APIError as failure:
        return b"", client.max_retries, failure
    record["response"] = {
        "status_code": response.status_code,
        "request_id": response.headers.get("x-request-id"),
        "body": answer,
    }
    return json.dumps(record, ensure_ascii=False).encode(), retries, error


def _why_stop(error: APIError, answered: int, failures: int) -> str:
    """Return why a failed call ends the run, "" where it is the row's own failure."""
    if not isinstance(error, APIStatusError) or error.status_code in (401, 402, 403, 404):
        return explain(error, str(error.request.url))
    body = error.body if isinstance(error.body, dict) else {}
    if is_passing(error):
        down = failures >= FAILURES_IN_A_ROW
        return explain(error, str(error.request.url)) if down else ""
    if answered or str(body.get("code") or body.get("type")) in FILTERED:
        return ""
    return (
        f"the provider refuses the requests ({message_of(error)}): leave out what it does not "
        "know (--top-logprobs, --extra-body), and run batch_infer_gen.py again"
    )
