"""One interface of the models that code comments: an adapter, a merged model, a tuned encoder."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject, read_json
from pipeline.evaluation.calibration import at_temperature
from pipeline.models.folder import (
    ADAPTER,
    RECORD,
    check_adapter,
    check_codebook,
    check_model_folder,
    is_tuned,
    temperature_of,
    training_sha256,
)
from pipeline.models.kept_rows import KeptRows
from pipeline.planning.plan import Model

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
    base_url: str = ""  # of a server that computes; "" = this machine does
    served_model: str = ""  # its name there; "" = the only one


@dataclass(frozen=True)
class FoundModel:
    """A tuned model as its folder's record describes it, checked but not loaded.

    `record` is training.json, `max_length` in tokens.
    """

    options: ModelOptions
    kind: str
    record: JsonObject
    max_length: int

    @property
    def name(self) -> str:
        """The name of the model that was fine-tuned, such as Qwen2.5-3B."""
        return Path(self.record["settings"]["model_path"]).name

    @property
    def base_path(self) -> str:
        """The folder that is loaded first: an adapter's base, or else the model itself."""
        if self.kind != ADAPTER_KIND:
            return self.options.path
        return self.options.base_path or self.record["settings"]["model_path"]

    @property
    def adapter_path(self) -> str:
        """The adapter's folder, "" where the model is none."""
        return self.options.path if self.kind == ADAPTER_KIND else ""

    @property
    def temperature(self) -> float:
        """What its logits are divided by, fitted at the end of the training."""
        return temperature_of(self.options.path)

    def is_trained_as(self, model: Model) -> bool:
        """Return whether a run or a plan is of this training, and by its probabilities."""
        other = model.training_sha256 not in ("", training_sha256(self.options.path))
        return not other and bool(np.isclose(model.temperature, self.temperature))

    @property
    def fingerprint(self) -> str:
        """What changes with all that the probabilities follow from but the device and precision.

        The record ties tokenizer and prompt to the model, and is compared with them as it is
        loaded.
        """
        from pipeline.models.weights import content_sha256

        return fingerprint_of(
            {
                "model": content_sha256(self.base_path),
                "adapter": content_sha256(self.adapter_path),
                "load_in_4bit": self.options.load_in_4bit and self.kind != ENCODER,
                "codebook": self.record["codebook_sha256"],
                "prompt": self.record.get("prompt_sha256"),
                "tokenizer": self.record.get("tokenizer_sha256"),
                "temperature": self.temperature,
                "max_length": self.max_length,
            }
            | self._place
        )

    @property
    def _place(self) -> JsonObject:
        """What tells a server from others, nothing for this machine."""
        names = ("base_url", "served_model") if self.options.base_url else ()
        return {name: getattr(self.options, name) for name in names}


def find_model(options: ModelOptions, codebook: Codebook) -> FoundModel:
    """Return what a folder holds; nothing is loaded.

    Raises UserError for a folder that no training of ours wrote, a model of another codebook, and
    an adapter without its base.
    """
    folder, cure = Path(options.path), "give --model the final_model folder that it wrote"
    if not folder.is_dir():
        raise UserError(f"{folder} not found: run finetune.py or bert_tune.py, or {cure}")
    if not is_tuned(options.path):
        raise UserError(
            f"{folder} holds no model that was tuned to code comments, it has no {RECORD}: run "
            f"finetune.py or bert_tune.py first, and {cure}"
        )
    record = read_json(folder / RECORD, "train it again")
    _check_record(folder / RECORD, record)
    if (folder / ADAPTER).is_file():
        found = FoundModel(options, ADAPTER_KIND, record, _max_length(options, record))
        if not Path(found.base_path).is_dir():
            raise UserError(
                f"{folder} is an adapter of {found.name}, which is not in {found.base_path}: give "
                "--base-model the folder of that model"
            )
        check_model_folder(found.base_path, "causal LM")
        check_adapter(options.path, found.base_path, codebook, "--base-model", "--model")
        return found
    check_codebook(options.path, record, codebook)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has a {RECORD} beside no model: {cure}")
    config = read_json(folder / "config.json", "train it again")
    architecture = (config.get("architectures") or [""])[0]
    kind = ENCODER if architecture.endswith("ForSequenceClassification") else MERGED
    if kind == ENCODER and options.base_url:
        raise UserError(
            f"{folder} is an encoder, and --base-url is for language models: leave it out, and the "
            "encoder codes on this machine"
        )
    check_model_folder(options.path, "encoder" if kind == ENCODER else "causal LM")
    return FoundModel(options, kind, record, _max_length(options, record))


def _check_record(path: Path, record: JsonObject) -> None:
    """Refuse a training.json without what coding needs of it."""
    known = record if isinstance(record, dict) else {}
    settings, validation = known.get("settings", {}), known.get("validation", {})
    temperature = validation.get("temperature", 1.0)
    lacking = [name for name in ("model_path", "max_length") if name not in settings]
    if not isinstance(temperature, int | float) or not 0 < temperature < float("inf"):
        lacking.append("temperature")
    if lacking:
        raise UserError(f"{path} lacks {lacking[0]}: put back the file, or train again")


def _max_length(options: ModelOptions, record: JsonObject) -> int:
    return options.max_length or record["settings"]["max_length"]


def open_model(found: FoundModel, codebook: Codebook) -> CodingModel:
    """Load a model, or find the server that computes with it."""
    if found.options.base_url:
        from pipeline.coding.server import ServedModel

        return ServedModel(found, codebook)
    return (EncoderModel if found.kind == ENCODER else LlmModel)(found, codebook)


class LlmModel:
    """An adapter on its base, or the two merged: class tokens compared, the prompt shared."""

    def __init__(self, found: FoundModel, codebook: Codebook) -> None:
        from pipeline.llm.asked import AskedModel

        options = found.options
        self.path, self.kind, self.fingerprint = options.path, found.kind, found.fingerprint
        self._limit, self._max_length = options.max_tokens_per_pack, found.max_length
        self._temperature = found.temperature
        self._asked = AskedModel(
            found.base_path, found.adapter_path, codebook, options.load_in_4bit
        )
        self._loaded = False
        self.shortened = 0

    def probabilities(self, messages: list[str], kept: KeptRows | None = None) -> np.ndarray:
        """See `CodingModel`; the weights are loaded with the first messages."""
        rows, shortened = self._asked.encode(messages, self._max_length)
        self.shortened += shortened
        if not self._loaded:
            self._asked.load(rows)
            self._loaded = True
        logits, _ = self._asked.logits(rows, self._limit, kept)
        return at_temperature(logits, self._temperature)


class EncoderModel:
    """A tuned encoder such as bert-base-chinese: the softmax of its classifier."""

    def __init__(self, found: FoundModel, codebook: Codebook) -> None:
        from pipeline.bert.encoder import Classifier

        options = found.options
        self.path, self.kind, self.fingerprint = options.path, found.kind, found.fingerprint
        self._temperature = found.temperature
        self._classifier = Classifier(self.path, codebook, options.batch_size, found.max_length)
        self.shortened = 0

    def probabilities(self, messages: list[str], kept: KeptRows | None = None) -> np.ndarray:
        """See `CodingModel`."""
        logits, shortened, _ = self._classifier.logits(messages, kept)
        self.shortened += shortened
        return at_temperature(logits, self._temperature)


def fingerprint_of(depends_on: JsonObject) -> str:
    """Return 16 hexadecimal digits that stand for all that a model's probabilities follow from."""
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
