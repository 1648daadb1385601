"""Step 2b: every row is answered once, and paid for once, whatever goes wrong on the way."""

import json
import math
import multiprocessing
import os
import random
import re
import threading
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from conftest import ROOT, answer_line, file_size_limit, request_ids_of, served

import batch_infer_gen
import jsonl_to_csv
import submit_batch
from pipeline.common.cli import UserError
from pipeline.common.tables import read_csv
from pipeline.labelling import send_batches
from pipeline.labelling.ids import label_set_of, plain_id, request_ids
from pipeline.labelling.ledger import Ledger
from pipeline.labelling.shards import write_shards
from pre_process.sample.provider import always, teacher

KEY = "sk-the-users-own-secret"
DATAS = Path("pre_process/datas")
ANSWERS = DATAS / "silver_label_v2.jsonl"
STATE = DATAS / "submit_batch.json"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Wait a fiftieth as long between two tries."""
    monkeypatch.setattr("pipeline.labelling.provider.FIRST_WAIT", 0.01)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("SILICONFLOW_API_KEY", raising=False)


@pytest.fixture
def requests(write_rows):
    """Return a function that writes requests, five to a file, and returns their ids."""

    def write(count=12, *argv):
        rows = [(f"row-{n}", f"评论 {n}", -1) for n in range(2, count + 2)]
        write_rows(DATAS / "simple.csv", rows)
        batch_infer_gen.main(["--max-requests-per-file", "5", *argv])
        return request_ids_of()

    return write


def submit(provider, *argv):
    submit_batch.main(
        ["--base-url", provider.url, "--poll-seconds", "0.01", "--max-retries", "3"]
        + ["--timeout", "5", "--wait-for-rows", "0.02", "--yes", *argv]
    )


def break_off(provider):
    """Send the requests, and stop while their batches run."""
    provider.fault("GET /v1/batches/.*", "401", times=3)
    with pytest.raises(UserError, match="refuses the key"):
        submit(provider)


def answered(path=ANSWERS):
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def jobs():
    return json.loads(STATE.read_text())["jobs"]


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_answers_of_all_shards_stand_in_one_file_in_the_requests_order(
    serve, requests, wrapped, capsys
):
    provider = serve(wrapped=wrapped, polls=3)
    ids = requests()
    submit(provider)
    assert answered() == ids
    assert provider.charged == Counter(ids)
    assert [(job["rows"], job["status"]) for job in jobs()] == [
        (5, "collected"),
        (5, "collected"),
        (2, "collected"),
    ]
    out = capsys.readouterr().out
    assert "12 of 12 requests were answered (100.00%)" in out
    assert "output 36 tokens" in out


def test_a_second_run_sends_nothing_and_changes_nothing(serve, requests, capsys):
    provider = serve()
    requests()
    submit(provider)
    before, calls = ANSWERS.read_bytes(), Counter(provider.calls)
    submit(provider)
    assert ANSWERS.read_bytes() == before and provider.calls == calls
    assert "no request is left to send" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("POST /v1/files", "500"),
        ("POST /v1/files", "drop"),
        ("POST /v1/files", "drop after"),
        ("POST /v1/batches", "429 0.05"),
        ("POST /v1/batches", "drop"),
        ("POST /v1/batches", "drop after"),
        ("GET /v1/batches", "500"),
        ("GET /v1/batches/.*", "slow 0.2"),
        ("GET /v1/batches/.*", "drop"),
        ("GET /v1/files/.*/content", "cut"),
        ("GET /v1/files/.*/content", "429 0.05"),
    ],
)
def test_a_passing_fault_changes_neither_the_answers_nor_the_charge(
    serve, requests, call, action, capsys
):
    provider = serve()
    ids = requests()
    provider.fault("POST /v1/batches" if call == "GET /v1/batches" else call, "drop after")
    provider.fault(call, action)
    submit(provider)
    assert answered() == ids
    assert provider.charged == Counter(ids)
    assert len(provider.batches) == 3
    assert len([name for name, _ in provider.files.values() if "inf_batch" in name]) == 3
    assert "calls were tried again" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["short", "empty", "html"])
def test_a_download_that_is_not_whole_is_fetched_again(serve, requests, action):
    provider = serve()
    ids = requests(5)
    provider.fault("GET /v1/files/.*/content", action)
    submit(provider)
    assert answered() == ids
    assert provider.calls["GET /v1/files/file/content"] == 2


@pytest.mark.parametrize("mode", ["batch", "chat"])
@pytest.mark.parametrize(
    ("status", "message"),
    [("401", "refuses the key"), ("404", "no such address or model"), ("402", "answers 402")],
)
def test_a_refused_call_is_one_line_without_the_key_and_can_be_gone_on_from(
    serve, requests, capsys, status, message, mode
):
    provider = serve()
    ids = requests()
    provider.fault("POST .*", status, times=1 if mode == "batch" else 16)
    with pytest.raises(UserError, match=message) as error:
        submit(provider, "--mode", mode)
    assert KEY not in str(error.value) and "\n" not in str(error.value)
    assert KEY not in STATE.read_text() and KEY not in "".join(capsys.readouterr())
    provider.faults.clear()
    submit(provider, "--mode", mode)
    assert answered() == ids
    assert set(provider.charged.values()) == {1}


def test_no_key_is_told_before_anything_is_sent(serve, requests, monkeypatch):
    requests()
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="export SILICONFLOW_API_KEY="):
        submit_batch.main(["--yes"])
    with pytest.raises(UserError, match="export OPENAI_API_KEY="):
        submit_batch.main(["--yes", "--base-url", "https://api.openai.com/v1"])


def test_the_key_of_one_provider_is_not_sent_to_another(monkeypatch):
    from pipeline.labelling.provider import NO_KEY, key_for

    monkeypatch.setenv("SILICONFLOW_API_KEY", "sf")
    monkeypatch.setenv("OPENAI_API_KEY", "oa")
    assert key_for("https://api.siliconflow.cn/v1") == "sf"
    assert key_for("https://api.openai.com/v1") == "oa"
    assert key_for("https://siliconflow.example.com/v1") == "oa"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert key_for("http://localhost:8000/v1") == NO_KEY
    with pytest.raises(UserError, match="no key"):
        key_for("https://api.openai.com/v1")


@pytest.mark.parametrize("key", ["sk-abc\nsk-def", "“sk-abc”", "sk abc"])
def test_a_key_that_cannot_be_one_is_told_without_showing_it(requests, monkeypatch, key):
    requests()
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="the key for 127.0.0.1 holds a space") as error:
        submit_batch.main(["--yes", "--base-url", "http://127.0.0.1:9/v1"])
    assert "abc" not in str(error.value)


def test_a_batch_that_fails_validation_costs_nothing_and_is_sent_again(serve, requests):
    provider = serve()
    ids = requests()
    provider.endings += ["completed", "failed"]
    with pytest.raises(UserError, match="1 of the batches.*line 2: This line is not JSON"):
        submit(provider)
    assert answered() == ids[:5] + ids[10:]
    submit(provider)
    assert answered() == ids
    assert provider.charged == Counter(ids)


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_its_answers_and_the_rest_is_retried(
    serve, requests, capsys, ending
):
    provider = serve()
    ids = requests(10)
    provider.endings += [ending]
    submit(provider)
    assert answered() == ids[:2] + ids[5:]
    assert "3  came back without an answer" in capsys.readouterr().out
    jsonl_to_csv.main([])
    submit(provider, "--requests-file", str(DATAS / "retry_v2.jsonl"))
    assert sorted(map(plain_id, answered())) == sorted(ids)
    assert provider.charged == Counter(ids)


@pytest.mark.parametrize("ending", ["late", "short"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_batch_that_ends_before_its_answers_show_is_waited_for_and_not_paid_again(
    serve, requests, ending, wrapped
):
    provider = serve(polls=3, wrapped=wrapped)
    ids = requests(10)
    provider.endings += [ending, ending]
    submit(provider, "--wait-for-rows", "60")
    assert answered() == ids and provider.charged == Counter(ids)
    assert provider.calls["GET /v1/batches/batch"] == 2 * 6


@pytest.mark.parametrize("ending", ["late", "short"])
def test_rows_that_a_completed_batch_never_shows_are_told_and_missing_only_if_the_user_says_so(
    serve, requests, ending, capsys
):
    provider = serve(polls=10**6)
    ids = requests(10)
    provider.endings += [ending, "completed"]
    break_off(provider)
    provider.faults.clear()
    for batch in provider.batches.values():
        batch["polls"] = 1
    shown = ids[5:] if ending == "late" else None
    for _ in range(2):
        with pytest.raises(UserError, match="batch-000000 is completed, and . of its 5 requests"):
            submit(provider)
        assert shown is None or answered() == shown
    assert [job["status"] for job in jobs()] == ["completed", "collected"]
    submit(provider, "--accept-missing")
    missing = 10 - len(answered())
    assert f"{missing}  came back without an answer" in capsys.readouterr().out
    provider.polls = 1
    jsonl_to_csv.main([])
    submit(provider, "--requests-file", str(DATAS / "retry_v2.jsonl"), "--accept-missing")
    assert sum(provider.charged.values()) == 10 + missing


@pytest.fixture
def jump(monkeypatch):
    """Return a function that moves the clock, once a batch was seen to have ended."""
    moved, read, collect = [0.0], time.time, send_batches.collect
    monkeypatch.setattr(time, "time", lambda: read() + sum(moved))

    def by(seconds):
        def and_jump(*what):
            try:
                collect(*what)
            finally:
                moved[0] = seconds

        monkeypatch.setattr(send_batches, "collect", and_jump)

    return by


def test_a_clock_that_jumps_ahead_does_not_end_the_wait_for_rows(serve, requests, jump):
    provider = serve(polls=3)
    ids = requests(5)
    provider.endings.append("late")
    jump(86_400)
    submit(provider, "--wait-for-rows", "60")
    assert answered() == ids


def test_a_clock_that_is_set_back_does_not_make_the_wait_for_rows_longer(serve, requests, jump):
    provider = serve(polls=10**6)
    requests(5)
    provider.endings.append("late")
    break_off(provider)
    provider.faults.clear()
    provider.batches["batch-000000"]["polls"] = 1
    jump(-86_400)
    for _ in range(2):  # in the run that saw the end, and in one after the clock was set back
        with pytest.raises(UserError, match="have neither an answer nor an error"):
            submit(provider, "--wait-for-rows", "0.05")


@pytest.mark.parametrize("refuses", ["429", "failed"])
def test_what_is_refused_for_a_limit_waits_and_those_under_way_are_fetched(
    serve, requests, refuses
):
    provider = serve(polls=4)
    provider.most, provider.refuses = 2, refuses
    ids = requests(30)
    submit(provider, "--max-retries", "0")
    assert answered() == ids and provider.charged == Counter(ids)
    assert max(open_at_once(provider)) == 2


def test_many_batches_that_are_refused_at_once_wait_for_the_one_that_runs(serve, requests):
    provider = serve(polls=4)
    provider.most, provider.refuses = 1, "failed"
    ids = requests(75)
    submit(provider, "--max-batches-under-way", "15")
    assert answered() == ids and provider.charged == Counter(ids)


def open_at_once(provider):
    """Return how many batches were under way whenever one was made, as their numbers tell."""
    made = [batch for batch in provider.batches.values() if not batch["full"]]
    return [batch["beside"] + 1 for batch in made]


@pytest.mark.parametrize("refuses", ["429", "failed"])
def test_a_limit_that_others_use_up_ends_the_run_with_nothing_lost(serve, requests, refuses):
    provider = serve()
    provider.most, provider.refuses = 0, refuses
    ids = requests(10)
    with pytest.raises(UserError, match="takes no batch for now.*run the same command again later"):
        submit(provider, "--max-retries", "0")
    assert not provider.charged
    provider.most = 10
    submit(provider)
    assert answered() == ids and provider.charged == Counter(ids)


def test_a_provider_that_does_not_say_how_a_batch_is_is_asked_again_and_the_user_told(
    serve, requests, capsys
):
    provider = serve(polls=2)
    ids = requests(5)
    provider.fault("GET /v1/batches/.*", "503", times=3)
    submit(provider, "--max-retries", "0")
    said = capsys.readouterr().err
    assert "1 batches left; asking again: Error code: 503" in said and KEY not in said
    assert said.rstrip().endswith("0 batches left]") and answered() == ids


def test_no_more_batches_than_asked_for_are_under_way(serve, requests):
    provider = serve(polls=3)
    ids = requests(40)
    submit(provider, "--max-batches-under-way", "3")
    assert answered() == ids and provider.charged == Counter(ids)
    assert max(open_at_once(provider)) == 3


def test_an_error_in_sending_does_not_strand_the_batches_that_are_paid_for(serve, requests):
    provider = serve(polls=3)
    ids = requests(20)
    provider.fault("POST /v1/files", "slow 0", times=2)
    provider.fault("POST /v1/files", "402", times=1)
    with pytest.raises(UserError, match="answers 402"):
        submit(provider)
    assert answered() == ids[:10]
    submit(provider)
    assert answered() == ids and provider.charged == Counter(ids)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_completed_batch_with_only_an_error_file_is_all_failures(
    serve, requests, capsys, wrapped
):
    provider = serve(wrapped=wrapped)
    requests(5)
    provider.endings += ["errors only"]
    submit(provider)
    assert "0 of 5 requests were answered" in (out := capsys.readouterr().out)
    assert "5  failed: http 500" in out
    assert len(answered()) == 5


def test_lines_that_come_twice_count_once_and_strangers_are_kept_and_counted(
    serve, requests, capsys
):
    def answers(request, times):
        [record] = always(2)(request, times)
        twice = record | {"id": "other"}
        stranger = record | {"custom_id": "somebody else's"}
        message = request["body"]["messages"][-1]["content"]
        return [record, twice, *([stranger] if message == "评论 2" else [])]

    provider = serve(answers)
    ids = requests(5)
    submit(provider)
    assert answered() == ["somebody else's", *ids]
    assert "1  answers belong to no request of these" in capsys.readouterr().out


def test_answers_under_way_are_fetched_for_their_own_model_when_another_is_asked(serve, requests):
    provider = serve(polls=10**6)
    first = requests()
    break_off(provider)
    for batch in provider.batches.values():
        batch["polls"] = 1
    provider.polls = 1
    second = requests(12, "--model", "a/nother")
    submit(provider)
    [kept] = Path("pre_process/label_sets").glob("DeepSeek-V3-*/silver_label_v2.jsonl")
    assert sorted(answered(kept)) == sorted(first) and answered() == second
    assert provider.charged == Counter(first + second)
    assert requests() == first
    submit(provider)
    [kept] = Path("pre_process/label_sets").glob("nother-*/silver_label_v2.jsonl")
    assert answered() == first and answered(kept) == second
    assert provider.charged == Counter(first + second)


def test_rows_with_a_label_are_not_paid_for_again(serve, requests, capsys):
    provider = serve()
    ids = requests()
    submit(provider)
    STATE.unlink()
    submit(provider)
    assert "no request is left to send" in capsys.readouterr().out
    assert requests(14)[:12] == ids
    submit(provider)
    assert set(provider.charged.values()) == {1} and len(answered()) == 14


def test_open_batches_are_fetched_whatever_requests_are_given(serve, requests):
    provider = serve()
    ids = requests()
    break_off(provider)
    with pytest.raises(UserError, match="batches are under way at"):
        submit(serve())
    Path("other.jsonl").write_bytes((DATAS / "inf_batch_v2-00001-of-00003.jsonl").read_bytes())
    submit(provider, "--requests-file", "other.jsonl")
    assert sorted(answered()) == sorted(ids) and provider.charged == Counter(ids)


def test_a_wrong_address_or_mode_can_be_corrected_before_anything_was_paid(serve, requests):
    wrong, provider = serve(), serve()
    ids = requests()
    wrong.fault("POST /v1/files", "404")
    with pytest.raises(UserError, match="no such address"):
        submit(wrong)
    provider.fault("POST /v1/files", "404")
    with pytest.raises(UserError, match="no such address"):
        submit(provider)
    submit(provider, "--mode", "chat", "--limit", "7")
    submit(provider, "--requests-file", str(DATAS / "inf_batch_v2.jsonl"))
    assert answered() == ids
    assert not wrong.charged and set(provider.charged.values()) == {1}


def test_a_retry_that_brought_nothing_can_be_sent_again(serve, requests):
    provider = serve()
    ids = requests(5)
    provider.endings += ["errors only", "errors only"]
    submit(provider)
    for _ in range(2):
        jsonl_to_csv.main([])
        submit(provider, "--requests-file", str(DATAS / "retry_v2.jsonl"))
    jsonl_to_csv.main([])
    assert not (DATAS / "retry_v2.jsonl").read_bytes()
    assert provider.charged == Counter({custom_id: 3 for custom_id in ids})


def test_rows_whose_answers_conflict_are_told_and_not_sent_again(serve, requests, capsys):
    provider = serve(lambda request, times: always(1)(request, times) + always(2)(request, times))
    requests(5)
    submit(provider)
    jsonl_to_csv.main([])
    assert "5  conflicting answers" in capsys.readouterr().out
    assert not (DATAS / "retry_v2.jsonl").read_bytes()


def test_a_batch_that_is_gone_does_not_keep_the_others_waiting(serve, requests):
    provider = serve(polls=10**6)
    ids = requests()
    break_off(provider)
    first, *others = provider.batches
    del provider.batches[first]
    for batch in others:
        provider.batches[batch]["polls"] = 1
    with pytest.raises(UserError, match="1 of the batches. batch-000000 or its answers"):
        submit(provider)
    assert answered() == ids[5:]


def test_answers_in_another_order_are_put_in_order_by_the_next_run(serve, requests):
    provider = serve()
    ids = requests()
    submit(provider)
    ANSWERS.write_bytes(b"".join(sorted(ANSWERS.read_bytes().splitlines(keepends=True))[::-1]))
    submit(provider)
    assert answered() == ids


def test_a_retry_sends_just_the_rows_without_a_label_and_merges(serve, requests):
    truth = {f"row-{n}": n % 4 for n in range(2, 302)}
    messages = {f"评论 {n}": n % 4 for n in range(2, 302)}
    provider = serve(teacher(messages, 4, seed=3))
    ids = requests(300, "--max-requests-per-file", "100")
    submit(provider, "--accept-missing")
    jsonl_to_csv.main([])
    first = read_csv("pre_process/labeled_v2.csv", ["class"], "x").set_index("custom_id")
    missing = set(first.index[first["class"] == "-1"])
    assert missing
    retry = ["--requests-file", str(DATAS / "retry_v2.jsonl"), "--accept-missing"]
    submit(provider, *retry)
    by_row = dict(zip(truth, ids, strict=True))
    assert provider.charged == Counter(ids) + Counter(by_row[row] for row in missing)
    jsonl_to_csv.main([])
    second = read_csv("pre_process/labeled_v2.csv", ["class"], "x").set_index("custom_id")
    assert set(second.index[second["class"] == "-1"]) < missing
    for _ in range(4):  # a retry of the retry, until all have a label
        if (DATAS / "retry_v2.jsonl").stat().st_size:
            submit(provider, *retry)
            jsonl_to_csv.main([])
    final = read_csv("pre_process/labeled_v2.csv", ["class"], "x").set_index("custom_id")
    assert final["class"].astype(int).to_dict() == truth


def test_a_pilot_is_part_of_the_whole(serve, requests):
    provider = serve()
    ids = requests()
    for _ in range(2):
        submit(provider, "--limit", "7")
    part = answered()
    assert len(part) == 7 and part == [i for i in ids if i in part] and part != ids[:7]
    submit(provider, "--limit", "9")
    assert len(answered()) == 9 and set(part) < set(answered())
    submit(provider)
    assert answered() == ids and provider.charged == Counter(ids)


def test_a_dry_run_shows_request_and_price_and_sends_nothing(serve, requests, capsys):
    provider = serve()
    ids = requests()
    capsys.readouterr()
    submit(provider, "--dry-run", "--price-per-million-output-tokens", "500000")
    out = capsys.readouterr().out
    assert f'"custom_id": "{ids[0]}"' in out and "12 requests to send" in out
    assert "output about 48 tokens, price 24.00 (at most 240 tokens, 120.00)" in out
    assert not provider.calls and not STATE.exists() and not (DATAS / "jobs").exists()


def test_nothing_is_sent_where_nobody_says_yes(serve, requests, monkeypatch):
    provider = serve()
    requests()
    with pytest.raises(UserError, match="give --yes"):
        submit(provider, "--no-yes")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(UserError, match="nothing was sent"):
        submit(provider, "--no-yes")
    assert not provider.charged


def test_answers_that_were_deleted_are_fetched_again_and_not_paid_again(serve, requests):
    provider = serve()
    ids = requests()
    submit(provider)
    before = ANSWERS.read_bytes()
    ANSWERS.unlink()
    submit(provider)
    assert ANSWERS.read_bytes() == before and provider.charged == Counter(ids)


def test_the_model_is_replaced_where_the_provider_can(serve, requests):
    provider = serve()
    requests(5)
    submit(provider, "--replace-model", "deepseek-ai/DeepSeek-V3.2")
    [batch] = provider.batches.values()
    assert batch["replace"] == {"model": "deepseek-ai/DeepSeek-V3.2"}
    with pytest.raises(UserError, match="were sent with --replace-model 'deepseek-ai/DeepSeek"):
        submit(provider)
    with pytest.raises(UserError, match="--replace-model is for batches"):
        submit(provider, "--replace-model", "x", "--mode", "chat")


def test_a_run_that_breaks_at_any_write_of_its_state_goes_on_without_loss(
    serve, requests, monkeypatch
):
    ids, save, whole = requests(), Ledger.save, None
    for fatal in range(1, 40):
        provider = serve(polls=2)
        saves = Counter()

        def breaking(ledger, saves=saves, fatal=fatal):
            saves["count"] += 1
            if saves["count"] == fatal:
                raise KeyboardInterrupt
            save(ledger)

        monkeypatch.setattr(Ledger, "save", breaking)
        try:
            submit(provider)
        except KeyboardInterrupt:
            submit(provider)
        assert answered() == ids and provider.charged == Counter(ids)
        whole = whole or ANSWERS.read_bytes()
        assert ANSWERS.read_bytes() == whole
        ANSWERS.unlink()
        STATE.unlink()
        if saves["count"] < fatal:
            break
    assert 15 < fatal < 39


def killable(url, folder, argv):
    """Run the script in a process of its own."""
    os.chdir(folder)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        submit_batch.main(
            ["--base-url", url, "--poll-seconds", "0.02", "--max-retries", "3", "--yes", *argv]
        )


def memory_of(pid):
    """Return the most MiB that a process held so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    held = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(held[0]) / 2**10 if held else 0


class Gate:
    """Lets so many calls that match a pattern through to a provider, and holds the next ones.

    So a process can be killed at a call, however fast the machine is. Calls that were held are
    dropped once the gate is opened again: they never arrive.
    """

    def __init__(self, provider):
        self.changed = threading.Condition()
        self.pattern, self.left, self.inside, self.held, self.openings = ".*", math.inf, 0, 0, 0
        gate = self

        class GatedHandler(provider.RequestHandlerClass):
            def call(self, serve):
                if not gate.admit(f"{self.command} {self.path.partition('?')[0]}"):
                    self.close_connection = True
                    return
                try:
                    super().call(serve)
                finally:
                    gate.leave()

        provider.RequestHandlerClass = GatedHandler

    def open(self, calls, pattern=".*"):
        with self.changed:
            self.pattern, self.left, self.held = pattern, calls, 0
            self.openings += 1
            self.changed.notify_all()

    def admit(self, call):
        with self.changed:
            if re.fullmatch(self.pattern, call):
                if self.left == 0:
                    opening = self.openings
                    self.held += 1
                    self.changed.notify_all()
                    self.changed.wait_for(lambda: self.openings != opening)
                    return False
                self.left -= 1
            self.inside += 1
            self.changed.notify_all()
            return True

    def leave(self):
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()

    def wait_for(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, timeout=60)


@pytest.fixture
def start(monkeypatch):
    """Return a function that starts the script in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "pipeline.labelling.send"])
    processes = []

    def begin(provider, *argv):
        process = context.Process(target=killable, args=(provider.url, str(Path.cwd()), argv))
        process.start()
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.join()


@pytest.mark.parametrize(
    ("mode", "kills", "calls_needed"), [("batch", 30, 60 * 5), ("chat", 10, 240)]
)
def test_kills_at_any_moment_lose_no_answer(serve, requests, start, mode, kills, calls_needed):
    rng = random.Random(42)
    provider = serve(polls=2)
    gate = Gate(provider)
    ids = requests(240, "--max-requests-per-file", "4")
    calls = [rng.randint(1, 2 * calls_needed // kills - 4) for _ in range(kills)]
    assert calls_needed * 0.6 < sum(calls) < calls_needed
    argv = ["--mode", mode, "--max-concurrency", "4"]
    for count in calls:
        gate.open(count)
        process = start(provider, *argv)
        gate.wait_for(lambda: gate.left == 0)
        time.sleep(rng.uniform(0, 0.02))  # before, in or after the next write; its calls are held
        assert process.is_alive()
        process.kill()
        process.join()
        gate.wait_for(lambda: gate.inside == 0)
    gate.open(math.inf)
    last = start(provider, *argv)
    last.join()
    assert last.exitcode == 0
    assert answered() == ids
    if mode == "batch":
        assert provider.charged == Counter(ids)
        uploads = [name for name, _ in provider.files.values() if "inf_batch" in name]
        assert len(uploads) == len(set(uploads)) == 60
    else:
        assert sum(provider.charged.values()) <= len(ids) + 4 * kills


def test_chat_mode_writes_the_batch_format_as_answers_come(serve, requests, capsys):
    provider = serve(always(3))
    ids = requests()
    provider.fault("POST /v1/chat/completions", "429 0.05", times=2)
    submit(provider, "--mode", "chat", "--max-concurrency", "3")
    assert answered() == ids
    assert "2  calls were tried again" in capsys.readouterr().out
    jsonl_to_csv.main([])
    labels = read_csv("pre_process/labeled_v2.csv", ["class"], "x")["class"]
    assert labels.tolist() == ["3"] * 12


def test_a_half_written_answer_is_cut_off_and_asked_for_again(serve, requests):
    provider = serve()
    ids = requests()
    provider.fault("POST /v1/chat/completions", "401", times=1)
    with pytest.raises(UserError, match="refuses the key"):
        submit(provider, "--mode", "chat", "--max-concurrency", "1")
    with ANSWERS.open("a") as file:
        file.write(answer_line(ids[0], "[1]") + "\n" + answer_line(ids[1], "[1]")[:50])
    submit(provider, "--mode", "chat", "--max-concurrency", "1")
    assert answered() == ids
    assert len(provider.charged) == 11


def test_refused_parameters_stop_the_run_before_anything_else_is_sent(serve, requests):
    provider = serve()
    requests(200, "--top-logprobs", "5")
    provider.fault("POST /v1/chat/completions", "400", times=10**6)
    with pytest.raises(UserError, match="refuses the requests.*--top-logprobs"):
        submit(provider, "--mode", "chat", "--max-concurrency", "2")
    assert provider.calls["POST /v1/chat/completions"] <= 4 and not ANSWERS.read_bytes()
    provider.faults.clear()
    ids = requests(200)
    submit(provider, "--mode", "chat")
    assert answered() == ids


def test_a_batch_that_is_refused_when_it_is_made_can_be_corrected(serve, requests):
    provider = serve()
    requests()
    provider.fault("POST /v1/batches", "400")
    with pytest.raises(UserError, match="answers 400"):
        submit(provider)
    ids = requests(12, "--model", "another")
    submit(provider)
    assert answered() == ids and provider.charged == Counter(ids)


def test_a_row_that_is_refused_first_does_not_hold_up_a_resumed_run(serve, requests, capsys):
    provider = serve()
    ids = requests()
    submit(provider, "--mode", "chat", "--limit", "3")
    provider.fault("POST /v1/chat/completions", "400")
    submit(provider, "--mode", "chat", "--max-concurrency", "1")
    assert answered() == ids
    assert "1  failed: http 400" in capsys.readouterr().out


def test_a_call_that_takes_too_long_is_not_paid_again(serve, requests, capsys):
    provider = serve()
    ids = requests(5)
    provider.fault("POST /v1/chat/completions", "slow 1.5", times=1)
    submit(provider, "--mode", "chat", "--timeout", "0.5", "--max-concurrency", "1")
    assert answered() == ids
    assert "1  failed: http 408 (no answer in time: give a longer --timeout)" in (
        capsys.readouterr().out
    )
    time.sleep(1.2)
    assert provider.charged == Counter({f"chat 评论 {n}": 1 for n in range(2, 7)})


def test_an_answer_that_is_no_json_loses_no_other_answer(serve, requests):
    provider = serve()
    ids = requests()
    provider.fault("POST /v1/chat/completions", "slow 0.2", times=4)
    provider.fault("POST /v1/chat/completions", "html", times=1)
    with pytest.raises(UserError, match="no JSON: check --base-url"):
        submit(provider, "--mode", "chat", "--max-concurrency", "5")
    assert len(answered()) == len(provider.charged) - 1
    submit(provider, "--mode", "chat")
    assert answered() == ids


def test_a_row_that_the_provider_refuses_is_a_failure_of_that_row(serve, requests, capsys):
    provider = serve()
    ids = requests()
    submit(provider, "--mode", "chat", "--limit", "3")
    provider.fault("POST /v1/chat/completions", "500", times=4)
    submit(provider, "--mode", "chat", "--max-concurrency", "1")
    assert answered() == ids
    assert "1  failed: http 500" in capsys.readouterr().out
    jsonl_to_csv.main([])
    submit(provider, "--mode", "chat", "--requests-file", str(DATAS / "retry_v2.jsonl"))
    jsonl_to_csv.main([])
    assert not (DATAS / "retry_v2.jsonl").read_bytes()


def test_a_provider_that_is_down_stops_chat_mode_and_keeps_what_came(serve, requests):
    provider = serve()
    ids = requests(60)
    submit(provider, "--mode", "chat", "--limit", "5")
    provider.fault("POST /v1/chat/completions", "503 0.01", times=10**6)
    with pytest.raises(UserError, match="answers 503"):
        submit(provider, "--mode", "chat")
    provider.faults.clear()
    submit(provider, "--mode", "chat")
    assert answered() == ids
    assert len(provider.charged) == 60


def test_chat_mode_labels_by_a_model_on_the_user_s_own_machine(requests, tiny_qwen2, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    ids = requests(6, "--model", tiny_qwen2, "--max-tokens", "4")
    with served(tiny_qwen2) as url:
        submit_batch.main(["--base-url", f"{url}/v1", "--mode", "chat", "--yes"])
    assert answered() == ids
    for line in ANSWERS.read_bytes().splitlines():
        body = json.loads(line)["response"]["body"]
        assert body["object"] == "chat.completion" and body["usage"]["prompt_tokens"] > 100
        assert isinstance(body["choices"][0]["message"]["content"], str)


def refusing(body, message=""):
    """Answer as a server does that refuses requests for `message` (all where it is empty)."""

    def answers(request, times):
        if message in request["custom_id"]:
            return [{"response": {"status_code": 400, "body": body}}]
        return always(1)(request, times)

    return answers


@pytest.mark.parametrize(
    "error",
    [
        {
            "message": "This model's maximum context length is 2048 tokens. However, you requested "
            "7833 tokens (7813 in the messages, 20 in the completion).",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
        },
        {
            "code": 400,
            "message": "request (7813 tokens) exceeds the available context size (2048 tokens)",
            "type": "exceed_context_size_error",
        },
    ],
)
def test_a_comment_longer_than_the_context_fails_alone_also_where_it_is_the_first(
    serve, requests, error
):
    provider = serve(refusing({"error": error}, "评论 2"))
    ids = requests(5)
    submit(provider, "--mode", "chat", "--max-concurrency", "1")
    assert Counter(answered()) == Counter(ids)
    jsonl_to_csv.main([])
    errors = read_csv("pre_process/silver_errors.csv", ["custom_id", "reason"], "jsonl_to_csv.py")
    assert errors["reason"].tolist() == ["context_length_exceeded"]


def test_what_a_local_server_says_of_a_wrong_model_or_address_is_told(serve, requests):
    requests(5)
    provider = serve(refusing({"detail": "Server is pinned to 'a'; requested 'b'."}))
    with pytest.raises(UserError, match="Server is pinned to 'a'; requested 'b'.*with the --model"):
        submit(provider, "--mode", "chat")
    provider.fault("POST /v1/chat/completions", "404", times=5)
    with pytest.raises(UserError, match="no such address or model.*mostly ends in /v1"):
        submit(provider, "--mode", "chat")


def test_a_retry_by_chat_that_is_interrupted_pays_for_no_row_twice(serve, requests):
    provider = serve()
    ids = requests(12, "--max-requests-per-file", "100")
    provider.endings += ["errors only"]
    submit(provider)
    jsonl_to_csv.main([])
    retry = ["--requests-file", str(DATAS / "retry_v2.jsonl"), "--mode", "chat"]
    provider.fault("POST /v1/chat/completions", "slow 0", times=5)
    provider.fault("POST /v1/chat/completions", "401", times=1)
    with pytest.raises(UserError, match="refuses the key"):
        submit(provider, *retry, "--max-concurrency", "1")
    submit(provider, *retry)
    chats = {custom_id: n for custom_id, n in provider.charged.items() if "chat" in custom_id}
    assert len(chats) == 12 and set(chats.values()) == {1}
    assert Counter(map(plain_id, answered())) == Counter(ids * 2)


def test_two_processes_do_not_send_the_same_requests(serve, requests):
    from pipeline.labelling.ledger import open_ledger

    provider = serve()
    requests()
    with (
        open_ledger(STATE, provider.url, f"./{ANSWERS}", "label_sets", ""),
        pytest.raises(UserError, match="another submit_batch.py is at work"),
    ):
        submit(provider)


def test_a_disk_that_knows_no_locks_is_told_in_one_line(serve, requests, monkeypatch):
    def refuse(lock):
        raise OSError(38, "Function not implemented")

    requests()
    monkeypatch.setattr("pipeline.common.lock.FileLock.acquire", refuse)
    with pytest.raises(UserError, match="cannot lock .*Function not implemented"):
        submit(serve())


def test_one_answers_file_may_be_written_in_several_ways(serve, requests):
    provider = serve()
    ids = requests()
    submit(provider, "--limit", "5")
    submit(provider, "--answers-file", str(ANSWERS))
    assert answered() == ids and provider.charged == Counter(ids)


def test_no_file_is_replaced_while_it_is_open(serve, requests, monkeypatch):
    """Windows would refuse."""
    replaced, replace = [], os.replace

    def replace_closed(source, target):
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        opened = {os.readlink(link) for link in links if os.path.exists(link)}
        assert not {str(Path(source).resolve()), str(Path(target).resolve())} & opened
        replaced.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_closed)
    provider = serve()
    ids = requests()
    provider.endings += ["expired"]
    submit(provider)
    jsonl_to_csv.main([])
    submit(provider, "--requests-file", str(DATAS / "retry_v2.jsonl"), "--mode", "chat")
    ANSWERS.write_bytes(b"".join(ANSWERS.read_bytes().splitlines(keepends=True)[::-1]))
    submit(provider)
    jsonl_to_csv.main([])
    assert ids[-1] in map(plain_id, answered())
    assert {ANSWERS.name, STATE.name, "retry_v2.jsonl", "labeled_v2.csv"} <= set(replaced)


def test_the_teacher_s_agreement_with_itself_is_reported_and_voted_on(serve, requests, capsys):
    def answers(request, times):
        again = "--repeat-" in request["custom_id"]
        fourth = request["body"]["messages"][-1]["content"] == "评论 4"
        return always(2 if again and fourth else 1)(request, 1)

    provider = serve(answers)
    requests()
    submit(provider)
    for times in ("1", "3"):
        submit(provider, "--repeat", times, "--repeat-rows", "12", "--max-requests-per-file", "5")
    assert len(provider.charged) == sum(provider.charged.values()) == 12 + 36
    jsonl_to_csv.main([])
    out = capsys.readouterr().out
    assert "12 rows were labelled more than once: all labels of 11 agree (91.7%), and 95.8%" in out
    jsonl_to_csv.main(["--majority-vote"])
    labels = read_csv("pre_process/labeled_v2.csv", ["class"], "x").set_index("custom_id")
    assert labels["class"]["row-4"] == "2" and labels["class"]["row-3"] == "1"


@pytest.mark.slow
def test_75_000_requests_in_15_shards_with_two_kills_are_paid_once(serve, start, codebook):
    messages = ["一条评论" * 12 + f" row-{n}" for n in range(2, 75_002)]
    ids = request_ids(label_set_of(codebook.text, "m"), messages)
    template = json.dumps(
        {
            "custom_id": "ID",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "m",
                "messages": [
                    {"role": "system", "content": codebook.text},
                    {"role": "user", "content": "COMMENT"},
                ],
                "max_tokens": 20,
            },
        },
        ensure_ascii=False,
    )
    write_shards(
        (
            template.replace("ID", custom_id).replace("COMMENT", message)
            for custom_id, message in zip(ids, messages, strict=True)
        ),
        DATAS / "inf_batch_v2.jsonl",
        5000,
        10**9,
    )
    provider = serve(polls=2)
    gate, peak = Gate(provider), 0
    for calls, pattern, states in (
        (1, "POST /v1/batches", {"creating", "in_queue"}),
        (1, "GET /v1/files/.*/content", {"collected", "in_progress"}),
    ):
        gate.open(calls, pattern)
        process = start(provider)
        gate.wait_for(lambda: gate.held)
        assert states <= {job["status"] for job in jobs()}
        peak = max(peak, memory_of(process.pid))
        process.kill()
        process.join()
    gate.open(math.inf)
    process = start(provider)
    while process.is_alive():
        peak = max(peak, memory_of(process.pid))
        process.join(0.01)
    assert process.exitcode == 0
    assert answered() == ids
    assert provider.charged == Counter(ids)
    assert len(provider.batches) == 15 and [job["rows"] for job in jobs()] == [5000] * 15
    assert 50 < peak < 250, f"{peak:.0f} MiB"


def test_an_answers_file_without_room_ends_with_a_whole_line_and_the_same_command_goes_on(
    serve, requests, capsys
):
    provider, ids = serve(), requests(60, "--max-requests-per-file", "60")
    with pytest.raises(UserError) as error, file_size_limit(5_000):
        submit(provider, "--mode", "chat", "--max-concurrency", "1")
    assert f"cannot write {ANSWERS} (File too large): it is larger than" in str(error.value)
    kept = answered()
    assert kept == ids[: len(kept)] and 0 < len(kept) < 60
    assert ANSWERS.read_bytes().endswith(b"\n")
    submit(provider, "--mode", "chat")
    assert answered() == ids
    assert sum(provider.charged.values()) == 61, "the one that had no room is asked again"
