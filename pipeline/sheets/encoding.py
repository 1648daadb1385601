"""The encoding of a CSV file: as its byte order mark or the user says, or as its text tells."""

import codecs
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from pipeline.common.cli import UserError

MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # the former begin so too
# What Excel's "CSV" is in, by the language of Windows and on a Mac. gb18030 holds Windows' 936.
SEVERAL_BYTES = ("gb18030", "cp950", "cp932", "cp949")
ONE_BYTE = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "mac_roman")
# Beside ASCII, what stands in English, French, German, Spanish and their neighbours. The code pages
# of other Latin alphabets have letters of their own in the places of some, and statistics confuse
# these pages: a text of these characters, mostly one by one between ASCII, is taken as the West's.
WESTERN = frozenset(
    "àáâãäåæçèéêëìíîïñòóôõöøùúûüœÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŒß«»¡¿‘’“”„–—…•€£§°·\xa0´©®™½¼¾¢×"
)
# Half-width katakana in Japanese, Chinese characters in Korean: Chinese text in another encoding
# reads so, and charset-normalizer finds nothing wrong with it.
HARDLY_USED = {"cp932": "[\uff61-\uff9f]", "cp949": "[\u4e00-\u9fff\uf900-\ufaff]"}
AS_UTF_8 = "as 'CSV UTF-8' or .xlsx"
SAMPLE_LINES, GROUP = 400, 8  # lines; a broken line spoils no more than its group
NEARLY_AS_CLEAN = 0.1  # of charset-normalizer's chaos, 0 to 1
CLEAR_LEAD = 0.05  # of its coherence with a language, 0 to 1
READ = 2**20  # bytes that are read at once
BROKEN = "\udc00"  # what no encoding gives


def find_encoding(path: Path, encoding: str = "") -> str:
    """Return the encoding of a file, all of which is in it; print it where it is not UTF-8.

    A byte order mark comes first, then `encoding` where it is given, then UTF-8, then a guess on
    lines from all over the file. Raises UserError for a line that does not decode, and where the
    guess is unsure, with the candidates. The file is read several times, and never held in memory.
    """
    with path.open("rb") as file:
        start = file.read(4)
    encoding = next((name for mark, name in MARKS.items() if start.startswith(mark)), encoding)
    if encoding:
        encoding = _with_byte_order(encoding, start)
        _check(path, encoding, f"save it {AS_UTF_8}, or give another --encoding")
        return encoding
    if _decodes(path, "utf-8"):
        return "utf-8"
    if any(b"\0" in data for data in _parts(path)):
        raise UserError(
            f"{path} is no text, or in UTF-16 (--encoding utf-16-le): save it {AS_UTF_8}"
        )
    sample = _sample(path)
    candidates = guess(sample)
    if len(candidates) > 1:
        candidates = [name for name in candidates if _decodes(path, name)] or candidates
    looks = _looks(sample, candidates)
    if len(candidates) != 1:
        raise UserError(f"{path} is not UTF-8, and {_choices(candidates, looks)}")
    _check(path, candidates[0], f"correct that line (the others are), or save the file {AS_UTF_8}")
    print(f"  with texts such as {looks[0]!r}: if they look wrong, give another --encoding")
    return candidates[0]


def _with_byte_order(encoding: str, start: bytes) -> str:
    """Return a given encoding; UTF-16 without a byte order mark is that of this machine."""
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if re.fullmatch("utf[-_ ]?16", encoding.lower()) and not marked:
        return f"utf-16-{sys.byteorder[0]}e"
    return encoding


def _check(path: Path, encoding: str, cure: str) -> None:
    """Raise UserError with the line that is in another encoding; print one that is not UTF-8."""
    try:
        path.open(encoding=encoding).close()  # which knows encodings that are not of text
        decodes = _decodes(path, encoding)
    except LookupError as error:
        known = ", ".join(("utf-8", "utf-16", *SEVERAL_BYTES, *ONE_BYTE))
        raise UserError(f"--encoding {encoding}: not known; give one such as {known}") from error
    if not decodes:
        line = _first_broken_line(path, encoding)
        raise UserError(f"{path}, line {line} is not {encoding}: {cure}")
    if encoding != "utf-8":
        print(f"{path} is read as {encoding}")


def _decodes(path: Path, encoding: str) -> bool:
    """Return whether all of a file is in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for data in _parts(path):
            decoder.decode(data)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(partial(file.read, READ), b"")


def _first_broken_line(path: Path, encoding: str) -> int:
    codecs.register_error("marked as broken", lambda error: (BROKEN, error.end))
    with path.open(encoding=encoding, errors="marked as broken") as lines:
        return next((n for n, line in enumerate(lines, start=1) if BROKEN in line), 1)


def _sample(path: Path) -> list[bytes]:
    """Return at most `SAMPLE_LINES` of the lines that are not ASCII, from all over a file."""

    def lines() -> Iterator[str]:
        with path.open(encoding="latin-1") as file:  # each byte as a character
            yield from (line for line in file if not line.isascii())

    step = -(-sum(1 for _ in lines()) // SAMPLE_LINES)
    return [line.removesuffix("\n").encode("latin-1") for line in islice(lines(), 0, None, step)]


def guess(sample: list[bytes]) -> list[str]:
    """Return the encoding of lines that are not ASCII, or all that it may well be, likeliest first.

    Where most lines are UTF-8, it is UTF-8 and some lines are broken. A Western text is cp1252. Of
    others, charset-normalizer judges the lines in groups. A group counts for each encoding whose
    chaos is near the least; the candidates fit nearly as many groups as the best does, and their
    coherence with a language is near the highest. Encodings that give the same text are one.
    """
    if sum(_is_utf_8(line) for line in sample) > len(sample) / 2:
        return ["utf-8"]
    if _is_western(sample):
        return ["cp1252"]
    from charset_normalizer import from_bytes

    fits: Counter[str] = Counter()
    coherence: Counter[str] = Counter()
    isolated = [*SEVERAL_BYTES, *ONE_BYTE]
    for start in range(0, len(sample), GROUP):
        lines = b"\n".join(sample[start : start + GROUP])
        options = {"steps": 1, "chunk_size": len(lines), "cp_isolation": isolated}
        matches = from_bytes(lines, **options) or from_bytes(lines, threshold=2, **options)
        least = min((match.chaos for match in matches), default=0)
        for match in matches:
            if match.chaos <= least + NEARLY_AS_CLEAN:
                for name in match.could_be_from_charset:
                    fits[name] += 1
                    coherence[name] += match.coherence
    for name in HARDLY_USED:
        if _is_strange(sample, name):
            fits[name] = 0
    likely = [name for name in isolated if fits[name] and fits[name] >= 0.9 * max(fits.values())]
    means = {name: coherence[name] / fits[name] for name in likely}
    likely = [name for name in likely if means[name] > max(means.values()) - CLEAR_LEAD]
    texts: dict[str, str] = {}
    for name in sorted(likely, key=means.__getitem__, reverse=True):
        texts.setdefault(b"\n".join(sample).decode(name, "replace"), name)
    return list(texts.values())


def _is_western(sample: list[bytes]) -> bool:
    """Return whether hardly any character of lines, read as cp1252, is not Western."""
    runs = re.findall(r"[^\x00-\x7f]+", b"\n".join(sample).decode("cp1252", "replace"))
    western = sum(char in WESTERN for char in "".join(runs))
    alone = sum(len(run) == 1 for run in runs)
    return western >= 0.98 * len("".join(runs)) and alone > 0.3 * len(runs)


def _is_strange(sample: list[bytes], encoding: str) -> bool:
    """Return whether much of lines, read as an encoding, is what its language hardly uses."""
    odd = re.sub(r"[\x00-\x7f]", "", b"\n".join(sample).decode(encoding, "replace"))
    return len(re.findall(HARDLY_USED[encoding], odd)) > 0.2 * len(odd)


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _looks(sample: list[bytes], encodings: list[str]) -> list[str]:
    """Return how the first place that tells encodings apart looks in each of them."""
    others = encodings if len(encodings) > 1 else [*encodings, "ascii"]
    for line in sample:
        texts = [line.decode(name, "replace") for name in others]
        start = len(os.path.commonprefix(texts))
        if len(set(texts)) == len(texts):
            break
    edge = r'[,;\t"]'
    before = re.split(edge, texts[0][:start])[-1][-8:]
    return [before + re.split(edge, text[start:])[0][:12] for text in texts[: len(encodings)]]


def _choices(encodings: list[str], looks: list[str]) -> str:
    """Return what to do where the encoding is not clear: the likeliest, and how each would look."""
    names = dict(zip(reversed(looks), reversed(encodings), strict=True))
    choices = [f"--encoding {name} ({look!r})" for look, name in reversed(names.items())][:4]
    right = f"the one whose text is right: {', '.join(choices)}" if choices else "--encoding"
    return f"its encoding is not clear: save it {AS_UTF_8}, or give {right}"
