"""Model folders as `git clone` leaves them: checks before anything is loaded."""

import hashlib
import json
from pathlib import Path

from pipeline.cli import UserError
from pipeline.codebook import Codebook
from pipeline.files import read_json

CLONE = "git clone https://huggingface.co/{}"
KNOWN = {
    "Qwen2.5-3B": "Qwen/Qwen2.5-3B",
    "Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B",
    "bert-base-chinese": "google-bert/bert-base-chinese",
}
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
    architectures = config.get("architectures") or [f"of some {kind}"]
    causal = architectures[0].endswith(("CausalLM", "LMHeadModel", "causal LM"))
    if causal != (kind == "causal LM"):
        raise UserError(
            f"{path} holds a {architectures[0]}, and this step needs a{'n' * causal} {kind} "
            f"such as {'./bert-base-chinese' if causal else './Qwen2.5-3B'}"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(
            f"{path} has no .safetensors weights: clone a revision of the model that has them"
        )
    for file in weights:
        if file.stat().st_size < 1024 and file.read_bytes().startswith(b"version https://git-lfs"):
            raise UserError(
                f"{file} is a git-lfs pointer, not weights: "
                f"run git lfs install, then git -C {path} lfs pull"
            )
    return folder


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
    if record["base_fingerprint"] != fingerprint(model_path):
        raise UserError(
            f"{adapter_path} was trained on {record['settings']['model_path']}, and {model_path} "
            "is another model: give --model-path that base, or another --adapter-path"
        )
    if record["codebook_sha256"] != codebook.sha256:
        raise UserError(
            f"{adapter_path} was trained with another codebook than {codebook.path}: give "
            f"--prompt-file the one of training (its text is in {folder / RECORD}), or train again"
        )
