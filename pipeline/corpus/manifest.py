"""The record of a coded corpus, and what its codes depend on."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.coding.model import FoundModel
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.common.records import read_record
from pipeline.corpus.corpus_files import Columns

MANIFEST_FILE = "manifest.json"
PIPELINE = Path(__file__).resolve().parent.parent
COMPUTES = ["llm", "bert", "models", "evaluation/calibration.py"]
COMPUTES += ["sheets/personal_data.py", "sheets/reading.py"]
COMPUTES += [f"common/{name}.py" for name in ("files", "machine", "tables")]
COMPUTES += [f"coding/{name}.py" for name in ("model", "server", "server_answers")]
COMPUTES += [f"corpus/{name}.py" for name in ("batch_coder", "corpus_files", "pieces")]
WHAT = {  # what an interrupted run may differ in, as people say it
    "columns": "column of ids or comments, or masking of them",
    "model": "model",
    "loaded": "precision or size of batches",
    "codebook": "codebook",
    "threshold": "threshold",
    "code": "version of this program",
    "versions": "version of a package",
}


@dataclass(frozen=True)
class CorpusFile:
    """A file of a corpus; `rows` are `to_code`, `empty` and `failed` ones."""

    name: str
    sha256: str
    rows: int
    to_code: int
    empty: int
    failed: int


@dataclass(frozen=True)
class Manifest:
    """What a folder of codes holds, in manifest.json, and what it was computed from.

    While a run is at work, and after a kill, `waiting` are the comments that were not coded when it
    began, and the counts below it are empty. At its end `rows` = `coded` + `empty` + `failed`.
    `computed` are the comments of the last run, and `seconds` its time; `shortened` are those that
    were too long, equal ones of a part once.
    """

    fingerprint: str
    depends_on: JsonObject
    input_dir: str
    model: str
    class_names: list[str]
    codebook_sha256: str
    threshold: float | None
    plan: JsonObject
    engine: str
    settings: dict[str, Any]
    waiting: int = 0
    rows: int = 0
    coded: int = 0
    empty: int = 0
    failed: int = 0
    computed: int = 0
    shortened: int = 0
    checked: int = 0
    class_counts: dict[str, int] = field(default_factory=dict)
    files: list[CorpusFile] = field(default_factory=list)
    date: str = ""
    seconds: float = 0.0


def read_manifest(output_dir: Path) -> Manifest | None:
    """Return the record of a folder, None where it has none."""
    path = output_dir / MANIFEST_FILE
    cure = "give another --output-dir"
    return read_record(path, Manifest, cure) if path.is_file() else None


def depends_on(
    found: FoundModel,
    codebook: Codebook,
    columns: Columns,
    threshold: float | None,
    dtype: str,
) -> JsonObject:
    """Return all that the codes of a corpus follow from but for its rows; nothing is loaded."""
    from pipeline.common.machine import versions

    options = found.options
    return {
        "columns": [columns.id, columns.text, columns.mask],
        "model": found.fingerprint,
        "loaded": [dtype, options.batch_size, options.max_tokens_per_pack],
        "codebook": codebook.sha256,
        "threshold": threshold,
        "code": code_sha256(),
        "versions": versions(),
    }


def code_sha256() -> str:
    """Return a hash of the modules that read comments and compute their probabilities."""
    digest = hashlib.sha256()
    for name in COMPUTES:
        found = PIPELINE / name
        for path in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
            source = path.read_text(encoding="utf-8")
            digest.update(f"{path.relative_to(PIPELINE).as_posix()}\n{source}\n".encode())
    return digest.hexdigest()


def refuse_another(output_dir: Path, before: Manifest, now: Manifest) -> None:
    """Raise a UserError that says in what a folder of codes differs from a run."""
    keys = [key for key in WHAT if before.depends_on.get(key) != now.depends_on.get(key)]
    what = " and ".join(f"another {WHAT[key]}" for key in keys) or "other settings"
    raise UserError(
        f"{output_dir} was coded with {what} (fingerprint {before.fingerprint}, now "
        f"{now.fingerprint}): put back what it had to go on, or give another --output-dir"
    )
