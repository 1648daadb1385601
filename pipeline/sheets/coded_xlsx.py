"""An .xlsx or .xlsm with columns added to one sheet, and sheets added behind the others.

openpyxl loses what it does not know, such as pivot tables and pictures, and holds every cell. Here
the XML of that sheet is copied with the new cells between its own, the workbook's lists of sheets
get the new ones, and all other parts are copied byte for byte.
"""

import itertools
import posixpath
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

from pipeline.common.cli import UserError
from pipeline.sheets.new_columns import NewColumns, Table
from pipeline.sheets.reading import column_letter
from pipeline.sheets.xlsx_columns import (
    MOST_COLUMNS,
    SheetForm,
    added_columns,
    sheet_form,
)
from pipeline.sheets.xlsx_page import page_xml
from pipeline.sheets.xml_edits import XmlEdits, in_attribute, prefix_of
from pipeline.sheets.zip_parts import checked_zip, copy_zip

WORKBOOK, LINKS, TYPES = "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "[Content_Types].xml"
SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"
NEW_CELL = 200  # bytes of XML, hardly ever more


@dataclass(frozen=True)
class Workbook:
    """The sheets of an .xlsx: `parts` maps their titles to parts, `numbers` are their own.

    `space` is the namespace of its XML, `link_space` that of links to parts and `link_type` their
    type; in the form "Strict Open XML" they differ. `links` are the ids that links have. `locked`
    tells whether the list of sheets is protected.
    """

    parts: dict[str, str]
    numbers: list[int]
    space: str
    link_space: str
    link_type: str
    links: set[str]
    locked: bool


def read_workbook(archive: zipfile.ZipFile) -> Workbook:
    """Return the sheets of an .xlsx; raises KeyError where it lacks its lists of them."""
    root = ElementTree.fromstring(archive.read(WORKBOOK))
    links = {
        link.get("Id", ""): link for link in ElementTree.fromstring(archive.read(LINKS)).iter()
    }
    sheets = root.findall("{*}sheets/{*}sheet")
    parts, link_space, link_type = {}, "", ""
    for sheet in sheets:
        key = next(key for key in sheet.attrib if key.endswith("}id"))
        link = links[sheet.attrib[key]]
        if link.get("Type", "").endswith("/worksheet"):
            link_space, link_type = key[1:-3], link.get("Type", "")
            parts[sheet.get("name", "")] = _target(WORKBOOK, link)
        else:  # a chart that fills a page, or a page of old macros
            parts[sheet.get("name", "")] = ""
    protection = root.find("{*}workbookProtection")
    return Workbook(
        parts,
        [int(sheet.get("sheetId", 0)) for sheet in sheets],
        root.tag[1:].partition("}")[0],
        link_space,
        link_type,
        set(links),
        protection is not None and protection.get("lockStructure") in ("1", "true"),
    )


def _target(part: str, link: ElementTree.Element) -> str:
    """Return the part that a link of another part leads to."""
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(part), link.get("Target", "")))[
        1:
    ]


def check_xlsx(
    path: Path, title: str, header_row: int, names: Sequence[str], titles: Sequence[str]
) -> None:
    """Refuse a workbook to which columns and sheets cannot be added; print what is protected.

    All of it is read for that.
    """
    with checked_zip(path) as archive:
        book = read_workbook(archive)
        form = sheet_form(archive, book.parts[title], header_row)
        covering = _covering(archive, book.parts[title], form.width, len(names))
        signed = any(name.startswith("_xmlsignatures/") for name in archive.namelist())
    _refuse_merged(path, title, form, header_row)
    refuse_width(path, title, form.width, len(names))
    refuse_titles(path, list(book.parts), titles)
    if covering:
        first, last = column_letter(form.width), column_letter(form.width + len(names) - 1)
        print(
            f"{path}, sheet {title!r}: {covering} picture{'s' * (covering > 1)} or "
            f"chart{'s lie' if covering > 1 else ' lies'} over the new columns {first} to {last}: "
            "move it there in the coded workbook"
        )
    if form.protected:
        print(f"{path}: sheet {title!r} is protected; it stays so, with the new columns in it")
    if book.locked:
        print(f"{path}: its list of sheets is protected; it stays so, with the new sheets in it")
    if signed:
        print(f"{path} has a digital signature, which is not valid for the coded workbook")


def _covering(archive: zipfile.ZipFile, part: str, width: int, new: int) -> int:
    """Return how many pictures and charts lie over columns that are to be added."""
    folder, name = posixpath.split(part)
    links = f"{folder}/_rels/{name}.rels"
    if links not in archive.namelist():
        return 0
    count = 0
    for link in ElementTree.fromstring(archive.read(links)):
        drawing = _target(part, link)
        if link.get("Type", "").endswith("/drawing") and drawing in archive.namelist():
            for anchor in ElementTree.fromstring(archive.read(drawing)):
                left, right = (anchor.findtext(f"{{*}}{end}/{{*}}col") for end in ("from", "to"))
                if left and int(left) < width + new and int(right or left) >= width:
                    count += 1
    return count


def _refuse_merged(path: Path, title: str, form: SheetForm, header_row: int) -> None:
    if form.merged:
        raise UserError(
            f"{path}, sheet {title!r}, row {header_row}: the cells {form.merged[0]} are merged, so "
            "that a column has no name of its own: unmerge them, and name each column"
        )


def refuse_width(path: Path, title: str, width: int, new: int) -> None:
    """Refuse more columns than a sheet can have."""
    if width + new > MOST_COLUMNS:
        raise UserError(
            f"{path}, sheet {title!r}: its last column is {column_letter(width - 1)}, and there is "
            f"no room for {new} more, as a sheet ends at {column_letter(MOST_COLUMNS - 1)}: delete "
            "columns, or unmerge cells that are merged across the sheet"
        )


def refuse_titles(path: Path, there: Sequence[str], titles: Sequence[str]) -> None:
    """Refuse titles of new sheets that others have; case makes no difference."""
    known = {title.casefold(): title for title in there}
    for title in titles:
        if title.casefold() in known:
            raise UserError(
                f"{path} has a sheet {known[title.casefold()]!r}, and one of that name is to be "
                "added: give the sheet another name"
            )


def write_xlsx(
    path: Path, target: Path, title: str, columns: NewColumns, more_sheets: Mapping[str, Table]
) -> None:
    """Write a workbook with columns right of those of the sheet `title`, and more sheets."""
    with zipfile.ZipFile(path) as old:
        book = read_workbook(old)
        refuse_titles(path, list(book.parts), list(more_sheets))
        form = sheet_form(old, book.parts[title], columns.header_row)
        titles, count = list(more_sheets), len(more_sheets)
        places = _unused("xl/worksheets/sheet{}.xml", set(old.namelist()), count)
        links = _unused("rId{}", book.links, count)
        lists = {
            WORKBOOK: ("sheets", _sheet_list(book, titles, links)),
            LINKS: ("Relationships", _link_list(book, places, links)),
            TYPES: ("Types", _type_list(places)),
        }
        changed: dict[str, Iterable[bytes]] = {
            name: [_appended(old.read(name), *change)] for name, change in lists.items()
        }
        changed[book.parts[title]] = added_columns(old, book.parts[title], form, columns)
        pages = (page_xml(book.space, table) for table in more_sheets.values())
        added = {place: [page] for place, page in zip(places, pages, strict=True)}
        copy_zip(old, target, changed, added, growth=form.rows * len(columns.names) * NEW_CELL)


def _unused(pattern: str, used: set[str], count: int) -> list[str]:
    """Return the first names of a pattern with a number in it that are not used."""
    return list(
        islice((n for n in map(pattern.format, itertools.count(1)) if n not in used), count)
    )


def _sheet_list(
    book: Workbook, titles: Sequence[str], links: Sequence[str]
) -> Callable[[str], str]:
    first = max(book.numbers) + 1
    return lambda prefix: "".join(
        f'<{prefix}sheet name="{in_attribute(title)}" sheetId="{number}" r:id="{link}" '
        f'xmlns:r="{book.link_space}"/>'
        for number, (title, link) in enumerate(zip(titles, links, strict=True), start=first)
    )


def _link_list(book: Workbook, places: Sequence[str], links: Sequence[str]) -> Callable[[str], str]:
    return lambda prefix: "".join(
        f'<{prefix}Relationship Id="{link}" Type="{book.link_type}" Target="/{place}"/>'
        for place, link in zip(places, links, strict=True)
    )


def _type_list(places: Sequence[str]) -> Callable[[str], str]:
    return lambda prefix: "".join(
        f'<{prefix}Override PartName="/{place}" ContentType="{SHEET_TYPE}"/>' for place in places
    )


def _appended(xml: bytes, parent: str, children: Callable[[str], str]) -> bytes:
    """Return XML with children, made for a prefix of their names, at the end of an element."""

    def end(name: str) -> None:
        prefix = prefix_of(name)
        if name == f"{prefix}{parent}":
            place = edits.end_of(name)[0]
            edits.replace(place, place, children(prefix).encode())

    edits = XmlEdits(lambda name, attributes: None, end)
    return b"".join(edits.run(BytesIO(xml)))
