"""What people wrote and what was paid for stays out of the project's history: .gitignore."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

PUBLIC = {"./prompt.txt"}
WRITTEN = [
    "pre_process/human_check/coder1.xlsx",
    "pre_process/human_check/human_labels.csv",
    "pre_process/human_check/pilot/sample.json",
    "pre_process/human_check/pilot_2/adjudication.xlsx",
    "pre_process/human_check_2/sample.csv",
    "pre_process/human_check_2/pilot/ann.xlsx",
    "pre_process/second_sample/ben.ods",
    "pre_process/label_sets/DeepSeek-V3-1a2b3c4d/labels.csv",
    "pre_process/label_sets/DeepSeek-V3-1a2b3c4d/silver_label_v2.jsonl",
    "pre_process/datas/first_codebook/silver_label_v2.jsonl",
    "pre_process/datas/submit_batch.json",
    "pre_process/comments.xlsx",
    "results/audit/audit.xlsx",
    "results/audit_2/audit.xlsx",
    "results/human_check/pilot/silver_errors.xlsx",
    "human_check_2/coder1.xlsx",
    "audit_2/audit.json",
    "comments.xlsx",
    "comments.csv",
    "answers from the provider.jsonl",
    "docs/coded by ann.xlsx",
    "studies/gender/pre_process/human_check/coder1.xlsx",
]


def default_paths():
    """Return the paths in the scripts' settings; a folder's is that of a file in it."""
    paths = set()
    for script in ROOT.glob("*.py"):
        for node in ast.parse(script.read_bytes()).body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign) and isinstance(value, ast.Constant):
                paths.add(str(value.value))
    paths = {path for path in paths if path.startswith("./") and "*" not in path} - PUBLIC
    return sorted(path if Path(path).suffix[1:].isalpha() else f"{path}/x" for path in paths)


def ignored(folder, paths):
    """Return which of the paths git leaves out by the project's .gitignore."""
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    shutil.copy(ROOT / ".gitignore", folder)
    command = ["git", "-C", folder, "check-ignore", "--stdin", "-z"]
    found = subprocess.run(command, input="\0".join(paths), capture_output=True, text=True)
    return found.stdout.split("\0")


@pytest.mark.parametrize("paths", [WRITTEN, default_paths()], ids=["written", "by default"])
def test_what_scripts_write_and_people_code_is_in_no_commit(tmp_path, paths):
    assert len(paths) > 20
    assert set(paths) - set(ignored(tmp_path, paths)) == set()


def test_the_project_s_own_files_are_not_left_out(tmp_path):
    listed = ["git", "-C", str(ROOT), "ls-files", "-z"]
    files = subprocess.run(listed, capture_output=True, text=True).stdout.split("\0")[:-1]
    files = files or [str(path.relative_to(ROOT)) for path in ROOT.glob("pre_process/sample/*")]
    assert set(files) & set(ignored(tmp_path, files)) == set()
