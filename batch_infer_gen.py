"""Step 2: write the batch requests to a large LLM, one per comment, with the codebook as prompt.

Rows that people coded are not asked. A request's id is made from the codebook, the model and the
comment, so that an answer belongs to these wherever the row stands; the row's own id is not sent.

Reads   INPUT_FILE (from excel_2_csv.py), PROMPT_FILE (the codebook)
Writes  REQUESTS_FILE, or REQUESTS_FILE numbered -00001-of-00015 where one file is too small
Run     python batch_infer_gen.py --model deepseek-ai/DeepSeek-V3
"""

import json

import pandas as pd
from tqdm import tqdm

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import check_outputs
from pipeline.common.rows import coded_by_people, read_messages
from pipeline.labelling.ids import ids_of_rows, label_set_of
from pipeline.labelling.price import print_estimate, print_request
from pipeline.labelling.requests import read_requests, request_line
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
    rows = read_messages(args.input_file, "excel_2_csv.py", codebook)

    body = {"model": args.model, "max_tokens": args.max_tokens, "temperature": args.temperature}
    if args.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": args.top_logprobs}
    body |= read_extra_body(args.extra_body)
    asked = rows_to_ask(rows, args.ask_coded_rows, args.ask_equal_comments_once)
    ids = ids_of_rows(label_set_of(codebook.text, body["model"]), rows)
    pairs = zip(ids[asked], tqdm(rows["message"][asked], unit="row"), strict=True)
    lines = (request_line(*pair, codebook.text, body) for pair in pairs)
    limits = args.max_requests_per_file, args.max_bytes_per_file
    files = write_shards(lines, args.requests_file, *limits)
    print_request(next(read_requests(files)))
    more = f" to {files[-1].name} ({len(files)} files)" if len(files) > 1 else ""
    print(f"wrote {files[0]}{more}: {asked.sum():,} requests")
    prices = args.price_per_million_input_tokens, args.price_per_million_output_tokens
    print_estimate(read_requests(files), *prices)


def rows_to_ask(rows: pd.DataFrame, ask_coded: bool, equal_once: bool) -> pd.Series:
    """Return which rows are asked, a bool (rows,); print why others are not."""
    human = coded_by_people(rows)
    asked = pd.Series(human & ask_coded | ~human, index=rows.index)
    if human.any():
        what = "are asked all the same" if ask_coded else "are not asked"
        print(f"{human.sum():,} rows that people coded {what}")
    if equal_once:
        equal = rows["message"][asked].duplicated().reindex(rows.index, fill_value=False)
        saved = equal.sum() / max(asked.sum(), 1)
        print(f"{equal.sum():,} comments equal another and are not asked: {saved:.1%} saved")
        asked &= ~equal
    if not asked.any():
        raise UserError("people coded all rows: there is nothing to ask; run jsonl_to_csv.py")
    return asked


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
