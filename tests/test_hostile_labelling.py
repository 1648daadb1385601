"""Replies, codebooks, requests and answers of any text: one row never changes another's label."""

import json
import time
from codecs import BOM_UTF8
from pathlib import Path

import pandas as pd
import pytest
from conftest import answer_line
from hostile import texts, tries, words
from hypothesis import given
from hypothesis import strategies as st

import jsonl_to_csv
from pipeline.common.cli import UserError
from pipeline.common.codebook import bare_words, parse_label, read_codebook
from pipeline.common.examples import QUOTES, example_key, read_examples
from pipeline.common.files import clean_text
from pipeline.common.replies import parse_cut_reply, parse_reply
from pipeline.common.tables import read_csv, write_csv
from pipeline.labelling.ids import label_set_of, request_ids
from pipeline.labelling.ledger import Job, read_jobs
from pipeline.labelling.outcomes import AnswerFiles
from pipeline.labelling.price import estimate_tokens
from pipeline.labelling.request_lines import request_line
from pipeline.labelling.requests import Requests, read_requests
from pipeline.labelling.shards import request_files, write_shards

REASONS = {"empty", "no_label", "ambiguous", "out_of_range", "length"}
BODY = {"model": "m", "max_tokens": 20, "temperature": 0.0}
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        texts(surrogates=True, longest=300),
        st.sampled_from([10**400, -1, 1e308, float("inf"), float("nan"), "[1]", 200, 404]),
    ),
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.dictionaries(st.sampled_from(["content", "code", "message", "token", "x"]), part),
    ),
    max_leaves=6,
)
KEYS = ("status_code", "body", "choices", "message", "content", "error", "created", "model")
KEYS += ("usage", "logprobs", "finish_reason", "response", "custom_id", "logprob", "top_logprobs")


def codebook_of_four():
    return read_codebook("prompt.txt")


@given(texts(surrogates=True))
def test_any_reply_is_a_class_of_the_codebook_or_a_reason(reply):
    codebook = codebook_of_four()
    for parse in (parse_reply, parse_cut_reply):
        parsed = parse(reply, codebook)
        if parsed.label >= 0:
            assert 0 <= parsed.label < len(codebook.names)
            assert parsed.form in ("strict", "lenient")
        else:
            assert parsed.label == -1
            assert parsed.form in REASONS


@given(st.integers(0, 3), st.text(" \n\t\r", max_size=3), st.text(" \n\t\r", max_size=3))
def test_a_strict_answer_is_its_class_whatever_white_space_is_around_it(label, before, after):
    reply = f"{before}[{label}]{after}"
    codebook = codebook_of_four()
    assert (parse_reply(reply, codebook).label, parse_reply(reply, codebook).form) == (
        label,
        "strict",
    )
    assert parse_cut_reply(reply, codebook).label == label


@given(texts(surrogates=True))
def test_a_reply_without_a_number_and_a_class_name_is_no_class(reply):
    codebook = codebook_of_four()
    if any(c.isnumeric() for c in bare_words(reply)) or any(
        bare_words(name) in bare_words(reply) for name in codebook.names
    ):
        return
    assert parse_reply(reply, codebook).form in ("empty", "no_label")
    assert parse_cut_reply(reply, codebook).label == -1


@pytest.mark.parametrize("before", ["class", "label is", "[1", "(", "class 1 ,", "[1] or", "not"])
def test_a_reply_of_thousands_of_spaces_is_read_at_once(before):
    codebook, start = codebook_of_four(), time.perf_counter()
    for space in (" ", "\n", "\u3000"):
        for parse in (parse_reply, parse_cut_reply):
            parse(before + 1_500 * space + "x", codebook)
    assert time.perf_counter() - start < 5


def test_a_class_number_of_thousands_of_digits_is_refused_in_a_line():
    Path("prompt.txt").write_text(f"[0] a: x\n[{'1' * 5_000}] b: y", encoding="utf-8")
    with pytest.raises(UserError, match=r"^prompt\.txt numbers its classes \[0, 111111111\]"):
        read_codebook("prompt.txt")


@pytest.mark.parametrize("value", [None, 3, "x", [], {"x": 1}, "\ud800", "a\0b"])
@pytest.mark.parametrize("name", ["answers_file", "jobs", "rows", "token", "counts", "status"])
def test_a_ledger_with_another_value_is_read_or_refused_in_a_line(name, value):
    job = Job("r.jsonl", "0" * 8, "m", 1, "batch", "http://x", {}, token="t")
    state = {"answers_file": "answers.jsonl", "jobs": [vars(job)]}
    place = state if name in state else state["jobs"][0]
    place[name] = value
    Path("state.json").write_text(json.dumps(state), encoding="utf-8")
    try:
        _, jobs = read_jobs(Path("state.json"), "restore it")
    except UserError as error:
        assert str(error).startswith("state.json is no state")
        return
    assert [vars(job) for job in jobs] == state["jobs"]


@pytest.mark.parametrize("counts", [{"failed": "x"}, {"failed": {"x": []}}, {"answered": None}])
def test_a_ledger_whose_counts_are_no_numbers_is_refused_in_a_line(counts):
    job = vars(Job("r.jsonl", "0" * 8, "m", 1, "batch", "http://x", {}, counts=counts))
    Path("state.json").write_text(
        json.dumps({"answers_file": "answers.jsonl", "jobs": [job]}), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"^state\.json is no state"):
        read_jobs(Path("state.json"), "restore it")


@pytest.mark.parametrize("name", ["../../../x", "**", "a/b", "*", "a\0b", "C:x"])
@pytest.mark.parametrize("part", ["token", "label_set"])
def test_a_ledger_that_calls_files_after_more_than_a_name_is_refused_in_a_line(part, name):
    job = vars(Job("r.jsonl", "0" * 8, "m", 1, "batch", "http://x", {})) | {part: name}
    Path("state.json").write_text(
        json.dumps({"answers_file": "answers.jsonl", "jobs": [job]}), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"^state\.json is no state"):
        read_jobs(Path("state.json"), "restore it")


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
def test_a_ledger_with_a_number_that_is_not_finite_is_refused_in_a_line(number):
    job = vars(Job("r.jsonl", "0" * 8, "m", 1, "batch", "http://x", {}, counts={"cost": 7.25}))
    text = json.dumps({"answers_file": "answers.jsonl", "jobs": [job]})
    Path("state.json").write_text(text.replace("7.25", number), encoding="utf-8")
    with pytest.raises(UserError, match=r"^state\.json is no state"):
        read_jobs(Path("state.json"), "restore it")


@given(texts())
def test_any_prompt_is_a_codebook_or_refused_in_a_line(text):
    for content in (text, f"[0] a{text}: x\n[1] b: y\nExample: {text}"):
        Path("prompt.txt").write_bytes(content.encode())
        try:
            codebook = read_codebook("prompt.txt")
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            continue
        assert 2 <= len(codebook.names) <= 10
        assert (
            content.replace("\r\n", "\n").replace("\r", "\n").strip().startswith(codebook.text[:50])
        )
        for k, name in enumerate(codebook.names):
            assert parse_reply(f"[{k}]", codebook).label == k
            assert parse_label(str(k), codebook) == k
            assert parse_label(name, codebook) is not None
        assert all(-1 <= label < len(codebook.names) for label, _ in codebook.examples)


@given(texts(), st.integers(-1, 9))
def test_an_example_comes_out_of_its_line_as_it_was_put_in(text, label):
    comment = clean_text(text)
    for line in (text, comment, f"“{comment}”", f"{comment} [{label}]"):
        for answered, example in read_examples(line):
            assert -1 <= answered <= 9
            assert example == clean_text(example) != ""
    if bare_words(comment) and label >= 0 and not any(c in comment for c in QUOTES + "[]"):
        for answered, example in read_examples(f"“{comment}” [{label}]"):
            assert answered == label
            assert example_key(example) == example_key(comment)


MESSAGES = st.lists(words(), min_size=1, max_size=6)


@given(MESSAGES, st.data())
def test_requests_are_read_as_they_were_made_and_stand_on_a_line_each(messages, data):
    prompt = data.draw(words())
    ids = request_ids(label_set_of(prompt, "m"), messages)
    lines = [request_line(*pair, prompt, BODY) for pair in zip(ids, messages, strict=True)]
    most = max(len(line.encode()) + 1 for line in lines)
    limit = data.draw(st.integers(most, 3 * most))
    number = data.draw(st.integers(1, 6))
    files = write_shards(lines, "r.jsonl", number, limit)
    assert sorted(request_files("r.jsonl")) == files
    assert all(file.stat().st_size <= limit for file in files)
    for file in files:
        assert len(file.read_bytes().splitlines()) <= number
    found = list(read_requests(files))
    assert [(one.custom_id, one.message, one.prompt) for one in found] == [
        (one, message, prompt) for one, message in zip(ids, messages, strict=True)
    ]
    requests = Requests(files)
    order = data.draw(st.permutations(ids))
    again = list(requests.read(order))
    assert [one.custom_id for one in again] == order
    assert [one.line for one in again] == [lines[ids.index(one)].encode() for one in order]
    assert {json.loads(line)["custom_id"] for line in lines} == set(ids)


@given(MESSAGES, words(), st.integers(0, 5))
def test_a_row_changes_neither_the_request_nor_the_price_of_another(messages, other, place):
    """But for equal messages, which are numbered."""
    place %= len(messages)
    changed = [*messages[:place], other, *messages[place + 1 :]]
    label_set = label_set_of("prompt", "m")
    before, after = request_ids(label_set, messages), request_ids(label_set, changed)
    for k, message in enumerate(messages):
        if k == place or message in (messages[place], other):
            continue
        assert before[k] == after[k]
        assert request_line(before[k], message, "prompt", BODY) == request_line(
            after[k], changed[k], "prompt", BODY
        )
    tokens = sum(map(estimate_tokens, messages)) - estimate_tokens(messages[place])
    assert sum(map(estimate_tokens, changed)) == pytest.approx(tokens + estimate_tokens(other))


def put(record, path, value):
    """Return a record with a value at a path of keys, as far as it is there."""
    if not path:
        return value
    if isinstance(record, dict) and path[0] in record:
        return record | {path[0]: put(record[path[0]], path[1:], value)}
    if isinstance(record, list) and record:
        return [put(record[0], path, value), *record[1:]]
    return value


PATHS = st.sampled_from(
    [
        ("custom_id",),
        ("error",),
        ("response",),
        ("response", "status_code"),
        ("response", "body"),
        ("response", "body", "created"),
        ("response", "body", "model"),
        ("response", "body", "usage"),
        ("response", "body", "usage", "prompt_tokens"),
        ("response", "body", "usage", "cost"),
        ("response", "body", "error"),
        ("response", "body", "choices"),
        ("response", "body", "choices", "finish_reason"),
        ("response", "body", "choices", "message"),
        ("response", "body", "choices", "message", "content"),
        ("response", "body", "choices", "logprobs"),
        ("response", "body", "choices", "logprobs", "content"),
        ("response", "body", "choices", "logprobs", "content", "token"),
        ("response", "body", "choices", "logprobs", "content", "logprob"),
        ("response", "body", "choices", "logprobs", "content", "top_logprobs"),
    ]
)


def whole_answer(custom_id, content):
    """Return an answer with all that a provider may add."""
    record = json.loads(answer_line(custom_id, content))
    body = record["response"]["body"]
    tokens = [{"token": c, "logprob": -0.1, "top_logprobs": []} for c in content]
    body["choices"][0]["logprobs"] = {"content": tokens}
    body |= {"created": 1_700_000_000, "model": "teacher"}
    body["usage"] = {"prompt_tokens": 9, "completion_tokens": 3, "cost": 0.1}
    return record


@st.composite
def answer_lines(draw, ids):
    """Draw a line of an answers file: whole, of another id, with any value anywhere, or broken."""
    record = whole_answer(draw(st.sampled_from(ids)), draw(st.sampled_from(["[1]", "[2]", "x"])))
    kind = draw(st.sampled_from(["value", "value", "value", "id", "cut", "bytes", "deep"]))
    if kind == "id":
        mark = st.sampled_from(
            ["-x", "--try-2", "--repeat-1", "--try-" + "9" * 5000, "-9", "\ud800"]
        )
        record["custom_id"] += draw(st.one_of(mark, texts(surrogates=True, longest=50)))
    if kind == "deep":
        return b"[" * draw(st.sampled_from([10, 100_000]))
    if kind == "bytes":
        return draw(st.binary(max_size=60)).replace(b"\n", b"")
    if kind == "value":
        record = put(record, draw(PATHS), draw(JSON))
    line = json.dumps(record).encode()
    return line[: draw(st.integers(0, len(line)))] if kind == "cut" else line


def study(messages):
    """Write rows, their requests and no answers yet; return the ids of the requests."""
    rows = pd.DataFrame({"custom_id": [f"row-{n}" for n in range(len(messages))]})
    rows = rows.assign(message=messages, **{"class": -1})
    Path("pre_process/datas").mkdir(parents=True, exist_ok=True)
    write_csv(rows, "pre_process/datas/simple.csv")
    codebook = codebook_of_four()
    ids = request_ids(label_set_of(codebook.text, "m"), messages)
    lines = [request_line(*pair, codebook.text, BODY) for pair in zip(ids, messages, strict=True)]
    write_shards(lines, "pre_process/datas/inf_batch_v2.jsonl", 100, 10**9)
    return ids


def labels_by_row():
    table = read_csv("pre_process/labeled_v2.csv", ["custom_id", "class"], "jsonl_to_csv.py")
    return dict(zip(table["custom_id"], table["class"], strict=True))


@tries(2)
@given(st.data())
def test_any_answer_is_read_or_counted_and_changes_no_other_row(data):
    messages = ["first", "second", "third"]
    ids = study(messages)
    hostile = data.draw(st.lists(answer_lines(ids[:1]), min_size=1, max_size=3))
    good = [answer_line(ids[k], f"[{k}]").encode() for k in (1, 2)]
    lines = data.draw(st.permutations([*good, *hostile]))
    path = Path("pre_process/datas/silver_label_v2.jsonl")
    path.write_bytes(b"\n".join(lines) + b"\n")
    outcomes = list(AnswerFiles([path], codebook_of_four()))
    assert len(outcomes) == sum(bool(line.removeprefix(BOM_UTF8).strip()) for line in lines)
    for _, outcome, _ in outcomes:
        assert -1 <= outcome.label <= 3
        assert all(p is None or 0 <= p <= 1 for p in outcome.probabilities)
    jsonl_to_csv.main([])
    labels = labels_by_row()
    assert (labels["row-1"], labels["row-2"]) == ("1", "2")
    assert -1 <= int(labels["row-0"]) <= 3
    record = json.loads(Path("pre_process/silver_labels.json").read_text(encoding="utf-8"))
    assert record["requests"] == 3
    assert record["labelled"] + sum(record["reasons"].values()) == 3


@tries(0.5)
@given(st.lists(words(), min_size=3, max_size=5, unique=True), st.data())
def test_what_a_row_says_decides_no_label(messages, data):
    ids = study(messages)
    replies = data.draw(st.lists(texts(surrogates=True), min_size=len(ids), max_size=len(ids)))
    path = Path("pre_process/datas/silver_label_v2.jsonl")
    path.write_text("\n".join(map(answer_line, ids, replies)) + "\n", encoding="utf-8")
    jsonl_to_csv.main([])
    codebook = codebook_of_four()
    expected = {
        f"row-{n}": str(parse_reply(reply.strip(), codebook).label)
        for n, reply in enumerate(replies)
    }
    assert labels_by_row() == expected
    table = read_csv("pre_process/labeled_v2.csv", ["message"], "jsonl_to_csv.py")
    assert table["message"].tolist() == messages
    assert len(read_csv("pre_process/unlabeled_v2.csv", ["message"], STEP)) == len(messages)


STEP = "jsonl_to_csv.py"
