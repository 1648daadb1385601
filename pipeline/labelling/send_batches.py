"""Requests sent as batches: upload, wait, fetch the answers.

A few batches are under way at once. Each is fetched as soon as it is there, whatever else is
refused or waiting.
"""

import time
from dataclasses import dataclass, field, replace

from openai import APIError, OpenAI
from tqdm import tqdm

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject
from pipeline.labelling.answer_file import add_answers, count_answers, distinct_lines, id_of
from pipeline.labelling.batch_calls import fetch, poll, submit
from pipeline.labelling.ledger import FAILED, REPLACED, Job, Ledger, new_token
from pipeline.labelling.provider import (
    SendOptions,
    explain,
    hide_key,
    is_limit,
    is_temporary,
    names_limit,
)
from pipeline.labelling.requests import Requests

LONGEST_SEARCH_PAUSE = 5.0  # seconds, until a batch that was made shows among the provider's
ENDED = ("completed", "failed", "expired", "cancelled")
RUNNING = "in_progress"
REFUSALS = 10  # looks, one after another, in which batches are refused for a limit and none runs


@dataclass
class Progress:
    """What a run has met so far.

    `may_plan` is whether the requests of a batch that is refused for a limit may be sent again.
    `given_up` says why a job, by its token, is not looked at any more in this run; `stop` why
    nothing else is sent. `refusal` is the provider's word of a limit, and `refused_at` how many
    batches were under way then. `refused` and `ran` are of one look at all batches: whether some
    were refused for a limit, and whether one ran or was collected. `refusals` counts the looks with
    refusals since one ran. `unanswered` says why a batch could not be asked after for the moment.
    `ended` is when a job's batch was first seen to have ended, by its token and `time.monotonic`.
    """

    may_plan: bool
    given_up: dict[str, str] = field(default_factory=dict)
    stop: APIError | UserError | None = None
    refusal: str = ""
    refused_at: int = 0
    refused: bool = False
    ran: bool = False
    refusals: int = 0
    unanswered: str = ""
    ended: dict[str, float] = field(default_factory=dict)

    def seconds_since_end(self, job: Job) -> float:
        """Return how long ago a job's batch was first seen to have ended.

        While the script runs, this is by a clock that no correction of the time moves. Of the time
        before, as the ledger has it, nothing counts where it lies in the future.
        """
        if job.token not in self.ended:
            job.ended = job.ended or time.time()
            self.ended[job.token] = time.monotonic() - max(0.0, time.time() - job.ended)
        return time.monotonic() - self.ended[job.token]

    def refuse(self, message: str, under_way: int) -> None:
        """Note that the provider takes no other batch for now."""
        self.refusal, self.refused_at, self.refused = message, under_way, True

    def end_look(self) -> None:
        """Count a look at all batches in which some were refused and none ran or was collected."""
        self.refusals = 0 if self.ran else self.refusals + self.refused
        self.refused = self.ran = False
        if self.refusals == REFUSALS:
            self.stop = UserError(
                f"the provider takes no batch for now ({self.refusal}): run the same command "
                "again later; nothing is lost"
            )


def run_batches(
    client: OpenAI, ledger: Ledger, requests: Requests, options: SendOptions, may_plan: bool
) -> None:
    """Make the batches of open jobs, wait until all have ended, and add their answers.

    A batch that cannot be made, asked after or fetched does not keep the others waiting. `may_plan`
    as in `Progress`.
    """
    progress = Progress(may_plan)
    counts: dict[str, tuple[int, int]] = {}  # requests completed and failed, by token
    total = sum(job.rows for job in _open_batches(ledger))
    with tqdm(total=total, unit="row") as bar:
        while True:
            jobs = [j for j in _open_batches(ledger) if j.token not in progress.given_up]
            under_way = [job for job in jobs if job.batch_id]
            queue = [] if progress.stop else [job for job in jobs if not job.batch_id]
            if not under_way and not queue:
                break
            _submit_some(client, ledger, requests, queue, under_way, progress, options)
            for job in [job for job in jobs if job.batch_id]:
                _look_after(client, ledger, requests, job, counts, progress, options)
            progress.end_look()
            completed, failed = map(sum, zip((0, 0), *counts.values(), strict=True))
            left = sum(job.is_open for job in jobs)
            said = f"{completed:,} completed, {failed:,} failed, {left} batches left"
            bar.set_postfix_str(said + progress.unanswered)
            bar.update(completed + failed - bar.n)
            if any(job.token not in progress.given_up for job in _open_batches(ledger)):
                time.sleep(options.poll_seconds)
    if progress.stop:
        raise progress.stop
    if why := list(progress.given_up.values()):
        raise UserError(f"not fetched: {len(why)} of the batches. {why[0]}")


def _open_batches(ledger: Ledger) -> list[Job]:
    return [job for job in ledger.open_jobs if job.mode == "batch"]


def _submit_some(
    client: OpenAI,
    ledger: Ledger,
    requests: Requests,
    queue: list[Job],
    under_way: list[Job],
    progress: Progress,
    options: SendOptions,
) -> None:
    """Submit jobs as long as there is room; after a refusal, once a batch has ended."""
    if progress.refusal and under_way and len(under_way) >= progress.refused_at:
        return
    pause = min(options.poll_seconds, LONGEST_SEARCH_PAUSE)
    room = max(0, options.max_batches_under_way - len(under_way))
    for number, job in enumerate(queue[:room]):
        try:
            submit(client, ledger, requests, job, pause)
            progress.refusal = ""
        except (APIError, UserError) as error:
            if isinstance(error, APIError) and is_limit(error):
                progress.refuse(hide_key(client, str(error)), len(under_way) + number)
            else:
                progress.stop = error
            return


def _look_after(
    client: OpenAI,
    ledger: Ledger,
    requests: Requests,
    job: Job,
    counts: dict[str, tuple[int, int]],
    progress: Progress,
    options: SendOptions,
) -> None:
    """Ask after a job's batch, and collect what it brought once it has ended."""
    try:
        batch = poll(client, job)
        progress.unanswered = ""
        said = batch.get("request_counts") or {}
        counts[job.token] = (said.get("completed") or 0, said.get("failed") or 0)
        if batch["status"] not in ENDED:
            if batch["status"] != job.status:
                job.status = batch["status"]
                ledger.save()
            progress.ran |= batch["status"] == RUNNING
        elif _has_no_files(batch) and batch["status"] == "failed":
            _refuse(client, ledger, requests, job, batch, progress)
        else:
            progress.ran = True
            collect(client, ledger, job, batch, progress, options)
    except UserError as error:
        progress.given_up[job.token] = str(error)
    except APIError as error:
        if is_temporary(error):
            progress.unanswered = f"; asking again: {hide_key(client, str(error))}"
        else:
            progress.given_up[job.token] = hide_key(client, why_not_found(error, client, job))


def _has_no_files(batch: JsonObject) -> bool:
    return not (batch.get("output_file_id") or batch.get("error_file_id"))


def why_not_found(error: APIError, client: OpenAI, job: Job) -> str:
    """Say why a batch cannot be asked after."""
    if getattr(error, "status_code", None) != 404:
        return explain(error, str(client.base_url))
    return (
        f"{job.batch_id} or its answers are not at {client.base_url} any more (they are kept 30 "
        "days): to pay again, take its job out of the state file"
    )


def _refuse(
    client: OpenAI,
    ledger: Ledger,
    requests: Requests,
    job: Job,
    batch: JsonObject,
    progress: Progress,
) -> None:
    """Note that the provider refused a batch; where for a limit, plan its requests again."""
    job.message, ids = hide_key(client, reason_of_failure(batch)), ledger.ids_of(job)
    wanted = progress.may_plan and requests.position.keys() >= set(ids)
    if wanted and names_limit(job.message):
        job.status = REPLACED
        again = replace(
            job, token=new_token(), status="planned", input_file_id="", batch_id="", message=""
        )
        ledger.add(again, ids)
        progress.refuse(job.message, sum(bool(other.batch_id) for other in _open_batches(ledger)))
    else:
        job.status = FAILED
    ledger.save()


def collect(
    client: OpenAI,
    ledger: Ledger,
    job: Job,
    batch: JsonObject,
    progress: Progress,
    options: SendOptions,
) -> None:
    """Add what a batch that has ended brought, also of rows that failed or came before its end.

    It is collected when each of its requests has an answer or an error. Until then it stays open:
    a provider may show the end before the files. Raises UserError where a completed batch lacks
    rows for longer than it may.
    """
    ids = set(ledger.ids_of(job))
    lines = distinct_lines(fetch(client, job, batch))
    add_answers(ledger.answers_of(job), lines)
    missing = len(ids.difference(map(id_of, lines)))
    waited = progress.seconds_since_end(job) >= options.wait_for_rows
    if not missing or (waited and (batch["status"] != "completed" or options.accept_missing)):
        counts = count_answers(lines, ids)
        said = {reason: hide_key(client, text) for reason, text in counts["messages"].items()}
        job.end(batch["status"], counts | {"messages": said, "retried": job.retried})
    else:
        job.status = batch["status"]
    ledger.save()
    if job.is_open and waited:
        raise UserError(
            f"{job.batch_id} is completed, and {missing:,} of its {job.rows:,} requests have "
            f"neither an answer nor an error; the others are kept. Look it up at "
            f"{client.base_url}: run the same command again to ask once more, or give "
            "--accept-missing if it has no more there, and the rows count as missing"
        )


def reason_of_failure(batch: JsonObject) -> str:
    """Return the first reason why a provider refused a batch: a list of texts or of records."""
    errors = batch.get("errors")
    reasons = errors.get("data") if isinstance(errors, dict) else errors
    first = reasons[0] if isinstance(reasons, list) and reasons else reasons
    if not isinstance(first, dict):
        return str(first or "no reason given")
    where = f"line {first['line']}: " if first.get("line") else ""
    return where + str(first.get("message") or first.get("code"))
