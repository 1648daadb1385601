"""Fine-tuning of an encoder as a classifier: its Trainer, loss and metrics."""

from functools import partial

import pandas as pd
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import DataCollatorWithPadding, EarlyStoppingCallback, Trainer

from pipeline.bert.encoder import encode, load_classifier, load_tokenizer
from pipeline.common.codebook import Codebook
from pipeline.evaluation.learned import validation_verdict
from pipeline.models.training import TrainingOptions, class_weights, trainer_arguments


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
) -> Trainer:
    """Return what fine-tunes the encoder in `model_path` on the columns `message` and `class`.

    `balanced` says that a class counts in inverse proportion to its rows. The weights of the epoch
    with the highest validation weighted F1 are the model's at the end.
    """
    tokenizer = load_tokenizer(model_path, max_length)
    model = load_classifier(model_path, codebook, options.seed)
    weights = class_weights(train["class"], len(codebook.names), balanced)
    return Trainer(
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
        compute_loss_func=weighted_cross_entropy(weights),
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


def weighted_cross_entropy(weights: list[float]):
    """Return a loss for the Trainer: cross-entropy, each row weighted by its class."""

    def loss(outputs, labels, num_items_in_batch=None):
        weight = torch.tensor(weights, dtype=torch.float32, device=labels.device)
        return torch.nn.functional.cross_entropy(outputs.logits.float(), labels, weight=weight)

    return loss


def accuracy_and_f1(prediction, class_names: tuple[str, ...]) -> dict:
    """Return what the Trainer reports of the validation rows each epoch, with `verdict`'s."""
    predicted = prediction.predictions.argmax(-1)
    return {
        "accuracy": accuracy_score(prediction.label_ids, predicted),
        "weighted_f1": f1_score(prediction.label_ids, predicted, average="weighted"),
        "macro_f1": f1_score(prediction.label_ids, predicted, average="macro"),
        **validation_verdict(prediction.label_ids, predicted, class_names),
    }
