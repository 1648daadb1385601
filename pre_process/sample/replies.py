"""The lines of a provider's output and error files, in the batch format of OpenAI."""

import math
import random
from typing import Any

from pipeline.common.codebook import answer

PROSE = (
    "这条评论似乎没有明显的性别偏见。",
    "It seems that this comment does not have gender bias.",
)
HTTP_ERRORS = {
    429: ("Rate limit reached for requests", "rate_limit_error", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request", "server_error", "server_error"),
}


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
    request: dict[str, Any], reply: str, finish_reason: str, num_labels: int, rng: random.Random
) -> dict[str, Any]:
    """Return a line of the output file: a chat completion."""
    body = request["body"]
    prompt_tokens = 150 + len(body["messages"][-1]["content"])
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply},
        "finish_reason": finish_reason,
    }
    if body.get("logprobs"):
        choice["logprobs"] = {"content": logprobs(reply, body["top_logprobs"], num_labels, rng)}
    answered = {
        "id": f"chatcmpl-{rng.getrandbits(96):024x}",
        "object": "chat.completion",
        "created": 1735689600,
        "model": body["model"],
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(reply),
            "total_tokens": prompt_tokens + len(reply),
        },
    }
    return line(request["custom_id"], 200, answered, rng)


def logprobs(reply: str, top: int, num_labels: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return a token per character, a class number among the other classes' numbers."""
    tokens = []
    for character in reply:
        likely = {character: 1.0}
        if character.isdigit():
            sure = rng.uniform(0.6, 0.99)
            others = [str(k) for k in range(num_labels) if str(k) != character]
            likely = {character: sure} | {other: (1 - sure) / len(others) for other in others}
        listed = [{"token": t, "logprob": math.log(p)} for t, p in likely.items()][:top]
        tokens.append(listed[0] | {"top_logprobs": listed})
    return tokens


def failure(custom_id: str, outcome: str, rng: random.Random) -> dict[str, Any]:
    """Return a line of the error file: an HTTP error, or a request that came to no response."""
    if outcome == "expired":
        record = line(custom_id, 0, {}, rng)
        message = "This request could not be executed before the completion window expired."
        return record | {"response": None, "error": {"code": "batch_expired", "message": message}}
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
