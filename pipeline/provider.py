"""Calls to an OpenAI-compatible provider, made so that nothing is uploaded or paid twice."""

import ipaddress
import json
import os
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

from pipeline.cli import UserError
from pipeline.ledger import CREATING, UPLOADING, Job, Ledger

NO_KEY = "none"  # to a server on one's own machine, which asks for no key
PASSING = (408, 409, 429)  # and 500 to 599: worth another try
LONGEST_PAUSE = 60  # seconds between two tries, where the provider names none
BROKEN_DOWNLOADS = 3  # of one file until the program gives up

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
    """Return the key for a provider, which no other provider gets to see."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if url.scheme not in ("http", "https") or not host:
        raise UserError(f"--base-url {base_url} is no address such as https://api.openai.com/v1")
    siliconflow = host.split(".")[-2:-1] == ["siliconflow"]
    names = ("SILICONFLOW_API_KEY", "OPENAI_API_KEY") if siliconflow else ("OPENAI_API_KEY",)
    key = next((os.environ[name].strip() for name in names if os.environ.get(name)), "")
    if not key and not _is_near(host):
        raise UserError(f"no key for {host}: give it by `export {names[0]}=...` in the shell")
    return key or NO_KEY


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
        return f"{base_url} has no such address or model ({message}): check --base-url and --model"
    return f"{base_url} answers {status} ({message}); {again}"


def message_of(error: APIStatusError) -> str:
    """Return what the provider says of an error."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)


def is_passing(error: APIError) -> bool:
    """Return whether the same call may go well later."""
    status = getattr(error, "status_code", None)
    return status is None or status in PASSING or status >= 500


def once(call: Callable[[], Any], find: Callable[[], Any], retries: int, sent: bool) -> Any:
    """Make a call that must not count twice, and return what it made.

    Where it may have been made before (`sent`, or a try that broke), `find` looks for that first.
    """
    for attempt in count():
        if sent and (found := find()) is not None:
            return found
        try:
            return call()
        except APIError as error:
            if attempt == retries or not is_passing(error):
                raise
            time.sleep(_pause(error, attempt))
            sent = True


def _pause(error: APIError, attempt: int) -> float:
    """Return the seconds to wait: the provider's `Retry-After`, or twice as long each time."""
    response = getattr(error, "response", None)
    try:
        return float(response.headers["retry-after"])
    except (AttributeError, KeyError, ValueError):
        return min(LONGEST_PAUSE, 0.5 * 2**attempt)


def submit(client: OpenAI, ledger: Ledger, job: Job, content: bytes, model: str) -> None:
    """Upload a job's requests and make its batch, each unless that is done.

    The ledger is written before and after each call. `model` replaces the requests' model where
    the provider can do that (SiliconFlow).
    """
    direct, retries = client.with_options(max_retries=0), client.max_retries
    if not job.input_file_id:
        name = f"{Path(job.file).stem}-{job.token}.jsonl"
        sent = _enter(ledger, job, UPLOADING)
        job.input_file_id = once(
            lambda: _upload(direct, name, content),
            lambda: _find_upload(client, name),
            retries,
            sent,
        )
        ledger.save()
    if not job.batch_id:
        sent = _enter(ledger, job, CREATING)
        batch = once(
            lambda: _create(direct, job, model), lambda: _find_batch(client, job), retries, sent
        )
        job.batch_id, job.status = batch["id"], batch["status"]
        ledger.save()


def _enter(ledger: Ledger, job: Job, status: str) -> bool:
    """Write down that a call is about to be made; return whether that stood there already."""
    known = job.status == status
    job.status = status
    ledger.save()
    return known


def _record(client: OpenAI, response: Any) -> Record:
    """Return the JSON of a raw response that describes a file or batch; SiliconFlow wraps it."""
    try:
        record = response.http_response.json()
        record = record["data"] if isinstance(record.get("data"), dict) else record
        if record.get("id"):
            return record
        said = record.get("message") or "no id"
    except (ValueError, AttributeError):
        said = "no JSON"
    raise UserError(f"{client.base_url} answers, but with {said}: check --base-url")


def _upload(client: OpenAI, name: str, content: bytes) -> str:
    raw = client.files.with_raw_response.create(file=(name, content), purpose="batch")
    return _record(client, raw)["id"]


def _find_upload(client: OpenAI, name: str) -> str | None:
    """Return the id of an upload by its name; None also where the provider lists no files."""
    try:
        return next((file.id for file in _all(client.files.list()) if file.filename == name), None)
    except NotFoundError:
        return None


def _create(client: OpenAI, job: Job, model: str) -> Record:
    raw = client.batches.with_raw_response.create(
        input_file_id=job.input_file_id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"token": job.token, "description": str(job)},
        extra_body={"replace": {"model": model}} if model else None,
    )
    return _record(client, raw)


def _find_batch(client: OpenAI, job: Job) -> Record | None:
    """Return the batch that was made of a job, None where there is none."""
    for batch in _all(client.batches.list(limit=100)):
        metadata = batch.metadata or {}
        if metadata.get("token") == job.token or batch.input_file_id == job.input_file_id:
            return {"id": batch.id, "status": batch.status}
    return None


def _all(page: Any) -> Iterator[Any]:
    """Yield the items of all pages; some providers send the first page again and again."""
    seen: set[str] = set()
    for item in page:
        if item.id in seen:
            return
        seen.add(item.id)
        yield item


def poll(client: OpenAI, job: Job) -> Record:
    """Return what the provider says of a job's batch."""
    return _record(client, client.batches.with_raw_response.retrieve(job.batch_id))


def download(client: OpenAI, file_id: str) -> bytes:
    """Return the lines of an output or error file, given by its id or its address."""
    for attempt in count(1):
        try:
            if file_id.startswith(("http://", "https://")):
                with urlopen(file_id) as response:
                    content = response.read()
            else:
                content = client.files.content(file_id).read()
            json.loads(content.rstrip().rpartition(b"\n")[2] or b"{}")
            return content
        except (OSError, HTTPException, ValueError) as error:
            if attempt == BROKEN_DOWNLOADS:
                raise UserError(
                    f"{file_id} arrived broken {attempt} times ({error}): run the same command "
                    "again to go on"
                ) from error
