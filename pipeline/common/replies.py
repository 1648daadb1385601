"""A model's reply read as a class of the codebook, or the reason why it is none."""

import re
import unicodedata
from dataclasses import dataclass

from pipeline.common.codebook import Codebook, bare_words


@dataclass(frozen=True)
class Parsed:
    """A reply read as a label: `label` is -1 where `form` is the reason for none.

    `form` is `strict` (exactly `[k]`), `lenient` (one unambiguous class in another form), or the
    reason for no label: `empty`, `no_label`, `ambiguous`, `out_of_range`, and of a reply that was
    cut `length`.
    """

    label: int
    form: str


# The forms in which models give a class number, the clearest first. Runs of space are taken whole
# (`*+`): tried in parts by three `\s*`, a reply of 2,000 spaces took 20 seconds.
FORMS = (
    re.compile(r"\[[-0-9\s,/;|、]+\]"),
    re.compile(r"[({<]\s*-?[0-9]+\s*[)}>]"),
    re.compile(
        r"(?:\b(?:class|label|category|answer)\b|类别|分类|类型|标签|答案|选项)"
        r"\s*+(?:(?:is|是|为)\s*+)?(?:[:=#]\s*+)?-?[0-9]+"
        r"(?:\s*+(?:[,、/.~-]|或|和|or|and)\s*+-?[0-9]+)*"
        r"|第\s*[0-9]+\s*类",
        re.IGNORECASE,
    ),
)


NUMBER = re.compile(r"-?[0-9]{1,9}")  # int() refuses strings of thousands of digits


DENIAL = re.compile(r"(?:\bnot|n't|不是|不属于|并非|非)\s*(?:class|label|类别)?\s*$", re.IGNORECASE)
DENIAL_LENGTH = 30  # characters before a number in which it may be denied


BRACKETS = str.maketrans("【】〔〕「」『』《》", "[][][][]<>")


# What stands beside a number, up to its end: the class's name, in "[1] Mild: he says".
NAME_AFTER = re.compile(r"\W*([^:.,;!?\n]*)")


# How a reply that was cut begins where its answer is whole: `[k]`, with ornament before it.
ANSWER_FIRST = re.compile(r"[^\w\[({<]*\[\s*[0-9]+\s*\]")


# What follows `[k]` where more classes were about to be named: ", [1", " or", " Mild: ...\n[".
LIST_BEGUN = re.compile(
    r"[\s,/;|、~-]*(?:[,/;|、~-]|\b(?:or|and|to)\b|或|和|与|到|[({<])[\s({<]*[0-9]*\Z"
    r"|.*\[\s*[0-9]*\Z",
    re.IGNORECASE | re.DOTALL,
)


# What a reply may begin with: thoughts up to their end, or to the end of a reply that was cut.
THOUGHTS = re.compile(
    r"^.*(?:</think(?:ing)?>|</reasoning>|\[/THINK\]|<\|channel\|>final<\|message\|>)"
    r"|^\s*(?:<think(?:ing)?>|<reasoning>|\[THINK\]|<\|channel\|>analysis).*$",
    re.DOTALL,
)


def parse_reply(reply: str, codebook: Codebook) -> Parsed:
    """Read a model's reply as one class of the codebook, or say why it is none.

    Of a model that thinks aloud, what follows its thoughts is the reply.
    """
    reply = THOUGHTS.sub("", reply).strip()
    if not reply:
        return Parsed(-1, "empty")
    if re.fullmatch(r"\[[0-9]\]", reply) and int(reply[1]) < len(codebook.names):
        return Parsed(int(reply[1]), "strict")

    text = plain_brackets(reply)
    names = [bare_words(name) for name in codebook.names]
    if bare_words(text) in names:
        return Parsed(names.index(bare_words(text)), "lenient")
    beside = after = bare_words(NUMBER.sub(" ", text))
    for form in FORMS:
        if matches := list(form.finditer(text)):
            numbers = {int(n) for match in matches for n in NUMBER.findall(match[0])}
            after = bare_words(NAME_AFTER.match(text, matches[0].end())[1])
            starts = [match.start() for match in matches]
            denied = any(DENIAL.search(text[max(0, at - DENIAL_LENGTH) : at]) for at in starts)
            break
    else:
        if beside and beside not in names:
            return Parsed(-1, "no_label")
        numbers, denied = {int(n) for n in NUMBER.findall(text)}, False
    if not numbers or (denied and len(numbers) == 1):
        return Parsed(-1, "no_label")
    named = {names.index(name) for name in (beside, after) if name in names}
    if len(numbers | named) > 1:
        return Parsed(-1, "ambiguous")
    label = numbers.pop()
    if not 0 <= label < len(names):
        return Parsed(-1, "out_of_range")
    return Parsed(label, "lenient")


def parse_cut_reply(reply: str, codebook: Codebook) -> Parsed:
    """Read a reply that its limit cut: a label only where it begins with an answer that is whole.

    That is `[k]`, whatever follows but other classes, or a number in other brackets or a class name
    with nothing beside it. A class that is named further on may be one that was still weighed.
    """
    parsed = parse_reply(reply, codebook)
    if parsed.label < 0:
        return Parsed(-1, "length")
    text = plain_brackets(THOUGHTS.sub("", reply).strip())
    words, name, *others = map(bare_words, (text, codebook.names[parsed.label], *codebook.names))
    others.remove(name)
    if first := ANSWER_FIRST.match(text):
        rest = bare_words(text[first.end() :])
        list_begun = LIST_BEGUN.match(text, first.end())
        whole = not list_begun and not (rest and _begins_one(rest, others))
    elif words == name:
        whole = not _begins_one(words, others)
    else:
        whole = bool(FORMS[1].search(text)) and bare_words(NUMBER.sub(" ", text)) in ("", name)
    return parsed if whole else Parsed(-1, "length")


def _begins_one(words: str, names: list[str]) -> bool:
    return any(name.startswith(words) for name in names)


def plain_brackets(text: str) -> str:
    """Return a text in half width and with ASCII brackets."""
    return unicodedata.normalize("NFKC", text).translate(BRACKETS)
