"""Model folders as `git clone` leaves them: checks before anything is loaded."""

import hashlib
from pathlib import Path

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json
from pipeline.common.fitting_rows import refuse_learned_rows, say_validation_file
from pipeline.models.weights import check_safetensors, check_weights, fingerprint, refuse_pointer

CLONE = "git clone https://huggingface.co/{}"
KNOWN = {
    "Qwen2.5-3B": "Qwen/Qwen2.5-3B",
    "Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B",
    "bert-base-chinese": "google-bert/bert-base-chinese",
}
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.model")
SMALL_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
NF4_AT_LOADING = " (--load-in-4bit quantizes it as it loads)"
ADAPTER = "adapter_config.json"
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
        raise UserError(f"{path} is no model folder, it has no config.json{_where_it_is(folder)}")
    if (folder / ADAPTER).is_file():  # transformers would load it, on the base that it names
        raise UserError(
            f"{path} holds an adapter beside the model ({ADAPTER}), which would be loaded in its "
            f"place: move {ADAPTER} and the adapter's weights into a folder of their own"
        )
    for file in _read_by_tokenizer(folder):
        refuse_pointer(file)
        if file.name in SMALL_FILES and file.suffix == ".json":
            read_json(file, f"clone {path} again")
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
    _refuse_quantized(folder, config, causal)
    _refuse_fetched_code(folder, config)
    if not _vocabulary(folder):
        if (folder / "tekken.json").is_file():
            raise UserError(
                f"{path} has Mistral's tekken.json and no tokenizer.json: use a model with a "
                "tokenizer.json, or its revision that has one"
            )
        raise UserError(f"{path} has no tokenizer ({', '.join(TOKENIZERS)}): clone it again")
    check_weights(folder)
    return folder


def _where_it_is(folder: Path) -> str:
    """Return the cure for a folder without a config.json."""
    if (folder / ADAPTER).is_file():
        return " (an adapter: give it as --adapter-path): see README.md"
    inner = [*folder.glob("*/config.json"), *folder.glob("snapshots/*/config.json")]
    if inner:
        return f": give {sorted(inner)[0].parent.as_posix()}"
    if (folder / ".git").exists() and all(file.name.startswith(".") for file in folder.iterdir()):
        return f', and its clone no files: run git -C "{folder}" restore --source=HEAD :/'
    return ": see README.md"


def _vocabulary(folder: Path) -> list[Path]:
    """Return the files of a folder's vocabulary; beside a tokenizer.json none is read."""
    if (folder / "tokenizer.json").is_file():
        return [folder / "tokenizer.json"]
    return [file for pattern in TOKENIZERS for file in sorted(folder.glob(pattern))]


def _read_by_tokenizer(folder: Path) -> list[Path]:
    """Return the files that are read beside the weights."""
    named = [folder / name for name in SMALL_FILES]
    return [file for file in [*named, *_vocabulary(folder)] if file.is_file()]


def _refuse_quantized(folder: Path, config: dict, causal: bool) -> None:
    """Refuse weights that were quantized before: other formats, or NF4 of other settings."""
    parts = (config, config.get("text_config") or {})
    for found in filter(None, (part.get("quantization_config") for part in parts)):
        raise UserError(
            f"{folder} holds weights quantized by {found.get('quant_method', 'another library')}: "
            f"clone the unquantized model{NF4_AT_LOADING * causal}"
        )


def _refuse_fetched_code(folder: Path, config: dict) -> None:
    """Refuse a config that names layers of a repository, which transformers would fetch and run."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name, value in part.items():
            if name.endswith("_implementation") and "/" in str(value):
                raise UserError(
                    f"{folder / 'config.json'} asks for code of {value} ({name}), and such code is "
                    f"never fetched or run: delete {name} from the file"
                )


def is_tuned(path: str) -> bool:
    """Return whether a model folder is one that `finetune.py` or `bert_tune.py` wrote."""
    return (Path(path) / RECORD).is_file()


def temperature_of(path: str) -> float:
    """Return the temperature fitted at the end of a training, 1 for a model without one."""
    if not is_tuned(path):
        return 1.0
    record = read_json(Path(path) / RECORD, "train it again")
    return record.get("validation", {}).get("temperature", 1.0)


def training_sha256(path: str) -> str:
    """Return what tells a training from every other, the hash of its record; "" without one."""
    if not is_tuned(path):
        return ""
    return hashlib.sha256((Path(path) / RECORD).read_bytes()).hexdigest()


def refuse_tuned(folder: Path) -> None:
    """Refuse a classifier where the encoder as it was downloaded is to be measured."""
    architectures = read_json(folder / "config.json", "clone it again").get("architectures") or [""]
    if is_tuned(str(folder)) or architectures[0].endswith("ForSequenceClassification"):
        raise UserError(
            f"{folder} is already fine-tuned to classify, which is no 'before': "
            "give --model-path the encoder as it was cloned"
        )


def check_adapter(
    adapter_path: str,
    model_path: str,
    codebook: Codebook,
    base_option: str = "--model-path",
    adapter_option: str = "--adapter-path",
) -> None:
    """Refuse a folder that is no adapter, or an adapter of another base or another codebook.

    The options are those by which the script takes the two folders.
    """
    folder = Path(adapter_path)
    if not (folder / ADAPTER).is_file():
        raise UserError(
            f"{adapter_path} holds no adapter ({ADAPTER}): run finetune.py first, or "
            f"give {adapter_option} the final_model folder that it wrote"
        )
    refuse_pointer(folder / ADAPTER)
    check_safetensors(folder / "adapter_model.safetensors")
    if not (folder / RECORD).is_file():
        print(f"{folder / RECORD} not found: cannot check the adapter's base and codebook")
        return
    record = read_json(folder / RECORD, "run finetune.py again")
    if record.get("base_fingerprint") != fingerprint(model_path):
        base = record.get("settings", {}).get("model_path")
        raise UserError(
            f"{adapter_path} was trained on {base}, and {model_path} is another model: give "
            f"{base_option} that base, or another {adapter_option}"
        )
    check_codebook(adapter_path, record, codebook)


def check_prompt(path: str, prompt_sha256: str) -> None:
    """Refuse a tuned model that was trained with other tokens around a comment.

    A record without their hash, of an older training, is taken as it is.
    """
    if not is_tuned(path):
        return
    record = read_json(Path(path) / RECORD, "run finetune.py again")
    if record.get("prompt_sha256", prompt_sha256) != prompt_sha256:
        raise UserError(
            f"{path} was trained with other tokens around a comment: the base's tokenizer or chat "
            f"template has changed since, or the packages, whose versions are in {path}/{RECORD}: "
            f"copy the tokenizer's files and chat_template.jinja of {path} over the base's, or "
            "train again"
        )


def check_tokenizer(path: str, vocabulary_sha256: str) -> None:
    """Refuse a tuned model whose tokenizer is another one by now.

    A record without its hash, of an older training, is taken as it is.
    """
    record = read_json(Path(path) / RECORD, "train it again") if is_tuned(path) else {}
    if record.get("tokenizer_sha256", vocabulary_sha256) != vocabulary_sha256:
        raise UserError(
            f"{path} was trained with another tokenizer than the one that is read now, so that its "
            "words have other numbers: put back the tokenizer's files of the training (those of an "
            "adapter lie beside it and belong to the base), or train again"
        )


def check_learned_rows(path: str, test_file: str, rows: pd.DataFrame) -> None:
    """Refuse a tuned model that learned from rows that it is to be scored on.

    A record without a sample of them, of an older training, is taken as it is.
    """
    if is_tuned(path):
        record = read_json(Path(path) / RECORD, "train it again")
        refuse_learned_rows(test_file, rows, record.get("train_sample", ""), path)
        say_validation_file(test_file, record)


def check_codebook(path: str, record: dict, codebook: Codebook) -> None:
    """Refuse a tuned model where its record names another codebook."""
    if record.get("codebook_sha256") != codebook.sha256:
        raise UserError(
            f"{path} was trained with another codebook than {codebook.path}: give --prompt-file "
            f"the one of training (its text is in {path}/{RECORD}), or train again"
        )
