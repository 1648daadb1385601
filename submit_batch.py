"""Step 2b: send the requests to the provider, wait, and fetch the answers.

Reads   REQUESTS_FILE and its shards (from batch_infer_gen.py, or the retry file of jsonl_to_csv.py)
        the key, from the environment: SILICONFLOW_API_KEY or OPENAI_API_KEY
Writes  ANSWERS_FILE: one answer a line, in the order of the requests, those of a retry at the end
        STATE_FILE: what was sent; stop the script at any moment and run it again to go on
Run     python submit_batch.py --limit 100   (a pilot; then without --limit)
"""

import sys
from functools import cache
from itertools import chain

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.files import check_outputs
from pipeline.labelling.answer_file import mend_tail, order_answers
from pipeline.labelling.labels import labelled_ids
from pipeline.labelling.ledger import FAILED, Job, Ledger, open_ledger, plan
from pipeline.labelling.price import print_estimate, print_outcome, print_request
from pipeline.labelling.requests import Requests, request_files, write_repeats

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # also its numbered shards
ANSWERS_FILE = "./pre_process/datas/silver_label_v2.jsonl"  # one answer a line
STATE_FILE = "./pre_process/datas/submit_batch.json"  # what was sent, and what came of it
# the provider
BASE_URL = "https://api.siliconflow.cn/v1"  # of any OpenAI-compatible service
MODE = "batch"  # batch; or chat: one by one, where there are no batches, or on your own machine
REPLACE_MODEL = ""  # another model than the requests name, in batches of SiliconFlow
MAX_CONCURRENCY = 16  # requests under way at once, in chat mode
MAX_RETRIES = 6  # of a call that fails for the moment, each after twice as long
TIMEOUT = 120.0  # seconds for a call
POLL_SECONDS = 30.0  # between two looks at the batches
# how much
LIMIT = 0  # only the first so many requests; 0 = all
REPEAT = 0  # so many times again a random sample, to see whether the teacher agrees with itself
REPEAT_ROWS = 250  # rows in that sample
SEED = 42  # of that sample
MAX_REQUESTS_PER_FILE = 5_000  # of that sample; SiliconFlow's limit, OpenAI's is 50,000
MAX_BYTES_PER_FILE = 200_000_000  # OpenAI's limit; SiliconFlow's is 1 GB
PRICE_PER_MILLION_INPUT_TOKENS = 2.0  # CNY, DeepSeek-V3's list price in 2025; see your provider's
PRICE_PER_MILLION_OUTPUT_TOKENS = 8.0  # the same
DRY_RUN = False  # print the first request and the price, and stop
YES = False  # send without asking
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(
        vars(args), "max_concurrency", "repeat_rows", "max_requests_per_file", "max_bytes_per_file"
    )
    if args.mode not in ("batch", "chat"):
        raise UserError(f"--mode {args.mode}: give batch or chat")
    if args.mode == "chat" and args.replace_model:
        raise UserError("--replace-model is for batches: give batch_infer_gen.py --model")
    files = request_files(args.requests_file)
    if args.repeat:
        limits = (args.max_requests_per_file, args.max_bytes_per_file)
        files = write_repeats(files, args.repeat, args.repeat_rows, args.seed, *limits)
    check_outputs([args.answers_file, args.state_file], inputs=files)
    requests = Requests(files)
    print(f"read {files[0]}{' and shards' * (len(files) > 1)}: {len(requests):,} requests")

    with open_ledger(args.state_file, args.base_url, args.answers_file) as ledger:
        if not args.dry_run:
            mend_tail(args.answers_file)
        labelled = cache(lambda: labelled_ids(args.answers_file, requests.prompt))
        new = plan(ledger, requests, args.mode, args.replace_model, args.limit, labelled)
        jobs = [job for job in ledger.jobs if job.is_open]
        announce(new, jobs, requests, args)
        if args.dry_run:
            return
        try:
            if jobs:
                send(ledger, new, jobs, requests, args)
        finally:
            order(ledger, requests)
        report(ledger, jobs, requests, args)


def announce(new: list[Job], jobs: list[Job], requests: Requests, args) -> None:
    """Print what is under way, what is to be sent, and what that costs."""
    if sent := sum(job.rows for job in jobs if job not in new):
        print(f"{sent:,} requests are under way")
    if not new:
        print("no request is left to send")
        return
    print_request(next(requests.read(new[0])))
    print(
        f"{sum(job.rows for job in new):,} requests to send to {args.base_url} ({args.mode} mode)"
    )
    print_estimate(
        chain.from_iterable(map(requests.read, new)),
        args.price_per_million_input_tokens,
        args.price_per_million_output_tokens,
    )


def send(ledger: Ledger, new: list[Job], jobs: list[Job], requests: Requests, args) -> None:
    """Send what was not sent yet, wait, and fetch the answers."""
    from pipeline.labelling.provider import connect, told
    from pipeline.labelling.send_batches import run_batches
    from pipeline.labelling.send_singly import run_chat

    client = connect(args.base_url, args.max_retries, args.timeout)
    if new and not args.yes:
        ask(sum(job.rows for job in new))
    ledger.save()
    batches, chats = ([job for job in jobs if job.mode == mode] for mode in ("batch", "chat"))
    with told(client):
        if batches:
            run_batches(client, ledger, batches, requests, args.poll_seconds)
        if chats:
            run_chat(client, ledger, chats, requests, args.max_concurrency)


def order(ledger: Ledger, requests: Requests) -> None:
    """Put the answers in the requests' order, unless a job still counts on where they stand."""
    if not any(job.is_open and job.mode == "chat" for job in ledger.jobs):
        order_answers(ledger.answers_file, lambda custom_id: requests.place.get(custom_id, -1))


def ask(count: int) -> None:
    """Ask whether to spend the money; stop where the answer is no, or nobody is there to say."""
    if not sys.stdin.isatty():
        raise UserError("nobody is there to ask: give --yes to send the requests")
    try:
        reply = input(f"Send {count:,} requests? [y/N] ")
    except EOFError:
        reply = ""
    if reply.strip().lower() not in ("y", "yes"):
        raise UserError("nothing was sent")


def report(ledger: Ledger, jobs: list[Job], requests: Requests, args) -> None:
    """Print what came of the requests so far; stop with a line where batches were refused."""
    counts = [job.counts for name in requests.files for job in ledger.jobs_of(name)]
    if counts:
        print_outcome(
            counts, args.price_per_million_input_tokens, args.price_per_million_output_tokens
        )
        print(f"wrote {args.answers_file}: run jsonl_to_csv.py, which says what to send again")
    if refused := [f"{job}: {job.message}" for job in jobs if job.status == FAILED]:
        raise UserError(
            f"the provider refused {len(refused)} batches, which cost nothing ({refused[0]}): "
            "correct the requests, or wait where it names a limit, and run this again"
        )


if __name__ == "__main__":
    run(main)
