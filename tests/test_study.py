"""Studies beside each other: what was paid for, typed by people or trained is made once."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from conftest import ROOT

from pre_process.sample.coders import fill_in
from pre_process.sample.provider import teacher

CODEBOOK = "Is it about gender?\n[0] yes: it is\n[1] no: it is not\nAnswer with [0] or [1].\n"


@pytest.fixture
def project(tmp_path):
    """Return a copy of the project whose sources a test may touch."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "pipeline", folder / "pipeline")
    for path in [*ROOT.glob("*.py"), ROOT / "study.mk", ROOT / "prompt.txt"]:
        shutil.copy(path, folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


class Study:
    """A study of 200 comments, made by `make` in a copy of the project."""

    def __init__(self, project, name, serve, **variables):
        self.project, self.name, self.folder = project, name, project / "studies" / name
        book = openpyxl.Workbook()
        book.active.append(["id", "text"])
        for n in range(200):
            book.active.append([n, f"{name} comment number {n} {'他她'[n % 2]}"])
        book.save(project / f"{name} comments.xlsx")
        self.truth = {f"row-{n + 2}": n % 2 for n in range(200)}
        self.provider = serve(teacher(self.truth, 2, error_rate=0.05))
        send = f"--base-url {self.provider.url} --yes --poll-seconds 0.05"
        self.variables = {"SUBMIT_OPTIONS": send, "LLMS": "", "BERT": "", **variables}
        self.folder.mkdir(parents=True)
        (self.folder / "prompt.txt").write_text(CODEBOOK)

    def start(self, target, **variables):
        given = {"STUDY": f"studies/{self.name}", **self.variables, **variables}
        command = ["make", "-f", "study.mk", target, *(f"{k}={v}" for k, v in given.items())]
        return subprocess.Popen(
            command,
            cwd=self.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, target, status=0, **variables):
        process = self.start(target, **variables)
        out, _ = process.communicate()
        assert process.returncode == status, out
        return out

    def kill_once_there(self, target, pattern, **variables):
        """Kill the making of a target, with all its processes, once a file is there."""
        process = self.start(target, **variables)
        while not any(self.folder.glob(pattern)):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def code_sheets(self, column="class", name="coder*.xlsx"):
        for path in (self.folder / "pre_process/human_check").glob(name):
            fill_in(path, column, lambda row: str(self.truth[row]))

    def files(self, *patterns):
        """Return the contents and the times of files."""
        paths = [path for pattern in patterns for path in self.folder.glob(pattern)]
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths if path.is_file()
        }


PAID = (
    "pre_process/datas/inf_batch_v2*.jsonl",
    "pre_process/datas/silver_label_v2*.jsonl",
    "pre_process/datas/submit_batch.json",
)
TYPED = ("prompt.txt", "pre_process/human_check/*", "settings.mk")
TRAINED = ("bert_checkpoints/final_model/*",)
PREPARE = {"TEXT": "text"}


def touch_sources(project):
    """Make every program, and the project's codebook, newer than all that was made."""
    paths = [path for path in project.rglob("*.py") if ".venv" not in path.parts]
    for path in [*paths, project / "study.mk", project / "prompt.txt"]:
        path.touch()


def test_two_studies_are_made_beside_each_other_and_nothing_paid_or_typed_is_made_twice(
    project, serve
):
    studies = [Study(project, name, serve) for name in ("gender", "work")]
    for study in studies:
        sheet = {"SHEET": f"{study.name} comments.xlsx", **PREPARE}
        study.kill_once_there("prepare", "pre_process/datas/*.csv", **sheet)
        study.make("prepare", **sheet)
        study.kill_once_there("label", "pre_process/datas/submit_batch.json")
        assert "waiting for" in study.make("status")
        study.make("label")
        study.kill_once_there("split", "pre_process/evaluation/*.csv")
        study.make("split")
    for study in studies:
        assert set(study.provider.charged) == set(study.truth)
        assert set(study.provider.charged.values()) == {1}
        rows = pd.read_csv(study.folder / "pre_process/datas/simple.csv")
        assert rows["message"].str.startswith(f"{study.name} comment").all() and len(rows) == 200

    gender, work = studies
    sample = {"SAMPLE_OPTIONS": "--sample-size 30 --min-per-class 5"}
    assert "waiting for studies/gender/pre_process/human_check/coder1.xlsx" in gender.make(
        "sample", **sample
    )
    status = gender.make("status")
    assert "waiting for coder1.xlsx, coder2.xlsx: have it coded" in status
    assert "no sample was drawn" in work.make("report", status=2)
    gender.code_sheets()
    gender.kill_once_there("report", "results/human_check/*")
    gender.make("studies/gender/results/human_check/human_check.json")

    kept = [study.files(*PAID, *TYPED) for study in studies]
    touch_sources(project)
    for study in studies:
        (study.folder / "prompt.txt").touch()
        (project / f"{study.name} comments.xlsx").touch()
        for target in ("prepare", "label", "split", "sample"):
            study.make(target)
    after = [study.files(*PAID, *TYPED) for study in studies]
    for before, now, study in zip(kept, after, studies, strict=True):
        times = {path for path in before if before[path][1] != now[path][1]}
        assert times == {study.folder / "prompt.txt"}  # touched above
        assert {path: data for path, (data, _) in before.items()} == {
            path: now[path][0] for path in before
        }
        assert set(study.provider.charged.values()) == {1}
    assert "kept" in gender.make("status")


def test_a_training_that_was_killed_goes_on_and_its_model_is_made_once(project, serve, tiny_bert):
    runs = f"studies/gender/results/{Path(tiny_bert).name}-after/metrics.json"
    tune = "--num-train-epochs 3 --learning-rate 1e-3"
    study = Study(project, "gender", serve, BERT=tiny_bert, RUNS=runs, BERT_TUNE_OPTIONS=tune)
    study.make("prepare", SHEET="gender comments.xlsx", **PREPARE)
    study.make("label")
    study.kill_once_there("train", "bert_checkpoints/checkpoint-*/trainer_state.json")
    if not (study.folder / "bert_checkpoints/final_model").exists():
        assert "--resume" in study.make("train")
    kept, scores = study.files(*TRAINED, "pre_process/evaluation/*"), study.files("results/*/*")
    assert kept and scores
    touch_sources(project)
    (study.folder / "pre_process/datas/silver_label_v2.jsonl").touch()
    assert "split_dataset" not in study.make("split")
    assert "finetune" not in study.make("train")
    assert study.files(*TRAINED, "pre_process/evaluation/*") == kept
    assert study.files("results/*/*") == scores
