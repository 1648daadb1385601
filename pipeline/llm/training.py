"""Training of an adapter on packs: its Trainer, with rows and collator."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from tqdm import tqdm
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    set_seed,
)

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.llm.answers import AnswerLoss, class_logits, score_metrics
from pipeline.llm.loading import load_model, load_tokenizer
from pipeline.llm.lora import add_adapter
from pipeline.llm.pack_size import training_pack_tokens
from pipeline.llm.packing import Inputs, States, pack, pad, prefix_states
from pipeline.llm.prompt import Prompt, build_prompt, encode_comments
from pipeline.llm.scoring import choose_packing
from pipeline.models.by_length import batches_of_tokens
from pipeline.models.memory import unless_out_of_memory
from pipeline.models.shared_batches import SharedBatchTrainer, of_all_rows, own_rows, summed
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


Pack = tuple[list[int], Inputs]  # which rows, and the model's arguments with their `labels`


@dataclass(frozen=True)
class TokenRows:
    """The tokens of a batch's rows, which go through the Trainer as they are."""

    ids: list[list[int]]


def collate(rows: list[dict]) -> dict:
    """Return a batch of `training_rows`: their classes, for the Trainer to count, and tokens."""
    return {
        "labels": torch.tensor([row["labels"] for row in rows]),
        "rows": TokenRows([row["input_ids"] for row in rows]),
    }


class PackTrainer(SharedBatchTrainer):
    """A Trainer that computes a batch in packs of at most `max_tokens`, or `padded` batches.

    Several packs share one pass of the prefix, where they may (`share_prefix`): its gradient is
    what has come back to its keys and values from all of them. Where a pack does not fit into the
    memory, packs get half as many tokens, at least `least_tokens`, and the batch is computed
    again. Predictions are class logits (rows, classes), those that scoring compares.
    """

    def __init__(
        self,
        prompt: Prompt,
        max_tokens: int,
        *,
        least_tokens: int = 1,
        packed: bool = True,
        share_prefix: bool = True,
        **kwargs,
    ):
        super().__init__(data_collator=collate, **kwargs)
        self.prompt, self.packed, self.share_prefix = prompt, packed, share_prefix
        self.max_tokens, self.least_tokens = max_tokens, least_tokens
        self._loss_shifts_labels = False  # a label is a row's class: all of them are counted

    def training_step(self, model, inputs, num_items_in_batch=None):
        own = own_rows([len(ids) for ids in inputs["rows"].ids])
        loss = self.in_packs_that_fit(
            lambda: self._backward(self.packs_of(inputs, own), num_items_in_batch),
            restore=what_undoes_a_step(self.model, self.compute_loss_func),
        )
        self.sum_gradients()
        return summed(loss)

    def _backward(self, packs: list[Pack], num_items_in_batch) -> torch.Tensor:
        """Add the gradients of packs; return the sum of their losses."""
        step, loss = super().training_step, torch.zeros((), device=self.args.device)
        if not shares_states(packs):
            return sum((step(self.model, part, num_items_in_batch) for _, part in packs), loss)
        self.model.train()
        states = prefix_states(self.model, self.prompt.prefix)
        received = [tuple(part.detach().requires_grad_() for part in layer) for layer in states]
        for _, part in packs:
            loss += step(self.model, with_states(received, part), num_items_in_batch)
        gradients = [part.grad for layer in received for part in layer]
        torch.autograd.backward([part for layer in states for part in layer], gradients)
        return loss

    def log(self, logs, start_time=None):
        if "loss" in logs:
            logs |= self.compute_loss_func.take_means(self.args.device)
        super().log(logs, start_time)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        labels = inputs["labels"].to(self.args.device)
        own = own_rows([len(ids) for ids in inputs["rows"].ids])
        loss, logits = self.in_packs_that_fit(
            lambda: self._predict(self.packs_of(inputs, own), ignore_keys)
        )
        losses = (summed(loss) / len(labels)).expand(len(labels))
        return losses, of_all_rows(own, logits, len(labels)), labels

    def _predict(self, packs: list[Pack], ignore_keys) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of the rows' losses, and their class logits in the order of the rows."""
        if shares_states(packs):
            with torch.no_grad():
                states = prefix_states(self.model, self.prompt.prefix)
            packs = [(members, with_states(states, part)) for members, part in packs]
        shape = sum(len(members) for members, _ in packs), len(self.prompt.answers)
        loss = torch.zeros((), device=self.args.device)
        logits = torch.zeros(shape, device=self.args.device)
        for members, part in packs:
            mean, values, _ = super().prediction_step(self.model, part, False, ignore_keys)
            loss += mean * len(members)
            logits[members] = class_logits(self.prompt, values, len(members))
        return loss, logits

    def packs_of(self, inputs: dict, own: list[int]) -> list[Pack]:
        """Return the `own` rows of a batch in packs, or in padded batches.

        Where several packs share the prefix, its states are yet to be given.
        """
        ids, labels = [inputs["rows"].ids[row] for row in own], inputs["labels"][own]
        prefix = self.prompt.prefix
        parts = list(batches_of_tokens(ids, self.max_tokens, len(prefix), padded=not self.packed))
        states: States | None = [] if self.share_prefix and len(parts) > 1 else None
        num_kept, packs = len(self.prompt.answers[0]), []
        for members in parts:
            rows = [ids[row] for row in members]
            if self.packed:
                arguments = pack(prefix, rows, num_kept, states)
            else:
                arguments = pad(prefix, rows, num_kept, self.prompt.stop[0])
            packs.append((members, {"labels": labels[members], **arguments}))
        return packs

    def in_packs_that_fit(self, compute: Callable, restore: Callable = lambda: None):
        """Return `compute()`, taken again in smaller packs as often as the memory is too small.

        `restore` undoes what an attempt that failed has left behind.
        """
        while (result := unless_out_of_memory(compute)) is None:
            restore()
            if self.max_tokens <= self.least_tokens:
                raise UserError(
                    f"the memory is too small for a row of {self.least_tokens} tokens: give "
                    "--gradient-checkpointing, a smaller --max-length or a smaller model"
                )
            self.max_tokens = max(self.max_tokens // 2, self.least_tokens)
            tqdm.write(
                f"the memory is too small: packs of at most {self.max_tokens:,} tokens from "
                "now on, and the step is taken again"
            )
        return result


def what_undoes_a_step(model: torch.nn.Module, loss: AnswerLoss) -> Callable[[], None]:
    """Return what gives a model the gradients, and a loss the sums, that they have now."""
    sums = loss.sums
    kept = [
        (weight, None if weight.grad is None else weight.grad.clone())
        for weight in model.parameters()
        if weight.requires_grad
    ]

    def restore() -> None:
        loss.sums = sums
        for weight, gradient in kept:
            weight.grad = None if gradient is None else gradient.clone()

    return restore


def shares_states(packs: list[Pack]) -> bool:
    """Return whether packs wait for the states of their prefix."""
    return any(inputs.get("pack", {}).get("states") is not None for _, inputs in packs)


def with_states(states: States, inputs: Inputs) -> Inputs:
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


OPTIONS = (TrainingOptions, AdapterOptions)


def adapter_trainer(
    model_path: str,
    codebook: Codebook,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    options: TrainingOptions,
    adapter_options: AdapterOptions,
) -> PackTrainer:
    """Return what trains a fresh adapter of a causal LM on the columns `message` and `class`."""
    tokenizer, max_length = load_tokenizer(model_path), adapter_options.max_length
    prompt = build_prompt(tokenizer, codebook)
    if prompt.note:
        print(prompt.note)
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
    packed = choose_packing(model, prompt, comments)
    args = trainer_arguments(
        options,
        train_sampling_strategy="random" if packed else "group_by_length",
        warmup_steps=adapter_options.warmup_steps,
        gradient_accumulation_steps=adapter_options.gradient_accumulation_steps,
        activation_checkpointing=adapter_options.gradient_checkpointing,
        metric_for_best_model="accuracy",
        remove_unused_columns=False,
    )
    longest = max(len(row["input_ids"]) for row in train_tokens + validation_tokens)
    max_tokens = adapter_options.max_tokens_per_pack or training_pack_tokens(
        model,
        prompt,
        longest_row=longest,
        batch_rows=options.per_device_train_batch_size,
        gradient_checkpointing=adapter_options.gradient_checkpointing,
        packed=packed,
    )
    print(f"training on at most {max_tokens:,} tokens at once")
    weights = class_weights(train["class"], len(codebook.names), adapter_options.class_weights)
    return PackTrainer(
        prompt=prompt,
        model=model,
        args=args,
        train_dataset=train_tokens,
        eval_dataset=validation_tokens,
        max_tokens=max_tokens,
        least_tokens=len(prompt.prefix) + longest,
        packed=packed,
        share_prefix=not adapter_options.gradient_checkpointing,  # it would drop the states
        processing_class=tokenizer,
        compute_loss_func=AnswerLoss(prompt, weights),
        compute_metrics=partial(score_metrics, class_names=codebook.names),
        callbacks=[EarlyStoppingCallback(options.early_stopping_patience)],
    )
