"""Rows whose messages stay on disk: the same as those that are read whole."""

import random
from pathlib import Path

import pytest

from pipeline.common import stored_rows, tables
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.hashes import text_hash
from pipeline.common.rows import message_parts, read_messages
from pipeline.common.stored_rows import MESSAGE_HASH, store_rows
from pipeline.common.tables import csv_writer, read_csv, read_csv_parts

PARTS = [1, 2, 3, 7, 1000]
MESSAGES = [
    "好",
    'he said "no"',
    "a\nb",
    "x\r\ny\rz",
    ",",
    "",
    "  两 边 ",
    "😀\u200d👩",
    '""',
    "a" * 5000,
]


@pytest.fixture
def codebook():
    return read_codebook("prompt.txt")


def cell(text):
    return '"' + text.replace('"', '""') + '"'


def messy_file(end, mark=True):
    """Write rows that a spreadsheet may hold: line breaks in cells, blank rows, any line end."""
    lines = ["", "custom_id,message,class,coded_by", ",,,"]
    for number, message in enumerate(MESSAGES * 3):
        lines += [f"id-{number},{cell(message)},{number % 4},{'human' * (number % 2)}"]
        lines += ["", ",,,"] if number % 5 == 0 else []
    text = end.join(lines) + end * (number % 2)
    Path("rows.csv").write_bytes(("\ufeff" * mark + text).encode())
    return "rows.csv"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("part", PARTS)
def test_rows_in_parts_are_those_of_the_whole_file(end, part, codebook, monkeypatch, capsys):
    path = messy_file(end, mark=part % 2 == 0)
    whole, cells = read_messages(path, "x.py", codebook), read_csv(path, ["message"], "x.py")
    said = capsys.readouterr().out
    monkeypatch.setattr(tables, "PART", part)
    monkeypatch.setattr(stored_rows, "PART", part)
    assert read_csv(path, ["message"], "x.py").equals(cells)
    assert max(len(frame) for frame in read_csv_parts(path, [], "x.py")) <= part
    capsys.readouterr()
    assert read_messages(path, "x.py", codebook).equals(whole)
    assert capsys.readouterr().out in said
    stored = store_rows(path, "x.py", codebook)
    assert stored.frame[MESSAGE_HASH].tolist() == list(map(text_hash, whole["message"]))
    kept = stored.frame.drop(columns=MESSAGE_HASH)
    assert kept.equals(whole.drop(columns="message"))
    places = random.Random(1).sample(range(len(whole)), len(whole))
    assert stored.messages(places) == whole["message"].iloc[places].tolist()
    back = [
        message for rows in stored.parts(stored.frame.iloc[places]) for message in rows["message"]
    ]
    assert back == whole["message"].iloc[places].tolist()


@pytest.mark.parametrize("part", PARTS)
def test_an_id_that_stands_in_two_parts_is_refused_with_its_row(part, codebook, monkeypatch):
    rows = "".join(f"id-{n % 8},m {n},1\n" for n in range(10))
    Path("rows.csv").write_text("custom_id,message,class\n" + rows, encoding="utf-8")
    monkeypatch.setattr(tables, "PART", part)
    with pytest.raises(UserError, match="rows.csv, row 10: custom_id 'id-0' stands there twice"):
        for _ in message_parts("rows.csv", "x.py", codebook):
            pass


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7,a,b,1", "rows.csv, row 9: 4 cells under 3 column names"),
        ("7,a", "rows.csv, row 9: 2 cells under 3 column names"),
        ('7,"a,1', "rows.csv, row 9: unexpected end of data"),
        ("7,a,9", "rows.csv, row 9: class '9'"),
    ],
)
def test_a_broken_row_is_named_whatever_part_it_is_in(row, message, part, codebook, monkeypatch):
    rows = "".join(f"{n},m {n},1\n" for n in range(7))
    Path("rows.csv").write_text(
        "custom_id,message,class\n" + rows + row + "\n8,x,1\n", encoding="utf-8"
    )
    monkeypatch.setattr(tables, "PART", part)
    with pytest.raises(UserError) as error:
        read_messages("rows.csv", "x.py", codebook)
    assert str(error.value).startswith(message)


def test_the_first_fault_of_a_file_is_the_one_that_is_named(codebook):
    Path("rows.csv").write_text('custom_id,message,class\n1,a\n2,"b,1\n', encoding="utf-8")
    with pytest.raises(UserError, match="row 2: 2 cells"):
        read_messages("rows.csv", "x.py", codebook)


def test_what_is_written_in_parts_is_what_is_written_at_once():
    rows = [(f"{n}", message, "") for n, message in enumerate(MESSAGES)]
    with csv_writer("parts.csv", ["a", 'b"', "c,"]) as writer:
        writer.write_rows([])
        writer.write_rows(rows[:3])
        writer.write_rows(rows[3:])
    cells = [",".join(map(cell, row)) for row in [("a", 'b"', "c,"), *rows]]
    assert Path("parts.csv").read_bytes() == ("\ufeff" + "\n".join(cells) + "\n").encode()


def test_a_file_that_fails_half_way_leaves_the_old_one():
    Path("out.csv").write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), csv_writer("out.csv", ["a"]) as writer:
        writer.write_rows([["x"]])
        raise RuntimeError
    assert (
        Path("out.csv").read_text(encoding="utf-8") == "old"
        and len(list(Path.cwd().glob(".*out.csv"))) == 0
    )
