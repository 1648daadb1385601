"""The page of compare_labels.py: one HTML file with the tables, examples and codebooks."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache

from pipeline.common.codebook import CLASS_LINE, bare_words
from pipeline.labelling.label_tables import LabelSet
from pipeline.report import set_sentences
from pipeline.report.page import page_template
from pipeline.report.set_comparison import SetComparison

ALIKE = 0.5  # the least likeness of two lines that stand side by side
SHOWN = 10  # kinds of change on the page, the most frequent ones

Part = tuple[str, bool]  # a piece of a line, and whether the other line lacks it


@dataclass(frozen=True)
class DiffLine:
    """A line of two codebooks: `kind` is same, changed, removed or added; a side may be empty."""

    kind: str
    old: list[Part]
    new: list[Part]


def render_set_page(found: SetComparison, sets: list[LabelSet], title: str) -> str:
    """Return the page; everything from a file is escaped by the template."""
    codebooks = {one.name: one.codebook.text for one in sets}
    diffs = [
        [] if pair.same_codebook else codebook_diff(codebooks[pair.first], codebooks[pair.second])
        for pair in found.pairs
    ]
    template = page_template("set_page.html.jinja")
    page = template.render(
        title=title,
        found=found,
        diffs=diffs,
        codebooks=codebooks,
        sentences=set_sentences,
        shown=SHOWN,
    )
    return page + "\n"


def codebook_diff(old: str, new: str) -> list[DiffLine]:
    """Return two codebooks side by side, line by line; a class stands beside the same class."""
    first, second = old.splitlines(), new.splitlines()
    lines = []
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        ours, theirs = first[start:end], second[other_start:other_end]
        if kind == "equal":
            lines += [DiffLine("same", [(line, False)], [(line, False)]) for line in ours]
        else:
            lines += replaced(ours, theirs)
    return lines


def replaced(old: list[str], new: list[str]) -> list[DiffLine]:
    """Return lines that took the place of others; those that are most alike stand side by side."""
    best = max(
        (
            (likeness(ours, theirs), i, j)
            for i, ours in enumerate(old)
            for j, theirs in enumerate(new)
        ),
        default=(0, 0, 0),
    )
    if best[0] < ALIKE:
        removed = [DiffLine("removed", [(line, True)], []) for line in old]
        return removed + [DiffLine("added", [], [(line, True)]) for line in new]
    _, i, j = best
    pair = DiffLine("changed", *line_diff(old[i], new[j]))
    return [*replaced(old[:i], new[:j]), pair, *replaced(old[i + 1 :], new[j + 1 :])]


@cache
def likeness(old: str, new: str) -> float:
    """Return the share of words that two lines share, 1 for lines of the same class."""
    classes = [CLASS_LINE.match(line) for line in (old, new)]
    if all(classes) and len({bare_words(found[2]) for found in classes}) == 1:
        return 1.0
    first, second = (re.findall(r"[A-Za-z0-9]+|\w", line) for line in (old, new))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def line_diff(old: str, new: str) -> tuple[list[Part], list[Part]]:
    """Return two lines in pieces of equal and of other words; some scripts have no spaces."""
    first, second = (re.findall(r"[A-Za-z0-9]+|.", line) for line in (old, new))
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    left, right = [], []
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        for parts, piece in ((left, first[start:end]), (right, second[other_start:other_end])):
            if piece:
                parts.append(("".join(piece), kind != "equal"))
    return left, right
