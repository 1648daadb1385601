"""What the READMEs and docs/*.md name exists, and both READMEs name the same."""

import re
import subprocess
from itertools import product
from pathlib import Path

import pytest
from conftest import ROOT
from readme import PAGES, READMES, commands, read_page, spans

from pipeline.common.cli import option_of, settings_block

SETTINGS = {
    path.name: settings_block(path.read_text(encoding="utf-8")) for path in ROOT.glob("*.py")
}
OPTIONS = {name: {option_of(s) for s in settings} for name, settings in SETTINGS.items()}
# Files that steps read and write, as their own source names them.
SOURCES = "".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.py")])
for room in ("pipeline", "pre_process/sample"):
    SOURCES += "".join(path.read_text(encoding="utf-8") for path in (ROOT / room).rglob("*.py"))
SOURCES += (ROOT / "study.mk").read_text(encoding="utf-8")
# Files that the user names.
EXAMPLES = {
    "comments.xlsx",
    "coder1.xlsx",
    "coder2.xlsx",
    "ann.xlsx",
    "ben.xlsx",
    "comments_coded.xlsx",
}
EXAMPLES |= {"silver_label_v2-2.jsonl"}
OTHERS = (
    "transformers ",
    "chromium ",
    "vllm ",
    "python -m llama_cpp.server ",
    "python -m sglang.launch_server ",
)  # programs whose options are not ours


def code_of(name):
    text = read_page(name)
    return spans(text) + commands(text)


def negated(option):
    return "--" + option.removeprefix("--no-")


def found_in_pages(find):
    """Return (page, what `find` finds in the page's name) for all pages, each once."""
    return sorted({(page, name) for page in PAGES for name in find(page)})


def scripts_of(page):
    return re.findall(r"\b\w+\.(?:py|sh|bat)\b", read_page(page))


@pytest.mark.parametrize(("page", "name"), found_in_pages(scripts_of))
def test_a_script_that_a_page_names_exists(page, name):
    found = [ROOT / name, *(ROOT / "tests").glob(name)]
    assert any(path.is_file() for path in found), f"{page} names {name}"


@pytest.mark.parametrize(("page", "name"), list(product(READMES, sorted(SETTINGS))))
def test_every_script_has_its_command_in_the_readmes(page, name):
    assert any(re.match(rf"python {name}\b", line) for line in commands(read_page(page)))


def lines_with_options(page):
    return [code for code in code_of(page) if "--" in code and not code.startswith(OTHERS)]


@pytest.mark.parametrize(("page", "code"), found_in_pages(lines_with_options))
def test_an_option_that_a_page_names_exists(page, code):
    scripts = re.findall(r"\b\w+\.py\b", code)
    known = set.union(*(OPTIONS[name] for name in scripts or OPTIONS))
    if module := re.search(r"python -m ([\w.]+)", code):
        source = ROOT.joinpath(*module[1].split(".")).with_suffix(".py").read_text(encoding="utf-8")
        known = {option_of(setting) for setting in settings_block(source)}
    ours = re.sub(r"torchrun (--[a-z-]+ \d+ )*", "", code)
    for option in re.findall(r"--[a-z0-9-]+", ours):
        assert option == "--help" or option in known or negated(option) in known, page


def make_lines(page):
    return [code for code in code_of(page) if code.startswith("make ")]


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in make_lines(page)}))
def test_make_accepts_a_command_that_a_page_names(line):
    target, *values = line.split()[1:]
    study, sheet = Path("studies/gender").resolve(), Path("comments.xlsx").resolve()
    places = {"STUDY=studies/gender": f"STUDY={study}", "SHEET=comments.xlsx": f"SHEET={sheet}"}
    command = ["make", "--dry-run", "-C", str(ROOT), target]
    command += [places.get(value, value) for value in values]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_settings_of_a_study_that_the_docs_show_are_those_of_study_mk():
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```make\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    study = (ROOT / "study.mk").read_text(encoding="utf-8")
    for name, value in re.findall(r"^(\w+) = (.*)$", block, re.MULTILINE):
        assert re.search(rf"\b{name}\b", study), name
        known = set.union(*OPTIONS.values())
        assert set(re.findall(r"--[a-z0-9-]+", value)) <= known, value


def files_of(page):
    pattern = r"[\w./<>*-]*\w\*?\.(?:txt|csv|jsonl|xlsx|md|png|json|mk|html)\b"
    return re.findall(pattern, " ".join(code_of(page)))


@pytest.mark.parametrize(("page", "name"), found_in_pages(files_of))
def test_a_file_that_a_page_names_is_in_the_project_or_written_by_a_step(page, name):
    base = name.rpartition("/")[2]
    known = (ROOT / name).is_file() or base in SOURCES or base in EXAMPLES
    assert known, f"{page} names {name}"


def links_of(page):
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    return [target for target in targets if not target.startswith("https://")]


@pytest.mark.parametrize(("page", "target"), found_in_pages(links_of))
def test_a_link_leads_to_a_file(page, target):
    assert (ROOT / page).parent.joinpath(target).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_no_page_leaves_a_figure_open(page):
    assert "not measured yet" not in read_page(page)


def test_both_readmes_have_the_same_commands_in_the_same_order():
    english, chinese = map(read_page, READMES)
    assert commands(chinese) == commands(english)
    assert spans(chinese) == spans(english)


def test_both_readmes_have_the_same_sections_steps_pictures_and_pages():
    shapes = []
    for name in READMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        headings = [len(signs) for signs in re.findall(r"^(#+) ", text, re.MULTILINE)]
        numbers = re.findall(r"^(\d+\.) ", text, re.MULTILINE)
        links = [link for link in links_of(name) if link not in READMES]
        shapes.append((headings, numbers, links))
    assert shapes[0] == shapes[1]


def test_both_readmes_have_the_same_table():
    tables = []
    for name in READMES:
        rows = re.findall(r"^\| .*$", read_page(name), re.MULTILINE)
        tables.append([row for row in rows if "`" in row])
    assert tables[0] == tables[1]
    assert len(tables[0]) == 3
