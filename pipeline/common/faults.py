"""Faults of the machine at a write, told in one line: a full disk, a read-only one, one gone."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.cli import UserError

NOT_ALLOWED = (
    "close it in other programs, such as Excel, and check that this account may write there"
)
A_FILE = "a part of its path is a file: give a path whose folders are folders"
GONE = "its folder was removed, or its disk went away: put it back, and run the same command again"
CURES = {
    errno.EFBIG: "it is larger than its disk (4 GB where that is FAT32) or this account (ulimit "
    "-f) allows: give a path on another disk",
    errno.EROFS: "its disk is read-only: give a path on another disk, or have it made writable",
    errno.EACCES: NOT_ALLOWED,
    errno.EPERM: NOT_ALLOWED,
    errno.ENOTDIR: A_FILE,
    errno.EEXIST: A_FILE,
    errno.ENAMETOOLONG: "its name is too long for its disk: give a shorter one",
    errno.ENOENT: GONE,
    errno.ESTALE: GONE,
    errno.EIO: "its disk fails or went away: give a path on another disk",
}
OTHERWISE = "check its folder, its permissions and the free space"
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: str | Path, scratch: str | Path | None = None) -> Iterator[None]:
    """Turn a fault of the machine, while a file or folder is written, into one line with the cure.

    `scratch` is what is written in its place, as far as it came.
    """
    try:
        yield
    except OSError as error:
        number, reason = error.errno or 0, error.strerror or str(error)
        raise UserError(fault_text(path, number, reason, scratch)) from error


def fault_text(
    path: str | Path, number: int, reason: str, scratch: str | Path | None = None
) -> str:
    """Return what is wrong and the cure, by the system's error number and its reason."""
    cure = (
        _more_space(Path(path), Path(scratch or path))
        if number in FULL
        else CURES.get(number, OTHERWISE)
    )
    return f"cannot write {path} ({reason}): {cure}"


def _more_space(path: Path, scratch: Path) -> str:
    """Return how much space there is for a file that a disk had no place for, and the cure."""
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(there).free + (scratch.stat().st_size if scratch.is_file() else 0)
    return (
        f"the disk of {there} has {free / 1e6:,.1f} MB free, and it needs more: delete files there "
        "or have the quota raised, and run the same command again"
    )
