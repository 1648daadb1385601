"""Encoders such as bert-base-chinese: loading, tokens, features, the probe, probabilities."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
    set_seed,
)

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.finite import check_finite
from pipeline.common.machine import compute_dtype, device
from pipeline.evaluation.calibration import at_temperature
from pipeline.models.by_length import batches_of_rows
from pipeline.models.folder import check_model_folder, check_tokenizer, temperature_of
from pipeline.models.in_batches import compute_in_batches, wait_for_all
from pipeline.models.kept_lines import tokens_sha256
from pipeline.models.kept_rows import KeptPart, KeptRows
from pipeline.models.text_tokens import as_text
from pipeline.models.tokenizer import load_fast_tokenizer, vocabulary_sha256
from pipeline.models.weights import check_all_read, content_sha256

READ_FIRST_TOKEN = (  # classifiers of BERT's layers
    BertForSequenceClassification,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)


def load_tokenizer(path: str, max_length: int) -> PreTrainedTokenizerBase:
    """Load an encoder's tokenizer; refuse a `max_length` beyond the encoder's positions."""
    folder = check_model_folder(path, "encoder")
    tokenizer = load_fast_tokenizer(folder)
    limit = min(_positions(folder, max_length), tokenizer.model_max_length)
    if not 3 <= max_length <= limit:
        raise UserError(f"--max-length {max_length}: {path} takes 3 to {limit} tokens")
    return tokenizer


def _positions(folder: Path, unlimited: int) -> int:
    """Return how many tokens an encoder has positions for, or `unlimited`.

    RoBERTa's kind counts from behind the number of its padding token: 512 of its 514 are tokens'.
    """
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - skipped
    return getattr(config, "max_position_embeddings", unlimited)


def load_encoder(path: str) -> PreTrainedModel:
    """Load an encoder as it was pre-trained, without a head."""
    model, loaded = AutoModel.from_pretrained(
        check_model_folder(path, "encoder"),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # they are refused
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    check_all_read(path, loaded, _is_pooler)
    return model


def _is_pooler(name: str) -> bool:
    """Return whether an encoder's weight is of its pooler, which masked-word models do without."""
    return name.startswith("pooler.")


def load_classifier(path: str, codebook: Codebook, seed: int) -> PreTrainedModel:
    """Load an encoder with a classification head, a fresh one where the folder has none."""
    set_seed(seed)
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        check_model_folder(path, "encoder"),
        id2label=dict(enumerate(codebook.names)),
        label2id={name: k for k, name in enumerate(codebook.names)},
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    inside = f"{model.base_model_prefix}."
    check_all_read(
        path,
        loaded,
        lambda name: not name.startswith(inside) or _is_pooler(name.removeprefix(inside)),
    )
    return spare_last_layer(model)


def spare_last_layer(model: PreTrainedModel) -> PreTrainedModel:
    """Let a BERT or RoBERTa classifier's last layer compute `[CLS]` alone after its attention.

    The head reads no other token's state. Other architectures are left as they are. Returns it.
    """
    if isinstance(model, READ_FIRST_TOKEN):
        model.base_model.encoder.layer[-1].attention.output.register_forward_pre_hook(
            lambda module, args: tuple(states[:, :1] for states in args)
        )
    return model


def encode(
    tokenizer: PreTrainedTokenizerBase, messages: list[str], max_length: int
) -> tuple[list[list[int]], int]:
    """Return token ids per message, at most `max_length`, and how many messages were shortened.

    `[SEP]` or `[MASK]` in a message is text and no control token.
    """
    encoder = as_text(tokenizer, keep_words=True)
    encoder.enable_truncation(max_length)
    rows = encoder.encode_batch(messages)
    return [row.ids for row in rows], sum(bool(row.overflowing) for row in rows)


def forward(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[list[int]],
    batch_size: int,
    read: Callable,
    kept: KeptPart | None = None,
) -> np.ndarray:
    """Return `read(output, mask)` of every row, in the order of `rows`, as float32.

    Batches hold rows of similar length; `read` maps a model's output and the attention mask
    (rows, tokens) to a tensor (rows, ...). What `kept` has is not computed again.
    """
    model.to(device(), compute_dtype()).eval()

    def values_of(members: list[int]) -> np.ndarray:
        inputs = tokenizer.pad({"input_ids": [rows[i] for i in members]}, return_tensors="pt")
        inputs = inputs.to(device())
        values = read(model(**inputs), inputs["attention_mask"]).float().cpu().numpy()
        check_finite(values, "the encoder's numbers")
        return values

    return np.stack(compute_in_batches(batches_of_rows(rows, batch_size), values_of, kept=kept))


def part_of(
    kept: KeptRows | None,
    what: str,
    path: str,
    rows: list[list[int]],
    batch_size: int,
    **more: int,
) -> KeptPart | None:
    """Return where the values that an encoder has for rows (token ids) are kept, if anywhere.

    `more` is what they depend on beside the encoder, its tokens and the size of the batches.
    """
    if kept is None:
        return None
    model, tokens = content_sha256(path), tokens_sha256(rows)
    return kept.part(what, model=model, rows=tokens, batch_size=batch_size, **more)


def seconds_of(kept: KeptPart | None, start: float) -> float:
    """Return the seconds since `start`, and those of the rows that were there."""
    return time.perf_counter() - start + (kept.seconds if kept else 0.0)


def logits_of(output, mask: torch.Tensor) -> torch.Tensor:
    """Return class logits (rows, classes)."""
    return output.logits.float()


def softmax_of_logits(output, mask: torch.Tensor) -> torch.Tensor:
    """Return class probabilities (rows, classes)."""
    return output.logits.float().softmax(-1)


def mean_of_tokens(output, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the last hidden states over a row's tokens, (rows, hidden)."""
    weights = mask.unsqueeze(-1).float()
    return (output.last_hidden_state.float() * weights).sum(1) / weights.sum(1)


def fit_probe(features: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Fit logistic regression on standardized features (rows, hidden)."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)


def predict_with_probe(
    path: str,
    train: pd.DataFrame,
    messages: list[str],
    num_labels: int,
    batch_size: int,
    max_length: int,
    kept: KeptRows | None = None,
) -> tuple[np.ndarray, int, float]:
    """Fit a linear probe on a frozen encoder and predict; see `predict_with_classifier`.

    The features are the mean of the last hidden states. The seconds are those of the prediction.
    """
    tokenizer, model = load_tokenizer(path, max_length), load_encoder(path)
    print(f"fitting a linear probe on {len(train):,} rows")
    known, _ = encode(tokenizer, train["message"].tolist(), max_length)
    part = part_of(kept, "features of training rows", path, known, batch_size)
    features = forward(model, tokenizer, known, batch_size, mean_of_tokens, part)
    probe = fit_probe(features, train["class"].to_numpy())
    wait_for_all()
    start = time.perf_counter()
    rows, shortened = encode(tokenizer, messages, max_length)
    part = part_of(kept, "features of test rows", path, rows, batch_size)
    features = forward(model, tokenizer, rows, batch_size, mean_of_tokens, part)
    probabilities = np.zeros((len(rows), num_labels))
    probabilities[:, probe.classes_] = probe.predict_proba(features)
    return probabilities, shortened, seconds_of(part, start)


def predict_with_classifier(
    path: str,
    messages: list[str],
    codebook: Codebook,
    batch_size: int,
    max_length: int,
    seed: int,
    kept: KeptRows | None = None,
    what: str = "probabilities",
) -> tuple[np.ndarray, int, float]:
    """Return calibrated class probabilities (rows, classes), how many rows were shortened, seconds.

    The arguments are those of `Classifier`; its seconds of rows that were kept count.
    """
    classifier = Classifier(path, codebook, batch_size, max_length, seed)
    logits, shortened, seconds = classifier.logits(messages, kept, what)
    return at_temperature(logits, temperature_of(path)), shortened, seconds


class Classifier:
    """An encoder with a classification head, loaded with its tokenizer.

    Where the folder has no head, `seed` is that of a random one. Raises UserError where the
    tokenizer is not that of the training.
    """

    def __init__(
        self, path: str, codebook: Codebook, batch_size: int, max_length: int, seed: int = 0
    ) -> None:
        self._batch_size, self._max_length = batch_size, max_length
        self._tokenizer = load_tokenizer(path, max_length)
        check_tokenizer(path, vocabulary_sha256(self._tokenizer))
        self._model = load_classifier(path, codebook, seed)
        self._depends_on = {
            "model": content_sha256(path),
            "batch_size": batch_size,
            "values": "logits",  # of which probabilities are made
            **{"seed": seed, "classes": len(codebook.names)},  # of a random head
        }

    def logits(
        self, messages: list[str], kept: KeptRows | None = None, what: str = "probabilities"
    ) -> tuple[np.ndarray, int, float]:
        """Return class logits (rows, classes), how many rows were shortened, and seconds.

        `what` is their name among the `kept` rows, which are not computed again; their seconds
        count.
        """
        wait_for_all()
        start = time.perf_counter()
        rows, shortened = encode(self._tokenizer, messages, self._max_length)
        part = kept and kept.part(what, rows=tokens_sha256(rows), **self._depends_on)
        logits = forward(self._model, self._tokenizer, rows, self._batch_size, logits_of, part)
        return logits, shortened, seconds_of(part, start)
