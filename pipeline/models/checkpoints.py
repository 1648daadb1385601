"""Checkpoints of a training: each is whole or not there, and a training goes on as it was.

A folder is written beside its place and moved there when all its files are on the disk. A
checkpoint also has `complete.json`, written last: the hash of each of its files.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import TrainOutput, sort_checkpoints

from pipeline.common.cli import UserError
from pipeline.common.faults import fault_text, writing
from pipeline.common.files import flush_to_disk, read_json, write_json
from pipeline.common.processes import is_main_process
from pipeline.common.scratch import remove_unfinished, scratch_beside
from pipeline.models.in_batches import gathered, wait_for_all

COMPLETE = "complete.json"
STATE = "trainer_state.json"
CHECKPOINT, OLD = "checkpoint", "old"  # what is being written, and removed, is called after
GO_ON = "; add --resume to go on from the last checkpoint"
TORCH_COULD_NOT_WRITE = re.compile("PytorchStreamWriter failed|inline_container")


class ResumableTrainer(Trainer):
    """A Trainer that ends alike whether it was interrupted or not, and whose checkpoints are whole.

    Beside what its base class keeps in a checkpoint it knows after a resume for how long it has
    trained, that it had come to its end, and where its best checkpoint is if the folder was moved.
    Its training loss is of all steps. Each epoch ends a point of the loss curve, so that no part of
    one is lost between two epochs.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.add_callback(LogEpochs)
        self.began = time.monotonic()
        self.is_resumed = self.has_ended = False
        self.scratch: Path | None = None  # where a checkpoint is being written

    def train(self, resume_from_checkpoint: str | None = None, **kwargs) -> TrainOutput:
        self.began, self.is_resumed = time.monotonic(), resume_from_checkpoint is not None
        if self.is_resumed:
            kept = read_json(Path(resume_from_checkpoint) / COMPLETE, "start without --resume")
            self.began -= kept["seconds"]
        return super().train(resume_from_checkpoint, **kwargs)

    def _init_training_state(self, *args, **kwargs) -> tuple[int, int]:
        position = super()._init_training_state(*args, **kwargs)
        # What the checkpoint says; the Trainer then sets it to False.
        self.has_ended = self.is_resumed and self.control.should_training_stop
        self._find_best()
        return position

    def _find_best(self) -> None:
        if self.state.best_global_step:
            best = self._checkpoint(self.state.best_global_step)
            self.state.best_model_checkpoint = str(best)

    def _checkpoint(self, step: int) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _run_epoch(self, **kwargs) -> None:
        if self.has_ended:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**kwargs)

    def _get_output_dir(self, trial) -> str:
        return super()._get_output_dir(trial) if self.scratch is None else str(self.scratch)

    def _save_checkpoint(self, model, trial) -> None:
        place = self._checkpoint(self.state.global_step)
        cure = GO_ON if any(place.parent.glob("checkpoint-*")) else ""
        with ExitStack() as beside:
            if self.args.should_save:
                self.scratch = beside.enter_context(scratch_beside(place.with_name(CHECKPOINT)))
            self.scratch = gathered(self.scratch)[0]
            with writing_model(place, cure):
                super()._save_checkpoint(model, trial)
                written, self.scratch = self.scratch / place.name, None
                self._find_best()
                wait_for_all()  # each process writes the state of its random numbers
                if self.args.should_save:
                    self.state.save_to_json(str(written / STATE))
                    seconds = time.monotonic() - self.began
                    write_json({"files": hashes(written), "seconds": seconds}, written / COMPLETE)
                    put_in_place(written, place)
                    self._remove_old()
                wait_for_all()

    def _remove_old(self) -> None:
        best = self.state.best_model_checkpoint
        earlier = sort_checkpoints(self.args.output_dir, best_model_checkpoint=best)
        kept = max(self.args.save_total_limit, len({best, earlier[-1]}))
        for old in earlier[:-kept]:
            remove_at_once(Path(old))

    def _finalize_training(self, trial, num_train_samples, start_time) -> TrainOutput:
        best = self.state.best_model_checkpoint
        if is_main_process() and best is not None and not Path(best).is_dir():
            raise UserError(
                f"{best} is missing, which had the best weights of this training: start again in "
                "another --output-dir"
            )
        self._initial_global_step = 0
        points = [(0, 0.0)]
        points += [(p["step"], p["loss"]) for p in self.state.log_history if "loss" in p]
        self._total_loss_scalar = sum(
            (step - before) * loss for (before, _), (step, loss) in pairwise(points)
        )
        began = time.time() - (time.monotonic() - self.began)
        return super()._finalize_training(trial, num_train_samples, began)


class LogEpochs(TrainerCallback):
    """Ends a point of the loss curve with each epoch."""

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_log = True
        return control


def last_usable(folder: Path) -> Path | None:
    """Return the checkpoint that a training goes on from, None where there is none.

    It is the last one that is whole and whose best one is there too; else the last that is whole,
    as the best one until then was removed when a better one followed. Those that are not whole or
    later become `unused-checkpoint-*`, with a line that says why.
    """
    found = (path for path in folder.glob("checkpoint-*") if re.fullmatch(r"\D+\d+", path.name))
    reasons = {path: why_not_whole(path) for path in sorted(found, key=step_of)}
    whole = [path for path, reason in reasons.items() if not reason]
    steps = {step_of(path) for path in whole}
    with_best = [path for path in whole if best_step_of(path) in steps]
    chosen = (with_best or whole or [None])[-1]
    for path, reason in reasons.items():
        if reason is None and step_of(path) > step_of(chosen):
            reason = f"the best one until then, checkpoint-{best_step_of(path)}, is missing"
        if reason is not None:
            set_aside(path, reason)
    return chosen


def set_aside(checkpoint: Path, reason: str) -> None:
    """Rename a checkpoint, and say why."""
    aside = checkpoint.with_name(f"unused-{checkpoint.name}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}-again")
    os.replace(checkpoint, aside)
    print(f"{checkpoint} is not used: {reason}; it was renamed to {aside.name}")


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def best_step_of(checkpoint: Path) -> int:
    """Return the step of the best checkpoint until a whole one, which may be itself."""
    state = read_json(checkpoint / STATE, "start in another --output-dir")
    return state.get("best_global_step") or step_of(checkpoint)


def why_not_whole(checkpoint: Path) -> str | None:
    """Return what is wrong with the files of a checkpoint, or None where nothing is."""
    try:
        files = read_json(checkpoint / COMPLETE, "")["files"]
    except UserError:
        return f"its {COMPLETE} is missing or cut, so that it may be half-written"
    for name, expected in files.items():
        if not (checkpoint / name).is_file():
            return f"its {name} is missing"
        if hash_of(checkpoint / name) != expected:
            return f"its {name} is not as it was written"
    return None


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by its name."""
    return {path.name: hash_of(path) for path in sorted(folder.iterdir())}


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing_model(place: Path, cure: str) -> Iterator[None]:
    """Turn a fault of the disk, while a model is written, into one line, to which `cure` is added.

    torch and safetensors have errors of their own for it.
    """
    try:
        with writing(place):
            yield
    except UserError as error:
        raise UserError(f"{error}{cure}") from error
    except (RuntimeError, SafetensorError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # as the system's errors have
        if not number and not TORCH_COULD_NOT_WRITE.search(str(error)):
            raise
        code = int(number[1]) if number else 0
        reason = os.strerror(code) if code else "its disk does not take a file"
        raise UserError(f"{fault_text(place, code, reason)}{cure}") from error


def put_in_place(written: Path, place: Path) -> None:
    """Move a folder to its place, when all that is in it is on the disk."""
    for path in written.iterdir():
        flush_to_disk(path)
    if place.exists():
        remove_at_once(place)
    os.replace(written, place)


def remove_at_once(folder: Path) -> None:
    """Remove a folder that never stands half-removed in its place."""
    with scratch_beside(folder.with_name(OLD)) as scratch:
        os.replace(folder, scratch)


def remove_unfinished_models(folder: Path) -> None:
    """Remove what killed processes were writing or removing in the folder of a training."""
    for name in (CHECKPOINT, OLD, "final_model"):
        remove_unfinished(folder / name)
