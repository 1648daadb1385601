"""New cells of an .xlsx as XML."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from pipeline.common.cli import UserError
from pipeline.sheets.new_columns import Value, is_blank, number_text
from pipeline.sheets.xml_edits import NOT_IN_XML, in_text

LONGEST_CELL = 32_767  # UTF-16 code units, of which an emoji has two; Excel's limit
NARROWEST, WIDEST = 9, 40  # characters of the width of a new column
ESCAPE = re.compile(f"_(?=x[0-9A-Fa-f]{{4}}(?:_|\r|{NOT_IN_XML.pattern}))")


def width_of(text: str, widest: int = WIDEST) -> int:
    """Return the width of a column for a text: in characters, of which a Chinese one is two."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return min(max(len(text) + wide + 2, NARROWEST), widest)


def cells_xml(
    prefix: str, letters: Sequence[str], row: int, values: Sequence[Value], style: str = ""
) -> str:
    """Return the XML of cells of a row, in the columns of these letters; None and "" are none.

    Raises UserError for a text that no cell holds, and ValueError for a number that is not finite.
    """
    cells = []
    for letter, value in zip(letters, values, strict=bool(values)):
        if is_blank(value):
            continue
        head = f'<{prefix}c r="{letter}{row}"{style}'
        if isinstance(value, str):
            cells.append(f"{head}{_text_xml(prefix, value)}</{prefix}c>")
        else:
            cells.append(f"{head}><{prefix}v>{number_text(value)}</{prefix}v></{prefix}c>")
    return "".join(cells)


@lru_cache(2**12)
def _text_xml(prefix: str, text: str) -> str:
    """Return the rest of a cell that holds a text; Excel spells what XML has not as _x0001_."""
    text = escaped(text)
    length = len(text.encode("utf-16-le")) // 2
    if length > LONGEST_CELL:
        raise UserError(
            f"the text {text[:30]!r}... has {length:,} characters and a cell holds "
            f"{LONGEST_CELL:,}: shorten it"
        )
    return (
        f' t="inlineStr"><{prefix}is><{prefix}t xml:space="preserve">{in_text(text)}</{prefix}t>'
        f"</{prefix}is>"
    )


def escaped(text: str) -> str:
    """Return a text as the format holds it, in which `_x0041_` stands for a letter."""
    text = ESCAPE.sub("_x005F_", text).replace("\r", "_x000D_")
    return NOT_IN_XML.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
