"""A workbook comes back with columns added, and nothing else of it changes."""

import csv
import datetime
import re
import shutil
import struct
import zipfile
from pathlib import Path

import openpyxl
import pytest
import xlwt
from hostile import texts, tries
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib import pyplot
from odf import teletype
from odf.opendocument import OpenDocumentSpreadsheet
from odf.opendocument import load as load_ods
from odf.table import (
    CoveredTableCell,
    Table,
    TableCell,
    TableColumn,
    TableRow,
)
from odf.text import P
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment
from openpyxl.drawing.image import Image
from openpyxl.formatting.rule import CellIsRule
from openpyxl.styles import Font, PatternFill
from openpyxl.utils.escape import unescape
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.workbook.protection import WorkbookProtection
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.table import Table as XlsxTable

from pipeline.common.cli import UserError
from pipeline.sheets import reading
from pipeline.sheets.coded_book import check_book, coded_suffix, write_coded_book
from pipeline.sheets.comments import open_comment_sheet

NAMES = ["class", "class_name", "p_no"]
MORE = {"codebook": [["class"], ["no"], ["=1+1"]], "record": [["rows", 3], ["share", 0.5]]}
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STRICT = {
    MAIN: "http://purl.oclc.org/ooxml/spreadsheetml/main",
    OFFICE: "http://purl.oclc.org/ooxml/officeDocument/relationships",
}
LISTS = {"xl/workbook.xml", "xl/_rels/workbook.xml.rels", "[Content_Types].xml"}
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def code(source, cells_of, names=NAMES, more=MORE, written=None, sheet="", encoding="", output=""):
    """Check and write the coded form of a spreadsheet; return its path and what was written."""
    output = output or Path(f"coded{coded_suffix(source)}")
    with open_comment_sheet(source, sheet, "comment", encoding=encoding) as opened:
        check_book(source, output, opened, names, list(more), written)
        return output, write_coded_book(source, output, opened, names, cells_of, more)


def numbered(number):
    """Return cells that tell for which row they were asked."""
    return [number, f"name of {number}", number / 7]


def comments_of(source, encoding=""):
    """Return row number -> comment, where there is one, as the reader numbers rows."""
    with open_comment_sheet(source, "", "comment", encoding=encoding) as sheet:
        texts = {number: cells[sheet.text] for number, cells in sheet.rows() if cells}
    return {number: text for number, text in texts.items() if text != ""}


def refused(source, *parts, **options):
    """Refuse to code a spreadsheet in one line that has these parts, and write nothing."""
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    with pytest.raises(UserError) as error:
        code(source, numbered, **options)
    assert [part for part in parts if part not in str(error.value)] == []
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def parts_of(path):
    with zipfile.ZipFile(path) as book:
        return {name: book.read(name) for name in book.namelist()}


def change_parts(path, change, **added):
    """Rewrite the parts of a zip file: `change` is given the name and the bytes of each."""
    parts = {name: change(name, data) for name, data in parts_of(path).items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, data in (parts | added).items():
            book.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else None)


def look_of(cell):
    """Return all of a cell that openpyxl knows."""
    looks = (cell.font, cell.fill, cell.border, cell.alignment, cell.protection)
    note = cell.comment.text if cell.comment else None
    return cell.value, cell.data_type, cell.number_format, *map(repr, looks), note


def write_rich_book(path):
    """Write a workbook with one of all that people put into theirs."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "微博 comments"
    sheet.append(["comment", "when", "length", "share"])
    for row in range(2, 30):
        when = datetime.datetime(2020, 3, row - 1, row % 24)
        sheet.append([f"评论 {row}", when, f"=LEN(A{row})", row / 30])
        sheet.cell(row, 4).number_format = "0.0%"
    for cell in sheet[1]:
        cell.font, cell.fill = Font(bold=True, color="FFFFFF"), PatternFill("solid", "336699")
    sheet.auto_filter.ref, sheet.freeze_panes = "A1:D29", "B2"
    sheet.column_dimensions["A"].width = 60
    sheet.row_dimensions[5].hidden = True
    sheet.merge_cells("B8:B9")
    sheet["A3"].comment = Comment("a note", "coder")
    choice = DataValidation(type="list", formula1='"a,b"')
    choice.add("D2:D9")
    sheet.add_data_validation(choice)
    rule = CellIsRule(operator="equal", formula=["1"], font=Font(color="FF0000"))
    sheet.conditional_formatting.add("D2:D29", rule)
    other = book.create_sheet("numbers")
    for number in range(1, 6):
        other.append([number, f"=A{number}*2"])
    chart = BarChart()
    chart.add_data(Reference(other, min_col=1, min_row=1, max_row=5))
    other.add_chart(chart, "D2")
    pyplot.figure(figsize=(0.2, 0.2)).savefig("picture.png")
    pyplot.close()
    other.add_image(Image("picture.png"), "A9")
    book.create_sheet("secret").sheet_state = "hidden"
    table = book.create_sheet("table")
    table.append(["x", "y"])
    table.append([1, 2])
    table.add_table(XlsxTable(displayName="T1", ref="A1:B2"))
    book.defined_names["total"] = DefinedName("total", attr_text="numbers!$A$1:$A$5")
    book.save(path)


def test_all_other_parts_of_a_workbook_are_the_same_bytes():
    write_rich_book("book.xlsx")
    foreign = {"xl/pivotCache/pivotCacheDefinition1.xml": b"<x/>", "customXml/item1.xml": b"\x00"}
    change_parts("book.xlsx", lambda name, data: data, **foreign)
    output, _ = code("book.xlsx", numbered)
    before, after = parts_of("book.xlsx"), parts_of(output)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == LISTS | {"xl/worksheets/sheet1.xml"}
    assert sorted(after.keys() - before.keys()) == [
        "xl/worksheets/sheet5.xml",
        "xl/worksheets/sheet6.xml",
    ]
    assert [*before] == [*after][: len(before)]


def test_all_other_cells_keep_values_formulas_formats_widths_and_filters():
    write_rich_book("book.xlsx")
    output, _ = code("book.xlsx", numbered)
    before, after = openpyxl.load_workbook("book.xlsx"), openpyxl.load_workbook(output)
    assert after.sheetnames == [*before.sheetnames, "codebook", "record"]
    for sheet in before:
        same = after[sheet.title]
        for row in sheet.iter_rows():
            assert [*map(look_of, row)] == [look_of(same[cell.coordinate]) for cell in row]
        assert same.sheet_state == sheet.sheet_state
        assert (same.auto_filter.ref, same.freeze_panes) == (
            sheet.auto_filter.ref,
            sheet.freeze_panes,
        )
        assert same.merged_cells == sheet.merged_cells
        assert same.row_dimensions[5].hidden == sheet.row_dimensions[5].hidden
        assert [*same.tables] == [*sheet.tables]
        widths = {letter: column.width for letter, column in sheet.column_dimensions.items()}
        assert (
            widths.items()
            <= {letter: column.width for letter, column in same.column_dimensions.items()}.items()
        )
    sheet = after["微博 comments"]
    assert [cell.value for cell in sheet[1]][4:] == NAMES
    assert {look_of(cell)[3:5] for cell in sheet[1]} == {look_of(sheet["A1"])[3:5]}
    assert [[cell.value for cell in row[4:]] for row in sheet.iter_rows(min_row=2)] == [
        numbered(row) for row in range(2, 30)
    ]
    assert sheet.dimensions == "A1:G29"
    assert [[cell.value for cell in row] for row in after["codebook"]] == MORE["codebook"]
    assert [[cell.value for cell in row] for row in after["record"]] == MORE["record"]
    assert after["codebook"]["A3"].data_type == "s"


def test_an_xlsm_stays_an_xlsm_with_its_macros():
    write_rich_book("book.xlsm")

    def with_macros(name, data):
        kind = b"vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
        return data.replace(kind, b"vnd.ms-excel.sheet.macroEnabled.main+xml")

    change_parts("book.xlsm", with_macros, **{"xl/vbaProject.bin": b"\xd0\xcf macros"})
    output, _ = code("book.xlsm", numbered)
    assert output.suffix == ".xlsm"
    assert parts_of(output)["xl/vbaProject.bin"] == b"\xd0\xcf macros"
    assert b"macroEnabled.main+xml" in parts_of(output)["[Content_Types].xml"]
    assert comments_of(output) == comments_of("book.xlsm")
    refused("book.xlsm", "ends in .xlsm", output="coded.xlsx")


# The XML of a sheet in forms that programs and libraries write


def text_cell(text, place="", rest=""):
    place = f' r="{place}"' if place else ""
    return f'<c{place}{rest} t="inlineStr"><is><t>{text}</t></is></c>'


def write_form(rows, head="", tail="", path="book.xlsx", change=lambda name, data: data):
    """Write a workbook of one sheet, given as XML; style 1 is bold, style 2 a date."""
    book = openpyxl.Workbook()
    book.active["A1"].font = Font(bold=True)
    book.active["A2"].number_format = "yyyy-mm-dd"
    book.save(path)
    xml = (
        f'<worksheet xmlns="{MAIN}" xmlns:r="{OFFICE}">{head}<sheetData>{rows}</sheetData>{tail}'
        "</worksheet>"
    ).encode()
    change_parts(path, lambda name, data: change(name, xml if "sheet1.xml" in name else data))


HEADER = f'<row r="1">{text_cell("comment", "A1")}{text_cell("other", "B1")}</row>'
PLAIN = (
    f'{HEADER}<row r="2">{text_cell("one", "A2")}</row><row r="3">{text_cell("two", "A3")}</row>'
)
FORMS = {
    "as most programs": PLAIN,
    "rows that are missing": f'{HEADER}<row r="7">{text_cell("one", "A7")}</row>',
    "rows of no cells": f'{HEADER}<row r="2"/><row r="3"></row><row r="4">'
    f'{text_cell("one", "A4")}</row><row r="9"/>',
    "blank rows above": f'<row r="4">{text_cell("comment", "A4")}{text_cell("b", "B4")}</row>'
    f'<row r="6">{text_cell("one", "A6")}</row>',
    "no places": f"<row>{text_cell('comment')}{text_cell('b')}</row><row>{text_cell('one')}</row>"
    f"<row/><row>{text_cell('two')}</row>",
    "spans": PLAIN.replace('r="2"', 'spans="1:2" r="2"').replace('r="3"', "r='3' spans='1:1 2:2'"),
    "data as it stands": PLAIN.replace("<t>one", "<t><![CDATA[</row>]]>one"),
    "notes in the XML": PLAIN.replace("</row>", "<!-- </row> --></row >\n"),
    "signs in quotes": PLAIN.replace('<row r="2"', '<row r="2" x="/>" y=\'">\''),
    "empty cells that are formatted": f'<row r="1">{text_cell("comment", "A1")}'
    f'{text_cell("b", "B1")}<c r="C1" s="1"/></row><row r="2">{text_cell("one", "A2")}'
    '<c r="D2" s="2"></c><c r="E2" s="2"/><c r="F2" s="2"/><c r="XFD2" s="1"/></row>',
    "more in a cell": PLAIN.replace("</c>", "<extLst><ext uri='x'/></extLst></c>"),
    "more behind the cells": PLAIN.replace("</row>", "<extLst><ext uri='x'/></extLst></row>"),
}


def echoes(source):
    """Code each row of a workbook with its own comment; return the comments and the echoes."""
    comments = comments_of(source)
    output, _ = code(source, lambda n: [comments.get(n), None, n], more={})
    with open_comment_sheet(output, "", "class") as sheet:
        return comments, {n: cells[sheet.text] for n, cells in sheet.rows() if cells}, output


@pytest.mark.parametrize("rows", FORMS.values(), ids=FORMS)
def test_new_cells_stand_beside_their_comment_in_any_form_of_the_rows(rows):
    write_form(rows)
    comments, coded, output = echoes("book.xlsx")
    assert comments
    assert {n: text for n, text in coded.items() if text} == comments
    before = openpyxl.load_workbook("book.xlsx").active
    after = openpyxl.load_workbook(output).active
    for row in before.iter_rows(max_col=2):
        assert [*map(look_of, row)] == [look_of(after[cell.coordinate]) for cell in row]


@pytest.mark.parametrize(
    "form", sorted(FORMS.keys() - {"more in a cell"})
)  # which calamine refuses so
def test_names_with_a_prefix_and_the_strict_form_are_written_as_they_are_found(form):
    def prefixed(name, data):
        if name == "xl/worksheets/sheet1.xml":
            data = re.sub(rb"<(/?)(?=[a-zA-Z])", rb"<\1x:", data)
            data = data.replace(b'xmlns="', b'xmlns:x="')
        for loose, strict in STRICT.items():
            data = data.replace(loose.encode(), strict.encode())
        return data

    write_form(FORMS[form], change=prefixed)
    output, _ = code("book.xlsx", numbered)
    sheet = parts_of(output)["xl/worksheets/sheet1.xml"]
    assert b"<x:c " in sheet and b"<c " not in sheet
    expected = parts_of(output)
    write_form(FORMS[form])
    plain = parts_of(code("book.xlsx", numbered, output="plain.xlsx")[0])
    for name in plain.keys() - {"docProps/core.xml"}:  # which holds the time
        assert prefixed(name, plain[name]) == expected[name]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=8,
    )
)
@tries(2)
def test_new_cells_stand_beside_their_comment_wherever_rows_and_cells_say_where_they_are(rows):
    """A row may leave some out before it, say its own number, and have cells behind a gap."""
    xml, number = [HEADER], 1
    for gap, said, cells_said, empty in rows:
        number += 1 + (gap if said else 0)
        place = f' r="{number}"' if said else ""
        first = text_cell(f"comment {number}", f"A{number}" if cells_said else "")
        more = f'<c r="C{number}" s="1"/>' if cells_said and empty else "<c/>" * empty
        xml.append(f"<row{place}>{first}{more}</row>")
    write_form("".join(xml))
    Path("coded.xlsx").unlink(missing_ok=True)
    comments, coded, _ = echoes("book.xlsx")
    assert len(comments) == len(rows)
    assert {n: text for n, text in coded.items() if text} == comments


def test_columns_that_were_hidden_up_to_the_last_one_are_shown_where_they_are_new():
    head = '<cols><col min="1" max="2" width="50"/><col min="3" max="16384" hidden="1"/></cols>'
    write_form(PLAIN, head)
    output, _ = code("book.xlsx", numbered)
    xml = parts_of(output)["xl/worksheets/sheet1.xml"].decode()
    cols = [
        tuple(int(n) for n in re.findall(r'm[inax]+="(\d+)"', col)) + ("hidden" in col,)
        for col in re.findall("<col .*?/>", xml)
    ]
    new = [(n, n, False) for n in (3, 4, 5)]
    assert cols == [(1, 2, False), *new, (6, 16384, True)]


def test_empty_cells_with_a_format_make_room_and_lend_none():
    write_form(FORMS["empty cells that are formatted"])
    output, _ = code("book.xlsx", numbered)
    row = openpyxl.load_workbook(output).active[2]
    assert [cell.value for cell in row[2:5]] == numbered(2)
    assert row[3].number_format == "General" and row[5].number_format == "yyyy-mm-dd"
    assert row[16_383].font.bold


@pytest.mark.parametrize(
    "cell, tail",
    [
        ('<c r="D2"><f>1+1</f></c>', ""),
        ("", '<mergeCells><mergeCell ref="B3:D3"/></mergeCells>'),
    ],
)
def test_new_columns_stand_right_of_formulas_without_a_value_and_of_merged_cells(cell, tail):
    write_form(PLAIN.replace("one</t></is></c>", f"one</t></is></c>{cell}"), tail=tail)
    output, _ = code("book.xlsx", numbered)
    header = [cell.value for cell in openpyxl.load_workbook(output).active[1]]
    assert header == ["comment", "other", None, None, *NAMES]


def test_a_row_s_word_on_its_columns_takes_in_the_new_ones():
    write_form(FORMS["spans"])
    output, _ = code("book.xlsx", numbered)
    xml = parts_of(output)["xl/worksheets/sheet1.xml"].decode()
    assert re.findall("spans=.(.*?)[\"']", xml) == ["1:5", "1:5"]


def test_new_cells_stand_before_what_else_a_row_holds():
    write_form(FORMS["more behind the cells"])
    output, _ = code("book.xlsx", numbered)
    xml = parts_of(output)["xl/worksheets/sheet1.xml"].decode()
    assert xml.count("</v></c><extLst><ext uri='x'/></extLst></row>") == 2


def test_a_row_without_new_cells_keeps_its_bytes():
    write_form(PLAIN)
    output, _ = code("book.xlsx", lambda n: [] if n == 2 else [None, "", 0])
    xml = parts_of(output)["xl/worksheets/sheet1.xml"].decode()
    assert PLAIN[PLAIN.index('<row r="2">') : PLAIN.index('<row r="3">')] in xml
    assert '<c r="E3"><v>0</v></c></row>' in xml and 'r="C3"' not in xml


def test_a_number_that_is_none_is_never_written():
    write_form(PLAIN)
    with pytest.raises(ValueError, match="nan"):
        code("book.xlsx", lambda n: [1, "a", float("nan")])
    assert not Path("coded.xlsx").exists()


def test_a_text_longer_than_a_cell_is_refused_in_a_column_and_goes_on_below_in_a_new_sheet():
    write_form(PLAIN)
    long = "x" * 32_768
    with pytest.raises(UserError, match=r"32,768 characters and a cell holds 32,767"):
        code("book.xlsx", lambda n: [1, long, 0])
    output, _ = code("book.xlsx", numbered, more={"codebook": [["a", long], ["b"]]})
    pages = [[c.value for c in row] for row in openpyxl.load_workbook(output)["codebook"]]
    assert "".join(row[1] or "" for row in pages) == long
    assert [row[0] for row in pages if row[0]] == ["a", "b"]


# Any text


WITHOUT_NUL = texts().map(lambda text: text[:8_000])


@given(st.lists(WITHOUT_NUL, min_size=1, max_size=4), st.booleans())
@example(["_x0041", "\x01", "_x0041\x01", "_x0041\r", "=1+1", " a ", "\n\ta\r\n"], False)
def test_any_text_in_a_new_cell_of_an_xlsx_is_read_as_that_text(added, large):
    rows = "".join(f'<row r="{n}">{text_cell("c", f"A{n}")}</row>' for n in range(2, 12))
    write_form(HEADER + rows)
    code_of = dict(enumerate(added, start=2))
    Path("coded.xlsx").unlink(missing_ok=True)
    output, _ = code("book.xlsx", lambda n: [None, code_of.get(n), 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "LARGE", 0 if large else reading.LARGE)
        with open_comment_sheet(output, "", "comment") as sheet:
            place = sheet.header.index("class_name")
            read = {n: cells[place] for n, cells in sheet.rows() if cells[place] != ""}
    if not re.search("[\ufffe\uffff]", "".join(added)):  # which calamine leaves as _xFFFE_
        assert read == {n: text for n, text in code_of.items() if text}
    cells = openpyxl.load_workbook(output).active["D"][1:]
    assert [unescape(c.value or "") for c in cells][: len(added)] == added


@given(
    st.lists(texts(), min_size=1, max_size=4),
    st.lists(texts(), min_size=4, max_size=4),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "utf-16-le", "utf-7"]),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
@tries(2)
def test_the_records_of_a_csv_keep_their_bytes_and_get_any_text(
    comments, added, encoding, delimiter, end, quoting
):
    path = Path("comments.csv")
    if any(char in text for text in comments for char in "\r\n"):
        quoting = csv.QUOTE_ALL  # the module quotes no line end but its own
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerows([["comment", "other"], *([text, "x"] for text in comments)])
    code_of = dict(enumerate(added, start=2))
    Path("coded.csv").unlink(missing_ok=True)
    named = encoding if encoding in ("gb18030", "utf-16-le", "utf-7") else ""
    output, _ = code(path, lambda n: [0.25, code_of[n], None], more={}, encoding=named)
    with output.open(encoding=encoding, newline="") as file:
        rows = list(csv.reader(file, delimiter=delimiter, strict=True))
    assert rows == [
        ["comment", "other", *NAMES],
        *([text, "x", "0.25", new, ""] for text, new in zip(comments, added, strict=False)),
    ]
    if encoding != "utf-7":
        left = output.read_bytes()
        bare = encoding.removesuffix("-sig")
        code_units = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(bare, bare)
        for record in path.read_bytes().split(end.encode(code_units)):
            assert record in left


@given(st.lists(WITHOUT_NUL.map(lambda t: NOT_IN_XML.sub("", t)), min_size=1, max_size=4))
@example(["  a  b\t c ", "\t\t", " ", "a\nb\n", "=1+1", "\n"])
def test_any_text_that_an_ods_can_hold_is_read_as_that_text(added):
    write_ods("book.ods", [["comment", "b"], *([f"c{n}", "x"] for n in range(4))])
    code_of = dict(enumerate(added, start=2))
    Path("coded.ods").unlink(missing_ok=True)
    output, _ = code("book.ods", lambda n: [None, code_of.get(n, "-"), 1])
    rows = load_ods(output).spreadsheet.getElementsByType(Table)[0].getElementsByType(TableRow)
    read = []
    for row in rows[1 : len(added) + 1]:
        cell = row.getElementsByType(TableCell)[3]
        read.append("\n".join(map(teletype.extractText, cell.getElementsByType(P))))
    assert read == [text.replace("\r\n", "\n").replace("\r", "\n") for text in added]


# .csv


def test_a_csv_keeps_its_style_and_its_blank_and_short_rows():
    Path("comments.csv").write_bytes(b'comment;other\r\n"a; b";x\r\n\r\nshort\r\nlast;y')
    output, written = code("comments.csv", lambda n: [n, "c;d", 0.5])
    assert output.read_bytes() == (
        b'comment;other;class;class_name;p_no\r\n"a; b";x;2;"c;d";0.5\r\n\r\n'
        b'short;;4;"c;d";0.5\r\nlast;y;5;"c;d";0.5'
    )
    assert [*written] == ["coded.csv", "coded_codebook.csv", "coded_record.csv"]
    assert Path("coded_codebook.csv").read_text("utf-8-sig").splitlines() == ["class", "no", "=1+1"]
    assert Path("coded_record.csv").read_text("utf-8-sig").splitlines() == ["rows;3", "share;0.5"]


def test_a_csv_whose_cells_are_all_quoted_gets_quoted_cells():
    Path("comments.csv").write_bytes(b'\xef\xbb\xbf"comment","b"\n"a","x"\n"b",""\n')
    output, _ = code("comments.csv", lambda n: [1, "no", 0.5] if n == 2 else [], more={})
    assert output.read_bytes() == (
        b'\xef\xbb\xbf"comment","b","class","class_name","p_no"\n"a","x","1","no","0.5"\n'
        b'"b","","","",""\n'
    )


def test_cells_without_a_name_at_the_end_of_a_record_of_a_csv_are_not_shifted():
    Path("comments.csv").write_bytes(b"comment,b\none,x,,\ntwo,y\n")
    output, _ = code("comments.csv", lambda n: [n, "", ""], more={})
    assert output.read_bytes() == (b"comment,b,,,class,class_name,p_no\none,x,,,2,,\ntwo,y,,,3,,\n")


def test_a_name_that_the_encoding_of_a_csv_lacks_is_refused():
    Path("comments.csv").write_bytes("comment,b\ncaf\u00e9,x\n".encode("cp1252"))
    refused("comments.csv", "cp1252", "无", "CSV UTF-8", names=["class", "无", "p"])


# .ods


def write_ods(path, rows, change=lambda table: None):
    document = OpenDocumentSpreadsheet()
    table = Table(name="one")
    for values in rows:
        row = TableRow()
        for value in values:
            cell = TableCell(valuetype="string")
            cell.addElement(P(text=value))
            row.addElement(cell)
        table.addElement(row)
    change(table)
    document.spreadsheet.addElement(table)
    document.save(path)


def content_of(path):
    return parts_of(path)["content.xml"].decode()


def test_equal_rows_of_an_ods_get_codes_of_their_own_and_blank_ones_stay_together():
    def repeat(table):
        table.childNodes[1].setAttribute("numberrowsrepeated", 3)
        blank = TableRow(numberrowsrepeated=1_048_571)
        blank.addElement(TableCell(numbercolumnsrepeated=16_384))
        table.addElement(blank)

    write_ods("book.ods", [["comment", "b"], ["same", "x"], ["last", "y"]], repeat)
    asked = []

    def cells_of(number):
        asked.append(number)
        return [min(number, 3), "a", 0.5]

    output, _ = code("book.ods", cells_of, more={})
    assert asked == [2, 3, 4, 5]
    with open_comment_sheet(output, "", "comment") as sheet:
        rows = {number: cells for number, cells in sheet.rows() if cells}
    assert rows == {
        2: ["same", "x", 2.0, "a", 0.5],
        3: ["same", "x", 3.0, "a", 0.5],
        4: ["same", "x", 3.0, "a", 0.5],
        5: ["last", "y", 3.0, "a", 0.5],
    }
    xml = content_of(output)
    assert 'number-rows-repeated="1048571"' in xml
    assert xml.count('number-rows-repeated="2"') == 1


def test_columns_that_an_ods_repeats_to_the_last_one_are_no_more_than_before():
    def fill(table):
        for row in table.childNodes:
            row.addElement(TableCell(numbercolumnsrepeated=16_382, stylename="gray"))
        hidden = TableColumn(numbercolumnsrepeated=16_384, visibility="collapse")
        table.insertBefore(hidden, table.childNodes[0])

    write_ods("book.ods", [["comment", "b"], ["one", "x"]], fill)
    output, _ = code("book.ods", numbered, more={})
    xml = content_of(output)
    assert re.findall(r'number-columns-repeated="(\d+)"', xml) == [
        *("2", "3", "16379"),
        *("16379", "16379"),
    ]
    assert re.findall(r'table:visibility="(\w+)"', xml) == ["collapse", "visible", "collapse"]
    assert comments_of(output) == {2: "one"}


def test_all_else_of_an_ods_is_the_same_bytes_and_its_new_tables_stand_last():
    write_ods("book.ods", [["comment", "b"], ["one", "x"]])
    xml = content_of("book.ods")
    linked = "<table:table><table:table-row><table:table-cell/></table:table-row></table:table>"
    after = f"<table:dde-links><a>{linked}</a></table:dde-links></office:spreadsheet>"
    change_parts(
        "book.ods",
        lambda name, data: data.replace(b"</office:spreadsheet>", after.encode()),
        Thumbnails=b"\x00",
    )
    output, _ = code("book.ods", numbered)
    before, coded = parts_of("book.ods"), parts_of(output)
    assert [name for name in before if before[name] != coded[name]] == ["content.xml"]
    with zipfile.ZipFile(output) as book:
        first = book.infolist()[0]
    assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
    head = xml[: xml.index("<table:table ")]
    assert content_of(output).startswith(head)
    titles = re.findall(r'<table:table table:name="(\w+)"', content_of(output))
    assert titles == ["one", "codebook", "record"]
    assert content_of(output).index('"record"') < content_of(output).index(after)
    assert reading.read_sheet(output, "codebook") == {1: ["class"], 2: ["no"], 3: ["=1+1"]}
    assert reading.read_sheet(output, "record") == {1: ["rows", 3.0], 2: ["share", 0.5]}


# .xls


def test_an_xls_becomes_an_xlsx_with_all_its_sheets_and_says_what_is_lost(capsys):
    book = xlwt.Workbook()
    sheet, other = book.add_sheet("one"), book.add_sheet("two")
    dates = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for column, value in enumerate(["comment", "when", "likes"]):
        sheet.write(0, column, value)
    sheet.write(1, 0, "=1+1")
    sheet.write(1, 1, datetime.date(2021, 5, 3), dates)
    sheet.write(1, 2, 7)
    sheet.write(4, 0, "_x0041_")
    other.write(0, 0, True)
    book.save("book.xls")
    output, _ = code("book.xls", numbered)
    assert output.suffix == ".xlsx"
    assert "coded as coded.xlsx, an .xlsx" in capsys.readouterr().out
    coded = openpyxl.load_workbook(output)
    assert coded.sheetnames == ["one", "two", "codebook", "record"]
    rows = [[cell.value for cell in row] for row in coded["one"]]
    assert rows[0] == ["comment", "when", "likes", *NAMES]
    assert rows[1] == ["=1+1", datetime.datetime(2021, 5, 3), 7, *numbered(2)]
    assert coded["one"]["A2"].data_type == "s"
    assert coded["two"]["A1"].value is True
    assert comments_of(output) == comments_of("book.xls") == {2: "=1+1", 5: "_x0041_"}


def test_the_format_is_that_of_the_content_whatever_the_name_says():
    write_form(PLAIN, path="book.xls")
    assert coded_suffix("book.xls") == ".xlsx"
    output, _ = code("book.xls", numbered)
    assert [cell.value for cell in openpyxl.load_workbook(output).active[2]][2:] == numbered(2)


# What is refused before anything is computed


@pytest.mark.parametrize("mark", ["~${}", ".~lock.{}#", ".~{}"])
@pytest.mark.parametrize("name", ["book.xlsx", "coded.xlsx"])
def test_a_workbook_that_is_open_in_a_spreadsheet_program_is_refused(name, mark):
    write_form(PLAIN)
    Path(mark.format(name)).touch()
    refused("book.xlsx", f"{name} is open in a spreadsheet program", mark.format(name))


def test_merged_cells_in_the_header_row_are_refused():
    write_form(PLAIN, tail='<mergeCells><mergeCell ref="A1:A2"/></mergeCells>')
    refused("book.xlsx", "row 1: the cells A1:A2 are merged", "unmerge them")

    def merge(table):
        first, second = table.childNodes[0].childNodes
        first.setAttribute("numbercolumnsspanned", 2)
        table.childNodes[0].insertBefore(CoveredTableCell(), second)

    write_ods("book.ods", [["comment", "b"], ["one", "x"]], merge)
    refused("book.ods", "row 1: cells are merged", "unmerge them")


@pytest.mark.parametrize("name", ["class", "Class_Name", " p_no "])
def test_a_column_that_is_named_like_a_new_one_is_refused(name):
    write_form(PLAIN.replace("other", name))
    refused("book.xlsx", f"has a column {name.strip()!r}", "--prefix")


def test_an_output_that_is_the_source_or_of_another_format_is_refused():
    write_form(PLAIN)
    refused("book.xlsx", "would be overwritten by its own output", output="./book.xlsx")
    refused("book.xlsx", "ends in .xlsx", output="coded.csv")


def test_more_columns_than_a_sheet_has_are_refused():
    write_form(PLAIN.replace("</row><row", '<c r="XFB1"><f>1</f></c></row><row', 1))
    refused("book.xlsx", "its last column is XFB", "no room for 3 more")
    write_form(PLAIN, tail='<mergeCells><mergeCell ref="A3:XFD3"/></mergeCells>')
    refused("book.xlsx", "unmerge cells that are merged across the sheet")


@pytest.mark.parametrize("title", ["codebook", "Record"])
def test_a_sheet_of_the_name_of_a_new_one_is_refused(title):
    write_form(PLAIN)
    book = openpyxl.load_workbook("book.xlsx")
    book.create_sheet(title)
    book.save("book.xlsx")
    refused("book.xlsx", f"has a sheet {title!r}", "another name")


def test_a_workbook_with_a_password_is_refused():
    book = xlwt.Workbook()
    book.add_sheet("one").write(0, 0, "comment")
    book.save("book.xls")
    data = bytearray(Path("book.xls").read_bytes())
    place = data.index("Workbook".encode("utf-16-le"))
    name = "EncryptedPackage".encode("utf-16-le")
    data[place : place + len(name)] = name
    data[place + 64 : place + 66] = struct.pack("<H", len(name) + 2)
    Path("book.xlsx").write_bytes(data)
    refused("book.xlsx", "protected by a password", "without a password")
    write_ods("book.ods", [["comment"], ["one"]])
    change_parts(
        "book.ods",
        lambda name, data: b"?" if name == "content.xml" else data,
        **{"META-INF/manifest.xml": b"<m><manifest:encryption-data/></m>"},
    )
    refused("book.ods", "protected by a password", "without a password")


def test_a_part_that_is_broken_is_told_before_anything_is_computed():
    write_rich_book("book.xlsx")
    data = bytearray(Path("book.xlsx").read_bytes())
    with zipfile.ZipFile("book.xlsx") as book:
        info = book.getinfo("xl/media/image1.png")
    data[info.header_offset + 30 + len(info.filename) + 20] ^= 255
    Path("book.xlsx").write_bytes(data)
    refused("book.xlsx", "has parts that no spreadsheet program wrote so", "save it as .xlsx")


@pytest.mark.parametrize("xml", ['<?xml version="1.0" encoding="gbk"?>', "<!DOCTYPE worksheet>"])
def test_xml_in_a_form_that_no_spreadsheet_program_writes_is_refused(xml):
    write_form(
        PLAIN, change=lambda name, data: xml.encode() + data if "sheet1.xml" in name else data
    )
    refused("book.xlsx", "save it as .xlsx")


def test_a_picture_or_chart_that_lies_over_new_columns_is_told(capsys):
    write_rich_book("book.xlsx")
    book = openpyxl.load_workbook("book.xlsx")
    sheet = book["numbers"]
    sheet["A1"], sheet["B1"] = "comment", "double"
    book.save("book.xlsx")
    code("book.xlsx", numbered, sheet="numbers")
    assert "1 picture or chart lies over the new columns C to E" in capsys.readouterr().out
    code("book.xlsx", numbered, output="other.xlsx")
    assert "lies over" not in capsys.readouterr().out


def test_protection_stays_and_is_told(capsys):
    book = openpyxl.Workbook()
    for row in (["comment", "b"], ["one", "x"]):
        book.active.append(row)
    book.active.protection.sheet = True
    book.security = WorkbookProtection(lockStructure=True)
    book.save("book.xlsx")
    output, _ = code("book.xlsx", numbered)
    out = capsys.readouterr().out
    assert "sheet 'Sheet' is protected" in out and "its list of sheets is protected" in out
    coded = openpyxl.load_workbook(output)
    assert coded.active.protection.sheet and coded.security.lockStructure
    assert [cell.value for cell in coded.active[2]] == ["one", "x", *numbered(2)]


# What people typed


@pytest.mark.parametrize("name", ["book.xlsx", "book.csv"])
def test_what_people_typed_into_a_coded_workbook_is_never_overwritten(name):
    write_form(PLAIN)
    Path("book.csv").write_bytes(b"comment,b\none,x\n")
    output, written = code(name, numbered)
    again, written = code(name, lambda n: [1, "other", 0], written=written)
    assert again == output
    refused(name, f"{output} was changed since it was written", "--output-file")
    for file in written:
        kept = Path(file).read_bytes()
        Path(file).write_bytes(kept + b"a note")
        refused(name, f"{file} was changed since it was written", written=written)
        Path(file).write_bytes(kept)
    shutil.move(output, "kept")
    code(name, numbered, written=written)
