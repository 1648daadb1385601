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
from pipeline.common.tables import read_csv
from pipeline.sheets.comments import open_comment_sheet
from pipeline.sheets.messages import Messages
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


def test_the_user_s_own_ids_are_in_both_files(capsys):
    rows = [["id", "comment", "label"], ["w-9", "a", 2], [7.0, "", ""], ["w-1", "b", ""]]
    write_xlsx("book.xlsx", rows)
    simple = convert("--excel-file", "book.xlsx", "--id-column", "id", "--label-column", "label")
    assert simple["custom_id"].tolist() == ["w-9", "w-1"]
    assert simple["class"].tolist() == ["2", "-1"]
    table = pd.read_csv("out/all.csv", dtype=str, na_filter=False)
    assert table.columns.tolist() == ["custom_id", "id", "comment", "label"]
    assert table["custom_id"].tolist() == ["w-9", "7", "w-1"]
    assert "taken as" not in capsys.readouterr().out


def test_rows_without_ids_of_their_own_are_numbered_in_both_files():
    write_xlsx("book.xlsx", sample_rows())
    assert convert("--excel-file", "book.xlsx")["custom_id"].tolist() == IDS
    table = read_csv("out/all.csv", ["custom_id", *HEADER], "x")
    assert table["custom_id"].tolist() == [f"row-{n}" for n in range(2, 10)]


def test_a_column_called_custom_id_holds_the_ids_unless_another_is_given(capsys):
    write_xlsx("book.xlsx", [["comment", "custom_id", "n"], ["a", "x1", 5], ["b", "x2", 6]])
    assert convert("--excel-file", "book.xlsx")["custom_id"].tolist() == ["x1", "x2"]
    assert "column 'custom_id' is taken as the rows' ids" in capsys.readouterr().out
    table = pd.read_csv("out/all.csv", dtype=str)
    assert table.columns.tolist() == ["custom_id", "comment", "n"]
    rows = convert("--excel-file", "book.xlsx", "--id-column", "C")
    assert rows["custom_id"].tolist() == ["5", "6"]
    table = pd.read_csv("out/all.csv", dtype=str)
    assert table.columns.tolist() == ["custom_id", "comment", "custom_id of the sheet", "n"]
    assert table["custom_id of the sheet"].tolist() == ["x1", "x2"]


def test_two_columns_called_custom_id_are_told_and_kept_apart():
    write_xlsx("book.xlsx", [["custom_id", "comment", "custom_id"], ["x1", "a", "y1"]])
    with pytest.raises(UserError, match="book.xlsx has two columns 'custom_id': give the column's"):
        convert("--excel-file", "book.xlsx")
    assert convert("--excel-file", "book.xlsx", "--id-column", "C")["custom_id"].tolist() == ["y1"]
    assert Path("out/all.csv").read_text(encoding="utf-8-sig").splitlines() == [
        '"custom_id","custom_id of the sheet","comment"',
        '"y1","x1","a"',
    ]


@pytest.mark.parametrize("name", ["custom_id", "id"])
def test_ids_that_are_missing_or_stand_twice_are_refused_with_their_rows(name):
    options = ["--excel-file", "book.xlsx", *(["--id-column", "id"] if name == "id" else [])]
    change = "leave out --id-column" if name == "id" else "give column 'custom_id' another name"
    cure = f", or {change} to have the rows numbered"
    write_xlsx("book.xlsx", [[name, "comment"], ["x", "a"], ["", "b"], ["", ""], ["\u200b", "c"]])
    with pytest.raises(UserError) as error:
        convert(*options)
    assert str(error.value) == (
        f"book.xlsx: column {name!r} has no id for 2 of the comments (rows 3, 5): fill them "
        f"in{cure}"
    )
    write_xlsx("book.xlsx", [[name, "comment"], ["x", "a"], [7, "b"], ["7", "c"], ["x", "d"]])
    with pytest.raises(UserError) as error:
        convert(*options)
    assert str(error.value) == (
        f"book.xlsx: 4 rows share their id in column {name!r} with another, such as 'x' (rows 2, "
        f"5): give each row its own{cure}"
    )
    assert not Path("out/simple.csv").exists()


def test_ids_that_excel_has_rounded_are_told():
    write_xlsx("book.xlsx", [["id", "comment"], [4.5e15 + 120, "a"], [4.5e15 + 120, "b"]])
    with pytest.raises(UserError, match="Excel keeps 15 digits of a number, so format ids as"):
        convert("--excel-file", "book.xlsx", "--id-column", "id")


def test_a_row_without_a_comment_needs_no_id():
    write_xlsx("book.xlsx", [["id", "comment"], ["row-3", "a"], [None, None, "a remark"], ["x"]])
    rows = convert("--excel-file", "book.xlsx", "--id-column", "id")
    assert rows["custom_id"].tolist() == ["row-3"]
    table = pd.read_csv("out/all.csv", dtype=str, na_filter=False)
    assert table["custom_id"].tolist() == ["row-3", "", "x"]


TITLED = [["user", "date", "comment"], ["ann", "May", "first"], ["ben", "June", "second"]]


@pytest.mark.parametrize("column", ["C", "c", "comment"])
@pytest.mark.parametrize(
    ("above", "told"),
    [
        ([["Comments of May", None, None]], "row 1: 'Comments of May' stands there alone"),
        ([[], [None, "Study 1"], ["May"]], "row 2: 'Study 1' stands there alone"),
    ],
)
def test_a_title_above_the_column_names_is_refused_with_its_rows(above, told, column):
    write_xlsx("book.xlsx", [*above, *TITLED])
    with pytest.raises(UserError, match=f"book.xlsx, {told}") as error:
        convert("--excel-file", "book.xlsx", "--text-column", column)
    gone = {1: "row 1", 3: "rows 2, 3"}[len(above)]
    assert f"delete {gone}; " in str(error.value)
    write_xlsx("book.xlsx", TITLED)
    rows = convert("--excel-file", "book.xlsx", "--text-column", column)
    assert rows["message"].tolist() == ["first", "second"]


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ([["comment"], ["first"], ["second"]], "A"),
        ([["comment"], ["first", "a remark"], ["second"], ["third"]], "A"),
        ([[None, "comment"], [1, "first"], [2, "second"]], "comment"),
        ([["comment", "user"], ["first"], ["second", "ben"]], "A"),
    ],
)
def test_a_sheet_with_one_column_of_comments_has_no_title(rows, column):
    write_xlsx("book.xlsx", rows)
    found = convert("--excel-file", "book.xlsx", "--text-column", column)["message"].tolist()
    assert found[:2] == ["first", "second"]


def test_a_column_given_by_its_letter_is_named(capsys):
    write_xlsx("book.xlsx", TITLED)
    convert("--excel-file", "book.xlsx", "--text-column", "c")
    assert "row 1 names the columns; the comments are in C, 'comment'\n" in capsys.readouterr().out


def test_a_title_of_several_cells_is_told_where_it_leaves_the_comments_without_a_name(capsys):
    write_xlsx("book.xlsx", [["Report", "2024"], *TITLED])
    convert("--excel-file", "book.xlsx", "--text-column", "C")
    said = "row 1 names the columns; the comments are in C, without a name: if the row is a title"
    assert said in capsys.readouterr().out


def test_a_comment_of_nothing_that_can_be_seen_is_left_out_and_counted(capsys):
    write_xlsx("book.xlsx", [["comment"], ["a"], ["\u200b\u2060"], ["\u3164"], ["می‌خواهم 👩‍💻"]])
    rows = convert("--excel-file", "book.xlsx")
    assert rows["message"].tolist() == ["a", "می‌خواهم 👩‍💻"]
    assert "2  empty comments left out (rows 3, 4)" in capsys.readouterr().out


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


def test_where_the_first_sheet_has_no_such_column_another_sheet_is_thought_of():
    write_xlsx("book.xlsx", [["notes", "by"], ["to do", "ann"]], sheet="notes")
    with pytest.raises(UserError, match="are in another sheet, give --sheet its name"):
        convert("--excel-file", "book.xlsx")
    with pytest.raises(UserError, match=r"delete its row\)"):
        convert("--excel-file", "book.xlsx", "--sheet", "notes")


def test_the_codes_that_a_model_wrote_are_not_taken_for_those_of_people(codebook):
    names = ["comment", "ai_class", "ai_class_name", "ai_coded_by", "class"]
    write_xlsx(
        "book.xlsx", [names, ["a", 1, "Mild", "model", 2], ["b", 2, "Negative", "human", ""]]
    )
    for column in ("ai_class", "ai_class_name", "B"):
        with pytest.raises(UserError, match="is what code_comments.py wrote, .* 'ai_coded_by'"):
            convert("--excel-file", "book.xlsx", "--label-column", column)
    rows = convert("--excel-file", "book.xlsx", "--label-column", "class")
    assert rows["class"].tolist() == ["2", "-1"]


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


FRENCH = ["été", "Ça va très bien, à bientôt", "C’est l’œuvre d’un élève", "« Où ? » – là-bas…"]
GERMAN = ["Grüße aus Köln", "„Schön“ fand das keiner", "Straße und Äpfel", "Über Maßen müde"]
SPANISH = ["¿Qué tal, señor?", "¡Mañana será otro día!", "El niño comió piñones", "más allá"]
ENGLISH = ["He said “no” – twice", "it’s fine…", "plain words", "It’s only £5"]
CHINESE = [
    "今天天气真好啊",
    "男女平等，说得对",
    "你们都在说什么？",
    "plain words",
    "太好笑了哈哈哈",
]
TRADITIONAL = ["這個國家的問題真嚴重", "說得對，應該開會討論", "她們為什麼不結婚呢？", "謝謝大家"]
JAPANESE = [
    "今日はとても良い天気ですね",
    "ありがとうございます",
    "それは違うと思います",
    "カタカナもある",
]
KOREAN = ["오늘 날씨가 정말 좋네요", "저는 그렇게 생각하지 않습니다", "감사합니다", "무슨 말인지"]
RUSSIAN = ["Сегодня хорошая погода", "Я так не думаю", "Спасибо всем большое", "Что это?"]
TURKISH = ["Çok güzel bir gün", "Bunu düşünmüyorum, değil mi", "Teşekkürler", "ışık İstanbul"]


@pytest.mark.parametrize(
    ("texts", "encoding"),
    [
        *((texts, "cp1252") for texts in (FRENCH, GERMAN, SPANISH, ENGLISH, ["a", "é", "b"])),
        (["ça, déjà"], "latin-1"),
        (CHINESE, "gb18030"),
        (CHINESE, "utf-16"),
        (TRADITIONAL, "cp950"),
        (JAPANESE, "cp932"),
        (KOREAN, "cp949"),
        (RUSSIAN, "cp1251"),
    ],
)
def test_a_csv_that_is_not_utf_8_is_read_in_the_encoding_that_it_is_in(texts, encoding, capsys):
    write_csv_text("book.csv", [["comment"], *([text] for text in texts)], encoding)
    assert convert("--excel-file", "book.csv")["message"].tolist() == texts
    assert f"is read as {encoding.replace('latin-1', 'cp1252')}\n" in capsys.readouterr().out


def test_a_csv_whose_encoding_is_not_clear_is_refused_with_how_it_would_look():
    write_csv_text("book.csv", [["comment"], *([text] for text in TURKISH)], "cp1254")
    with pytest.raises(UserError, match="give the one whose text is right: ") as error:
        convert("--excel-file", "book.csv")
    assert "--encoding cp1254 ('Bunu düşünmü" in str(error.value)
    assert "--encoding cp1252 ('Bunu düþünmü" in str(error.value)
    rows = convert("--excel-file", "book.csv", "--encoding", "cp1254")
    assert rows["message"].tolist() == TURKISH


def test_a_byte_order_mark_says_more_than_the_setting():
    write_csv_text("book.csv", [["comment"], ["评论"]], "utf-8-sig")
    rows = convert("--excel-file", "book.csv", "--encoding", "gb18030")
    assert rows["message"].tolist() == ["评论"]


def test_a_line_in_cp1252_among_a_few_in_utf_8_is_no_reason_to_read_all_as_cp1252():
    lines = [b"comment", *(text.encode() for text in ("déjà", "ok", "été", "là")), b"\xe9t\xe9"]
    Path("book.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match="book.csv, line 6 is not utf-8: correct that line"):
        convert("--excel-file", "book.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("given", [True, False])
def test_a_line_in_another_encoding_is_told_by_its_number(encoding, given):
    lines = [text.encode(encoding) for text in ["comment", *CHINESE * 20]]
    lines[50] = b"\xff\xff" + lines[50]
    Path("book.csv").write_bytes(b"\r\n".join(lines))
    options = ["--encoding", encoding] if given else []
    with pytest.raises(UserError, match=f"book.csv, line 51 is not {encoding}: "):
        convert("--excel-file", "book.csv", *options)


def test_an_encoding_that_nobody_knows_and_a_file_that_is_no_text_are_refused():
    write_csv_text("book.csv", [["comment"], ["评论"]], "gb18030")
    with pytest.raises(UserError, match="--encoding klingon: not known; give one such as utf-8"):
        convert("--excel-file", "book.csv", "--encoding", "klingon")
    Path("book.csv").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="book.csv is no text, or in UTF-16"):
        convert("--excel-file", "book.csv")


def test_a_csv_with_semicolons_is_read():
    Path("book.csv").write_text("comment;likes\n一,二;1\n", encoding="utf-8")
    assert convert("--excel-file", "book.csv")["message"].iloc[0] == "一,二"


def test_a_csv_from_an_old_mac_and_one_that_begins_with_blank_lines_are_read():
    lines = ["comment;likes", *(f"{text};1" for text in FRENCH), "un, deux;2"]
    Path("book.csv").write_bytes("\r".join(lines).encode("mac_roman"))
    expected = [*FRENCH, "un, deux"]
    assert convert("--excel-file", "book.csv")["message"].tolist() == expected
    Path("book.csv").write_text("\n\n" + "\n".join(lines), encoding="utf-8")
    rows = convert("--excel-file", "book.csv")
    assert rows["message"].tolist() == expected and rows["custom_id"].iloc[0] == "row-4"


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


def test_personal_data_in_comments_are_counted_and_masked_only_when_asked_for(capsys):
    mail, phone = "写信给 ann.li@example.com", "打 13812345678 或 13912345678"
    write_xlsx("book.xlsx", [HEADER, ["@somebody", mail, 1], ["u", phone, 2], ["u", "一", 3]])
    options = ["--excel-file", "book.xlsx", "--masked-file", "out/masked.csv"]
    assert convert(*options)["message"].tolist() == [mail, phone, "一"]
    said = capsys.readouterr().out
    assert "1  comments with what looks like a person's phone, such as 138****5678" in said
    assert "1  comments with what looks like a person's e-mail" in said and "ann.li" not in said
    assert not Path("out/masked.csv").exists()
    rows = convert(*options, "--mask-personal-data", "--user-column", "user")
    masked = ["@somebody: 写信给 ‹e-mail›", "u: 打 ‹phone› 或 ‹phone›", "u: 一"]
    assert rows["message"].tolist() == masked
    assert read_csv("out/all.csv", HEADER, "x")["comment"].tolist() == [mail, phone, "一"]
    record = read_csv("out/masked.csv", ["custom_id", "kind", "count"], "x")
    assert record.values.tolist() == [["row-2", "e-mail", "1"], ["row-3", "phone", "2"]]


@pytest.mark.parametrize("text_type", ["shared", "inline"])
def test_a_large_xlsx_is_streamed_to_the_same_rows(text_type, monkeypatch):
    day = datetime.datetime(2024, 5, 1, 12, 30)
    rows = [["id", "comment", "day", "n"]]
    rows += [[f"w{n}", f"一 & <{n}>\n“二”" if n % 3 else None, day, n / 4] for n in range(300)]
    rows += [[], ["w-end", "=_= 无语", day.date(), True]]
    workbook = openpyxl.Workbook(write_only=text_type == "inline")
    sheets = [workbook.create_sheet(name) for name in ("评论", "notes")]
    for row in rows:
        sheets[0].append(row)
    sheets[1].append(["a note"])
    if text_type == "shared":
        del workbook["Sheet"]
    workbook.save("book.xlsx")
    read = []
    for limit in (2**26, 0):
        monkeypatch.setattr("pipeline.sheets.reading.LARGE", limit)
        convert("--excel-file", "book.xlsx", "--id-column", "id")
        read.append([Path(f"out/{name}.csv").read_bytes() for name in ("all", "simple")])
    assert read[0] == read[1]
    assert "=_= 无语".encode() in read[1][1]


def test_rows_are_written_while_the_sheet_is_read(monkeypatch):
    lines = (f"{n},text {n}" for n in range(50_000))
    Path("book.csv").write_text("\n".join(["n,comment", *lines]), encoding="utf-8")
    with open_comment_sheet("book.csv", "", "comment") as sheet:
        read = []
        all_rows = type(sheet).rows

        def rows(self):
            for number, cells in all_rows(self):
                read.append(number)
                yield number, cells

        monkeypatch.setattr(type(sheet), "rows", rows)
        table, messages = next(Messages(sheet).parts())
    assert len(table) == len(messages) == len(read) == 20_000


def test_mixed_line_ends_quoted_line_breaks_and_nul_bytes_leave_the_rows_apart():
    Path("book.csv").write_bytes(b'n,comment\r\n1,"a\r\nb\rc"\n2,d\0e\r3,"f ""g"" h"\r\n')
    rows = convert("--excel-file", "book.csv")
    assert rows["message"].tolist() == ["a b c", "de", 'f "g" h']
    assert rows["custom_id"].tolist() == ["row-2", "row-3", "row-4"]


def test_a_letter_that_names_another_column_than_in_the_last_run_is_told():
    rows = [["user", "comment", "place"], ["ann", "first", "x"], ["ben", "second", "y"]]
    moved = [[place, user, comment] for user, comment, place in rows]
    write_xlsx("book.xlsx", rows)
    convert("--excel-file", "book.xlsx", "--text-column", "B")
    write_xlsx("moved.xlsx", moved)
    written = Path("out/simple.csv").read_bytes()
    with pytest.raises(UserError) as error:
        convert("--excel-file", "moved.xlsx", "--text-column", "b")
    assert str(error.value) == (
        "moved.xlsx: column B is 'user' and was 'comment' when out/all.csv was made; 'comment' "
        "stands in C now: give --text-column 'comment', or 'user' if that is meant"
    )
    assert Path("out/simple.csv").read_bytes() == written
    for sheet, column, first in [
        ("moved.xlsx", "C", "first"),  # the new letter
        ("book.xlsx", "B", "first"),  # moved back, and the letter that is right
        ("book.xlsx", "C", "x"),  # another column of the same sheet
        ("moved.xlsx", "comment", "first"),  # a name
        ("moved.xlsx", "user", "ann"),  # another column by its name
    ]:
        found = convert("--excel-file", sheet, "--text-column", column)["message"].iloc[0]
        assert found == first
