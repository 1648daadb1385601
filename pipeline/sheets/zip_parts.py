"""A zip file copied part by part, with some parts changed and some added."""

import copy
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from pipeline.common.cli import UserError
from pipeline.sheets.reading import SAVE_AGAIN
from pipeline.sheets.xml_edits import UnusualXml

READ = 2**20  # bytes that are copied at once
LARGEST_SHORT = 2**31 - 2**20  # bytes; a larger part needs longer numbers in the zip file
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ElementTree.ParseError, UnusualXml)


@contextmanager
def checked_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yield a zip file all of whose parts can be read; what is wrong with them is one line."""
    try:
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise zipfile.BadZipFile(broken)
            yield archive
    except (*BROKEN, LookupError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} has parts that no spreadsheet program wrote so ({error}): {SAVE_AGAIN}"
        ) from error


def copy_zip(
    old: zipfile.ZipFile,
    target: Path,
    changed: Mapping[str, Iterable[bytes]],
    added: Mapping[str, Iterable[bytes]],
    growth: int,
) -> None:
    """Write the parts of a zip file in their order; changed ones grow by up to `growth` bytes."""
    with zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            part = copy.copy(info)
            part.extra = b""
            if info.filename in changed:
                part.file_size += growth
                _write_part(new, part, changed[info.filename])
            else:
                with old.open(info) as source, new.open(part, "w") as out:
                    shutil.copyfileobj(source, out, READ)
        for name, pieces in added.items():
            part = zipfile.ZipInfo(name)
            part.compress_type = zipfile.ZIP_DEFLATED
            _write_part(new, part, pieces)


def _write_part(new: zipfile.ZipFile, part: zipfile.ZipInfo, pieces: Iterable[bytes]) -> None:
    with new.open(part, "w", force_zip64=part.file_size > LARGEST_SHORT) as out:
        for piece in pieces:
            out.write(piece)
