"""What a training says of each epoch."""

from transformers import ProgressCallback


class EpochLines(ProgressCallback):
    """The Trainer's progress bar with one line an epoch instead of a dict every few steps."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "eval_loss" in logs and self.training_bar is not None:
            hidden = ("runtime", "per_second", "epoch", "loss", "temperature", "ece")
            scores = [
                f", {key.removeprefix('eval_').replace('_', ' ')} {value:.4f}"
                for key, value in logs.items()
                if not key.endswith(hidden)
            ]
            losses = [f"training loss {e['loss']:.4f}, " for e in state.log_history if "loss" in e]
            self.training_bar.write(
                f"epoch {state.epoch:.0f}: {''.join(losses[-1:])}"
                f"validation loss {logs['eval_loss']:.4f}{''.join(scores)}"
            )
