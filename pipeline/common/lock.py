"""A lock on a file or folder, which the system frees when its process ends, however it ends."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.common.cli import UserError, running
from pipeline.common.processes import is_main_process

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a disk says that knows none
FOR_ALL = 0o666  # a lock's file that a killed process left is no obstacle to another account


def lock(path: str | Path, script: str, ending: str = "lock") -> FileLock:
    """Keep other processes that run `script` from a file or folder until the lock is released.

    The system's lock is on a file beside it with this `ending`. Raises UserError where another one
    is at work on it, and OSError where the disk knows no locks.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.{ending}")
    held = FileLock(file, timeout=0, mode=FOR_ALL, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout as error:
        raise UserError(f"another {script} is at work on {path}: wait for it") from error
    return held


def claim(path: str | Path) -> None:
    """Keep other processes that run the same script from a file until the script ends.

    Only what `run` runs claims anything, and of several processes the main one. On a disk that
    knows no locks nobody has a claim.
    """
    script = running()
    if not script or not is_main_process() or Path(path) in script.claimed:
        return
    script.claimed.add(Path(path))
    try:
        script.until_end.callback(remove_lock, lock(path, script.name, "claim"))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def remove_lock(held: FileLock) -> None:
    """Release a lock and remove its file.

    The file goes while it is locked: whoever opened it meanwhile finds that it is gone. On Windows,
    which removes no open file, it goes after that, unless another process has it by then.
    """
    file = Path(held.lock_file)
    with suppress(OSError):
        if os.name == "posix":
            file.unlink()
    held.release()
    with suppress(OSError):
        if os.name != "posix":
            file.unlink()
