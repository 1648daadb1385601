"""How sure a teacher was of its answer: the probability that it gave each class."""

import math
import re
import unicodedata
from typing import Any

from pipeline.codebook import BRACKETS

CLASS_NUMBER = re.compile(r"\[\s*([0-9])")


def class_probabilities(tokens: list[dict[str, Any]], num_labels: int) -> tuple[float | None, ...]:
    """Return the probability of each class after `[`, from the log-probabilities of an answer.

    `tokens` is `logprobs.content` of a chat completion. The bracket and the number may be one token
    or several. None stands for a class that no listed token leads to; () for an answer without
    log-probabilities or without a number in brackets.
    """
    texts = [_plain(token["token"]) for token in tokens]
    spelled = CLASS_NUMBER.search("".join(texts))
    if not spelled:
        return ()
    begun, weight, brackets = "", 1.0, 0.0
    found: dict[int, float] = {}
    position = 0
    for token, text in zip(tokens, texts, strict=True):
        position += len(text)
        if position <= spelled.start():
            continue
        likely = {t["token"]: math.exp(t["logprob"]) for t in token["top_logprobs"]}
        likely.setdefault(token["token"], math.exp(token["logprob"]))
        for other, probability in likely.items():
            if not begun and "[" in _plain(other):
                brackets += probability
            if number := CLASS_NUMBER.search(begun + _plain(other)):
                found[int(number[1])] = found.get(int(number[1]), 0.0) + weight * probability
        begun, weight = begun + text, weight * likely[token["token"]]
        if CLASS_NUMBER.search(begun):
            break
    return tuple(min(1.0, found[k] / brackets) if k in found else None for k in range(num_labels))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(BRACKETS)
