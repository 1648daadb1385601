"""Step 2b: send the requests to the provider, wait, and fetch the answers.

What was sent, is under way or has a label is not sent again. With another codebook or model, all
comments are labelled anew, at the price that is shown; the answers so far are kept apart.

Reads   REQUESTS_FILE and its shards (from batch_infer_gen.py, or the retry file of jsonl_to_csv.py)
        PROMPT_FILE, the codebook that they must ask with
        the key, from the environment: SILICONFLOW_API_KEY or OPENAI_API_KEY
Writes  ANSWERS_FILE: one answer a line, in the order of the requests
        LABEL_SETS_DIR/<model>-<set>, the answers by other codebooks and models
        STATE_FILE and jobs: what was sent; stop the script at any moment, run it again to go on
Run     python submit_batch.py --limit 100   (a pilot, random; then without --limit)
"""

import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import check_outputs
from pipeline.labelling.answer_file import cut_half_written_line
from pipeline.labelling.ledger import open_ledger
from pipeline.labelling.price import print_plan, print_result
from pipeline.labelling.provider import SendOptions
from pipeline.labelling.requests import Requests, write_repeats
from pipeline.labelling.send import plan_by_codebook, refuse_outdated, send_open_jobs
from pipeline.labelling.shards import request_files

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # also its numbered shards
ANSWERS_FILE = "./pre_process/datas/silver_label_v2.jsonl"  # one answer a line
STATE_FILE = "./pre_process/datas/submit_batch.json"  # what was sent, and what came of it
LABEL_SETS_DIR = "./pre_process/label_sets"  # the answers by other codebooks and models
PROMPT_FILE = "./prompt.txt"  # the codebook; requests with another one are not sent
# the provider
BASE_URL = "https://api.siliconflow.cn/v1"  # of any OpenAI-compatible service
MODE = "batch"  # batch; or chat: one by one, where there are no batches, or on your own machine
REPLACE_MODEL = ""  # another model than the requests name, in batches of SiliconFlow
MAX_CONCURRENCY = 16  # requests under way at once, in chat mode
MAX_RETRIES = 6  # of a call that fails for the moment, each after twice as long
TIMEOUT = 120.0  # seconds for a call
POLL_SECONDS = 30.0  # between two looks at the batches
MAX_BATCHES_UNDER_WAY = 10  # at once; what the provider refuses for a limit waits
WAIT_FOR_ROWS = 600.0  # seconds that an ended batch may take to show all of its rows
ACCEPT_MISSING = False  # then count rows that a completed batch lacks as missing
# how much
LIMIT = 0  # so many requests, a random part; 0 = all
REPEAT = 0  # so many times again a random sample, to see whether the teacher agrees with itself
REPEAT_ROWS = 250  # rows in that sample
SEED = 42  # of the random parts
MAX_REQUESTS_PER_FILE = 5_000  # of that sample; SiliconFlow's limit, OpenAI's is 50,000
MAX_BYTES_PER_FILE = 200_000_000  # OpenAI's limit; SiliconFlow's is 1 GB
PRICE_PER_MILLION_INPUT_TOKENS = 2.0  # CNY, DeepSeek-V3's list price in 2025; see your provider's
PRICE_PER_MILLION_OUTPUT_TOKENS = 8.0  # the same
DRY_RUN = False  # print the first request and the price, and stop
YES = False  # send without asking
# ---------------------------------------------------------------------------------------------


COUNTS = ("max_concurrency", "repeat_rows", "max_requests_per_file", "max_bytes_per_file")
COUNTS += ("max_batches_under_way",)
HOW_TO_SEND = [field.name for field in fields(SendOptions)]


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), *COUNTS)
    check_mode(args.mode, args.replace_model)
    files = request_files(args.requests_file)
    if args.repeat:
        limits = args.max_requests_per_file, args.max_bytes_per_file
        files = write_repeats(files, args.repeat, args.repeat_rows, args.seed, *limits)
    check_outputs([args.answers_file, args.state_file], inputs=files)
    requests, codebook = requests_to_send(files), read_codebook(args.prompt_file)
    print(f"read {files[0]}{' and shards' * (len(files) > 1)}: {len(requests):,} requests")
    prices = args.price_per_million_input_tokens, args.price_per_million_output_tokens
    options = SendOptions(**{name: vars(args)[name] for name in HOW_TO_SEND})
    place = args.state_file, args.base_url, args.answers_file, args.label_sets_dir
    with open_ledger(*place, requests.label_set) as ledger:
        if not args.dry_run:
            cut_half_written_line(args.answers_file)
        way = args.mode, args.replace_model, args.limit, args.seed
        new, outdated = plan_by_codebook(ledger, requests, codebook, *way)
        print_plan(ledger, new, requests, args.mode, *prices)
        if not args.dry_run:
            confirm = partial(ask, sum(job.rows for job in new), args.yes)
            refused = send_open_jobs(ledger, requests, codebook, confirm, options)
            print_result(ledger, refused, requests, *prices)
    refuse_outdated(outdated, codebook)


def requests_to_send(files: list[Path]) -> Requests:
    """Return the requests; stop where there are none."""
    requests = Requests(files)
    if not len(requests):
        raise UserError(f"{files[0]} holds no requests: there is nothing to send")
    return requests


def check_mode(mode: str, replace_model: str) -> None:
    """Refuse a mode that does not exist, or that cannot replace the model."""
    if mode not in ("batch", "chat"):
        raise UserError(f"--mode {mode}: give batch or chat")
    if mode == "chat" and replace_model:
        raise UserError("--replace-model is for batches: give batch_infer_gen.py --model")


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


if __name__ == "__main__":
    run(main)
