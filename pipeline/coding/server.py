"""A tuned LLM on a server: the probabilities of its classes, asked for over HTTP.

In both ways of asking, the model reads the tokens of training. `/completions` of OpenAI's
interface, as vLLM and SGLang have it, gets token ids. `/systemone` of `transformers serve` gets the
comment, and puts it into the template of decision.json. In `/chat/completions` the server makes the
prompt, and would read `<|im_end|>` in a comment as the end of a turn: it is not used.
"""

import ipaddress
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from urllib.parse import urlsplit

import numpy as np
from openai import APIStatusError
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from pipeline.coding.model import FoundModel
from pipeline.coding.server_answers import (
    LARGEST_BOUND,
    class_probabilities,
    decided_probabilities,
    json_of,
    model_names,
)
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.common.processes import num_processes
from pipeline.labelling.provider import connect, errors_in_one_line
from pipeline.llm.asked import AskedModel
from pipeline.llm.decision import decision_request
from pipeline.llm.prompt import Prompt, comment_tokenizer, encode_comments
from pipeline.models.kept_lines import tokens_sha256
from pipeline.models.kept_rows import KeptRows

COMPLETIONS, DECISIONS = "/completions", "/systemone"
COMMENTS_AT_ONCE = {COMPLETIONS: 16, DECISIONS: 1}  # in one request
MOST_LIKELY = 20  # tokens whose log-probabilities are asked for: as many as vLLM gives by default
MAX_CONCURRENCY = 16  # requests under way at once
MAX_RETRIES = 6  # of a request that fails for the moment
TIMEOUT = 120.0  # seconds for a request


class ServedModel:
    """A tuned LLM that a server computes with; its folder says how it was trained.

    The folder is not loaded, but for its tokenizer. Its temperature calibrates log-probabilities;
    `/systemone` calibrates by the temperature in decision.json, which is the same one.
    """

    def __init__(
        self,
        found: FoundModel,
        codebook: Codebook,
        max_concurrency: int = MAX_CONCURRENCY,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        """Find out how the server is asked; raises UserError where it cannot be."""
        if num_processes() > 1:
            raise UserError("--base-url needs one process: start the script without torchrun")
        self.path, self.kind, self.shortened = found.options.path, found.kind, 0
        self.fingerprint, self._url = found.fingerprint, found.options.base_url
        self._codebook, self._max_concurrency = codebook, max_concurrency
        self._max_length, self._temperature = found.max_length, found.temperature
        self._bounded: list[int] = []  # rows with a class that was not listed, of each answer
        asked = AskedModel(found.base_path, found.adapter_path, codebook, load_in_4bit=False)
        self._tokenizer, self._prompt = asked.tokenizer, asked.prompt
        self._client = connect(self._url, max_retries, TIMEOUT)
        self._way, self._served = self._find_way(found.options.served_model)

    def probabilities(self, messages: list[str], kept: KeptRows | None = None) -> np.ndarray:
        """See `CodingModel`. Says where comments go, if that is another machine."""
        rows, shortened = encode_comments(self._tokenizer, self._prompt, messages, self._max_length)
        self.shortened += shortened
        part = kept and kept.part(
            "probabilities",
            model=self.fingerprint,
            served_model=self._served,
            way=self._way,
            rows=tokens_sha256(rows),
        )
        size = COMMENTS_AT_ONCE[self._way]
        batches = [
            list(range(start, min(start + size, len(rows)))) for start in range(0, len(rows), size)
        ]
        found: dict[int, np.ndarray] = part.finished(batches) if part else {}
        left = [batch for batch in batches if not found.keys() >= set(batch)]
        say_where_comments_go(self._url, sum(map(len, left)))
        texts = self._texts(messages, rows) if self._way == DECISIONS else messages

        def ask(batch: list[int]) -> np.ndarray:
            if self._way == DECISIONS:
                return self._decide(rows[batch[0]], texts[batch[0]])
            return self._complete([rows[row] for row in batch])

        bar = tqdm(total=len(rows), initial=len(found), unit="row", desc="answers")
        with bar, errors_in_one_line(self._client):
            for batch, values in in_threads(ask, left, self._max_concurrency):
                found |= zip(batch, values, strict=True)
                bar.update(len(batch))
                if part:
                    part.keep(batch, values)
        if part:
            part.close()
        if count := sum(self._bounded):
            print(
                f"{count:,} comments: the server lists {MOST_LIKELY} tokens, and a class that is "
                "not among them has the probability of the least likely of these, at most "
                f"{LARGEST_BOUND}"
            )
            self._bounded.clear()
        shape = len(rows), len(self._prompt.class_tokens)
        return np.array([found[row] for row in range(len(rows))], float).reshape(shape)

    def _find_way(self, name: str) -> tuple[str, str]:
        """Return the address that is asked and the name of the model, "" where none is needed.

        `name` is the one that the user gives, or "".
        """
        once = self._client.with_options(max_retries=0)
        with errors_in_one_line(self._client):
            try:
                once.post(DECISIONS, cast_to=str, body={})
            except APIStatusError as error:
                if error.status_code == 422 and "questions" in str(error.body):
                    return DECISIONS, name
            if name:
                return COMPLETIONS, name
            names = model_names(json_of(once.get("/models", cast_to=str)))
        if len(names) != 1:
            raise UserError(
                f"{self._url} has {len(names)} models ({', '.join(names)}): give the "
                "name of the tuned one by --served-model"
            )
        return COMPLETIONS, names[0]

    def _complete(self, rows: list[list[int]]) -> np.ndarray:
        """Return the calibrated probabilities of comments (token ids) by `/completions`.

        The reply is not read, so that its temperature may be 1: some servers divide by it before
        they give log-probabilities.
        """
        asked = [asked_tokens(self._prompt, row) for row in rows]
        body = {
            "model": self._served,
            "prompt": asked,
            "max_tokens": 1,
            "temperature": 1.0,
            "logprobs": MOST_LIKELY,
            # of vLLM: the class tokens, however unlikely, by their numbers
            "logprob_token_ids": self._prompt.class_tokens,
            "return_tokens_as_token_ids": True,
        }
        answer = self._post(COMPLETIONS, body, sum(map(len, asked)), "prompt_tokens")
        probabilities, bounded = class_probabilities(
            answer, len(rows), self._tokenizer, self._prompt.class_tokens, self._temperature
        )
        self._bounded.append(bounded)
        return probabilities

    def _decide(self, row: list[int], text: str) -> np.ndarray:
        """Return the calibrated probabilities of a comment by `/systemone`, (1, classes)."""
        name = {"model": self._served} if self._served else {}
        body = decision_request(self._codebook, text) | name
        tokens = len(asked_tokens(self._prompt, row))
        answer = self._post(DECISIONS, body, tokens, "input_tokens")
        return decided_probabilities(answer, self._codebook)

    def _post(self, path: str, body: JsonObject, tokens: int, counted: str) -> JsonObject:
        """Return an answer by the model that was asked, for as many tokens as it is to read.

        `counted` is the name of their number in the answer's `usage`.
        """
        answer = json_of(self._client.post(path, cast_to=str, body=body))
        model = answer.get("model")
        if self._served and model != self._served:
            raise UserError(
                f"{self._url} answers with the model {model}, and {self._served} was asked: check "
                "--served-model"
            )
        usage = answer.get("usage")
        read = usage.get(counted) if isinstance(usage, dict) else "an unknown number of"
        if read != tokens:
            raise UserError(
                f"{self._url} reads {read} tokens where the training has {tokens}: it serves "
                f"another model than {self.path}, or with another prompt (see docs/serving.md)"
            )
        return answer

    def _texts(self, messages: list[str], rows: list[list[int]]) -> list[str]:
        """Return comments as texts that a tokenizer makes `rows` of, shortened where those are."""
        encoded = comment_tokenizer(self._tokenizer).encode_batch(
            messages, add_special_tokens=False
        )
        texts = []
        for index, (message, whole) in enumerate(zip(messages, encoded, strict=True)):
            if len(rows[index]) < len(whole.ids):
                message, rows[index] = shortened_text(
                    self._tokenizer, message, whole.offsets, rows[index]
                )
            texts.append(message)
        return texts


def shortened_text(
    tokenizer: PreTrainedTokenizerBase,
    message: str,
    offsets: list[tuple[int, int]],
    row: list[int],
) -> tuple[str, list[int]]:
    """Return the beginning of a comment and its token ids, which begin `row`.

    They are all of `row`, or some tokens less where the cut would give other ones.
    """
    encoder = comment_tokenizer(tokenizer)
    for size in range(len(row), 0, -1):
        text = message[: offsets[size - 1][1]]
        if encoder.encode(text, add_special_tokens=False).ids == row[:size]:
            return text, row[:size]
    return "", []


def asked_tokens(prompt: Prompt, comment: list[int]) -> list[int]:
    """Return the token ids after which a class number comes."""
    return prompt.prefix + comment + prompt.suffix + prompt.answers[0][: prompt.shared]


def say_where_comments_go(base_url: str, count: int) -> None:
    """Say in a line how many comments leave this machine, and where to."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if count and not is_this_machine(host):
        open_way = ", not encrypted (http)" if url.scheme == "http" else ""
        print(f"{count:,} comments go to {host}{open_way}")


def is_this_machine(host: str) -> bool:
    """Return whether what is sent to a host stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_threads(
    ask: Callable[[list[int]], np.ndarray], batches: list[list[int]], threads: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield each batch with its answer, as they come, `threads` requests at once.

    After an error no other batch is asked for; it is raised when the others that were under way
    have been yielded.
    """
    error = None
    pending: dict[Future[np.ndarray], list[int]] = {}
    source = iter(batches)
    with ThreadPoolExecutor(threads) as pool:
        while True:
            new = islice(source, 0 if error else threads - len(pending))
            pending |= {pool.submit(ask, batch): batch for batch in new}
            if not pending:
                break
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                batch = pending.pop(future)
                if failed := future.exception():
                    error = error or failed
                else:
                    yield batch, future.result()
    if error:
        raise error
