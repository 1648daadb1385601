"""Model folders that are there as a whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.cli import UserError


@contextmanager
def model_folder(folder: str | Path, kind: str) -> Iterator[Path]:
    """Yield a folder to write beside `folder`, which takes its place when all went well."""
    folder = Path(folder)
    scratch = folder.with_name(f".{os.getpid()}-{folder.name}")
    try:
        scratch.mkdir(parents=True)
        readme = f"# {folder.name}\n\nA tiny {kind} for trials of the pipeline, of no other use.\n"
        (scratch / "README.md").write_text(readme, encoding="utf-8")
        yield scratch
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
