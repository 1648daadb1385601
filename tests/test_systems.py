"""What must hold on Windows and macOS too, checked without such a machine."""

import ast
import io
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest
from conftest import ROOT

from pipeline.common.cli import parse_settings, run, with_slashes
from pipeline.labelling.provider import how_to_set

POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_CALLS = {"fork", "forkserver", "geteuid", "getuid", "kill", "killpg", "mkfifo", "setsid"}
SOURCES = sorted(
    path
    for pattern in ("*.py", "pipeline/**/*.py", "pre_process/**/*.py")
    for path in ROOT.glob(pattern)
)


def shown(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_module_needs_what_windows_lacks(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used |= {node.value} & {"forkserver"}
    assert not used & (POSIX_ONLY | POSIX_CALLS)


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_program_s_text_is_read_as_utf_8(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess."):
            options = {option.arg for option in node.keywords}
            assert not options & {"text", "universal_newlines"} or "encoding" in options


def test_every_name_in_the_project_can_stand_on_a_windows_disk():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True).stdout
    files = names.decode().rstrip("\0").split("\0")
    assert len(files) > 100
    for name in files:
        assert not set(name) & set('<>:"\\|?*') and not name.endswith((" ", "."))
    assert len({name.casefold() for name in files}) == len(files)


def test_a_path_typed_with_backslashes_is_kept_with_slashes(monkeypatch):
    typed = str(PureWindowsPath("studies/gender/test.csv"))
    assert typed == r"studies\gender\test.csv"
    assert with_slashes(typed, "\\") == "studies/gender/test.csv"
    monkeypatch.setattr("pipeline.common.cli.with_slashes", lambda path: with_slashes(path, "\\"))
    block = '# -----\nTEST_FILE = "./test.csv"  # a\nPATTERN = "a"  # b\n# -----\n'
    Path("step.py").write_text(block, encoding="utf-8")
    script = {"__file__": "step.py", "__doc__": "", "TEST_FILE": "./test.csv", "PATTERN": "a"}
    settings = parse_settings(script, ["--test-file", typed, "--pattern", r"a\b"])
    assert (settings.test_file, settings.pattern) == ("studies/gender/test.csv", r"a\b")


@pytest.mark.parametrize("encoding", ["cp1252", "cp936", "ascii"])
def test_chinese_text_on_a_console_of_another_encoding_is_no_crash(encoding):
    code = "from pipeline.common.cli import run\n"
    code += "run(lambda: print('评论 ok \\N{GRINNING FACE}'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout.decode(encoding)
    assert ("评论" in done.stdout.decode(encoding)) == (encoding == "cp936")


def test_a_script_runs_in_a_notebook_whose_output_is_no_file(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    run(lambda: print("评论"))
    assert shown.getvalue() == "评论\n"


def test_without_the_precaution_such_a_console_is_a_crash():
    with pytest.raises(UnicodeEncodeError):
        print("评论", file=io.TextIOWrapper(io.BytesIO(), encoding="cp1252"), flush=True)


def test_a_key_is_set_by_the_command_of_the_system():
    assert how_to_set("OPENAI_API_KEY", "Windows") == "set OPENAI_API_KEY=..."
    assert how_to_set("OPENAI_API_KEY", "Darwin") == "export OPENAI_API_KEY=..."
