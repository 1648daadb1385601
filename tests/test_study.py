"""Studies beside each other: what was paid for, typed by people or trained is made once."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from conftest import ROOT

from pipeline.common.codebook import read_codebook
from pipeline.people.unsure_rows import write_task
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

    def __init__(self, project, name, serve, sheet="", about="", **variables):
        self.project, self.name, self.folder = project, name, project / "studies" / name
        self.sheet = project / (sheet or f"{name} comments.xlsx")
        book = openpyxl.Workbook()
        book.active.append(["id", "text"])
        messages = [f"{about or name} comment number {n} {'他她'[n % 2]}" for n in range(200)]
        for n, message in enumerate(messages):
            book.active.append([n, message])
        book.save(self.sheet)
        self.truth = {f"row-{n + 2}": n % 2 for n in range(200)}
        classes = {message: n % 2 for n, message in enumerate(messages)}
        self.provider = serve(teacher(classes, 2, error_rate=0.05))
        send = f"--base-url {self.provider.url} --yes --poll-seconds 0.05"
        send += " --wait-for-rows 0.1 --accept-missing"
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

    def kill_once_there(self, target, pattern, by=signal.SIGKILL, **variables):
        """Stop the making of a target, with all its processes, once a file is there."""
        self.kill_once(target, lambda: any(self.folder.glob(pattern)), by, **variables)

    def kill_once(self, target, reached, by, **variables):
        process = self.start(target, **variables)
        while not reached():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.005)
        os.killpg(process.pid, by)
        process.communicate()

    def run(self, script, *options):
        """Run a script of the study by hand."""
        command = [".venv/bin/python", script, "--study", f"studies/{self.name}", *options]
        subprocess.run(command, cwd=self.project, check=True, capture_output=True)

    def prepare(self):
        return self.make("prepare", SHEET=self.sheet.name, TEXT="text")

    def state(self, script):
        """Return what `make status` says of a script."""
        lines = [line for line in self.make("status").splitlines() if line.startswith(script)]
        return lines[-1].removeprefix(script).strip()

    def code_sheets(self, column="class", name="coder*.xlsx"):
        for path in (self.folder / "pre_process/human_check").glob(name):
            fill_in(path, column, lambda row: str(self.truth[row]))

    def files(self, *patterns):
        """Return the contents and the times of files."""
        paths = {path for pattern in patterns for path in self.folder.glob(pattern)}
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


@pytest.mark.slow
def test_two_studies_are_made_beside_each_other_and_nothing_paid_or_typed_is_made_twice(
    project, serve
):
    studies = [Study(project, name, serve) for name in ("gender", "work")]
    for study, by in zip(studies, (signal.SIGKILL, signal.SIGINT), strict=True):
        sheet = {"SHEET": f"{study.name} comments.xlsx", **PREPARE}
        study.kill_once_there("prepare", "pre_process/datas/*.csv", by, **sheet)
        study.make("prepare", **sheet)
        study.kill_once_there("label", "pre_process/datas/submit_batch.json", by)
        assert "waiting for" in study.make("status")
        study.make("label")
        study.kill_once_there("split", "pre_process/evaluation/*.csv", by)
        study.make("split")
    for study in studies:
        assert len(study.provider.charged) == 200
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
        times = {path.name for path in before if before[path][1] != now[path][1]}
        assert times == {"prompt.txt", "inf_batch_v2.jsonl"}  # touched above; written from it
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
    assert "bert_tune.py" not in study.make("train")
    assert study.files(*TRAINED, "pre_process/evaluation/*") == kept
    assert study.files("results/*/*") == scores


def test_a_run_is_made_again_where_the_split_changed_and_that_on_people_s_labels_lies_beside_it(
    project, serve, tiny_bert
):
    name = Path(tiny_bert).name
    silver, human = (f"results/{name}-{run}/metrics.json" for run in ("after", "human"))
    tune = "--num-train-epochs 1 --learning-rate 1e-3"
    runs = {"RUNS": f"studies/gender/{silver}", "BERT_TUNE_OPTIONS": tune}
    study = Study(project, "gender", serve, BERT=tiny_bert, **runs)
    study.prepare()
    study.make("label")
    study.make("sample", SAMPLE_OPTIONS="--sample-size 30 --min-per-class 5")
    study.code_sheets()
    study.make("train")
    first = study.files(silver)
    study.make("report")
    assert study.files(silver) == first
    sources = [
        json.loads((study.folder / run).read_bytes())["label_source"] for run in (silver, human)
    ]
    assert sources == ["silver labels", "human coders"]

    people = study.files(human)
    (study.folder / "pre_process/evaluation/splits.json").touch()
    study.make("train")
    assert study.files(silver) != first and study.files(human) == people
    metrics = study.folder / silver
    other = json.loads(metrics.read_bytes()) | {"test_file": "studies/work/test.csv"}
    metrics.write_text(json.dumps(other))
    os.utime(metrics, (0, 0))  # older than the split
    kept = study.files(silver)
    out = study.make("train", status=2)
    assert f"results/{name}-after holds another run" in out and "studies/work/test.csv" in out
    assert study.files(silver) == kept


def test_a_pilot_is_scored_once_coded_and_corrections_of_an_audit_reach_the_split(
    project, serve, tiny_bert
):
    sizes = "--sample-size 20 --min-per-class 5"
    study = Study(project, "gender", serve, BERT=tiny_bert, PILOT_OPTIONS=sizes)
    study.prepare()
    study.make("label", LIMIT="100")
    assert len(study.provider.charged) == 100
    assert "pilot/coder1.xlsx: have it coded" in study.make("pilot")
    assert "pilot/coder1.xlsx: have it coded" in study.make("pilot")
    assert not (study.folder / "pre_process/evaluation").exists()
    study.code_sheets(name="pilot/coder*.xlsx")
    study.make("pilot")
    check = json.loads((study.folder / "results/human_check/pilot/human_check.json").read_bytes())
    assert check["sample"]["drawn"] == 20 and check["disagreements"] == 0
    with open(study.folder / "prompt.txt", "a", encoding="utf-8") as prompt:
        prompt.write("Quotations count as their speaker means them.")
    study.make("label", LIMIT="100")
    assert "pilot_2/coder1.xlsx: have it coded" in study.make("pilot")
    study.code_sheets(name="pilot_2/coder*.xlsx")
    study.make("pilot")
    assert (study.folder / "results/human_check/pilot_2/human_check.json").is_file()
    (study.folder / "prompt.txt").write_text(CODEBOOK)

    study.make("label")
    assert set(study.provider.charged.values()) == {1} and len(study.provider.charged) == 300
    study.make("audit")
    sheet = study.folder / "results/audit/audit.xlsx"
    doubtful = pd.read_excel(sheet, engine="openpyxl")["custom_id"].tolist()
    fill_in(sheet, "corrected", lambda row: str(study.truth[row]))
    study.make("split")
    splits = (study.folder / "pre_process/evaluation").glob("*.csv")
    rows = pd.concat([pd.read_csv(path) for path in splits]).set_index("custom_id")["class"]
    assert doubtful and all(rows[row] == study.truth[row] for row in doubtful)
    (study.folder / "prompt.txt").write_text(CODEBOOK.replace("it is not", "no"))
    assert "are for another codebook, and wait there" in study.make("label")
    assert len(study.provider.charged) == 500
    (study.folder / "prompt.txt").write_text(CODEBOOK)
    assert "corrected by hand" in study.make("label") and len(study.provider.charged) == 500
    rows = pd.read_csv(study.folder / "pre_process/purged_labeled_v2.csv").set_index("custom_id")
    assert all(rows["class"][row] == study.truth[row] for row in doubtful)


def test_a_sheet_of_any_name_is_prepared_anew_when_it_or_its_settings_change(project, serve):
    study = Study(project, "性别", serve, sheet="我的 评论 (1) #2's.xlsx")
    simple = study.folder / "pre_process/datas/simple.csv"
    study.make("prepare", SHEET=study.sheet.name, TEXT="id")
    assert pd.read_csv(simple)["message"][7] == 7
    study.make("prepare", TEXT="text")
    assert pd.read_csv(simple)["message"][7] == "性别 comment number 7 她"
    before = study.files("**/*")
    assert "excel_2_csv" not in study.make("prepare")
    assert before.items() <= study.files("**/*").items()
    study.run("batch_infer_gen.py")
    study.sheet.touch()
    assert study.state("excel_2_csv.py") == (
        f"out of date, {study.sheet.name} changed: make prepare"
    )
    assert "excel_2_csv" in study.make("prepare")
    assert "excel_2_csv" in study.make("prepare", TEXT="id")
    assert pd.read_csv(simple)["message"][7] == 7


def test_a_study_whose_name_has_a_space_is_refused(project, serve):
    study = Study(project, "my study", serve)
    assert "give a folder without a space in its name" in study.make("status", status=2)


def test_a_changed_codebook_is_a_label_set_of_its_own_and_answers_under_way_are_kept(
    project, serve
):
    study = Study(project, "gender", serve)
    answers = study.folder / "pre_process/datas/silver_label_v2.jsonl"
    study.prepare()
    study.make("label", LIMIT="100")
    study.kill_once("label", lambda: len(study.provider.batches) == 2, signal.SIGTERM, LIMIT="150")
    first = dict(study.provider.charged)
    assert len(first) == 150
    (study.folder / "prompt.txt").write_text(CODEBOOK.replace("it is not", "no"))
    assert "the labels so far are by another codebook or model" in study.make("label")
    assert set(study.provider.charged.values()) == {1} and len(study.provider.charged) == 350
    assert not answer_ids(answers) & first.keys()
    [kept] = (study.folder / "pre_process/label_sets").glob("*/silver_label_v2.jsonl")
    assert answer_ids(kept) <= first.keys() and len(answer_ids(kept)) > 140
    second = pd.read_csv(study.folder / "pre_process/purged_labeled_v2.csv")
    assert len(second) > 180

    (study.folder / "prompt.txt").write_text(CODEBOOK)
    study.make("label")
    assert set(study.provider.charged.values()) == {1} and len(study.provider.charged) == 400
    answers.unlink()  # the provider still has it
    study.make("label")
    assert len(study.provider.charged) == 400 and len(answer_ids(answers)) > 180


def test_classes_that_people_gave_by_name_are_read_anew_where_the_codebook_changed(project, serve):
    study = Study(project, "gender", serve)
    book = openpyxl.load_workbook(study.sheet)
    for row, cell in enumerate(["code", *["yes", "no"] * 10], start=1):
        book.active.cell(row, 3).value = cell
    book.save(study.sheet)
    simple = study.folder / "pre_process/datas/simple.csv"
    study.make("prepare", SHEET=study.sheet.name, TEXT="text", EXCEL_OPTIONS="--label-column code")
    assert pd.read_csv(simple)["class"].tolist()[:20] == [0, 1] * 10
    study.make("label")
    assert len(study.provider.charged) == 180
    (study.folder / "prompt.txt").write_text(
        "Is it?\n[0] no: it is not\n[1] yes: it is\n[0] or [1].\n"
    )
    study.make("label")
    assert pd.read_csv(simple)["class"].tolist()[:20] == [1, 0] * 10
    assert len(study.provider.charged) == 360
    while (simple.parent / "retry_v2.jsonl").stat().st_size:
        study.make("retry")
    assert "no comment is left to ask again" in study.make("retry")
    assert len(pd.read_csv(study.folder / "pre_process/purged_labeled_v2.csv")) == 200


def answer_ids(path):
    return {json.loads(line)["custom_id"] for line in path.read_text().splitlines()}


def test_two_makes_at_once_pay_for_no_row_twice(project, serve):
    study = Study(project, "gender", serve, REQUEST_OPTIONS="--max-requests-per-file 50")
    study.prepare()
    study.run("batch_infer_gen.py", "--max-requests-per-file", "50")
    both = [study.start("label") for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert 0 in [process.returncode for process in both]
    if any(process.returncode for process in both):
        assert re.search(r"another (submit_batch|jsonl_to_csv)\.py is at work", "".join(said))
    study.make("label")
    assert len(study.provider.charged) == 200 and set(study.provider.charged.values()) == {1}


def test_answers_that_came_by_hand_are_read_and_nothing_is_sent(project, serve):
    paid, study = (Study(project, name, serve, about="one") for name in ("paid", "gender"))
    for each in (paid, study):
        each.prepare()
    paid.make("label")
    study.run("batch_infer_gen.py")
    datas = study.folder / "pre_process/datas"
    lines = (paid.folder / "pre_process/datas/silver_label_v2.jsonl").read_text().splitlines(True)
    (datas / "first.jsonl").write_text("".join(lines[:90]))
    (datas / "second.jsonl").write_text("".join(lines[90:]))
    study.variables["MORE_ANSWERS"] = " ".join(
        f"studies/gender/pre_process/datas/{name}.jsonl" for name in ("first", "second")
    )
    study.make("label")
    labelled = pd.read_csv(study.folder / "pre_process/purged_labeled_v2.csv")
    assert len(labelled) > 180
    assert not study.provider.charged
    assert "submit_batch.py" not in study.make("status")
    assert "jsonl_to_csv" in study.make("retry")
    asked = dict(study.provider.charged)
    assert len(asked) == 200 - len(labelled)
    assert study.provider.charged == asked


def test_only_the_sheets_of_the_coders_are_waited_for_and_scored(project, serve):
    study = Study(project, "gender", serve)
    study.prepare()
    study.make("label")
    sample = {"SAMPLE_OPTIONS": "--sample-size 30 --min-per-class 5"}
    folder = study.folder / "pre_process/human_check"
    study.kill_once_there("sample", "pre_process/human_check/coder1.xlsx", **sample)
    study.make("sample", **sample)
    for name in ("~$coder1.xlsx", ".~lock.coder1.xlsx#", "coder1 (copy).xlsx", "notes.xlsx"):
        (folder / name).write_bytes(b"no spreadsheet")
    study.code_sheets(name="coder1.xlsx")
    assert study.state("human_check.py") == "waiting for coder2.xlsx: have it coded"
    sheet = (folder / "coder2.xlsx").read_bytes()
    (folder / "coder2.xlsx").unlink()
    assert "waiting for studies/gender/pre_process/human_check/coder2.xlsx" in study.make(
        "report", status=2
    )
    (folder / "coder2.xlsx").write_bytes(b"half of a file")
    assert "coder2.xlsx cannot be read as a spreadsheet" in study.state("human_check.py")
    (folder / "coder2.xlsx").write_bytes(sheet)
    study.code_sheets(name="coder2.xlsx")
    os.utime(folder / "coder2.xlsx", (0, 0))  # as a copy may leave it
    out = study.make("report", status=2)
    assert "human_check.json" in out and "waiting for a scored model" in out
    assert study.state("human_check.py") == "done"


def test_a_model_goes_by_the_name_of_the_folder_that_a_link_leads_to(project, serve):
    for name in ("Qwen2.5-0.5B", "bert-base-chinese"):
        (project / "cache" / name).mkdir(parents=True)
        (project / "cache" / name / "config.json").touch()
    (project / "a-bert").symlink_to("cache/bert-base-chinese")
    (project / "a-qwen").symlink_to("cache/Qwen2.5-0.5B")
    study = Study(project, "gender", serve, BERT="./a-bert", LLMS="./a-qwen")
    lines = [line.split()[:2] for line in study.make("status").splitlines()]
    assert ["bert_eval.py", "bert-base-chinese"] in lines
    assert ["finetune.py", "Qwen2.5-0.5B"] in lines


def give_tuned(project, study, **accuracies):
    """Let models be tuned and scored, by their records alone: a BERT named bert, and LLMs."""
    for name, accuracy in accuracies.items():
        folder = "bert_checkpoints" if name == "bert" else f"qlora_checkpoints_{name}"
        for path, record in (
            (project / name / "config.json", {}),
            (study.folder / folder / "final_model/training.json", {}),
            (
                study.folder / f"results/{name}-after/metrics.json",
                {"ece": 0.1, "accuracy_all_rows": accuracy},
            ),
        ):
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(record))
    llms = " ".join(f"./{name}" for name in accuracies if name != "bert")
    study.variables |= {"BERT": "./bert", "LLMS": llms, "run": "echo"}


def test_the_most_accurate_tuned_model_codes_by_a_wish_that_is_kept(project, serve):
    study = Study(project, "gender", serve)
    settings, plan = study.folder / "settings.mk", study.folder / "results/plan/plan.json"
    study.prepare()
    study.make("label")
    study.make("split")
    settings.unlink()
    assert "waiting for a tuned model with scores" in study.make("code", status=2)
    give_tuned(project, study, bert=0.8, small=0.7, large=0.9)
    own = {"SHEET": study.sheet.name, "TEXT": "text", "EXCEL_OPTIONS": "--label-column code"}
    said = study.make("code", **own)
    assert "the tuned model is large" in said and "plan_coding.py" not in said
    for part in (
        f"code_comments.py --study studies/gender --excel-file {study.sheet.name}",
        "--text-column text --model studies/gender/qlora_checkpoints_large/final_model",
        "--label-column code",
    ):
        assert part in said
    assert not settings.exists()

    said = study.make("plan", TARGET="0.9", CODER="bert", **own)
    assert "--model studies/gender/bert_checkpoints/final_model --target-accuracy 0.9" in said
    kept = settings.read_text().splitlines()
    assert kept == [f"{name} = {value}" for name, value in own.items()] + [
        "CODER = bert",
        "TARGET = 0.9",
    ]
    plan.parent.mkdir()
    plan.touch()
    assert "plan_coding.py" not in study.make("plan") + study.make("plan", TARGET="0.9")
    said = study.make("code", BUDGET="20", WHO="people")
    plan_made, coded = re.findall(r"echo +((?:plan_coding|code_comments)\.py .*)", said)
    assert plan_made.split()[-4:] == ["--budget", "20", "--who", "people"]
    assert "--model studies/gender/bert_checkpoints/final_model" in coded
    assert {"TARGET = ", "BUDGET = 20", "WHO = people"} <= set(settings.read_text().splitlines())


def test_a_plan_follows_the_scores_and_what_is_coded_the_plan_the_labels_and_people(project, serve):
    study = Study(project, "gender", serve)
    give_tuned(project, study, bert=0.8)
    now = time.time()
    files = {
        name: study.folder / name
        for name in (
            *("results/plan/plan.json", "results/coded/coded.json", "prompt.txt"),
            "pre_process/purged_labeled_v2.csv",
            "pre_process/human_check/human_labels.csv",
            "pre_process/coding_2/human_labels.csv",
            "results/bert-after/metrics.json",
            "bert_checkpoints/final_model/training.json",
        )
    }

    def state(script, newer=""):
        for name, path in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            age = 10 if name.endswith(("plan.json", "coded.json")) else 100
            os.utime(path, (now - (age if name != newer else 0),) * 2)
        os.utime(study.sheet, (now - 100,) * 2)
        status = study.make("status", SHEET=study.sheet.name)
        [line] = [line for line in status.splitlines() if re.match(rf"{script} +bert ", line)]
        return line.split(maxsplit=2)[2]

    assert state("code_comments.py") == state("plan_coding.py") == "done"
    labels = [name for name in files if name.endswith(".csv")]
    assert len(labels) == 3
    for name in labels:
        changed = f"out of date, {Path(name).name} changed: make code"
        assert state("code_comments.py", newer=name) == changed
    scores = "results/bert-after/metrics.json"
    assert state("plan_coding.py", newer=scores) == "out of date, metrics.json changed: make plan"
    assert state("code_comments.py", newer="results/plan/plan.json").startswith("out of date, plan")
    (project / "pipeline/coding/model.py").touch()
    assert state("code_comments.py") == "done"


def test_sheets_of_rows_that_the_plan_left_to_people_are_waited_for_then_scored(project, serve):
    study = Study(project, "gender", serve)
    study.prepare()
    study.make("label")
    study.make("split")
    folder = study.folder / "pre_process/coding"
    rows = pd.read_csv(study.folder / "pre_process/datas/simple.csv").head(6)
    codebook = read_codebook(study.folder / "prompt.txt")
    write_task(rows, ["ann", "ben"], 0.7, "a model", codebook, folder, {"seed": 1})
    state = study.state("human_check.py").removeprefix("coding").strip()
    assert state == "waiting for ann.xlsx, ben.xlsx: have it coded"
    give_tuned(project, study, bert=0.8)
    assert "coding/ben.xlsx: have it coded" in study.make("code")
    for name in ("ann", "ben"):
        fill_in(folder / f"{name}.xlsx", "class", lambda row: str(study.truth[row]))
    said = study.make("code", run=".venv/bin/python", CODER="bert", status=2)
    assert "human_check.py --study studies/gender --sheets-dir" in said
    assert (folder / "human_labels.csv").is_file()


def test_a_step_of_the_demo_that_fails_shows_its_log_and_one_that_is_stopped_ends(tmp_path):
    timed = ["bash", ROOT / "pre_process/sample/timed.sh", "logs", "a model", "python3", "step.py"]
    step = tmp_path / "step.py"
    step.write_text('"""Step 6b: try."""\nprint("what it did")\n')
    done = subprocess.run(timed, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["s", "Step", "6b", "step.py", "a", "model"]
    assert Path("logs/step.py-a model.log").read_bytes() == b"what it did\n"
    step.write_text('raise SystemExit("why it failed")\n')
    failed = subprocess.run(timed, capture_output=True, text=True)
    assert failed.returncode == 1 and "why it failed" in failed.stderr
    step.write_text(
        "import os, time\n"
        "with open('pid', 'w') as file:\n    file.write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(timed)
    while not Path("pid").exists() or not Path("pid").read_bytes():
        time.sleep(0.01)
    process.terminate()
    assert process.wait() == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_bytes()), 0)


def test_the_provider_of_the_demo_ends_with_what_started_it(write_rows):
    write_rows("truth.csv", [("row-2", "a comment", 0)])
    provider = f"{sys.executable} -m pre_process.sample.provider"
    shell = subprocess.Popen(
        ["bash", "-c", f"{provider} --truth-file truth.csv --url-file url & wait"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    while not Path("url").exists():
        time.sleep(0.05)
    shell.kill()
    shell.communicate(timeout=20)  # its output ends with the last process that holds it


def test_a_file_with_a_time_ahead_of_the_clock_stops_make_until_it_is_mended(project):
    def make(target):
        command = ["make", "-n", "-f", "study.mk", target, "STUDY=studies/a"]
        return subprocess.run(command, cwd=project, capture_output=True, text=True)

    split = project / "studies/a/pre_process/evaluation/splits.json"
    split.parent.mkdir(parents=True)
    split.write_text("{}", encoding="utf-8")
    os.utime(split, (time.time() + 86_400,) * 2)
    done = make("sample")
    assert done.returncode == 2 and "human_sample.py" not in done.stdout
    assert (
        "times ahead of the clock (see `date`): studies/a/pre_process/evaluation/splits.json"
        in (done.stderr)
    )
    assert make("status").returncode == 0
    cure = done.stderr.partition("by: ")[2].removesuffix(".  Stop.\n").replace("{}", "'{}'")
    subprocess.run(cure, shell=True, cwd=project, check=True)
    assert "human_sample.py" in make("sample").stdout
