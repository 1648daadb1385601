"""Spreadsheets of any text: it arrives as it stands in a cell, and is no formula for people."""

import csv
import io
import re
import zipfile
from functools import cache
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
import xlwt
from hostile import texts, tries, words
from hypothesis import example, given
from hypothesis import strategies as st
from odf import teletype
from odf.opendocument import OpenDocumentSpreadsheet
from odf.table import Table, TableCell, TableRow
from odf.text import P

import excel_2_csv
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.files import clean_text
from pipeline.common.tables import read_csv
from pipeline.sheets import reading
from pipeline.sheets.coding import read_filled_in, update_sheet, write_sheet
from pipeline.sheets.reading import read_sheet

NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
CELL = 32_767  # UTF-16 code units of a cell, Excel's limit
CELLS = texts(longest=CELL // 2).map(lambda text: NOT_IN_XML.sub("", text))
SIMPLE = "pre_process/datas/simple.csv"


def escaped(text):
    """Return a text as the format of .xlsx escapes it."""
    return re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)


def write_xlsx(path, comments):
    book = openpyxl.Workbook()
    for row, text in enumerate(["comment", *comments], start=1):
        cell = book.active.cell(row, 1, escaped(text) or None)
        book.active.cell(row, 2, "x")
        if text and not text.startswith("="):
            cell.data_type = "s"
    book.save(path)


LAST_TWO = "".join(chr(0x1_0000 * plane + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
NOT_IN_ODS = re.compile(f"[\x7f-\x84\x86-\x9f{LAST_TWO}]")


def write_ods(path, comments):
    table = Table(name="one")
    for text in ["comment", *comments]:
        row = TableRow()
        for content in (text, "x"):
            cell = TableCell(valuetype="string")
            for line in content.split("\n"):
                paragraph = P()
                teletype.addTextToElement(paragraph, line)
                cell.addElement(paragraph)
            row.addElement(cell)
        table.addElement(row)
    document = OpenDocumentSpreadsheet()
    document.spreadsheet.addElement(table)
    document.save(path)


def write_any_csv(path, comments, encoding, delimiter, end):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerows([["comment", "other"], *([text, "x"] for text in comments)])
    Path(path).write_bytes(out.getvalue().encode(encoding))


def messages_of(path, *options):
    """Return row number -> message as step 1 reads a file, {} where it holds no text."""
    try:
        excel_2_csv.main(["--excel-file", path, *options])
    except UserError as error:
        assert "holds no text" in str(error)
        return {}
    rows = read_csv(SIMPLE, ["custom_id", "message"], "excel_2_csv.py")
    return {
        int(name.removeprefix("row-")): text
        for name, text in zip(rows["custom_id"], rows["message"], strict=True)
    }


def expected(comments):
    cleaned = {row: clean_text(text) for row, text in enumerate(comments, start=2)}
    return {row: text for row, text in cleaned.items() if text}


COMMENTS = st.lists(CELLS, min_size=1, max_size=5)


@given(COMMENTS)
@example(["=1+1", '=HYPERLINK("http://x")', "x"])
def test_a_comment_of_an_xlsx_is_the_text_of_its_cell_however_large_the_sheet_is(comments):
    write_xlsx("comments.xlsx", comments)
    assert messages_of("comments.xlsx") == expected(comments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "LARGE", 0)
        assert messages_of("comments.xlsx") == expected(comments)


@given(st.lists(CELLS.map(lambda text: NOT_IN_ODS.sub("", text)), min_size=1, max_size=5))
def test_a_comment_of_an_ods_is_the_text_of_its_cell(comments):
    """But for tabs, which calamine leaves out."""
    comments = [comment.replace("\t", " ") for comment in comments]
    write_ods("comments.ods", comments)
    assert messages_of("comments.ods") == expected(comments)


@given(
    st.lists(texts(), min_size=1, max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "utf-16-le"]),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_a_comment_of_a_csv_is_the_text_of_its_cell(comments, encoding, delimiter, end):
    write_any_csv("comments.csv", comments, encoding, delimiter, end)
    named = ["--encoding", encoding] if encoding in ("gb18030", "utf-16-le") else []
    assert messages_of("comments.csv", *named) == expected(comments)


@given(st.lists(words(), min_size=1, max_size=4), words())
def test_text_in_a_sheet_that_people_fill_in_is_no_formula_and_comes_back(messages, name):
    codebook = read_codebook("prompt.txt")
    messages = [clean_text(message[: CELL // 10]) for message in messages]
    ids = [f"{clean_text(name[:50])}{n}" for n in range(len(messages))]
    rows = pd.DataFrame({"custom_id": ids, "message": messages})
    Path("coder.xlsx").unlink(missing_ok=True)
    first = rows.assign(note=messages[::-1], corrected="")
    update_sheet(first[:1], codebook, "corrected", Path("coder.xlsx"))
    update_sheet(first, codebook, "corrected", Path("coder.xlsx"))
    write_sheet(first, codebook, "", "plain.xlsx")
    for path in ("coder.xlsx", "plain.xlsx"):
        with zipfile.ZipFile(path) as book:
            sheets = [name for name in book.namelist() if "worksheets/" in name]
            assert not any(re.search(rb"<f[ >/]", book.read(sheet)) for sheet in sheets)
        for cells in list(openpyxl.load_workbook(path).worksheets[0].iter_rows())[1:]:
            for cell in cells:
                assert cell.value is None or (cell.data_type == "s" and cell.quotePrefix)
        found = [[clean_text(cell) for cell in cells] for cells in read_sheet(path).values()]
        assert found == [list(first), *first.to_numpy().tolist()]
    filled = read_filled_in("coder.xlsx", codebook, "corrected", rows, "")
    assert filled["custom_id"].tolist() == ids
    assert filled["message"].tolist() == messages
    assert filled["label"].tolist() == [-1] * len(ids)
    assert filled["place"].tolist() == list(range(len(ids)))


@pytest.mark.parametrize("text", ["x" * CELL + "y", "😀" * (CELL // 2 + 1), "_x0041_" * 4_000])
def test_a_text_that_no_cell_holds_is_refused_and_not_cut(text):
    codebook = read_codebook("prompt.txt")
    rows = pd.DataFrame({"custom_id": ["a", "b"], "message": ["x", text], "class": ""})
    with pytest.raises(UserError, match=r"new\.xlsx: the message of b has .* characters"):
        write_sheet(rows, codebook, "class", "new.xlsx")
    update_sheet(rows[:1], codebook, "class", Path("old.xlsx"))
    before = Path("old.xlsx").read_bytes()
    with pytest.raises(UserError, match=r"old\.xlsx: the message of b has .* characters"):
        update_sheet(rows, codebook, "class", Path("old.xlsx"))
    assert Path("old.xlsx").read_bytes() == before


@tries(0.5)
@given(texts(longest=300))
def test_a_codebook_of_any_text_goes_into_a_sheet(text):
    Path("prompt.txt").write_bytes(f"{text}\n[0] a: {text}\n[1] b: y".encode())
    try:
        codebook = read_codebook("prompt.txt")
    except UserError:
        return
    rows = pd.DataFrame({"custom_id": ["a"], "message": ["x"], "class": ""})
    write_sheet(rows, codebook, "class", "coder.xlsx")
    assert len(read_filled_in("coder.xlsx", codebook, "class", rows, "")) == 1


@cache
def sample_of(suffix):
    comments = ["一", "=1+1", "x" * 50]
    if suffix == ".xlsx":
        write_xlsx("sample.xlsx", comments)
    elif suffix == ".ods":
        write_ods("sample.ods", comments)
    else:
        book = xlwt.Workbook()
        sheet = book.add_sheet("one")
        for row, text in enumerate(["comment", *comments]):
            sheet.write(row, 0, text)
        book.save("sample.xls")
    return Path(f"sample{suffix}").read_bytes()


@st.composite
def broken(draw, content):
    """Draw a file of which some bytes are others, or which ends early."""
    content = bytearray(content[: draw(st.sampled_from([None, None, 10, 300, len(content) - 9]))])
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(content) - 1))
        content[place] = draw(st.integers(0, 255))
    return bytes(content)


@tries(4)
@given(st.data())
def test_a_broken_spreadsheet_is_read_or_refused_in_a_line(data):
    suffix = data.draw(st.sampled_from([".xlsx", ".ods", ".xls", ".xls"]))
    Path(f"broken{suffix}").write_bytes(data.draw(broken(sample_of(suffix))))
    for large in (reading.LARGE, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "LARGE", large)
            try:
                excel_2_csv.main(["--excel-file", f"broken{suffix}"])
            except UserError as error:
                assert str(error).startswith(f"broken{suffix}")


@tries(2)
@given(st.one_of(st.binary(max_size=300), texts(longest=2_000).map(str.encode)), st.booleans())
def test_any_bytes_of_a_csv_are_read_or_refused_in_a_line(content, headed):
    Path("comments.csv").write_bytes(b"comment,x\n" * headed + content)
    try:
        excel_2_csv.main(["--excel-file", "comments.csv"])
    except UserError as error:
        assert str(error).startswith("comments.csv")
