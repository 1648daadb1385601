"""Faults of the machine: one line with the cure, earlier files intact, nothing half-written."""

import errno
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import openpyxl
import pytest
from conftest import ROOT, answer_line, file_size_limit, request_ids_of
from filelock import FileLock
from test_compare import write_run
from test_human_check import fill
from test_run_folders import save_run

from pipeline.common import files, scratch
from pipeline.common.cli import UserError, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import remove_outdated, replacing, write_text, written_together
from pipeline.evaluation.runs import read_runs
from pipeline.labelling import shards
from pipeline.sheets.reading import read_sheet

PRE, DATAS, SPLIT = Path("pre_process"), Path("pre_process/datas"), Path("pre_process/evaluation")
CHECK, SHEETS = Path("results/human_check"), Path("pre_process/human_check")
RESULTS, SETS = Path("results"), Path("pre_process/label_sets")
OUTPUTS = {  # what each script writes, in this order
    "excel_2_csv": [DATAS / "weibo_data.csv", DATAS / "simple.csv"],
    "batch_infer_gen": [DATAS / "inf_batch_v2.jsonl"],
    "jsonl_to_csv": [
        *(DATAS / "retry_v2.jsonl", PRE / "silver_labels.json"),
        *(PRE / f"{name}.csv" for name in ("unlabeled_v2", "labeled_v2", "silver_errors")),
        PRE / "purged_labeled_v2.csv",
    ],
    "split_dataset": [SPLIT / name for name in ("train.csv", "validation.csv", "test.csv")],
    "human_sample": [SHEETS / n for n in ("coder1.xlsx", "coder2.xlsx", "sample.json")],
    "human_check": [
        *(SHEETS / "human_labels.csv", CHECK / "silver_errors.xlsx", SPLIT / "human_test.csv"),
        *(CHECK / "report.txt", CHECK / "human_check.json"),
    ],
    "compare_labels": [
        RESULTS / "label_sets" / name for name in ("changed.xlsx", "comparison.html")
    ],
    "compare_models": [
        *(RESULTS / f"{name}" for name in ("comparison.json", "summary.csv", "errors.csv")),
        *(RESULTS / f"{name}" for name in ("summary.md", "figure1.png")),
    ],
    "write_report": [RESULTS / "report.html", RESULTS / "methods.md"],
}
OUTPUTS["split_dataset"].append(SPLIT / "splits.json")
OUTPUTS["human_sample"].append(SHEETS / "sample.csv")
OUTPUTS["compare_labels"].append(RESULTS / "label_sets/comparison.json")
OPTIONS = {
    "excel_2_csv": "--excel-file comments.xlsx",
    "human_sample": "--sample-size 40 --min-per-class 5",
}
ONE_BY_ONE = {"human_check", "write_report"}  # whose files are complete each on its own
CASES = [(script, path) for script, paths in OUTPUTS.items() for path in paths]


def start(script):
    """Run a script as a user does, with its options of these tests."""
    argv = [f"{script}.py", *OPTIONS.get(script, "").split()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)
        run(importlib.import_module(script).main)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Make a study up to each script; return the folder with one for each script, before it ran."""
    folder = tmp_path_factory.mktemp("faults")
    study = folder / "study"
    study.mkdir()
    shutil.copy(ROOT / "prompt.txt", study)

    def before(script):
        shutil.copytree(study, folder / script)
        start(script)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        book = openpyxl.Workbook()
        for cells in [["comment"], *([f"评论 {n}"] for n in range(400))]:
            book.active.append(cells)
        book.save("comments.xlsx")
        before("excel_2_csv")
        before("batch_infer_gen")
        answers = [answer_line(i, f"[{n % 4}]") for n, i in enumerate(request_ids_of())]
        write_text("\n".join(answers[:-1]) + "\n", DATAS / "silver_label_v2.jsonl")
        before("jsonl_to_csv")
        before("split_dataset")
        before("human_sample")
        for coder in ("coder1", "coder2"):
            fill(SHEETS / f"{coder}.xlsx", lambda row: read_codebook("prompt.txt").names[0])
        before("human_check")
        shutil.copytree(next(SETS.iterdir()), SETS / "another")
        before("compare_labels")
        shutil.rmtree(RESULTS)
        for name, hits in (("a", 60), ("b", 80)):
            write_run(name, name, "before", "bert", hits)
        before("compare_models")
        before("write_report")
    return folder


def contents():
    return {path: content(path) for path in sorted(Path().rglob("*")) if path.is_file()}


def content(path):
    """Return what a file holds; of a workbook all parts but the one with the time of writing."""
    if path.suffix != ".xlsx":
        return path.read_bytes()
    with zipfile.ZipFile(path) as book:
        return {name: book.read(name) for name in book.namelist() if name != "docProps/core.xml"}


def unfinished():
    return [path for path in Path().rglob(".*") if path.name not in (".", "..")]


@contextmanager
def no_room_for(name, monkeypatch):
    """Let files of this name have no place beyond ten bytes, as the system sees to it."""
    real = scratch.scratch_beside

    @contextmanager
    def beside(path):
        here = file_size_limit(10) if Path(path).name == name else nullcontext()
        with real(path) as place, here:
            yield place

    with monkeypatch.context() as patch:
        for module in (files, shards):
            patch.setattr(module, "scratch_beside", beside)
        yield


@pytest.mark.parametrize(("script", "path"), CASES, ids=lambda part: str(part))
def test_a_file_without_room_is_one_line_and_the_same_command_completes_the_step(
    script, path, complete, monkeypatch, tmp_path, capsys
):
    shutil.copytree(complete / script, tmp_path, dirs_exist_ok=True)
    before = contents()
    with no_room_for(path.name, monkeypatch), pytest.raises(SystemExit) as ended:
        start(script)
    assert str(ended.value).startswith(f"{script}.py: cannot write {path} (File too large): it is")
    assert "\n" not in str(ended.value) and "Traceback" not in capsys.readouterr().err
    assert unfinished() == []
    left = {file: data for file, data in contents().items() if before.get(file) != data}
    if script not in ONE_BY_ONE:
        assert left.keys() <= {DATAS / "retry_v2.jsonl"}
    start(script)
    completed = contents()
    assert path in completed and set(OUTPUTS[script]) <= completed.keys()
    assert all(completed[file] == data for file, data in left.items())
    assert unfinished() == []


@pytest.mark.parametrize(
    "name", ["confusion_matrix.png", "predictions.csv", "report.txt", "metrics.json"]
)
def test_results_without_room_are_one_line_and_no_run_until_they_are_complete(name, monkeypatch):
    path = RESULTS / "m" / name
    with (
        no_room_for(name, monkeypatch),
        pytest.raises(UserError, match=rf"cannot write {path} \(File too large\): it is larger"),
    ):
        save_run(RESULTS / "m", model="m", stage="before")
    assert not (RESULTS / "m/metrics.json").exists() and unfinished() == []
    save_run(RESULTS / "m", model="m", stage="before")
    assert [run.name for run in read_runs(RESULTS)] == ["m"]


def test_a_full_disk_is_told_with_the_space_that_it_has():
    write_text("old", "out.txt")
    with (
        pytest.raises(
            UserError,
            match=r"cannot write out.txt \(No space left on device\): the disk of .* has "
            r"[\d,.]+ MB free, and it needs more: delete files",
        ),
        replacing("out.txt") as place,
    ):
        place.symlink_to("/dev/full")
        place.write_text("new", encoding="utf-8")
    assert Path("out.txt").read_text(encoding="utf-8") == "old"
    assert unfinished() == []


@pytest.mark.parametrize("length", [1, 1_000_000])
def test_a_log_on_a_full_disk_is_one_line_and_no_success(length):
    program = f"from pipeline.common.cli import run\nrun(lambda: print('a' * {length}))"
    command = [sys.executable, "-c", program]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.startswith(b"-c: No space left on device: a disk is full, perhaps that of")
    assert done.stderr.count(b"\n") == 1


@contextmanager
def without_root():
    """Be another account for a while where the tests run as root, whom no permission stops."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("script", OUTPUTS)
def test_a_folder_that_may_not_be_written_to_is_one_line(script, complete, tmp_path, capsys):
    shutil.copytree(complete / script, tmp_path, dirs_exist_ok=True)
    for path in OUTPUTS[script]:
        path.parent.mkdir(parents=True, exist_ok=True)
    before, folders = contents(), [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]
    importlib.import_module(script)
    for folder in folders:
        folder.chmod(0o555)
    with without_root(), pytest.raises(SystemExit) as ended:
        start(script)
    for folder in folders:
        folder.chmod(0o755)
    assert re.fullmatch(
        rf"{script}.py: cannot write \S+ \(Permission denied\): close it in other programs, such "
        "as Excel, and check that this account may write there",
        str(ended.value),
    )
    assert contents() == before and unfinished() == []


def test_a_spreadsheet_that_may_not_be_read_is_one_line():
    Path("book.xlsx").write_bytes(b"x")
    Path("book.xlsx").chmod(0)
    with without_root(), pytest.raises(SystemExit) as ended:
        run(lambda: read_sheet("book.xlsx"))
    assert str(ended.value).endswith(
        ": Permission denied (book.xlsx): close it in other programs, such as Excel, and check "
        "that this account may read it"
    )


@pytest.mark.parametrize("script", OUTPUTS)
def test_a_folder_that_vanishes_is_one_line(script, complete, monkeypatch, tmp_path):
    shutil.copytree(complete / script, tmp_path, dirs_exist_ok=True)
    gone, real = OUTPUTS[script][-1], scratch.scratch_beside
    is_there = iter([False] if gone.name == "figure1.png" else [True, False])  # first it is tried

    @contextmanager
    def beside(path):
        with real(path) as place:
            if Path(path) == gone and not next(is_there):
                shutil.rmtree(gone.parent)
            yield place

    for module in (files, shards):
        monkeypatch.setattr(module, "scratch_beside", beside)
    with pytest.raises(SystemExit) as ended:
        start(script)
    assert re.fullmatch(
        rf"{script}.py: cannot write {gone} \(No such file or directory\): its folder was removed, "
        "or its disk went away: put it back, and run the same command again",
        str(ended.value),
    )
    assert not gone.exists()


@pytest.mark.parametrize("script", OUTPUTS)
def test_a_second_copy_of_a_script_is_refused_while_the_first_is_at_work(
    script, complete, tmp_path
):
    shutil.copytree(complete / script, tmp_path, dirs_exist_ok=True)
    before, path = contents(), OUTPUTS[script][0 if script != "human_sample" else -1]
    path = DATAS / "retry_v2.jsonl" if script == "jsonl_to_csv" else path
    path = CHECK / "human_check.json" if script == "human_check" else path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.claim")), pytest.raises(SystemExit) as ended:
        start(script)
    assert str(ended.value) == f"{script}.py: another {script}.py is at work on {path}: wait for it"
    after = {p: data for p, data in contents().items() if not p.name.endswith(".claim")}
    assert after.keys() == before.keys() or script == "human_check"
    start(script)
    assert unfinished() == [] and path.is_file()


def test_of_two_that_draw_a_sample_at_once_the_second_writes_nothing(
    complete, tmp_path, monkeypatch
):
    import human_sample

    shutil.copytree(complete / "human_sample", tmp_path, dirs_exist_ok=True)
    draw = human_sample.draw_sample

    def while_another_draws(*options):
        monkeypatch.setattr(human_sample, "draw_sample", draw)
        human_sample.main(OPTIONS["human_sample"].split())
        return draw(*options)

    monkeypatch.setattr(human_sample, "draw_sample", while_another_draws)
    with pytest.raises(SystemExit, match="is there already, perhaps with people.s work"):
        start("human_sample")


WRITER = """
import sys, time
from pipeline.common.scratch import scratch_beside
with scratch_beside(sys.argv[1]) as place:
    if sys.argv[2] == "folder":
        place.mkdir()
        place = place / "part"
    place.write_text("half", encoding="utf-8")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_goes_with_the_next_write_but_not_a_living_one_s(kind, tmp_path):
    path = tmp_path / "out [1].txt"
    command = [sys.executable, "-c", WRITER, path, kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        write_text("mine", path)
        write_text("of another file", tmp_path / "1].txt")
        [place, guard] = sorted(unfinished(), key=lambda found: len(found.name))[:2]
        assert guard.name == f"{place.name}.lock" and place.is_dir() == (kind == "folder")
        writer.kill()
    write_text("of another file", tmp_path / "1].txt")
    assert place.exists()
    write_text("mine again", path)
    assert unfinished() == []
    assert path.read_text(encoding="utf-8") == "mine again"


def test_a_script_that_was_killed_keeps_nobody_from_running_it_again(complete, tmp_path):
    shutil.copytree(complete / "excel_2_csv", tmp_path, dirs_exist_ok=True)
    program = (
        "import sys, time\nimport excel_2_csv\nfrom pipeline.common.cli import run\n"
        "excel_2_csv.open_comment_sheet = lambda *a: (print('ready', flush=True), time.sleep(60))\n"
        "sys.argv = ['excel_2_csv.py', '--excel-file', 'comments.xlsx']\nrun(excel_2_csv.main)"
    )
    command = [sys.executable, "-c", program]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as first:
        assert b"ready\n" in iter(first.stdout.readline, b"")
        with pytest.raises(SystemExit, match="another excel_2_csv.py is at work on .*wait for it"):
            start("excel_2_csv")
        first.kill()
    start("excel_2_csv")
    assert OUTPUTS["excel_2_csv"][1].is_file() and unfinished() == []


def test_a_disk_that_knows_no_locks_is_written_to_all_the_same(complete, tmp_path, monkeypatch):
    shutil.copytree(complete / "excel_2_csv", tmp_path, dirs_exist_ok=True)

    def refuse(lock):
        Path(lock.lock_file).touch()
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr("pipeline.common.lock.FileLock.acquire", refuse)
    start("excel_2_csv")
    assert OUTPUTS["excel_2_csv"][1].is_file()
    assert [path for path in unfinished() if not path.name.endswith(".claim")] == []


def test_files_that_are_written_together_are_of_one_run():
    def write(text, fail=False):
        with written_together():
            for name in ("a.txt", "b.txt"):
                write_text(text, name)
                assert not Path(name).exists() or Path(name).read_text(encoding="utf-8") != text
            if fail:
                raise UserError("the third is not to be")

    write("one")
    with pytest.raises(UserError):
        write("two", fail=True)
    assert [Path(n).read_text(encoding="utf-8") for n in ("a.txt", "b.txt")] == ["one", "one"]
    write("three")
    assert [Path(n).read_text(encoding="utf-8") for n in ("a.txt", "b.txt")] == ["three", "three"]
    assert unfinished() == []


def test_a_file_that_a_run_has_no_more_goes_only_when_the_run_is_complete():
    def run(fail):
        with written_together():
            remove_outdated("old.txt")
            write_text("new", "a.txt")
            if fail:
                raise UserError("the next is not to be")

    write_text("old", "old.txt")
    with pytest.raises(UserError):
        run(fail=True)
    assert Path("old.txt").read_text(encoding="utf-8") == "old"
    run(fail=False)
    assert not Path("old.txt").exists() and Path("a.txt").is_file()
