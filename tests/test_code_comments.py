"""The spreadsheet is coded: by people, the teacher and the model, in whole or after a kill."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from conftest import write_splits
from openpyxl import Workbook

import bert_tune
import bert_tune_eval
import code_comments
from pipeline.coding import probabilities as computing
from pipeline.coding.record import Coding
from pipeline.coding.record_sheets import definitions
from pipeline.coding.sheet_rows import read_rows
from pipeline.common.cli import UserError
from pipeline.common.codebook import parse_codebook, read_codebook
from pipeline.common.fitting_rows import LearnedRows, sample_of
from pipeline.common.tables import write_csv
from pipeline.models import in_batches
from pipeline.models.folder import temperature_of, training_sha256
from pipeline.sheets.comments import open_comment_sheet
from pipeline.sheets.messages import Messages

NAMES = ["Positive", "Mild", "Negative", "Irrelevant"]
LABELS = Path("pre_process/purged_labeled_v2.csv")
HEAD = ["user", "comment", "place", "coded"]


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_bert, tiny_codebook):
    """Fine-tune a BERT for two epochs; return the folder of the splits and the model."""
    place = write_splits(tmp_path_factory.mktemp("study"), 4, train=60, validation=24, test=23)
    bert_tune.main(
        ["--model-path", tiny_bert, "--output-dir", f"{place}/bert", "--num-train-epochs", "1"]
        + ["--train-file", f"{place}/train.csv", "--validation-file", f"{place}/validation.csv"]
        + ["--max-length", "64", "--prompt-file", tiny_codebook, "--learning-rate", "5e-3"]
    )
    return place


@pytest.fixture
def comments(study):
    """Return the comments of the test split, without repeats."""
    return pd.read_csv(study / "test.csv", dtype=str)["message"].drop_duplicates().tolist()


@pytest.fixture
def sheet(comments):
    """Write a workbook of comments: a blank one, one that repeats, one that people coded."""
    rows = [["ann", text, "厦门", ""] for text in comments]
    rows[3][1] = rows[0][1]
    rows[4][1] = "  "
    rows[5][3] = "Negative"
    return write_book(rows)


def write_book(rows, path="comments.xlsx"):
    book = Workbook()
    for row in [HEAD, *rows]:
        book.active.append(row)
    book.create_sheet("notes")["A1"] = "=1+1"
    book.save(path)
    return [HEAD, *rows]


@pytest.fixture
def code(study):
    """Return a function that codes comments.xlsx by the tuned BERT, with further options."""

    def start(*more, model=study / "bert/final_model", output="results/coded"):
        code_comments.main(
            ["--excel-file", "comments.xlsx", "--model", str(model), "--output-dir", output]
            + ["--output-file", f"{output}/{{name}}_coded{{suffix}}", "--batch-size", "7", *more]
        )
        return codes_in(output)

    return start


def codes_in(folder):
    return pd.read_csv(f"{folder}/codes.csv", dtype=str, keep_default_na=False)


def record_in(folder="results/coded"):
    return Coding.read(f"{folder}/coded.json")


def cells_of(path, name=None):
    book = openpyxl.load_workbook(path)
    return [[cell.value for cell in row] for row in (book[name] if name else book.worksheets[0])]


def files_in(folder):
    """Return what two runs must have alike: not the seconds, the name of the folder."""
    found = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
    record = json.loads(found.pop("coded.json"))
    written = json.loads(found.pop("written.json"))
    own = ("seconds", "output_file", "settings")
    left = {key: value for key, value in record.items() if key not in own}
    return found, left, [Path(path).name for path in written]


def test_the_workbook_comes_back_with_its_codes_and_its_own_cells_as_they_were(sheet, code):
    codes = code("--label-column", "coded", "--check-below", "0.9")
    rows = cells_of("results/coded/comments_coded.xlsx")
    shares = [f"p_{name}" for name in NAMES]
    assert rows[0] == [*HEAD, "class", "class_name", "coded_by", "check", *shares]
    assert [[cell or "" for cell in row[:4]] for row in rows] == sheet
    assert cells_of("results/coded/comments_coded.xlsx", "notes") == [["=1+1"]]
    by_id = codes.set_index("custom_id")
    for number, row in enumerate(rows[1:], start=2):
        if f"row-{number}" not in by_id.index:
            assert number == 6 and row[4:] == [None] * 8
            continue
        line = by_id.loc[f"row-{number}"]
        assert [str(cell) for cell in row[4:8]] == line.iloc[:4].tolist()
        assert row[8:] == pytest.approx(line.iloc[6:].astype(float).tolist(), abs=1e-9)
        assert line["class_name"] == NAMES[int(line["class"])]
        shares = line.iloc[6:].astype(float)
        assert line["confidence"] == f"{shares.max():.6f}"
        assert int(line["predicted"]) == shares.to_numpy().argmax()
    assert list(codes.columns[:7]) == [
        *("custom_id", "class", "class_name", "coded_by", "check", "predicted", "confidence")
    ]


def test_the_probabilities_are_those_of_the_evaluation(study, code):
    table = pd.read_csv(study / "test.csv", dtype=str).drop_duplicates("message")
    write_csv(table, "test.csv")
    write_book([["", text, "", ""] for text in table["message"]])
    codes = code()
    bert_tune_eval.main(
        ["--tuned-path", f"{study}/bert/final_model", "--test-file", "test.csv"]
        + ["--batch-size", "7", "--max-length", "64", "--output-dir", "evaluated"]
    )
    evaluated = pd.read_csv("evaluated/predictions.csv")
    for name in ["predicted", "confidence", *(f"p_{name}" for name in NAMES)]:
        assert codes[name].astype(float).tolist() == evaluated[name].tolist(), name


def test_people_s_codes_win_over_the_teacher_s_and_these_over_the_model_s(
    sheet, comments, code, capsys
):
    table = pd.DataFrame(
        [["row-3", comments[1], 3, ""], ["row-7", comments[5], 0, ""], ["row-9", "other", 1, ""]]
        + [["row-10", comments[8], 1, "human"], ["row-99", comments[9], 2, ""]],
        columns=["custom_id", "message", "class", "coded_by"],
    )
    LABELS.parent.mkdir()
    write_csv(table, LABELS)
    codes = code("--label-column", "coded", "--check-below", "1").set_index("custom_id")
    given = codes.loc[["row-2", "row-3", "row-7", "row-9", "row-10", "row-11"]]
    assert given["coded_by"].tolist() == [
        *("model", "teacher", "human", "model", "human", "teacher")
    ]
    assert given["class"].iloc[[1, 2, 4, 5]].tolist() == ["3", "2", "1", "2"]
    assert given["check"].tolist() == ["1", "0", "0", "1", "0", "0"]
    out = capsys.readouterr().out
    assert f"        4  rows have a class in ./{LABELS}, 1 more is not in the sheet" in out
    record = record_in()
    assert record.coded_by == {"model": len(codes) - 4, "teacher": 2, "human": 2}
    assert record.class_counts["Irrelevant"]["teacher"] == 1
    assert record.checked == len(codes) - 4 and record.threshold == 1
    assert (record.rows, record.rows_with_message) == (len(comments), len(comments) - 1)
    assert record.computed == len(comments) - 2
    assert sum(sum(counts.values()) for counts in record.class_counts.values()) == len(codes)
    assert f"  {len(codes) - 4:>9,}  by the tuned model" in out
    assert "        1  rows without a comment are not coded" in out


def test_labels_of_another_codebook_are_left_out_and_told(sheet, comments, code, capsys):
    LABELS.parent.mkdir()
    table = pd.DataFrame([["row-3", comments[1], 3]], columns=["custom_id", "message", "class"])
    write_csv(table, LABELS)
    record = LABELS.with_name("silver_labels.json")
    record.write_text(json.dumps({"codebook_sha256": "0" * 64}), encoding="utf-8")
    assert set(code()["coded_by"]) == {"model"}
    assert f"left out ./{LABELS}: its labels are by another codebook" in capsys.readouterr().out


def test_where_no_label_is_of_the_sheet_s_messages_the_options_of_step_1_are_named(
    sheet, comments, code, capsys
):
    assert set(code()["coded_by"]) == {"model"}
    assert (
        f"./{LABELS} is not there: no row has a class from the teacher" in capsys.readouterr().out
    )
    LABELS.parent.mkdir()
    table = pd.DataFrame([["row-3", comments[1], 3]], columns=["custom_id", "message", "class"])
    write_csv(table, LABELS)
    cure = "if it is the spreadsheet that they were made from, give --user-column and"
    assert set(code()["coded_by"]) == {"model", "teacher"}
    assert cure not in capsys.readouterr().out
    assert set(code("--user-column", "user")["coded_by"]) == {"model"}
    assert cure in capsys.readouterr().out


def test_codes_of_people_are_found_where_human_check_leaves_them(sheet, comments, code):
    from pipeline.people.unsure_rows import write_task

    codebook = read_codebook("prompt.txt")
    folder = Path("pre_process/coding")
    rows = pd.DataFrame({"custom_id": ["row-3"], "message": [comments[1]]})
    write_task(rows, ["ann"], 0.9, "model", codebook, folder, {"seed": 1})
    write_csv(rows.assign(**{"class": 2}), folder / "human_labels.csv")
    line = code().set_index("custom_id").loc["row-3"]
    assert (line["coded_by"], line["class_name"]) == ("human", "Negative")


def test_without_a_rule_check_is_blank_and_a_line_says_how_to_get_one(sheet, code, capsys):
    codes = code()
    assert set(codes["check"]) == {""}
    said = capsys.readouterr().out
    assert "`check` stays blank, as no rule was given: run plan_coding.py" in said
    assert record_in().checked is None and record_in().threshold is None
    rows = cells_of("results/coded/comments_coded.xlsx")
    assert {row[7] for row in rows[1:]} == {None}


def write_plan(folder, **changes):
    record = json.loads(Path(folder, "training.json").read_bytes())
    plan = dict.fromkeys(
        ["kept_share", "sent_rows", "accuracy", "accuracy_ci95", "promised", "price", "minutes"]
        + ["teacher_accuracy", "teacher_accuracy_ci95"]
    )
    plan |= {
        "run": "results/bert-after",
        "model": {
            "name": "bert",
            "path": str(folder),
            "temperature": record["validation"]["temperature"],
        },
        "measured_against": "agreement with silver labels (test.csv)",
        **{"held_out_rows": 23, "weighted": False, "rows_to_code": 9, "rows_source": "x"},
        "costs": {
            **{"teacher_per_row": 0.1, "teacher_source": "x", "seconds_per_comment": 1.0},
            **{"coders": 1, "pay_per_hour": 0.0},
        },
        **{"who": "teacher", "others_are_right": True, "target_accuracy": 0.9, "budget": 0.0},
        **{"minutes_budget": 0.0, "alpha": 0.05, "most_promised": 0.9, "threshold": 0.5},
        **{"guarantee": "x", "codebook_sha256": record["codebook_sha256"], "class_names": NAMES},
        **{"date": "2026-01-01", "curve": [], "settings": {}},
    }
    Path("results/plan").mkdir(parents=True, exist_ok=True)
    Path("results/plan/plan.json").write_text(json.dumps(plan | changes), encoding="utf-8")


def test_a_plan_s_threshold_says_which_rows_to_check(sheet, code, study, capsys):
    codes = code()
    middle = sorted(codes["confidence"])[len(codes) // 2]
    write_plan(study / "bert/final_model", threshold=float(middle))
    codes = code()
    assert (codes["check"] == "1").tolist() == (codes["confidence"] < middle).tolist()
    assert 0 < (codes["check"] == "1").sum() < len(codes)
    record = record_in()
    assert record.threshold == float(middle) and record.plan["target_accuracy"] == 0.9
    assert "curve" not in record.plan
    assert set(code("--check-below", "1")["check"]) == {"1"}
    capsys.readouterr()
    write_plan(study / "bert/final_model", threshold=2.0)  # others are to code all rows
    assert set(code()["check"]) == {"1"}
    assert (
        "rows to check: only the model coded them, with any confidence" in capsys.readouterr().out
    )
    told = "only the model coded it, with any confidence (its highest probability)"
    assert any(told in str(row) for row in cells_of("results/coded/comments_coded.xlsx", "record"))


OTHER_PLANS = [
    ({"codebook_sha256": "0" * 64}, "plan.json is by another codebook than ./prompt.txt: run plan"),
    ({"model": {"name": "x", "path": "elsewhere", "temperature": 1}}, "is a plan for elsewhere, "),
]


@pytest.mark.parametrize(("change", "said"), OTHER_PLANS)
def test_a_plan_of_another_model_or_codebook_is_refused(change, said, sheet, code, study):
    write_plan(study / "bert/final_model", **change)
    with pytest.raises(UserError) as error:
        code()
    assert said in str(error.value) and "or give --check-below a confidence" in str(error.value)
    assert not Path("results/coded").exists()


@pytest.mark.parametrize("change", [{"temperature": 7.0}, {"training_sha256": "0" * 64}])
def test_a_plan_from_before_another_training_is_refused(change, sheet, code, study):
    model = study / "bert/final_model"
    own = {"name": "x", "path": str(model), "temperature": temperature_of(str(model))}
    write_plan(model, model=own | {"training_sha256": training_sha256(str(model))})
    code()
    write_plan(model, model=own | change)
    with pytest.raises(UserError, match="was another training: evaluate the model again, then run"):
        code()


class Killed(BaseException):
    """What no code of the project catches."""


@pytest.fixture
def batches(monkeypatch):
    """Count the rows of the batches that are computed; a run is killed after `left` of them."""

    class Batches:
        rows, left = 0, -1

        def __call__(self, compute, rows):
            if self.left == 0:
                raise Killed
            self.left -= 1
            self.rows += len(rows)
            return original(compute, rows)

    original, counted = in_batches.unless_out_of_memory, Batches()
    monkeypatch.setattr(in_batches, "unless_out_of_memory", counted)
    monkeypatch.setattr(computing, "PART", 10)
    monkeypatch.setattr(computing.compute, "__defaults__", (10,))
    return counted


def test_a_run_that_was_killed_goes_on_and_its_files_are_those_of_one_that_was_not(
    sheet, code, batches
):
    options = ["--label-column", "coded", "--check-below", "0.9"]
    code(*options, output="whole")
    every, expected = batches.rows, files_in("whole")
    assert every == len(sheet) - 3  # the header, the blank comment, the one that repeats
    for left in (1, 3):
        batches.left, batches.rows, output = left, 0, f"killed{left}"
        with pytest.raises(Killed):
            code(*options, output=output)
        assert not Path(output, "codes.csv").exists()
        batches.left = -1
        code(*options, output=output)
        assert files_in(output) == expected
        assert batches.rows == every, "a row was computed twice, or not at all"
        assert not Path(output, "unfinished").exists()
        assert not list(Path(output).glob(".unfinished*"))


def test_a_second_run_computes_only_what_is_new_and_merges_new_labels(
    sheet, comments, code, batches, monkeypatch, capsys
):
    first = code()
    batches.rows = 0
    with monkeypatch.context() as within:
        within.setattr(computing, "open_model", None)  # nothing is loaded
        assert code().equals(first)
    known = f"{len(first) - 1:,} of {len(first) - 1:,}"
    assert f"{known} comments were computed by an earlier run" in capsys.readouterr().out
    LABELS.parent.mkdir()
    table = pd.DataFrame([["row-3", comments[1], 3]], columns=["custom_id", "message", "class"])
    write_csv(table, LABELS)
    write_book([*sheet[1:], ["ben", "一条新的评论", "", ""]])
    again = code()
    assert batches.rows == 1 and len(again) == len(first) + 1
    assert again["coded_by"].tolist().count("teacher") == 1
    columns = ["custom_id", "predicted", "confidence", "p_Mild"]
    assert again[columns].iloc[:-1].equals(first[columns])
    code("--max-length", "60")
    assert batches.rows == 1 + len(first)
    assert "is of another model or precision: all comments are computed" in capsys.readouterr().out


def test_probabilities_that_are_damaged_are_computed_again(sheet, code, batches, capsys):
    first = code()
    file = Path("results/coded/probabilities.npz")
    whole, batches.rows = file.read_bytes(), 0
    file.write_bytes(whole[:-100])
    assert code().equals(first) and batches.rows == len(first) - 1
    said = capsys.readouterr().out
    assert "probabilities.npz is damaged: all comments are computed again" in said
    with np.load(file) as stored:
        broken = {name: stored[name] for name in stored}
    broken["values"][0] = np.nan
    np.savez(file, **broken)
    assert code().equals(first)


def test_what_somebody_typed_into_the_coded_workbook_is_not_overwritten(sheet, code):
    code()
    code()
    book = openpyxl.load_workbook("results/coded/comments_coded.xlsx")
    book.active["E2"] = 3
    book.save("results/coded/comments_coded.xlsx")
    with pytest.raises(UserError, match="comments_coded.xlsx was changed since it was written"):
        code()


def test_runs_that_are_killed_as_their_files_take_their_places_are_no_obstacle(
    sheet, code, monkeypatch
):
    replace = os.replace

    def until(name):
        def replace_others(source, target):
            if Path(target).name == name:
                raise Killed
            replace(source, target)

        return replace_others

    until_the_record, until_the_workbook = map(until, ("coded.json", "comments_coded.xlsx"))
    code()
    Path("results/coded/probabilities.npz").unlink()
    with monkeypatch.context() as within, pytest.raises(Killed):
        within.setattr(os, "replace", until_the_record)
        code("--check-below", "0.9")
    for below in ("0.7", "0.8"):
        with monkeypatch.context() as within, pytest.raises(Killed):
            within.setattr(os, "replace", until_the_workbook)
            code("--check-below", below)
    assert record_in().threshold is None
    assert list(Path("results/coded/unfinished").iterdir())
    assert set(code("--check-below", "0.9")["check"]) <= {"0", "1"}
    assert record_in().threshold == 0.9
    assert not Path("results/coded/unfinished").exists()


def test_the_record_says_how_good_the_model_is_by_its_own_evaluations(sheet, code, study):
    model = study / "bert/final_model"
    for rows in ("test", "validation"):
        bert_tune_eval.main(
            ["--tuned-path", str(model), "--test-file", f"{study}/{rows}.csv"]
            + ["--max-length", "64", "--output-dir", f"results/{rows}"]
        )
    shutil.copytree("results/test", "results/earlier")
    earlier = Path("results/earlier/metrics.json")
    metrics = json.loads(earlier.read_bytes())
    earlier.write_text(json.dumps(metrics | {"temperature": 9.0}), encoding="utf-8")
    code("--check-below", "0.5", "--prefix", "ai_")
    [quality] = record_in().quality
    assert (quality.run, quality.rows) == ("test", 23)
    assert quality.accuracy == metrics["accuracy_all_rows"]
    assert quality.ci95 == metrics["accuracy_all_rows_ci95"]
    table = dict(row[:2] for row in cells_of("results/coded/comments_coded.xlsx", "record") if row)
    assert table[f"agreement with silver labels ({study}/test.csv)"].startswith(
        f"accuracy {metrics['accuracy_all_rows']:.4f}, 95 % interval "
    )
    assert table["model"] == f"bert-tiny, fine-tuned (encoder): {model}"
    told = "by --check-below: only the model coded it, with a confidence below 0.5 ("
    assert told in table["ai_check"] and table["ai_check"].endswith("; 0 = not")
    assert table["rows with a comment"] == len(sheet) - 2


def test_the_codebook_sheet_has_each_class_with_its_definition(sheet, code, codebook):
    code()
    rows = cells_of("results/coded/comments_coded.xlsx", "codebook")
    assert rows[0] == ["class", "class_name", "definition"]
    assert [row[:2] for row in rows[1:5]] == [[k, name] for k, name in enumerate(NAMES)]
    line = next(line for line in codebook.text.splitlines() if line.startswith("[0]"))
    assert rows[1][2] and rows[1][2] in line
    text = "Code.\n[0] yes: it is\n    so.\n[1] no：else\nAnswer with [0] or [1]."
    assert definitions(parse_codebook("prompt.txt", text)) == [("yes", "it is so."), ("no", "else")]


def test_messages_are_made_as_step_1_made_them(sheet, code, study, capsys):
    plain = code()
    with_user = code("--user-column", "user", output="with-user")
    assert plain["p_Mild"].tolist() != with_user["p_Mild"].tolist()
    Path("pre_process/datas").mkdir(parents=True)
    masked = Path("pre_process/datas/masked.csv")
    table = pd.DataFrame([["row-2", "phone number", "1"]], columns=["custom_id", "kind", "count"])
    write_csv(table, masked)
    with pytest.raises(UserError, match="hid personal data .* give --mask-personal-data"):
        code()
    write_csv(table[:0], masked)  # step 1 masked nothing the last time
    code()
    rows = [["", "请打电话 13812345678 找我", "", ""]]
    write_book(rows)
    shown = code("--mask-personal-data", output="masked")
    assert shown["p_Mild"].tolist() != code(output="unmasked")["p_Mild"].tolist()
    assert [row[1] for row in cells_of("masked/comments_coded.xlsx")[1:]] == [r[1] for r in rows]


def test_rows_that_taught_the_model_are_counted(code, study, capsys):
    train = pd.read_csv(study / "train.csv", dtype=str)
    table = train[["custom_id", "message"]].rename(columns={"message": "comment"})
    book = Workbook()
    for row in [list(table), *table[:40].values.tolist(), ["row-9999", "另一条"]]:
        book.active.append(row)
    book.save("comments.xlsx")
    code()
    assert capsys.readouterr().out.splitlines()[-1] == "40 of the rows taught the model"
    code("--id-column", "A", "--user-column", "custom_id")
    assert capsys.readouterr().out.splitlines()[-1].startswith("none of the rows taught the model")


def test_of_many_training_rows_the_number_in_a_sheet_is_an_estimate():
    rows = pd.DataFrame({"custom_id": [f"row-{n}" for n in range(9000)], "message": "a"})
    learned = LearnedRows(sample_of(rows), len(rows))
    for start in range(0, 4500, 500):
        learned.add(rows[start : start + 500])
    number = int(str(learned).split()[1].replace(",", ""))
    assert str(learned).startswith("about ") and 4200 < number < 4800
    assert str(LearnedRows("", 5)) == ""


def test_rows_are_stored_on_disk_and_equal_comments_are_one(tmp_path):
    write_book([["", text, "", ""] for text in ["b", "a", "b", "", "a", "c", "b"]])
    with open_comment_sheet("comments.xlsx", "", "comment") as opened:
        rows = read_rows(Messages(opened), tmp_path / "texts", LearnedRows("", 0))
    assert rows.comment.tolist() == [0, 1, 0, 1, 2, 0]
    assert rows.number.tolist() == [2, 3, 4, 6, 7, 8]
    assert rows.num_rows == 6
    assert list(rows.comments(np.array([True, True, True]), 2)) == [["b", "a"], ["c"]]
    assert list(rows.comments(np.array([False, True, True]), 2)) == [["a", "c"]]
    assert list(rows.comments(np.zeros(3, bool), 2)) == []


def test_labels_that_cannot_be_read_stop_the_run_before_anything_is_computed(sheet, code, batches):
    LABELS.parent.mkdir()
    LABELS.write_text("custom_id,message,class\nrow-2,x,9\n", encoding="utf-8")
    with pytest.raises(UserError, match="row 2: class '9'"):
        code()
    assert batches.rows == 0


WRONG = [
    (["--sheet", "elsewhere"], "elsewhere"),
    (["--text-column", "remark"], "remark"),
    (["--user-column", "name"], "name"),
    (["--check-below", "1.5"], "--check-below 1.5: give a confidence from 0 to 1"),
    (["--batch-size", "0"], "--batch-size 0"),
    (["--model", "nowhere"], "nowhere not found: run finetune.py or bert_tune.py"),
    (["--output-file", "comments.xlsx"], "comments.xlsx would be overwritten"),
    (["--output-file", "coded.csv"], "the coded form of comments.xlsx is a .xlsx file"),
    (["--label-column", "place"], "'厦门' is no class of ./prompt.txt"),
    (["--max-length", "9999"], "--max-length 9999"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(options, said, sheet, code):
    with pytest.raises(UserError) as error:
        code(*options)
    assert said in str(error.value)
    assert not Path("results/coded/codes.csv").exists()


def test_a_column_of_the_name_of_ours_asks_for_a_prefix(comments, code):
    write_book([["a", text, "", ""] for text in comments])
    book = openpyxl.load_workbook("comments.xlsx")
    book.active["C1"] = "Class"
    book.save("comments.xlsx")
    with pytest.raises(UserError, match="has a column 'Class', .* --prefix"):
        code()
    code("--prefix", "ai_")
    assert cells_of("results/coded/comments_coded.xlsx")[0][4] == "ai_class"
