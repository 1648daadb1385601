"""Examples in the codebook: read by teacher, model and coders, and never a test."""

import json
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

import batch_infer_gen
import bert_eval
import bert_inference_compare
import bert_tune_eval
import human_sample
import local_inference
import posttune_eval
import split_dataset
from pipeline.common.cli import UserError
from pipeline.common.codebook import parse_codebook, read_codebook
from pipeline.common.rows import are_examples, read_messages

TWO = "[0] For: supports it\n{}\n[1] Against: rejects it\n{}\nAnswer with the number, such as [0]."


def examples(first, second=""):
    codebook = parse_codebook("p", TWO.format(first, second))
    assert codebook.names == ("For", "Against")
    return list(codebook.examples)


@pytest.mark.parametrize(
    "line",
    [
        "例：女人顶半边天",
        "例子：女人顶半边天",
        "例如：女人顶半边天",
        "示例: 女人顶半边天",
        "例1：“女人顶半边天”",
        "Example: 女人顶半边天",
        "  - Example 2: '女人顶半边天'.",
        "**Example:** 女人顶半边天",
        "EXAMPLES: 「女人顶半边天」",
        "For example: 女人顶半边天",
        "e.g. 女人顶半边天",
        "(e.g., 女人顶半边天",
        'Example: "女人顶半边天" -> [0]',
        "例：女人顶半边天（[0]）",
        "Example: [0] 女人顶半边天",
        "Examples:\n- 女人顶半边天",
        "Examples:\n  1. 女人顶半边天",
    ],
)
def test_a_line_under_a_class_gives_it_an_example(line):
    assert examples(line) == [(0, "女人顶半边天")]
    assert examples("", line)[0][1] == "女人顶半边天"


def test_a_list_of_examples_ends_at_the_next_class_or_a_blank_line():
    assert examples("Examples:\n- a b\n- “c”", "例子：\nd\n\nno example") == [
        (0, "a b"),
        (0, "c"),
        (1, "d"),
    ]


def test_several_examples_in_quotes_may_share_a_line():
    assert examples('Examples: "a, b", "c" or "d".', '例：他说"好"、"行"') == [
        (0, "a, b"),
        (0, "c"),
        (0, "d"),
        (1, '他说"好"、"行"'),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example: [0] they can: yes", [(0, "they can: yes")]),
        ("Example: [1] x: y", [(1, "x: y")]),
        ("Example: he wrote [1] x: y", [(1, "he wrote [1] x: y")]),
        (
            "Examples:\n[0] they can: yes\n[1] they cannot\n",
            [(0, "they can: yes"), (1, "they cannot")],
        ),
        ("Example: [0]", []),
        ("e.g. [0] or [1]", []),
        ("例如：[0]、[1]", []),
        ("Example: “x” → [7]", [(-1, "x")]),
    ],
)
def test_an_example_of_an_answer_becomes_no_class(text, expected):
    assert examples("", text) == expected


def test_a_comment_that_speaks_of_examples_elsewhere_is_none():
    assert examples("An example is given below", "Good examples for all: none. E.g.") == []


@pytest.mark.parametrize("comment", ["-" * 50_000, "[1] " * 20_000, "'" * 50_000, "(" * 50_000])
def test_a_long_comment_is_compared_at_once(comment):
    codebook = parse_codebook("p", TWO.format("Example: a", f"Example: {comment}"))
    rows = pd.DataFrame({"message": [comment, "a", "b"]})
    assert are_examples(rows, codebook).tolist()[1:] == [True, False]


def write_codebook(*comments):
    text = Path("prompt.txt").read_text(encoding="utf-8")
    lines = "".join(f"例：{comment}\n" for comment in comments)
    Path("prompt.txt").write_text(text.replace("[1] Mild", f"{lines}[1] Mild"), encoding="utf-8")


def test_teacher_and_coders_read_the_examples(write_rows, tmp_path):
    write_codebook("“女人顶半边天”")
    rows = [(f"row-{n}", f"评论 {n}", n % 4) for n in range(2, 402)]
    batch_infer_gen.main(["--input-file", write_rows("rows.csv", rows)])
    request = Path("pre_process/datas/inf_batch_v2.jsonl").read_text(encoding="utf-8")
    assert (
        "\n例：“女人顶半边天”\n"
        in json.loads(request.splitlines()[0])["body"]["messages"][0]["content"]
    )
    human_sample.main(["--labeled-file", "rows.csv", "--test-file", "", "--sample-size", "200"])
    book = openpyxl.load_workbook("pre_process/human_check/coder1.xlsx")
    assert "例：“女人顶半边天”" in [cell.value for cell in book["codebook"]["A"]]


EVALUATIONS = (
    local_inference,
    posttune_eval,
    bert_eval,
    bert_tune_eval,
    bert_inference_compare,
)


@pytest.mark.parametrize("script", EVALUATIONS)
def test_a_test_row_that_is_an_example_is_refused_by_every_evaluation(script, write_rows):
    write_codebook("“女人 顶半边天”")
    rows = [("row-2", "评论", 0), ("row-3", "女人顶「半边天」", 0)]
    with pytest.raises(UserError) as error:
        script.main(["--test-file", write_rows("test.csv", rows)])
    assert str(error.value) == (
        "test.csv, row-3: '女人顶「半边天」' is an example in ./prompt.txt, where its class is "
        "told: run split_dataset.py again, which puts it into train, or remove the row"
    )


def test_a_row_without_a_class_is_predicted_also_where_it_is_an_example(write_rows):
    write_codebook("女人顶半边天")
    with pytest.raises(UserError, match="Qwen2.5-3B not found"):
        local_inference.main(
            ["--test-file", write_rows("new.csv", [("row-2", "女人顶半边天", -1)])]
        )


@pytest.mark.torch
@pytest.mark.parametrize("group", ["--group-duplicates", "--no-group-duplicates"])
def test_a_split_puts_examples_into_train_alone_and_says_how_many(write_rows, group, capsys):
    rows = [(f"row-{n}", f"评论 {n % 390}", n % 390 % 4) for n in range(400)]
    path = write_rows("rows.csv", rows)
    split_dataset.main(["--input-file", path, "--output-dir", "plain", group])
    assert "are examples in" not in capsys.readouterr().out
    codebook = read_codebook("prompt.txt")
    test = read_messages("plain/test.csv", "x", codebook)["message"].tolist()
    write_codebook(*(f"“{message}”" for message in test[:5]))
    split_dataset.main(["--input-file", path, "--output-dir", "out", group])
    told = sum(message in test[:5] for _, message, _ in rows)
    assert (
        f"{told} rows are examples in ./prompt.txt: they go into train" in capsys.readouterr().out
    )
    parts = {name: read_messages(f"out/{name}.csv", "x", codebook) for name in ("train", "test")}
    assert set(test[:5]) <= set(parts["train"]["message"])
    assert not set(test[:5]) & set(parts["test"]["message"])
    assert (
        sum(len(read_messages(f"out/{n}.csv", "x", codebook)) for n in split_dataset.SPLITS) == 400
    )
    with pytest.raises(UserError, match="not found"):
        bert_eval.main(["--test-file", "out/test.csv"])


def test_a_sample_and_a_pilot_hold_no_example(write_rows):
    rows = [(f"row-{n}", f"评论 {n}", n % 4) for n in range(400)]
    path = write_rows("pre_process/purged_labeled_v2.csv", rows)
    split_dataset.main([])
    told = [f"评论 {n}" for n in range(0, 400, 10)]
    write_codebook(*told)
    options = ["--sample-size", "60", "--min-per-class", "5", "--labeled-file", path]
    for pilot in ("--pilot", "--no-pilot"):
        human_sample.main([*options, pilot])
    for folder in ("pilot/", ""):
        sample = pd.read_csv(f"pre_process/human_check/{folder}sample.csv")
        assert len(sample) == 60 and not set(sample["message"]) & set(told)
