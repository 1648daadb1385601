"""Calls to an OpenAI-compatible provider, made so that nothing is uploaded or paid twice."""

import hashlib
import ipaddress
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from openai import APIError, APIStatusError, DefaultHttpxClient, NotFoundError, OpenAI

from pipeline.common.cli import UserError
from pipeline.labelling.ledger import CREATING, UPLOADING, Job, Ledger

NO_KEY = "none"  # to a server on one's own machine, which asks for no key
PASSING = (408, 409, 429)  # and 500 to 599: worth another try
LONGEST_PAUSE = 60  # seconds between two tries
LOOKS = 3  # for what a broken call may have made
DOWNLOADS = 3  # of a batch's files until the program gives up

Record = dict[str, Any]


def connect(base_url: str, max_retries: int, timeout: float) -> OpenAI:
    """Return a client with the key from the environment; nothing near goes through a proxy."""
    key = key_for(base_url)
    near = _is_near(urlsplit(base_url).hostname or "")
    return OpenAI(
        api_key=key,
        base_url=base_url,
        max_retries=max_retries,
        timeout=timeout,
        http_client=DefaultHttpxClient(trust_env=False) if near else None,
    )


def key_for(base_url: str) -> str:
    """Return the key for a provider: OPENAI_API_KEY, at SiliconFlow rather its own."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if url.scheme not in ("http", "https") or not host:
        raise UserError(f"--base-url {base_url} is no address such as https://api.openai.com/v1")
    siliconflow = host.split(".")[-2:-1] == ["siliconflow"]
    names = ("SILICONFLOW_API_KEY", "OPENAI_API_KEY") if siliconflow else ("OPENAI_API_KEY",)
    key = next((os.environ[name].strip() for name in names if os.environ.get(name)), "")
    if not key and not _is_near(host):
        raise UserError(f"no key for {host}: give it by `{how_to_set(names[0])}` in the shell")
    if not re.fullmatch(r"[!-~]*", key):
        raise UserError(
            f"the key for {host} holds a space, a line break or a letter that no key has: copy it "
            "again, without quotation marks of a text processor"
        )
    return key or NO_KEY


def how_to_set(name: str, system: str = platform.system()) -> str:
    """Return the command by which a shell of this system sets an environment variable."""
    return f'$env:{name} = "..."' if system == "Windows" else f"export {name}=..."


def _is_near(host: str) -> bool:
    """Return whether a host is this machine or one of its private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host


@contextmanager
def told(client: OpenAI) -> Iterator[None]:
    """Turn what goes wrong with a call into one line, without the key."""
    try:
        yield
    except APIError as error:
        raise UserError(hide_key(client, explain(error, str(client.base_url)))) from None


def hide_key(client: OpenAI, text: str) -> str:
    """Return a text without the key, which some providers quote."""
    return text if client.api_key == NO_KEY else text.replace(client.api_key, "[key]")


def explain(error: APIError, base_url: str) -> str:
    """Say what went wrong with a call, and the cure."""
    again = "nothing is lost: run the same command again to go on"
    if not isinstance(error, APIStatusError):
        return f"{base_url} cannot be reached ({error.__cause__ or error}); {again}"
    message, status = message_of(error), error.status_code
    if status in (401, 403):
        return f"{base_url} refuses the key ({message}): check the key and --base-url; {again}"
    if status == 404:
        return (
            f"{base_url} has no such address or model ({message}): check --base-url and the model"
        )
    return f"{base_url} answers {status} ({message}); {again}"


def message_of(error: APIStatusError) -> str:
    """Return what the provider says of an error."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)


def is_passing(error: APIError) -> bool:
    """Return whether the same call may go well later."""
    status = getattr(error, "status_code", None)
    return status is None or status in PASSING or status >= 500


def once(
    job: Job,
    call: Callable[[], Any],
    find: Callable[[], Any],
    retries: int,
    sent: bool,
    settle: float,
) -> Any:
    """Make a call for a job that must not count twice, and return what it made.

    Where it may have been made before (`sent`, or a try that broke), `find` looks for that first,
    `LOOKS` times and `settle` seconds apart: the provider may still be at it.
    """
    for attempt in count():
        for look in range(LOOKS if sent else 0):
            if (found := find()) is not None:
                return found
            time.sleep(settle if look < LOOKS - 1 else 0)
        try:
            return call()
        except APIError as error:
            if attempt == retries or not is_passing(error):
                raise
            time.sleep(pause(error, attempt))
            job.retried += 1
            sent = True


def pause(error: APIError, attempt: int) -> float:
    """Return the seconds to wait: the provider's `Retry-After`, or twice as long each time."""
    response = getattr(error, "response", None)
    try:
        asked = float(response.headers["retry-after"])
        return asked if 0 <= asked <= LONGEST_PAUSE else LONGEST_PAUSE
    except (AttributeError, KeyError, ValueError):
        return min(LONGEST_PAUSE, 0.5 * 2**attempt)


def submit(client: OpenAI, ledger: Ledger, job: Job, content: bytes, settle: float) -> None:
    """Upload a job's requests and make its batch, each unless that is done.

    The ledger is written before and after each call; `settle` as in `once`.
    """
    if hashlib.sha256(content).hexdigest() != job.sha256:
        raise UserError(f"{job} have changed since the price was told: run submit_batch.py again")
    direct, retries = client.with_options(max_retries=0), client.max_retries
    if not job.input_file_id:
        name = f"{Path(job.file).stem}-{job.token}.jsonl"
        sent = _enter(ledger, job, UPLOADING)
        job.input_file_id = once(
            job,
            lambda: _upload(direct, name, content),
            lambda: _find_upload(client, name),
            retries,
            sent,
            settle,
        )
        ledger.save()
    if not job.batch_id:
        sent = _enter(ledger, job, CREATING)
        try:
            batch = once(
                job,
                lambda: _create(direct, job),
                lambda: _find_batch(client, job),
                retries,
                sent,
                settle,
            )
        except APIError as error:
            if not is_passing(error):  # refused: there is no batch, and nothing to pay
                job.status = UPLOADING
                ledger.save()
            raise
        job.batch_id, job.status = batch["id"], batch["status"]
        ledger.save()


def _enter(ledger: Ledger, job: Job, status: str) -> bool:
    """Write down that a call is about to be made; return whether that stood there already."""
    known = job.status == status
    job.status = status
    ledger.save()
    return known


def _json(client: OpenAI, response: Any) -> Record:
    """Return the JSON object of a raw response; SiliconFlow wraps some in `data`."""
    try:
        record = response.http_response.json()
        return record["data"] if isinstance(record.get("data"), dict) else record
    except (ValueError, AttributeError):
        raise UserError(f"{client.base_url} answers, but no JSON: check --base-url") from None


def _record(client: OpenAI, response: Any) -> Record:
    """Return what a raw response tells of a file or batch."""
    record = _json(client, response)
    if not record.get("id"):
        told = hide_key(client, str(record.get("message") or "nothing"))
        raise UserError(f"{client.base_url} gives no id, and says: {told}; check --base-url")
    return record


def _upload(client: OpenAI, name: str, content: bytes) -> str:
    raw = client.files.with_raw_response.create(file=(name, content), purpose="batch")
    return _record(client, raw)["id"]


def _find_upload(client: OpenAI, name: str) -> str | None:
    """Return the id of an upload by its name; None also where the provider lists no files."""
    try:
        listed = _all(client, client.files, purpose="batch")
        return next((file["id"] for file in listed if file.get("filename") == name), None)
    except NotFoundError:
        return None


def _create(client: OpenAI, job: Job) -> Record:
    raw = client.batches.with_raw_response.create(
        input_file_id=job.input_file_id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"token": job.token, "description": str(job)},
        extra_body={"replace": {"model": job.replace_model}} if job.replace_model else None,
    )
    return _record(client, raw)


def _find_batch(client: OpenAI, job: Job) -> Record | None:
    """Return the batch that was made of a job, None where there is none."""
    for batch in _all(client, client.batches):
        metadata = batch.get("metadata") or {}
        if job.token == metadata.get("token") or job.input_file_id == batch.get("input_file_id"):
            return batch
    return None


def _all(client: OpenAI, resource: Any, **query: Any) -> Iterator[Record]:
    """Yield the files or batches of all pages; some providers send the first again and again."""
    seen: set[str] = set()
    while True:
        page = _json(client, resource.with_raw_response.list(limit=100, **query))
        new = [item for item in page.get("data") or [] if item["id"] not in seen]
        yield from new
        if not new or page.get("has_more") is False:
            return
        seen |= {item["id"] for item in new}
        query["after"] = new[-1]["id"]


def poll(client: OpenAI, job: Job) -> Record:
    """Return what the provider says of a job's batch."""
    raw = client.batches.with_raw_response.retrieve(job.batch_id)
    job.retried += raw.retries_taken
    return _record(client, raw)


def fetch(client: OpenAI, job: Job, batch: Record) -> bytes:
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
        whole = None not in parts and all(map(is_answer, ends)) and bool(lines) == bool(ids)
        if whole and len(lines) >= expected:
            break
        job.retried += 1
        time.sleep(min(LONGEST_PAUSE, 0.5 * 2**attempt))
    if not whole:
        raise UserError(
            f"the answers of {batch['id']} arrived broken {DOWNLOADS} times: run the same command "
            "again to go on"
        )
    return b"\n".join(lines)


def is_answer(line: bytes) -> bool:
    """Return whether a line is a whole answer."""
    try:
        return bool(json.loads(line)["custom_id"])
    except (ValueError, KeyError, TypeError):
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
