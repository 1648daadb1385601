"""Step 13a and 13b: the sample, the coders' sheets, the figures and the human test set."""

import json
import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

import human_check
import human_sample
import split_dataset
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.tables import write_csv
from pipeline.people.sample import allocate
from pipeline.sheets.coding import read_filled_in, update_sheet, write_sheet
from pre_process.sample import coders

SHARES = [0.13, 0.43, 0.09, 0.35]
SHEETS = Path("pre_process/human_check")
SMALL = ["--sample-size", "60", "--min-per-class", "8"]


@pytest.fixture
def labelled():
    """Write 1,000 silver rows, a tenth of them wrong, and their splits; return the true classes."""
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 1000, p=SHARES)
    silver = np.where(rng.random(1000) < 0.1, rng.integers(0, 4, 1000), truth)
    messages = ["=SUM(A1)", "-1+1", "@home", "<b>粗</b>", *(f"评论 {n}" for n in range(4, 1000))]
    table = pd.DataFrame({"custom_id": [f"row-{n}" for n in range(1000)], "message": messages})
    write_csv(table.assign(**{"class": silver}), "pre_process/purged_labeled_v2.csv")
    write_csv(table.assign(**{"class": truth}), "truth.csv")
    split_dataset.main([])
    return dict(zip(table["custom_id"], truth.tolist(), strict=True))


def cells(path, sheet="comments"):
    rows = list(openpyxl.load_workbook(path)[sheet].iter_rows(values_only=True))
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def fill(path, value, column="class"):
    coders.fill_in(path, column, value)


def sampled(folder=SHEETS):
    return pd.read_csv(folder / "sample.csv", dtype={"message": str})


def result(folder="results/human_check"):
    return json.loads(Path(folder, "human_check.json").read_bytes())


def test_rows_are_drawn_in_proportion_with_a_floor_and_small_classes_whole():
    assert allocate([130, 430, 90, 350], 100, floor=1).tolist() == [13, 43, 9, 35]
    assert allocate([1000, 8000, 40, 960], 500, floor=50).tolist() == [50, 360, 40, 50]
    assert allocate([5, 3], 100, floor=50).tolist() == [5, 3]
    rng = np.random.default_rng(1)
    for _ in range(200):
        sizes = rng.integers(0, 400, 5)
        floor = int(rng.integers(1, 30))
        total = int(max(np.minimum(sizes, floor).sum(), rng.integers(1, 900)))
        drawn = allocate(sizes, total, floor)
        assert drawn.sum() == min(total, sizes.sum())
        assert (np.minimum(sizes, floor) <= drawn).all() and (drawn <= sizes).all()


def test_the_sample_is_drawn_from_the_held_out_rows_and_says_with_what_chance(labelled):
    human_sample.main(SMALL)
    sample = sampled()
    test = pd.read_csv("pre_process/evaluation/test.csv")
    assert len(sample) == 60 and set(sample["custom_id"]) <= set(test["custom_id"])
    everyone = pd.read_csv("pre_process/purged_labeled_v2.csv")["class"].value_counts()
    drawn = sample["class"].value_counts()
    assert drawn.min() >= 8
    for row in sample.itertuples():
        label = row[3]
        assert row.inclusion_probability == pytest.approx(drawn[label] / everyone[label])


def test_every_coder_gets_the_comments_in_an_order_of_their_own_and_no_silver_label(labelled):
    human_sample.main([*SMALL, "--coders", "ann, ben,cy"])
    sheets = [cells(SHEETS / f"{name}.xlsx") for name in ("ann", "ben", "cy")]
    for rows in sheets:
        assert list(rows[0]) == ["custom_id", "message", "class"]
        assert {row["class"] for row in rows} == {None}
    orders = [[row["custom_id"] for row in rows] for rows in sheets]
    assert len({tuple(order) for order in orders}) == 3
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(sampled()["custom_id"]))}
    book = openpyxl.load_workbook(SHEETS / "ann.xlsx")
    [rule] = book["comments"].data_validations.dataValidation
    assert (rule.formula1, str(rule.sqref)) == ("codebook!$A$2:$A$5", "C2:C61")
    codebook = [row[0].value for row in book["codebook"]]
    assert codebook[1:5] == ["Positive", "Mild", "Negative", "Irrelevant"]
    assert any(line and line.startswith("[2] Negative:") for line in codebook)


def test_a_comment_that_looks_like_a_formula_stays_text(codebook):
    texts = ["=1+1", "+SUM(A1:A9)", "-2", "@now", "001", "NA", '=HYPERLINK("x")']
    frame = pd.DataFrame({"custom_id": [f"row-{n}" for n in range(7)], "message": texts})
    write_sheet(frame.assign(**{"class": ""}), codebook, "class", "sheet.xlsx")
    column = openpyxl.load_workbook("sheet.xlsx")["comments"]["B"][1:]
    assert [cell.value for cell in column] == texts
    assert {cell.data_type for cell in column} == {"s"}
    assert all(cell.quotePrefix for cell in column)
    with pytest.raises(UserError, match="row-0 has 40,000 characters and a cell holds 32,767"):
        write_sheet(frame.assign(message="长" * 40_000), codebook, "", "sheet.xlsx")


def test_the_same_seed_draws_the_same_sample_and_another_seed_another(labelled):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        human_sample.main([*SMALL, "--sheets-dir", name, "--seed", seed])
    ids = [sampled(Path(name))["custom_id"].tolist() for name in "abc"]
    assert ids[0] == ids[1] != ids[2]


def test_the_pilot_takes_neither_held_out_rows_nor_those_of_the_sample(labelled):
    human_sample.main(["--pilot", *SMALL])
    human_sample.main(SMALL)
    pilot, sample = sampled(SHEETS / "pilot"), sampled()
    test = set(pd.read_csv("pre_process/evaluation/test.csv")["custom_id"])
    assert not set(pilot["custom_id"]) & test
    assert len(sample) == len(pilot) == 60
    for order in (["--pilot"], []):
        human_sample.main([*order, *SMALL, "--test-file", "", "--sheets-dir", "all"])
    ids = [set(sampled(Path(name))["custom_id"]) for name in ("all", "all/pilot")]
    assert not ids[0] & ids[1]


def test_a_sample_that_people_may_have_coded_is_never_drawn_over(labelled):
    human_sample.main(SMALL)
    before = (SHEETS / "coder1.xlsx").read_bytes()
    with pytest.raises(UserError, match="sample.csv is there already, perhaps with people's work"):
        human_sample.main([*SMALL, "--seed", "7"])
    assert (SHEETS / "coder1.xlsx").read_bytes() == before


def test_a_sample_whose_draw_was_interrupted_is_drawn_unless_somebody_coded_its_sheets(labelled):
    human_sample.main(SMALL)
    ids = sampled()["custom_id"].tolist()
    (SHEETS / "sample.csv").unlink()
    human_sample.main(SMALL)
    assert sampled()["custom_id"].tolist() == ids
    fill(SHEETS / "coder2.xlsx", lambda row: "1" if row == ids[0] else "")
    (SHEETS / "sample.csv").unlink()
    with pytest.raises(UserError, match="coder2.xlsx is there already"):
        human_sample.main(SMALL)


def test_coded_sheets_become_figures_disagreements_and_a_test_set(labelled, codebook):
    human_sample.main(SMALL)
    ids = sampled()["custom_id"].tolist()
    names = codebook.names
    other = {row: (labelled[row] + 1) % 4 for row in ids}
    fill(SHEETS / "coder1.xlsx", lambda row: names[labelled[row]])
    fill(SHEETS / "coder2.xlsx", lambda row: other[row] if row in ids[:6] else labelled[row])
    human_check.main([])
    found = result()
    assert found["coders"][1] == {"name": "coder2", "coded": 60, "blank": 0}
    assert found["agreement"]["percent"] == pytest.approx(54 / 60)
    assert (found["disagreements"], found["undecided"], found["adjudicated"]) == (6, 6, 0)
    assert found["silver"]["rows"] == 54
    disputes = cells(SHEETS / "adjudication.xlsx")
    assert {row["custom_id"] for row in disputes} == set(ids[:6])
    assert "silver" not in disputes[0]
    first = disputes[0]
    assert first["coder1"] == names[labelled[first["custom_id"]]]
    assert first["coder2"] == names[other[first["custom_id"]]]
    assert first["adjudicated"] is None

    fill(SHEETS / "adjudication.xlsx", lambda row: names[labelled[row]], "adjudicated")
    human_check.main([])
    found = result()
    assert (found["adjudicated"], found["undecided"], found["silver"]["rows"]) == (6, 0, 60)
    test = pd.read_csv("pre_process/evaluation/human_test.csv", dtype=str)
    assert list(test) == ["custom_id", "message", "class", "coded_by", "weight"]
    assert dict(zip(test["custom_id"], test["class"].astype(int), strict=True)) == {
        row: labelled[row] for row in ids
    }
    assert test["weight"].astype(float).sum() == pytest.approx(1000)
    silver = dict(zip(sampled()["custom_id"], sampled()["class"], strict=True))
    wrong = {row["custom_id"]: row for row in cells("results/human_check/silver_errors.xlsx")}
    assert set(wrong) == {row for row in ids if silver[row] != labelled[row]}
    for row, line in wrong.items():
        assert (line["silver"], line["human"]) == (names[silver[row]], names[labelled[row]])


def test_the_adjudicated_class_wins_over_what_coders_agree_on_and_is_kept(labelled):
    human_sample.main([*SMALL, "--coders", "a,b,c"])
    ids = sampled()["custom_id"].tolist()
    fill(SHEETS / "a.xlsx", lambda row: 0 if row == ids[0] else labelled[row])
    for name in "bc":
        fill(SHEETS / f"{name}.xlsx", lambda row: 1 if row == ids[0] else labelled[row])
    human_check.main([])
    assert result()["undecided"] == 0, "two of three is a majority"
    fill(SHEETS / "adjudication.xlsx", lambda row: "Irrelevant", "adjudicated")
    fill(SHEETS / "c.xlsx", lambda row: (labelled[row] + (row == ids[1])) % 4)
    for _ in range(2):
        human_check.main([])
        test = pd.read_csv("pre_process/evaluation/human_test.csv").set_index("custom_id")
        assert test["class"][ids[0]] == 3
        assert len(cells(SHEETS / "adjudication.xlsx")) == 2
    before = (SHEETS / "adjudication.xlsx").read_bytes()
    human_check.main([])
    assert (SHEETS / "adjudication.xlsx").read_bytes() == before


def test_blank_and_removed_rows_are_counted_and_left_out(labelled):
    human_sample.main(SMALL)
    ids = sampled()["custom_id"].tolist()
    for name in ("coder1", "coder2"):
        fill(SHEETS / f"{name}.xlsx", lambda row: "" if row in ids[:2] else labelled[row])
    book = openpyxl.load_workbook(SHEETS / "coder2.xlsx")
    book["comments"].delete_rows(next(c.row for c in book["comments"]["A"] if c.value == ids[2]), 1)
    book.save(SHEETS / "coder2.xlsx")
    human_check.main([])
    found = result()
    assert [coder["blank"] for coder in found["coders"]] == [2, 3]
    assert (found["uncoded"], found["undecided"], found["silver"]["rows"]) == (2, 0, 58)
    assert "2 rows without a human label are left out" in Path(
        "results/human_check/report.txt"
    ).read_text(encoding="utf-8")


def test_only_classes_with_an_order_get_an_ordinal_alpha(labelled):
    human_sample.main(SMALL)
    for number, name in enumerate(("coder1", "coder2")):
        fill(
            SHEETS / f"{name}.xlsx",
            lambda row, n=number: (labelled[row] + n * (row[-1] == "7")) % 4,
        )
    report = Path("results/human_check/report.txt")
    human_check.main([])
    assert result()["agreement"]["alpha_ordinal"] is None and "ordinal" not in report.read_text(
        encoding="utf-8"
    )
    human_check.main(["--ordered-classes"])
    found = result()["agreement"]
    low, high = found["alpha_ordinal_ci95"]
    assert low < found["alpha_ordinal"] < high and "ordinal alpha" in report.read_text(
        encoding="utf-8"
    )


def test_one_coder_alone_gives_figures_and_no_agreement(labelled):
    human_sample.main([*SMALL, "--coders", "ann"])
    fill(SHEETS / "ann.xlsx", lambda row: labelled[row])
    human_check.main([])
    assert result()["agreement"] is None
    assert "no row was coded by two coders" in Path("results/human_check/report.txt").read_text(
        encoding="utf-8"
    )


def test_a_pilot_needs_no_split_and_the_first_split_keeps_it_out_of_the_test_rows(labelled, capsys):
    shutil.rmtree("pre_process/evaluation")
    human_sample.main(["--pilot", *SMALL])
    assert "split_dataset.py will put these into no test set" in capsys.readouterr().out
    split_dataset.main([])
    test = set(pd.read_csv("pre_process/evaluation/test.csv")["custom_id"])
    pilot = set(sampled(SHEETS / "pilot")["custom_id"])
    assert len(pilot) == 60 and test and not pilot & test


def test_the_pilot_is_scored_apart_and_makes_no_test_set(labelled):
    human_sample.main(["--pilot", *SMALL])
    for name in ("coder1", "coder2"):
        fill(SHEETS / "pilot" / f"{name}.xlsx", lambda row: labelled[row])
    human_check.main(["--pilot"])
    assert result("results/human_check/pilot")["silver"]["rows"] == 60
    assert not Path("pre_process/evaluation/human_test.csv").exists()
    assert not Path("results/human_check/human_check.json").exists()


def draw_mistakes():
    """Return message -> options of human_sample.py, and what happens before."""
    return {
        "test.csv not found: run split_dataset.py first, or give": (
            SMALL, lambda: Path("pre_process/evaluation/test.csv").unlink()),
        "exceeds --sample-size 20": (["--sample-size", "20"], None),
        "--min-per-class 1: an interval needs 2": ([*SMALL[:2], "--min-per-class", "1"], None),
        "--coders 'a,a': give names that differ": ([*SMALL, "--coders", "a,a"], None),
        "--coders 'Ann,ann': give names that differ": ([*SMALL, "--coders", "Ann,ann"], None),
        "(not 'Adjudication')": ([*SMALL, "--coders", "a,Adjudication"], None),
        "(not 'message')": ([*SMALL, "--coders", "a,message"], None),
        "(not '../a')": ([*SMALL, "--coders", "../a"], None),
    }  # fmt: skip


def score_mistakes():
    """Return message -> what happens between a draw and its scoring, None for no draw."""
    return {
        "sample.json not found: run human_sample.py first": None,
        "sample.json not found: run human_sample.py first, or give --pilot to score the pilot":
            lambda: shutil.move(SHEETS / "sample.json", make(SHEETS / "pilot")),
        "row 2: class 'Angry' is no class":
            lambda: fill(SHEETS / "coder1.xlsx", lambda row: "Angry"),
        "coder2.xlsx not found: put back the sheet of coder coder2":
            lambda: (code_all(), (SHEETS / "coder2.xlsx").unlink()),
        "coder1.xlsx is empty: put back the sheet of coder coder1":
            lambda: openpyxl.Workbook().save(SHEETS / "coder1.xlsx"),
        "coder1.xlsx: no row is coded: put the coded sheet in its place (there is also":
            lambda: shutil.copy(SHEETS / "coder1.xlsx", SHEETS / "coder1 (1).xlsx"),
        "row 2: the comment is not that of row-": sort_the_comments_alone,
        "adjudication.xlsx, row 2: custom_id 'row-x' is not one of the sheet's":
            lambda: (adjudicate(), fill(SHEETS / "adjudication.xlsx", strange_ids(), "custom_id")),
        "adjudication.xlsx is empty: remove it, and run human_check.py again":
            lambda: (code_all(), openpyxl.Workbook().save(SHEETS / "adjudication.xlsx")),
        "row 2: custom_id '' is not one of the sheet's: put back the id that":
            lambda: (code_all(), fill(SHEETS / "coder1.xlsx", strange_ids(""), "custom_id")),
        "custom_id 'row-x' is not one of the sheet's":
            lambda: fill(SHEETS / "coder1.xlsx", strange_ids(), "custom_id"),
        "none of the 8 rows of silver class Positive has a human label": lambda: code_all(but=0),
        "one of the 8 rows of silver class Positive has a human label, and an interval needs 2":
            lambda: code_all(but=0, save=1),
        "drawn with another codebook":
            lambda: Path("prompt.txt").write_text("[0] a: b\n[1] c: d", encoding="utf-8"),
    }  # fmt: skip


def make(folder):
    folder.mkdir()
    return folder


def strange_ids(name="row-x"):
    seen = []

    def value(row):
        seen.append(row)
        return name if len(seen) == 1 else row

    return value


def code_all(but=-1, save=0):
    """Have both coders give every row its silver label, but a class's, `save` so many, a blank."""
    silver = dict(zip(sampled()["custom_id"], sampled()["class"], strict=True))
    blank = [row for row, label in silver.items() if label == but][save:]
    for name in ("coder1", "coder2"):
        fill(SHEETS / f"{name}.xlsx", lambda row: "" if row in blank else silver[row])


def adjudicate():
    """Have the coders disagree on two rows, which are then listed."""
    code_all()
    ids = sampled()["custom_id"].tolist()
    silver = dict(zip(ids, sampled()["class"], strict=True))
    other = {row: (silver[row] + (row in ids[:2])) % 4 for row in ids}
    fill(SHEETS / "coder2.xlsx", lambda row: other[row])
    human_check.main([])


def sort_the_comments_alone():
    code_all()
    book = openpyxl.load_workbook(SHEETS / "coder1.xlsx")
    column = book["comments"]["B"][1:]
    for cell, text in zip(column, sorted(cell.value for cell in column), strict=True):
        cell.value = text
    book.save(SHEETS / "coder1.xlsx")


@pytest.mark.parametrize("message", draw_mistakes())
def test_a_mistake_in_drawing_is_one_line_that_names_the_cure(labelled, message):
    argv, prepare = draw_mistakes()[message]
    if prepare:
        prepare()
    with pytest.raises(UserError) as error:
        human_sample.main(argv)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("message", score_mistakes())
def test_a_mistake_in_scoring_is_one_line_that_names_the_cure(labelled, message):
    if prepare := score_mistakes()[message]:
        human_sample.main(SMALL)
        prepare()
    with pytest.raises(UserError) as error:
        human_check.main([])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_people_wrote_into_the_adjudication_stays_when_rows_are_added(labelled):
    human_sample.main(SMALL)
    adjudicate()
    path = SHEETS / "adjudication.xlsx"
    book = openpyxl.load_workbook(path)
    book["comments"]["F1"], book["comments"]["F2"] = "reason", "irony"
    book["comments"]["B5"] = "a remark below the table"
    book.create_sheet("my notes")["A1"] = "call Ann"
    book.save(path)
    ids = sampled()["custom_id"].tolist()
    fill(path, lambda row: 3 if row else "", "adjudicated")
    codes = {row["custom_id"]: row["class"] for row in cells(SHEETS / "coder2.xlsx")}
    codes[ids[5]] = (int(codes[ids[5]]) + 1) % 4
    fill(SHEETS / "coder2.xlsx", lambda row: codes[row])
    human_check.main([])
    rows = cells(path)
    assert rows[3]["message"] == "a remark below the table"
    assert [row["custom_id"] for row in rows[2:]] == [None, None, ids[5]]
    assert (rows[0]["reason"], rows[0]["adjudicated"]) == ("irony", 3)
    assert rows[-1]["adjudicated"] is None
    assert "my notes" in openpyxl.load_workbook(path).sheetnames
    assert result()["adjudicated"] == 2
    codes[ids[0]] = codes[ids[1]]
    fill(SHEETS / "coder2.xlsx", lambda row: codes[row])
    human_check.main([])
    [row] = [row for row in cells(path) if row["custom_id"] == ids[0]]
    assert row["coder2"] == read_codebook("prompt.txt").names[int(codes[ids[0]])]


def test_a_class_without_rows_left_to_draw_is_refused_before_anybody_codes(labelled):
    test = pd.read_csv("pre_process/evaluation/test.csv", dtype=str)
    write_csv(test[test["class"] != "2"], "pre_process/evaluation/test.csv")
    with pytest.raises(UserError, match="class Negative has 123 rows and none of them is left"):
        human_sample.main(SMALL)
    assert not SHEETS.exists()


def test_a_class_with_one_row_left_to_draw_is_refused_unless_it_has_no_other(labelled):
    test = pd.read_csv("pre_process/evaluation/test.csv", dtype=str)
    first = test["custom_id"] == test[test["class"] == "2"]["custom_id"].iloc[0]
    write_csv(test[(test["class"] != "2") | first], "pre_process/evaluation/test.csv")
    with pytest.raises(UserError, match="class Negative has 123 rows and one of them is left"):
        human_sample.main(SMALL)
    rows = pd.read_csv("pre_process/purged_labeled_v2.csv", dtype=str)
    alone = rows["custom_id"].isin(test["custom_id"][first])
    write_csv(rows[(rows["class"] != "2") | alone], "pre_process/purged_labeled_v2.csv")
    human_sample.main(SMALL)
    code_all()
    human_check.main([])
    negative = result()["sample"]["strata"][2]
    assert [negative[key] for key in ("population", "drawn", "coded")] == [1, 1, 1]
    assert result()["silver"]["classes"][2]["precision_ci95"] == pytest.approx([1, 1])


@pytest.mark.parametrize("pilot", [[], ["--pilot"]])
def test_a_class_that_earlier_samples_hold_is_said_to_be_used_up(labelled, pilot):
    everything = ["--test-file", "", "--sample-size", "1000"]
    human_sample.main([*everything, "--sheets-dir", "pre_process/human_check_1"])
    with pytest.raises(UserError) as error:
        human_sample.main([*SMALL, "--test-file", "", *pilot])
    assert str(error.value) == (
        "class Positive has 138 rows and none of them is left to draw: earlier samples hold them: "
        "label more, or merge the class with another"
    )


def test_a_pilot_for_which_the_test_rows_leave_nothing_needs_a_smaller_test_set(labelled):
    rows = pd.read_csv("pre_process/purged_labeled_v2.csv", dtype=str)
    write_csv(rows[rows["class"] == "2"], "pre_process/evaluation/test.csv")
    with pytest.raises(UserError, match="outside the test rows: split .* a smaller --test-size"):
        human_sample.main(["--pilot", *SMALL])


def test_a_sample_that_was_drawn_before_coded_rows_were_counted_is_scored(labelled):
    human_sample.main(SMALL)
    code_all()
    record = json.loads((SHEETS / "sample.json").read_text())
    for k, stratum in enumerate(record["strata"]):
        del stratum["coded"]
        stratum["class"] = k
    (SHEETS / "sample.json").write_text(json.dumps(record))
    human_check.main([])
    strata = result()["sample"]["strata"]
    assert [stratum["coded"] for stratum in strata] == [stratum["drawn"] for stratum in strata]


def test_the_next_step_is_told_and_names_the_sheets(labelled, capsys):
    human_sample.main([*SMALL, "--pilot"])
    folder = SHEETS / "pilot"
    assert (
        f"next: have {folder}/coder1.xlsx, {folder}/coder2.xlsx coded, then run human_check.py "
        "--pilot\n" in capsys.readouterr().out
    )
    human_sample.main(SMALL)
    adjudicate()
    assert (
        f"next: fill in `adjudicated` in {SHEETS}/adjudication.xlsx (2 rows on which coders "
        "disagree, 2 of them without a majority), then run this again\n" in capsys.readouterr().out
    )


def test_a_second_sample_takes_other_rows_and_those_of_other_data_are_no_matter(labelled):
    human_sample.main(SMALL)
    again = ["--sheets-dir", "pre_process/human_check_2"]
    human_sample.main([*SMALL, *again])
    first, second = sampled(), sampled(Path("pre_process/human_check_2"))
    assert not set(first["custom_id"]) & set(second["custom_id"])
    strange = first.assign(message="other data")
    write_csv(strange, SHEETS / "sample.csv")
    human_sample.main([*SMALL, "--sheets-dir", "third", "--exclude", f"{SHEETS}/*.csv"])
    assert set(sampled(Path("third"))["custom_id"]) == set(first["custom_id"])


def test_a_sample_of_all_rows_makes_no_test_set_and_says_so(labelled, capsys):
    human_sample.main([*SMALL, "--test-file", ""])
    code_all()
    human_check.main([])
    assert not Path("pre_process/evaluation/human_test.csv").exists()
    assert "models learn from its rows" in capsys.readouterr().out


def test_labels_made_anew_since_the_draw_are_pointed_out(labelled, capsys):
    human_sample.main(SMALL)
    code_all()
    table = pd.read_csv("pre_process/purged_labeled_v2.csv", dtype=str)
    table["class"] = (table["class"].astype(int) + 1) % 4
    write_csv(table, "pre_process/purged_labeled_v2.csv")
    human_check.main([])
    assert "60 rows of the sample have another label" in capsys.readouterr().out


def test_labels_that_changed_after_the_split_are_pointed_out(labelled):
    table = pd.read_csv("pre_process/purged_labeled_v2.csv", dtype=str)
    table["class"] = (table["class"].astype(int) + 1) % 4
    write_csv(table, "pre_process/purged_labeled_v2.csv")
    with pytest.raises(UserError, match="run split_dataset.py again"):
        human_sample.main(SMALL)


def test_simulated_coders_err_at_their_rates_and_the_corrected_shares_cover_the_truth(
    labelled, capsys
):
    human_sample.main(["--sample-size", "200", "--min-per-class", "15"])
    options = ["--sheets-dir", str(SHEETS), "--truth-file", "truth.csv"]
    coders.main([*options, "--error-rates", "0.1,0.3", "--blank", "0"])
    codebook = read_codebook("prompt.txt")
    wrong = []
    for name in ("coder1", "coder2"):
        rows = cells(SHEETS / f"{name}.xlsx")
        wrong.append(
            np.mean(
                [
                    str(row["class"]) not in (str(labelled[i]), codebook.names[labelled[i]])
                    for row in rows
                    if (i := row["custom_id"])
                ]
            )
        )
    assert wrong == pytest.approx([0.1, 0.3], abs=0.07)
    human_check.main([])
    coders.main(options)
    human_check.main([])
    capsys.readouterr()
    check = ["--check", "--result-file", "results/human_check/human_check.json"]
    check += ["--labeled-file", "pre_process/purged_labeled_v2.csv"]
    coders.main([*options, *check])
    printed = capsys.readouterr().out
    assert "cover all true ones" in printed
    found = result()
    found["shares"][2]["corrected_ci95"] = [0.5, 0.6]
    Path("results/human_check/human_check.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(UserError, match="shares of Negative do not cover the true ones"):
        coders.main([*options, *check])


def edit_the_sheet(*gone):
    """Write the labelled rows as an edited sheet gives them: sorted, shortened, without a title."""
    for path in ("pre_process/purged_labeled_v2.csv", "truth.csv"):
        table = pd.read_csv(path, dtype=str)
        left = table[~table["message"].isin(gone)].sort_values("message")
        ids = [f"row-{n}" for n in range(1, len(left) + 1)]
        write_csv(left.assign(custom_id=ids), path)


def test_a_coded_sample_stands_when_the_sheet_was_sorted_and_rows_were_deleted_in_it(
    labelled, capsys
):
    human_sample.main(SMALL)
    code_all()
    human_check.main([])
    before, test = result(), pd.read_csv("pre_process/evaluation/human_test.csv")
    drawn = sampled()
    outside = ["评论 11", "评论 12", "评论 13"]
    assert not set(outside) & set(drawn["message"])
    edit_the_sheet(*outside, drawn["message"][0])
    capsys.readouterr()
    human_check.main([])
    said = capsys.readouterr().out
    assert "1 rows of the sample are not in ./pre_process/purged_labeled_v2.csv by now" in said
    assert "have another label" not in said
    after = result()
    assert {key: after[key] for key in after if key != "settings"} == {
        key: before[key] for key in before if key != "settings"
    }
    assert pd.read_csv("pre_process/evaluation/human_test.csv").equals(test)
    split_dataset.main([])
    held_out = set(pd.read_csv("pre_process/evaluation/test.csv")["message"])
    assert set(drawn["message"][1:]) <= held_out
    human_sample.main([*SMALL, "--sheets-dir", "pre_process/human_check_2"])
    second = sampled(Path("pre_process/human_check_2"))
    assert not set(second["message"]) & set(drawn["message"])


def test_test_rows_that_moved_in_the_sheet_since_the_split_are_known(labelled):
    test = set(pd.read_csv("pre_process/evaluation/test.csv")["message"])
    edit_the_sheet()
    human_sample.main(SMALL)
    rows = pd.read_csv("pre_process/purged_labeled_v2.csv").set_index("custom_id")["message"]
    drawn = sampled()
    assert set(drawn["message"]) <= test
    assert rows[drawn["custom_id"]].tolist() == drawn["message"].tolist()


def test_the_final_classes_are_written_for_other_steps_the_pilot_s_into_its_folder(labelled):
    human_sample.main(SMALL)
    adjudicate()
    found = pd.read_csv(SHEETS / "human_labels.csv")
    assert list(found) == ["custom_id", "message", "class"]
    silver = sampled().set_index("custom_id")["class"]
    assert found["custom_id"].tolist() == silver.index[2:].tolist(), "two rows are undecided"
    assert found["class"].tolist() == silver[found["custom_id"]].tolist()
    fill(SHEETS / "adjudication.xlsx", lambda row: 3, "adjudicated")
    human_check.main([])
    found = pd.read_csv(SHEETS / "human_labels.csv").set_index("custom_id")["class"]
    assert len(found) == 60 and found[silver.index[:2]].tolist() == [3, 3]
    human_sample.main(["--pilot", *SMALL])
    for name in ("coder1", "coder2"):
        fill(SHEETS / "pilot" / f"{name}.xlsx", lambda row: labelled[row])
    human_check.main(["--pilot"])
    assert len(pd.read_csv(SHEETS / "pilot/human_labels.csv")) == 60


def by_people(*names):
    """Mark rows as coded by people in the labelled rows, and split these."""
    table = pd.read_csv("pre_process/purged_labeled_v2.csv", dtype=str)
    table["coded_by"] = np.where(table["custom_id"].isin(names), "human", "")
    write_csv(table, "pre_process/purged_labeled_v2.csv")
    split_dataset.main([])
    return table


def test_rows_that_people_coded_are_not_drawn_again_and_count_as_known_in_the_shares(labelled):
    human = [f"row-{n}" for n in range(0, 1000, 5)]
    table = by_people(*human)
    silver = table[table["coded_by"] == ""]["class"].astype(int).value_counts().sort_index()
    known = table[table["coded_by"] != ""]["class"].astype(int).value_counts().sort_index()
    human_sample.main(SMALL)
    assert not set(sampled()["custom_id"]) & set(human)
    code_all()
    human_check.main([])
    found = result()
    strata = found["sample"]["strata"]
    assert [stratum["population"] for stratum in strata] == silver.tolist()
    assert [stratum["by_people"] for stratum in strata] == known.tolist()
    assert found["sample"]["population"] == 1000
    weights = pd.read_csv("pre_process/evaluation/human_test.csv")["weight"]
    assert weights.sum() == pytest.approx(800)
    for k, share in enumerate(found["shares"]):
        right = (silver[k] + known[k]) / 1000
        assert share["naive"] == pytest.approx(right)
        assert share["corrected"] == pytest.approx(right), "coders gave every row its silver label"
        low, high = share["corrected_ci95"]
        assert known[k] / 1000 < low < right < high < (known[k] + 800) / 1000
    report = Path("results/human_check/report.txt").read_text(encoding="utf-8")
    assert "Sample: 60 of 800 rows with a silver label, stratified" in report
    assert "among all labelled rows, 200 of which people coded before, with" in report


def test_where_people_coded_all_rows_there_is_nothing_to_check(labelled):
    by_people(*labelled)
    for pilot in ([], ["--pilot"]):
        with pytest.raises(UserError) as error:
            human_sample.main([*SMALL, *pilot])
        assert str(error.value) == (
            "./pre_process/purged_labeled_v2.csv: people coded all of its 1,000 rows: there is no "
            "silver label to check, and no sample to draw"
        )
    assert not SHEETS.exists()


TWO = "Is it about gender?\n[0] yes: it is\n[1] no: it is not\n"


def refine(text=TWO, classes=2):
    """Change the codebook, have all rows labelled anew by it, and split them."""
    Path("prompt.txt").write_text(text, encoding="utf-8")
    table = pd.read_csv("truth.csv")
    write_csv(table.assign(**{"class": table["class"] % classes}), "purged.csv")
    shutil.move("purged.csv", "pre_process/purged_labeled_v2.csv")
    split_dataset.main([])


def test_each_codebook_has_a_pilot_of_its_own_and_finds_it_again(labelled):
    first = Path("prompt.txt").read_text(encoding="utf-8")
    draw, score = ["--pilot", *SMALL], ["--pilot"]
    human_sample.main(draw)
    refine()
    with pytest.raises(
        UserError, match="pilot_2/sample.json not found: run human_sample.py --pilo"
    ):
        human_check.main(score)
    human_sample.main(draw)
    ids = [set(sampled(SHEETS / name)["custom_id"]) for name in ("pilot", "pilot_2")]
    assert not ids[0] & ids[1], "there are enough other rows"
    for name in ("coder1", "coder2"):
        fill(SHEETS / "pilot_2" / f"{name}.xlsx", lambda row: labelled[row] % 2)
        fill(SHEETS / "pilot" / f"{name}.xlsx", lambda row: labelled[row])
    human_check.main(score)
    assert result("results/human_check/pilot_2")["class_names"] == ["yes", "no"]
    assert not Path("results/human_check/pilot").exists()
    with pytest.raises(UserError, match="pilot_2/sample.csv is there already"):
        human_sample.main(draw)
    Path("prompt.txt").write_text(first, encoding="utf-8")
    human_check.main(score)
    assert len(result("results/human_check/pilot")["class_names"]) == 4


def test_a_class_that_an_earlier_pilot_used_up_is_drawn_again_by_another_codebook(labelled, capsys):
    outside = pd.concat(
        [pd.read_csv(f"pre_process/evaluation/{name}.csv") for name in ("train", "validation")]
    )
    rare = outside.sort_values("class", key=lambda column: column != 2)["custom_id"][:60]
    human_sample.main(["--pilot", *SMALL])
    pilot = sampled(SHEETS / "pilot")
    pilot["custom_id"] = rare.to_numpy()
    pilot["message"] = outside.set_index("custom_id")["message"][rare].to_numpy()
    write_csv(pilot, SHEETS / "pilot/sample.csv")
    table = pd.read_csv("pre_process/purged_labeled_v2.csv")
    held_out = set(pd.read_csv("pre_process/evaluation/test.csv")["custom_id"])
    Path("prompt.txt").write_text(TWO.replace("[1]", "[1] rare: x\n[2]"), encoding="utf-8")
    free = sorted(set(table["custom_id"]) - held_out - set(rare))[:3]
    anew = np.where(table["custom_id"].isin([*rare, *free]), 1, table["class"] % 2 * 2)
    anew = np.where(table["custom_id"].isin(sorted(held_out)[:20]), 1, anew)
    write_csv(table.assign(**{"class": anew}), "pre_process/purged_labeled_v2.csv")
    split_dataset.main([])
    capsys.readouterr()
    human_sample.main(["--pilot", *SMALL])
    again = sampled(SHEETS / "pilot_2")
    common = set(again["custom_id"]) & set(rare)
    assert common and (again["class"] == 1).sum() >= 8
    assert f"{len(common)} of the 60 rows were coded before, with another codebook" in (
        capsys.readouterr().out
    )
    human_sample.main(SMALL)
    drawn = set(sampled()["custom_id"])
    assert not drawn & (set(rare) | set(again["custom_id"]))


def test_no_row_of_a_pilot_gets_into_a_sample_whatever_its_codebook(labelled):
    everything = ["--test-file", "", "--sample-size", "990", "--min-per-class", "2"]
    human_sample.main(["--pilot", *everything])
    refine()
    with pytest.raises(UserError, match="earlier samples hold them: label more"):
        human_sample.main(["--test-file", "", "--min-per-class", "2"])


def test_a_second_sample_with_another_codebook_may_take_rows_of_the_first(labelled):
    human_sample.main(["--sample-size", "190", "--min-per-class", "8"])
    refine()
    again = ["--sheets-dir", "pre_process/human_check_2"]
    human_sample.main([*SMALL[:2], "--min-per-class", "25", *again])
    first, second = sampled(), sampled(Path("pre_process/human_check_2"))
    human_sample.main([*SMALL, "--sheets-dir", "pilot_study"])
    assert Path("pilot_study/sample.csv").is_file()
    assert len(second) == 60 and set(second["custom_id"]) & set(first["custom_id"])


def test_a_coded_sheet_of_another_sample_or_codebook_is_refused(labelled):
    human_sample.main(SMALL)
    human_sample.main([*SMALL, "--sheets-dir", "pre_process/human_check_2"])
    code_all()
    mine = (SHEETS / "coder1.xlsx").read_bytes()
    shutil.copy("pre_process/human_check_2/coder1.xlsx", SHEETS)
    with pytest.raises(UserError, match="coder1.xlsx, row 2: the comment is none of sample.csv"):
        human_check.main([])
    (SHEETS / "coder1.xlsx").write_bytes(mine)
    Path("two.txt").write_text(TWO, encoding="utf-8")
    table = sampled()[["custom_id", "message"]].assign(**{"class": "1"})
    write_sheet(table, read_codebook("two.txt"), "class", SHEETS / "coder2.xlsx")
    with pytest.raises(UserError, match="coder2.xlsx was made with another codebook than ./prompt"):
        human_check.main([])


def test_a_coder_s_sheet_that_was_sorted_and_shortened_gives_each_comment_its_class(labelled):
    human_sample.main(SMALL)
    code_all()
    human_check.main([])
    before = pd.read_csv(SHEETS / "human_labels.csv").set_index("custom_id")["class"]
    book = openpyxl.load_workbook(SHEETS / "coder1.xlsx")
    sheet = book["comments"]
    table = [[cell.value for cell in cells] for cells in sheet.iter_rows(min_row=2)]
    for number, values in enumerate(sorted(table, key=lambda row: row[1]), start=2):
        for column, value in enumerate(values, start=1):
            sheet.cell(number, column).value = value
    sheet.delete_rows(5, 3)
    book.save(SHEETS / "coder1.xlsx")
    human_check.main([])
    assert [coder["coded"] for coder in result()["coders"]] == [57, 60]
    after = pd.read_csv(SHEETS / "human_labels.csv").set_index("custom_id")["class"]
    assert after.to_dict() == before.to_dict()


def test_a_comment_with_the_signs_that_a_sheet_escapes_is_known_again(codebook, capsys):
    texts = ["_x0041_ b", "line_x000D_end", "_x005F_x0041_", "plain"]
    frame = pd.DataFrame({"custom_id": ["001", "codebook", "row", "=1"], "message": texts})
    path = Path("sheet.xlsx")
    write_sheet(frame.assign(coder="", **{"class": ["1", "", "2", ""]}), codebook, "class", path)
    update_sheet(frame.assign(coder="x", **{"class": ""}), codebook, "class", path)
    assert "brought sheet.xlsx up to date" in capsys.readouterr().out
    found = read_filled_in(path, codebook, "class", frame[::-1], "")
    assert found["message"].tolist() == texts
    assert found["label"].tolist() == [1, -1, 2, -1]
    assert found["place"].tolist() == [3, 2, 1, 0]
    assert found.index.tolist() == [2, 3, 4, 5]
