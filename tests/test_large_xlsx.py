"""A large .xlsx, which is streamed, has the same cells as one that is read whole."""

import zipfile
from io import BytesIO

import openpyxl
import pytest
from openpyxl.chart import BarChart

from pipeline.common.cli import UserError
from pipeline.sheets import reading
from pipeline.sheets.reading import Formula, Lost, open_sheet

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PRESERVE = ' xml:space="preserve"'


def write_book(rows, strings="<si><t/></si>", form=0, main=MAIN):
    """Write a workbook of one sheet, given as XML; style 1 shows a number in a format."""
    own, number = (form, 200) if isinstance(form, str) else ("0", form)
    parts = {
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData>'
        "</worksheet>",
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{strings}</sst>',
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><numFmts><numFmt numFmtId="200" '
        f'formatCode="{own}"/></numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="{number}"/>'
        "</cellXfs></styleSheet>",
    }
    link = f'<Relationship Id="t" Type="{OFFICE}/sharedStrings" Target="sharedStrings.xml"/>'
    packed = BytesIO()
    openpyxl.Workbook().save(packed)
    with zipfile.ZipFile(packed) as book, zipfile.ZipFile("book.xlsx", "w") as changed:
        others = {name: book.read(name).decode() for name in book.namelist()}
        for name, xml in (others | parts).items():
            xml = xml.replace("</Relationships>", f"{link}</Relationships>")
            changed.writestr(name, xml.replace(MAIN, main))


def read_book(monkeypatch, large, formulas_in=-1):
    """Return the type and the value of each cell, row by row."""
    monkeypatch.setattr(reading, "LARGE", 0 if large else 2**40)
    with open_sheet("book.xlsx") as sheet:
        rows = [cells for _, cells in sheet.rows(formulas_in)]
    return [[(type(cell), cell) for cell in cells] for cells in rows]


def row(number, *cells):
    """Return the XML of a row; a cell is the rest of its opening tag, and what it holds."""
    xml = (f'<c r="{"ABCDE"[n]}{number}"{rest}</c>' for n, rest in enumerate(cells) if rest)
    return f'<row r="{number}">{"".join(xml)}</row>'


ONE = "><v>1</v>"
COMMENT = ' t="inlineStr"><is><t>comment</t></is>'


@pytest.mark.parametrize(
    "blank",
    [
        ' s="0">',
        ' t="s"><v>0</v>',
        ' t="inlineStr"><is><t></t></is>',
        ' t="str"><v></v>',
    ],
)
def test_a_comment_that_is_empty_but_has_a_cell_is_no_lost_text(blank, monkeypatch):
    write_book(row(1, COMMENT, ONE) + row(2, blank, ONE))
    streamed = read_book(monkeypatch, large=True, formulas_in=0)
    assert streamed[1] == [(str, ""), (float, 1.0)]
    assert streamed == read_book(monkeypatch, large=False, formulas_in=0)


def test_an_error_and_a_formula_in_place_of_a_comment_are_told_from_its_text(monkeypatch):
    error, formula = ' t="e"><v>#NAME?</v>', "><f>a&amp;b</f>"
    write_book(row(1, COMMENT, ONE) + row(2, error, ONE) + row(3, formula, ONE))
    rows = read_book(monkeypatch, large=True, formulas_in=0)
    assert [cells[0] for cells in rows[1:]] == [(Lost, "#NAME?"), (Formula, "=a&b")]


@pytest.mark.parametrize("form", [14, 27, 31, 36, 46, 50, 58, "yyyy年m月", "[H]", "[hh]:mm", "0.0"])
def test_a_date_is_one_in_the_formats_of_every_language(form, monkeypatch):
    write_book(row(1, COMMENT, ' s="1"><v>43831.75</v>'), form=form)
    assert read_book(monkeypatch, large=True) == read_book(monkeypatch, large=False)


@pytest.mark.parametrize("value", ["0", "0.25", "1.5", "60", "61", "43831", "43831.999999"])
@pytest.mark.parametrize("form", [14, 21, 22, 46])
def test_a_number_shown_as_a_date_is_the_same_date(form, value, monkeypatch):
    write_book(row(1, COMMENT, f' s="1"><v>{value}</v>'), form=form)
    assert read_book(monkeypatch, large=True) == read_book(monkeypatch, large=False)


@pytest.mark.parametrize(
    "text",
    [
        f"<r><t>a </t></r><r><rPr/><t{PRESERVE}> b</t></r>",
        "<r><t>漢</t></r><rPh sb='0' eb='1'><t>kan</t></rPh>",
        "<t>a_x000D_b&#10;c _x005F_x0041_</t>",
        f"<t{PRESERVE}> x&amp;lt; </t>",
        "<t><![CDATA[<b> & ]]></t>",
    ],
)
def test_a_text_in_any_form_is_the_same_text(text, monkeypatch):
    inline = f' t="inlineStr"><is>{text}</is>'
    write_book(row(1, inline, ONE) + row(2, ' t="s"><v>0</v>', inline), f"<si>{text}</si>")
    assert read_book(monkeypatch, large=True) == read_book(monkeypatch, large=False)


def test_a_truth_value_is_read_in_both_spellings(monkeypatch):
    cells = [f' t="b"><v>{value}</v>' for value in ("1", "true", "0", "false")]
    write_book(row(1, *cells))
    assert read_book(monkeypatch, large=True) == [[(bool, value) for value in (1, 1, 0, 0)]]


def test_rows_that_are_not_in_order_are_refused_and_not_lost(monkeypatch):
    write_book(row(1, COMMENT) + row(3, ONE) + row(2, ONE))
    with pytest.raises(UserError) as error:
        read_book(monkeypatch, large=True)
    assert str(error.value) == (
        "book.xlsx, row 2: it stands behind row 3: open it in a spreadsheet program and save it "
        "again"
    )


def test_a_page_that_is_a_chart_is_not_taken_for_the_first_sheet(monkeypatch):
    book = openpyxl.Workbook()
    book.active.append(["comment"])
    book.create_chartsheet("chart", 0).add_chart(BarChart())
    book.save("book.xlsx")
    assert read_book(monkeypatch, large=True) == [[(str, "comment")]]


def test_a_book_in_the_strict_form_is_read_whole(monkeypatch):
    write_book(row(1, COMMENT), main=STRICT)
    assert read_book(monkeypatch, large=True) == [[(str, "comment")]]
