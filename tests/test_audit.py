"""Step 3c: improbable labels, duplicates that disagree, and corrections read back."""

import json
import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from conftest import answer_line, request_ids_of
from test_human_check import cells

import batch_infer_gen
import bert_tune
import jsonl_to_csv
import label_audit
import split_dataset
from pipeline.audit.near_duplicates import near_duplicates, plain
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.tables import write_csv
from pipeline.labelling.corrections import read_corrections, write_corrections
from pipeline.sheets.coding import write_sheet
from pre_process.sample.coders import fill_in
from pre_process.sample.comments import generate_comments

SHEET = "results/audit/audit.xlsx"


@pytest.fixture
def flipped(tiny_bert):
    """Write 300 labelled rows, 15 of them wrong, and two near-duplicates that disagree."""
    comments = generate_comments(300, seed=3)
    rows = [(f"row-{n}", text, label) for n, (text, label) in enumerate(comments)]
    wrong = np.random.default_rng(0).choice(300, 15, replace=False)
    for n in wrong:
        custom_id, text, label = rows[n]
        rows[n] = (custom_id, text, 3 if label != 3 else 0)
    text = "这个公司招聘的时候只要男生，女生连简历都不收，真的让人生气"
    rows += [("row-300", text, 0), ("row-301", f"@小明 {text}！！", 2)]
    table = pd.DataFrame(rows, columns=["custom_id", "message", "class"])
    write_csv(table, "pre_process/purged_labeled_v2.csv")
    return {f"row-{n}" for n in wrong}


def audit(tiny_bert, *more):
    """Audit all rows, if `more` names no splits; return audit.json and the sheet's rows."""
    everything = ["--splits-dir", ""] * ("--splits-dir" not in more)
    label_audit.main(["--model-path", tiny_bert, "--max-length", "64", *everything, *more])
    return json.loads(Path("results/audit/audit.json").read_bytes()), cells(SHEET)


def test_improbable_labels_and_duplicates_that_disagree_are_listed(flipped, tiny_bert):
    result, rows = audit(tiny_bert)
    assert (result["rows"], result["folds"]) == (302, 5)
    assert result["near_duplicates"] >= 1
    assert list(rows[0]) == [
        "custom_id",
        "message",
        "label",
        "p_label",
        "suggested",
        "p_suggested",
        "near_duplicates",
        "corrected",
    ]
    listed = [row["custom_id"] for row in rows]
    found = len(flipped & set(listed)) / len(flipped)
    chance = len(listed) / result["rows"]
    assert found > 2 * chance, "planted errors are found far more often than by chance"
    places = [listed.index(name) for name in ("row-300", "row-301")]
    assert abs(places[0] - places[1]) == 1, "near-duplicates stand together"
    assert len({rows[place]["near_duplicates"] for place in places}) == 1
    assert result["top"][0]["custom_id"] in listed
    assert len(result["top"]) == min(20, result["issues"])


def test_no_row_is_judged_by_a_model_that_saw_a_duplicate_of_it(flipped, tiny_bert, codebook):
    from pipeline.audit.probabilities import split_folds

    rows = pd.read_csv("pre_process/purged_labeled_v2.csv")
    groups = near_duplicates(rows["message"].tolist(), 0.9)
    seen = np.zeros(len(rows), int)
    for known, unseen in split_folds(rows["class"].to_numpy(), groups, 5, seed=0):
        assert not set(groups[known]) & set(groups[unseen])
        seen[unseen] += 1
    assert (seen == 1).all()


def test_bert_can_be_tuned_once_a_fold_with_the_settings_of_the_tuned_model(flipped, tiny_bert):
    split_dataset.main([])
    options = ["--learning-rate", "2e-3", "--num-train-epochs", "1", "--max-length", "64"]
    bert_tune.main(["--model-path", tiny_bert, *options])
    result, _ = audit(tiny_bert, "--audit-method", "tune", "--folds", "2")
    assert "fine-tuned with the settings of ./bert_checkpoints/final_model" in result["method"]
    for row in result["top"]:
        assert row["p_suggested"] >= row["p_class"]
        assert row["suggested"] != row["class"]


def split_again():
    """Split the labelled rows; return the names of the splits' rows."""
    split_dataset.main([])
    return {
        name: set(pd.read_csv(f"pre_process/evaluation/{name}.csv")["custom_id"])
        for name in ("train", "validation", "test")
    }


SPLITS = ["--splits-dir", "./pre_process/evaluation"]


def test_no_test_row_is_listed_and_each_row_stays_in_its_split_once_labels_are_corrected(
    flipped, tiny_bert, capsys
):
    with pytest.raises(UserError, match="has no splits of these rows: run split_dataset.py first"):
        audit(tiny_bert, *SPLITS)
    before = split_again()
    result, rows = audit(tiny_bert, *SPLITS)
    listed = {row["custom_id"] for row in rows}
    assert listed and listed <= before["train"] | before["validation"]
    assert (result["rows"], result["labelled"]) == (302 - len(before["test"]), 302)
    assert f"left out {len(before['test'])} test rows" in capsys.readouterr().out
    table = pd.read_csv("pre_process/purged_labeled_v2.csv")
    wrong = table["custom_id"].isin(listed)
    table.loc[wrong, "class"] = (table.loc[wrong, "class"] + 1) % 4
    write_csv(table, "pre_process/purged_labeled_v2.csv")
    assert split_again() == before
    with open("prompt.txt", "a", encoding="utf-8") as prompt:
        prompt.write("\nQuotations count as their speaker means them.\n")
    with pytest.raises(UserError, match="split with another codebook than ./prompt.txt: run split"):
        label_audit.main(["--model-path", tiny_bert, "--audit-dir", "results/audit_2"])


def test_rows_that_are_not_split_yet_may_become_test_rows_and_are_left_out(
    flipped, tiny_bert, capsys
):
    table = pd.read_csv("pre_process/purged_labeled_v2.csv")
    write_csv(table[:200], "pre_process/purged_labeled_v2.csv")
    before = split_again()
    write_csv(table, "pre_process/purged_labeled_v2.csv")
    _, rows = audit(tiny_bert, *SPLITS)
    assert "left out 102 rows that are in no split" in capsys.readouterr().out
    assert {row["custom_id"] for row in rows} <= before["train"] | before["validation"]


def test_what_people_coded_is_no_suspect_and_helps_to_find_those(flipped, tiny_bert):
    table = pd.read_csv("pre_process/purged_labeled_v2.csv")
    everything, listed = audit(tiny_bert)
    human = {row["custom_id"] for row in listed[::2]} | {"row-300"}
    table["coded_by"] = np.where(table["custom_id"].isin(human), "human", "")
    write_csv(table, "pre_process/purged_labeled_v2.csv")
    result, rows = audit(tiny_bert)
    names = [row["custom_id"] for row in rows]
    assert not human & set(names)
    assert set(names) == {row["custom_id"] for row in listed} - human
    assert "row-301" in names, "a silver label that differs from people's in a near-duplicate"
    assert result["rows"] == everything["rows"] - len(human)
    write_csv(table.assign(coded_by="human"), "pre_process/purged_labeled_v2.csv")
    with pytest.raises(UserError, match="people coded all labelled rows"):
        audit(tiny_bert)


def test_an_audit_never_overwrites_what_people_filled_in(flipped, tiny_bert):
    audit(tiny_bert)
    audit(tiny_bert)  # nothing is filled in yet
    fill_in(Path(SHEET), "corrected", lambda row: "Mild" if row == "row-300" else "")
    with pytest.raises(UserError, match="audit.xlsx holds people's corrections"):
        audit(tiny_bert)


def test_an_audit_that_nobody_filled_in_is_replaced_by_one_of_newer_labels(flipped, tiny_bert):
    _, before = audit(tiny_bert)
    rows = pd.read_csv("pre_process/purged_labeled_v2.csv")
    listed = before[0]["custom_id"]
    write_csv(rows[rows["custom_id"] != listed], "pre_process/purged_labeled_v2.csv")
    result, after = audit(tiny_bert)
    assert result["rows"] == len(rows) - 1
    assert listed not in {row["custom_id"] for row in after}


def test_rows_of_one_class_are_refused(flipped, tiny_bert):
    rows = pd.read_csv("pre_process/purged_labeled_v2.csv")
    write_csv(rows[rows["class"] == 1], "pre_process/purged_labeled_v2.csv")
    with pytest.raises(UserError, match="all rows have class Mild, and an audit needs two classes"):
        audit(tiny_bert)


def test_the_next_step_of_an_audit_is_told(flipped, tiny_bert, capsys):
    audit(tiny_bert)
    assert (
        f"next: look at {SHEET}, fill in `corrected` where a label is wrong, then run "
        f"jsonl_to_csv.py --corrections {SHEET} and split_dataset.py\n" in capsys.readouterr().out
    )


def test_a_class_of_fewer_rows_than_folds_is_refused(flipped, tiny_bert):
    rows = pd.read_csv("pre_process/purged_labeled_v2.csv")
    few = rows[rows["class"] == 2].head(3)
    write_csv(pd.concat([rows[rows["class"] != 2], few]), "pre_process/purged_labeled_v2.csv")
    with pytest.raises(UserError, match="Negative has 3 rows that are no near-duplicates, and 5"):
        audit(tiny_bert)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--audit-method", "guess"], "give probe or tune"),
        (["--folds", "1"], "at least 2"),
        (["--similarity", "0"], "above 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(option, message):
    with pytest.raises(UserError, match=message):
        label_audit.main(option)


def test_a_class_of_copies_is_refused_and_a_tuned_model_too(flipped, tiny_bert):
    rows = pd.read_csv("pre_process/purged_labeled_v2.csv")
    spam = rows["class"] == 2
    write_csv(
        rows.assign(message=rows["message"].where(~spam, "加微信领红包，先到先得")), "spam.csv"
    )
    with pytest.raises(UserError, match="class Negative has 1 rows that are no near-duplicates"):
        audit(tiny_bert, "--labeled-file", "spam.csv")
    shutil.copytree(tiny_bert, "tuned")
    Path("tuned/training.json").write_text("{}", encoding="utf-8")
    for method in ("probe", "tune"):
        with pytest.raises(UserError, match="tuned is already fine-tuned to classify"):
            audit("tuned", "--audit-method", method)


def test_near_duplicates_differ_in_names_links_width_and_punctuation_but_not_in_words():
    text = "我们公司招聘的时候就是只要男生，女生连简历都不会收，大家说说这到底合理吗"
    messages = [
        text,
        f"@小红 {text}!!!",
        f"{text} https://t.cn/A1b2",
        text.replace("，", " "),
        text.replace("公司", "单位"),
        "今天天气真好，适合出去走走",
        "今天天气不好，不要出去走走",
        "😀😀",
        "🙄",
        "😀😀",
    ]
    groups = near_duplicates(messages, 0.85)
    assert len(set(groups[:5])) == 1
    assert len(set(groups[4:7])) == 3
    assert groups[7] == groups[9] != groups[8]
    assert len(set(near_duplicates(messages, 1.0)[[0, 4]])) == 2


def test_near_duplicates_are_those_of_all_pairs_compared_one_by_one(monkeypatch):
    rng = np.random.default_rng(1)
    messages = []
    for text, _ in generate_comments(60, seed=9):
        letters = list(text)
        for _ in range(3):
            messages.append("".join(letters))
            letters[rng.integers(len(letters))] = "换"
    monkeypatch.setattr("pipeline.audit.near_duplicates.BLOCK", 7)
    groups = near_duplicates(messages, 0.8)
    grams = [{plain(m)[i : i + 3] for i in range(len(plain(m)) - 2)} for m in messages]
    expected = np.arange(len(messages))
    for i, a in enumerate(grams):
        for j, b in enumerate(grams[:i]):
            close = a and b and len(a & b) / np.sqrt(len(a) * len(b)) >= 0.8 - 1e-9
            if close or plain(messages[i]) == plain(messages[j]):
                expected[expected == expected[i]] = expected[j]
    pairs = [np.equal.outer(values, values) for values in (groups, expected)]
    assert (pairs[0] == pairs[1]).all()


@pytest.fixture
def answered(write_rows):
    """Write six requests and their answers, one of them without a label."""
    rows = [(f"row-{n}", f"评论 {n}", -1) for n in range(2, 8)]
    write_rows("pre_process/datas/simple.csv", rows)
    batch_infer_gen.main([])
    replies = ["[1]"] * 5 + ["?"]
    lines = map(answer_line, request_ids_of(), replies)
    Path("pre_process/datas/silver_label_v2.jsonl").write_text("\n".join(lines), encoding="utf-8")


def corrections(*rows):
    book = openpyxl.Workbook()
    book.active.title = "comments"
    book.active.append(["custom_id", "message", "corrected"])
    for row in rows:
        book.active.append(row)
    book.save("corrections.xlsx")
    jsonl_to_csv.main(["--corrections", "corrections.xlsx"])


def test_corrections_are_read_back_into_the_labels(answered):
    corrections(
        ("row-2", "评论 2", "Negative"),
        ("row-3", "评论 3", 1),
        ("row-4", "评论 4", None),
        ("row-7", "评论 7", "3"),
    )
    labelled = pd.read_csv("pre_process/labeled_v2.csv").set_index("custom_id")["class"]
    assert labelled.tolist() == [2, 1, 1, 1, 1, 3]
    assert len(pd.read_csv("pre_process/purged_labeled_v2.csv")) == 6
    assert Path("pre_process/datas/retry_v2.jsonl").read_text(encoding="utf-8") == ""
    record = json.loads(Path("pre_process/silver_labels.json").read_bytes())
    assert (record["corrected"], record["labelled"], record["strict"]) == (2, 6, 5)


def test_corrections_stay_in_later_runs_and_later_ones_are_added(answered):
    corrections(("row-2", "评论 2", 2), ("row-3", "评论 3", 2))
    corrections(("row-4", "评论 4", 0), ("row-3", "评论 3", 3))
    jsonl_to_csv.main([])
    labelled = pd.read_csv("pre_process/labeled_v2.csv")["class"]
    assert labelled.tolist() == [2, 3, 0, 1, 1, -1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("row-99", "评论 99", 1), "custom_id 'row-99' is not one of the sheet's"),
        (("row-2", "其他", 1), "the comment is not that of row-2: the sheet belongs to other data"),
    ],
)
def test_corrections_of_other_data_are_refused(answered, row, message):
    with pytest.raises(UserError, match=message):
        corrections(row)
    assert not Path("pre_process/corrections.csv").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "评论 2",
            "其他",
            "1 corrections in ./pre_process/corrections.csv are of comments that are",
        ),
        ('"2","', '"2","0', "1 corrections in ./pre_process/corrections.csv are for another"),
    ],
)
def test_kept_corrections_of_other_data_or_another_codebook_wait(answered, capsys, old, new, said):
    corrections(("row-2", "评论 2", 2))
    path = Path("pre_process/corrections.csv")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    jsonl_to_csv.main([])
    assert said in capsys.readouterr().out
    assert pd.read_csv("pre_process/labeled_v2.csv")["class"].tolist() == [1, 1, 1, 1, 1, -1]
    corrections(("row-3", "评论 3", 0))
    kept = pd.read_csv(path)
    assert kept["custom_id"].tolist() == ["row-2", "row-3"]
    assert new.strip('",') in path.read_text(encoding="utf-8")


COMMENTS = pd.DataFrame(
    {
        "custom_id": [f"row-{n}" for n in range(2, 12)],
        "message": [f"评论 {n}" for n in range(2, 12)],
    }
)


def moved(rows, *messages):
    """Return rows after some were deleted in the sheet, the title row too, and the rest sorted."""
    left = rows[~rows["message"].isin(messages)][::-1]
    return left.assign(custom_id=[f"row-{n}" for n in range(1, len(left) + 1)])


def audit_sheet(codebook, path="audited.xlsx"):
    """Write an audit's sheet in which people corrected rows 3 (gone later), 5 and 9."""
    write_sheet(COMMENTS.assign(corrected=""), codebook, "corrected", path)
    given = {"row-3": "Positive", "row-5": "Negative", "row-9": "3"}
    fill_in(Path(path), "corrected", lambda row: given.get(row, ""))
    return path


def keep(corrections, rows, codebook):
    corrected = rows[rows["custom_id"].isin(list(corrections))]
    write_corrections(corrections, corrected, rows, "kept.csv", codebook)


def by_message(corrections, rows):
    return {rows.set_index("custom_id")["message"][row]: k for row, k in corrections.items()}


def test_corrections_follow_their_comments_through_a_sorted_and_shortened_sheet(codebook, capsys):
    sheet = audit_sheet(codebook)
    found = read_corrections(sheet, "kept.csv", COMMENTS, codebook)
    assert found == {"row-3": 0, "row-5": 2, "row-9": 3}
    keep(found, COMMENTS, codebook)
    now = moved(COMMENTS, "评论 3", "评论 4", "评论 8")
    for sources in ((sheet, "none.csv"), ("", "kept.csv"), (sheet, "kept.csv")):
        capsys.readouterr()
        found = read_corrections(*sources, now, codebook)
        assert by_message(found, now) == {"评论 5": 2, "评论 9": 3}
        said = f"1 corrections in {next(filter(None, sources))} are of comments that are not among"
        assert said in capsys.readouterr().out.replace("none.csv", sheet)
    keep(found, now, codebook)
    kept = pd.read_csv("kept.csv").set_index("message")["class"]
    assert kept.to_dict() == {"评论 3": 0, "评论 5": 2, "评论 9": 3}
    assert read_corrections("", "kept.csv", COMMENTS, codebook) == {
        "row-3": 0,
        "row-5": 2,
        "row-9": 3,
    }


def test_a_correction_is_never_given_to_another_comment_with_the_same_id(codebook):
    sheet = audit_sheet(codebook)
    other = COMMENTS.assign(message=[f"别的 {n}" for n in range(10)])
    assert read_corrections(sheet, "kept.csv", other, codebook) == {}


def test_equal_comments_keep_a_correction_each(codebook):
    same = COMMENTS.assign(message="哈哈")
    write_sheet(same.head(3).assign(corrected="1"), codebook, "corrected", "same.xlsx")
    now = same[5:].reset_index(drop=True)
    found = read_corrections("same.xlsx", "kept.csv", now, codebook)
    assert found == {"row-7": 1, "row-8": 1, "row-9": 1}


def test_a_column_that_was_sorted_alone_is_told_from_rows_that_moved(codebook):
    sheet = audit_sheet(codebook)
    now = moved(COMMENTS, "评论 3")
    for column in "AB":
        book = openpyxl.load_workbook(sheet)
        cells = book["comments"][column][1:]
        for cell, text in zip(cells, [cell.value for cell in cells][::-1], strict=True):
            cell.value = text
        book.save("alone.xlsx")
        for rows in (now, COMMENTS):
            with pytest.raises(UserError, match="row 2: the comment is not that of row-"):
                read_corrections("alone.xlsx", "kept.csv", rows, codebook)
    book = openpyxl.load_workbook(sheet)
    table = [[cell.value for cell in cells] for cells in book["comments"].iter_rows(min_row=2)]
    for number, values in enumerate(reversed(table), start=2):
        for column, value in enumerate(values, start=1):
            book["comments"].cell(number, column).value = value
    book["comments"].delete_rows(3, 2)
    book.save("sorted.xlsx")
    found = read_corrections("sorted.xlsx", "kept.csv", now, codebook)
    assert by_message(found, now) == {"评论 5": 2}, "row 9 was deleted in the sheet, row 3 is gone"


def other_codebook(text="[0] Sexist: belittles.\n[1] Not sexist: all else.\n[2] Unclear: none.\n"):
    Path("prompt.txt").write_text(text, encoding="utf-8")
    return read_codebook("prompt.txt")


@pytest.mark.parametrize("hidden", [True, False])
def test_a_sheet_of_another_codebook_is_refused_though_its_numbers_are_classes(codebook, hidden):
    two = other_codebook("[0] Sexist: belittles.\n[1] Not sexist: all else.")
    write_sheet(COMMENTS.assign(corrected="1"), two, "corrected", "two.xlsx")
    if not hidden:
        book = openpyxl.load_workbook("two.xlsx")
        del book["as written"]
        book.save("two.xlsx")
    assert len(read_corrections("two.xlsx", "kept.csv", COMMENTS, two)) == 10
    with pytest.raises(UserError) as error:
        read_corrections("two.xlsx", "kept.csv", COMMENTS, codebook)
    assert str(error.value) == (
        "two.xlsx was made with another codebook than prompt.txt: give --prompt-file that one, or "
        "make a new sheet with the codebook of now"
    )


def test_the_same_codebook_is_known_by_a_sheet_that_a_program_saved_or_people_wrote_into(codebook):
    path = audit_sheet(codebook)
    book = openpyxl.load_workbook(path)
    for row in book["codebook"].iter_rows():
        row[0].value = f"{row[0].value or ''} ".replace(" ", "\u00a0 ")
    book.save(path)
    assert len(read_corrections(path, "kept.csv", COMMENTS, codebook)) == 3
    del book["as written"]
    book.save("without.xlsx")
    assert len(read_corrections("without.xlsx", "kept.csv", COMMENTS, codebook)) == 3
    book = openpyxl.load_workbook(path)
    book["codebook"]["A7"] = "Ann: this class is for quotations too"
    book.save(path)
    assert len(read_corrections(path, "kept.csv", COMMENTS, codebook)) == 3
    del book["codebook"], book["as written"]
    book.save("bare.xlsx")
    assert len(read_corrections("bare.xlsx", "kept.csv", COMMENTS, codebook)) == 3
    COMMENTS.assign(corrected="2").to_csv("sheet.csv", index=False, encoding="utf-8-sig")
    assert len(read_corrections("sheet.csv", "kept.csv", COMMENTS, codebook)) == 10


def test_a_kept_correction_that_is_no_class_is_refused(answered):
    corrections(("row-2", "评论 2", 2))
    path = Path("pre_process/corrections.csv")
    text = path.read_text(encoding="utf-8")
    for cell in ("7", "-1", "", "many"):
        path.write_text(text.replace('"评论 2","2"', f'"评论 2","{cell}"'), encoding="utf-8")
        with pytest.raises(UserError, match=f"row 2: '{cell}' is no class .0 to 3, or Positive"):
            jsonl_to_csv.main([])


def test_the_record_says_how_the_labels_came_about(answered):
    jsonl_to_csv.main([])
    record = json.loads(Path("pre_process/silver_labels.json").read_bytes())
    assert record["teachers"] == ["deepseek-ai/DeepSeek-V3"]
    assert (record["requests"], record["labelled"], record["corrected"]) == (6, 5, 0)
    assert record["classes"] == {"Positive": 0, "Mild": 5, "Negative": 0, "Irrelevant": 0}
    assert record["reasons"] == {"no_label": 1}
    assert (record["temperature"], record["max_tokens"]) == (0.0, 20)
    assert (record["first_answer"], record["last_answer"], record["asked_again"]) == ("", "", 0)
