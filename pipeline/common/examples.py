"""Comments that a codebook gives as examples, in lines such as `Example: ...` and `例：...`."""

import re

from pipeline.common.files import clean_text

EXAMPLE_LINE = re.compile(
    r"[ \t>*_•·-]*(?:(?:for )?examples?|例(?:子|如|句)?|示例|举例|范例)[ \t]*[0-9]*[*_]*"
    r"[ \t]*[:：][*_]*(.*)"
    r"|[ \t>*_•·(-]*e\.[ \t]?g\.[ \t,:：]*(.*)",
    re.IGNORECASE,
)
QUOTES = "\"'`“”„‟‘’‚«»‹›「」『』﹁﹂﹃﹄〝〞＂＇"
QUOTED = re.compile(rf"\s*[{QUOTES}](.+)[{QUOTES}][\s.,;。，；]*")
BETWEEN = re.compile(
    rf"(?<=[{QUOTES}])[\s.。]*(?:[,;/、，；]|\b(?:or|and)\b|或|和)\s*(?:or|and|或|和)?\s*(?=[{QUOTES}])"
)
BULLET = re.compile(r"\A\s*(?:[*•·–—-]|[0-9]{1,2}[.)、])\s+")
ANSWER_BEFORE = re.compile(r"\A\s*\[([0-9])\][\s:：]*")
ANSWER_AFTER = re.compile(r"\[([0-9])\][\s.。)）]*\Z")
ARROWS = " \t=>→⇒:：(（–—-"
ANSWERS_ALONE = re.compile(r"(?:\[[0-9]\]|\bor\b|\band\b|或|和|[\s,、，;/|.。])*")


def example_in(line: str) -> str | None:
    """Return what a line gives as an example, "" for the heading of a list, None for none."""
    found = EXAMPLE_LINE.match(line)
    return (found[1] or found[2] or "").strip() if found else None


def read_examples(text: str) -> list[tuple[int, str]]:
    """Return the examples of a line, several where each is in quotes, without their quotes.

    Each comes with the class that stands beside it as an answer (`[k]`), -1 where none does. The
    answers alone, as in `Example: [0]`, are no example.
    """
    text = BULLET.sub("", text)
    if ANSWERS_ALONE.fullmatch(text):
        return []
    label = -1
    for answer in (ANSWER_BEFORE.match(text), ANSWER_AFTER.search(text)):
        label = int(answer[1]) if answer else label
    text = without_answer(text)
    parts = BETWEEN.split(text) if QUOTED.fullmatch(text) else [text]
    quoted = [(QUOTED.fullmatch(part), part) for part in parts]
    bare = [clean_text(found[1] if found else part) for found, part in quoted]
    return [(label, part) for part in bare if part]


def without_answer(text: str) -> str:
    """Return a text without an answer (`[k]`) at its beginning and its end."""
    text = ANSWER_BEFORE.sub("", text)
    after = ANSWER_AFTER.search(text)
    return text[: after.start()].rstrip(ARROWS) if after else text


def example_key(text: str) -> str:
    """Return what two texts have in common that differ in white space, quotes, or an answer."""
    return re.sub(rf"[\s{QUOTES}]", "", without_answer(text))
