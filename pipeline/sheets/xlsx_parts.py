"""What an .xlsx is made of: the parts of its zip file, the shared texts, the styles of dates."""

import codecs
import datetime
import re
import tempfile
import zipfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from pipeline.common.cli import UserError

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
SPACE = "{http://www.w3.org/XML/1998/namespace}space"
READ = 2**20  # bytes of XML that are read at once
KEPT_STRINGS = 2**15  # of the shared strings, such as names that stand in many rows
TEXT = r'<t(?: xml:space="preserve")?>([^<]*)</t>'
STRING = re.compile(rf"<si>{TEXT}</si>")
# Built-in formats of numbers; from 27 on those of East Asian languages, such as 2024年5月1日.
DATES, DURATIONS = {*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)}, {46}


class NotAsWritten(ValueError):
    """The XML is not in a form that spreadsheet programs write."""


@dataclass(frozen=True)
class Book:
    """The parts of an .xlsx: `sheets` maps names to those of the sheets, in order."""

    path: Path
    sheets: dict[str, str]
    visible: list[str]
    strings: str
    since_1904: bool
    size: int  # of the sheets and the texts in them, bytes of XML


def read_book(path: Path) -> Book | None:
    """Return where the parts of an .xlsx stand, None for another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
            links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
            there = {part.filename: part.file_size for part in archive.infolist()}
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError):
        return None
    parts = _linked(links, "worksheet")
    sheets = {
        sheet.get("name", ""): (parts.get(sheet.get(RELATION), ""), sheet.get("state", "visible"))
        for sheet in book.iter(f"{MAIN}sheet")
    }
    if not sheets:  # other names of its elements: the form of "Strict Open XML"
        return None
    properties = book.find(f"{MAIN}workbookPr")
    strings = _linked(links, "sharedStrings").values()
    shared = next((part for part in strings if part in there), "")
    return Book(
        path,
        {name: part for name, (part, _) in sheets.items() if part in there},
        [name for name, (part, state) in sheets.items() if state == "visible" and part in there],
        shared,
        properties is not None and properties.get("date1904") in ("1", "true"),
        sum(there.get(part, 0) for part in [shared, *(part for part, _ in sheets.values())]),
    )


def _linked(links: ElementTree.Element, kind: str) -> dict[str, str]:
    """Return the parts of a kind, by the ids under which the book names them."""
    return {
        link.get("Id", ""): target.lstrip("/") if target.startswith("/") else f"xl/{target}"
        for link in links
        if (target := link.get("Target", "")) and link.get("Type", "").endswith(f"/{kind}")
    }


def shared_strings(archive: zipfile.ZipFile, part: str, scratch: BinaryIO) -> Callable[[str], str]:
    """Return what gives the text of a number; the texts are put into `scratch`."""
    ends = array("Q", [0])
    try:
        for texts in _texts(archive, part) if part else ():
            coded = [text.encode("utf-8", "surrogatepass") for text in texts]
            scratch.write(b"".join(coded))
            ends.extend(islice(accumulate(map(len, coded), initial=ends[-1]), 1, None))
    except OSError as error:
        raise UserError(
            f"no room for the texts of {archive.filename} in {tempfile.gettempdir()} "
            f"({error.strerror}): free some, or name another folder in the variable TMPDIR"
        ) from error

    @lru_cache(KEPT_STRINGS)
    def text(number: str) -> str:
        place = int(number)
        if not 0 <= place < len(ends) - 1:
            raise NotAsWritten(f"no text {number}")
        scratch.seek(ends[place])
        return scratch.read(ends[place + 1] - ends[place]).decode("utf-8", "surrogatepass")

    return text


def _texts(archive: zipfile.ZipFile, part: str) -> Iterator[list[str]]:
    """Yield the shared strings, in lists."""
    with archive.open(part) as file:
        head, parts = read_parts(file, "<si", "</si>")
        for items in parts:
            texts = STRING.findall(items)
            if len(texts) == items.count("<si") and "<!" not in items:
                yield [plain_text(text, escaped=True) for text in texts]
            else:
                items = parse_xml(f"{head}{items}</sst>")
                yield [plain_text(string_text(item), escaped=True) for item in items]


def date_styles(archive: zipfile.ZipFile, since_1904: bool) -> dict[str, Callable[[str], Any]]:
    """Return what turns a number into the date, time or duration that its style shows."""
    from openpyxl.styles.numbers import is_date_format, is_timedelta_format
    from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

    epoch = CALENDAR_MAC_1904 if since_1904 else CALENDAR_WINDOWS_1900

    def date(text: str, duration: bool) -> Any:
        value = float(text)
        if value < 0:
            raise NotAsWritten("a date before the first one")
        try:
            shown = from_excel(value, epoch, timedelta=duration)
        except OverflowError:
            return value
        whole = isinstance(shown, datetime.datetime) and value.is_integer()
        return shown.date() if whole else shown

    if "xl/styles.xml" not in archive.namelist():
        return {}
    styles = parse_xml(archive.read("xl/styles.xml").decode("utf-8-sig"))
    forms = {number: "h" for number in DATES} | {number: "[h]" for number in DURATIONS}
    for form in styles.iter(f"{MAIN}numFmt"):
        forms[int(form.get("numFmtId", 0))] = form.get("formatCode", "")
    cells = styles.findall(f"{MAIN}cellXfs/{MAIN}xf")
    codes = [forms.get(int(cell.get("numFmtId", 0)), "") for cell in cells]
    return {
        str(style): partial(date, duration=is_timedelta_format(code))
        for style, code in enumerate(codes)
        if is_date_format(code) or is_timedelta_format(code)
    }


def plain_text(text: str, escaped: bool = False) -> str:
    """Return a text of the XML; `escaped` is one in which _x000D_ stands for a line break."""
    if "&" in text:
        text = parse_xml(f"<t>{text}</t>").text or ""
    if escaped and "_x" in text:
        from openpyxl.utils.escape import unescape

        return unescape(text)
    return text


def string_text(element: ElementTree.Element) -> str:
    """Return the XML text of a shared or an inline string: its runs, without phonetic ones.

    White space around a run counts where it says so.
    """
    runs = element.findall(f"{MAIN}t") + element.findall(f"{MAIN}r/{MAIN}t")
    texts = [(run.text or "", run.get(SPACE) == "preserve") for run in runs]
    return escape("".join(text if kept else text.strip() for text, kept in texts))


def parse_xml(xml: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise NotAsWritten(str(error)) from error


def read_parts(file: Any, begin: str, end: str) -> tuple[str, Iterator[str]]:
    """Return an open XML file before the first `begin`, and parts of the rest up to an `end`."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    text = map(decode, iter(partial(file.read, READ), b""))
    start = next(text, "")
    if begin not in start:
        raise NotAsWritten(f"no {begin}")
    place = start.index(begin)
    return start[:place], _whole(start[place:], text, end)


def _whole(rest: str, more: Iterator[str], end: str) -> Iterator[str]:
    """Yield a text in parts that stop after an `end`."""
    for text in chain([""], more):
        whole, found, rest = (rest + text).rpartition(end)
        if found:
            yield whole + found
