"""The codebook: the task and its classes, as `prompt.txt` defines them for every step."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.files import read_text

CLASS_LINE = re.compile(r"^[ \t]*\[([0-9]+)\][ \t]*([^:：\[\]\n]+?)[ \t]*[:：]", re.MULTILINE)
NO_COLON = re.compile(r"^[ \t]*\[[0-9]+\][ \t]*\w[^:：\[\]\n]*$", re.MULTILINE)
EXAMPLE = "write one line per class, numbered from 0, such as '[0] Positive: supports equality'"


@dataclass(frozen=True)
class Codebook:
    """A task for a coder, human or model: `text` is the whole prompt, `names[k]` is class k."""

    path: str
    text: str
    names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The hash of the text, which ties labels, adapters and results to a codebook."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Parsed:
    """A reply read as a label: `label` is -1 where `form` is a reason and not a dress.

    `form` is `strict` (exactly `[k]`), `lenient` (one unambiguous class in another dress), or the
    reason for no label: `empty`, `no_label`, `ambiguous`, `out_of_range`.
    """

    label: int
    form: str


def read_codebook(path: str | Path) -> Codebook:
    """Read a codebook and its classes; line ends and outer white space do not count."""
    text = read_text(path, cure="it is the codebook that comes with the project")
    return parse_codebook(path, text.strip())


def parse_codebook(path: str | Path, text: str) -> Codebook:
    """Return the codebook that a text is; `path` is its name in error messages."""
    found = CLASS_LINE.findall(text)
    if unclear := NO_COLON.search(text):
        raise UserError(f"{path}: {unclear[0].strip()!r} has no colon after the name: {EXAMPLE}")
    if not found:
        raise UserError(f"{path} defines no classes: {EXAMPLE}")
    numbers, names = [int(number) for number, _ in found], [name for _, name in found]
    if numbers != list(range(len(found))):
        raise UserError(f"{path} numbers its classes {numbers}: {EXAMPLE}")
    if not 2 <= len(names) <= 10:
        raise UserError(f"{path} defines {len(names)} classes: 2 to 10 are possible")
    words = [_words(name) for name in names]
    if "" in words or len(set(words)) < len(names):
        raise UserError(f"{path}: the class names must differ in letters: {', '.join(names)}")
    return Codebook(str(path), text, tuple(names))


def parse_label(text: str, codebook: Codebook) -> int | None:
    """Return the class that a cell numbers or names, -1 for a blank or -1, None for others."""
    text = text.strip()
    number = text.removesuffix(".0")
    if number in ("", "-1"):
        return -1
    if number in map(str, range(len(codebook.names))):
        return int(number)
    names = [_words(name) for name in codebook.names]
    return names.index(_words(text)) if _words(text) in names else None


def answer(label: int) -> str:
    """Return the answer that stands for a class: `[k]`."""
    return f"[{label}]"


# The dresses in which models give a class number, the most telling first.
DRESSES = (
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
    names = [_words(name) for name in codebook.names]
    if _words(text) in names:
        return Parsed(names.index(_words(text)), "lenient")
    beside = _words(NUMBER.sub(" ", text))
    for dress in DRESSES:
        if matches := list(dress.finditer(text)):
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


def _words(text: str) -> str:
    """Return the words of a text without case, punctuation, ornament and width."""
    text = unicodedata.normalize("NFKC", text).replace("_", " ")
    return " ".join(re.findall(r"\w+", text)).casefold()
