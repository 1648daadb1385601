"""Finished rows are kept: a run that was killed goes on, and its results are those of one run."""

import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, write_splits

import bert_tune
from pipeline.audit import probabilities
from pipeline.common.cli import UserError
from pipeline.llm import generating, scoring
from pipeline.models import in_batches, kept_rows, weights
from pipeline.models.in_batches import compute_in_batches
from pipeline.models.kept_lines import line_of, read_lines
from pipeline.models.kept_rows import keeping_rows
from pipeline.models.weights import content_sha256

OWN = ("seconds", "rows_per_second", "output_dir", "audit_dir")  # what two runs may not share
BATCHES = [[3, 0, 5], [1, 4, 9], [2, 7, 8], [6]]
THERE = "squares: {} of 10 rows were there from a run that was interrupted"


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
def arguments(data, tiny_qwen2, tiny_bert):
    """Return name -> script and options of an evaluation."""
    folder, tuned = data
    causal = ["--model-path", tiny_qwen2, "--no-load-in-4bit", "--test-file", f"{folder}/test.csv"]
    encoder = ["--test-file", f"{folder}/test.csv", "--batch-size", "7", "--max-length", "64"]
    probe = [*encoder, "--model-path", tiny_bert, "--train-file", f"{folder}/train.csv"]
    after = [*encoder, "--tuned-path", str(tuned)]
    score = [*causal, "--decoding", "score", "--max-tokens-per-pack", "700"]
    reply = [*causal, "--decoding", "generate", "--batch-size", "4", "--max-new-tokens", "5"]
    audit = ["--labeled-file", f"{folder}/train.csv", "--splits-dir", "", "--folds", "2"]
    audit += ["--model-path", tiny_bert, "--batch-size", "16", "--max-length", "64"]
    return {
        "scores": ("local_inference", score),
        "replies": ("local_inference", reply),
        "probe": ("bert_eval", probe),
        "classifier": ("bert_tune_eval", after),
        "comparison": ("bert_inference_compare", [*probe, *after, "--untrained-head"]),
        "audit": ("label_audit", audit),
        "folds": ("label_audit", [*audit, "--audit-method", "tune", "--tuned-path", str(tuned)]),
    }


@pytest.fixture
def call(arguments):
    """Return a function that runs an evaluation by name into a folder, with further options."""

    def start(name, output, *more):
        script, argv = arguments[name]
        where = "--audit-dir" if script == "label_audit" else "--output-dir"
        importlib.import_module(script).main([*argv, where, output, *more])

    return start


class Batches:
    """The batches that are computed; a run may be killed after so many of them."""

    def __init__(self, compute):
        self.computed, self.left, self.compute = [], None, compute

    def __call__(self, compute, rows):
        if self.left == 0:
            raise Killed
        found = self.compute(compute, rows)
        if found is not None:
            self.computed.append(tuple(rows))
            self.left = self.left and self.left - 1
        return found

    def of(self, run, *arguments):
        """Run something; return the batches that were computed."""
        self.computed, self.left = [], None
        run(*arguments)
        return self.computed

    def killed(self, number, run, *arguments):
        """Run something until so many batches are done; return those."""
        self.computed, self.left = [], number
        with pytest.raises(Killed):
            run(*arguments)
        self.left = None
        return self.computed


@pytest.fixture
def batches(monkeypatch):
    counted = Batches(in_batches.unless_out_of_memory)
    monkeypatch.setattr(in_batches, "unless_out_of_memory", counted)
    return counted


def results(folder):
    """Return what a run's folder holds, but for times and its own name."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix == ".json":
            found[path.name] = without_own(json.loads(path.read_bytes()))
        elif path.suffix == ".txt":
            lines = path.read_text(encoding="utf-8").splitlines()
            found[path.name] = [line for line in lines if "rows/s" not in line]
        elif path.suffix != ".xlsx":  # holds the time at which it was written
            found[path.name] = path.read_bytes()
    return found


def without_own(value):
    if isinstance(value, dict):
        return {key: without_own(part) for key, part in value.items() if key not in OWN}
    return [without_own(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("name", "done", "there"),
    [
        ("scores", 2, ["scores: 13 of 23"]),
        ("replies", 3, ["replies: 12 of 23"]),
        ("probe", 5, ["features of training rows: 35 of 80"]),
        ("probe", 13, ["features of training rows: 80 of 80", "features of test rows: 7 of 23"]),
        ("classifier", 2, ["probabilities after: 14 of 23"]),
        ("comparison", 5, ["probabilities after: 23 of 23", "probabilities before: 7 of 23"]),
        ("audit", 3, ["features: 48 of 80"]),
    ],
)
def test_a_killed_run_goes_on_and_has_the_results_of_one_that_was_not(
    name, done, there, call, batches, capsys
):
    every = list(batches.of(call, name, "whole"))
    first = list(batches.killed(done, call, name, "killed"))
    assert [path.name for path in Path("killed").iterdir()] == ["unfinished"]
    capsys.readouterr()
    assert first + batches.of(call, name, "killed") == every, "each batch once, and as in one run"
    assert results("killed") == results("whole")
    said = [line for line in capsys.readouterr().out.splitlines() if "were there" in line]
    assert said == [f"{line} rows were there from a run that was interrupted" for line in there]


def test_a_fold_that_was_tuned_is_not_tuned_again(call, monkeypatch, capsys):
    call("folds", "whole")
    tuned, fine_tune = [], probabilities.fine_tuned

    def counted(*arguments):
        tuned.append(arguments)
        if len(tuned) == 2:
            raise Killed
        return fine_tune(*arguments)

    monkeypatch.setattr(probabilities, "fine_tuned", counted)
    with pytest.raises(Killed):
        call("folds", "killed")
    capsys.readouterr()
    call("folds", "killed")
    assert len(tuned) == 3
    assert "fold 1: " in capsys.readouterr().out
    assert results("killed") == results("whole")


def test_a_run_that_was_killed_while_it_wrote_its_results_computes_no_row_again(
    call, batches, monkeypatch
):
    def kill(*_):
        raise Killed

    call("scores", "whole")
    with monkeypatch.context() as within, pytest.raises(Killed):
        within.setattr("pipeline.evaluation.run.write_json", kill)
        call("scores", "killed")
    assert batches.of(call, "scores", "killed") == []
    assert results("killed") == results("whole")


DRIVER = """
import os
import signal
import sys

import torch

import local_inference
from pipeline.common import machine
from pipeline.models import kept_rows

done, append = [], kept_rows.KeptPart.append


def append_and_die(part, line):
    append(part, line)
    done.append(line)
    if len(done) == 4:  # the first line of the file and three batches
        os.kill(os.getpid(), signal.SIGKILL)


machine.cpu_has_bf16 = lambda: False
kept_rows.KeptPart.append = append_and_die
local_inference.main(sys.argv[1:])
"""


def test_of_a_process_that_is_killed_all_finished_batches_are_there(arguments, call, batches):
    _, argv = arguments["replies"]
    Path("driver.py").write_text(DRIVER, encoding="utf-8")
    threads = str(torch.get_num_threads())
    done = subprocess.run(
        [sys.executable, "driver.py", *argv, "--output-dir", "killed"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    [file] = Path("killed/unfinished").iterdir()
    assert len(list(read_lines(file))) == 4
    assert len(batches.of(call, "replies", "killed")) == 3, "of six"
    call("replies", "whole")
    assert results("killed") == results("whole")


# From here on the rows are numbers, and their values the squares.


@pytest.fixture
def squares(batches):
    """Return a function that computes squares in batches, kept in the folder `run`."""

    def compute(rows):
        return np.array([[row**2, row / 3] for row in rows], np.float32)

    def start(batches=BATCHES, values=compute, complete=False, what="squares", **depends_on):
        with keeping_rows(Path("run")) as kept:
            found = compute_in_batches(batches, values, kept=kept.part(what, **depends_on))
            if complete:
                return found
            raise Killed

    return start


def finish(squares, **more):
    """Finish the squares; return them."""
    values = np.stack(squares(complete=True, **more))
    assert not Path("run/unfinished").exists()
    return values


EXPECTED = np.array([[row**2, row / 3] for row in range(10)], np.float32)


def kept_file():
    [file] = Path("run/unfinished").iterdir()
    return file


def edit(change):
    """Change the lines of the kept file."""
    file = kept_file()
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))


def test_the_values_come_back_to_the_last_bit(squares, batches):
    batches.killed(3, squares)
    assert batches.of(lambda: np.testing.assert_array_equal(finish(squares), EXPECTED)) == [(6,)]
    texts = [('行\u2028 \ud800 \x00 "', True), ("", False), ("[1]\n", True)]
    batches.killed(2, lambda: squares([[2, 0], [1], [3]], lambda rows: [texts[r] for r in rows]))
    assert squares([[2, 0], [1]], None, complete=True) == texts


@pytest.mark.parametrize(
    ("change", "left", "said"),
    [
        (lambda lines: [*lines[:-1], lines[-1][:40]], [(2, 7, 8), (6,)], ""),
        (lambda lines: [*lines, b"\0" * 300], [(6,)], ""),
        (lambda lines: [*lines, lines[-1][:-1]], [(6,)], ""),
        (
            lambda lines: [*lines[:2], lines[2].replace(b"rows", b"r0ws"), lines[3]],
            [(1, 4, 9), (6,)],
            "1 lines are damaged; their rows are computed again",
        ),
        (
            lambda lines: [lines[0], lines[1][:30] + b"\n" + lines[1][30:], *lines[2:]],
            [(3, 0, 5), (6,)],
            "2 lines are damaged; their rows are computed again",
        ),
        (
            lambda lines: [b"#" + lines[0], *lines[1:]],
            BATCHES,
            "the first line is damaged; its rows are computed again",
        ),
        (lambda lines: [lines[0][:50]], BATCHES, ""),
        (lambda lines: [], BATCHES, ""),
        (lambda lines: [*lines, *lines[1:]], [(6,)], ""),
    ],
    ids=["cut", "zeros", "no-end", "bit", "line-break", "header", "cut-header", "empty", "twice"],
)
def test_what_is_damaged_is_computed_again(change, left, said, squares, batches, capsys):
    batches.killed(3, squares)
    edit(change)
    capsys.readouterr()
    values = []
    computed = batches.of(lambda: values.append(finish(squares)))
    assert computed == [tuple(batch) for batch in left]
    np.testing.assert_array_equal(values[0], EXPECTED)
    told = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert len(told) == bool(said) and all(line.endswith(said) for line in told)


def test_a_file_that_a_kill_has_cut_stays_as_it_is_and_the_next_run_begins_another(
    squares, batches
):
    batches.killed(2, squares)
    edit(lambda lines: [*lines, b"0123"])
    first = kept_file()
    before = first.read_bytes()
    batches.killed(1, squares)
    assert first.read_bytes() == before
    assert len(list(Path("run/unfinished").iterdir())) == 2
    assert batches.of(lambda: finish(squares)) == [(6,)]


def test_numbers_that_are_not_finite_are_not_taken(squares, batches):
    batches.killed(3, squares)

    def with_nan(lines):
        line = json.loads(lines[2].split(b"\t")[1])
        return [*lines[:2], line_of(line, np.full((3, 2), np.nan, np.float32).tobytes()), lines[3]]

    edit(with_nan)
    assert batches.of(lambda: np.testing.assert_array_equal(finish(squares), EXPECTED)) == [
        (1, 4, 9),
        (6,),
    ]


def test_rows_that_no_batch_of_this_run_holds_together_are_not_taken(squares, batches):
    batches.killed(4, squares)
    other = [[3, 0], [5, 1, 4, 9], [2, 7, 8], [6]]
    assert batches.of(lambda: finish(squares, batches=other)) == [(3, 0), (5,)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": "b" * 64}, "rows"),
        ({"model": "c" * 64, "max_length": 512}, "max_length (256), model"),
        ({"device": "CPU (x86_64, 9 threads)"}, "device ('CPU (x86_64, 8 threads)')"),
        ({"versions": {"python": "3", "torch": "2.9", "v": "1"}}, "torch ('2.8'), v (None)"),
    ],
)
def test_rows_of_another_run_are_not_used_and_not_deleted(change, said, squares, batches, capsys):
    planned = {"model": "a" * 64, "rows": "a" * 64, "max_length": 256}
    planned |= {"device": "CPU (x86_64, 8 threads)", "versions": {"torch": "2.8", "python": "3"}}
    batches.killed(2, lambda: squares(**planned))
    kept = {path: path.read_bytes() for path in Path("run/unfinished").iterdir()}
    capsys.readouterr()
    assert len(batches.of(lambda: squares(complete=True, **(planned | change)))) == 4
    told, still = [line for line in capsys.readouterr().out.splitlines() if "unfinished" in line]
    assert told == (
        f"run/unfinished holds 6 rows of an interrupted run that differs in {said}: they are not "
        "used, and stay there for the same command with what it had"
    )
    assert still.startswith("run/unfinished still holds rows of an interrupted run with other set")
    assert {path: path.read_bytes() for path in Path("run/unfinished").iterdir()} == kept
    assert len(batches.of(lambda: finish(squares, **planned))) == 2


def test_a_full_disk_ends_the_run_with_one_line_and_what_was_there_stays(
    squares, batches, monkeypatch
):
    class NearlyFull(FileIO):
        room = 1500

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = super().write(data[: self.room])
            self.room -= taken
            return taken

    with monkeypatch.context() as within, pytest.raises(UserError) as error:
        within.setattr(kept_rows, "FileIO", NearlyFull)
        squares(what="squares", note="x" * 600)
    assert str(error.value) == (
        f"cannot write {kept_file()} (No space left on device): check the free space, the folder "
        "and its permissions, and run the same command again: the finished rows are kept"
    )
    assert kept_file().stat().st_size == 1500 and not kept_file().read_bytes().endswith(b"\n")
    there = len(list(read_lines(kept_file()))) - 1
    assert 0 < there < 4
    computed = batches.of(lambda: finish(squares, note="x" * 600))
    assert computed == [tuple(batch) for batch in BATCHES[there:]]


def test_two_runs_on_one_folder_are_refused_with_one_line_and_the_next_one_is_not(
    call, arguments, capsys
):
    for name in arguments:
        with keeping_rows(Path(f"run-{name}")) as kept:
            kept.claim()
            kept.claim()
            with pytest.raises(UserError) as error:
                call(name, f"run-{name}")
            assert str(error.value) == (f"another run is at work on run-{name}: wait for it")
    call("classifier", "run-classifier")
    assert Path("run-classifier/metrics.json").exists()


def test_a_disk_that_knows_no_locks_is_no_obstacle(monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(kept_rows, "lock", unknown)
    with keeping_rows(Path("run")) as kept:
        kept.claim()


@pytest.mark.parametrize("name", ["scores", "replies"])
def test_batches_are_those_of_the_first_run_though_the_free_memory_is_another(
    name, call, batches, monkeypatch
):
    choose, sizes = {
        "scores": ((scoring, "scoring_pack_tokens"), (700, 900)),
        "replies": ((generating, "generation_rows"), (4, 6)),
    }[name]
    auto = ["--max-tokens-per-pack", "0", "--batch-size", "0"]

    def with_room(size):
        monkeypatch.setattr(*choose, lambda *_: size)

    with_room(sizes[0])
    every = list(batches.of(call, name, "whole", *auto))
    first = list(batches.killed(2, call, name, "killed", *auto))
    with_room(sizes[1])
    assert first + batches.of(call, name, "killed", *auto) == every
    assert results("killed") == results("whole")
    assert batches.of(call, name, "larger", *auto) != every


def test_batches_that_were_cut_for_want_of_memory_stay_cut(squares, batches):
    tried = []

    def two_at_most(rows):
        tried.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return np.array([[row**2, row / 3] for row in rows], np.float32)

    every = list(batches.of(lambda: squares(values=two_at_most, complete=True)))
    assert every == [(3, 0), (5,), (1, 4), (9,), (2, 7), (8,), (6,)]
    for done in (1, 4):
        first = list(batches.killed(done, lambda: squares(values=two_at_most)))
        tried.clear()
        assert first + batches.of(lambda: finish(squares, values=two_at_most)) == every
        assert max(tried) <= 2, "the memory was not tried again"


def test_the_seconds_are_those_of_all_runs(call, batches, monkeypatch):
    batches.killed(3, call, "replies", "killed")
    [file] = Path("killed/unfinished").iterdir()
    header, *lines = [json.loads(line.split(b"\t")[1]) for line in file.read_bytes().splitlines()]
    longer = [line | {"seconds": 1000.0} for line in lines]
    file.write_bytes(b"".join(map(line_of, [header, *longer])))
    call("replies", "killed")
    record = json.loads(Path("killed/metrics.json").read_bytes())
    assert 3000 < record["seconds"] < 3060
    assert record["rows_per_second"] == pytest.approx(23 / record["seconds"], abs=1e-3)


def test_of_processes_that_work_at_the_same_time_the_longer_seconds_count(tmp_path):
    def write(run, process, seconds):
        part = kept_rows.KeptPart(tmp_path, "scores", {})
        line = {"rows": [0], "pieces": 1, "seconds": seconds, "values": [[1]]}
        name = f"scores-{part.fingerprint}-{run}-{process}.jsonl"
        header = {"depends_on": {}, "limit": 4}
        (tmp_path / name).write_bytes(line_of(header) + line_of(line) * 2)
        return part

    write(1, 0, 3.0)
    write(1, 1, 4.0)
    found = write(10, 0, 1.0).read()
    assert (found.seconds, found.limit, found.run) == (8.0 + 2.0, 4, 11)


OTHERS = [  # a run, the options of the one that is killed, those of the next, and what differs
    ("replies", [], ["--max-new-tokens", "4"], "max_new_tokens (5)"),
    ("replies", [], ["--batch-size", "5"], "batch_size (4)"),
    ("replies", [], ["--dtype", "bfloat16"], "dtype ('float32')"),
    ("scores", [], ["--max-test-samples", "20"], "rows"),
    ("scores", [], ["--max-tokens-per-pack", "800"], "max_tokens_per_pack (700)"),
    ("classifier", [], ["--max-length", "60"], "rows"),
    ("probe", [], ["--max-train-samples", "70"], "rows"),
]


@pytest.mark.parametrize(("name", "before", "now", "said"), OTHERS)
def test_another_setting_that_values_depend_on_makes_another_run(
    name, before, now, said, call, batches, capsys
):
    done = len(batches.killed(1, call, name, "run", *before))
    call(name, "run", *now)
    out = capsys.readouterr().out
    assert done == 1 and f"an interrupted run that differs in {said}: they are not used" in out
    assert "were there" not in out


def test_another_model_and_another_codebook_make_another_run(call, batches, tiny_qwen2, capsys):
    shutil.copytree(tiny_qwen2, "model")
    model = ["--model-path", "model"]
    batches.killed(2, call, "scores", "run", *model)
    file = Path("model/model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    capsys.readouterr()
    batches.killed(2, call, "scores", "run", *model)
    assert "a run that differs in model:" in capsys.readouterr().out.replace("an interrupted", "a")
    with Path("prompt.txt").open("a", encoding="utf-8") as prompt:
        prompt.write("Quotations count.\n")
    call("scores", "run", *model)
    assert "differs in prompt:" in capsys.readouterr().out


def test_a_hash_of_a_model_s_content_changes_with_any_part_of_it(tmp_path, tiny_bert, monkeypatch):
    copy = shutil.copytree(tiny_bert, tmp_path / "copy")
    before = content_sha256(tiny_bert)
    assert content_sha256(str(copy)) == before and content_sha256("") == ""
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert content_sha256(str(copy)) != before
    (copy / "model.safetensors").write_bytes(whole)
    monkeypatch.setattr(weights, "READ_WHOLE", 0)
    sampled = content_sha256(str(copy))
    place = len(whole) >> 20 << 20  # the first byte of the last MiB
    changed = bytes([whole[place] ^ 1])
    (copy / "model.safetensors").write_bytes(whole[:place] + changed + whole[place + 1 :])
    assert content_sha256(str(copy)) not in (before, sampled)
    shutil.copy(copy / "config.json", copy / "adapter_config.json")
    (copy / "model.safetensors").write_bytes(whole)
    assert content_sha256(str(copy)) != sampled
