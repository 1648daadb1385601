"""What is being written lies beside its place under another name, until it is complete.

A process that is killed leaves it there. The next one that writes to the same place removes it,
unless its writer lives: a writer holds a lock on a file beside it, which the system frees when the
process ends, on this machine or on another that shares the disk.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.common.lock import FOR_ALL, NO_LOCKS, remove_lock

MARK, GUARD = ".unfinished-", ".lock"
SECONDS_TO_LOCK = 10  # one's own new guard, which another process may look at


@contextmanager
def scratch_beside(path: str | Path) -> Iterator[Path]:
    """Yield a name beside `path`, for a file or a folder to be written and renamed to `path`.

    What earlier processes left unfinished of `path` goes first, and at the end what still has this
    name. The folder of `path` is made. Where the disk knows no locks nothing of others is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path)
    scratch = path.with_name(f"{MARK}{secrets.token_hex(4)}-{path.name}")
    guard = _lock_on(guard_of(scratch), SECONDS_TO_LOCK)
    try:
        yield scratch
    finally:
        _remove(scratch)
        if guard:
            remove_lock(guard)


def remove_unfinished(path: str | Path) -> None:
    """Remove what processes that are dead left of a file or folder that they were writing."""
    path = Path(path)
    for guard in path.parent.glob(f"{MARK}????????-{escape(path.name)}{GUARD}"):
        with suppress(Timeout, OSError):  # its writer lives, or another account owns it
            if lock := _lock_on(guard, seconds=0):
                _remove(guard.with_name(guard.name.removesuffix(GUARD)))
                remove_lock(lock)


def guard_of(scratch: Path) -> Path:
    """Return the file whose lock says that the writer of a scratch file or folder lives."""
    return scratch.with_name(scratch.name + GUARD)


def _lock_on(guard: Path, seconds: float) -> FileLock | None:
    """Return the lock on a file, which is made; None where the disk knows no locks."""
    lock = FileLock(guard, timeout=seconds, mode=FOR_ALL, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        guard.unlink(missing_ok=True)
        return None
    return lock


def _remove(scratch: Path) -> None:
    """Remove a scratch file or folder, if it is there and can be removed."""
    if scratch.is_dir() and not scratch.is_symlink():
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        with suppress(OSError):
            scratch.unlink()
