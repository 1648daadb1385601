"""What training reads off an answer's tokens: the loss, class logits, validation metrics."""

from collections.abc import Callable

import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction

from pipeline.common.finite import LOGITS, check_finite
from pipeline.evaluation.calibration import expected_calibration_error, fit_temperature
from pipeline.llm.prompt import Prompt


def class_logits(prompt: Prompt, logits: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Return (rows, classes) of the logits of all answer tokens: what scoring compares."""
    answers = logits.float().view(num_rows, len(prompt.answers[0]), -1)
    return answers[:, prompt.shared, prompt.class_tokens]


def answer_loss(prompt: Prompt, class_weights: list[float]) -> Callable:
    """Return a loss for the Trainer: a row's mean cross-entropy over its answer's tokens.

    The loss of a batch is the sum over its rows, each weighted by its class, divided by the number
    of rows in the optimizer step: every row counts the same, however the packs fall.
    """
    answers, weights = torch.tensor(prompt.answers), torch.tensor(class_weights)

    def loss(outputs, labels, num_items_in_batch=None):
        targets = answers.to(labels.device)[labels].flatten()
        logits = outputs.logits.float().view(len(targets), -1)
        rows = cross_entropy(logits, targets, reduction="none").view(len(labels), -1).mean(1)
        count = len(rows) if num_items_in_batch is None else num_items_in_batch
        return (rows * weights.to(labels.device)[labels]).sum() / count

    return loss


def score_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return what the Trainer reports of the validation rows each epoch.

    `temperature` is fitted on these rows; `ece` is the expected calibration error without it,
    `ece_with_temperature` with it.
    """
    logits, labels = prediction.predictions, prediction.label_ids
    check_finite(logits, LOGITS)
    predicted = logits.argmax(1)
    temperature = fit_temperature(logits, labels)
    ece, scaled_ece = (
        expected_calibration_error(softmax(logits / t, axis=1).max(1), predicted == labels)
        for t in (1.0, temperature)
    )
    return {
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(
            labels, predicted, labels=range(logits.shape[1]), average="macro", zero_division=0
        ),
        "temperature": temperature,
        "ece": ece,
        "ece_with_temperature": scaled_ece,
    }
