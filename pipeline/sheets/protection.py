"""What keeps a spreadsheet from being read or written: a password, a program that has it open."""

import zipfile
import zlib
from pathlib import Path

from pipeline.common.cli import UserError

OLD_FORMAT = bytes.fromhex("d0cf11e0a1b11ae1")  # .xls begins so, and an .xlsx with a password
PACKAGE = "EncryptedPackage".encode("utf-16-le")  # the name of the latter's only content
MANIFEST, ENCRYPTED = "META-INF/manifest.xml", b"encryption-data"  # of an .ods
# What Excel, LibreOffice and WPS Office put beside a file that is open in them.
OPEN_MARKS = ("~${}", ".~lock.{}#", ".~{}")


def refuse_password(path: Path) -> None:
    """Stop where a spreadsheet can be opened only with a password."""
    if _is_encrypted(path):
        raise UserError(
            f"{path} is protected by a password: open it in a spreadsheet program, save a copy "
            "without a password, and give that one"
        )


def _is_encrypted(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(len(OLD_FORMAT)) == OLD_FORMAT:
            return PACKAGE in file.read()
    try:
        with zipfile.ZipFile(path) as archive:
            return ENCRYPTED in archive.read(MANIFEST)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError):
        return False  # another format, or a broken file, which is told when it is read


def refuse_open(path: Path) -> None:
    """Stop where a file is open in a spreadsheet program, as a mark beside it tells."""
    for mark in OPEN_MARKS:
        beside = path.with_name(mark.format(path.name))
        if beside.exists():
            raise UserError(
                f"{path} is open in a spreadsheet program: save and close it there; if it is open "
                f"nowhere, delete {beside}, which a crash has left"
            )
