"""What several test modules use: a codebook, small files, tiny models."""

import os
import sys

if "gpu" not in sys.argv:  # pytest -m gpu
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the exactness tests compare float32 on the CPU

import json
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pandas as pd
import pytest

from pipeline.common.codebook import read_codebook
from pipeline.common.files import write_csv
from pre_process.sample.provider import Provider, always

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Run every test in a folder of its own, so that no default path touches the project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompt.txt").write_bytes((ROOT / "prompt.txt").read_bytes())


@pytest.fixture(scope="session", autouse=True)
def in_float32():
    """Compute in float32 on any CPU: the tests compare exactly."""
    from pipeline.common import machine as runtime

    runtime.cpu_has_bf16 = lambda: False


@pytest.fixture
def codebook():
    return read_codebook("prompt.txt")


@pytest.fixture
def write_rows():
    """Write rows of (custom_id, message, class) as the CSV between the steps."""

    def write(path, rows):
        write_csv(pd.DataFrame(rows, columns=["custom_id", "message", "class"]), path)
        return str(path)

    return write


@pytest.fixture
def serve():
    """Return a function that starts a provider on loopback."""
    started = []

    def start(answers=None, **settings):
        provider = Provider(answers or always(1), **settings)
        threading.Thread(target=provider.serve_forever, args=(0.01,), daemon=True).start()
        started.append(provider)
        return provider

    yield start
    for provider in started:
        provider.shutdown()
        provider.server_close()


open_url = build_opener(ProxyHandler({})).open


@contextmanager
def served(model, *options):
    """Serve a model's folder by `transformers serve` on loopback; yield the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", model, *options]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with Path("serve.log").open("w") as log:
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(600):
            try:
                open_url(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                assert server.poll() is None, Path("serve.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def answer_line(custom_id, content, finish_reason="stop"):
    """Return an answer in the batch format."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "finish_reason": finish_reason,
    }
    body = {"object": "chat.completion", "choices": [choice]}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return json.dumps({"custom_id": custom_id, "response": response, "error": None})


@pytest.fixture(scope="session")
def tiny_codebook(tmp_path_factory):
    """Return the path of a copy of the codebook that outlives a test."""
    path = tmp_path_factory.mktemp("codebook") / "prompt.txt"
    path.write_bytes((ROOT / "prompt.txt").read_bytes())
    return str(path)


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory, tiny_codebook):
    """Build a Qwen2 with a few steps of pre-training; return its folder."""
    from pre_process.sample.comments import generate_comments
    from pre_process.sample.tiny_qwen2 import build_qwen2

    folder = tmp_path_factory.mktemp("models") / "Qwen2-tiny"
    comments = generate_comments(400, seed=1)
    codebook = read_codebook(tiny_codebook)
    build_qwen2(folder, codebook, comments, hidden_size=64, num_layers=2, pretrain_steps=20)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """Build a BERT with a few steps of pre-training; return its folder."""
    from pre_process.sample.comments import generate_comments
    from pre_process.sample.tiny_bert import build_bert

    folder = tmp_path_factory.mktemp("models") / "bert-tiny"
    comments = generate_comments(400, seed=1)
    build_bert(folder, comments, hidden_size=64, num_layers=2, pretrain_steps=20)
    return str(folder)
