"""What training reads off an answer's tokens: the loss, class logits, validation metrics."""

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.nn.functional import cross_entropy, log_softmax
from transformers import EvalPrediction

from pipeline.common.finite import LOGITS, check_finite
from pipeline.evaluation.calibration import calibration_of
from pipeline.evaluation.learned import validation_verdict
from pipeline.llm.prompt import Prompt
from pipeline.models.shared_batches import summed


def class_logits(prompt: Prompt, logits: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Return (rows, classes) of the logits of all answer tokens: what scoring compares.

    They are log-probabilities among all tokens of the vocabulary: those of scoring, less a number
    that is the same for all classes of a row.
    """
    answers = logits.view(num_rows, len(prompt.answers[0]), -1)
    return log_softmax(answers[:, prompt.shared].float(), dim=-1)[:, prompt.class_tokens]


class AnswerLoss:
    """A loss for the Trainer: a row's mean cross-entropy over its answer's tokens.

    The loss of a batch is the sum over its rows, each weighted by its class, divided by the number
    of rows in the optimizer step: every row counts the same, however the packs fall.

    An answer is one token that tells the class, and others that all answers share, `[` and `]`.
    After twenty steps the loss of the others is 0 and hides that of the one, so that both are
    summed apart: on the device, as to read a number off it at each step would make it wait.
    """

    def __init__(self, prompt: Prompt, class_weights: list[float]):
        self.answers, self.weights = torch.tensor(prompt.answers), torch.tensor(class_weights)
        self.place, self.sums = prompt.shared, torch.zeros(3)

    def __call__(self, outputs, labels, num_items_in_batch=None) -> torch.Tensor:
        if self.answers.device != labels.device:  # once, as each copy would wait for the device
            self.answers = self.answers.to(labels.device)
            self.weights = self.weights.to(labels.device)
        targets = self.answers[labels]
        logits = outputs.logits.float().view(targets.numel(), -1)
        tokens = cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)
        if tokens.requires_grad:
            of_class, whole = tokens.detach()[:, self.place].sum(), tokens.detach().sum()
            sums = torch.stack([of_class, whole - of_class, torch.full_like(whole, len(labels))])
            self.sums = self.sums.to(sums.device) + sums
        count = len(labels) if num_items_in_batch is None else num_items_in_batch
        return (tokens.mean(1) * self.weights[labels]).sum() / count

    def take_means(self, device: torch.device) -> dict[str, float]:
        """Return `class_loss` and `other_loss`, a token's mean in training since the last call.

        They are means over the rows of all processes, each of which has to call this.
        """
        of_class, others, rows = summed(self.sums.to(device)).tolist()
        self.sums = torch.zeros(3)
        return {
            "class_loss": of_class / rows,
            "other_loss": others / rows / (self.answers.shape[1] - 1),
        }


def score_metrics(prediction: EvalPrediction, class_names: tuple[str, ...]) -> dict:
    """Return what the Trainer reports of the validation rows each epoch.

    `class_loss` is the mean cross-entropy of the token that tells the class, each row counting
    once. More is `calibration_of`'s, and `warning` and `what_to_try` are those of `verdict`.
    """
    logits, labels = prediction.predictions, prediction.label_ids
    check_finite(logits, LOGITS)
    predicted = logits.argmax(1)
    return {
        "class_loss": float(-logits[np.arange(len(labels)), labels].mean()),
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(
            labels, predicted, labels=range(logits.shape[1]), average="macro", zero_division=0
        ),
        **calibration_of(logits, labels),
        **validation_verdict(labels, predicted, class_names),
    }
