"""Step 2: write the batch requests to a large LLM, one per comment, with the codebook as prompt.

Rows that people coded are not asked. A request's id is made from the codebook, the model and the
comment, so that an answer belongs to these wherever the row stands; the row's own id is not sent.

Reads   INPUT_FILE (from excel_2_csv.py), PROMPT_FILE (the codebook)
Writes  REQUESTS_FILE, or REQUESTS_FILE numbered -00001-of-00015 where one file is too small
Run     python batch_infer_gen.py --model deepseek-ai/DeepSeek-V3
"""

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import JsonObject, check_outputs
from pipeline.common.rows import coded_by_people
from pipeline.common.stored_rows import MESSAGE_HASH, StoredRows, store_rows
from pipeline.common.tables import PART
from pipeline.labelling.id_columns import ids_of_rows
from pipeline.labelling.ids import label_set_of
from pipeline.labelling.price import Estimate, estimate_tokens, print_request
from pipeline.labelling.request_lines import line_maker, max_tokens_of
from pipeline.labelling.requests import read_requests
from pipeline.labelling.shards import write_shards

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
INPUT_FILE = "./pre_process/datas/simple.csv"  # custom_id, message
PROMPT_FILE = "./prompt.txt"  # the codebook
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # one request a line
MODEL = "deepseek-ai/DeepSeek-V3"  # the provider's name of the model
MAX_TOKENS = 20  # longest answer, in tokens
TEMPERATURE = 0.0  # 0 = the most probable answer
TOP_LOGPROBS = 0  # 5 where the provider gives them: the teacher's confidence, in step 3
ASK_CODED_ROWS = False  # also those that people coded: how far the model agrees with them
ASK_EQUAL_COMMENTS_ONCE = False  # the answer counts for all comments that are the same
EXTRA_BODY = "{}"  # JSON merged into every request's body, such as {"enable_thinking": false}
MAX_REQUESTS_PER_FILE = 5_000  # SiliconFlow's limit; OpenAI's is 50,000
MAX_BYTES_PER_FILE = 200_000_000  # OpenAI's limit; SiliconFlow's is 1 GB
PRICE_PER_MILLION_INPUT_TOKENS = 2.0  # CNY, DeepSeek-V3's list price in 2025; see your provider's
PRICE_PER_MILLION_OUTPUT_TOKENS = 8.0  # the same
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), "max_requests_per_file", "max_bytes_per_file", "max_tokens")
    check_outputs([args.requests_file], inputs=[args.input_file, args.prompt_file])
    codebook = read_codebook(args.prompt_file)
    rows = store_rows(args.input_file, "excel_2_csv.py", codebook)

    body = {"model": args.model, "max_tokens": args.max_tokens, "temperature": args.temperature}
    if args.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": args.top_logprobs}
    body |= read_extra_body(args.extra_body)
    asked = rows_to_ask(rows.frame, args.ask_coded_rows, args.ask_equal_comments_once)
    estimate = Estimate()
    lines = lines_and_prices(rows, asked, codebook.text, body, estimate)
    limits = args.max_requests_per_file, args.max_bytes_per_file
    files = write_shards(lines, args.requests_file, *limits)
    print_request(next(read_requests(files)))
    more = f" to {files[-1].name} ({len(files)} files)" if len(files) > 1 else ""
    print(f"wrote {files[0]}{more}: {len(asked):,} requests")
    estimate.print(args.price_per_million_input_tokens, args.price_per_million_output_tokens)


def rows_to_ask(rows: pd.DataFrame, ask_coded: bool, equal_once: bool) -> np.ndarray:
    """Return the places of the rows that are asked, in order; print why others are not."""
    human = coded_by_people(rows)
    asked = np.flatnonzero(human & ask_coded | ~human)
    if human.any():
        what = "are asked all the same" if ask_coded else "are not asked"
        print(f"{human.sum():,} rows that people coded {what}")
    if equal_once:
        equal = rows[MESSAGE_HASH].iloc[asked].duplicated().to_numpy()
        saved = equal.sum() / max(len(asked), 1)
        print(f"{equal.sum():,} comments equal another and are not asked: {saved:.1%} saved")
        asked = asked[~equal]
    if not len(asked):
        raise UserError("people coded all rows: there is nothing to ask; run jsonl_to_csv.py")
    return asked


def lines_and_prices(
    rows: StoredRows, asked: np.ndarray, prompt: str, body: JsonObject, estimate: Estimate
) -> Iterator[str]:
    """Yield the request of each row that is asked as a line, and count its tokens."""
    ids, label_set = ids_of_rows(rows.frame), label_set_of(prompt, body["model"])
    line_of = line_maker(prompt, body)
    prompt_tokens, max_tokens = estimate_tokens(prompt), max_tokens_of(body)
    with tqdm(total=len(asked), unit="row") as bar:
        for places in np.split(asked, range(PART, len(asked), PART)):
            texts = ids.texts(label_set, places)
            for custom_id, message in zip(texts, rows.messages(places), strict=True):
                estimate.add(prompt_tokens, message, max_tokens)
                yield line_of(custom_id, message)
            bar.update(len(places))


def read_extra_body(text: str) -> dict:
    """Return what is merged into every request's body; refuse what is not a JSON object."""
    try:
        extra = json.loads(text)
    except ValueError:
        extra = None
    if not isinstance(extra, dict) or "messages" in extra:
        raise UserError(
            f"--extra-body {text}: give a JSON object without messages, such as "
            '{"enable_thinking": false}'
        )
    return extra


if __name__ == "__main__":
    run(main)
