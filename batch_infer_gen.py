"""Step 2: write the batch requests, one per comment: the codebook asks, a large LLM answers.

Reads   INPUT_FILE (from excel_2_csv.py), PROMPT_FILE (the codebook)
Writes  REQUESTS_FILE, or REQUESTS_FILE numbered -00001-of-00015 where one file is too small
Run     python batch_infer_gen.py --model deepseek-ai/DeepSeek-V3
"""

import json
import re

from tqdm import tqdm

from pipeline.batch import write_shards
from pipeline.cli import at_least_one, parse_settings, run
from pipeline.codebook import answer, read_codebook
from pipeline.files import check_outputs
from pipeline.messages import read_messages

# ---------------------------------------------------------------------------------------------
INPUT_FILE = "./pre_process/datas/simple.csv"  # custom_id, message
PROMPT_FILE = "./prompt.txt"  # the codebook
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # one request a line
MODEL = "deepseek-ai/DeepSeek-V3"  # the provider's name of the model
MAX_TOKENS = 20  # longest answer, in tokens
TEMPERATURE = 0.0  # 0 = the most probable answer
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

    def request(custom_id: str, message: str) -> dict:
        return {
            "custom_id": custom_id,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": args.model,
                "messages": [
                    {"role": "system", "content": codebook.text},
                    {"role": "user", "content": message},
                ],
                "max_tokens": args.max_tokens,
                "temperature": args.temperature,
            },
        }

    pairs = list(zip(rows["custom_id"], rows["message"], strict=True))
    lines = (json.dumps(request(*pair), ensure_ascii=False) for pair in tqdm(pairs, unit="row"))
    files = write_shards(
        lines, args.requests_file, args.max_requests_per_file, args.max_bytes_per_file
    )
    print("The first request:")
    print(json.dumps(request(*pairs[0]), ensure_ascii=False, indent=2))
    more = f" to {files[-1].name} ({len(files)} files)" if len(files) > 1 else ""
    print(f"wrote {files[0]}{more}: {len(pairs):,} requests")
    tokens_in = (
        len(pairs) * estimate_tokens(codebook.text) + rows["message"].map(estimate_tokens).sum()
    )
    tokens_out = len(pairs) * (len(answer(0)) + 1)
    price_in = args.price_per_million_input_tokens / 1e6
    price_out = args.price_per_million_output_tokens / 1e6
    most_out = len(pairs) * args.max_tokens
    print(f"  input  about {tokens_in:,.0f} tokens, price {tokens_in * price_in:,.2f}")
    print(f"  output about {tokens_out:,} tokens, price {tokens_out * price_out:,.2f}", end=" ")
    print(f"(at most {most_out:,} tokens, {most_out * price_out:,.2f})")


def estimate_tokens(text: str) -> float:
    """Return about how many tokens a text has: 0.6 per Chinese character, 0.3 per other one.

    Source: DeepSeek's API documentation, "Token & Token Usage".
    """
    chinese = len(re.findall(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]", text))
    return 0.6 * chinese + 0.3 * (len(text) - chinese)


if __name__ == "__main__":
    run(main)
