"""Pages of any text: they have the elements of harmless text, and hold the text as it stands."""

import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from hostile import texts, tries, words
from hypothesis import given
from hypothesis import strategies as st
from report_fixture import arguments, write_study
from test_compare_labels import comments, write_set

import compare_labels
import write_report
from pipeline.common.cli import UserError
from pipeline.common.files import read_json, write_json
from pipeline.common.tables import read_csv, write_csv
from pipeline.report.page import embedded
from pipeline.report.page_rows import LONGEST_COMMENT

STUDY = Path("study")


class Tree(HTMLParser):
    """Collects what a page is made of: tags with the names of their attributes, and comments."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.parts, self.data, self.text = [], "", []
        self._in_data = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.parts.append((tag, *sorted(name for name, _ in attributes)))
        self._in_data = dict(attributes).get("id") == "data"
        assert not any(name.startswith("on") for name, _ in attributes)
        for name, value in attributes:
            assert name not in ("href", "src") or value.startswith(("#", "data:"))

    def handle_endtag(self, tag):
        self.parts.append(("/", tag))
        self._in_data = False

    def handle_comment(self, data):
        self.parts.append(("comment", data))

    def handle_data(self, data):
        if self._in_data:
            self.data += data
        else:
            self.text.append(data)


def page_of(messages, reply, name):
    """Return the page of a study with these three comments, this invalid reply and this name."""
    results = STUDY / "results"
    for path in sorted(results.glob("*/predictions.csv")):
        table = read_csv(path, ["message", "reply"], "compare_models.py")
        if "human" not in path.parent.name:
            table.loc[table.index[:3], "message"] = messages
        table["reply"] = table["reply"].mask(table["predicted"] == "-1", reply)
        write_csv(table, path)
    labels = STUDY / "silver_labels.json"
    write_json(read_json(labels, "") | {"teachers": [name]}, labels)
    for path in results.glob("*/metrics.json"):
        write_json(read_json(path, "") | {"model": name}, path)
    write_report.main([*arguments(STUDY), f"--title={name}"])
    return (results / "report.html").read_text(encoding="utf-8")


HARMLESS = ["one", "two", "three"]


@cache
def harmless_parts(*are_long):
    """Return what the page is made of where the comments are harmless, and as long: it tells it."""
    there = zip(HARMLESS, are_long, strict=True)
    messages = [message + " more" * LONGEST_COMMENT * is_long for message, is_long in there]
    return Tree(page_of(messages, "no", "a model")).parts


@tries(0.5)
@given(st.lists(words(), min_size=3, max_size=3, unique=True), words(), words())
def test_no_text_adds_an_element_to_the_page(messages, reply, name):
    if not STUDY.is_dir():
        write_study(STUDY)
    tree = Tree(page_of(messages, reply[:2_000], name[:100]))
    assert tree.parts == harmless_parts(*(len(message) > LONGEST_COMMENT for message in messages))
    data = json.dumps(json.loads(tree.data), ensure_ascii=False)
    for message in messages:
        assert json.dumps(message[:LONGEST_COMMENT], ensure_ascii=False)[1:-1] in data


@given(st.recursive(texts(surrogates=True), lambda part: st.lists(part, max_size=3)))
def test_no_text_ends_the_element_that_holds_the_data(value):
    element = f'<script id="data" type="application/json">{embedded(value)}</script><p>'
    tree = Tree(element)
    assert tree.parts == [("script", "id", "type"), ("/", "script"), ("p",)]
    assert json.loads(tree.data) == value


def set_page_of(messages, names, text):
    """Return the page of two label sets of these comments, classes and codebooks."""
    rows = comments([0, 1, 0, 1]).assign(message=[*messages, "same"])
    books = [f"{line}\n[0] {names[0]}: a\n[1] {names[1]}: b" for line in ("Which?", text)]
    write_set("first", rows, books[0], teacher=names[0])
    write_set("second", rows.assign(**{"class": [1, 0, 0, 1]}), books[1], "2026-11-03")
    compare_labels.main(["--sets", "first,second"])
    return Path(compare_labels.OUTPUT_DIR, "comparison.html").read_text(encoding="utf-8")


@tries(0.5)
@given(
    st.lists(words(), min_size=3, max_size=3, unique=True),
    st.lists(words(), min_size=2, max_size=2),
    words(),
)
def test_no_text_adds_an_element_to_the_page_of_two_sets(messages, names, text):
    names = ["".join(c for c in name if c not in ":：[]")[:30] for name in names]
    try:
        page = set_page_of([message[:500] for message in messages], names, text[:200])
    except UserError:
        return
    kinds = {part[0] for part in Tree(page).parts}
    harmless = {part[0] for part in Tree(set_page_of(HARMLESS, ["a", "b"], "What?")).parts}
    assert kinds <= harmless
