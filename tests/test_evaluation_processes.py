"""Evaluation by two processes, as torchrun starts them: what they write is one process's."""

import importlib
import json
import os
import re
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from conftest import ROOT, write_splits

import bert_tune
import label_audit
from pipeline.common import processes
from pipeline.common.cli import UserError, run
from pipeline.models import in_batches

DRIVER = '''
"""Run scripts one after the other, the last with too small a memory in the second process."""
import importlib
import json
import sys
from pathlib import Path

import torch

from pipeline.bert import encoder
from pipeline.common import machine, processes
from pipeline.common.cli import run


def too_large(output, mask):
    raise torch.OutOfMemoryError("CUDA out of memory.")


def main():
    machine.cpu_has_bf16 = lambda: False
    processes.SECONDS_TO_END = 1
    *calls, going_on, failing = json.loads(Path("calls.json").read_text(encoding="utf-8"))
    for script, argv in [*calls, going_on]:
        importlib.import_module(script).main(argv)
    if processes.process_index() == 1:
        encoder.logits_of = too_large
    importlib.import_module(failing[0]).main(failing[1])


run(main)
'''
MEASURED = r"seconds|rows_per_second|processes|(Speed|device): .*|.*rows/s"  # what may differ


def calls_of(data, llm, bert, tuned):
    """Return the scripts and their arguments: the last but one is to go on, the last to fail."""
    causal = ["--model-path", llm, "--no-load-in-4bit", "--test-file", f"{data}/test.csv"]
    encoder = ["--test-file", f"{data}/test.csv", "--batch-size", "7", "--max-length", "64"]
    probe = [*encoder, "--model-path", bert, "--train-file", f"{data}/train.csv"]
    after = [*encoder, "--tuned-path", f"{tuned}/final_model"]
    score = [*causal, "--decoding", "score", "--max-tokens-per-pack", "700"]
    reply = [*causal, "--decoding", "generate", "--batch-size", "4", "--max-new-tokens", "5"]
    audit = ["--labeled-file", f"{data}/train.csv", "--splits-dir", "", "--folds", "2"]
    sheet = ["--excel-file", f"{data}/test.csv", "--text-column", "message", "--batch-size", "7"]
    sheet += ["--model", f"{tuned}/final_model", "--labels-file", f"{data}/train.csv"]
    return [
        ("local_inference", [*score, "--output-dir", "scored"]),
        ("local_inference", [*score, "--max-test-samples", "1", "--output-dir", "of-one-row"]),
        ("local_inference", [*reply, "--output-dir", "replies"]),
        ("bert_eval", [*probe, "--output-dir", "probe"]),
        ("bert_tune_eval", [*after, "--output-dir", "tuned"]),
        ("bert_inference_compare", [*probe, *after, "--output-dir", "compared"]),
        (
            "code_comments",
            [
                *sheet,
                "--check-below",
                "0.5",
                "--output-dir",
                "coded",
                "--output-file",
                "coded/{name}_coded{suffix}",
            ],
        ),
        ("label_audit", [*audit, "--model-path", bert, "--audit-dir", "audit"]),
        ("local_inference", [*reply, "--output-dir", "going-on"]),
        ("bert_eval", [*probe, "--untrained-head", "--output-dir", "failed"]),
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory, tiny_qwen2, tiny_bert, tiny_codebook):
    """Run all scripts in one process and in two; return the folders, and how the two ended.

    The two go on with a run of one process that was interrupted.
    """
    data = write_splits(tmp_path_factory.mktemp("data"), 4, train=80, validation=20, test=23)
    tuned = tmp_path_factory.mktemp("tuned") / "bert"
    bert_tune.main(
        ["--model-path", tiny_bert, "--output-dir", str(tuned), "--num-train-epochs", "1"]
        + ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
        + ["--max-length", "64", "--prompt-file", tiny_codebook]
    )
    folders = [tmp_path_factory.mktemp("processes") / name for name in ("one", "two")]
    calls = calls_of(data, tiny_qwen2, tiny_bert, tuned)
    for folder in folders:
        folder.mkdir()
        (folder / "prompt.txt").write_bytes(Path(tiny_codebook).read_bytes())
        (folder / "calls.json").write_text(json.dumps(calls), encoding="utf-8")
        (folder / "driver.py").write_text(DRIVER, encoding="utf-8")
    one, two = folders

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with chdir(one), redirect_stdout(StringIO()) as said, redirect_stderr(StringIO()) as bars:
        for script, argv in calls[:-2]:
            importlib.import_module(script).main(argv)
    (one / "said.txt").write_text(said.getvalue(), encoding="utf-8")
    (one / "bars.txt").write_text(bars.getvalue(), encoding="utf-8")
    with chdir(two), pytest.MonkeyPatch.context() as within, pytest.raises(KeyboardInterrupt):
        within.setattr(in_batches, "unless_out_of_memory", interrupted_after(2))
        importlib.import_module(calls[-2][0]).main(calls[-2][1])
    torch.set_num_threads(threads)

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "driver.py"], cwd=two, env=environment, capture_output=True, text=True
    )
    return one, two, done


def interrupted_after(batches):
    """Return what computes so many batches and is interrupted then."""
    left = iter(range(batches))

    def compute(function, rows):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(rows)

    return compute


def without_measures(value):
    """Return a JSON value without what two runs cannot have in common."""
    if isinstance(value, dict):
        return {
            key: without_measures(part)
            for key, part in value.items()
            if not re.fullmatch(MEASURED, key)
        }
    return [without_measures(part) for part in value] if isinstance(value, list) else value


def lines_of(text):
    """Return the lines of a text that hold no speed."""
    return [line for line in text.splitlines() if not re.match(MEASURED, line)]


@pytest.mark.parametrize(
    "name", ["scored", "of-one-row", "replies", "probe", "tuned", "compared", "coded", "audit"]
)
def test_two_processes_write_what_one_does(both, name):
    one, two = both[0] / name, both[1] / name
    names = sorted(path.name for path in one.iterdir() if path.name[0] != ".")
    assert names == sorted(path.name for path in two.iterdir() if path.name[0] != ".")
    assert len(names) >= 2, both[2].stderr
    for file in names:
        values = [folder / file for folder in (one, two)]
        if file.endswith(".json"):
            first, second = [without_measures(json.loads(path.read_bytes())) for path in values]
        elif file.endswith(".txt"):
            first, second = [lines_of(path.read_text(encoding="utf-8")) for path in values]
        elif file.endswith(".xlsx"):
            continue  # holds the time at which it was written
        else:
            first, second = [path.read_bytes() for path in values]
        assert first == second, file


def test_the_record_says_how_many_processes_there_were(both):
    for folder, number in zip(both[:2], (1, 2), strict=True):
        assert json.loads((folder / "scored/metrics.json").read_bytes())["processes"] == number
    text = (both[1] / "scored/report.txt").read_text(encoding="utf-8")
    assert " rows/s, 2 processes, each on CPU" in text


def test_the_main_process_prints_for_all_with_a_progress_bar_of_all_rows(both):
    one, _, done = both
    said = lines_of((one / "said.txt").read_text(encoding="utf-8"))
    assert lines_of(done.stdout)[: len(said)] == said
    bars = re.compile(r" 0/(\d+) \[")
    alone = bars.findall((one / "bars.txt").read_text(encoding="utf-8"))
    assert bars.findall(done.stderr) == [*alone, "23"]  # and that of the run that fails
    finished = re.compile(r" (\d+)/\1 \[")
    assert set(finished.findall(done.stderr)) == set(alone)


def test_an_error_in_one_process_ends_all_with_its_line_and_no_results(both):
    _, two, done = both
    assert done.returncode != 0
    line = "driver.py: the memory is too small for a single row: give a smaller --max-length\n"
    assert done.stderr.count(line) == 1
    assert [path.name for path in (two / "failed").iterdir()] == ["unfinished"]


def test_two_processes_go_on_with_what_one_has_left(both):
    one, two, done = both
    assert "replies: 8 of 23 rows were there from a run that was interrupted" in done.stdout
    name = "predictions.csv"
    assert (two / "going-on" / name).read_bytes() == (one / "replies" / name).read_bytes()
    texts = [
        (folder / "report.txt").read_text("utf-8") for folder in (two / "going-on", one / "replies")
    ]
    assert lines_of(texts[0]) == lines_of(texts[1])


def test_one_process_goes_on_with_what_two_have_left(both, monkeypatch, capsys):
    _, two, _ = both
    script, argv = json.loads((two / "calls.json").read_bytes())[-1]
    monkeypatch.chdir(two)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    importlib.import_module(script).main(argv)
    there = "probabilities before: {} of 23 rows were there from a run that was interrupted"
    assert there.format(14) in capsys.readouterr().out  # the first process had two batches of 7
    importlib.import_module(script).main([*argv[:-1], "failed-never"])
    torch.set_num_threads(threads)
    texts = [(two / name / "predictions.csv").read_bytes() for name in ("failed", "failed-never")]
    assert texts[0] == texts[1]
    assert not (two / "failed/unfinished").exists()


def test_an_error_that_all_processes_come_to_is_said_by_the_main_one(monkeypatch, capsys):
    def mistaken():
        raise UserError("rows.csv not found")

    waited = []
    monkeypatch.setattr(processes.time, "sleep", waited.append)
    monkeypatch.setattr(sys, "argv", ["some_step.py"])
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with monkeypatch.context() as within, pytest.raises(SystemExit, match="some_step.py: rows"):
            within.setattr(sys, "stdout", sys.stdout)
            run(mistaken)
    assert waited == [processes.SECONDS_TO_END]


def test_an_audit_that_trains_is_refused_in_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--audit-method tune trains in one process"):
        label_audit.main(["--audit-method", "tune"])
