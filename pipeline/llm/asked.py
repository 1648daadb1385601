"""A causal LM that is asked for classes: loaded with its prompt, what it answers kept by rows."""

import time

import numpy as np

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.llm.loading import Model, load_model, load_tokenizer
from pipeline.llm.prompt import build_prompt, encode_comments
from pipeline.llm.scoring import choose_packing, score_comments
from pipeline.models.folder import check_prompt, check_tokenizer
from pipeline.models.in_batches import wait_for_all
from pipeline.models.kept_lines import tokens_sha256
from pipeline.models.kept_rows import KeptRows
from pipeline.models.tokenizer import vocabulary_sha256
from pipeline.models.weights import content_sha256


class AskedModel:
    """A causal LM, with or without an adapter (`adapter_path` is "" for none), and its prompt.

    The tokenizer is loaded at once, the weights by `load`. Raises UserError where either is not
    that of the training.
    """

    model: Model
    packed: bool

    def __init__(
        self, model_path: str, adapter_path: str, codebook: Codebook, load_in_4bit: bool
    ) -> None:
        self._model_path, self._adapter_path = model_path, adapter_path
        self._load_in_4bit = load_in_4bit
        self.tokenizer = load_tokenizer(model_path)
        self.prompt = build_prompt(self.tokenizer, codebook)
        if self.prompt.note:
            print(self.prompt.note)
        check_prompt(adapter_path or model_path, self.prompt.sha256)
        check_tokenizer(adapter_path or model_path, vocabulary_sha256(self.tokenizer))
        self._limit = 0

    def encode(self, messages: list[str], max_length: int) -> tuple[list[list[int]], int]:
        """Return each comment's token ids and how many were shortened; see `encode_comments`."""
        return encode_comments(self.tokenizer, self.prompt, messages, max_length)

    def load(self, comments: list[list[int]], max_new_tokens: int = 0) -> None:
        """Load the weights, and choose packs or padded batches by some comments (token ids).

        `max_new_tokens` are those of replies, where replies are to be generated.
        """
        self.model = load_model(self._model_path, self._load_in_4bit, self._adapter_path)
        self.packed = choose_packing(self.model, self.prompt, comments, max_new_tokens)
        self._content = {
            "model": content_sha256(self._model_path),
            "adapter": content_sha256(self._adapter_path),
        }

    def depends_on(self, comments: list[list[int]]) -> JsonObject:
        """Return what the answers about comments follow from, for the rows that are kept."""
        return self._content | {
            "load_in_4bit": self._load_in_4bit,
            "packed": self.packed,
            "prompt": self.prompt.sha256,
            "rows": tokens_sha256(comments),
        }

    def logits(
        self, comments: list[list[int]], max_tokens_per_pack: int, kept: KeptRows | None = None
    ) -> tuple[np.ndarray, float]:
        """Return class logits (rows, classes), and seconds, with those of the rows that were kept.

        A limit of 0 tokens is as many as the memory takes at the first call, or took in the run
        whose rows are kept.
        """
        wait_for_all()
        start, limit = time.perf_counter(), max_tokens_per_pack
        part = kept and kept.part(
            "scores", **self.depends_on(comments), max_tokens_per_pack=max_tokens_per_pack
        )
        logits = score_comments(
            self.model, self.prompt, comments, limit or self._limit, self.packed, part
        )
        if part:
            self._limit = self._limit or part.limit
        return logits, time.perf_counter() - start + (part.seconds if part else 0.0)
