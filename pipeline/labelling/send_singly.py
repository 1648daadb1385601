"""Requests sent one by one to `/chat/completions`, several at once.

For providers without batches, and for models on one's own machine.
"""

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

from openai import APIError, APIStatusError, APITimeoutError, OpenAI
from tqdm import tqdm

from pipeline.common.cli import UserError
from pipeline.common.faults import writing
from pipeline.common.files import JsonObject
from pipeline.labelling.answer_file import append_line, count_answers, id_of, lines_of
from pipeline.labelling.ledger import SENDING, Job, Ledger
from pipeline.labelling.outcomes import is_too_long
from pipeline.labelling.provider import (
    explain,
    hide_key,
    is_temporary,
    message_of,
    seconds_to_wait,
)
from pipeline.labelling.requests import Request, Requests

FAILURES_IN_A_ROW = 20  # and none answered between them: the provider is down, not the rows bad
FILTERED = ("content_filter", "data_inspection_failed", "content_policy_violation")


@dataclass
class Sent:
    """What came of a request: a line of the batch format, the tries after the first, the error."""

    line: bytes
    retries: int
    error: APIError | None = None
    stop: str = ""  # why nothing else should be sent


def run_chat(
    client: OpenAI, ledger: Ledger, jobs: list[Job], requests: Requests, concurrency: int
) -> None:
    """Send the requests of jobs; add each answer as it comes."""
    for job in jobs:
        job.status = SENDING
    ledger.save()
    asked = [custom_id for job in jobs for custom_id in ledger.ids_of(job)]
    with (
        tqdm(total=len(asked), unit="row") as bar,
        writing(ledger.answers_file),
        open(ledger.answers_file, "ab", buffering=0) as answers,
    ):
        answered_before = answers.tell() > 0
        write = partial(append_line, answers)
        retried = send_all(client, requests.read(asked), concurrency, write, bar, answered_before)
    lines = list(lines_of(ledger.answers_file))
    for job in jobs:
        ids = set(ledger.ids_of(job))
        own = [line for line in lines if id_of(line) in ids]
        job.end("completed", count_answers(own, ids))
    jobs[0].counts["retried"] = retried
    ledger.save()


def send_all(
    client: OpenAI,
    requests: Iterable[Request],
    concurrency: int,
    write: Callable[[bytes], None],
    bar: tqdm,
    answered_before: bool,
) -> int:
    """Send requests, `concurrency` at once; return how many calls were tried again.

    `write` gets each answer as a line of the batch format, as it comes; of a failure, once a later
    call went well. A request that the provider refuses before it has answered any
    (`answered_before`) stops the run, and so do failures of one call after another; what is under
    way then is still written.
    """
    pending: set[Future[Sent]] = set()
    source = iter(requests)
    failures: list[bytes] = []
    retried = 0
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            while True:
                new = islice(source, concurrency - len(pending))
                pending |= {pool.submit(_send, client, request) for request in new}
                if not pending:
                    break
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                stop = ""
                for sent in map(Future.result, done):
                    retried += sent.retries
                    bar.update()
                    if not sent.error and not sent.stop:
                        for line in [*failures, sent.line]:
                            write(line)
                        failures, answered_before = [], True
                    elif why := _why_stop(client, sent, answered_before, len(failures) + 1):
                        stop = why
                    else:
                        failures.append(sent.line)
                if stop:
                    raise UserError(hide_key(client, stop))
        finally:
            for sent in map(Future.result, pending):
                if not sent.error and not sent.stop:
                    write(sent.line)
    for line in failures:
        write(line)
    return retried


def _send(client: OpenAI, request: Request) -> Sent:
    """Send a request, again where it fails for the moment.

    A call that took too long is not sent again: it may have been answered, and be paid for.
    """
    body = json.loads(request.line)["body"]
    direct = client.with_options(max_retries=0)
    for attempt in count():
        try:
            raw = direct.chat.completions.with_raw_response.create(
                model=body["model"], messages=body["messages"], extra_body=body
            )
        except APIError as error:
            late = isinstance(error, APITimeoutError)
            if attempt < client.max_retries and is_temporary(error) and not late:
                time.sleep(seconds_to_wait(error, attempt))
                continue
            return Sent(_failure(client, request, error), attempt, error)
        response = raw.http_response
        try:
            answer = response.json()
            line = _line(request, response.status_code, answer, answer.get("id"))
            return Sent(line, attempt)
        except (ValueError, AttributeError):
            return Sent(
                b"", attempt, stop=f"{client.base_url} answers, but no JSON: check --base-url"
            )


def _failure(client: OpenAI, request: Request, error: APIError) -> bytes:
    """Return a failed call as a line of the batch format."""
    if isinstance(error, APIStatusError):
        details = error.body if isinstance(error.body, dict) else {}
        details = details | {"message": hide_key(client, message_of(error))}
        return _line(request, error.status_code, {"error": details})
    details = {"code": "timeout", "message": "no answer in time: give a longer --timeout"}
    return _line(request, 408, {"error": details})


def _line(request: Request, status: int, body: JsonObject, answer_id: str | None = None) -> bytes:
    response = {"status_code": status, "request_id": None, "body": body}
    record = {"id": answer_id, "custom_id": request.custom_id, "response": response, "error": None}
    return json.dumps(record, ensure_ascii=False).encode()


def _why_stop(client: OpenAI, sent: Sent, answered_before: bool, failures: int) -> str:
    """Return why a failed call ends the run, "" where it is the row's own failure."""
    error = sent.error
    if error is None:
        return sent.stop
    why = explain(error, str(client.base_url))
    if failures >= FAILURES_IN_A_ROW:
        return why
    if isinstance(error, APITimeoutError):
        return ""
    if not isinstance(error, APIStatusError) or error.status_code in (401, 402):
        return why
    body = error.body if isinstance(error.body, dict) else {}
    filtered = str(body.get("code") or body.get("type")) in FILTERED
    of_the_row = filtered or is_too_long(body)
    if answered_before or is_temporary(error) or of_the_row:
        return ""
    if error.status_code in (403, 404):
        return why
    return (
        f"the provider refuses the requests ({message_of(error)}): run batch_infer_gen.py again "
        "with the --model that it knows, and without what it does not know (--top-logprobs, "
        "--extra-body)"
    )
