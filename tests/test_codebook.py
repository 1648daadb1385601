"""The codebook's classes, and replies read as labels."""

from pathlib import Path

import pytest

from pipeline.common.cli import UserError
from pipeline.common.codebook import answer, read_codebook
from pipeline.common.replies import parse_reply


def test_the_report_s_four_classes_come_from_the_prompt(codebook):
    assert codebook.names == ("Positive", "Mild", "Negative", "Irrelevant")
    assert answer(2) == "[2]"


def test_line_ends_and_a_byte_order_mark_do_not_change_the_hash(codebook):
    text = Path("prompt.txt").read_text(encoding="utf-8")
    Path("windows.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    assert read_codebook("windows.txt").sha256 == codebook.sha256


def test_chinese_class_lines_are_read():
    Path("zh.txt").write_text(
        "请分类\n[0] 支持：赞成\n[1] 反对：不赞成\n只答 [0] 或 [1]", encoding="utf-8"
    )
    assert read_codebook("zh.txt").names == ("支持", "反对")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Just do it.", "defines no classes"),
        ("[0] A: a\n[2] B: b", "numbers its classes [0, 2]"),
        ("[1] A: a\n[2] B: b", "numbers its classes [1, 2]"),
        ("[0] A: a", "defines 1 classes"),
        ("\n".join(f"[{k}] C{k}: x" for k in range(11)), "defines 11 classes"),
        ("[0] A: a\n[1] a: b", "must differ in letters"),
        ("[0] A+: a\n[1] A-: b", "must differ in letters"),
        ("[0] 👍: a\n[1] 👎: b", "must differ in letters"),
        ("[0] A: a\n[1] B: b\n[2] C\n\nAnswer: [k]", "'[2] C' has no colon"),
    ],
)
def test_a_codebook_without_clear_classes_is_refused(text, message):
    Path("bad.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="bad.txt") as error:
        read_codebook("bad.txt")
    assert message in str(error.value)


@pytest.mark.parametrize("reply", ["[1]", " [1]\n"])
def test_exactly_the_asked_answer_is_strict(reply, codebook):
    parsed = parse_reply(reply, codebook)
    assert (parsed.label, parsed.form) == (1, "strict")


DRESSED = (
    "(1)|（1）|1|1.|【1】|［1］|１|①|类别：1|类别是 1|答案：１。|第1类|class 1|Label: 1"
    "|The answer is [1].|[1] because he says (2)|[1]\nA long reason.|**[1]**|`[1]`|'[1]'|{1}"
    "|Mild|mild.|**Mild**|[1] Mild|1. Mild|Mild (1)|[1][1]|[01]|[ 1 ]|类别：1，因为有3个人"
    "|[1] Mild: negative words|[1] Negative words, but mild"
)


@pytest.mark.parametrize("reply", DRESSED.split("|"))
def test_one_unambiguous_class_in_another_form_is_lenient(reply, codebook):
    parsed = parse_reply(reply, codebook)
    assert (parsed.label, parsed.form) == (1, "lenient")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("It seems that this comment has no gender bias", "no_label"),
        ("3 people talk", "no_label"),
        ("[", "no_label"),
        ("[x]", "no_label"),
        ("not [1]", "no_label"),
        ("这条评论不是[1]", "no_label"),
        ("Mild or Negative", "no_label"),
        ("[0], [1], [2], or [3]", "ambiguous"),
        ("[1] or [2]", "ambiguous"),
        ("[1,2]", "ambiguous"),
        ("[1-2]", "ambiguous"),
        ("(1) he says, (2) she says", "ambiguous"),
        ("[1] Negative", "ambiguous"),
        ("[1] Negative: insults a gender.", "ambiguous"),
        ("[1]\nNegative, as it insults.", "ambiguous"),
        ("The answer is [1], Negative.", "ambiguous"),
        ("1.5", "ambiguous"),
        ("答案：1或2", "ambiguous"),
        ("Label 1 or 2", "ambiguous"),
        ("选项1、2", "ambiguous"),
        ("Answer: 1, 2", "ambiguous"),
        ("类别：0/1", "ambiguous"),
        ("类别：1.5", "ambiguous"),
        ("[7]", "out_of_range"),
        ("[4]", "out_of_range"),
        ("7", "out_of_range"),
        ("-1", "out_of_range"),
        ("[-1]", "out_of_range"),
        ("100%", "out_of_range"),
    ],
)
def test_other_replies_have_no_label_and_a_reason(reply, reason, codebook):
    parsed = parse_reply(reply, codebook)
    assert (parsed.label, parsed.form) == (-1, reason)


@pytest.mark.parametrize(
    "reply", ["[" + "1,2," * 50_000, "9" * 50_000, "[" * 50_000, "不是" * 50_000]
)
def test_a_runaway_reply_is_read_at_once_and_has_no_label(reply, codebook):
    assert parse_reply(reply, codebook).label == -1


def test_a_full_width_name_is_known_in_either_width():
    Path("wide.txt").write_text("[0] 类Ａ: a\n[1] 类Ｂ: b", encoding="utf-8")
    codebook = read_codebook("wide.txt")
    assert parse_reply("类Ｂ", codebook).label == parse_reply("类B", codebook).label == 1


def test_an_example_that_opens_a_line_is_no_class():
    Path("example.txt").write_text(
        "[0] A: a\n[1] B: b\n[0] or [1], nothing else.", encoding="utf-8"
    )
    assert read_codebook("example.txt").names == ("A", "B")


def test_classes_whose_names_hold_numbers_are_told_apart():
    Path("types.txt").write_text("[0] Type 1: a\n[1] Type 2: b", encoding="utf-8")
    codebook = read_codebook("types.txt")
    assert parse_reply("Type 1", codebook).label == 0
    assert parse_reply("Type 2", codebook).label == 1
