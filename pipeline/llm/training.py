"""Training of an adapter on packs: its Trainer, with rows and collator."""

import sys
from dataclasses import dataclass

import pandas as pd
import torch
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    Trainer,
    set_seed,
)

from pipeline.common.codebook import Codebook
from pipeline.llm.answers import answer_loss, class_logits, score_metrics
from pipeline.llm.loading import load_model, load_tokenizer
from pipeline.llm.lora import add_adapter
from pipeline.llm.packing import Inputs, States, pack, pad, prefix_states
from pipeline.llm.prompt import Prompt, build_prompt, encode_comments
from pipeline.llm.scoring import choose_packing
from pipeline.models.by_length import batches_of_tokens
from pipeline.models.training import TrainingOptions, class_weights, trainer_arguments


def tokenize(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, rows: pd.DataFrame, max_length: int
) -> list[dict]:
    """Return the columns `message` and `class` as tokens, ready for packs."""
    comments, shortened = encode_comments(tokenizer, prompt, rows["message"].tolist(), max_length)
    print(f"{len(rows):,} rows as tokens, {shortened:,} comments shortened to fit {max_length}")
    return training_rows(prompt, comments, rows["class"].tolist())


def training_rows(prompt: Prompt, comments: list[list[int]], labels: list[int]) -> list[dict]:
    """Return a row's tokens after the prefix, up to the last from which one is predicted."""
    return [
        {"input_ids": comment + prompt.suffix + prompt.answers[label][:-1], "labels": label}
        for comment, label in zip(comments, labels, strict=True)
    ]


@dataclass
class PackCollator:
    """Turns rows of `training_rows` into packs of at most `max_tokens`, or padded batches.

    `labels` are the rows' classes: all of them, for the Trainer to count, and each pack's. Where
    there are several packs and they `share_prefix`, `PackTrainer` has yet to give its states.
    """

    prompt: Prompt
    packed: bool
    max_tokens: int
    share_prefix: bool = True

    def __call__(self, rows: list[dict]) -> dict:
        ids = [row["input_ids"] for row in rows]
        labels = torch.tensor([row["labels"] for row in rows])
        prefix = len(self.prompt.prefix)
        parts = list(batches_of_tokens(ids, self.max_tokens, prefix, padded=not self.packed))
        alone = len(parts) == 1 or not self.share_prefix
        packs = [
            {"labels": labels[members], **self.inputs([ids[index] for index in members], alone)}
            for members in parts
        ]
        return {"labels": labels, "packs": packs}

    def inputs(self, ids: list[list[int]], alone: bool) -> Inputs:
        """Return the model's arguments; the logits kept are those of the answers' tokens."""
        num_kept = len(self.prompt.answers[0])
        if self.packed:
            return pack(self.prompt.prefix, ids, num_kept, states=None if alone else [])
        return pad(self.prompt.prefix, ids, num_kept, self.prompt.stop[0])


class PackTrainer(Trainer):
    """A Trainer whose batches are lists of packs: a pass through the model each.

    Several packs share one pass of the prefix: its gradient is what has come back to its keys and
    values from all of them. Predictions are class logits (rows, classes), those that scoring
    compares.
    """

    def __init__(self, prompt: Prompt, **kwargs):
        super().__init__(**kwargs)
        self.prompt = prompt
        self._loss_shifts_labels = False  # a label is a row's class: all of them are counted

    def training_step(self, model, inputs, num_items_in_batch=None):
        step, packs = super().training_step, inputs["packs"]
        if packs[0].get("pack", {}).get("states") is None:
            return sum(step(model, pack, num_items_in_batch) for pack in packs)
        model.train()
        states = prefix_states(model, self.prompt.prefix)
        received = [tuple(part.detach().requires_grad_() for part in layer) for layer in states]
        loss = sum(step(model, _with_states(received, pack), num_items_in_batch) for pack in packs)
        gradients = [part.grad for layer in received for part in layer]
        torch.autograd.backward([part for layer in states for part in layer], gradients)
        return loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        step, packs = super().prediction_step, inputs["packs"]
        if packs[0].get("pack", {}).get("states") is not None:
            with torch.no_grad():
                states = prefix_states(model, self.prompt.prefix)
            packs = [_with_states(states, pack) for pack in packs]
        parts = [step(model, pack, False, ignore_keys) for pack in packs]
        loss = sum(loss * len(labels) for loss, _, labels in parts) / len(inputs["labels"])
        logits = [class_logits(self.prompt, logits, len(labels)) for _, logits, labels in parts]
        return loss, torch.cat(logits), torch.cat([labels for _, _, labels in parts])


def _with_states(states: States, inputs: Inputs) -> Inputs:
    """Return a pack's inputs, its prefix having these keys and values."""
    return inputs | {"pack": inputs["pack"] | {"states": states}}


@dataclass(frozen=True)
class AdapterOptions:
    """What finetune.py lets the user choose beside `TrainingOptions`, by its settings' names."""

    load_in_4bit: bool
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    max_length: int
    max_tokens_per_pack: int
    class_weights: bool
    warmup_steps: int
    gradient_accumulation_steps: int
    gradient_checkpointing: bool


def adapter_trainer(
    model_path: str,
    codebook: Codebook,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    options: TrainingOptions,
    adapter_options: AdapterOptions,
) -> PackTrainer:
    """Return what trains a fresh adapter of a causal LM on the columns `message` and `class`.

    In a distributed run a batch is one pack whatever its tokens: all processes must take as many
    steps, and the states of a shared prefix would miss the others' gradients.
    """
    tokenizer, max_length = load_tokenizer(model_path), adapter_options.max_length
    prompt = build_prompt(tokenizer, codebook)
    train_tokens = tokenize(tokenizer, prompt, train, max_length)
    validation_tokens = tokenize(tokenizer, prompt, validation, max_length)
    set_seed(options.seed)
    model = add_adapter(
        load_model(model_path, adapter_options.load_in_4bit),
        r=adapter_options.lora_r,
        lora_alpha=adapter_options.lora_alpha,
        lora_dropout=adapter_options.lora_dropout,
        gradient_checkpointing=adapter_options.gradient_checkpointing,
    )
    after = len(prompt.suffix) + len(prompt.answers[0]) - 1
    comments = [row["input_ids"][:-after] for row in train_tokens]
    packed = choose_packing(model, prompt, comments, max_length)
    args = trainer_arguments(
        options,
        train_sampling_strategy="random" if packed else "group_by_length",
        warmup_steps=adapter_options.warmup_steps,
        gradient_accumulation_steps=adapter_options.gradient_accumulation_steps,
        activation_checkpointing=adapter_options.gradient_checkpointing,
        metric_for_best_model="accuracy",
        remove_unused_columns=False,
    )
    weights = class_weights(train["class"], len(codebook.names), adapter_options.class_weights)
    return PackTrainer(
        prompt=prompt,
        model=model,
        args=args,
        train_dataset=train_tokens,
        eval_dataset=validation_tokens,
        data_collator=PackCollator(
            prompt,
            packed,
            adapter_options.max_tokens_per_pack if args.world_size == 1 else sys.maxsize,
            share_prefix=not adapter_options.gradient_checkpointing,  # it would drop the states
        ),
        processing_class=tokenizer,
        compute_loss_func=answer_loss(prompt, weights),
        compute_metrics=score_metrics,
        callbacks=[EarlyStoppingCallback(options.early_stopping_patience)],
    )
