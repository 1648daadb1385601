"""How sure a teacher was of its answer: the probability that it gave each class."""

import math
import re
from typing import Any

from pipeline.common.replies import THOUGHTS, plain_brackets

LEAST = -1e4  # a log-probability whose probability is 0
CLASS_NUMBER = re.compile(r"\[\s*([0-9])")


def class_probabilities(
    tokens: list[dict[str, Any]], label: int, num_labels: int
) -> tuple[float | None, ...]:
    """Return the probability of each class after `[`, from the log-probabilities of an answer.

    `tokens` is `logprobs.content` of a chat completion, read after its thoughts. The bracket and
    the number may be one token or several. None is for a class that no listed token begins;
    () for an answer whose first number in brackets is not `label` or has no log-probabilities.
    """
    texts = [plain_brackets(str(token.get("token", ""))) for token in tokens]
    whole = "".join(texts)
    thoughts = THOUGHTS.match(whole)
    spelled = CLASS_NUMBER.search(whole, thoughts.end() if thoughts else 0)
    if not spelled or int(spelled[1]) != label:
        return ()
    begun, weight, brackets = "", 1.0, 0.0
    found: dict[int, float] = {}
    position = 0
    for token, text in zip(tokens, texts, strict=True):
        position += len(text)
        if position <= spelled.start():
            continue
        likely = {
            option["token"]: math.exp(max(option["logprob"], LEAST))
            for option in [token, *(token.get("top_logprobs") or [])]
            if option.get("logprob") is not None and option["logprob"] < 1
        }
        for other, probability in likely.items():
            if not begun and "[" in plain_brackets(other):
                brackets += probability
            if number := CLASS_NUMBER.search(begun + plain_brackets(other)):
                found[int(number[1])] = found.get(int(number[1]), 0.0) + weight * probability
        begun, weight = begun + text, weight * likely.get(token["token"], 0.0)
        if CLASS_NUMBER.search(begun):
            break
    if not found or not brackets:
        return ()
    return tuple(min(1.0, found[k] / brackets) if k in found else None for k in range(num_labels))
