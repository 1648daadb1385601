"""Answers read as labels: thoughts before them, confidence, votes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import answer_line

from pipeline.common.codebook import read_codebook
from pipeline.common.replies import parse_cut_reply, parse_reply
from pipeline.common.stored_rows import store_rows
from pipeline.labelling.answers import match_answers
from pipeline.labelling.id_columns import ids_of_rows
from pipeline.labelling.ids import request_ids
from pipeline.labelling.labels import decide_labels, majority, self_agreement
from pipeline.labelling.logprobs import class_probabilities
from pipeline.labelling.outcomes import AnswerFiles, outcome_of


@pytest.mark.parametrize(
    ("reply", "label", "form"),
    [
        ("<think>[0]? No: it mocks women.</think>\n\n[2]", 2, "strict"),
        ("It could be [0] or [1].</think>[3]", 3, "strict"),
        ("<thinking>[0]</thinking>Class: 1", 1, "lenient"),
        ("[THINK]maybe [1][/THINK][2]", 2, "strict"),
        ("<|channel|>analysis<|message|>[0]<|end|><|channel|>final<|message|>[1]", 1, "strict"),
        ("<think></think>[1]", 1, "strict"),
        ("<think>The comment praises [0]", -1, "empty"),
        ("<think>[0]</think>", -1, "empty"),
    ],
)
def test_a_model_that_thinks_aloud_is_read_after_its_thoughts(codebook, reply, label, form):
    parsed = parse_reply(reply, codebook)
    assert (parsed.label, parsed.form) == (label, form)


@pytest.mark.parametrize("reply", ["<think>The class is [0], as", "The class is [0], as", "", None])
def test_thoughts_that_were_cut_are_cut_and_no_label(codebook, reply):
    record = json.loads(answer_line("row-2", reply, "length"))
    assert outcome_of(record, codebook).form == "length"


CUT_AND_A_LABEL = (
    "[2]|[2] because she|[2]\nThe comment|【2】因为这条评论|［２］|〔2〕 the|**[2]** The|`[2]`"
    "|[ 2 ]|[2].|[2]: an insult, not a fact|[2] Negative: it|[2] Neg|[2] [2]|(2)|（2）|{2}|<2>"
    "|(2) Negative|Negative (2)|Negative|negative.|<think>[0]? No.</think>[2]"
    "|<think>[0]? No.</think>\n[2] The comment"
)
CUT_AND_NONE = (
    "Let me think: class 2 would|Let me think: [2] would|Okay, so the user wants [2]"
    "|The class is [2]|The answer is [2].|Class: 2|类别：2|答案是2|第2类|2|2.|２|②|2 Negative"
    "|not [2]|[2|[2,|[2, |【2|(2|（2|［|[|[2] or|[2] or [3|[2], [|[2],|[2]、|[2]或|[2]/3|[2][3"
    "|[2] [|[2] and 3|[2] -|[0], [1], [2], or [|[2] Negative: it insults\n[|[2] x [3|[2] [3]"
    "|[2] Mi|[2] Mild|[2] Mild: without|(2) The comment mocks, (3|(2) The comment mocks"
    "|(1) it is (2) she|[9] because|[-1]|Negat|Negative or|Mild or Negative|Negative, because"
    "|<think>[2]|<think>class 2</think>|[THINK][2]"
)


@pytest.mark.parametrize("reply", CUT_AND_A_LABEL.split("|"))
def test_a_reply_that_was_cut_is_a_label_where_its_answer_stands_first_and_whole(codebook, reply):
    assert outcome_of(json.loads(answer_line("row-2", reply, "length")), codebook).label == 2
    assert parse_cut_reply(reply, codebook) == parse_reply(reply, codebook)


@pytest.mark.parametrize("reply", ["<|channel|>analysis<|message|>[2]", *CUT_AND_NONE.split("|")])
def test_a_reply_that_was_cut_before_its_answer_is_whole_is_none(codebook, reply):
    outcome = outcome_of(json.loads(answer_line("row-2", reply, "length")), codebook)
    assert (outcome.label, outcome.form) == (-1, "length")


def test_a_class_name_that_begins_another_is_none_where_the_reply_was_cut():
    Path("names.txt").write_text("[0] Type 1: a\n[1] Type 10: b\n[2] Pro: c", encoding="utf-8")
    codebook = read_codebook("names.txt")
    labels = [parse_cut_reply(reply, codebook).label for reply in ("Type 1", "Type 10", "Pro")]
    assert labels == [-1, 1, 2]


@pytest.mark.parametrize(
    "reply", ["[2]" + sign * 50_000 + "x" for sign in (" ", ",", ", ", "(", "or ", "[2]")]
)
def test_a_runaway_reply_that_was_cut_is_read_at_once(reply, codebook):
    assert parse_cut_reply(reply, codebook).label in (2, -1)


def tokens(*steps):
    """Return log-probabilities; each step is token -> probability, the first token the chosen."""
    content = []
    for step in steps:
        listed = [{"token": token, "logprob": math.log(p)} for token, p in step.items()]
        content.append(listed[0] | {"top_logprobs": listed})
    return content


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [{"[": 0.9, "I": 0.1}, {"2": 0.75, "1": 0.2, "x": 0.05}, {"]": 1}],
            (None, 0.2, 0.75, None),
        ),
        ([{"[2": 0.6, "[0": 0.2, "I": 0.2}, {"]": 1}], (0.25, None, 0.75, None)),
        ([{"[2]": 0.5, "[3]": 0.5}], (None, None, 0.5, 0.5)),
        ([{"[": 0.6, "[1": 0.4}, {"2": 1.0}], (None, 0.4, 0.6, None)),
        ([{"类别": 0.3}, {"：": 0.9}, {" [": 0.8, " 2": 0.2}, {"0": 0.9}], (0.9, None, None, None)),
        ([{"【": 1}, {"２": 0.5, "2": 0.25}, {"】": 1}], (None, None, 0.75, None)),
        ([{"[": 1}, {"7": 0.6, "2": 0.4}, {"]": 1}], ()),
        (
            [{"<think>[0]": 1}, {"</think>": 1}, {"[": 1}, {"2": 0.8, "0": 0.2}],
            (0.2, None, 0.8, None),
        ),
        ([{"[": 0.5, "<": 0.5}, {" ": 1.0}, {"3": 1.0}], (None, None, None, 1.0)),
        ([{"2": 0.9, "1": 0.1}], ()),
        ([], ()),
    ],
)
def test_confidence_is_read_after_the_bracket_whatever_the_tokens_are(steps, expected):
    label = max(range(4), key=lambda k: expected[k] or 0) if expected else 2
    got = class_probabilities(tokens(*steps), label, 4)
    assert [p is None for p in got] == [p is None for p in expected]
    assert [p for p in got if p is not None] == pytest.approx(
        [p for p in expected if p is not None]
    )


def test_a_chosen_token_that_is_not_listed_counts():
    content = [{"token": "[", "logprob": 0.0, "top_logprobs": []}]
    content.append({"token": "1", "logprob": math.log(0.3), "top_logprobs": tokens({"2": 0.7})})
    assert class_probabilities(content, 1, 4) == pytest.approx((None, 0.3, 0.7, None))


@pytest.mark.parametrize(
    "step",
    [
        {"token": "[2]", "logprob": None, "top_logprobs": None},
        {"token": "[2]", "logprob": -9999.0},
        {"token": "[2]"},
    ],
)
def test_an_answer_without_usable_log_probabilities_is_still_a_label(codebook, step):
    record = json.loads(answer_line("row-2", "[2]"))
    record["response"]["body"]["choices"][0]["logprobs"] = {"content": [step]}
    outcome = outcome_of(record, codebook)
    assert (outcome.label, outcome.probabilities) == (2, ())


@pytest.mark.parametrize(
    ("labels", "winner"),
    [([1, 1, 2], 1), ([-1, 2, -1], 2), ([1, 2], -1), ([0, 1, 1, 0, 2], -1), ([-1, -1], -1)],
)
def test_the_majority_of_the_labels_wins_and_a_tie_is_no_label(labels, winner):
    assert [*labels, -1][majority(labels)] == winner


def test_the_repeats_of_a_row_vote_also_where_its_own_answer_is_missing(write_rows, codebook):
    write_rows("simple.csv", [("a", "A", -1), ("b", "B", -1), ("c", "C", -1)])
    rows = store_rows("simple.csv", "x.py", codebook).frame
    a, b, c = request_ids("01234567", "ABC")
    lines = [(f"{a}--repeat-1", 1), (f"{a}--repeat-2", 1), (b, 2), (f"{b}--repeat-1", 0)]
    text = "\n".join(answer_line(custom_id, f"[{label}]") for custom_id, label in lines)
    Path("answers.jsonl").write_text(text, encoding="utf-8")
    source = AnswerFiles([Path("answers.jsonl")], codebook)
    answers, sent = match_answers(source, ids_of_rows(rows), "01234567"), np.ones(3)
    labels = decide_labels(rows, answers, sent, vote=False)
    assert labels.label.tolist() == [-1, 2, -1]
    labels = decide_labels(rows, answers, sent, vote=True)
    assert [(out.label, out.form) for out in labels.outcomes(np.arange(3))] == [
        (1, "strict"),
        (-1, "tie"),
        (-1, "missing"),
    ]


def test_self_agreement_counts_rows_with_several_labels():
    rows = [(1, 1, 1), (1, 1, 2), (1, -1), (0, 0, -1)]
    count, agreed, pairs = self_agreement(rows)
    assert (count, agreed) == (3, 2)
    assert pairs == pytest.approx((1 + 1 / 3 + 1) / 3)
