"""Label sets beside each other: changes, repeats, people's codes, codebooks, the page."""

import json
import os
import subprocess
from hashlib import sha256
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from conftest import ROOT
from scipy.stats import binomtest

import compare_labels
from pipeline.common.cli import UserError
from pipeline.common.files import write_json
from pipeline.common.tables import write_csv
from pipeline.report.set_page import codebook_diff
from pipeline.report.set_people import could_find, detectable_difference

SETS = Path("pre_process/label_sets")
SHEETS = Path("pre_process/human_check")
YES_NO = "Is it about gender?\n[0] Yes: it is\n[1] No: it is not\nAnswer with [0] or [1]."
NO_YES = "Is it about gender?\n[0] no: it is not\n[1] YES!: it is\n[2] Unclear: nobody knows"
FIVE = "Which?\n" + "\n".join(f"[{k}] Kind {k}: it is {k}" for k in range(5))
NAMES = ["Yes", "No"]


def comments(labels, first=2):
    """Return rows of generated comments with these classes; ids as of a spreadsheet."""
    numbers = range(first, first + len(labels))
    rows = [(f"row-{n}", f"comment {n}", label) for n, label in zip(numbers, labels, strict=True)]
    return pd.DataFrame(rows, columns=["custom_id", "message", "class"])


def write_set(name, rows, codebook=YES_NO, day="2026-11-01", teacher="A-Teacher"):
    """Write a set of labels as jsonl_to_csv.py does."""
    folder = SETS / name
    write_csv(rows, folder / "labels.csv")
    (folder / "prompt.txt").write_text(codebook + "\n", encoding="utf-8")
    record = {
        "codebook_sha256": sha256(codebook.encode()).hexdigest(),
        "teachers": [teacher],
        "first_answer": day,
        "last_answer": day,
    }
    write_json(record, folder / "silver_labels.json")


def write_codes(rows, people, populations, folder=SHEETS, codebook=YES_NO, names=NAMES):
    """Write what people coded in a sample that was drawn by the classes of `rows`."""
    drawn = [int((rows["class"] == k).sum()) for k in range(len(names))]
    strata = [
        {"name": name, "population": size, "drawn": n, "inclusion_probability": n / max(size, 1)}
        for name, size, n in zip(names, populations, drawn, strict=True)
    ]
    record = {
        "population": sum(populations),
        "held_out": 0,
        "drawn": len(rows),
        "date": "2026-11-02",
        "coders": ["ann"],
        "codebook_sha256": sha256(codebook.encode()).hexdigest(),
        "strata": strata,
        "settings": {"seed": 1, "min_per_class": 2},
    }
    write_json(record, folder / "sample.json")
    chances = rows["class"].map(lambda k: strata[k]["inclusion_probability"])
    write_csv(rows.assign(inclusion_probability=chances), folder / "sample.csv")
    write_csv(rows.assign(**{"class": people}), folder / "human_labels.csv")


def compare(*argv):
    """Run the script; return comparison.json."""
    compare_labels.main(list(argv))
    return json.loads(Path("results/label_sets/comparison.json").read_text(encoding="utf-8"))


def page():
    return Path("results/label_sets/comparison.html").read_text(encoding="utf-8")


def changed_table():
    [header, *rows] = openpyxl.load_workbook("results/label_sets/changed.xlsx").worksheets[0].values
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_changed_labels_are_counted_by_class_and_rows_without_a_label_apart():
    write_set("old", comments([0, 0, 0, 0, 1, 1, 1, 1, 0, -1, -1]))
    write_set("new", comments([0, 0, 0, 1, 1, 1, 1, 0, -1, 0, -1]), YES_NO + "!", "2026-11-02")
    [pair] = compare()["pairs"]
    assert (pair["first"], pair["second"]) == ("old", "new")
    assert (pair["rows"], pair["compared"], pair["changed"]) == (11, 8, 2)
    assert (pair["without_first"], pair["without_second"], pair["without_both"]) == (1, 1, 1)
    assert pair["changed_share"] == 0.25
    # Wilson: (2 + z2/2 -+ z sqrt(2 * 6 / 8 + z2/4)) / (8 + z2), z2 = 3.84146
    assert pair["changed_share_ci95"] == pytest.approx([0.07148, 0.59072], abs=1e-5)
    assert pair["counts"] == [[3, 1], [1, 3]]
    assert pair["kappa"] == pytest.approx(0.5)  # (6/8 - 1/2) / (1 - 1/2)
    assert pair["kappa_ci95"][0] < 0.5 < pair["kappa_ci95"][1]
    changes = [(change["classes"], change["rows"]) for change in pair["changes"]]
    assert changes == [(["Yes", "No"], 1), (["No", "Yes"], 1)]
    assert pair["changes"][0]["examples"] == [
        {"custom_id": "row-5", "message": "comment 5", "human": ""}
    ]


def test_classes_are_matched_by_name_whatever_their_number_and_others_count_as_changed(capsys):
    write_set("old", comments([0, 0, 1, 1, 1]))
    write_set("new", comments([1, 2, 0, 0, 1]), NO_YES, "2026-11-02")
    [pair] = compare()["pairs"]
    assert pair["changed"] == 2
    assert pair["classes_first"] == ["YES!", "no"]
    assert pair["classes_second_alone"] == ["Unclear"]
    assert pair["counts"] == [[0, 1, 1], [2, 1, 0]]
    out = capsys.readouterr().out
    assert "Unclear is a class of new alone." in out
    assert "YES! -> Unclear" in out


def test_codebooks_without_a_common_class_have_no_kappa(capsys):
    write_set("old", comments([0, 1, 1]))
    write_set("new", comments([0, 4, 2]), FIVE, "2026-11-02")
    [pair] = compare()["pairs"]
    assert pair["kappa"] is None and pair["changed_share"] == 1
    assert len(pair["counts"]) == 2 and len(pair["counts"][0]) == 5
    assert "no class of the same name" in capsys.readouterr().out


def test_labels_of_one_class_alone_have_no_kappa():
    write_set("old", comments([1, 1, 1]))
    rows = comments([1, 1, 1]).assign(repeat_1=["1", "1", ""])
    write_set("new", rows, day="2026-11-02")
    found = compare()
    assert found["pairs"][0]["changed"] == 0 and found["pairs"][0]["kappa"] is None
    assert found["repeats"][0]["all_agree"] == 1 and found["repeats"][0]["alpha"] is None


def test_rows_that_moved_are_found_by_their_comment_and_others_are_counted():
    write_set("old", comments([0, 1, 0, 1, 0]))  # rows 2 to 6
    moved = comments([0, 1, 0, 1, 0]).iloc[[4, 2, 1, 3]]  # row 2 was deleted, the rest sorted
    moved["custom_id"] = ["row-2", "row-3", "row-4", "row-5"]
    new = pd.DataFrame([("row-6", "a new comment", 1)], columns=["custom_id", "message", "class"])
    write_set("new", pd.concat([moved, new]), day="2026-11-02")
    [pair] = compare()["pairs"]
    assert (pair["rows"], pair["rows_first_alone"], pair["rows_second_alone"]) == (4, 1, 1)
    assert (pair["compared"], pair["changed"]) == (4, 0)


def test_sets_come_in_the_order_of_their_dates_or_as_they_are_named():
    for name, day in (("c", "2026-11-01"), ("a", "2026-11-03"), ("b", "2026-11-02")):
        write_set(name, comments([0, 1]), day=day)
    found = compare()
    assert [one["name"] for one in found["sets"]] == ["c", "b", "a"]
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [
        ("c", "b"),
        ("c", "a"),
        ("b", "a"),
    ]
    write_csv(comments([1, 1]), "mine/other.csv")
    Path("mine/prompt.txt").write_text(YES_NO, encoding="utf-8")
    found = compare("--sets", f"b, {SETS}/c,mine/other.csv")
    assert [one["name"] for one in found["sets"]] == ["b", "c", "other"]
    assert [pair["changed"] for pair in found["pairs"]] == [0, 1, 1]


def test_of_two_sets_of_one_day_the_one_that_was_written_last_is_the_newer_one():
    for name, time in (("b", 1), ("a", 2), ("c", 3)):
        write_set(name, comments([0, 1]))
        os.utime(SETS / name / "silver_labels.json", (time, time))
    assert [one["name"] for one in compare()["sets"]] == ["b", "a", "c"]


def test_a_file_that_has_a_column_s_name_keeps_its_path_as_its_name():
    write_csv(comments([0, 1]), "mine/human.csv")
    write_csv(comments([1, 1]), "mine/teacher.csv")
    Path("mine/prompt.txt").write_text(YES_NO, encoding="utf-8")
    compare("--sets", "mine/teacher.csv,mine/human.csv")
    assert changed_table() == [
        {
            "custom_id": "row-2",
            "message": "comment 2",
            "teacher": "No",
            "mine/human.csv": "Yes",
        }
    ]


def test_a_folder_without_labels_is_named_and_left_out(capsys):
    old_and_new()
    (SETS / "third").mkdir()
    assert len(compare()["sets"]) == 2
    assert "third has no labels.csv and is left out" in capsys.readouterr().out


def test_repeats_say_how_far_a_teacher_agrees_with_itself(capsys):
    rows = comments([0, 0, 1, 1, 0, 1]).assign(
        repeat_1=["0", "1", "1", "1", "", ""], repeat_2=["0", "0", "1", "-1", "", ""]
    )
    write_set("one", rows)
    found = compare()
    [repeats] = found["repeats"]
    assert (repeats["rows"], repeats["asked_again"]) == (4, 7)
    assert repeats["all_agree"] == 0.75
    # Of the second row's three pairs of answers one agrees; all of the others'.
    assert repeats["pairs_agree"] == pytest.approx((1 + 1 / 3 + 1 + 1) / 4)
    assert repeats["pairs_agree_ci95"][0] < repeats["pairs_agree"] < 1
    assert [(one["classes"], one["rows"]) for one in repeats["changes"]] == [(["Yes", "No"], 1)]
    assert found["changed_rows"] == 1
    assert changed_table() == [
        {
            "custom_id": "row-3",
            "message": "comment 3",
            "one": "Yes",
            "one, asked again 1": "No",
            "one, asked again 2": "Yes",
        }
    ]
    assert "4 rows were asked again" in capsys.readouterr().out


def test_a_pair_is_told_how_much_changes_without_another_codebook(capsys):
    write_set("old", comments([0, 0, 1, 1]))
    rows = comments([0, 1, 1, 1]).assign(repeat_1=["0", "0", "1", "1"])
    write_set("new", rows, day="2026-11-02")
    compare()
    assert "the teacher of new gave another class in 25.0% of pairs" in capsys.readouterr().out


def test_the_set_that_people_agree_with_is_found_by_the_exact_test(capsys):
    people = [0, 1] * 20
    old = [1 - label if n < 12 else label for n, label in enumerate(people)]
    new = [1 - label if n in (38, 39) else label for n, label in enumerate(people)]
    write_set("old", comments(old))
    write_set("new", comments(new), YES_NO + "!", "2026-11-02")
    write_codes(comments(old), people, [200, 200])
    [test] = compare()["people"]
    assert (test["source"], test["coded"], test["rows"]) == ("human_check", 40, 40)
    tested = test["test"]
    assert (tested["only_first_right"], tested["only_second_right"]) == (2, 12)
    assert tested["difference"] == pytest.approx(0.25)
    assert tested["p_value"] == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert tested["p_holm"] == tested["p_value"]
    assert test["same_codebook"] == [True, False]
    out = capsys.readouterr().out
    assert "new agrees with people more often." in out
    assert "People coded by the codebook of old" in out
    assert "says too much" in out


def test_scores_against_people_are_weighted_to_the_data_set():
    """Of 90 rows labelled Yes 2 of 4 are right, of 10 labelled No all 4: 0.9 / 2 + 0.1."""
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    write_set("old", comments(labels))
    write_set("new", comments([0] * 8), YES_NO + "!", "2026-11-02")
    write_codes(comments(labels), [0, 0, 1, 1, 1, 1, 1, 1], [90, 10])
    [test] = compare()["people"]
    old, new = test["scores"]
    assert test["weighted"]
    assert old["accuracy"] == pytest.approx(0.55) and new["accuracy"] == pytest.approx(0.45)
    assert test["test"]["difference"] == pytest.approx(-0.5)
    assert test["test"]["difference_weighted"] == pytest.approx(-0.1)
    # F1 of Yes: 2 * 45 / (90 + 45), of No: 2 * 10 / (10 + 55)
    assert old["macro_f1"] == pytest.approx((90 / 135 + 20 / 65) / 2)


def test_a_set_that_is_better_in_the_sample_alone_is_not_called_better_in_the_data_set(capsys):
    """Of each row labelled Yes there are 100 in the data set, of one labelled No a single one."""
    old = [0] * 10 + [1] * 10
    write_set("old", comments(old))
    write_set("new", comments([1] + [0] * 19), YES_NO + "!", "2026-11-02")
    write_codes(comments(old), [0] * 20, [1000, 10])
    [test] = compare()["people"]
    assert test["test"]["p_value"] < 0.05 and test["test"]["difference"] > 0
    assert test["test"]["difference_weighted"] == pytest.approx((10 - 100) / 1010)
    assert "of the whole data set they do not show it" in capsys.readouterr().out


def test_coded_rows_that_moved_are_found_and_those_that_are_gone_are_counted(capsys):
    labels = [0, 0, 1, 1, 0, 1]
    write_set("old", comments(labels))
    write_set("new", comments(labels), YES_NO + "!", "2026-11-02")
    coded = comments(labels).iloc[[5, 3, 1, 4]].assign(custom_id=["a", "row-2", "row-3", "row-4"])
    coded.loc[4, "message"] = "a comment that was changed"
    write_codes(coded, [1, 1, 0, 0], [9, 9])
    [test] = compare()["people"]
    assert (test["coded"], test["lost"]) == (3, 1)
    assert [one["accuracy"] for one in test["scores"]] == [1, 1]
    assert "1 more row that people coded is in no set" in capsys.readouterr().out


def test_a_sample_that_lost_a_class_is_not_weighted_and_the_text_says_so(capsys):
    labels = [0, 0, 0, 1, 1, 1]
    write_set("old", comments(labels))
    write_set("new", comments([0, 0, 0, -1, -1, 1]), YES_NO + "!", "2026-11-02")
    write_codes(comments(labels), labels, [50, 50])
    [test] = compare()["people"]
    assert (test["weighted"], test["sampled"]) == (False, True)
    assert (test["rows"], test["without_label"]) == (4, 2)
    assert "the scores are those of these rows, not of the data set" in capsys.readouterr().out


def test_p_values_of_several_tests_are_corrected_by_holm_s_method():
    people = [0, 1] * 20
    for number, wrong in enumerate((12, 4, 2)):
        labels = [1 - k if n < wrong else k for n, k in enumerate(people)]
        write_set(
            f"set-{number}", comments(labels), YES_NO + "!" * number, f"2026-11-0{number + 1}"
        )
    write_codes(comments(people), people, [100, 100], SHEETS / "pilot")
    tests = [one["test"] for one in compare()["people"]]
    raw = [one["p_value"] for one in tests]
    assert raw == pytest.approx([2 / 2**8, 2 / 2**10, 2 / 2**2])
    assert [one["p_holm"] for one in tests] == pytest.approx([4 / 2**8, 6 / 2**10, 0.5])
    assert {one["needed"] for one in tests} == {7}  # 2 / 2**7 is below 0.05 / 3, 2 / 2**6 is not


def test_too_few_rows_that_differ_are_said_to_show_nothing(capsys):
    people = [0, 1] * 10
    write_set("old", comments([1, 0, *people[2:]]))
    write_set("new", comments(people), YES_NO + "!", "2026-11-02")
    write_codes(comments(people), people, [50, 50])
    [test] = compare()["people"]
    assert test["test"]["needed"] == 6 and test["test"]["detectable"] is None
    out = capsys.readouterr().out
    assert "do not show which of the two" in out
    assert "2 rows separate the two sets (one alone is right), and the test needs 6 or more" in out


@pytest.mark.parametrize(("separating", "rows"), [(6, 100), (20, 100), (29, 100), (200, 500)])
def test_the_difference_that_can_be_seen_is_found_in_8_of_10_samples(separating, rows):
    difference = detectable_difference(separating, rows, 0.05)
    share = (1 + difference * rows / separating) / 2
    power = 0.0
    for count in range(separating + 1):
        if binomtest(count, separating, 0.5).pvalue <= 0.05:
            power += float(binomtest(count, separating, share, alternative="less").pvalue) - (
                float(binomtest(count - 1, separating, share, alternative="less").pvalue)
                if count
                else 0.0
            )
    assert power == pytest.approx(0.8, abs=1e-6)


def test_a_test_needs_so_many_rows_that_differ_that_all_on_one_side_would_be_significant():
    class Tested:
        only_first_right = only_second_right = 2

    for level in (0.05, 0.05 / 3, 0.01):
        needed = could_find(Tested, 10, level)["needed"]
        assert binomtest(0, needed, 0.5).pvalue <= level < binomtest(0, needed - 1, 0.5).pvalue


def test_classes_by_people_that_a_codebook_lacks_are_left_out(capsys):
    labels = [0, 1, 0, 1, 0, 1]
    write_set("old", comments(labels))
    write_set("new", comments([1, 0, 1, 0, 2, 0]), NO_YES, "2026-11-02")
    write_codes(comments([1, 0, 1, 0, 2, 2]), [1, 0, 1, 0, 2, 2], [9, 9, 9], codebook=NO_YES,
                names=["no", "YES!", "Unclear"])  # fmt: skip
    [test] = compare()["people"]
    assert (test["coded"], test["other_class"], test["rows"]) == (6, 2, 4)
    assert test["class_names"] == ["no", "YES!"]
    assert [one["accuracy"] for one in test["scores"]] == [1, 1]
    assert "Not counted: 2 rows of a class by people" in capsys.readouterr().out


def test_people_s_codes_of_other_classes_alone_say_nothing(capsys):
    write_set("old", comments([0, 1, 0, 1]))
    write_set("new", comments([0, 1, 1, 1]), YES_NO + "!", "2026-11-02")
    kinds = [f"Kind {k}" for k in range(5)]
    rows = comments([0, 1, 2, 3])
    write_codes(rows, [0, 1, 2, 3], [9] * 5, codebook=FIVE, names=kinds)
    [test] = compare()["people"]
    assert test["rows"] == 0 and test["scores"] == [] and test["test"] is None
    assert "nothing can be said about agreement with people" in capsys.readouterr().out


def test_codes_of_people_that_say_nothing_are_told_a_line_each_and_with_a_cure(capsys):
    rows = comments([0, 1, 0, 1]).assign(coded_by=["human", "human", "", ""])
    write_set("old", rows)
    write_set("new", rows, YES_NO + "!", "2026-11-02")
    write_codes(comments([0, 1, 2, 3]), [0, 1, 2, 3], [9] * 5, codebook=FIVE,
                names=[f"Kind {k}" for k in range(5)])  # fmt: skip
    compare()
    out = capsys.readouterr().out
    said = out[out.index("Here nothing can be said about agreement with people:") :].splitlines()
    assert [line.strip() for line in said[1:3]] == [
        "old and new against people (human_check): no row is left",
        "old and new against people (the spreadsheet): no row is left; batch_infer_gen.py "
        "--ask-coded-rows has a model asked about rows that people coded",
    ]
    assert "2 rows that people coded were not labelled by both models." in out


def test_rows_that_people_coded_in_the_spreadsheet_are_theirs_and_not_the_teacher_s():
    by = ["human", "human", "", "", ""]
    write_set("old", comments([0, 1, 0, 1, 0]).assign(coded_by=by))
    write_set("new", comments([0, 1, 1, 1, 0]).assign(coded_by=by), YES_NO + "!", "2026-11-02")
    found = compare()
    [pair] = found["pairs"]
    assert (pair["compared"], pair["changed"], pair["by_people"]) == (3, 1, 2)
    assert (pair["without_both"], found["sets"][0]["by_people"]) == (0, 2)
    [test] = found["people"]
    assert (test["source"], test["coded"], test["rows"]) == ("the spreadsheet", 2, 0)


def test_what_the_teacher_says_of_rows_that_people_coded_is_held_against_them():
    by, said = ["human"] * 4 + [""], [["1", "1", "0", "0", ""], ["0", "1", "0", "1", ""]]
    for name, answers, day in zip(("old", "new"), said, ("2026-11-01", "2026-11-02"), strict=True):
        rows = comments([0, 1, 0, 1, 0]).assign(coded_by=by, teacher=answers)
        write_set(name, rows, YES_NO + name, day)
    found = compare()
    assert found["pairs"][0]["compared"] == 5
    [test] = found["people"]
    assert [one["accuracy"] for one in test["scores"]] == [0.5, 1.0]
    assert test["same_codebook"] is None


def test_a_single_set_is_scored_against_people_alone(capsys):
    write_set("only", comments([0, 1, 0, 1]))
    write_codes(comments([0, 1, 0, 1]), [0, 1, 1, 1], [40, 60])
    found = compare()
    [test] = found["people"]
    assert found["pairs"] == [] and test["test"] is None
    assert test["scores"][0]["accuracy"] == pytest.approx((40 / 2 + 60) / 100)
    assert 'id="people"' in page()
    assert "only against people" in capsys.readouterr().out


def test_each_pilot_is_a_test_of_its_own_and_one_of_the_new_codebook_is_no_flattery(capsys):
    """The second pilot was drawn once the codebook was changed."""
    people = [0, 1] * 6
    write_set("old", comments([1, 0] + people[2:]))
    write_set("new", comments(people), YES_NO + "!", "2026-11-02")
    write_codes(comments(people[:6]), people[:6], [50, 50], SHEETS / "pilot")
    second = comments(people).iloc[6:]
    write_codes(second, people[6:], [50, 50], SHEETS / "pilot_2", YES_NO + "!")
    write_codes(second, people[6:], [50, 50], Path(f"{SHEETS}_2/pilot"), YES_NO + "!")
    found = compare()["people"]
    assert [(one["source"], one["rows"], one["same_codebook"]) for one in found] == [
        ("human_check/pilot", 6, [True, False]),
        ("human_check/pilot_2", 6, [False, True]),
        ("human_check_2/pilot", 6, [False, True]),
    ]
    assert capsys.readouterr().out.count("says too much") == 1


def test_a_sample_that_nobody_scored_is_named(capsys):
    write_set("old", comments([0, 1]))
    write_set("new", comments([0, 1]))
    write_codes(comments([0, 1]), [0, 1], [2, 2], SHEETS / "pilot")
    (SHEETS / "pilot/human_labels.csv").unlink()
    compare()
    assert "pilot has no human_labels.csv" in capsys.readouterr().out


def test_the_changed_rows_stand_in_the_sheet_by_their_change_with_people_s_class():
    write_set("old", comments([0, 1, 0, 1, 0, -1]))
    write_set("new", comments([1, 0, 1, 1, -1, 0]), day="2026-11-02")
    write_codes(comments([0, 1]), [1, 0], [2, 2])
    rows = [tuple(row.values()) for row in changed_table_of_a_comparison()]
    assert rows == [
        ("row-2", "comment 2", "Yes", "No", "No"),
        ("row-4", "comment 4", "Yes", "No", None),
        ("row-3", "comment 3", "No", "Yes", "Yes"),
    ]


def changed_table_of_a_comparison():
    compare()
    return changed_table()


HOSTILE = "<script>document.title = 1</script><img src=x onerror=alert(1)> & \"'"
FORMULA = '=HYPERLINK("http://example.com")'


class Elements(HTMLParser):
    """Collect a page's elements with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_markup_in_comments_codebooks_and_names_is_text_and_nothing_is_fetched():
    rows = comments([0, 1])
    rows["message"] = [HOSTILE, FORMULA]
    write_set("old", rows)
    codebook = YES_NO.replace("Is it", f"{HOSTILE} Is it").replace("Yes", "<b>Yes</b>")
    write_set("new", rows.assign(**{"class": [1, 0]}), codebook, "2026-11-02", "<i>teacher</i>")
    compare("--title", "<u>mine</u>")
    found = Elements(page())
    assert {"script", "img", "b", "u"}.isdisjoint(tag for tag, _ in found.elements if tag != "b")
    assert HOSTILE in found.text and "<i>teacher</i>" in found.text and "<b>Yes</b>" in found.text
    links = [attrs["href"] for _, attrs in found.elements if "href" in attrs]
    assert all(link.startswith(("#", "data:")) for link in links)
    ids = {attrs["id"] for _, attrs in found.elements if "id" in attrs}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert not any("src" in attrs for _, attrs in found.elements)
    book = openpyxl.load_workbook("results/label_sets/changed.xlsx")
    assert {cell.data_type for row in book.worksheets[0].iter_rows() for cell in row} == {"s"}


def test_codebooks_stand_side_by_side_a_class_beside_the_same_class():
    old = "Read it.\n[0] Yes: it is\n[1] No: not\nAnswer."
    new = "Read it.\nThink.\n[0] Yes: it is, 反话\n例：好\n[1] Never: of no kind\nAnswer."
    found = [(line.kind, line.old, line.new) for line in codebook_diff(old, new)]
    assert found == [
        ("same", [("Read it.", False)], [("Read it.", False)]),
        ("added", [], [("Think.", True)]),
        ("changed", [("[0] Yes: it is", False)], [("[0] Yes: it is", False), (", 反话", True)]),
        ("removed", [("[1] No: not", True)], []),
        ("added", [], [("例：好", True)]),
        ("added", [], [("[1] Never: of no kind", True)]),
        ("same", [("Answer.", False)], [("Answer.", False)]),
    ]


def test_a_class_that_was_written_anew_stands_beside_its_old_line():
    lines = codebook_diff("[0] Mild: a bit\n[1] No: not", "[0] No: never at all\nAnswer.")
    assert [line.kind for line in lines] == ["removed", "changed", "added"]
    sides = [lines[1].old, lines[1].new]
    assert ["".join(text for text, _ in side) for side in sides] == [
        "[1] No: not",
        "[0] No: never at all",
    ]


def test_equal_codebooks_of_two_teachers_have_no_diff():
    write_set("old", comments([0, 1]), teacher="first")
    write_set("new", comments([1, 1]), day="2026-11-02", teacher="second")
    assert compare()["pairs"][0]["same_codebook"]
    assert "both sets follow the same codebook" in page() and '<table class="diff"' not in page()


def test_the_page_lists_ten_changes_and_counts_the_rest():
    pairs = [(a, b) for a, b in product(range(5), repeat=2) if a != b]
    old, new = zip(*(pairs * 2), strict=True)
    write_set("old", comments(old), FIVE)
    write_set("new", comments(new), FIVE + "!", "2026-11-02")
    compare("--examples", "1")
    assert "10 kinds of change more, of 20 rows, stand in changed.xlsx" in page()
    assert page().count("<blockquote>") == 10
    assert len(changed_table()) == 40


def old_and_new():
    write_set("old", comments([0, 1]))
    write_set("new", comments([0, 0]), day="2026-11-02")


def without(path):
    def spoil():
        old_and_new()
        (SETS / path).unlink()

    return spoil


def other_comments():
    write_set("old", comments([0, 1]))
    write_set("new", comments([0, 1], first=90))


def other_class():
    old_and_new()
    write_csv(comments([0, 7]), SETS / "new/labels.csv")


def another_prompt():
    old_and_new()
    (SETS / "new/prompt.txt").write_text(NO_YES, encoding="utf-8")


def no_json():
    old_and_new()
    (SETS / "new/silver_labels.json").write_text("{", encoding="utf-8")


def lost_sample_row():
    old_and_new()
    write_codes(comments([0, 1]), [0, 1], [2, 2])
    write_csv(comments([0, 1], first=3), SHEETS / "human_labels.csv")


@pytest.mark.parametrize(
    ("arrange", "argv", "message"),
    [
        (lambda: None, [], "label_sets holds no set of labels: run jsonl_to_csv.py"),
        (lambda: write_set("a", comments([0])), [], "a is the only set of labels"),
        (other_comments, [], "have no row in common"),
        (old_and_new, ["--sets", "old,newer"], "--sets: newer is no folder of"),
        (old_and_new, ["--sets", "old,old"], "--sets names old twice"),
        (other_class, [], "labels.csv, row 3: class '7': the classes of"),
        (another_prompt, [], "prompt.txt is not the codebook of"),
        (without("new/silver_labels.json"), [], "silver_labels.json not found"),
        (without("new/prompt.txt"), [], "prompt.txt not found"),
        (no_json, [], "silver_labels.json, line 1 is not JSON"),
        (lost_sample_row, [], "human_labels.csv: row-4 is not in sample.csv"),
    ],
)
def test_bad_input_gets_one_line_and_nothing_is_written(arrange, argv, message):
    arrange()
    with pytest.raises(UserError) as error:
        compare_labels.main(argv)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not Path("results").exists()


def make_compare(study):
    command = ["make", "-f", "study.mk", "-C", str(ROOT), "compare", f"STUDY={study}"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_make_compares_once_and_again_when_a_set_changed():
    study = Path.cwd()
    code, said = make_compare(study)
    assert code == 2 and "run jsonl_to_csv.py" in said
    old_and_new()
    assert "compare_labels.py" in make_compare(study)[1]
    code, said = make_compare(study)
    assert code == 0 and "compare_labels.py" not in said
    write_set("third", comments([1, 1]), day="2026-11-03")
    assert "compare_labels.py" in make_compare(study)[1]
