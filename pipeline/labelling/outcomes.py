"""A provider's answers read as labels."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.codebook import Codebook, parse_codebook
from pipeline.common.replies import parse_reply
from pipeline.labelling.logprobs import class_probabilities
from pipeline.labelling.requests import REPEAT, answer_files, read_lines

CUSTOM_ID = re.compile(r'"custom_id"\s*:\s*"([^"\\]*)"')


@dataclass(frozen=True)
class Outcome:
    """What came of a request: a label, or -1 and the reason; `form` is `strict` or `lenient`.

    `probabilities` are those of the classes where the provider gave log-probabilities, None for a
    class that is not among the most probable tokens. `created` is when the provider answered, in
    seconds since 1970, 0 where it does not say.
    """

    label: int
    form: str
    reply: str
    probabilities: tuple[float | None, ...] = ()
    created: float = 0


MISSING = Outcome(-1, "missing", "")
UNDECIDED = ("conflicting answers", "tie")  # another answer would not settle it


def read_answers(files: Iterable[Path], codebook: Codebook) -> Iterator[tuple[str, Outcome]]:
    """Yield custom_id ("" where a broken line hides it) and outcome of each answer line."""
    for file, number, line in read_lines(files):
        try:
            record = json.loads(line)
            yield str(record["custom_id"]), outcome_of(record, codebook)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            text = line.decode(errors="replace")
            named = CUSTOM_ID.search(text)
            custom_id = named[1] if named else ""
            yield custom_id, Outcome(-1, f"malformed line {number}", f"{file.name}: {text}")


def failure_of(record: dict[str, Any]) -> Outcome | None:
    """Return why a request came to no chat completion, None where it did."""
    response = record.get("response") or {}
    body = response.get("body") or {}
    status = int(response.get("status_code") or 200)
    error = record.get("error") or (body.get("error") if isinstance(body, dict) else body)
    if not error and status < 400:
        return None
    error = error if isinstance(error, dict) else {"code": "error", "message": error or body}
    code = str(error.get("code") or error.get("type") or "error")
    told = status < 400 or code == "content_filter"
    return Outcome(-1, code if told else f"http {status}", str(error.get("message", "")))


def outcome_of(record: dict[str, Any], codebook: Codebook) -> Outcome:
    """Read one answer record of the batch format; a reply cut by `length` must still be a label."""
    if failure := failure_of(record):
        return failure
    choice = choice_of(record)
    content = (choice.get("message") or {}).get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    reply, finish = content.strip(), choice.get("finish_reason")
    if finish == "content_filter":
        return Outcome(-1, "content_filter", reply)
    parsed = parse_reply(reply, codebook)
    cut = parsed.label < 0 and finish == "length"
    tokens = (choice.get("logprobs") or {}).get("content") or []
    probabilities = class_probabilities(tokens, parsed.label, len(codebook.names))
    created = record["response"]["body"].get("created")
    created = created if isinstance(created, int | float) else 0
    return Outcome(parsed.label, "length" if cut else parsed.form, reply, probabilities, created)


def choice_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the first choice of an answer record, {} where there is none."""
    body = (record.get("response") or {}).get("body") or {}
    return (body.get("choices") or [{}])[0]


def gather(
    answers: Iterable[tuple[str, Outcome]], requests: Container[str]
) -> tuple[dict[str, list[Outcome]], dict[str, list[Outcome]], list[tuple[str, str, str]]]:
    """Return the outcomes of rows and of their repeats, by custom_id, and those of no row."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    repeats: dict[str, list[Outcome]] = defaultdict(list)
    strays: list[tuple[str, str, str]] = []
    for custom_id, outcome in answers:
        asked, again, _ = custom_id.rpartition(REPEAT)
        if custom_id in requests:
            outcomes[custom_id].append(outcome)
        elif again and asked in requests:
            repeats[asked].append(outcome)
        else:
            broken = outcome.form.startswith("malformed")
            strays.append((custom_id, outcome.form if broken else "unknown id", outcome.reply))
    return outcomes, repeats, strays


def merge(first: Outcome, second: Outcome) -> Outcome:
    """Return what two answers to one request come to: a label beats a failure, two must agree."""
    if second.label < 0:
        return first if first.label >= 0 or first.form == UNDECIDED[0] else second
    if first.form == UNDECIDED[0] or first.label not in (-1, second.label):
        return Outcome(-1, UNDECIDED[0], f"{first.reply} | {second.reply}")
    return second if first.label < 0 else first


def majority(outcomes: list[Outcome]) -> Outcome:
    """Return what most of a row's answers with a label say; a tie is no label."""
    votes = Counter(outcome.label for outcome in outcomes if outcome.label >= 0).most_common(2)
    if not votes:
        return outcomes[0]
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        return Outcome(-1, UNDECIDED[1], " | ".join(outcome.reply for outcome in outcomes))
    return next(outcome for outcome in outcomes if outcome.label == votes[0][0])


def self_agreement(rows: Iterable[list[Outcome]]) -> tuple[int, int, float]:
    """Return how many rows have several labels, how many have one alone, and how often two agree.

    The last is the share of pairs of a row's labels, a mean over rows.
    """
    shares = []
    for outcomes in rows:
        counts = Counter(outcome.label for outcome in outcomes if outcome.label >= 0)
        if (n := counts.total()) > 1:
            shares.append(sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)))
    return len(shares), shares.count(1.0), sum(shares) / max(len(shares), 1)


def labelled_ids(path: str | Path, prompt: str) -> set[str]:
    """Return the ids that have a label in the answers so far, by the codebook of a prompt."""
    if not Path(path).is_file():
        return set()
    codebook = parse_codebook("the requests' codebook", prompt)
    outcomes: dict[str, Outcome] = {}
    for custom_id, outcome in read_answers(answer_files(path), codebook):
        known = outcomes.get(custom_id)
        outcomes[custom_id] = merge(known, outcome) if known else outcome
    return {custom_id for custom_id, outcome in outcomes.items() if outcome.label >= 0}
