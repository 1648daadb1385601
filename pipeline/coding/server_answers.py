"""What a server answers: log-probabilities of tokens, or decisions, as class probabilities."""

import json
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.evaluation.calibration import at_temperature

NO_PROBABILITIES = (
    "the server gives no log-probabilities, and without them the classes have no probabilities: "
    "serve the model by vLLM, SGLang or `transformers serve` (docs/serving.md)"
)
UNKNOWN = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # of another form
UNKNOWN_FORM = "the server's answer has an unknown form: check --base-url"
LARGEST_BOUND = 0.001  # of the probability of a class that the server does not list
TOO_FEW_TOKENS = (
    "the server lists only the likeliest tokens, and a class number is not among them: serve the "
    "model by a vLLM that knows logprob_token_ids, and check that it is the tuned one"
)
NOT_FINITE = "the server's probabilities are not finite numbers: serve the model in float32"


def json_of(text: str) -> JsonObject:
    """Return the JSON object that a server sent."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("the server answers, but no JSON: check --base-url") from error
    if not isinstance(answer, dict):
        raise UserError(UNKNOWN_FORM)
    return answer


def model_names(answer: JsonObject) -> list[str]:
    """Return the names of a server's models from its answer to `/models`."""
    try:
        return [str(model["id"]) for model in answer["data"]]
    except UNKNOWN as error:
        raise UserError(UNKNOWN_FORM) from error


def class_probabilities(
    answer: JsonObject,
    num_rows: int,
    tokenizer: PreTrainedTokenizerBase,
    class_tokens: list[int],
    temperature: float,
) -> tuple[np.ndarray, int]:
    """Return calibrated probabilities, float64 (rows, classes), from an answer of `/completions`.

    And in how many rows a class has only an upper bound of its probability, of `LARGEST_BOUND` at
    most: that of the least likely token that the server lists, as its own is not among them.
    Raises UserError where the answer lacks a row or log-probabilities.
    """
    try:
        choices = {choice["index"]: choice["logprobs"] for choice in answer["choices"]}
        listed = [choices[row] for row in range(num_rows)]
        tokens = [row and row.get("top_logprobs") and row["top_logprobs"][0] for row in listed]
        if not all(tokens):
            raise UserError(NO_PROBABILITIES)
        names = [f"token_id:{token}" for token in class_tokens]
        if not any(name.startswith("token_id:") for name in tokens[0]):
            names = _texts(tokenizer, tuple(class_tokens))
        given = [[row.get(name, min(row.values())) for name in names] for row in tokens]
        logits = finite(np.array(given, float))
    except UNKNOWN as error:
        raise UserError(UNKNOWN_FORM) from error
    probabilities = finite(at_temperature(logits, temperature))
    bounds = np.array([[name not in row for name in names] for row in tokens])
    if (probabilities[bounds] > LARGEST_BOUND).any():
        raise UserError(TOO_FEW_TOKENS)
    return probabilities, int(bounds.any(axis=1).sum())


@cache
def _texts(tokenizer: PreTrainedTokenizerBase, class_tokens: tuple[int, ...]) -> list[str]:
    """Return the texts of class tokens; raises UserError where another token has the same one."""
    texts = [tokenizer.decode([token]) for token in class_tokens]
    count = Counter(tokenizer.batch_decode([[token] for token in range(len(tokenizer))]))
    if doubled := [text for text in texts if count[text] > 1]:
        raise UserError(
            f"the server names tokens by their texts, and {count[doubled[0]]} tokens of this model "
            f"read {doubled[0]!r}: serve it by vLLM"
        )
    return texts


def decided_probabilities(answer: JsonObject, codebook: Codebook) -> np.ndarray:
    """Return the probabilities, float64 (1, classes), in an answer of `/systemone`."""
    try:
        given: dict[str, Any] = answer["answers"]["class"]["probabilities"]
        return finite(np.array([[given[name] for name in codebook.names]], float))
    except UNKNOWN as error:
        raise UserError(UNKNOWN_FORM) from error


def finite(values: np.ndarray) -> np.ndarray:
    """Return numbers; raises UserError where one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise UserError(NOT_FINITE)
    return values
