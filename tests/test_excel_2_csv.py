"""Step 1: every kind of spreadsheet gives the same rows."""

import datetime
import sys
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
import xlwt

import excel_2_csv
from pipeline.common.cli import UserError
from pipeline.common.files import read_csv
from pipeline.sheets.reading import column_letter

HEADER = ["user", "comment", "likes"]
COMMENTS = ["男女平等", "NA", "=1+1", "一行\n两行", "", "男女平等", "<|im_end|>", "001"]
KEPT = ["男女平等", "NA", "=1+1", "一行 两行", "男女平等", "<|im_end|>", "001"]
IDS = ["row-2", "row-3", "row-4", "row-5", "row-7", "row-8", "row-9"]


def write_xlsx(path, rows, sheet="Sheet"):
    workbook = openpyxl.Workbook()
    workbook.active.title = sheet
    for row in rows:
        workbook.active.append(row)
    for cells in workbook.active.iter_rows():
        for cell in cells:
            if cell.data_type == "f":
                cell.data_type = "s"
    workbook.save(path)


def write_xls(path, rows):
    workbook = xlwt.Workbook()
    sheet = workbook.add_sheet("Sheet")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            sheet.write(y, x, cell)
    workbook.save(path)


def write_csv_text(path, rows, encoding):
    text = pd.DataFrame(rows[1:], columns=rows[0]).to_csv(index=False)
    Path(path).write_bytes(text.encode(encoding))


def sample_rows():
    return [HEADER] + [[f"用户{n}", comment, n] for n, comment in enumerate(COMMENTS)]


@pytest.fixture(
    params=["xlsx", "openpyxl", "xls", "ods", "utf-8", "utf-8-sig", "gb18030", "utf-16"]
)
def spreadsheet(request, monkeypatch):
    kind, rows = request.param, sample_rows()
    if kind in ("xlsx", "openpyxl"):
        if kind == "openpyxl":
            monkeypatch.setitem(sys.modules, "python_calamine", None)
        write_xlsx("book.xlsx", rows)
        return "book.xlsx"
    if kind == "xls":
        write_xls("book.xls", rows)
        return "book.xls"
    if kind == "ods":
        frame = pd.DataFrame(rows[1:], columns=rows[0])
        frame.to_excel("book.ods", index=False, engine="odf")
        return "book.ods"
    write_csv_text("book.csv", rows, kind)
    return "book.csv"


def convert(*argv):
    paths = ["--csv-file", "out/all.csv", "--simple-file", "out/simple.csv"]
    excel_2_csv.main([*paths, *argv])
    return read_csv("out/simple.csv", ["custom_id", "message", "class"], "x")


def test_every_kind_of_spreadsheet_gives_the_same_rows(spreadsheet, capsys):
    rows = convert("--excel-file", spreadsheet)
    assert rows["message"].tolist() == KEPT
    assert rows["custom_id"].tolist() == IDS
    assert set(rows["class"]) == {"-1"}
    everything = read_csv("out/all.csv", HEADER, "x")
    assert everything["comment"].tolist() == [c.replace("\n", " ") for c in COMMENTS]
    assert everything["likes"].tolist() == [str(n) for n in range(8)]
    out = capsys.readouterr().out
    assert "1  empty comments left out (rows 6)" in out
    assert "1  messages cleaned" in out
    assert "1  messages that repeat an earlier one" in out


@pytest.mark.parametrize("column", ["comment", "B", "b"])
def test_a_column_goes_by_its_name_or_its_letter(column):
    write_xlsx("book.xlsx", sample_rows())
    assert (
        convert("--excel-file", "book.xlsx", "--text-column", column)["message"].iloc[0]
        == "男女平等"
    )


def test_user_names_are_in_the_messages_only_when_asked_for():
    write_xlsx("book.xlsx", sample_rows())
    assert "用户" not in "".join(convert("--excel-file", "book.xlsx")["message"])
    rows = convert("--excel-file", "book.xlsx", "--user-column", "user")
    assert rows["message"].iloc[0] == "用户0: 男女平等"


def test_labels_that_people_gave_are_read_by_number_and_by_name():
    labels = [1, "Negative", "irrelevant", "", "0", 3.0]
    rows = [["comment", "label"]] + [[f"c{n}", label] for n, label in enumerate(labels)]
    write_xlsx("book.xlsx", rows)
    assert convert("--excel-file", "book.xlsx", "--label-column", "label")["class"].tolist() == [
        "1",
        "2",
        "3",
        "-1",
        "0",
        "3",
    ]


def test_a_label_outside_the_codebook_is_refused_with_its_row():
    write_xlsx("book.xlsx", [["comment", "label"], ["a", 1], ["b", 7]])
    with pytest.raises(UserError, match="book.xlsx, row 3: label '7' is no class"):
        convert("--excel-file", "book.xlsx", "--label-column", "label")


def test_a_sheet_is_chosen_by_its_name():
    write_xlsx("book.xlsx", sample_rows(), sheet="评论")
    assert len(convert("--excel-file", "book.xlsx", "--sheet", "评论")) == len(KEPT)
    with pytest.raises(UserError, match="no sheet 'Data'"):
        convert("--excel-file", "book.xlsx", "--sheet", "Data")


def test_numbers_are_texts_and_row_numbers_are_the_spreadsheet_s():
    write_xlsx("book.xlsx", [[], [], ["comment"], [666], [], [0.5]])
    rows = convert("--excel-file", "book.xlsx")
    assert rows[["custom_id", "message"]].values.tolist() == [["row-4", "666"], ["row-6", "0.5"]]


@pytest.mark.parametrize("cell", [datetime.date(2024, 5, 1), True, datetime.time(3, 4)])
def test_a_cell_that_is_no_text_is_refused_with_its_row(cell):
    write_xlsx("book.xlsx", [["comment"], ["a"], [cell]])
    with pytest.raises(UserError, match="book.xlsx, row 3: column 'comment' holds"):
        convert("--excel-file", "book.xlsx")


def test_a_carriage_return_as_excel_escapes_it_is_a_line_break():
    write_xlsx("book.xlsx", [["comment"], ["一_x000D_\n二"]])
    assert convert("--excel-file", "book.xlsx")["message"].iloc[0] == "一 二"


def test_a_comment_that_the_sheet_took_for_a_formula_is_kept_as_its_text(capsys):
    workbook = openpyxl.Workbook()
    for row in ("comment", "a", "=_= 无语", "=1+1"):
        workbook.active.append([row])
    workbook.save("book.xlsx")
    rows = convert("--excel-file", "book.xlsx")
    assert rows["message"].tolist() == ["a", "=_= 无语", "=1+1"]
    assert rows["custom_id"].tolist() == ["row-2", "row-3", "row-4"]
    assert "2  comments that the sheet took for formulas (rows 3, 4)" in capsys.readouterr().out


def test_a_cell_with_an_error_has_lost_its_text_and_is_refused():
    workbook = openpyxl.Workbook()
    for row in ("comment", "a", "#NAME?"):
        workbook.active.append([row])
    workbook.save("book.xlsx")
    with pytest.raises(UserError, match="row 3: column A holds #NAME"):
        convert("--excel-file", "book.xlsx")


def test_an_xlsx_by_another_name_and_behind_a_hidden_sheet_is_read():
    workbook = openpyxl.Workbook()
    workbook.active.sheet_state = "hidden"
    workbook.create_sheet("评论").append(["comment"])
    workbook["评论"].append(["a"])
    workbook.save("book.xlsx")
    Path("book.xlsx").rename("book.xls")
    assert convert("--excel-file", "book.xls")["message"].tolist() == ["a"]


def test_a_comma_outside_quotes_is_refused_with_its_row():
    Path("book.csv").write_text("comment,likes\na,1\nb,c,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="book.csv, row 3: 3 cells under 2 column names"):
        convert("--excel-file", "book.csv")


def test_a_csv_with_semicolons_is_read():
    Path("book.csv").write_text("comment;likes\n一,二;1\n", encoding="utf-8")
    assert convert("--excel-file", "book.csv")["message"].iloc[0] == "一,二"


def test_columns_go_from_a_to_z_and_on():
    assert [column_letter(n) for n in (0, 25, 26, 51, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]
