"""The commands of README.md, in its order, on a small spreadsheet, with a codebook of two classes.

Each runs as it is printed, by the script's `main()`. What else it takes stands in three tables:
what is not run and why, what is added to a command, and what people do after it.
"""

import contextlib
import importlib
import json
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from conftest import ROOT
from connections import connections
from readme import commands, read_page

from pre_process.sample.coders import fill_in
from pre_process.sample.comments import generate_comments
from pre_process.sample.provider import Provider, teacher

CODEBOOK = """Is the comment about women and men?

[0] 相关: it is about gender
[1] 无关: it is not

Answer with [0] or [1].
"""
ADDED = "A comment about a couple is about gender.\n"
NAMES = ["相关", "无关"]
ROWS = 400

NOT_RUN = {
    "make": "test_readme.py asks make itself; its targets run these scripts",
    "git": "it needs the network: tiny models stand in the folders that it makes",
    "bash": "it installs: see test_install.py",
    "source": "the tests run in an environment already",
}
ADDITIONS = {  # the provider's address, less work, and what a tiny model can promise
    "submit_batch.py": ["--base-url", "{url}", "--poll-seconds", "0.01", "--yes"]
    + ["--wait-for-rows", "0.05", "--accept-missing"],
    "local_inference.py": ["--max-new-tokens", "6"],
    "finetune.py": ["--num-train-epochs", "1"],
    "bert_tune.py": ["--num-train-epochs", "1"],
    "plan_coding.py --model": ["--target-accuracy", "0.1"],
}
SHEETS = Path("pre_process/human_check")


def names_of(truth, slip=None):
    """Return what a person writes for a row: its class; the other where row % 7 is `slip`."""

    def name(custom_id):
        return NAMES[truth[custom_id] ^ (int(custom_id.removeprefix("row-")) % 7 == slip)]

    return name


def code(folder, truth):
    """Fill in the sheets of two people who make mistakes on different rows."""
    for slip, sheet in enumerate(sorted(folder.glob("*.xlsx"))):
        fill_in(sheet, "class", names_of(truth, slip))


def refine_codebook(truth):
    Path("prompt.txt").write_text(CODEBOOK + ADDED, encoding="utf-8")


def correct(truth):
    fill_in(Path("results/audit/audit.xlsx"), "corrected", names_of(truth))


def adjudicate(truth):
    fill_in(SHEETS / "adjudication.xlsx", "adjudicated", names_of(truth))


PEOPLE = {  # the beginning of a command -> what people do after it
    "python human_sample.py --pilot": lambda truth: code(SHEETS / "pilot", truth),
    "python human_check.py --pilot": refine_codebook,
    "python label_audit.py": correct,
    "python human_sample.py": lambda truth: code(SHEETS, truth),
    "python human_check.py": adjudicate,
}


asked = {}  # script -> the hosts and addresses that it asked for


def run_command(command, url, environment):
    """Run a line of the README; return whether it ran."""
    program, *arguments = shlex.split(command)
    if program in NOT_RUN:
        return False
    if program == "export":
        environment.setenv(*arguments[0].split("="))
    elif program == "python":
        script, *options = arguments
        for start, added in ADDITIONS.items():
            if command.startswith(f"python {start}"):
                options += [option.format(url=url) for option in added]
        main = importlib.import_module(script.removesuffix(".py")).main
        with connections() as found:
            main(options)
        asked.setdefault(script, []).extend(found)
    else:
        subprocess.run([program, *arguments], check=True)
    return True


def make_project(folder, qwen, bert):
    """Put the models, a codebook and a spreadsheet into a folder; return the true classes."""
    shutil.copytree(qwen, folder / "Qwen2.5-3B")
    shutil.copytree(bert, folder / "bert-base-chinese")
    (folder / "prompt.txt").write_text(CODEBOOK, encoding="utf-8")
    book, truth = openpyxl.Workbook(), {}
    book.active.append(["user", "comment"])
    for row, (text, label) in enumerate(generate_comments(ROWS, seed=5), start=2):
        book.active.append([f"user {row}", f"{text} {row}"])
        truth[f"row-{row}"] = int(label == 3)
    book.save(folder / "comments.xlsx")
    return truth


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_qwen2, tiny_bert):
    """Run the README's commands; return the folder, the true classes and what was paid for."""
    folder = tmp_path_factory.mktemp("project")
    truth = make_project(folder, tiny_qwen2, tiny_bert)
    comments = pd.read_excel(folder / "comments.xlsx", engine="openpyxl")["comment"]
    classes = dict(zip(comments, truth.values(), strict=True))
    provider = Provider(teacher(classes, 2, error_rate=0.08))
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as environment:
        for command in commands(read_page("README.md")):
            if run_command(command, provider.url, environment):
                begun = [work for start, work in PEOPLE.items() if command.startswith(start)]
                for work in begun[:1]:
                    work(truth)
    provider.shutdown()
    provider.server_close()
    asked["provider"] = provider.server_address
    return folder, truth, provider.charged


@pytest.fixture
def folder(project, monkeypatch):
    """Go to the folder in which the commands ran."""
    monkeypatch.chdir(project[0])
    return project[0]


def read(path):
    return pd.read_csv(path, dtype=str, na_filter=False)


def test_every_row_is_labelled_or_counted_and_the_splits_hold_all_labelled_rows(folder):
    rows = {
        name: len(read(f"pre_process/{name}.csv"))
        for name in ("unlabeled_v2", "labeled_v2", "purged_labeled_v2")
    }
    parts = [read(f"pre_process/evaluation/{name}.csv") for name in ("train", "validation", "test")]
    assert rows["unlabeled_v2"] == rows["labeled_v2"] == ROWS
    assert sum(map(len, parts)) == rows["purged_labeled_v2"] > 380


def test_labels_of_the_first_codebook_are_kept_aside_and_all_rows_are_asked_anew(project, folder):
    [first] = Path("pre_process/label_sets").glob("*/silver_label_v2.jsonl")
    lines = first.read_text(encoding="utf-8").splitlines()
    pilot = {json.loads(line)["custom_id"] for line in lines}
    assert 280 < len(lines) <= 310
    request = json.loads(
        Path("pre_process/datas/inf_batch_v2.jsonl").read_text(encoding="utf-8").splitlines()[0]
    )
    assert request["body"]["messages"][0]["content"].endswith(ADDED.strip())
    asked = {custom_id.partition("-")[0]: 0 for custom_id in project[2]}
    for custom_id in project[2]:
        asked[custom_id.partition("-")[0]] += 1
    [old] = {custom_id.partition("-")[0] for custom_id in pilot}
    assert asked.pop(old) == 300 and list(asked.values()) == [ROWS]


def test_the_two_codebooks_are_compared(folder):
    found = json.loads(Path("results/label_sets/comparison.json").read_bytes())
    [pair] = found["pairs"]
    assert 270 < pair["compared"] <= 300


def test_what_people_corrected_in_the_audit_are_labels(project, folder):
    corrections = read("pre_process/corrections.csv").set_index("custom_id")["class"]
    labels = read("pre_process/labeled_v2.csv").set_index("custom_id")["class"]
    assert json.loads(Path("pre_process/silver_labels.json").read_bytes())["corrected"] > 0
    assert labels[corrections.index].tolist() == corrections.tolist()
    assert [int(label) for label in corrections] == [project[1][row] for row in corrections.index]


def test_no_row_of_the_pilot_is_a_test_row_and_all_rows_of_the_sample_are(folder):
    test = set(read("pre_process/evaluation/test.csv")["custom_id"])
    pilot = read(SHEETS / "pilot/sample.csv")["custom_id"]
    assert len(pilot) == 100
    assert test.isdisjoint(pilot)
    assert test.issuperset(read(SHEETS / "sample.csv")["custom_id"])


def test_people_s_labels_are_the_adjudicated_ones(project, folder):
    check = json.loads(Path("results/human_check/human_check.json").read_bytes())
    assert [coder["name"] for coder in check["coders"]] == ["ann", "ben"]
    assert check["adjudicated"] == check["disagreements"] > 0
    human = read("pre_process/evaluation/human_test.csv").set_index("custom_id")["class"]
    assert [int(label) for label in human] == [project[1][row] for row in human.index]


def test_the_summary_has_each_model_before_and_after_and_after_against_people(folder):
    summary = read("results/summary.csv")
    stages = ("before", "after", "human")
    assert summary["run"].tolist() == [
        f"{model}-{stage}" for model in ("Qwen2.5-3B", "bert-base-chinese") for stage in stages
    ]
    assert summary["stage"].tolist() == ["before", "after", "after"] * 2
    for run in summary["run"]:
        metrics = json.loads(Path(f"results/{run}/metrics.json").read_bytes())
        assert metrics["class_names"] == NAMES
        assert len(read(f"results/{run}/predictions.csv")) == metrics["total"]


@pytest.mark.parametrize("model", ["Qwen2.5-3B", "bert-base-chinese"])
def test_the_folder_s_name_tells_which_of_two_runs_after_is_against_people(folder, model):
    sources = {
        run: json.loads(Path(f"results/{model}-{run}/metrics.json").read_bytes())["label_source"]
        for run in ("after", "human")
    }
    assert sources == {"after": "silver labels", "human": "human coders"}


def test_the_spreadsheet_comes_back_with_a_class_and_a_probability_for_each_class(folder):
    codes = read("results/coded/codes.csv")
    assert codes["custom_id"].tolist() == read("pre_process/unlabeled_v2.csv")["custom_id"].tolist()
    assert set(codes["class"]) == {"0", "1"}
    shares = codes[[f"p_{name}" for name in NAMES]].astype(float)
    assert ((shares.sum(axis=1) - 1).abs() < 1e-5).all()
    given = pd.read_excel("comments.xlsx", engine="openpyxl")
    coded = pd.read_excel("results/coded/comments_coded.xlsx", engine="openpyxl")
    assert coded[given.columns].equals(given)
    assert coded["class"].astype(str).tolist() == codes["class"].tolist()
    assert set(coded["coded_by"]) == {"human", "teacher", "model"}


def test_the_page_and_the_methods_text_are_written_last(folder):
    page = Path("results/report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("Qwen2.5-3B", "bert-base-chinese", *NAMES))
    assert "## Human check" in Path("results/methods.md").read_text(encoding="utf-8")


def test_git_is_offered_no_comment_and_no_result(folder):
    shutil.copy(ROOT / ".gitignore", ".gitignore")
    subprocess.run(["git", "init", "--quiet"], check=True)
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    offered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert offered.split() == [".gitignore", "prompt.txt"]


def test_every_command_that_is_not_run_or_added_to_is_one_of_the_readme_s():
    lines = commands(read_page("README.md"))
    assert {line.split()[0] for line in lines} == {*NOT_RUN, "export", "python"}
    for start in [*PEOPLE, *(f"python {script}" for script in ADDITIONS)]:
        assert any(line.startswith(start) for line in lines), start


def test_no_script_but_submit_batch_opens_a_connection(folder):
    from huggingface_hub import constants

    assert not constants.HF_HUB_OFFLINE
    found = dict(asked)
    host, port = found.pop("provider")[:2]
    assert found.keys() == {path.name for path in ROOT.glob("*.py")}
    assert [script for script in found if found[script]] == ["submit_batch.py"]
    assert set(found["submit_batch.py"]) == {host, (host, port)}


IMPORTS = """
import pkgutil
import sys
sys.path[:0] = sys.argv[1:3]
from connections import connections
with connections() as asked:
    import pipeline
    names = [module.name for module in pkgutil.walk_packages(pipeline.__path__, "pipeline.")]
    for name in [*sys.argv[3:], *names]:
        __import__(name)
assert "torch" in sys.modules and not asked, asked
"""


def test_no_module_opens_a_connection_as_it_is_imported():
    names = [path.stem for path in ROOT.glob("*.py")]
    command = [sys.executable, "-c", IMPORTS, str(ROOT), str(ROOT / "tests"), *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_connection_would_be_seen():
    with connections() as found, socket.socket() as there, socket.socket() as here:
        there.bind(("127.0.0.1", 0))
        there.listen()
        address = there.getsockname()
        here.connect(address)
        socket.getaddrinfo("localhost", 80)
    assert found == [address, "localhost"]
