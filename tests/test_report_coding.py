"""Step 14: what the page and the methods text say of the coded spreadsheet and its plan."""

import copy
import re
import shutil
from urllib.parse import unquote

import pytest
from coded_fixture import CODING, PLAN, write_coded_study
from report_fixture import study_in_memory
from test_write_report import change, page_of, run_report, unmoved

from pipeline.coding.record import Coding
from pipeline.common.cli import UserError
from pipeline.common.files import write_json
from pipeline.common.records import to_record
from pipeline.planning.plan import Plan
from pipeline.report.coded import link_to
from pipeline.report.methods import methods_markdown
from pipeline.report.plan_sentences import plan_sentences
from pipeline.report.study import not_done


@pytest.fixture
def coded():
    """Return a study in memory with a plan and a coded spreadsheet."""
    study, coding, plan = study_in_memory(), *copy.deepcopy((CODING, PLAN))
    run = study.runs[1]  # bert
    coding["quality"][0] |= {"run": run.name, "accuracy": run.metrics["accuracy_all_rows"]}
    change(study, coding=to_record(coding, Coding), plan=to_record(plan, Plan))
    return study


def test_every_figure_of_the_coded_spreadsheet_stands_in_the_paragraph(coded):
    # Who coded how many rows of a class stands on the page, the class's sum in the paragraph.
    unused = {("seconds",), ("quality", "*", "macro_f1"), ("plan", "threshold")}
    assert unmoved(methods_markdown, coded, coded.coding) == unused


def test_every_figure_of_the_coded_spreadsheet_stands_on_the_page(coded):
    del coded.runs[0]
    assert unmoved(page_of, coded, coded.coding) == {("seconds",), ("plan", "threshold")}


def test_every_figure_of_the_plan_stands_on_the_page_or_in_its_plot(coded):
    del coded.runs[0]
    del coded.plan.curve[1]
    drawn = {"threshold", "kept_share", "kept_rows", "teacher_price", "people_minutes"}
    drawn |= {"kept_accuracy", "accuracy_with_teacher", "accuracy_with_people"}
    elsewhere = {("alpha",), ("promised",), ("most_promised",)}  # the guarantee's sentence has two
    elsewhere |= {("budget",), ("minutes_budget",)}  # it has a target
    elsewhere |= {("model", "temperature"), ("costs", "teacher_per_row"), ("costs", "pay_per_hour")}
    still = unmoved(page_of, coded, coded.plan)
    assert {path for path in still if path[0] != "curve"} == elsewhere
    ends = {path[2].removesuffix("_ci95") for path in still if path[0] == "curve"}
    assert ends <= drawn


def section_of(page, name):
    return page.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def cells_of(section):
    """Return the texts of the rows of a section's tables."""
    rows = re.findall("<tr.*?</tr>", section, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in row] for row in cells]


def test_the_page_tells_who_coded_what_and_of_which_rows_each_share_is(coded):
    section = section_of(page_of(coded), "coded")
    rows = cells_of(section)
    assert ["people", "583", "8.3%"] in rows and ["nobody", "7", "0.1%"] in rows
    assert ["Positive", "101", "311", "517", "929", "13.3%", "15.3% [12.2%, 18.3%]", ""] in rows
    assert "are of all 6,995 coded rows. They take every code for right" in section
    assert "they are of the 2,904 labelled rows alone" in section
    assert "1,174 rows are marked for people to look at" in section
    assert "comments &lt;b&gt;.xlsx" in section


@pytest.mark.parametrize("why", ["none", "other classes"])
def test_without_a_human_check_by_these_classes_no_share_has_an_interval(coded, why):
    if why == "none":
        change(coded, human_check=None)
    else:
        change(coded.human_check, class_names=["yes", "no"])
    section = section_of(page_of(coded), "coded")
    assert ["Positive", "101", "311", "517", "929", "13.3%"] in cells_of(section)
    assert "interval" not in section.replace("they have no interval", "")
    text = methods_markdown(coded).partition("## Coding of the spreadsheet")[2]
    text = text.partition("\n## ")[0]
    assert "- Positive: 929 rows, 13.3% of 6,995 coded rows.\n" in text
    assert "corrected" not in text.replace("no human check corrects them", "")


def test_the_quality_by_class_is_that_of_the_run_of_the_model_that_coded(coded):
    section = section_of(page_of(coded), "coded")
    assert "By class: agreement with silver labels" in section
    assert ["Positive", "1.00", "1.00", "1.00", "25"] in cells_of(section)
    assert ["Negative", "0.50", "1.00", "0.67", "25"] in cells_of(section)
    change(coded.coding, quality=[])
    section = section_of(page_of(coded), "coded")
    assert "By class" not in section
    assert "quality of the model that coded the spreadsheet was not measured" in section


def test_the_coding_stands_in_sentences_that_name_their_files(coded):
    text = methods_markdown(coded)
    for sentence in (
        "The spreadsheet comments <b>.xlsx has 7,113 rows, and 7,002 of them hold a comment.",
        "People coded 583 rows, the teacher coded 2,405 rows and the small model coded 4,007 rows.",
        "7 rows with a comment got no class.",
        "The small model is bert_base (encoder, fingerprint 0123456789abcdef).",
        "1,174 rows are marked for people to look at: only the small model coded them, with a "
        "confidence below 0.6172.",
        "The figures of this section stand in results/coded/coded.json.",
        "For an accuracy of 90.0% the small model, bert_base, codes the rows of which its "
        "confidence is at least 0.6172, 71.3% of all; the teacher codes 1,174 of 4,096 rows.",
        "The expected accuracy of all these rows is 92.5% [88.7%, 95.0%], measured as agreement "
        "with silver labels (silver labels.csv).",
        "The teacher takes 1.26 yuan for its part",
        "people found 87.2% [83.9%, 90.1%] of its labels right.",
        "Its figures stand in results/plan/plan.json.",
        "- Positive: 929 rows, 13.3% of 6,995 coded rows; corrected 15.3% [12.2%, 18.3%] of 2,904 "
        "labelled rows.",
    ):
        assert sentence.replace("<b", "\\<b") in text


def plan_of(**values):
    return to_record(copy.deepcopy(PLAN) | values, Plan)


def test_a_plan_without_a_target_or_with_all_rows_for_people_says_so():
    none = plan_of(threshold=None, kept_share=None, sent_rows=None, accuracy=None, guarantee="")
    [*sentences] = plan_sentences(none)[0]
    assert "No rule was chosen" in sentences[0] and "expected accuracy" not in " ".join(sentences)
    people = plan_of(who="people", kept_share=0.0, target_accuracy=0.0, minutes_budget=300.0)
    change(people, minutes=291.0, price=0.0)
    text = " ".join(plan_sentences(people)[0])
    assert "For 300 minutes of people's time people code all of 4,096 rows." in text
    assert "People take 291 minutes for their part" in text and "paid" not in text
    assert "What people code counts as right." in text


def doubts_of(study):
    return methods_markdown(study).partition("## To be mended")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("coding", {"codebook_sha256": "ab" * 32}, "The coded spreadsheet was made with another"),
        ("plan", {"codebook_sha256": "ab" * 32}, "The plan was made with another codebook"),
        ("coding", {"coded_by": {"teacher": 2000, "model": 9}}, "has 2,000 rows coded by people"),
        ("plan", {"threshold": 0.5}, "with the threshold 0.6172, and the plan has 0.5"),
        ("coding", {"threshold": None}, "with the threshold –, and the plan has 0.6172"),
    ],
)
def test_a_coding_that_does_not_belong_to_the_rest_is_to_be_mended(coded, part, values, said):
    assert doubts_of(coded) == ""
    change(getattr(coded, part), **values)
    assert said in doubts_of(coded)


def test_a_plan_for_another_model_and_scores_that_changed_since_are_to_be_mended(coded):
    change(coded.plan.model, path="bert_2/final_model")
    assert "The plan is for the model bert_2/final_model, and bert/final_model" in doubts_of(coded)
    change(coded.plan.model, path="./bert/final_model")
    assert doubts_of(coded) == ""
    coded.runs.pop()
    assert "that coded.json names is not that of the run bert by now" in doubts_of(coded)


def test_what_is_left_of_a_coding_that_was_begun_is_named_and_of_none_nothing(coded):
    assert not {"coding", "check", "coder_quality"} & not_done(coded).keys()
    change(coded.coding, threshold=None, checked=None, quality=[])
    assert {"check", "coder_quality"} <= not_done(coded).keys()
    assert "No rule says which rows" in page_of(coded)
    change(coded, coding=None)
    assert "The spreadsheet was not coded by the plan" in page_of(coded)
    change(coded, plan=None)
    assert not {"coding", "check", "coder_quality"} & not_done(coded).keys()


def test_a_study_that_coded_nothing_has_no_word_of_it_on_its_page(tmp_path):
    results = write_coded_study(tmp_path)
    methods, page = run_report(tmp_path)
    for name, title in (("plan", "Who codes what"), ("coded", "The coded spreadsheet")):
        assert f'<a href="#{name}">{title}</a>' in page
        shutil.rmtree(results / name)
    without = run_report(tmp_path)
    for text in without:
        assert "plan_coding.py" not in text and "code_comments.py" not in text
    assert "Coding of the spreadsheet" not in without[0] and 'id="coded"' not in without[1]


def test_the_workbook_and_the_codes_are_linked_where_they_are(tmp_path):
    results = write_coded_study(tmp_path)
    _, page = run_report(tmp_path)
    links = re.findall(r'<a href="([^#"]+)">', page)
    assert links == ["coded/comments%201%20%3Cb%3E_coded.xlsx", "coded/codes.csv"]
    assert all((results / unquote(link)).is_file() for link in links)
    (results / "coded/codes.csv").unlink()
    _, page = run_report(tmp_path)
    assert "coded/codes.csv (not found)" in page
    assert link_to(tmp_path / "none.csv", results) == ""
    (tmp_path / "javascript:x").touch()
    assert link_to("javascript:x", tmp_path) == "javascript%3Ax"


def test_an_older_record_is_refused_with_the_script_that_makes_it_anew(tmp_path):
    results = write_coded_study(tmp_path)
    coded = {key: value for key, value in CODING.items() if key != "class_counts"}
    write_json(coded, results / "coded/coded.json")
    with pytest.raises(UserError, match="lacks 'class_counts': run code_comments.py again"):
        run_report(tmp_path)
