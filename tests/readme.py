"""The commands and the code that README.md, README.zh.md and docs/*.md name."""

import re

from conftest import ROOT

READMES = ("README.md", "README.zh.md")
PAGES = [*READMES, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def read_page(name):
    """Return a page's text without fenced blocks: these show files, no commands."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(text):
    """Return the lines of the indented blocks, also those of list items, without their comments."""
    lines, margin = [], 0
    for line in text.splitlines():
        if item := re.match(r"(\d+\.|-) ", line):
            margin = len(item[0])
        elif line and not line.startswith(" "):
            margin = 0
        elif line.startswith(" " * (margin + 4)):
            lines.append(re.sub(r"\s+#.*", "", line.strip()))
    return lines


def spans(text):
    """Return what stands between backticks, in order."""
    return re.findall(r"`([^`]+)`", text)
