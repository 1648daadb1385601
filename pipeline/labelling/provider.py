"""The provider: its address and key, and what its errors mean.

A provider with OpenAI's interface needs no code, only its --base-url. Where a new one differs: its
key and its errors belong here, its batches in `batch_calls.py` (as SiliconFlow's do), its way to
answer single requests in `send_singly.py`, and the form of its answers in `outcomes.py`.
"""

import ipaddress
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from openai import APIError, APIStatusError, DefaultHttpxClient, OpenAI

from pipeline.common.cli import UserError

NO_KEY = "none"  # to a server on one's own machine, which asks for no key
TEMPORARY = (408, 409, 429)  # statuses worth another try; so are 500 to 599
# What providers say when an account has too much under way. Sources: OpenAI's error code
# token_limit_exceeded ("Enqueued token limit reached"), Azure's and SiliconFlow's own words.
LIMIT = re.compile(
    r"(?:enqueued|queued?|concurrent|batch|token|quota|rate)\w*\W+(?:\w+\W+){0,4}?(?:limit|exceed|quota)"
    r"|too many|maximum number of|队列|并发|上限|限制",
    re.IGNORECASE,
)
SHORTEST_SECRET = 16  # characters of a key; shorter ones are for servers that ask for none
FIRST_WAIT, LONGEST_WAIT = 0.5, 60  # seconds between two tries, which double


@dataclass(frozen=True)
class SendOptions:
    """How requests are sent, as submit_batch.py has it; times are in seconds."""

    max_concurrency: int
    max_retries: int
    timeout: float
    poll_seconds: float
    max_batches_under_way: int
    wait_for_rows: float
    accept_missing: bool


def connect(base_url: str, max_retries: int, timeout: float) -> OpenAI:
    """Return a client with the key from the environment; nothing near goes through a proxy."""
    key = key_for(base_url)
    near = is_local(urlsplit(base_url).hostname or "")
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
    if url.username is not None or url.query or url.fragment:
        raise UserError(
            "--base-url is written down with what was sent, so it may hold no key: leave out what "
            f"stands before @ or after ? or #, and give the key by `{how_to_set(names[0])}` in the "
            "shell"
        )
    key = next((os.environ[name].strip() for name in names if os.environ.get(name)), "")
    if not key and not is_local(host):
        raise UserError(f"no key for {host}: give it by `{how_to_set(names[0])}` in the shell")
    if not re.fullmatch(r"[!-~]*", key):
        raise UserError(
            f"the key for {host} holds a space, a line break or a letter that no key has: copy it "
            "again, without quotation marks of a text processor"
        )
    return key or NO_KEY


def how_to_set(name: str, system: str = platform.system()) -> str:
    """Return the command by which a shell of this system sets an environment variable."""
    return f"set {name}=..." if system == "Windows" else f"export {name}=..."


def is_local(host: str) -> bool:
    """Return whether a host is this machine or one of its private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host


@contextmanager
def errors_in_one_line(client: OpenAI) -> Iterator[None]:
    """Turn an error of a call into a UserError of one line, without the key."""
    try:
        yield
    except APIError as error:
        raise UserError(hide_key(client, explain(error, str(client.base_url)))) from None


def hide_key(client: OpenAI, text: str) -> str:
    """Return a text without the key, which some providers quote."""
    return text if client.api_key == NO_KEY else text.replace(client.api_key, "[key]")


def hide_key_in_answers(client: OpenAI, lines: bytes) -> bytes:
    """Return lines of answers without the key; a word that is no secret is left in them."""
    if len(client.api_key) < SHORTEST_SECRET:
        return lines
    return lines.replace(client.api_key.encode(), b"[key]")


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
            f"{base_url} has no such address or model ({message}): check --base-url, which mostly "
            "ends in /v1, and the model"
        )
    return f"{base_url} answers {status} ({message}); {again}"


def message_of(error: APIStatusError) -> str:
    """Return what the provider says of an error, servers made with FastAPI in `detail`."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body.get("detail") or error.message)


def is_temporary(error: APIError) -> bool:
    """Return whether the same call may go well later."""
    status = getattr(error, "status_code", None)
    return status is None or status in TEMPORARY or status >= 500


def is_limit(error: APIError) -> bool:
    """Return whether a call is refused for a limit of the account, which passes."""
    status = getattr(error, "status_code", None)
    return status == 429 or (status in (400, 403) and names_limit(str(error)))


def names_limit(message: str) -> bool:
    """Return whether a refusal of a batch names a limit of the account, not of the request.

    Such as "Enqueued token limit reached" or "maximum number of batches in progress".
    """
    return bool(LIMIT.search(message)) and not message.startswith("line ")


def seconds_to_wait(error: APIError, attempt: int) -> float:
    """Return the seconds to wait: the provider's `Retry-After`, or twice as long each time."""
    response = getattr(error, "response", None)
    try:
        asked = float(response.headers["retry-after"])
        return asked if 0 <= asked <= LONGEST_WAIT else LONGEST_WAIT
    except (AttributeError, KeyError, ValueError):
        return doubled_wait(attempt)


def doubled_wait(attempt: int) -> float:
    """Return the seconds to wait after the try `attempt` (from 0): twice as long each time."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
