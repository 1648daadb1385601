"""Answers read as labels: thoughts before them, confidence, votes."""

import json
import math

import pandas as pd
import pytest
from conftest import answer_line

from pipeline.common.replies import parse_reply
from pipeline.labelling.ids import request_ids
from pipeline.labelling.labels import decide_labels, majority, match_answers, self_agreement
from pipeline.labelling.logprobs import class_probabilities
from pipeline.labelling.outcomes import Outcome, outcome_of


def outcomes(*labels):
    return [Outcome(label, "strict" if label >= 0 else "empty", f"[{label}]") for label in labels]


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


def test_thoughts_that_were_cut_are_cut_and_no_label(codebook):
    record = json.loads(answer_line("row-2", "<think>The class is [0], as", "length"))
    assert outcome_of(record, codebook).form == "length"


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
    assert majority(outcomes(*labels)).label == winner


def test_the_repeats_of_a_row_vote_also_where_its_own_answer_is_missing():
    rows = pd.DataFrame({"custom_id": ["a", "b", "c"], "message": ["A", "B", "C"], "class": -1})
    a, b, c = ids = request_ids("01234567", rows["message"])
    lines = [(f"{a}--repeat-1", 1), (f"{a}--repeat-2", 1), (b, 2), (f"{b}--repeat-1", 0)]
    answers = match_answers(
        ((custom_id, outcomes(label)[0]) for custom_id, label in lines), ids, "01234567"
    )
    labels = decide_labels(rows, answers, ids, "01234567", vote=False)
    assert [labels[row].label for row in "abc"] == [-1, 2, -1]
    labels = decide_labels(rows, answers, ids, "01234567", vote=True)
    assert [(labels[row].label, labels[row].form) for row in "abc"] == [
        (1, "strict"),
        (-1, "tie"),
        (-1, "missing"),
    ]


def test_self_agreement_counts_rows_with_several_labels():
    rows = [outcomes(1, 1, 1), outcomes(1, 1, 2), outcomes(1, -1), outcomes(0, 0, -1)]
    count, agreed, pairs = self_agreement(rows)
    assert (count, agreed) == (3, 2)
    assert pairs == pytest.approx((1 + 1 / 3 + 1) / 3)
