"""JSON files that hold a dataclass."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.common.cli import UserError
from pipeline.common.records import read_record, to_record, write_record


@dataclass(frozen=True)
class Part:
    name: str
    ends: list[float]
    more: int = 0


@dataclass(frozen=True)
class Whole:
    parts: list[Part]
    best: Part | None
    settings: dict[str, int]


WHOLE = Whole([Part("a", [0.1, 0.2]), Part("b", [], 3)], None, {"seed": 42})


@pytest.mark.parametrize("whole", [WHOLE, Whole([], Part("c", [1.0]), {})])
def test_what_is_written_is_read_as_it_was(whole):
    write_record(whole, "whole.json")
    assert read_record("whole.json", Whole, "") == whole


def test_a_key_of_an_older_file_is_left_out_and_a_new_one_has_its_default():
    assert to_record({"name": "a", "ends": [], "class": 1}, Part) == Part("a", [])


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"parts": None}, "parts"),
        ({"settings": None}, "settings"),
        ({"parts": [{"name": "a"}]}, "ends"),
        ({"best": "a"}, "name"),
    ],
)
def test_a_part_that_is_not_there_is_one_line_with_the_cure(change, missing):
    value = {"parts": [], "best": None, "settings": {}} | change
    value = {key: part for key, part in value.items() if part is not None or key == "best"}
    Path("whole.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_record("whole.json", Whole, "run it again")
    assert str(error.value) == f"whole.json lacks {missing!r}: run it again"
