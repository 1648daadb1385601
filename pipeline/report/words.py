"""Figures and lists as sentences have them."""

from collections.abc import Iterable
from string import Formatter
from typing import Any

import numpy as np


def as_text(value: Any, form: str = "") -> str:
    """Return a value as the page and the paragraph show it; a list becomes `[low, high]`.

    `form` is `%` (one decimal), `points` (signed percentage points), `p` (a p-value with its sign),
    `row|rows` (a count with its noun) or a format of Python's; a number without one gets
    thousands separators and as many decimals as it has.
    """
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"[{', '.join(as_text(part, form) for part in value)}]"
    if form == "%":
        return f"{value:.1%}"
    if form == "points":
        return f"{100 * value:+.1f}".replace("-", "−")
    if form == "p":
        return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    if "|" in form:
        one, many = form.split("|")
        return f"{value:,} {one if value == 1 else many}"
    if form:
        return format(value, form).replace("-", "−")
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else np.format_float_positional(value, trim="-")


def fill(sentence: str, record: dict) -> str:
    """Return a sentence with its `{key:form}` filled from a record, "" where one is missing."""
    parts = []
    for text, key, form, _ in Formatter().parse(sentence):
        parts.append(text)
        if key is not None:
            if record.get(key) is None:
                return ""
            parts.append(as_text(record[key], form or ""))
    return "".join(parts)


def fill_all(record: dict, *sentences: str) -> list[str]:
    """Return those of the sentences that a record can fill."""
    return [filled for sentence in sentences if (filled := fill(sentence, record))]


def fill_all_of(records: Iterable[dict], sentence: str) -> list[str]:
    """Return a sentence for each of the records that can fill it."""
    return [filled for record in records if (filled := fill(sentence, record))]


def joined(words: Iterable[str]) -> str:
    """Return words as English lists them: "a, b and c"; "" for none."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last
