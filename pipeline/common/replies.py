"""A model's reply read as a class of the codebook, or the reason why it is none."""

import re
import unicodedata
from dataclasses import dataclass

from pipeline.common.codebook import Codebook, bare_words


@dataclass(frozen=True)
class Parsed:
    """A reply read as a label: `label` is -1 where `form` is the reason for none.

    `form` is `strict` (exactly `[k]`), `lenient` (one unambiguous class in another form), or the
    reason for no label: `empty`, `no_label`, `ambiguous`, `out_of_range`.
    """

    label: int
    form: str


# The forms in which models give a class number, the clearest first.
FORMS = (
    re.compile(r"\[[-0-9\s,/;|、]+\]"),
    re.compile(r"[({<]\s*-?[0-9]+\s*[)}>]"),
    re.compile(
        r"(?:\b(?:class|label|category|answer)\b|类别|分类|类型|标签|答案|选项)"
        r"\s*(?:is|是|为)?\s*[:=#]?\s*-?[0-9]+(?:\s*(?:[,、/.~-]|或|和|or|and)\s*-?[0-9]+)*"
        r"|第\s*[0-9]+\s*类",
        re.IGNORECASE,
    ),
)


NUMBER = re.compile(r"-?[0-9]{1,9}")  # int() refuses strings of thousands of digits


DENIAL = re.compile(r"(?:\bnot|n't|不是|不属于|并非|非)\s*(?:class|label|类别)?\s*$", re.IGNORECASE)


BRACKETS = str.maketrans("【】〔〕「」『』《》", "[][][][]<>")


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

    text = unicodedata.normalize("NFKC", reply).translate(BRACKETS)
    names = [bare_words(name) for name in codebook.names]
    if bare_words(text) in names:
        return Parsed(names.index(bare_words(text)), "lenient")
    beside = bare_words(NUMBER.sub(" ", text))
    for form in FORMS:
        if matches := list(form.finditer(text)):
            numbers = {int(n) for match in matches for n in NUMBER.findall(match[0])}
            denied = any(DENIAL.search(text[: match.start()]) for match in matches)
            break
    else:
        if beside and beside not in names:
            return Parsed(-1, "no_label")
        numbers, denied = {int(n) for n in NUMBER.findall(text)}, False
    if not numbers or (denied and len(numbers) == 1):
        return Parsed(-1, "no_label")
    if len(numbers) > 1 or (beside in names and numbers != {names.index(beside)}):
        return Parsed(-1, "ambiguous")
    label = numbers.pop()
    if not 0 <= label < len(names):
        return Parsed(-1, "out_of_range")
    return Parsed(label, "lenient")
