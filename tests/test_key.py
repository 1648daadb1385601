"""The provider's key: in no file, in no line on the screen, in no traceback, in no process list."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, request_ids_of

import batch_infer_gen
import jsonl_to_csv
import submit_batch
from pipeline.common.cli import UserError

KEY = "sk-nobody-may-ever-see-this-0123456789"
ANSWERS = Path("pre_process/datas/silver_label_v2.jsonl")
# The real script; what is to go wrong in it stands between.
START = "import submit_batch; from pipeline.common.cli import run; {}; run(submit_batch.main)"
CRASH = "import pipeline.labelling.{0} as m; m.{1} = lambda client, *rest: client.no_such_thing"


@pytest.fixture(autouse=True)
def requests(write_rows):
    rows = [(f"row-{n}", f"评论 {n}", -1) for n in range(2, 8)]
    write_rows("pre_process/datas/simple.csv", rows)
    batch_infer_gen.main(["--max-requests-per-file", "3"])
    return request_ids_of()


def start(url, *argv, before="0"):
    """Start submit_batch.py with the key in its environment and all that it can say."""
    code = START.format(before)
    command = [sys.executable, "-c", code, "--base-url", url, "--poll-seconds", "0.01", "--yes"]
    command += ["--max-retries", "1", "--timeout", "5", "--wait-for-rows", "0.02", *argv]
    environment = os.environ | {
        "OPENAI_API_KEY": KEY,
        "OPENAI_LOG": "debug",
        "PYTHONPATH": str(ROOT),
        "PYTHONFAULTHANDLER": "1",
    }
    environment.pop("SILICONFLOW_API_KEY", None)
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def files():
    return [path for path in Path.cwd().rglob("*") if path.is_file()]


def said_by(process):
    """Wait for the script; return its exit status and what it said, once no key is found."""
    said = process.communicate(timeout=60)[0]
    assert KEY not in said
    assert "openai._base_client" in said  # the log was on
    assert len(files()) > 3
    assert [path for path in files() if KEY.encode() in path.read_bytes()] == []
    return process.returncode, said


class Echo(BaseHTTPRequestHandler):
    """Answer chat completions, and quote the key in all that the provider says.

    `server.failing` says which requests fail, with `server.status`; `server.to`, if any, is where
    all calls are sent on to. `server.keys` are the keys that came.
    """

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        key = self.headers.get("Authorization", "")
        self.server.keys.append(key)
        status, location = 200, []
        reply = {"id": key, "choices": [{"message": {"content": f"[1] {key}"}}], "model": key}
        if self.server.to:
            status, location = 307, [("Location", self.server.to + self.path)]
        elif self.server.failing in content:
            status = self.server.status
            error = {"code": "content_filter", "message": f"no {key}", "param": key, "key": [key]}
            reply = {"error": error, "detail": key}
        body = json.dumps(reply).encode()
        self.send_response(status)
        for name, value in [*location, ("x-key", key), ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def echo():
    """Return a function that starts a provider which quotes the key."""
    servers = []

    def listen(failing="no such request", status=400, to=""):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        server.failing, server.status, server.to, server.keys = failing, status, to, []
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield listen
    for server in servers:
        server.shutdown()
        server.server_close()


def test_while_batches_are_sent_and_fetched_the_key_is_in_no_process_list(serve, requests):
    provider = serve()
    provider.fault("POST /v1/batches", "slow 0.5")
    process = start(provider.url)
    listed = []
    while process.poll() is None and not provider.batches:
        with suppress(psutil.NoSuchProcess):  # it ends while it is looked at
            this = psutil.Process(process.pid)
            listed += [" ".join(each.cmdline()) for each in (this, *this.children(recursive=True))]
    status, said = said_by(process)
    assert status == 0, said
    assert any("submit_batch" in line for line in listed)
    assert not any(KEY in line for line in listed)
    assert [json.loads(line)["custom_id"] for line in ANSWERS.open("rb")] == requests


def test_an_answer_or_a_failure_that_quotes_the_key_is_kept_without_it(echo, requests):
    provider = echo(failing="评论 5")
    status, said = said_by(start(provider.url, "--mode", "chat", "--max-concurrency", "1"))
    assert status == 0, said
    assert set(provider.keys) == {f"Bearer {KEY}"}
    lines = ANSWERS.read_bytes().splitlines()
    assert len(lines) == 6 and all(b"Bearer [key]" in line for line in lines)
    jsonl_to_csv.main([])
    assert [path for path in files() if KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("mode", ["batch", "chat"])
def test_a_refusal_that_quotes_the_key_is_told_without_it(echo, mode):
    status, said = said_by(start(echo(failing="", status=401).url, "--mode", mode))
    assert status == 1
    assert "refuses the key (no Bearer [key]): check the key" in said


def test_a_provider_that_is_not_there_is_told_without_the_key():
    status, said = said_by(start("http://127.0.0.1:9/v1"))
    assert status == 1 and "cannot be reached" in said


@pytest.mark.parametrize(
    ("mode", "place"), [("batch", ("batch_calls", "_upload")), ("chat", ("send_singly", "_send"))]
)
def test_a_traceback_does_not_show_the_key(echo, mode, place):
    before = CRASH.format(*place) + "; import logging; logging.getLogger('openai._base_client')"
    before += ".debug('on')"
    status, said = said_by(start(echo().url, "--mode", mode, before=before))
    assert status == 1
    assert "Traceback" in said and "AttributeError: 'OpenAI' object has no attribute" in said


def test_another_host_that_the_provider_sends_on_to_gets_no_key(echo):
    other = echo()
    first = echo(to=other.url.removesuffix("/v1").replace("127.0.0.1", "localhost"))
    status, said = said_by(start(first.url, "--mode", "chat"))
    assert status == 0, said
    assert set(first.keys) == {f"Bearer {KEY}"} and set(other.keys) == {""}


@pytest.mark.parametrize(
    "address",
    [
        "https://{}@api.example.com/v1",
        "https://me:{}@api.example.com/v1",
        "https://api.example.com/v1?key={}",
        "https://api.example.com/v1#{}",
    ],
)
def test_a_key_in_the_address_is_refused_as_the_address_is_written_down(monkeypatch, address):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with pytest.raises(UserError, match="give the key by `export OPENAI_API_KEY=") as error:
        submit_batch.main(["--base-url", address.format(KEY), "--yes"])
    assert KEY not in str(error.value)
    assert [path for path in files() if KEY in path.read_text("utf-8")] == []


def test_a_word_that_is_no_secret_is_left_in_the_answers(serve, requests, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "1")  # for a server that asks for none
    submit_batch.main(["--base-url", serve().url, "--poll-seconds", "0.01", "--yes"])
    assert [json.loads(line)["custom_id"] for line in ANSWERS.open("rb")] == requests
