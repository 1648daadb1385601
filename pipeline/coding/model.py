"""One interface of the models that code comments: an adapter, a merged model, a tuned encoder."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.special import softmax

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject, read_json
from pipeline.models.folder import (
    ADAPTER,
    RECORD,
    check_adapter,
    check_codebook,
    check_model_folder,
    check_prompt,
    check_tokenizer,
    is_tuned,
    temperature_of,
)
from pipeline.models.kept_rows import KeptRows

ADAPTER_KIND, MERGED, ENCODER = KINDS = "adapter", "merged model", "encoder"


class CodingModel(Protocol):
    """A model that codes comments; `fingerprint` changes with whatever its probabilities do."""

    path: str
    kind: str  # one of KINDS
    fingerprint: str
    shortened: int  # comments that were too long so far, of those that were computed

    def probabilities(self, messages: list[str], kept: KeptRows | None = None) -> np.ndarray:
        """Return calibrated class probabilities, float64 (rows, classes), in the rows' order.

        `kept` are the rows of this call that an interrupted run has finished.
        Raises UserError where a number is not finite.
        """
        ...


@dataclass(frozen=True)
class ModelOptions:
    """How a model is loaded and run. `base_path` is an adapter's base, by default its record's."""

    path: str
    base_path: str = ""
    load_in_4bit: bool = True
    batch_size: int = 64  # rows, of an encoder
    max_tokens_per_pack: int = 0  # of an LLM; 0 = as many as the memory takes
    max_length: int = 0  # tokens; 0 = as in training


@dataclass(frozen=True)
class FoundModel:
    """A tuned model as its folder's record describes it, checked but not loaded."""

    options: ModelOptions
    kind: str
    record: JsonObject
    max_length: int

    @property
    def base_path(self) -> str:
        """The folder of the model that was fine-tuned."""
        return self.options.base_path or self.record["settings"]["model_path"]


def find_model(options: ModelOptions, codebook: Codebook) -> FoundModel:
    """Return what a folder holds; nothing is loaded.

    Raises UserError for a folder that no training of ours wrote, a model of another codebook, and
    an adapter without its base.
    """
    folder = Path(options.path)
    if not folder.is_dir():
        raise UserError(
            f"{folder} not found: run finetune.py or bert_tune.py, or give --model the final_model "
            "folder that it wrote"
        )
    if not is_tuned(options.path):
        raise UserError(
            f"{folder} has no {RECORD}, so that its classes are not known: give --model the "
            "final_model folder that finetune.py or bert_tune.py wrote"
        )
    record = read_json(folder / RECORD, "train it again")
    if (folder / ADAPTER).is_file():
        found = FoundModel(options, ADAPTER_KIND, record, _max_length(options, record))
        check_model_folder(found.base_path, "causal LM")
        check_adapter(options.path, found.base_path, codebook)
        return found
    check_codebook(options.path, record, codebook)
    config = read_json(folder / "config.json", "train it again")
    architecture = (config.get("architectures") or [""])[0]
    kind = ENCODER if architecture.endswith("ForSequenceClassification") else MERGED
    check_model_folder(options.path, "encoder" if kind == ENCODER else "causal LM")
    return FoundModel(options, kind, record, _max_length(options, record))


def _max_length(options: ModelOptions, record: JsonObject) -> int:
    return options.max_length or record["settings"]["max_length"]


def open_model(found: FoundModel, codebook: Codebook) -> CodingModel:
    """Load a model."""
    return (EncoderModel if found.kind == ENCODER else LlmModel)(found, codebook)


class LlmModel:
    """An adapter on its base, or the two merged: class tokens compared, the prompt shared."""

    def __init__(self, found: FoundModel, codebook: Codebook) -> None:
        from pipeline.llm.loading import load_model, load_tokenizer
        from pipeline.llm.prompt import build_prompt
        from pipeline.models.tokenizer import vocabulary_sha256
        from pipeline.models.weights import content_sha256

        self.path, self.kind, self._options = found.options.path, found.kind, found.options
        adapter = self.path if self.kind == ADAPTER_KIND else ""
        base = found.base_path if adapter else self.path
        self._tokenizer = load_tokenizer(base)
        self._prompt = build_prompt(self._tokenizer, codebook)
        check_prompt(self.path, self._prompt.sha256)
        check_tokenizer(self.path, vocabulary_sha256(self._tokenizer))
        self._model = load_model(base, found.options.load_in_4bit, adapter)
        self._temperature, self._max_length = temperature_of(self.path), found.max_length
        self.depends_on = {
            "model": content_sha256(base),
            "adapter": content_sha256(adapter),
            "load_in_4bit": found.options.load_in_4bit,
            "prompt": self._prompt.sha256,
            "temperature": self._temperature,
            "max_length": self._max_length,
        }
        self.fingerprint = fingerprint_of(self.depends_on)
        self._packed: bool | None = None
        self.shortened = 0

    def probabilities(self, messages: list[str], kept: KeptRows | None = None) -> np.ndarray:
        """See `CodingModel`."""
        from pipeline.llm.prompt import encode_comments
        from pipeline.llm.scoring import choose_packing, score_comments
        from pipeline.models.kept_lines import tokens_sha256

        rows, shortened = encode_comments(self._tokenizer, self._prompt, messages, self._max_length)
        self.shortened += shortened
        if self._packed is None:
            self._packed = choose_packing(self._model, self._prompt, rows)
        limit = self._options.max_tokens_per_pack
        part = kept and kept.part(
            "scores",
            **self.depends_on,
            packed=self._packed,
            rows=tokens_sha256(rows),
            max_tokens_per_pack=limit,
        )
        logits = score_comments(self._model, self._prompt, rows, limit, self._packed, part)
        return softmax(logits.astype(float) / self._temperature, axis=1)


class EncoderModel:
    """A tuned encoder such as bert-base-chinese: the softmax of its classifier."""

    def __init__(self, found: FoundModel, codebook: Codebook) -> None:
        from pipeline.bert.encoder import load_classifier, load_tokenizer
        from pipeline.models.tokenizer import vocabulary_sha256
        from pipeline.models.weights import content_sha256

        self.path, self.kind, self._options = found.options.path, found.kind, found.options
        self._max_length = found.max_length
        self._tokenizer = load_tokenizer(self.path, self._max_length)
        check_tokenizer(self.path, vocabulary_sha256(self._tokenizer))
        self._model = load_classifier(self.path, codebook, seed=0)
        self._temperature = temperature_of(self.path)
        self.depends_on = {
            "model": content_sha256(self.path),
            "temperature": self._temperature,
            "max_length": self._max_length,
            "batch_size": found.options.batch_size,
        }
        self.fingerprint = fingerprint_of(self.depends_on)
        self.shortened = 0

    def probabilities(self, messages: list[str], kept: KeptRows | None = None) -> np.ndarray:
        """See `CodingModel`."""
        from pipeline.bert.encoder import encode, forward, logits_of
        from pipeline.models.kept_lines import tokens_sha256

        rows, shortened = encode(self._tokenizer, messages, self._max_length)
        self.shortened += shortened
        part = kept and kept.part("probabilities", **self.depends_on, rows=tokens_sha256(rows))
        logits = forward(
            self._model, self._tokenizer, rows, self._options.batch_size, logits_of, part
        )
        return softmax(logits.astype(float) / self._temperature, axis=1)


def fingerprint_of(depends_on: JsonObject) -> str:
    """Return 16 hexadecimal digits that stand for all that a model's probabilities follow from."""
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
