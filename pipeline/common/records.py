"""JSON files that hold a dataclass: written by one step and read by others."""

from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pipeline.common.cli import UserError
from pipeline.common.files import read_json, write_json

Record = TypeVar("Record")


def write_record(record: Any, path: str | Path) -> None:
    """Write a dataclass as a JSON file."""
    write_json(asdict(record), path)


def read_record(path: str | Path, kind: type[Record], cure: str) -> Record:
    """Read a JSON file as a dataclass; raises UserError with `cure` where a part is missing."""
    try:
        return to_record(read_json(path, cure), kind)
    except KeyError as error:
        raise UserError(f"{path} lacks {error.args[0]!r}: {cure}") from error


def to_record(value: Any, kind: type[Record]) -> Record:
    """Return a value of JSON as `kind`: a dataclass, a list of them, one or None, or as it stands.

    Keys that a dataclass does not have are left out. Raises KeyError with the name of a field that
    is not there and has no default.
    """
    kinds = get_args(kind)
    if get_origin(kind) is list:
        return [to_record(part, kinds[0]) for part in value]
    if NoneType in kinds:
        return None if value is None else to_record(value, kinds[0])
    if not is_dataclass(kind):
        return value
    hints = get_type_hints(kind)
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    if missing := [name for name in needed if not isinstance(value, dict) or name not in value]:
        raise KeyError(missing[0])
    return kind(
        **{name: to_record(value[name], hint) for name, hint in hints.items() if name in value}
    )
