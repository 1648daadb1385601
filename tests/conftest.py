"""What several test modules use: a codebook, small files, tiny models."""

import os
import sys

if "gpu" not in sys.argv:  # pytest -m gpu
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the exactness tests compare float32 on the CPU
    os.environ["ACCELERATE_USE_CPU"] = "1"  # also where the GPU is Apple's
if "PYTEST_XDIST_WORKER" in os.environ:  # pytest -n 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import ast
import json
import re
import resource
import subprocess
import threading
import time
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pandas as pd
import pytest

from pipeline.common.codebook import read_codebook
from pipeline.common.tables import write_csv
from pipeline.labelling.requests import read_requests
from pipeline.labelling.shards import request_files
from pre_process.sample.comments import generate_comments
from pre_process.sample.provider import Provider, always

ROOT = Path(__file__).resolve().parent.parent


# `make quick` runs the tests without the marker torch. It is set here for test modules that import
# one of these and for tests that use a model; a test that comes to torch otherwise sets it itself.
COMPUTES = ("benchmarks", "peft", "pipeline.bert", "pipeline.llm", "torch", "transformers")
MODELS = {"tiny_bert", "tiny_qwen2"}


@cache
def computes(path):
    """Return whether a test module imports, at its top, what imports torch."""
    names = []
    for node in ast.parse(path.read_bytes(), path).body:
        if isinstance(node, ast.ImportFrom):
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return any(f"{name}.".startswith(f"{heavy}.") for name in names for heavy in COMPUTES)


class TorchRefused:
    """Find torch, but stop a test that imports it without the marker, at the line that does."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return ModuleSpec(name, cls) if name == "torch" else None

    @staticmethod
    def create_module(spec):
        raise ImportError("a test that imports torch needs the marker torch: see conftest.py")

    @staticmethod
    def exec_module(module):
        """Be asked for by importlib, and never called."""


def without_torch(config):
    return "not torch" in config.option.markexpr


def pytest_configure(config):
    if without_torch(config):
        sys.meta_path.insert(0, TorchRefused)


def pytest_ignore_collect(collection_path, config):
    if without_torch(config) and collection_path.suffix == ".py" and computes(collection_path):
        return True


def pytest_itemcollected(item):
    if computes(item.path) or MODELS & set(item.fixturenames):
        item.add_marker("torch")


@pytest.fixture(scope="session", autouse=True)
def in_float32(request):
    """Compute in float32 on any CPU, as the tests compare exactly; import torch only to compute."""
    if any(item.get_closest_marker("torch") for item in request.session.items):
        from pipeline.common import machine

        machine.cpu_has_bf16 = lambda: False
    elif TorchRefused not in sys.meta_path:
        sys.meta_path.insert(0, TorchRefused)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Run every test in a folder of its own, so that no default path touches the project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompt.txt").write_bytes((ROOT / "prompt.txt").read_bytes())


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


def write_splits(folder, seed, **sizes):
    """Write generated comments as a CSV of so many rows for each split; return the folder."""
    comments = generate_comments(sum(sizes.values()), seed)
    rows = pd.DataFrame(comments, columns=["message", "class"])
    rows.insert(0, "custom_id", [f"row-{n}" for n in range(2, len(rows) + 2)])
    for name, size in sizes.items():
        write_csv(rows[:size], folder / f"{name}.csv")
        rows = rows[size:]
    return folder


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


@contextmanager
def file_size_limit(size):
    """Let no file grow beyond so many bytes, as the system sees to it: like a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


open_url = build_opener(ProxyHandler({})).open


@contextmanager
def served(model, *options):
    """Serve a model's folder by `transformers serve` on loopback; yield the address."""
    command = [Path(sys.executable).with_name("transformers"), "serve", model, *options]
    command += ["--host", "127.0.0.1", "--port", "0"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    said = Path("serve.log")
    with said.open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        while not (
            running := re.search(r"running on (http://[\d.:]+)", said.read_text(encoding="utf-8"))
        ):
            assert server.poll() is None, said.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield running[1]
    finally:
        server.terminate()
        server.wait()


def request_ids_of(path="pre_process/datas/inf_batch_v2.jsonl"):
    """Return the ids of the requests in a file and its shards, in their order."""
    return [request.custom_id for request in read_requests(request_files(path))]


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
