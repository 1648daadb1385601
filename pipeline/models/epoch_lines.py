"""What a training says of each epoch."""

from transformers import ProgressCallback

from pipeline.evaluation.learned import warning_text

HIDDEN = ("runtime", "per_second", "epoch", "loss", "temperature", "ece", "warning", "what_to_try")


class EpochLines(ProgressCallback):
    """The Trainer's progress bar with one line an epoch instead of a dict every few steps.

    A second line says that the model does not tell the classes apart, where that is so.
    """

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "eval_loss" in logs and self.training_bar is not None:
            self.training_bar.write(epoch_line(logs, state.log_history, state.epoch))
            found = {key.removeprefix("eval_"): value for key, value in logs.items()}
            if text := warning_text(found):
                self.training_bar.write(text)


def epoch_line(logs: dict, history: list[dict], epoch: float) -> str:
    """Return a line on an epoch's losses and scores; the loss of an answer's class token is first.

    `history` is the Trainer's `log_history`, whose last training loss is that of the line.
    """
    last = ([entry for entry in history if "loss" in entry] or [{}])[-1]
    scores = "".join(
        f", {key.removeprefix('eval_').replace('_', ' ')} {value:.4f}"
        for key, value in logs.items()
        if not key.endswith(HIDDEN)
    )
    whole = _losses(last.get("loss"), logs["eval_loss"])
    if "eval_class_loss" not in logs:
        return f"epoch {epoch:.0f}: {whole}{scores}"
    of_class = _losses(last.get("class_loss"), logs["eval_class_loss"])
    return f"epoch {epoch:.0f}: class token: {of_class}{scores}; whole answer: {whole}"


def _losses(training: float | None, validation: float) -> str:
    known = "" if training is None else f"training loss {training:.4f}, "
    return f"{known}validation loss {validation:.4f}"
