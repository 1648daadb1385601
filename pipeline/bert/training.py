"""Fine-tuning of an encoder as a classifier: its Trainer, loss and metrics."""

from functools import partial

import pandas as pd
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.nn.functional import cross_entropy
from transformers import DataCollatorWithPadding, EarlyStoppingCallback

from pipeline.bert.encoder import encode, load_classifier, load_tokenizer
from pipeline.common.codebook import Codebook
from pipeline.common.finite import LOGITS, check_finite
from pipeline.common.processes import num_processes
from pipeline.evaluation.calibration import calibration_of
from pipeline.evaluation.learned import validation_verdict
from pipeline.models.shared_batches import SharedBatchTrainer, of_all_rows, own_rows, summed
from pipeline.models.training import TrainingOptions, class_weights, trainer_arguments


class ClassifierTrainer(SharedBatchTrainer):
    """A Trainer whose loss is a batch's mean cross-entropy, each row weighted by its class."""

    def __init__(self, class_weights: list[float], **kwargs):
        weights = torch.tensor(class_weights, device=kwargs["args"].device)
        super().__init__(compute_loss_func=weighted_cross_entropy(weights), **kwargs)
        self.class_weights = weights

    def training_step(self, model, inputs, num_items_in_batch=None):
        _, own, total = self.own_inputs(inputs)
        loss = torch.zeros((), device=self.args.device)
        if len(own["labels"]):
            loss = super().training_step(self.model, own, total)
        self.sum_gradients()
        return summed(loss)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        rows, own, total = self.own_inputs(inputs)
        labels, count = inputs["labels"], len(own["labels"])
        loss = torch.zeros((), device=self.args.device)
        logits = torch.zeros(0, len(self.class_weights), device=self.args.device)
        if count:
            mean, logits, _ = super().prediction_step(self.model, own, False, ignore_keys)
            loss += mean * count / total
        logits = of_all_rows(rows, logits.float(), len(labels))
        return summed(loss).expand(len(labels)), logits, labels

    def own_inputs(self, inputs: dict) -> tuple[list[int] | slice, dict, torch.Tensor]:
        """Return which rows of a batch this process computes, their inputs, the weight of all rows.

        A process alone takes all without waiting for the device.
        """
        rows = slice(None)
        if num_processes() > 1:
            rows = own_rows(inputs["attention_mask"].sum(1).tolist())
        own = {name: values[rows] for name, values in inputs.items()}
        return rows, own, self.class_weights[inputs["labels"]].sum()


def bert_trainer(
    model_path: str,
    codebook: Codebook,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    options: TrainingOptions,
    *,
    max_length: int,
    warmup_ratio: float,
    balanced: bool,
    freeze_word_embeddings: bool,
) -> ClassifierTrainer:
    """Return what fine-tunes the encoder in `model_path` on the columns `message` and `class`.

    `balanced` says that a class counts in inverse proportion to its rows, `freeze_word_embeddings`
    that the vectors of the vocabulary's words stay as they were. The weights of the epoch with the
    highest validation weighted F1 are the model's at the end.
    """
    tokenizer = load_tokenizer(model_path, max_length)
    model = load_classifier(model_path, codebook, options.seed)
    if freeze_word_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    return ClassifierTrainer(
        class_weights(train["class"], len(codebook.names), balanced),
        model=model,
        args=trainer_arguments(
            options,
            train_sampling_strategy="group_by_length",
            warmup_steps=warmup_ratio,
            metric_for_best_model="weighted_f1",
        ),
        train_dataset=tokenize(tokenizer, train, max_length),
        eval_dataset=tokenize(tokenizer, validation, max_length),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=partial(accuracy_and_f1, class_names=codebook.names),
        callbacks=[EarlyStoppingCallback(options.early_stopping_patience)],
    )


def tokenize(tokenizer, rows: pd.DataFrame, max_length: int) -> list[dict]:
    """Return `input_ids` and `labels` of each row."""
    ids, shortened = encode(tokenizer, rows["message"].tolist(), max_length)
    print(f"{len(rows):,} rows as tokens, {shortened:,} comments shortened to {max_length}")
    return [
        {"input_ids": row, "labels": label}
        for row, label in zip(ids, rows["class"].tolist(), strict=True)
    ]


def weighted_cross_entropy(weights: list[float] | torch.Tensor):
    """Return a loss for the Trainer: cross-entropy, each row weighted by its class.

    Its divisor is `num_items_in_batch`, here the weight of all rows of a batch, of which these
    may be a part.
    """

    def loss(outputs, labels, num_items_in_batch):
        weight = torch.as_tensor(weights, dtype=torch.float32, device=labels.device)
        losses = cross_entropy(outputs.logits.float(), labels, weight, reduction="sum")
        return losses / num_items_in_batch

    return loss


def accuracy_and_f1(prediction, class_names: tuple[str, ...]) -> dict:
    """Return what the Trainer reports of the validation rows each epoch.

    `calibration_of` and `verdict` say what else is in it.
    """
    logits = prediction.predictions
    check_finite(logits, LOGITS)
    predicted = logits.argmax(-1)
    return {
        "accuracy": accuracy_score(prediction.label_ids, predicted),
        "weighted_f1": f1_score(prediction.label_ids, predicted, average="weighted"),
        "macro_f1": f1_score(prediction.label_ids, predicted, average="macro"),
        **calibration_of(logits, prediction.label_ids),
        **validation_verdict(prediction.label_ids, predicted, class_names),
    }
