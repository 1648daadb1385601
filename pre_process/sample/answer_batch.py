"""Sample: answer the batch requests in place of an online provider, faults included.

The labels are the true classes with some errors. Most answers are `[k]`; others are in another
dress, hold no class, were filtered, refused or expired, came twice or never came.

Reads   REQUESTS_FILE and its shards (from batch_infer_gen.py), TRUTH_FILE (from make_sample.py),
        PROMPT_FILE (the codebook)
Writes  ANSWERS_FILE, ERRORS_FILE: the output and error file of the OpenAI batch API
Run     python -m pre_process.sample.answer_batch
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from pipeline.batch import read_requests, request_files
from pipeline.cli import parse_settings, run
from pipeline.codebook import answer, read_codebook
from pipeline.files import write_text
from pipeline.messages import read_messages

# --------------------------------------------------------------------------------------------
REQUESTS_FILE = "./demo/pre_process/datas/inf_batch_v2.jsonl"  # also its numbered shards
TRUTH_FILE = "./demo/truth.csv"  # custom_id, class; rows not in it get any class
PROMPT_FILE = "./prompt.txt"  # the codebook
ANSWERS_FILE = "./demo/pre_process/datas/silver_label_v2.jsonl"  # one answer a line
ERRORS_FILE = "./demo/pre_process/datas/silver_label_v2-errors.jsonl"  # requests that failed
ERROR_RATE = 0.08  # share of wrong labels, 0 to 1
SEED = 42  # same seed, same answers
# --------------------------------------------------------------------------------------------

# What becomes of a request, and its share; those after "twice" leave it without a label.
OUTCOMES = {
    "[k]": 0.920,
    "(k)": 0.020,
    "【k】": 0.010,
    "类别：k": 0.010,
    "[k] and why": 0.005,
    "twice": 0.005,
    "prose": 0.006,
    "out of range": 0.004,
    "cut": 0.004,
    "filtered": 0.004,
    "429": 0.004,
    "500": 0.002,
    "expired": 0.003,
    "missing": 0.003,
}
PROSE = (
    "这条评论似乎没有明显的性别偏见。",
    "It seems that this comment does not have gender bias.",
)
HTTP_ERRORS = {
    429: ("Rate limit reached for requests", "rate_limit_error", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request", "server_error", "server_error"),
}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    codebook = read_codebook(args.prompt_file)
    num_labels = len(codebook.names)
    known = read_messages(args.truth_file, "make_sample.py", codebook)
    known = known[known["class"] >= 0]
    truth = dict(zip(known["custom_id"], known["class"], strict=True))
    shares = [1 + list(truth.values()).count(k) for k in range(num_labels)]
    rng = random.Random(args.seed)
    answers: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for request in tqdm(read_requests(request_files(args.requests_file)), unit="row"):
        label = truth.get(request.custom_id, rng.randrange(num_labels))
        if rng.random() < args.error_rate:
            others = [k for k in range(num_labels) if k != label]
            [label] = rng.choices(others, [shares[k] for k in others])
        [outcome] = rng.choices(list(OUTCOMES), list(OUTCOMES.values()))
        counts[outcome] += 1
        if outcome in ("429", "500", "expired"):
            errors.append(failure(request.custom_id, outcome, rng))
        elif outcome != "missing":
            reply, finish_reason = reply_of(outcome, label, num_labels, rng)
            record = completion(request.custom_id, request.message, reply, finish_reason, rng)
            answers += [record] * (2 if outcome == "twice" else 1)
    for records, path in ((answers, args.answers_file), (errors, args.errors_file)):
        rng.shuffle(records)
        write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), path)
        print(f"wrote {path}: {len(records):,} lines")
    print("  " + ", ".join(f"{outcome}: {counts[outcome]:,}" for outcome in OUTCOMES))


def reply_of(outcome: str, label: int, num_labels: int, rng: random.Random) -> tuple[str, str]:
    """Return the text of an answer and its finish reason."""
    match outcome:
        case "prose":
            return rng.choice(PROSE), "stop"
        case "out of range":
            return answer(num_labels + 3), "stop"
        case "cut":
            return "根据编码手册逐条分析，这条评论首先", "length"
        case "filtered":
            return "", "content_filter"
        case "[k] and why":
            return f"{answer(label)} 因为评论的态度比较清楚。", "stop"
        case "(k)" | "【k】" | "类别：k":
            return outcome.replace("k", str(label)), "stop"
    return answer(label), "stop"


def completion(
    custom_id: str, message: str, reply: str, finish_reason: str, rng: random.Random
) -> dict[str, Any]:
    """Return a line of the output file: a chat completion."""
    prompt_tokens, completion_tokens = 150 + len(message), len(reply)
    body = {
        "id": f"chatcmpl-{rng.getrandbits(96):024x}",
        "object": "chat.completion",
        "created": 1735689600,
        "model": "stand-in",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply},
                "finish_reason": finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
    return line(custom_id, 200, body, rng)


def failure(custom_id: str, outcome: str, rng: random.Random) -> dict[str, Any]:
    """Return a line of the error file: an HTTP error, or a request that came to no response."""
    if outcome == "expired":
        record = line(custom_id, 0, {}, rng)
        told = "This request could not be executed before the completion window expired."
        return record | {"response": None, "error": {"code": "batch_expired", "message": told}}
    message, kind, code = HTTP_ERRORS[int(outcome)]
    error = {"message": message, "type": kind, "param": None, "code": code}
    return line(custom_id, int(outcome), {"error": error}, rng)


def line(
    custom_id: str, status_code: int, body: dict[str, Any], rng: random.Random
) -> dict[str, Any]:
    """Return what every line of the batch format has."""
    return {
        "id": f"batch_req_{rng.getrandbits(96):024x}",
        "custom_id": custom_id,
        "response": {
            "status_code": status_code,
            "request_id": f"{rng.getrandbits(128):032x}",
            "body": body,
        },
        "error": None,
    }


if __name__ == "__main__":
    run(main)
