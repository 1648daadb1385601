"""What both trainings share: the output folder, its record, the Trainer's common arguments."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import TrainingArguments

from pipeline.cli import UserError
from pipeline.codebook import Codebook
from pipeline.files import read_json, write_json
from pipeline.models import RECORD, fingerprint
from pipeline.runtime import compute_dtype, describe_device, torch, versions

FREE_ON_RESUME = {
    "resume",
    "output_dir",
    "model_path",
    "prompt_file",
    "train_file",
    "validation_file",
}


def training_record(settings: dict, codebook: Codebook) -> dict:
    """Return what a training depends on, to be kept with the model and compared on resume."""
    files = {name: settings[name] for name in ("train_file", "validation_file")}
    return {
        "settings": settings,
        "base_fingerprint": fingerprint(settings["model_path"]),
        "codebook_sha256": codebook.sha256,
        "class_names": list(codebook.names),
        "codebook": codebook.text,
        "data_sha256": {
            name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
            for name, file in files.items()
        },
        "device": describe_device(),
        "versions": versions(),
    }


def claim_output(output_dir: str, record: dict, resume: bool) -> str | None:
    """Return the checkpoint to go on from, or None for a fresh start in a folder without one.

    Refuses to mix two trainings: a fresh start beside an earlier one's checkpoints, or a resume
    with other settings, data, base or codebook than the checkpoints were made with.
    """
    folder = Path(output_dir)
    earlier = sorted(
        (path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()),
        key=lambda path: int(path.name.rpartition("-")[2]),
    )
    if not resume:
        if earlier or (folder / "final_model").exists():
            what = (earlier[-1] if earlier else folder / "final_model").name
            raise UserError(
                f"{output_dir} holds {what} of an earlier training: go on with --resume, give "
                "another --output-dir, or remove the folder"
            )
        write_json(record, folder / RECORD)
        return None
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
        for name in ("base_fingerprint", "codebook_sha256", "data_sha256")
        if before[name] != record[name]
    ]
    if changed:
        raise UserError(
            f"{earlier[-1]} belongs to another training ({', '.join(changed)}): "
            "resume with the same settings and files, or start in another --output-dir"
        )
    print(f"resuming from {earlier[-1]}")
    return str(earlier[-1])


def trainer_arguments(settings: dict, **more) -> TrainingArguments:
    """Return the Trainer's arguments that QLoRA and BERT share: epochs, saving, precision, seed."""
    dtype = compute_dtype()
    names = (
        "output_dir",
        "num_train_epochs",
        "learning_rate",
        "weight_decay",
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "save_total_limit",
        "logging_steps",
        "seed",
    )
    return TrainingArguments(
        **{name: settings[name] for name in names},
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        train_sampling_strategy="group_by_length",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        report_to="none",
        **more,
    )


def save_final(output_dir: str, record: dict, save: Callable[[str], None]) -> Path:
    """Write `final_model` beside its place, with its record, and move it there when complete."""
    final = Path(output_dir) / "final_model"
    scratch = final.with_name(f".{os.getpid()}-final_model")
    save(str(scratch))
    write_json(record, scratch / RECORD)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(scratch, final)
    return final
