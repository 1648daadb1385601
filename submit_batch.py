"""Step 2b: send the requests to the provider, wait, and fetch the answers.

Reads   REQUESTS_FILE and its shards (from batch_infer_gen.py, or the retry file of jsonl_to_csv.py)
        PROMPT_FILE, the codebook that they must ask with
        the key, from the environment: SILICONFLOW_API_KEY or OPENAI_API_KEY
Writes  ANSWERS_FILE: one answer a line, in the order of the requests, those of a retry at the end
        STATE_FILE: what was sent; stop the script at any moment and run it again to go on
Run     python submit_batch.py --limit 100   (a pilot; then without --limit)
"""

import sys
from functools import partial
from itertools import chain

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import check_outputs
from pipeline.labelling.answer_file import cut_half_written_line
from pipeline.labelling.ledger import Job, Ledger, open_ledger
from pipeline.labelling.price import print_estimate, print_outcome, print_request
from pipeline.labelling.requests import Requests, request_files, write_repeats
from pipeline.labelling.send import plan_by_codebook, refuse_outdated, send_open_jobs

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # also its numbered shards
ANSWERS_FILE = "./pre_process/datas/silver_label_v2.jsonl"  # one answer a line
STATE_FILE = "./pre_process/datas/submit_batch.json"  # what was sent, and what came of it
PROMPT_FILE = "./prompt.txt"  # the codebook; requests with another one are not sent
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


COUNTS = ("max_concurrency", "repeat_rows", "max_requests_per_file", "max_bytes_per_file")


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), *COUNTS)
    check_mode(args.mode, args.replace_model)
    files = request_files(args.requests_file)
    if args.repeat:
        limits = args.max_requests_per_file, args.max_bytes_per_file
        files = write_repeats(files, args.repeat, args.repeat_rows, args.seed, *limits)
    check_outputs([args.answers_file, args.state_file], inputs=files)
    requests, codebook = Requests(files), read_codebook(args.prompt_file)
    print(f"read {files[0]}{' and shards' * (len(files) > 1)}: {len(requests):,} requests")
    prices = args.price_per_million_input_tokens, args.price_per_million_output_tokens

    with open_ledger(args.state_file, args.base_url, args.answers_file) as ledger:
        if not args.dry_run:
            cut_half_written_line(args.answers_file)
        way = args.mode, args.replace_model, args.limit
        new, outdated = plan_by_codebook(ledger, requests, codebook, *way)
        announce(ledger, new, requests, args.mode, *prices)
        if not args.dry_run:
            confirm = partial(ask, sum(job.rows for job in new), args.yes)
            calls = args.max_retries, args.timeout, args.poll_seconds, args.max_concurrency
            refused = send_open_jobs(ledger, requests, confirm, *calls)
            report(ledger, refused, requests, *prices)
    refuse_outdated(outdated, codebook, args.state_file, args.answers_file)


def check_mode(mode: str, replace_model: str) -> None:
    """Refuse a mode that does not exist, or that cannot replace the model."""
    if mode not in ("batch", "chat"):
        raise UserError(f"--mode {mode}: give batch or chat")
    if mode == "chat" and replace_model:
        raise UserError("--replace-model is for batches: give batch_infer_gen.py --model")


def announce(
    ledger: Ledger,
    new: list[Job],
    requests: Requests,
    mode: str,
    price_in: float,
    price_out: float,
) -> None:
    """Print what is under way, what is to be sent, and what that costs."""
    if sent := sum(job.rows for job in ledger.open_jobs if job not in new):
        print(f"{sent:,} requests are under way")
    if not new:
        print("no request is left to send")
        return
    print_request(next(requests.read(new[0])))
    count = sum(job.rows for job in new)
    print(f"{count:,} requests to send to {ledger.base_url} ({mode} mode)")
    print_estimate(chain.from_iterable(map(requests.read, new)), price_in, price_out)


def ask(count: int, yes: bool) -> None:
    """Ask whether to spend the money; stop where the answer is no, or nobody is there to say.

    With `yes`, or where there is nothing to send, nobody is asked.
    """
    if yes or not count:
        return
    if not sys.stdin.isatty():
        raise UserError("nobody is there to ask: give --yes to send the requests")
    try:
        reply = input(f"Send {count:,} requests? [y/N] ")
    except EOFError:
        reply = ""
    if reply.strip().lower() not in ("y", "yes"):
        raise UserError("nothing was sent")


def report(
    ledger: Ledger, refused: list[Job], requests: Requests, price_in: float, price_out: float
) -> None:
    """Print what came of the requests so far; stop with a line where batches were refused."""
    counts = [job.counts for name in requests.files for job in ledger.jobs_of(name)]
    if counts:
        print_outcome(counts, price_in, price_out)
        print(f"wrote {ledger.answers_file}: run jsonl_to_csv.py, which says what to send again")
    if refused:
        raise UserError(
            f"the provider refused {len(refused)} batches, which cost nothing ({refused[0]}: "
            f"{refused[0].message}): correct the requests, or wait where it names a limit, and run "
            "this again"
        )


if __name__ == "__main__":
    run(main)
