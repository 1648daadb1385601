"""The weight files of a model folder: which ones are read, whether they are whole, their hash."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipeline.common.cli import UserError
from pipeline.common.files import read_json

WHOLE, INDEX, PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
POINTER = b"version https://git-lfs"
READ_WHOLE = 1 << 26
CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "w = torch.load({source!r}, weights_only=True); "
    "save_file({{k: w[k].clone() for k in w}}, {target!r}, {{'format': 'pt'}})\""
)


def weight_files(folder: Path) -> list[Path]:
    """Return the .safetensors files that transformers reads of a folder, or [].

    `model.safetensors` is read rather than the shards that an index names, and nothing else is
    (transformers 5.23, `modeling_utils._get_resolved_checkpoint_files`).
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        return []
    refuse_pointer(folder / INDEX)
    index = read_json(folder / INDEX, f"clone {folder} again")
    if not isinstance(index, dict) or not index.get("weight_map"):
        raise UserError(f"{folder / INDEX} names no weights: clone {folder} again")
    return [folder / name for name in sorted({*index["weight_map"].values()})]


def check_weights(folder: Path) -> None:
    """Refuse a model's weights that are absent, pickled, git-lfs pointers or cut short."""
    weights = weight_files(folder)
    if not weights:
        cure = f": clone a revision of the model that has {WHOLE}, or shards with {INDEX}"
        if (folder / PICKLED).is_file():
            refuse_pointer(folder / PICKLED, "weights")
            source, target = ((folder / name).as_posix() for name in (PICKLED, WHOLE))
            cure = f", only {PICKLED}: run {CONVERT.format(source=source, target=target)}"
        raise UserError(f"{folder} has no .safetensors weights{cure}")
    if weights == [folder / WHOLE] and (folder / INDEX).is_file() and is_pointer(folder / WHOLE):
        raise UserError(
            f"{weights[0]} is a git-lfs pointer, and would be read rather than the shards of "
            f"{INDEX}: delete it"
        )
    for file in weights:
        check_safetensors(file)


def check_safetensors(file: Path) -> None:
    """Refuse a file of weights that is absent, a git-lfs pointer or cut short."""
    if not file.is_file():
        raise UserError(f"{file} not found: {_fetch(file.parent)}")
    refuse_pointer(file, "weights")
    try:
        with safe_open(file, framework="numpy"):
            pass
    except SafetensorError as error:
        first = "delete it, " * (file.parent / ".git").exists()  # a pull leaves what is there
        raise UserError(
            f"{file} is cut short or broken ({error}): {first}{_fetch(file.parent)}"
        ) from error


def check_all_read(
    path: str, loaded: dict, fresh: Callable[[str], bool] = lambda name: False
) -> None:
    """Refuse a model with random weights, for want of files' ones, but for those that are `fresh`.

    `loaded` is what `from_pretrained` says with `output_loading_info`.
    """
    others = {name for name, *_ in loaded["mismatched_keys"]}
    if lacking := sorted(name for name in {*loaded["missing_keys"], *others} if not fresh(name)):
        raise UserError(
            f"{path} lacks {len(lacking):,} of the model's weights, such as {lacking[0]}, or has "
            "them in another size: they would be random numbers; clone it again, or use another "
            "model"
        )


def is_pointer(file: Path) -> bool:
    """Return whether a file is what `git clone` leaves of a large one where git-lfs did not run."""
    return file.stat().st_size < 1024 and file.read_bytes().startswith(POINTER)


def refuse_pointer(file: Path, what: str = "the file itself") -> None:
    """Refuse a git-lfs pointer; `what` is wanted."""
    if is_pointer(file):
        raise UserError(f"{file} is a git-lfs pointer, not {what}: {_fetch(file.parent)}")


def _fetch(folder: Path) -> str:
    """Return how the missing files of a folder are fetched."""
    again = f'git -C "{folder}" lfs pull' if (folder / ".git").exists() else f"clone {folder} again"
    return f"run git lfs install, then {again}"


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
    for file in weight_files(folder):
        size = file.stat().st_size
        with file.open("rb") as data:
            header = data.read(min(size, 1 << 16))
            data.seek(size // 2)
            digest.update(str(size).encode() + header + data.read(1 << 20))
    return digest.hexdigest()


def content_sha256(path: str) -> str:
    """Return a hash of all that a model or an adapter computes with, wherever its folder lies.

    It covers the configuration and the weights; of a file beyond `READ_WHOLE` bytes the first
    64 KiB of each MiB, which no training leaves as they were. No folder, "", has "".
    """
    if not path:
        return ""
    folder, digest = Path(path), hashlib.sha256()
    adapter = [folder / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    for file in [folder / "config.json", *weight_files(folder), *adapter]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as data:
            if size <= READ_WHOLE:
                digest.update(hashlib.file_digest(data, "sha256").digest())
            else:
                for start in range(0, size, 1 << 20):
                    data.seek(start)
                    digest.update(data.read(1 << 16))
    return digest.hexdigest()
