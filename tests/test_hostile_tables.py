"""CSV files of any text: what is written is read, in parts of any size, or said to be left out."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hostile import TRIES, texts, tries
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common import tables
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.files import clean_text
from pipeline.common.hashes import text_hash
from pipeline.common.rows import message_parts, read_messages
from pipeline.common.stored_rows import store_rows
from pipeline.common.tables import csv_writer, read_csv, read_csv_parts, write_csv

PARTS = st.sampled_from([1, 2, 3, 20_000])
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
BLANK = st.sampled_from(["", "", "", '"",""', ",,", '""'])
COLUMNS = ["custom_id", "message", "note"]
STEP = "excel_2_csv.py"


def in_parts(size, read, *args, **options):
    """Return the parts of a file that is read so many rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "PART", size)
        return list(read(*args, **options))


@st.composite
def csv_files(draw, cells):
    """Draw a file of `COLUMNS` as any program may write it; return its bytes and its rows."""
    rows = draw(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
    places = draw(st.permutations(range(3)))
    out = io.StringIO(newline="")
    for cells_of in [COLUMNS, *rows]:
        end = draw(ENDS)
        out.write("".join(draw(BLANK) + end for _ in range(draw(st.integers(0, 1)))))
        on_a_line = not any(set("\r\n") & set(cell) for cell in cells_of)
        quoting = csv.QUOTE_MINIMAL if on_a_line and draw(st.booleans()) else csv.QUOTE_ALL
        writer = csv.writer(out, quoting=quoting, lineterminator=end)
        writer.writerow([cells_of[place] for place in places])
    text = out.getvalue()
    if draw(st.booleans()):
        text = text.removesuffix("\n").removesuffix("\r")
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(), rows


@given(rows=st.lists(st.tuples(texts(), texts(), texts()), min_size=1, max_size=6), size=PARTS)
def test_what_is_written_as_a_csv_file_is_read_from_it(rows, size):
    frame = pd.DataFrame(rows, columns=COLUMNS)
    write_csv(frame, "whole.csv")
    with csv_writer("parts.csv", COLUMNS) as writer:
        for row in rows:
            writer.write_rows([row])
    assert Path("whole.csv").read_bytes() == Path("parts.csv").read_bytes()
    kept = [row for row in rows if any(row)]
    if not kept:
        with pytest.raises(UserError, match="has no rows"):
            read_csv("whole.csv", COLUMNS, STEP)
        return
    parts = in_parts(size, read_csv_parts, "whole.csv", COLUMNS, STEP)
    assert all(0 < len(part) <= size for part in parts)
    whole = read_csv("whole.csv", COLUMNS, STEP)
    pd.testing.assert_frame_equal(pd.concat(parts), whole, check_dtype=False)
    assert [tuple(row) for row in pd.concat(parts).itertuples(index=False)] == kept


@given(file=csv_files(texts()), size=PARTS, data=st.data())
def test_any_csv_file_is_read_alike_whole_in_parts_and_from_its_places_on_disk(file, size, data):
    content, rows = file
    Path("rows.csv").write_bytes(content)
    codebook = read_codebook("prompt.txt")
    ids = [clean_text(row[0]) for row in rows]
    messages = [clean_text(row[1]) for row in rows]
    nameless = any(message and not one for one, message in zip(ids, messages, strict=True))
    named = [one for one in ids if one]
    if nameless or len(set(named)) < len(named) or not any(messages):
        with pytest.raises(UserError, match=r"rows\.csv") as error:
            read_messages("rows.csv", STEP, codebook)
        with pytest.raises(UserError) as other:
            store_rows("rows.csv", STEP, codebook)
        assert str(error.value) == str(other.value)
        assert len(str(error.value).splitlines()) == 1
        return
    whole = read_messages("rows.csv", STEP, codebook)
    pairs = [(one, message) for one, message in zip(ids, messages, strict=True) if message]
    assert list(zip(whole["custom_id"], whole["message"], strict=True)) == pairs
    assert set(whole["class"]) == {-1}
    parts = in_parts(size, message_parts, "rows.csv", STEP, codebook)
    together = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(together, whole, check_dtype=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "PART", size)
        stored = store_rows("rows.csv", STEP, codebook)
    order = data.draw(st.permutations(range(len(whole))))
    assert stored.messages(order) == whole["message"].iloc[order].tolist()
    assert stored.frame["message_hash"].tolist() == list(map(text_hash, whole["message"]))
    assert stored.frame["message_hash"].dtype == np.uint64
    again = pd.concat(stored.parts(stored.frame))[list(whole)]
    assert again.to_numpy().tolist() == whole.to_numpy().tolist()


def test_a_quote_behind_a_space_is_a_sign_like_others_wherever_it_is_read():
    Path("rows.csv").write_bytes(b'custom_id,message\n "a,x\n b",y\nc,z\n')
    codebook = read_codebook("prompt.txt")
    assert read_messages("rows.csv", STEP, codebook)["message"].tolist() == ["x", "y", "z"]
    stored = store_rows("rows.csv", STEP, codebook)
    assert stored.messages(stored.frame.index) == ["x", "y", "z"]


@given(content=st.one_of(st.binary(max_size=200), texts().map(str.encode)))
def test_any_bytes_are_a_table_or_one_line_that_names_the_file(content):
    for start in (b"", b"message\n", b'custom_id,message,class\na,b,1\n"'):
        Path("rows.csv").write_bytes(start + content)
        try:
            rows = read_messages("rows.csv", STEP, read_codebook("prompt.txt"))
        except UserError as error:
            assert str(error).startswith("rows.csv")
            assert len(str(error).splitlines()) == 1
            continue
        assert rows["custom_id"].is_unique
        assert (rows["message"] != "").all()
        assert rows["class"].between(-1, 3).all()


@tries(0.5)
@given(texts(), st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"]))
def test_a_file_of_another_encoding_is_told_and_not_guessed(text, encoding):
    content = f"custom_id,message\na,一个{text}".encode(encoding)
    Path("rows.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"^rows\.csv ") as error:
        read_messages("rows.csv", STEP, read_codebook("prompt.txt"))
    assert len(str(error.value)) < 500


def test_a_nul_byte_leaves_a_message_and_is_counted(capsys):
    Path("rows.csv").write_bytes(b'custom_id,message\na,"x\x00y"\n\x00b\x00,z\x00\n')
    rows = read_messages("rows.csv", STEP, read_codebook("prompt.txt"))
    assert rows[["custom_id", "message"]].values.tolist() == [["a", "xy"], ["b", "z"]]
    assert "cleaned 2 messages" in capsys.readouterr().out


@pytest.mark.parametrize("start", ["", "message\n", "custom_id,message\na,"])
def test_a_line_of_many_megabytes_is_read_or_refused_in_a_short_line(start):
    size = 100_000_000 if TRIES else 5_000_000
    with Path("rows.csv").open("w", encoding="utf-8") as out:
        out.write(start)
        out.write("x" * size)
    codebook = read_codebook("prompt.txt")
    if start:
        assert read_messages("rows.csv", STEP, codebook)["message"].map(len).tolist() == [size]
        return
    with pytest.raises(UserError, match=r"^rows\.csv ") as error:
        read_messages("rows.csv", STEP, codebook)
    assert len(str(error.value)) < 1100
