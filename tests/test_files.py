"""Files between the steps: nothing is lost on the way in, nothing half-written on the way out."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.common.cli import UserError
from pipeline.common.files import check_outputs, clean_text, replacing, write_text
from pipeline.common.rows import read_messages
from pipeline.common.tables import read_csv, write_csv

AWKWARD = [
    "NA",
    "null",
    "001",
    "1e5",
    "True",
    '他说"好",她走了',
    "=1+1",
    "😀👩‍💻",
    " nan ",
    "a,b",
    "#N/A",
]


def test_awkward_texts_come_back_as_they_were_written():
    rows = pd.DataFrame({"custom_id": [f"row-{n}" for n in range(11)], "message": AWKWARD})
    write_csv(rows, "out.csv")
    assert read_csv("out.csv", ["message"], "x.py")["message"].tolist() == AWKWARD


def test_a_file_is_utf_8_with_a_mark_for_excel_every_field_quoted_and_a_row_a_line():
    write_csv(pd.DataFrame({"custom_id": ["row-2"], "message": ["评论"], "class": [-1]}), "out.csv")
    expected = '\ufeff"custom_id","message","class"\n"row-2","评论","-1"\n'
    assert Path("out.csv").read_bytes() == expected.encode()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\x85", "\u2028", "\u2029", "\n\n"])
def test_line_breaks_become_a_space(end):
    assert clean_text(f"一{end}二") == "一 二"


def test_control_characters_and_lone_surrogates_go_and_the_rest_stays():
    assert clean_text("\ufeff一\x00二\x08\ud83d三\x7f") == "一二三"
    assert clean_text("a\tb 👨‍👩‍👧 ｆｕｌｌ　width") == "a\tb 👨‍👩‍👧 ｆｕｌｌ　width"


UNSEEN = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\ufe0f\ufe00\u200e\u200f\u202a\u202e\u2066\u2069"
)
UNSEEN += "\u3164\u115f\uffa0\u2800\u034f\u061c\U000e0020\U000e0101"


@pytest.mark.parametrize("text", [*UNSEEN, UNSEEN, "\u200b \u3000\u200b\xa0"], ids=ascii)
def test_a_text_of_nothing_that_can_be_seen_is_empty(text):
    assert clean_text(text) == ""


@pytest.mark.parametrize(
    "text", ["👩‍💻", "❤️", "می‌خواهم", "a\u200b", "\u200fא", "क्‍ष", "1️⃣", "🏴\U000e0067"]
)
def test_what_joins_the_parts_of_an_emoji_or_a_word_stays(text):
    assert clean_text(f" {text} ") == text


def test_a_write_that_fails_leaves_the_old_file_and_no_scratch():
    write_text("old", "out.txt")

    def write_half():
        with replacing("out.txt") as scratch:
            scratch.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert Path("out.txt").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["out.txt", "prompt.txt"]


def test_an_output_that_is_an_input_or_cannot_be_written_is_refused_and_nothing_changes():
    write_text("old", "in.csv")
    check_outputs(["in.csv", "new/out.csv"])
    assert Path("in.csv").read_text(encoding="utf-8") == "old" and not Path("new/out.csv").exists()
    for outputs, message in (
        (["out.csv", "./in.csv"], "in.csv would be overwritten by its own output"),
        (["out.csv", "new"], "new is a folder"),
        (["out.csv", "in.csv/out.csv"], "cannot write in.csv/out.csv"),
    ):
        with pytest.raises(UserError, match=message):
            check_outputs(outputs, inputs=["in.csv"])


def test_an_output_that_excel_holds_on_windows_is_told_before_anything_is_written(monkeypatch):
    write_text("old", "out.csv")

    def held(path, mode="r", **options):
        raise PermissionError(13, "Permission denied")

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="out.csv .Permission denied.: close it in other programs"),
    ):
        patch.setattr(Path, "open", held)
        check_outputs(["new.csv", "out.csv"])
    assert sorted(path.name for path in Path().iterdir()) == ["out.csv", "prompt.txt"]


def test_a_file_saved_by_excel_with_a_byte_order_mark_is_read(codebook):
    Path("bom.csv").write_bytes("\ufeffmessage,class\r\n评论,1\r\n".encode())
    rows = read_messages("bom.csv", "x.py", codebook)
    assert rows.values.tolist() == [["row-2", "评论", 1]]


def test_a_message_of_zero_width_spaces_is_empty_and_counted(codebook, capsys):
    Path("new.csv").write_text("message\n一\n\u200b\u2060\n二\n", encoding="utf-8")
    assert read_messages("new.csv", "x.py", codebook)["message"].tolist() == ["一", "二"]
    assert "left out 1 empty messages (rows 3)" in capsys.readouterr().out


def test_rows_without_ids_are_numbered_as_in_a_spreadsheet_blank_ones_and_all(codebook, capsys):
    Path("new.csv").write_text(
        'message,class\n一,\n\n"三\n行",2.0\n," "\n五,Mild\n', encoding="utf-8"
    )
    rows = read_messages("new.csv", "x.py", codebook)
    expected = [["row-2", "一", -1], ["row-4", "三 行", 2], ["row-6", "五", 1]]
    assert rows.values.tolist() == expected
    out = capsys.readouterr().out
    assert "4 rows, and 1 blank ones" in out
    assert "cleaned 1 messages" in out and "left out 1 empty messages (rows 5)" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rows.csv is empty: run x.py first"),
        (b"message\n", "rows.csv has no rows: run x.py first"),
        (b"message,message\na,b\n", "rows.csv has two columns 'message': remove one"),
        (b"message,class,class\na,1,1\n", "rows.csv has two columns 'class': remove one"),
        (b"custom_id,custom_id,message\n1,1,a\n", "rows.csv has two columns 'custom_id'"),
        (b"text\na\n", "rows.csv has no column 'message' (it has 'text')"),
        (b"message,class\na,7\n", "rows.csv, row 2: class '7'"),
        (b"message,class\na,1\n\nb,one\n", "rows.csv, row 4: class 'one'"),
        (b"custom_id,message\n1,a\n1,b\n", "rows.csv, row 3: custom_id '1' stands there twice"),
        (b"custom_id,message\n1,a\n ,b\n", "rows.csv, row 3 has no custom_id: give each row its"),
        (b"message,class\na,1\nb,1,c\n", "rows.csv, row 3: 3 cells under 2 column names"),
        (b"message,class\na,b,1\nc,d,1\n", "rows.csv, row 2: 3 cells under 2 column names"),
        (b"message,class\na\n", "rows.csv, row 2: 1 cells under 2 column names"),
        (b'message,class\na,1\n"b,1\n', "rows.csv, row 3: unexpected end of data"),
        (b'message,class\n" ",1\n', "rows.csv holds no message"),
        ("message\n评论\n".encode("gb18030"), "rows.csv is not UTF-8 (byte 8)"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name_and_row(content, message, codebook):
    Path("rows.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_messages("rows.csv", "x.py", codebook)
    assert str(error.value).startswith(message)


def test_a_row_without_a_label_is_refused_where_labels_are_needed(write_rows, codebook):
    path = write_rows("rows.csv", [("row-2", "a", 1), ("row-3", "b", -1)])
    with pytest.raises(UserError, match="row 3: class '-1': it has no label"):
        read_messages(path, "x.py", codebook, labelled=True)
