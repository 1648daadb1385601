"""Steps 2 and 3: requests out, answers in, every row accounted for."""

import hashlib
import json
import math
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from conftest import answer_line, request_ids_of

import batch_infer_gen
import jsonl_to_csv
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.tables import read_csv
from pipeline.labelling import label_files
from pipeline.labelling.outcomes import AnswerFiles
from pipeline.labelling.shards import answer_files, request_files, write_shards

REQUESTS = "requests.jsonl"


@pytest.fixture
def requests(write_rows):
    """Write twelve requests and return the rows' ids."""
    rows = [(f"row-{n}", f"评论 {n}，他说[0]", -1) for n in range(2, 14)]
    write_rows("simple.csv", rows)
    batch_infer_gen.main(["--input-file", "simple.csv", "--requests-file", REQUESTS])
    return [custom_id for custom_id, _, _ in rows]


def asked(row):
    """Return the id of a row's request."""
    return request_ids_of(REQUESTS)[ROWS.index(row)] if row in ROWS else row


ROWS = [f"row-{n}" for n in range(2, 14)]


def label(*answers, **files):
    """Run step 3 on answer lines; return the labelled rows and the errors by custom_id."""
    files = files or {"answers.jsonl": answers}
    for name, lines in files.items():
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    names = ("unlabeled", "labeled", "purged", "errors")
    outputs = [f"--{name}-file={name}.csv" for name in names]
    paths = ["--input-file", "simple.csv", "--requests-file", REQUESTS]
    paths += ["--answers-file", ",".join(files)]
    jsonl_to_csv.main([*paths, *outputs, "--retry-file", "retry.jsonl"])
    labelled = read_csv("labeled.csv", ["custom_id", "message", "class"], "x")
    errors = pd.read_csv("errors.csv", dtype=str, na_filter=False)
    return labelled.set_index("custom_id"), errors.set_index("custom_id")


def failed_line(custom_id, status, code):
    error = {"error": {"message": "no", "type": "t", "code": code}}
    response = {"status_code": status, "request_id": "r", "body": error}
    return json.dumps({"custom_id": custom_id, "response": response, "error": None})


def test_a_request_is_the_codebook_and_the_comment_and_no_more(requests, codebook):
    lines = Path(REQUESTS).read_text(encoding="utf-8").splitlines()
    set_of_all = {json.loads(line)["custom_id"].partition("-")[0] for line in lines}
    assert len(lines) == len(requests) and len(set_of_all) == 1
    message = hashlib.sha256("评论 2，他说[0]".encode()).hexdigest()[:16]
    assert json.loads(lines[0]) == {
        "custom_id": f"{set_of_all.pop()}-{message}-1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "deepseek-ai/DeepSeek-V3",
            "messages": [
                {"role": "system", "content": codebook.text},
                {"role": "user", "content": "评论 2，他说[0]"},
            ],
            "max_tokens": 20,
            "temperature": 0.0,
        },
    }


def test_extra_fields_and_log_probabilities_are_asked_for_in_every_request(requests):
    batch_infer_gen.main(
        ["--input-file", "simple.csv", "--requests-file", REQUESTS, "--top-logprobs", "5"]
        + ["--extra-body", '{"enable_thinking": false, "max_tokens": 9}']
    )
    bodies = [
        json.loads(line)["body"] for line in Path(REQUESTS).read_text(encoding="utf-8").splitlines()
    ]
    for body in bodies:
        assert (body["logprobs"], body["top_logprobs"]) == (True, 5)
        assert (body["enable_thinking"], body["max_tokens"]) == (False, 9)


@pytest.mark.parametrize("text", ["", "[]", "{'a': 1}", '{"messages": []}'])
def test_an_extra_body_that_is_no_object_is_refused(requests, text):
    with pytest.raises(UserError, match="give a JSON object without messages"):
        batch_infer_gen.main(["--input-file", "simple.csv", "--extra-body", text])


def test_the_cost_estimate_counts_the_codebook_once_per_request(requests, capsys):
    batch_infer_gen.main(
        ["--input-file", "simple.csv", "--price-per-million-input-tokens", "1000000"]
        + ["--requests-file", REQUESTS, "--price-per-million-output-tokens", "500000"]
    )
    text = Path("prompt.txt").read_text(encoding="utf-8").strip()
    messages = sum(0.6 * 5 + 0.3 * (len(f"评论 {n}，他说[0]") - 5) for n in range(2, 14))
    tokens = 12 * 0.3 * len(text) + messages
    out = capsys.readouterr().out
    assert f"input  about {tokens:,.0f} tokens, price {tokens:,.2f}" in out
    assert "output about 48 tokens, price 24.00 (at most 240 tokens, 120.00)" in out


def test_shards_hold_at_most_the_requests_and_bytes_of_a_file():
    lines = [f"{n:03d}" for n in range(10)]
    shards = write_shards(lines, "r.jsonl", max_requests=4, max_bytes=100)
    assert [shard.name for shard in shards] == [f"r-0000{n}-of-00003.jsonl" for n in (1, 2, 3)]
    assert "".join(shard.read_text() for shard in shards).split() == lines
    assert len(write_shards(lines, "r.jsonl", max_requests=99, max_bytes=12)) == 4
    assert len(request_files("r.jsonl")) == 4
    assert [path.name for path in write_shards(lines, "r.jsonl", 99, 100)] == ["r.jsonl"]
    assert [path.name for path in Path().glob("*r*.jsonl")] == ["r.jsonl"]


def test_a_request_larger_than_a_file_is_refused_and_the_old_requests_stay(requests):
    before = Path(REQUESTS).read_bytes()
    with pytest.raises(UserError, match="over --max-bytes-per-file"):
        batch_infer_gen.main(
            ["--input-file", "simple.csv", "--requests-file", REQUESTS]
            + ["--max-bytes-per-file", "700"]
        )
    assert Path(REQUESTS).read_bytes() == before


def test_only_the_answer_files_that_are_named_are_read(requests, capsys):
    for name in ("b", "b-1", "b-new", "c"):
        Path(f"{name}.jsonl").touch()
    shards = ["d-00001-of-00002.jsonl", "d-00002-of-00002.jsonl"]
    for name in shards:
        Path(name).touch()

    def names(named):
        return [path.name for path in answer_files(named)]

    assert names("b.jsonl") == ["b.jsonl"]
    assert "not read: b-1.jsonl, b-new.jsonl (--answers-file names them)" in capsys.readouterr().out
    assert names("b*.jsonl") == ["b-1.jsonl", "b-new.jsonl", "b.jsonl"]
    assert names("c.jsonl, b-1.jsonl") == ["c.jsonl", "b-1.jsonl"]
    assert names("d.jsonl") == shards
    with pytest.raises(UserError, match="^e.jsonl not found"):
        names("b.jsonl,e.jsonl")


def test_requests_of_another_codebook_are_refused(requests):
    text = Path("prompt.txt").read_text(encoding="utf-8")
    Path("prompt.txt").write_text(text.replace("Mild", "Neutral"), encoding="utf-8")
    with pytest.raises(UserError, match="asks with another codebook than ./prompt.txt"):
        label(answer_line(asked("row-2"), "[1]"))


@pytest.mark.parametrize(
    "line", ['{"custom_id": "row-\\x2", "resp', "[" * 100_000, '"text"', "7", b"\xff\xfe{}"]
)
def test_any_broken_answer_line_is_data_and_no_crash(requests, line):
    line = line if isinstance(line, bytes) else line.encode()
    whole = answer_line("row-2", "[1]").encode()
    Path("answers.jsonl").write_bytes(b"\xef\xbb\xbf" + whole + b"\n\n" + line + b"\n")
    answers = AnswerFiles([Path("answers.jsonl")], read_codebook("prompt.txt"))
    outcomes = {custom_id: outcome for custom_id, outcome, _ in answers}
    assert outcomes["row-2"].label == 1
    assert outcomes[""].form == "malformed line 3"


def test_a_missing_shard_is_noticed():
    write_shards("abc", "r.jsonl", max_requests=1, max_bytes=9)
    Path("r-00002-of-00003.jsonl").unlink()
    with pytest.raises(UserError, match="do not belong together"):
        request_files("r.jsonl")


def test_answers_are_joined_by_custom_id_in_any_order_and_any_number_of_files(requests):
    answers = {custom_id: n % 4 for n, custom_id in enumerate(requests)}
    lines = [answer_line(asked(custom_id), f"[{k}]") for custom_id, k in answers.items()]
    files = {"answers.jsonl": lines[6:][::-1], "answers-2.jsonl": lines[:6]}
    labelled, errors = label(**files)
    assert labelled["class"].astype(int).to_dict() == answers
    assert labelled["message"]["row-5"] == "评论 5，他说[0]"
    assert errors.empty and Path("retry.jsonl").read_text(encoding="utf-8") == ""


def test_every_row_without_a_label_has_its_reason(requests):
    expired = {"code": "batch_expired", "message": "too late"}
    whole = answer_line(asked("row-13"), "[1]")
    labelled, errors = label(
        answer_line(asked("row-2"), "[1]"),
        failed_line(asked("row-3"), 429, "rate_limit"),
        json.dumps({"custom_id": asked("row-4"), "response": None, "error": expired}),
        failed_line(asked("row-5"), 400, "content_filter"),
        answer_line(asked("row-6"), None, "content_filter"),
        answer_line(asked("row-7"), "The comment is about", "length"),
        answer_line(asked("row-8"), "(2)"),
        answer_line(asked("row-9"), "[9]"),
        answer_line(asked("row-10"), "I cannot say"),
        answer_line(asked("row-11"), ""),
        failed_line(asked("row-12"), 200, "overloaded"),
        whole[: len(whole) // 2],
        answer_line(asked("row-99"), "[1]"),
        '{"custom_id": 7',
        "[]",
    )
    assert errors["reason"].to_dict() == {
        "row-3": "http 429",
        "row-4": "batch_expired",
        "row-5": "content_filter",
        "row-6": "content_filter",
        "row-7": "length",
        "row-9": "out_of_range",
        "row-10": "no_label",
        "row-11": "empty",
        "row-12": "overloaded",
        "row-13": "malformed line 12",
        "row-99": "unknown id",
        "": "malformed line 15",
    }
    assert errors["reason"][""].tolist() == ["malformed line 14", "malformed line 15"]


def test_a_row_that_no_answer_mentions_is_missing(requests):
    _, errors = label(*(answer_line(asked(custom_id), "[1]") for custom_id in requests[1:]))
    assert errors["reason"].to_dict() == {"row-2": "missing"}


def test_an_answer_cut_after_its_label_is_a_label(requests):
    labelled, _ = label(answer_line(asked("row-2"), "[1] because the commenter", "length"))
    assert labelled["class"]["row-2"] == "1"


def test_answers_that_agree_count_once_and_that_disagree_are_an_error(requests, capsys):
    labelled, errors = label(
        answer_line(asked("row-2"), "[1]"),
        answer_line(asked("row-2"), "(1)"),
        answer_line(asked("row-3"), "[1]"),
        answer_line(asked("row-3"), "[2]"),
        answer_line(asked("row-3"), "[1]"),
        answer_line(asked("row-4"), "no idea"),
        answer_line(asked("row-4"), "[3]"),
        answer_line(asked("row-5"), "[0]"),
        failed_line(asked("row-5"), 500, "server"),
    )
    assert labelled["class"][["row-2", "row-3", "row-4", "row-5"]].tolist() == ["1", "-1", "3", "0"]
    assert errors["reason"]["row-3"] == "conflicting answers"
    assert "5 answers came twice" in capsys.readouterr().out


def test_the_teacher_s_confidence_is_written_where_the_answers_have_it(requests):
    def sure(custom_id, *digits):
        record = json.loads(answer_line(asked(custom_id), f"[{digits[0][0]}]"))
        listed = [{"token": k, "logprob": math.log(p)} for k, p in digits]
        record["response"]["body"]["choices"][0]["logprobs"] = {
            "content": [
                {"token": "[", "logprob": 0.0, "top_logprobs": []},
                listed[0] | {"top_logprobs": listed},
                {"token": "]", "logprob": 0.0, "top_logprobs": []},
            ]
        }
        return json.dumps(record)

    Path("pre_process").mkdir()
    label(sure("row-2", ("1", 0.75), ("3", 0.25)), answer_line(asked("row-3"), "[2]"))
    lines = Path("pre_process/silver_confidence.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[:3] == [
        '"custom_id","p_Positive","p_Mild","p_Negative","p_Irrelevant"',
        '"row-2","","0.750000","","0.250000"',
        '"row-3","","","",""',
    ]
    assert len(lines) == 13


def test_the_files_add_up_to_the_requests(requests, capsys):
    answers = [answer_line(asked(custom_id), "[1]") for custom_id in requests[:7]]
    answers += [answer_line(asked(custom_id), "?") for custom_id in requests[7:10]]
    labelled, errors = label(*answers)
    unlabelled = read_csv("unlabeled.csv", ["class"], "x")
    purged = read_csv("purged.csv", ["class"], "x")
    retries = [
        json.loads(line) for line in Path("retry.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert (len(unlabelled), len(labelled), len(purged), len(retries)) == (12, 12, 7, 5)
    assert set(unlabelled["class"]) == {"-1"} and set(purged["class"]) == {"1"}
    assert Counter(errors["reason"]) == {"no_label": 3, "missing": 2}
    originals = Path(REQUESTS).read_text(encoding="utf-8").splitlines()[7:]
    again = [request["custom_id"] for request in retries]
    assert again == [f"{asked(row)}--try-2" for row in requests[7:]]
    for request, original in zip(retries, originals, strict=True):
        assert request["body"] == json.loads(original)["body"]
    assert "7 of 12 rows have a label (58.33%)" in capsys.readouterr().out


def test_the_labels_that_later_steps_follow_are_written_last(requests, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    for module, name in ((jsonl_to_csv, "write_json"), (label_files, "_write_errors")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, stop)
            label(*(answer_line(asked(row), "[1]") for row in requests))
        assert not Path("purged.csv").exists()


def test_labels_of_a_retry_are_merged(requests):
    first = [answer_line(asked(custom_id), "[1]") for custom_id in requests[:7]]
    label(*first)
    second = [answer_line(asked(custom_id), "[2]") for custom_id in requests[7:]]
    labelled, errors = label(**{"answers.jsonl": first, "answers-retry.jsonl": second})
    assert errors.empty
    assert Counter(labelled["class"]) == {"1": 7, "2": 5}


def test_answers_to_other_requests_are_refused_and_earlier_labels_stay(requests):
    label(answer_line(asked("row-2"), "[1]"))
    before = Path("labeled.csv").read_bytes()
    with pytest.raises(UserError, match="none of its 1 answers belongs to a row"):
        label(answer_line("task-1", "[1]"))
    assert Path("labeled.csv").read_bytes() == before


def test_a_broken_request_line_is_refused_with_its_number(requests):
    answer = answer_line(asked("row-2"), "[1]")
    with Path(REQUESTS).open("a", encoding="utf-8") as file:
        file.write('{"custom_id": "row-14", "body"')
    with pytest.raises(UserError, match="requests.jsonl, line 13 is no batch request"):
        label(answer)


HOSTILE = (
    '{"custom_id": "%s", "response": {"status_code": 1e999, "body": {}}}',
    '{"custom_id": "%s--try-' + "9" * 5000 + '", "error": {"code": "x"}}',
    '{"custom_id": "\\ud83d", "error": {"code": "\\ud83d\\n", "message": "\\ud83d"}}',
    '{"custom_id": "%s0x", "response": {"status_code": 200, "body": {"choices": [1]}}}',
    '{"custom_id": "%s", "error": {"code": "a\\ud83d", "message": "b\\u0000\\ud83d"}}',
    "[" * 100_000,
)


def test_hostile_answers_are_reported_and_no_crash(requests):
    record = json.loads(answer_line(asked("row-3"), "[2] \ud83d"))
    record["response"]["body"] |= {"created": 1e300, "model": "m\ud83d\n"}
    lines = [line.replace("%s", asked("row-2")) for line in HOSTILE]
    labelled, errors = label(json.dumps(record), *lines)
    assert labelled["class"]["row-3"] == "2" and labelled["class"]["row-2"] == "-1"
    assert (errors["reason"]["row-2"], errors["reply"]["row-2"]) == ("a", "b")
    assert len(errors[errors.index.isin(ROWS)]) == 11 and len(errors) == 15
