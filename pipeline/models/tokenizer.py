"""A model's tokenizer, of the library tokenizers, from its folder."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import transformers
from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedTokenizerBase

from pipeline.common.cli import UserError
from pipeline.common.files import read_json

PROBE = "Ａb É don't 你好，世界！ 12,345.6 \t ひらがな 한국어 العربية 😀👩‍💻 <|im_end|>[SEP]_ naïve"
SENTENCEPIECE = ("sentencepiece", "google.protobuf")  # what reads a *.model file


def load_fast_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder that was checked; code that it may hold is never run.

    Raises UserError where transformers does not know the model or the tokenizer without such code.
    """
    _refuse_unknown_model(folder)
    _refuse_unreadable(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(
            f"{folder}: its tokenizer is Python code of its own, which is never run: use another "
            "model"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(
            f"{folder}: {type(tokenizer).__name__} is no tokenizer of the library "
            "tokenizers: use a model with a tokenizer.json"
        )
    template = folder / "chat_template.json"  # where a processor beside the tokenizer keeps it
    if tokenizer.chat_template is None and template.is_file():
        tokenizer.chat_template = read_json(template, f"clone {folder} again")["chat_template"]
    return tokenizer


def vocabulary_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of what a tokenizer makes of texts: its vocabulary, and the tokens of a probe.

    It is the same in another format of the files, or another version of the packages, that makes
    the same tokens. The chat template is none of it.
    """
    backend = tokenizer.backend_tokenizer
    vocabulary = sorted(backend.get_vocab(with_added_tokens=True).items())
    known = [vocabulary, backend.encode(PROBE).tokens, sorted(tokenizer.all_special_tokens)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _refuse_unknown_model(folder: Path) -> None:
    """Refuse a model that only code in its folder could load."""
    config = read_json(folder / "config.json", f"clone {folder} again")
    kind = config["model_type"]
    if kind not in CONFIG_MAPPING:
        why = ", and code in the folder is never run" * ("auto_map" in config)
        raise UserError(
            f"{folder} holds a model of type {kind}, which transformers "
            f"{transformers.__version__} does not know{why}: use another model"
        )


def _refuse_unreadable(folder: Path) -> None:
    """Refuse a vocabulary that is cut short, or needs packages which are not installed."""
    if (folder / "tokenizer.json").is_file():
        content = read_json(folder / "tokenizer.json", f"clone {folder} again")
        if not isinstance(content, dict) or not content.get("model"):
            raise UserError(
                f"{folder / 'tokenizer.json'} holds no vocabulary: clone {folder} again"
            )
        return
    [*found] = folder.glob("*.model")
    if found and not any((folder / name).is_file() for name in ("vocab.txt", "vocab.json")):
        try:
            there = all(map(find_spec, SENTENCEPIECE))
        except ModuleNotFoundError:  # of the package that google.protobuf lies in
            there = False
        if not there:
            raise UserError(
                f"{folder} has no tokenizer.json, and {found[0].name} needs two more packages: run "
                "pip install sentencepiece protobuf"
            )
