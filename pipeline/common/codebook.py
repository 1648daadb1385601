"""The codebook: the task and its classes, as `prompt.txt` defines them for every step."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.examples import example_in, read_examples
from pipeline.common.files import read_text

CLASS_LINE = re.compile(r"^[ \t]*\[([0-9]+)\][ \t]*([^:：\[\]\n]+?)[ \t]*[:：]")
NO_COLON = re.compile(r"^[ \t]*\[[0-9]+\][ \t]*\w[^:：\[\]\n]*$")
HOW_TO = "write one line per class, numbered from 0, such as '[0] Positive: supports equality'"


@dataclass(frozen=True)
class Codebook:
    """A task for a coder, human or model: `text` is the whole prompt, `names[k]` is class k.

    `examples` are the comments that the text gives as examples, each with its class, -1 for none.
    """

    path: str
    text: str
    names: tuple[str, ...]
    examples: tuple[tuple[int, str], ...] = ()

    @property
    def choices(self) -> str:
        """What stands for a class in a sheet: "0 to 3, or Positive, Mild, ..."."""
        return f"0 to {len(self.names) - 1}, or {', '.join(self.names)}"

    @property
    def sha256(self) -> str:
        """The hash of the text, which ties labels, adapters and results to a codebook."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_codebook(path: str | Path) -> Codebook:
    """Read a codebook and its classes; line ends and outer white space do not count."""
    text = read_text(
        path, cure="copy the project's prompt.txt there and write your classes into it"
    )
    return parse_codebook(path, text.strip())


def parse_codebook(path: str | Path, text: str) -> Codebook:
    """Return the codebook that a text is; `path` is its name in error messages."""
    found, examples = _classes_and_examples(path, text)
    if not found:
        raise UserError(f"{path} defines no classes: {HOW_TO}")
    numbers, names = [number for number, _ in found], [name for _, name in found]
    if numbers != list(range(len(found))):
        raise UserError(f"{path} numbers its classes {numbers}: {HOW_TO}")
    if not 2 <= len(names) <= 10:
        raise UserError(f"{path} defines {len(names)} classes: 2 to 10 are possible")
    words = [bare_words(name) for name in names]
    if "" in words or len(set(words)) < len(names):
        raise UserError(f"{path}: the class names must differ in letters: {', '.join(names)}")
    known = tuple((k if k < len(names) else -1, comment) for k, comment in examples)
    return Codebook(str(path), text, tuple(names), known)


def _classes_and_examples(
    path: str | Path, text: str
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return the number and name of each class line, and the class and text of each example.

    A line in a list of examples is a class only where it has the next number.
    """
    classes: list[tuple[int, str]] = []
    examples: list[tuple[int, str]] = []
    listing = False
    for line in text.split("\n"):
        class_line, example = CLASS_LINE.match(line), example_in(line)
        next_class = class_line and _number(class_line[1]) == len(classes)
        if example is None and listing and line.strip() and not next_class:
            example = line
        else:
            listing = example == ""
        if example is not None:
            for answered, comment in read_examples(example):
                examples.append((len(classes) - 1 if answered < 0 else answered, comment))
        elif class_line:
            classes.append((_number(class_line[1]), class_line[2]))
        elif NO_COLON.match(line):
            raise UserError(f"{path}: {line.strip()!r} has no colon after the name: {HOW_TO}")
    return classes, examples


def _number(digits: str) -> int:
    """Return a number; of more digits than any class has, that of the first (int() has a limit)."""
    return int(digits.lstrip("0")[:9] or 0)


def parse_label(text: str, codebook: Codebook) -> int | None:
    """Return the class that a cell numbers or names, -1 for a blank or -1, None for others.

    Digits and letters may be of full width.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    number = text.removesuffix(".0")
    if number in ("", "-1"):
        return -1
    if number in map(str, range(len(codebook.names))):
        return int(number)
    names = [bare_words(name) for name in codebook.names]
    return names.index(bare_words(text)) if bare_words(text) in names else None


def answer(label: int) -> str:
    """Return the answer that stands for a class: `[k]`."""
    return f"[{label}]"


def bare_words(text: str) -> str:
    """Return the words of a text without case, punctuation, ornament and width."""
    text = unicodedata.normalize("NFKC", text).replace("_", " ")
    return " ".join(re.findall(r"\w+", text)).casefold()
