"""A lock on a file or folder, which the system frees when its process ends, however it ends."""

from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.common.cli import UserError


def lock(path: str | Path, script: str) -> FileLock:
    """Keep other processes that run `script` from a file or folder until the lock is released.

    Raises UserError where one is at work on it, and OSError where the disk knows no locks.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path.with_name(f".{path.name}.lock"), timeout=0, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout as error:
        raise UserError(f"another {script} is at work on {path}: wait for it") from error
    return held
