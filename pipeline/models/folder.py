"""Model folders as `git clone` leaves them: checks before anything is loaded."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json

CLONE = "git clone https://huggingface.co/{}"
KNOWN = {
    "Qwen2.5-3B": "Qwen/Qwen2.5-3B",
    "Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B",
    "bert-base-chinese": "google-bert/bert-base-chinese",
}
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
RECORD = "training.json"  # what finetune.py and bert_tune.py write into final_model


def check_model_folder(path: str, kind: str) -> Path:
    """Return the folder of a model that can be loaded; else say what is wrong and the cure.

    `kind` is "causal LM" or "encoder".
    """
    folder = Path(path)
    if not folder.is_dir():
        known = KNOWN.get(folder.name)
        cure = CLONE.format(known) if known else "clone a model into that folder, see README.md"
        raise UserError(f"{path} not found: {cure}")
    if not (folder / "config.json").is_file():
        hint = (
            " (an adapter: give it as --adapter-path)" * (folder / "adapter_config.json").is_file()
        )
        raise UserError(f"{path} is no model folder, it has no config.json{hint}: see README.md")
    config = read_json(folder / "config.json", f"clone {path} again")
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError(f"{folder / 'config.json'} names no model_type: clone {path} again")
    architecture = (config.get("architectures") or [f"{config['model_type']} {kind}"])[0]
    reads_images_too = architecture.endswith("ConditionalGeneration") and "text_config" in config
    causal = reads_images_too or architecture.endswith(("CausalLM", "LMHeadModel", "causal LM"))
    if causal != (kind == "causal LM"):
        raise UserError(
            f"{path} holds a {architecture}, and this step needs a{'n' * causal} {kind} "
            f"such as {'./bert-base-chinese' if causal else './Qwen2.5-3B'}"
        )
    if not any(list(folder.glob(pattern)) for pattern in TOKENIZERS):
        raise UserError(f"{path} has no tokenizer ({', '.join(TOKENIZERS)}): clone it again")
    _check_weights(folder)
    return folder


def _check_weights(folder: Path) -> None:
    """Refuse weights that are absent, pickled, git-lfs pointers or cut short."""
    weights = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        names = read_json(index, f"clone {folder} again")["weight_map"].values()
        weights = sorted({*weights, *(folder / name for name in names)})
    if not weights:
        raise UserError(
            f"{folder} has no .safetensors weights: clone a revision of the model that has them"
        )
    for file in weights:
        if not file.is_file():
            raise UserError(f"{file} not found: run git -C {folder} lfs pull")
        if file.stat().st_size < 1024 and file.read_bytes().startswith(b"version https://git-lfs"):
            raise UserError(
                f"{file} is a git-lfs pointer, not weights: "
                f"run git lfs install, then git -C {folder} lfs pull"
            )
        try:
            with safe_open(file, framework="numpy"):
                pass
        except SafetensorError as error:
            raise UserError(f"{file} is cut short or broken ({error}): clone it again") from error


def is_tuned(path: str) -> bool:
    """Return whether a model folder is one that `finetune.py` or `bert_tune.py` wrote."""
    return (Path(path) / RECORD).is_file()


def temperature_of(path: str) -> float:
    """Return the temperature fitted with an adapter or a merged model, 1 for any other model."""
    if not is_tuned(path):
        return 1.0
    record = read_json(Path(path) / RECORD, "run finetune.py again")
    return record.get("validation", {}).get("temperature", 1.0)


def refuse_tuned(folder: Path) -> None:
    """Refuse a classifier where the encoder as it was downloaded is to be measured."""
    architectures = read_json(folder / "config.json", "clone it again").get("architectures") or [""]
    if is_tuned(str(folder)) or architectures[0].endswith("ForSequenceClassification"):
        raise UserError(
            f"{folder} is already fine-tuned to classify, which is no 'before': "
            "give --model-path the encoder as it was cloned"
        )


def fingerprint(path: str) -> str:
    """Return a hash that tells one base model from another, wherever its folder lies.

    It covers the architecture and, of each weight file, the size, the header and 1 MiB from the
    middle: enough to tell Qwen2.5-3B from Qwen2.5-3B-Instruct without reading gigabytes.
    """
    folder = Path(path)
    config = read_json(folder / "config.json", f"clone {path} again")
    volatile = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")
    kept = {key: value for key, value in config.items() if key not in volatile}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        with file.open("rb") as data:
            header = data.read(min(size, 1 << 16))
            data.seek(size // 2)
            digest.update(str(size).encode() + header + data.read(1 << 20))
    return digest.hexdigest()


def check_adapter(adapter_path: str, model_path: str, codebook: Codebook) -> None:
    """Refuse a folder that is no adapter, or an adapter of another base or another codebook."""
    folder = Path(adapter_path)
    if not (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{adapter_path} holds no adapter (adapter_config.json): run finetune.py first, or "
            "give --adapter-path the final_model folder that it wrote"
        )
    if not (folder / RECORD).is_file():
        print(f"{folder / RECORD} not found: cannot check the adapter's base and codebook")
        return
    record = read_json(folder / RECORD, "run finetune.py again")
    if record.get("base_fingerprint") != fingerprint(model_path):
        base = record.get("settings", {}).get("model_path")
        raise UserError(
            f"{adapter_path} was trained on {base}, and {model_path} is another model: give "
            "--model-path that base, or another --adapter-path"
        )
    check_codebook(adapter_path, record, codebook)


def check_codebook(path: str, record: dict, codebook: Codebook) -> None:
    """Refuse a tuned model where its record names another codebook."""
    if record.get("codebook_sha256") != codebook.sha256:
        raise UserError(
            f"{path} was trained with another codebook than {codebook.path}: give --prompt-file "
            f"the one of training (its text is in {path}/{RECORD}), or train again"
        )
