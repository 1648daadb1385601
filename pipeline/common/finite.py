"""Numbers that are not finite: they stop a run, with the precision to try."""

from pathlib import Path

import numpy as np
import torch
from transformers import LogitsProcessor, TrainerCallback

from pipeline.common.cli import UserError
from pipeline.common.machine import compute_dtype, dtype_name

LOGITS = "the model's logits"
SKIPPED_STEPS = 40  # a gradient scaler starts at 2^16 and is halved at each step that it skips


def check_finite(values: np.ndarray | torch.Tensor | float, what: str) -> None:
    """Raise UserError where a value is NaN or infinite; `what` names them, in the plural.

    The line names the precision to try. A tensor on a GPU is waited for.
    """
    if not torch.isfinite(torch.as_tensor(values)).all():
        raise UserError(f"{what} are not finite numbers in {dtype_name(compute_dtype())}: {cure()}")


def cure() -> str:
    """Return what to try where numbers are not finite in this run's precision."""
    dtype = compute_dtype()
    if dtype == torch.float32:
        return "clone or train the model again, with a smaller --learning-rate if it was too high"
    if dtype == torch.float16:
        return (
            "give --dtype float32; an NVIDIA GPU from Ampere on (A100, RTX 30) computes in "
            "bfloat16, which has the range of float32"
        )
    return "give --dtype float32"


class FiniteLogits(LogitsProcessor):
    """Notes in generation whether the logits were finite, without waiting for the GPU.

    A logit of minus infinity is let pass: some models mask a token so.
    """

    def __init__(self) -> None:
        self.finite: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.finite.append(torch.isfinite(scores.amax(-1)).all())
        return scores

    def check(self) -> None:
        """Raise UserError where logits were not finite."""
        if not torch.stack(self.finite).all():
            check_finite(torch.nan, LOGITS)


class StopWhereNotFinite(TrainerCallback):
    """Stops a training whose loss is NaN or infinite, where the Trainer reads it anyway.

    That is every `logging_steps` and after each validation, before the checkpoint is written. In
    float16 some steps may have infinite gradients, the first ones above all: the gradient scaler
    skips them. A training that it skips for `SKIPPED_STEPS` learns nothing, and stops too. In
    another precision the training may go on from its last checkpoint.
    """

    def __init__(self) -> None:
        self.skipped_since: int | None = None  # the first step that was, of those read

    def on_log(self, args, state, control, logs=None, **kwargs):
        losses = [logs.get(name, 0.0) for name in ("loss", "eval_loss")]
        step = state.global_step
        if "grad_norm" in logs:
            is_finite = np.isfinite(logs["grad_norm"])
            self.skipped_since = None if is_finite else self.skipped_since or step
        try:
            check_finite(np.array(losses), f"the losses of step {step}")
            if self.skipped_since is not None and step >= self.skipped_since + SKIPPED_STEPS:
                what = f"the gradients of steps {self.skipped_since} to {step}"
                check_finite(np.nan, what)
        except UserError as error:
            saved = any(Path(args.output_dir).glob("checkpoint-*"))
            if compute_dtype() == torch.float32 or not saved:
                raise
            raise UserError(f"{error}; add --resume to go on from the last checkpoint") from error
