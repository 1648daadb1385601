"""What both trainings share: options, the output folder, its record, the Trainer's arguments."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import check_cuda_p2p_ib_support
from transformers import ProgressCallback, Trainer, TrainingArguments

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json, write_json
from pipeline.common.finite import StopWhereNotFinite
from pipeline.common.fitting_rows import sample_of
from pipeline.common.lock import lock
from pipeline.common.machine import compute_dtype, describe_device, device, versions
from pipeline.common.processes import is_main_process, num_processes
from pipeline.common.rows import coded_by_people
from pipeline.common.scratch import scratch_beside
from pipeline.evaluation.learned import warning_text
from pipeline.evaluation.plots import plot_loss
from pipeline.models.checkpoints import (
    last_usable,
    put_in_place,
    remove_unfinished_models,
    writing_model,
)
from pipeline.models.epoch_lines import EpochLines
from pipeline.models.folder import RECORD, fingerprint
from pipeline.models.in_batches import LONGEST_WAIT, OTHER_ENDED, gathered
from pipeline.models.tokenizer import load_fast_tokenizer, vocabulary_sha256

Options = TypeVar("Options")
Value = TypeVar("Value")

FREE_ON_RESUME = {
    "study",
    "resume",
    "merge",
    "dtype",
    "max_tokens_per_pack",
    "per_device_eval_batch_size",
    "save_total_limit",
    "output_dir",
    "model_path",
    "prompt_file",
    "train_file",
    "validation_file",
}


@dataclass(frozen=True)
class TrainingOptions:
    """What both trainings let the user choose of the Trainer, by the Trainer's own names."""

    output_dir: str
    num_train_epochs: int
    learning_rate: float
    weight_decay: float
    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    early_stopping_patience: int
    save_total_limit: int
    logging_steps: int
    seed: int


def options_of(kind: type[Options], settings: dict) -> Options:
    """Pick a dataclass's fields from the settings of a script, or those in a training's record."""
    return kind(**{field.name: settings[field.name] for field in fields(kind)})


def training_record(
    codebook: Codebook,
    model_path: str,
    files: tuple[str, str],
    rows: tuple[pd.DataFrame, pd.DataFrame],
    settings: dict,
) -> dict:
    """Return what a training depends on, to be kept with the model and compared on resume.

    `files` and `rows` are those of training and validation. `settings` are all of the script's.
    """
    train, validation = rows
    return {
        "settings": settings,
        "base_fingerprint": fingerprint(model_path),
        "codebook_sha256": codebook.sha256,
        "class_names": list(codebook.names),
        "codebook": codebook.text,
        "data_sha256": {
            name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
            for name, file in zip(("train_file", "validation_file"), files, strict=True)
        },
        "tokenizer_sha256": vocabulary_sha256(load_fast_tokenizer(Path(model_path))),
        "train_sample": sample_of(train),
        "num_rows": {"train": len(train), "validation": len(validation)},
        "human_rows": {
            "train": int(coded_by_people(train).sum()),
            "validation": int(coded_by_people(validation).sum()),
        },
        "processes": num_processes(),
        "device": describe_device(),
        "versions": versions(),
    }


@contextmanager
def output_claimed(output_dir: str, record: dict, resume: bool) -> Iterator[str | None]:
    """Keep other trainings from a folder; yield the checkpoint to go on from, or None for none.

    The main process claims the folder for all. On a disk that knows no locks nobody has one.
    """
    with ExitStack() as until_done:

        def claim() -> str | None:
            with suppress(OSError):
                until_done.callback(lock(output_dir, "training").release)
            return claim_output(output_dir, record, resume)

        yield of_main_process(claim)


def of_main_process(work: Callable[[], Value]) -> Value:
    """Return in every process what `work` returns in the main one, which alone does it.

    Raises in all of them the UserError that it raises.
    """
    if num_processes() > 1:
        let_cards_go_without_transfers()
        # They meet as the Trainer would let them, but for the time that one may wait for another.
        PartialState(cpu=device().type == "cpu", timeout=LONGEST_WAIT)
    outcome: Value | UserError | None = None
    if is_main_process():
        try:
            outcome = work()
        except UserError as error:
            outcome = error
    outcome = gathered(outcome)[0]
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def let_cards_go_without_transfers() -> None:
    """Set what `accelerate launch` sets for several RTX 40 cards under a driver before 550.40.07.

    The cards then exchange nothing directly. Without it accelerate refuses them, one process too.
    """
    if device().type == "cuda" and not check_cuda_p2p_ib_support():
        for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
            os.environ.setdefault(name, "1")


def claim_output(output_dir: str, record: dict, resume: bool) -> str | None:
    """Return the checkpoint to go on from, or None for a fresh start in a folder without one.

    Refuses to mix two trainings: a fresh start beside an earlier one's checkpoints, or a resume
    with other settings, data, base or codebook than the checkpoints were made with.
    """
    folder, final = Path(output_dir), Path(output_dir) / "final_model"
    remove_unfinished_models(folder)
    earlier = None if final.exists() else last_usable(folder)
    if not resume:
        if earlier or final.exists():
            what = "the final_model" if final.exists() else earlier.name
            cure = "" if final.exists() else "go on with --resume, "
            raise UserError(
                f"{output_dir} holds {what} of an earlier training: {cure}give another "
                "--output-dir, or remove the folder"
            )
        write_json(record, folder / RECORD)
        return None
    if final.exists():
        raise UserError(f"{final} is there, the training is complete: nothing to resume")
    if not earlier:
        raise UserError(f"{output_dir} holds no checkpoint to resume from: start without --resume")
    before = read_json(folder / RECORD, "start anew in another --output-dir")
    changed = [
        f"{name} was {before['settings'].get(name)!r}"
        for name, value in record["settings"].items()
        if name not in FREE_ON_RESUME and before["settings"].get(name) != value
    ]
    changed += [
        name
        for name in (
            "base_fingerprint",
            "codebook_sha256",
            "data_sha256",
            "prompt_sha256",
            "tokenizer_sha256",
        )
        if name in before and before[name] != record[name]  # an older record lacks some
    ]
    if (count := before.get("processes", 1)) != record["processes"]:
        changed.append(f"it had {count} process{'es' * (count != 1)}")
    if changed:
        raise UserError(
            f"{earlier} belongs to another training ({', '.join(changed)}): "
            "resume with the same settings and files, or start in another --output-dir"
        )
    print(f"resuming from {earlier}")
    return str(earlier)


def class_weights(labels: pd.Series, num_labels: int, balanced: bool) -> list[float]:
    """Return rows / (classes x rows of the class) per class, 1 for one without rows."""
    if not balanced:
        return [1.0] * num_labels
    counts = labels.value_counts()
    return [
        float(len(labels) / (num_labels * counts[k])) if k in counts else 1.0
        for k in range(num_labels)
    ]


def trainer_arguments(options: TrainingOptions, **more) -> TrainingArguments:
    """Return the Trainer's arguments: the options, what QLoRA and BERT share, and `more`."""
    let_cards_go_without_transfers()
    dtype = compute_dtype()
    chosen = asdict(options)
    del chosen["early_stopping_patience"]  # a callback's
    arguments = TrainingArguments(
        **chosen,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        use_cpu=device().type == "cpu",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=False,
        log_level_replica="error",  # "warning" by default, more than the main process says
        dataloader_pin_memory=device().type == "cuda",
        logging_nan_inf_filter=False,  # see StopWhereNotFinite
        average_tokens_across_devices=False,  # every process has the whole batch
        report_to="none",
        **more,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # the Trainer would spread each batch of one process over all GPUs
    return arguments


def train_and_save(
    trainer: Trainer,
    checkpoint: str | None,
    record: dict,
    title: str,
    finish: Callable[[Path, dict], None] = lambda folder, record: None,
) -> None:
    """Train, then write the loss curve and, as the last thing, `final_model` (the best weights).

    `finish` completes the folder before it takes its place; the record then holds `log_history`,
    `train` and `validation`, the metrics of the best weights.
    """
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(EpochLines)
    trainer.add_callback(StopWhereNotFinite)
    try:
        result = trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the GPU's memory is too small: give a smaller --per-device-train-batch-size, or (in "
            "finetune.py) a smaller --max-tokens-per-pack or --gradient-checkpointing"
        ) from error
    except RuntimeError as error:
        if "by peer" not in str(error):  # gloo's "Connection closed by peer", "reset by peer"
            raise
        raise UserError(OTHER_ENDED) from error
    state, folder = trainer.state, Path(trainer.args.output_dir)
    best = next(
        entry
        for entry in state.log_history
        if entry["step"] == state.best_global_step and "eval_loss" in entry
    )
    validation = {key.removeprefix("eval_"): value for key, value in best.items()}
    record |= {"log_history": state.log_history, "train": result.metrics, "validation": validation}

    def save(path: str) -> None:
        trainer.save_model(path)
        finish(Path(path), record)

    final = folder / "final_model"
    trainer.end()  # the main process goes on alone
    if not is_main_process():
        return
    plot_loss(state.log_history, title, folder / "loss_curve.png")
    save_final(final, record, save)
    name = trainer.args.metric_for_best_model.removeprefix("eval_").replace("_", " ")
    print(f"best validation {name} {state.best_metric:.4f}, at step {state.best_global_step}")
    print(f"trained in {result.metrics['train_runtime']:.0f} s; wrote {final}")
    print(warning_text(validation), end="")


def save_final(final: Path, record: dict, save: Callable[[str], None]) -> None:
    """Write a model with its record beside its place, and move it there when complete."""
    with (
        scratch_beside(final) as scratch,
        writing_model(final, "; add --resume to write what is missing"),
    ):
        save(str(scratch))
        write_json(record, scratch / RECORD)
        put_in_place(scratch, final)
