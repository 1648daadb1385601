"""The calls that make a batch, ask after it and fetch its answers; nothing is made twice.

They are OpenAI's batch interface with what SiliconFlow does otherwise. A provider whose batches
differ needs its calls here; `send_batches.py` says when they are made.
"""

import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from openai import APIError, NotFoundError, OpenAI

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject
from pipeline.labelling.ledger import CREATING, OUTDATED, REPLACED, UPLOADING, Job, Ledger
from pipeline.labelling.outcomes import BROKEN
from pipeline.labelling.provider import (
    doubled_wait,
    hide_key,
    hide_key_in_answers,
    is_temporary,
    seconds_to_wait,
)
from pipeline.labelling.requests import Requests

SEARCHES = 3  # for what a broken call may have made
DOWNLOADS = 3  # of a batch's files until the program gives up


def submit(
    client: OpenAI, ledger: Ledger, requests: Requests, job: Job, search_pause: float
) -> None:
    """Upload a job's requests and make its batch, each unless that is done.

    The ledger is written before and after each call; `search_pause` as in `call_once`. A batch that
    is outdated is only looked for.
    """
    if job.status == OUTDATED:
        if (batch := search(lambda: _find_batch(client, job), search_pause)) is None:
            job.status = REPLACED
        else:
            job.batch_id, job.status = batch["id"], batch["status"]
        ledger.save()
        return
    direct, retries = client.with_options(max_retries=0), client.max_retries
    if not job.input_file_id:
        content = b"".join(line + b"\n" for line in requests.lines(ledger.ids_of(job)))
        name = f"{Path(job.file).stem}-{job.token}.jsonl"
        maybe_made = _note_call(ledger, job, UPLOADING)
        job.input_file_id = call_once(
            job,
            lambda: _upload(direct, name, content),
            lambda: _find_upload(client, name),
            retries,
            maybe_made,
            search_pause,
        )
        ledger.save()
    if not job.batch_id:
        maybe_made = _note_call(ledger, job, CREATING)
        try:
            batch = call_once(
                job,
                lambda: _create(direct, job),
                lambda: _find_batch(client, job),
                retries,
                maybe_made,
                search_pause,
            )
        except APIError as error:
            if not is_temporary(error):  # refused: there is no batch, and nothing to pay
                job.status = UPLOADING
                ledger.save()
            raise
        job.batch_id, job.status = batch["id"], batch["status"]
        ledger.save()


def _note_call(ledger: Ledger, job: Job, status: str) -> bool:
    """Write down that a call is about to be made; return whether that stood there already."""
    known = job.status == status
    job.status = status
    ledger.save()
    return known


def _json_of(client: OpenAI, response: Any) -> JsonObject:
    """Return the JSON object of a raw response; SiliconFlow wraps some in `data`."""
    try:
        record = response.http_response.json()
        return record["data"] if isinstance(record.get("data"), dict) else record
    except (ValueError, AttributeError):
        raise UserError(f"{client.base_url} answers, but no JSON: check --base-url") from None


def _description(client: OpenAI, response: Any) -> JsonObject:
    """Return what a raw response says of a file or batch."""
    record = _json_of(client, response)
    if not record.get("id"):
        message = hide_key(client, str(record.get("message") or "nothing"))
        raise UserError(f"{client.base_url} gives no id, and says: {message}; check --base-url")
    return record


def _upload(client: OpenAI, name: str, content: bytes) -> str:
    raw = client.files.with_raw_response.create(file=(name, content), purpose="batch")
    return _description(client, raw)["id"]


def _find_upload(client: OpenAI, name: str) -> str | None:
    """Return the id of an upload by its name; None also where the provider lists no files."""
    try:
        files = _list_all(client, client.files, purpose="batch")
        return next((file["id"] for file in files if file.get("filename") == name), None)
    except NotFoundError:
        return None


def _create(client: OpenAI, job: Job) -> JsonObject:
    raw = client.batches.with_raw_response.create(
        input_file_id=job.input_file_id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"token": job.token, "description": str(job)},
        extra_body={"replace": {"model": job.replace_model}} if job.replace_model else None,
    )
    return _description(client, raw)


def _find_batch(client: OpenAI, job: Job) -> JsonObject | None:
    """Return the batch that was made of a job, None where there is none."""
    for batch in _list_all(client, client.batches):
        metadata = batch.get("metadata") or {}
        if job.token == metadata.get("token") or job.input_file_id == batch.get("input_file_id"):
            return batch
    return None


def _list_all(client: OpenAI, resource: Any, **query: Any) -> Iterator[JsonObject]:
    """Yield the files or batches of all pages; some providers send the first again and again."""
    seen: set[str] = set()
    while True:
        page = _json_of(client, resource.with_raw_response.list(limit=100, **query))
        new = [item for item in page.get("data") or [] if item["id"] not in seen]
        yield from new
        if not new or page.get("has_more") is False:
            return
        seen |= {item["id"] for item in new}
        query["after"] = new[-1]["id"]


def poll(client: OpenAI, job: Job) -> JsonObject:
    """Return what the provider says of a job's batch."""
    raw = client.batches.with_raw_response.retrieve(job.batch_id)
    job.retried += raw.retries_taken
    return _description(client, raw)


def fetch(client: OpenAI, job: Job, batch: JsonObject) -> bytes:
    """Return the lines of a job's output and error file, fetched again where some are missing.

    Raises UserError where a file stays empty or broken.
    """
    ids = [batch[key] for key in ("output_file_id", "error_file_id") if batch.get(key)]
    counts = batch.get("request_counts") or {}
    expected = (counts.get("completed") or 0) + (counts.get("failed") or 0)
    for attempt in range(DOWNLOADS):
        parts = [_download(client, job, file_id) for file_id in ids]
        lines = [line for part in parts for line in (part or b"").splitlines() if line.strip()]
        ends = [part.rstrip().rpartition(b"\n")[2] for part in parts if part]
        whole = None not in parts and all(map(is_whole_answer, ends)) and bool(lines) == bool(ids)
        if whole and len(lines) >= expected:
            break
        job.retried += 1
        time.sleep(doubled_wait(attempt))
    if not whole:
        raise UserError(
            f"the answers of {batch['id']} arrived broken {DOWNLOADS} times: run the same command "
            "again to go on"
        )
    return hide_key_in_answers(client, b"\n".join(lines))


def is_whole_answer(line: bytes) -> bool:
    """Return whether a line is a whole answer."""
    try:
        return bool(json.loads(line)["custom_id"])
    except BROKEN:
        return False


def _download(client: OpenAI, job: Job, file_id: str) -> bytes | None:
    """Return a file given by its id or its address, None where the address breaks off."""
    if not file_id.startswith(("http://", "https://")):
        raw = client.files.with_raw_response.content(file_id)
        job.retried += raw.retries_taken
        return raw.http_response.content
    try:
        with urlopen(file_id, timeout=60) as response:
            return response.read()
    except (OSError, HTTPException):
        return None


def call_once(
    job: Job,
    call: Callable[[], Any],
    find: Callable[[], Any],
    retries: int,
    maybe_made: bool,
    search_pause: float,
) -> Any:
    """Make a call for a job that must not count twice, and return what it made.

    Where it may have been made before (`maybe_made`, or a try that broke), `find` searches for that
    first, as `search` has it.
    """
    for attempt in count():
        if maybe_made and (found := search(find, search_pause)) is not None:
            return found
        try:
            return call()
        except APIError as error:
            if attempt == retries or not is_temporary(error):
                raise
            time.sleep(seconds_to_wait(error, attempt))
            job.retried += 1
            maybe_made = True


def search(find: Callable[[], Any], pause: float) -> Any:
    """Return what `find` finds, None after `SEARCHES` times, `pause` seconds apart.

    The provider may still be at it.
    """
    for number in range(SEARCHES):
        if (found := find()) is not None:
            return found
        time.sleep(pause if number < SEARCHES - 1 else 0)
    return None
