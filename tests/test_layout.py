"""The project's rooms: what each says of itself, and how long a file may be."""

import ast
import re

import pytest
from conftest import ROOT

PIPELINE = ROOT / "pipeline"
ROOMS = sorted(path.name for path in PIPELINE.iterdir() if path.is_dir() and path.name[0] != "_")
SCRIPTS = sorted(ROOT.glob("*.py"))
MODULES = sorted(PIPELINE.rglob("*.py"))
OTHERS = [
    path for name in ("benchmarks", "pre_process", "tests") for path in ROOT.glob(f"{name}/**/*.py")
]


def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def longer(paths, limit):
    """Return the paths of more than so many lines, with their number."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > limit}


def contract():
    """Return the layers of .importlinter, the highest first, each a list of rooms."""
    block = (ROOT / ".importlinter").read_text(encoding="utf-8").partition("layers =\n")[2]
    layers = [line for line in block.splitlines() if line.startswith("    ")]
    return [[room.strip() for room in line.split("|")] for line in layers]


def test_every_module_lies_in_a_room_of_the_contract():
    assert [path.name for path in PIPELINE.glob("*.py")] == ["__init__.py"]
    assert sorted(room for layer in contract() for room in layer) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_in_a_few_lines_what_it_holds_and_what_it_may_import(room):
    layers = contract()
    below = layers[1 + next(n for n, layer in enumerate(layers) if room in layer) :]
    may = "Imports no other room."
    if below:
        may = f"May import {', '.join(below[0])}{' and below' if below[1:] else ''}."
    lines = [line for line in docstring(PIPELINE / room / "__init__.py").splitlines() if line]
    assert 2 <= len(lines) <= 5
    assert lines[-1] == may


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_named_by_the_package_and_the_modules_that_it_names_are_there(room):
    assert f"\n{room:<12}" in docstring(PIPELINE / "__init__.py")
    named = re.findall(r"\b\w+\.py\b", docstring(PIPELINE / room / "__init__.py"))
    assert [name for name in named if not (PIPELINE / room / name).is_file()] == []


def test_a_file_begins_with_a_sentence():
    first = {path: docstring(path).partition("\n")[0] for path in [*SCRIPTS, *MODULES, *OTHERS]}
    assert [str(path) for path, line in first.items() if not line.endswith(".")] == []


def test_a_module_has_at_most_330_lines_and_a_script_160():
    assert longer(MODULES, 330) == {}
    assert longer(SCRIPTS, 160) == {}


def test_a_script_s_main_is_a_table_of_contents_of_8_to_25_lines():
    lines = {}
    for path in SCRIPTS:
        [main] = [
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef) and node.name == "main"
        ]
        lines[path.name] = main.end_lineno - main.lineno + 1
    assert {name: n for name, n in lines.items() if not 8 <= n <= 25} == {}


def test_ci_runs_the_readme_s_command():
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == "make test"
    assert "    make test" in (ROOT / "README.md").read_text(encoding="utf-8")
