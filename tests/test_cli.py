"""The settings block and the command line made from it."""

import ast
import importlib
import json
import subprocess
import sys

import pytest
from conftest import ROOT

from pipeline.common.cli import option_of, parse_settings, settings_block

SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))

SOURCE = '''"""Step 0: try."""
# ---------------------------------
# data
INPUT_FILE = "./a#b.csv"  # a file; 100 % text
BATCH_SIZE = 32  # rows
TEST_SIZE = 0.2  # share
RESUME = False  # go on
# ---------------------------------
HIDDEN = 1  # no setting
'''


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "some_step.py"
    path.write_text(SOURCE)
    namespace = {"__file__": str(path)}
    exec(compile(SOURCE, str(path), "exec"), namespace)
    return namespace


def test_every_constant_of_the_block_is_an_option_of_its_type(script):
    settings = parse_settings(
        script, ["--input-file", "x", "--batch-size", "4", "--test-size", "0.5", "--resume"]
    )
    assert vars(settings) == {
        "input_file": "x",
        "batch_size": 4,
        "test_size": 0.5,
        "resume": True,
    }
    assert parse_settings(script, ["--no-resume"]).resume is False


def test_only_overridden_values_are_printed(script, capsys):
    parse_settings(script, ["--batch-size", "4"])
    assert capsys.readouterr().out == "setting BATCH_SIZE = 4 (default 32)\n"


def test_a_study_holds_all_default_paths_but_those_of_models(tmp_path, capsys):
    source = SOURCE.replace("# data\n", 'STUDY = "."  # a\nMODEL_PATH = "./Qwen"  # b\n')
    source = source.replace('"./a#b.csv"', '"./data/a.csv"').replace(
        "RESUME", 'NAME = "./"  # c\nRESUME'
    )
    (tmp_path / "some_step.py").write_text(source)
    script = {"__file__": str(tmp_path / "some_step.py")}
    exec(compile(source, "some_step.py", "exec"), script)
    assert parse_settings(script, []).input_file == "./data/a.csv"
    moved = parse_settings(script, ["--study", "studies/gender"])
    assert moved.input_file == "studies/gender/data/a.csv"
    assert moved.model_path == "./Qwen"
    given = parse_settings(script, ["--study", "studies/gender", "--input-file", "./mine.csv"])
    assert given.input_file == "./mine.csv"
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "setting STUDY = 'studies/gender' (default '.')"
    assert printed[2] == "setting INPUT_FILE = './mine.csv' (default './data/a.csv')"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batchsize", "4"], "unknown option --batchsize; did you mean --batch-size?"),
        (["--batch-size", "four"], "argument --batch-size: invalid int value: 'four'"),
        (["--batch", "4"], "unknown option --batch; did you mean --batch-size?"),
        (["--test-size", "nan"], "argument --test-size: nan is not a finite number"),
        (["--test-size", "inf"], "argument --test-size: inf is not a finite number"),
        (["--test-size=-inf"], "argument --test-size: -inf is below 0"),
        (["stray"], "unknown option stray"),
    ],
)
def test_a_mistyped_option_or_value_ends_with_one_line_and_status_2(script, argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_settings(script, argv)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"some_step.py: {message} (try --help)\n"


def test_the_block_ends_at_its_second_rule():
    assert settings_block(SOURCE) == {
        "INPUT_FILE": "a file; 100 % text",
        "BATCH_SIZE": "rows",
        "TEST_SIZE": "share",
        "RESUME": "go on",
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_a_step_card_and_literal_settings_with_comments(name):
    source = (ROOT / f"{name}.py").read_text(encoding="utf-8")
    card = ast.get_docstring(ast.parse(source))
    assert card.startswith("Step ")
    assert all(word in card for word in ("Reads", "Writes", "Run"))
    settings = settings_block(source)
    literals = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and node.targets[0].id in settings
    }
    assert literals.keys() == settings.keys() and settings
    for setting, comment in settings.items():
        assert comment, f"{setting} has no comment"
        assert literals[setting] is not None and literals[setting] != []


HELPS = """
import contextlib, importlib, io, json, sys
shown = {}
for name in sys.argv[1:]:
    module, out, status = importlib.import_module(name), io.StringIO(), None
    sys.argv = [f"{name}.py", "--help"]
    with contextlib.redirect_stdout(out):
        try:
            module.main()
        except SystemExit as stop:
            status = stop.code
    shown[name] = {"status": status, "text": out.getvalue(), "torch": "torch" in sys.modules}
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def helps():
    """Ask all scripts for --help, in a process of its own; return what each did."""
    command = [sys.executable, "-c", HELPS, *SCRIPTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_every_setting_and_needs_no_torch(name, helps):
    shown = helps[name]
    assert shown["status"] == 0 and not shown["torch"]
    module = importlib.import_module(name)
    assert module.__doc__.strip().splitlines()[0] in shown["text"]
    for setting in settings_block((ROOT / f"{name}.py").read_text(encoding="utf-8")):
        assert option_of(setting) in shown["text"]
