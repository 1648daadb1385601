"""A large XML file copied byte for byte, but for the places where something else is put."""

import codecs
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import BinaryIO
from xml.parsers import expat

READ = 2**20  # bytes of XML that are read at once
TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
# An attribute is normalised unless its line breaks and tabs are spelled out.
SPACE = str.maketrans({"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")

Attributes = dict[str, str]


class UnusualXml(ValueError):
    """The XML is in a form in which no spreadsheet program writes it."""


class XmlEdits:
    """The bytes of an XML file while a parser goes over them, with what is put in their place.

    `start` and `end` are called for each element with its name as it is written, `start` with its
    attributes too. They may `replace` bytes from `hold` on, or from the place of the tag on where
    nothing is held, each time behind what was replaced before. Places count from the file's first
    byte.
    """

    def __init__(
        self, start: Callable[[str, Attributes], None], end: Callable[[str], None] | None = None
    ) -> None:
        self._parser = expat.ParserCreate()
        self._parser.XmlDeclHandler = _check_declaration
        self._parser.StartDoctypeDeclHandler = _refuse_document_type
        self._start, self._end = start, end
        self._buffer, self._first = bytearray(), 0
        self._edits: list[tuple[int, int, bytes]] = []
        self._last = 0
        self.hold: int | None = None

    @property
    def place(self) -> int:
        """The first byte of the tag at hand; of the end of `<a/>`, the byte behind it."""
        return self._parser.CurrentByteIndex

    def tag(self, place: int) -> bytes:
        """Return the tag that begins at a place."""
        found = TAG.match(self._buffer, place - self._first)
        if not found:
            raise UnusualXml(f"no tag at byte {place}")
        return found[0]

    def raw(self, begin: int, end: int) -> bytes:
        """Return the bytes between two places."""
        return bytes(self._buffer[begin - self._first : end - self._first])

    def end_of(self, name: str) -> tuple[int, int]:
        """Return where the content of the element that ends at hand stops, and its last tag."""
        place = self.place
        if self._buffer.startswith(f"</{name}".encode(), place - self._first):
            return place, place + len(self.tag(place))
        return place, place

    def replace(self, begin: int, end: int, new: bytes) -> None:
        """Put `new` in the place of the bytes from `begin` to `end`, which may be none."""
        self._edits.append((begin, end, new))

    def run(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield the bytes of a file with what the handlers put in their place.

        Raises UnusualXml for XML that is broken, not in UTF-8, or with a document type.
        """
        self._parser.StartElementHandler = self._start
        if self._end:
            self._parser.EndElementHandler = self._end
        try:
            for data in iter(partial(file.read, READ), b""):
                self._buffer += data
                if not self._first and self._buffer.startswith(UTF_16):
                    raise UnusualXml("encoding utf-16")
                self._parser.Parse(data, False)
                yield self._take(self._parser.CurrentByteIndex if self.hold is None else self.hold)
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise UnusualXml(str(error)) from error
        yield self._take(self._first + len(self._buffer))

    def _take(self, until: int) -> bytes:
        """Return the bytes before a place, as they are to be, and forget them."""
        pieces: list[bytes] = []
        place = self._first
        for begin, end, new in self._edits:
            pieces += [self.raw(place, begin), new]
            place = end
        until = max(until, place)
        pieces.append(self.raw(place, until))
        self._edits.clear()
        del self._buffer[: until - self._first]
        self._first = until
        return b"".join(pieces)


def _check_declaration(version: str, encoding: str | None, standalone: int) -> None:
    if encoding and encoding.lower() not in UTF_8:
        raise UnusualXml(f"encoding {encoding}")


def _refuse_document_type(*_: object) -> None:
    raise UnusualXml("a document type")


def read_over(file: BinaryIO, start: Callable[[str, Attributes], None]) -> None:
    """Call `start` for each element of an XML file; raises UnusualXml as `XmlEdits.run` does."""
    for _ in XmlEdits(start).run(file):
        pass


def with_attribute(tag: bytes, name: str, value: str) -> bytes:
    """Return a tag in which an attribute that it has holds another value."""
    new = f'"{value}"'.encode()
    return _attribute(name).sub(lambda match: match[1] + new, tag, count=1)


@cache
def _attribute(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"""(\s%b\s*=\s*)("[^"]*"|'[^']*')""" % re.escape(name).encode())


def in_text(text: str) -> str:
    """Return a text as XML spells it between tags."""
    return text.translate(MARKUP).replace("\r", "&#13;")


def in_attribute(text: str) -> str:
    """Return a text as XML spells it in quotes."""
    return text.translate(MARKUP).translate(SPACE)


def prefix_of(name: str) -> str:
    """Return what stands before the names of a namespace: "x:" of "x:row"."""
    return name[: name.rfind(":") + 1]
