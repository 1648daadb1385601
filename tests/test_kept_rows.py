"""Finished rows are kept: a run that was killed goes on, and its results are those of one run."""

import importlib
import json
from pathlib import Path

import pytest
from conftest import write_splits

import bert_tune
from pipeline.models import in_batches

MEASURED = ("seconds", "rows_per_second", "output_dir", "audit_dir")
THERE = "{}: {} of {} rows were there from a run that was interrupted"


class Killed(BaseException):
    """What no code of the project catches."""


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_bert, tiny_codebook):
    """Write splits and fine-tune a BERT; return their folders."""
    folder = write_splits(tmp_path_factory.mktemp("data"), 4, train=80, validation=20, test=23)
    tuned = tmp_path_factory.mktemp("tuned") / "bert"
    bert_tune.main(
        ["--model-path", tiny_bert, "--output-dir", str(tuned), "--num-train-epochs", "1"]
        + ["--train-file", f"{folder}/train.csv", "--validation-file", f"{folder}/validation.csv"]
        + ["--max-length", "64", "--prompt-file", tiny_codebook]
    )
    return folder, tuned / "final_model"


@pytest.fixture
def call(data, tiny_qwen2, tiny_bert):
    """Return a function that runs an evaluation by name, into a folder, with further options."""
    folder, tuned = data
    causal = ["--model-path", tiny_qwen2, "--no-load-in-4bit", "--test-file", f"{folder}/test.csv"]
    encoder = ["--test-file", f"{folder}/test.csv", "--batch-size", "7", "--max-length", "64"]
    probe = [*encoder, "--model-path", tiny_bert, "--train-file", f"{folder}/train.csv"]
    after = [*encoder, "--tuned-path", str(tuned)]
    audit = ["--labeled-file", f"{folder}/train.csv", "--splits-dir", "", "--folds", "2"]
    audit += ["--model-path", tiny_bert, "--batch-size", "16", "--max-length", "64"]
    reply = ["--decoding", "generate", "--batch-size", "4", "--max-new-tokens", "5"]
    calls = {
        "scores": ("local_inference", [*causal, "--decoding", "score"]),
        "replies": ("local_inference", [*causal, *reply]),
        "probe": ("bert_eval", probe),
        "classifier": ("bert_tune_eval", after),
        "comparison": ("bert_inference_compare", [*probe, *after, "--untrained-head"]),
        "audit": ("label_audit", audit),
        "folds": ("label_audit", [*audit, "--audit-method", "tune", "--tuned-path", str(tuned)]),
    }

    def start(name, output, *more):
        script, argv = calls[name]
        where = "--audit-dir" if script == "label_audit" else "--output-dir"
        importlib.import_module(script).main([*argv, where, output, *more])

    return start


@pytest.fixture
def batches(monkeypatch):
    """Count the batches that are computed; `batches.kill_after(n)` ends a run after n of them."""
    return Batches(monkeypatch)


class Batches:
    def __init__(self, monkeypatch):
        self.computed, self.left = [], None
        self.compute = in_batches.unless_out_of_memory
        monkeypatch.setattr(in_batches, "unless_out_of_memory", self)

    def __call__(self, compute, rows):
        if self.left == 0:
            raise Killed
        self.left = None if self.left is None else self.left - 1
        found = self.compute(compute, rows)
        if found is not None:
            self.computed.append(tuple(rows))
        return found

    def kill_after(self, number, run, *arguments):
        """Run something until so many batches are done; return those."""
        self.left, self.computed = number, []
        with pytest.raises(Killed):
            run(*arguments)
        self.left = None
        return self.of(lambda: None)

    def of(self, run, *arguments):
        """Run something; return the batches that were computed since the last call."""
        run(*arguments)
        computed, self.computed = self.computed, []
        return computed


def results(folder):
    """Return what a run's folder holds, times and its own name aside."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix == ".json":
            found[path.name] = without_times(json.loads(path.read_bytes()))
        elif path.suffix == ".txt":
            text = path.read_text(encoding="utf-8")
            lines = [line for line in text.splitlines() if "rows/s" not in line]
            found[path.name] = [line for line in lines if not line.startswith("Speed: ")]
        elif path.suffix != ".xlsx":  # holds the time at which it was written
            found[path.name] = path.read_bytes()
    return found


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in MEASURED}
    return [without_times(part) for part in value] if isinstance(value, list) else value


RUNS = [  # a run, the batches it has, and what is said when it goes on after two of them
    ("scores", 2, ["scores: {} of 23"]),
]


@pytest.mark.parametrize(
    ("name", "done"),
    [("scores", 2), ("replies", 3), ("probe", 13), ("classifier", 2), ("comparison", 5)],
)
def test_a_killed_run_goes_on_with_the_results_of_one_that_was_not(
    name, done, call, batches, capsys
):
    more = ["--max-tokens-per-pack", "700"] if name == "scores" else []
    every = batches.of(call, name, "whole", *more)
    assert len(every) > done
    first = batches.kill_after(done, call, name, "killed", *more)
    second = batches.of(call, name, "killed", *more)
    assert first + second == every, "no batch is computed twice, and each as in one run"
    assert results("killed") == results("whole")
    assert "rows were there from a run that was interrupted" in capsys.readouterr().out
