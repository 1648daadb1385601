"""What README.md names exists: scripts, options, files and targets."""

import re

import pytest
from conftest import ROOT

from pipeline.common.cli import option_of, settings_block

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = {
    path.name: settings_block(path.read_text(encoding="utf-8")) for path in ROOT.glob("*.py")
}
OPTIONS = {name: {option_of(s) for s in settings} for name, settings in SETTINGS.items()}
# Files that steps read and write, as their own source names them.
SOURCES = "".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.py")])
SOURCES += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pipeline").rglob("*.py"))


def quoted(text):
    """Return the code of a Markdown text: spans in backticks and indented blocks."""
    blocks = re.findall(r"^(?: {4}|\t).*$", text, re.MULTILINE)
    return re.findall(r"`([^`]+)`", text) + blocks


def negated(option):
    return "--" + option.removeprefix("--no-")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b\w+\.(?:py|sh)\b", TEXT))))
def test_a_script_that_the_readme_names_exists(name):
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_every_script_is_in_the_table_of_steps(name):
    assert f"`{name}`" in TEXT


OURS = [code for code in quoted(TEXT) if "--" in code and "transformers serve" not in code]


@pytest.mark.parametrize("code", OURS)
def test_an_option_that_the_readme_names_exists(code):
    code = re.sub(r"\s*#.*", "", code)
    scripts = re.findall(r"\b\w+\.py\b", code)
    known = set.union(*(OPTIONS[name] for name in scripts or OPTIONS))
    for option in re.findall(r"--[a-z0-9-]+", code):
        assert option == "--help" or option in known or negated(option) in known


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", TEXT))))
def test_a_make_target_that_the_readme_names_exists(target):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


NAMED = re.findall(
    r"[\w./<>*-]*\w\*?\.(?:txt|csv|jsonl|xlsx|md|png|json|mk)\b", " ".join(quoted(TEXT))
)


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_a_file_that_the_readme_names_is_in_the_project_or_written_by_a_step(name):
    known = SOURCES.replace("\n", " ")
    base = name.rpartition("/")[2]
    example = re.fullmatch(r"new\.csv|silver_label_v2-(2|retry)\.jsonl|inf_batch_v2\*\.jsonl", base)
    assert (ROOT / name).is_file() or base in known or example
