"""Step 14: the methods paragraph and the page's data, without a browser."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_fixture
from coded_fixture import PLAN
from report_fixture import (
    HOSTILE,
    HUMAN_CHECK,
    arguments,
    study_in_memory,
    write_study,
)

import write_report
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.files import write_json
from pipeline.common.records import to_record
from pipeline.evaluation.metrics import compute_metrics
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.run_text import class_scores, report_table
from pipeline.evaluation.runs import read_runs
from pipeline.planning.plan import Plan
from pipeline.report import page_rows
from pipeline.report.methods import methods_markdown
from pipeline.report.page import embedded, prediction_data, render_page
from pipeline.report.references import REFERENCES
from pipeline.report.study import Study, not_done
from pipeline.report.words import as_text, fill


def run_report(folder):
    """Run the script on a study; return methods.md and report.html."""
    write_report.main(arguments(folder))
    results = folder / "results"
    return tuple((results / name).read_text("utf-8") for name in ("methods.md", "report.html"))


def give_one_answer(results, run):
    """Let a run predict class 1 alone; return the beginning of the warning that it gets."""
    file = results / run / "metrics.json"
    metrics = json.loads(file.read_bytes())
    matrix = [[0, sum(row), 0, 0, 0] for row in metrics["confusion_matrix"]]
    true = report_fixture.np.repeat(range(4), [sum(row) for row in matrix])
    write_json(metrics | compute_metrics(true, 0 * true + 1, 4, 0), file)
    predictions = results / run / "predictions.csv"
    table = report_fixture.pd.read_csv(predictions, dtype=str, keep_default_na=False)
    report_fixture.write_csv(table.assign(predicted="1"), predictions)
    return f'All 260 answers are "Mild", which is the class of {matrix[1][1]} of these rows'


def test_a_model_that_gives_one_answer_is_marked_on_the_page_in_the_methods_and_in_print(
    tmp_path, capsys
):
    warning = give_one_answer(write_study(tmp_path), "bert-after")
    capsys.readouterr()
    methods, page = run_report(tmp_path)
    assert f"(!) bert_base after fine-tuning\nWARNING: {warning}" in capsys.readouterr().out
    assert f"with a valid answer. (!) {warning}" in methods
    assert methods.count("(!)") == 1
    escaped = warning.replace('"', "&#34;")
    summary, _, models = page.partition('<section id="figure1">')
    assert f"<strong>(!) bert_base after fine-tuning</strong>: {escaped}" in summary
    assert summary.count("<strong>(!)</strong>") == 1
    assert "--num-train-epochs" in summary
    assert f'<h3>bert_base after fine-tuning (!)</h3>\n<div class="doubts"><p>{escaped}' in models


def test_a_warning_before_fine_tuning_heads_the_page_only_until_the_model_is_tuned(tmp_path):
    results = write_study(tmp_path)
    give_one_answer(results, "bert-before")
    _, page = run_report(tmp_path)
    summary, _, models = page.partition('<section id="figure1">')
    assert summary.count("<strong>(!)</strong>") == 1
    assert "(!) bert_base before fine-tuning</strong>" not in summary
    assert "<h3>bert_base before fine-tuning (!)</h3>" in models
    for run in ("bert-after", "bert-human"):
        shutil.rmtree(results / run)
    _, page = run_report(tmp_path)
    assert "(!) bert_base before fine-tuning</strong>" in page


@pytest.fixture
def study():
    """Return a study in memory: two runs, and the records of every step."""
    return study_in_memory()


def page_of(study):
    return render_page(study, {}, {}, "A study", 42)


def parts_of(record):
    """Return the parts of a dict, a list or a dataclass, to be read and changed in place."""
    return vars(record) if is_dataclass(record) else record


def change(record, **values):
    """Change parts of a dataclass, also of one that is frozen."""
    vars(record).update(values)


def figures(record, path=()):
    """Return the paths of the numbers in nested dicts, lists and dataclasses."""
    record = parts_of(record)
    if isinstance(record, dict | list):
        parts = record.items() if isinstance(record, dict) else enumerate(record)
        return [found for key, part in parts for found in figures(part, (*path, key))]
    return [path] if isinstance(record, int | float) and not isinstance(record, bool) else []


def unmoved(render, study, record):
    """Return the paths of the numbers that can change without a change in what is rendered."""
    before, still = render(study), set()
    for path in figures(record):
        *way, last = path
        holder = record
        for key in way:
            holder = parts_of(holder)[key]
        holder = parts_of(holder)
        value = holder[last]
        holder[last] = value + (1 if isinstance(value, int) or value > 1 else 0.02)
        if render(study) == before:
            still.add(path)
        holder[last] = value
    return {tuple("*" if isinstance(key, int) else key for key in path) for path in still}


@pytest.mark.parametrize("name", ["labels", "splits"])
def test_every_figure_of_a_record_stands_in_the_paragraph(study, name):
    assert unmoved(methods_markdown, study, getattr(study, name)) == set()


def test_every_figure_of_the_human_check_stands_in_the_paragraph_but_those_by_class(study):
    by_class = {("silver", "confusion_matrix", "*", "*"), ("silver", "classes", "*", "rows")}
    by_class |= {("silver", "classes", "*", "f1"), ("silver", "classes", "*", "f1_ci95", "*")}
    rest = {("sample", "strata", "*", "coded"), ("sample", "settings", "sample_size")}
    rest |= {("settings", key) for key in HUMAN_CHECK["settings"]}
    assert unmoved(methods_markdown, study, study.human_check) == by_class | rest


def test_every_figure_of_the_human_check_stands_on_the_page(study):
    del study.runs[1:]  # their tables take most of the time
    assert unmoved(page_of, study, study.human_check) == set()


def test_every_figure_of_the_audit_stands_on_the_page(study):
    del study.runs[1:]
    assert unmoved(page_of, study, study.audit) == set()


def test_every_figure_of_the_comparison_stands_on_the_page_or_in_a_picture(study):
    drawn = {("coverage", "*", "*", "rows"), ("coverage", "*", "*", "threshold")}
    drawn |= {("calibration", "*", "*", key) for key in ("confidence", "accuracy", "rows")}
    # Descriptions of pictures that are not there are not rendered.
    pictured = {("coverage", "*", "*", "coverage"), ("coverage", "*", "*", "accuracy")}
    still = unmoved(page_of, study, study.comparison)
    assert {
        tuple("*" if key in ("qwen-after", "bert-after") else key for key in p) for p in still
    } == (drawn | pictured)


@pytest.mark.parametrize(
    ("name", "unused"), [("qwen", set()), ("bert", {("validation", "accuracy")})]
)
def test_every_figure_of_a_training_stands_in_the_paragraph(study, name, unused):
    assert unmoved(methods_markdown, study, study.trainings[name]) == unused


def test_every_score_of_a_run_stands_in_the_paragraph(study):
    scores = {"total", "valid", "valid_rate", "ece"}
    scores |= {"accuracy_all_rows", "accuracy_all_rows_ci95", "macro_f1", "macro_f1_ci95"}
    scores |= {"cohen_kappa", "cohen_kappa_ci95"}
    metrics = study.runs[0].metrics
    metrics["ece"] = 0.0432
    assert not scores & {path[0] for path in unmoved(methods_markdown, study, metrics)}


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.8451, "%", "84.5%"),
        ([0.1, 0.25], "%", "[10.0%, 25.0%]"),
        (-0.0269, "points", "−2.7"),
        (0.4846, "points", "+48.5"),
        (1e-9, "p", "p < 0.001"),
        (0.04, "p", "p = 0.040"),
        (1, "row|rows", "1 row"),
        (0, "row|rows", "0 rows"),
        (51969, "row|rows", "51,969 rows"),
        (3e-5, "", "0.00003"),
        (2e-4, "", "0.0002"),
        (3.0, "", "3"),
        (14849, "", "14,849"),
        (2026, "d", "2026"),
        (-0.009, ".3f", "−0.009"),
        (None, "%", "–"),
        (True, "", "True"),
    ],
)
def test_a_figure_is_shown_as_a_paper_writes_it(value, form, text):
    assert as_text(value, form) == text


def test_a_sentence_without_its_figure_is_left_out():
    assert fill("{rows:row|rows} of {total:,}.", {"rows": 1, "total": 2000}) == "1 row of 2,000."
    assert fill("{rows:row|rows} of {total:,}.", {"rows": 1}) == ""
    assert fill("{rows:row|rows} of {total:,}.", {"rows": 1, "total": None}) == ""


def test_a_brace_in_a_name_is_text(study):
    change(study.human_check.coders[0], name="{x}")
    change(study.human_check.agreement.kappa[0], coders=["{x}", "{0}"])
    study.runs[0] = replace(study.runs[0], folder=Path("qwen-after"), model="{title}")
    text = methods_markdown(study)
    assert "{x} (498 rows, 5 blank)" in text and "of {x} and {0} is 0.771" in text
    assert "against {title} after fine-tuning" in text


def test_rows_without_a_label_of_people_s_are_pointed_out_in_the_paragraph_and_on_the_page(study):
    change(study.human_check, undecided=3, uncoded=1)
    assert "4 rows without such a label are left out" in methods_markdown(study)
    assert "4 rows without a final human label: left out" in page_of(study)
    change(study.human_check, undecided=0, uncoded=0)
    assert "left out, the others" not in methods_markdown(study)
    assert "without a final human label" not in page_of(study)


def test_records_of_labels_that_have_changed_since_are_to_be_mended(study):
    assert "To be mended" not in methods_markdown(study)
    study.labels["labelled"] -= 100
    text = methods_markdown(study)
    for name in ("The split", "The human check", "The label audit"):
        assert f"{name} is of " in text


def test_what_becomes_of_labels_and_rows_by_options_is_told(study):
    before = methods_markdown(study)
    assert "most frequent one" not in before and "exchanged" not in before
    study.labels["majority_vote"], study.splits["exchanged"] = True, 31
    text = methods_markdown(study)
    assert "Of several labels of a row the most frequent one was taken." in text
    assert "31 rows were then exchanged for others of the same class" in text


def test_only_classes_with_an_order_have_a_sentence_on_ordinal_alpha(study):
    nominal = "for nominal classes is 0.771 [0.724, 0.816], in the sample"
    ordinal = "For the classes as steps of a scale (ordinal) it is 0.793 [0.742, 0.839]."
    assert nominal in methods_markdown(study) and ordinal in methods_markdown(study)
    change(study.human_check.agreement, alpha_ordinal=None, alpha_ordinal_ci95=None)
    text = methods_markdown(study)
    assert nominal in text and "ordinal" not in text and "ordinal" not in page_of(study)


def test_only_references_that_are_cited_are_listed(study):
    cites = "(Angelopoulos et al., 2021; Bates et al., 2021; Korn & Graubard, 1998)"
    change(study, plan=to_record(PLAN | {"guarantee": cites}, Plan))
    text, references = methods_markdown(study).split("## References")
    cited = [key for key in REFERENCES if key in text]
    assert references.split("## Appendix")[0].count("\n- ") == len(cited) == len(REFERENCES) - 3
    for name in ("Guo", "Hu, E. J.", "Kish"):  # no ECE, no LoRA of 16 bits, no weights
        assert name not in references
    change(study, human_check=None)
    assert "Krippendorff" not in methods_markdown(study)


def test_an_adapter_on_an_unquantized_base_is_lora_and_not_qlora(study):
    study.trainings["qwen"]["settings"]["load_in_4bit"] = False
    text = methods_markdown(study)
    assert "LoRA (Hu et al., 2022), the base not quantized" in text and "QLoRA" not in text


def test_dates_are_told_as_one_as_two_or_as_unknown(study):
    assert "given between 2026-10-30 and 2026-11-02" in methods_markdown(study)
    study.labels["last_answer"] = "2026-10-30"
    assert "given on 2026-10-30" in methods_markdown(study)
    study.labels["first_answer"] = study.labels["last_answer"] = ""
    assert "The dates of the answers are not on record." in methods_markdown(study)


@pytest.mark.parametrize(
    ("teachers", "requested", "sentence"),
    [
        (["V3"], "V3", "given by V3, with"),
        (["V3.1"], "V3", "given by V3.1 (asked for as V3), with"),
        (["V3.1", "V3"], "V3", "given by V3.1 and V3 (asked for as V3), with"),
        (["V3"], "", "given by V3, with"),
        ([""], "", "given by a model that is not on record, with"),
    ],
)
def test_the_teacher_is_the_model_that_answered_and_what_was_asked_for_stands_beside_it(
    study, teachers, requested, sentence
):
    study.labels.update(teachers=teachers, requested_model=requested)
    assert f"The silver labels were {sentence}" in methods_markdown(study)
    assert f"Silver labels were {sentence.partition(', with')[0]}. These" in page_of(study)


def test_a_record_of_labels_that_is_older_has_no_sentence_on_rows_that_people_coded(study):
    for key in ("requested_model", "human_rows", "asked_coded_rows"):
        del study.labels[key]
    text = methods_markdown(study)
    assert "The data are 3,000 comments, of which 2,904 received a silver label." in text
    assert "The silver labels are Positive 380" in text
    assert "The silver labels were given by deepseek-ai/DeepSeek-V3, with" in text
    assert "People coded" not in text and "As a check" not in text


def test_rows_that_people_coded_are_not_called_silver(study):
    text = methods_markdown(study)
    assert (
        "The data are 3,000 comments. People coded 84 of them, and 2,820 of the others received a "
        "silver label."
    ) in text
    assert "The labels are Positive 380" in text and "silver labels are Positive" not in text
    assert (
        "As a check, the same was asked of 82 rows that people had coded: the answers have the "
        "class of people for 86.6% [77.5%, 92.4%] of them. Cohen's kappa (Cohen, 1960) of these is "
        "0.799."
    ) in text
    study.labels["asked_coded_rows"] = None
    assert "As a check" not in methods_markdown(study)
    study.labels["human_rows"] = study.labels["labelled"]
    assert "The silver labels were given" not in methods_markdown(study)


def test_the_training_says_how_many_of_its_rows_people_coded(study):
    assert "for training, people coded" not in methods_markdown(study)
    study.trainings["qwen"] |= {"num_rows": {"train": 2032}, "human_rows": {"train": 57}}
    assert "Of its 2,032 rows for training, people coded 57." in methods_markdown(study)


def mixed(run):
    """Return a run on rows of which people coded 20."""
    scores = {"human_rows": 20, "accuracy_human_rows": 0.8, "accuracy_human_rows_ci95": [0.6, 0.9]}
    return replace(
        run,
        label_source="silver labels and human coders",
        measured_against="agreement with the labels of 20 human, 80 silver rows (test.csv)",
        metrics=run.metrics | scores,
    )


def test_scores_on_labels_of_both_kinds_say_so_and_those_on_people_s_stand_apart(study):
    study.runs[:] = map(mixed, study.runs)
    text, page = methods_markdown(study), page_of(study)
    against = "agreement with the labels of 20 human, 80 silver rows (test.csv)"
    assert f"The scores are {against}." in text
    assert text.count(", on the 20 rows that people coded 80.0% [60.0%, 90.0%], macro F1") == 2
    assert f"What the scores are: {against}." in page
    assert "deepseek-ai/DeepSeek-V3 gave the silver ones." in page
    assert (
        "Accuracy on the rows that people coded: qwen after fine-tuning 80.0% [60.0%, 90.0%];"
    ) in page
    assert "human_scores" not in not_done(study)


def test_what_the_labels_of_people_tell_of_the_silver_ones_is_not_called_unknown(study):
    change(study, human_check=None)
    assert "is known only on the rows that people had coded" in not_done(study)["human_check"]
    study.labels["asked_coded_rows"] = None
    assert "own error is unknown" in not_done(study)["human_check"]


def test_one_row_is_a_row(study):
    study.labels.update(requests=2, labelled=1, reasons={"empty": 1}, asked_again=1)
    study.labels.update(corrected=1, strict=1)
    study.splits["shared_messages"] = 1
    text = methods_markdown(study)
    for sentence in (
        "No label was obtained for 1 row (50.0%)",
        "1 row was labelled more than once",
        "1 label was corrected by hand",
        "1 answer had exactly",
        "1 message stands in more than one split",
    ):
        assert sentence in text


def test_a_codebook_cannot_end_the_block_that_quotes_it(study):
    codebook = read_codebook("prompt.txt")
    text = codebook.text + "\n```\n# a heading\n````"
    object.__setattr__(study, "codebook", type(codebook)("prompt.txt", text, codebook.names))
    assert methods_markdown(study).endswith(f"\n`````\n{text}\n`````\n")


@pytest.mark.parametrize(
    ("files", "section", "sentence"),
    [
        ("silver_labels.json", None, "The silver labelling is not on record"),
        ("splits.json", None, "The splits are not on record (split_dataset.py)."),
        ("results/comparison.json", "comparison", "nor against baselines (compare_models.py)."),
        ("results/human_check/human_check.json", "human-check", "(human_sample.py, then human_"),
        ("results/audit/audit.json", "audit", "not searched for errors (label_audit.py)."),
        ("qlora/final_model/training.json", None, "The training of Qwen2.5-3B after fine-tuning"),
        ("results/qwen-*/metrics.json", None, "before fine-tuning (local_inference.py)."),
        ("results/qwen-*/metrics.json", None, "(finetune.py, then posttune_eval.py)."),
        ("results/bert-*/metrics.json", None, "before fine-tuning (bert_eval.py)."),
        ("results/bert-*/metrics.json", None, "(bert_tune.py, then bert_tune_eval.py)."),
        ("results/bert-human/metrics.json", "human-check", "No model was scored against human"),
    ],
)
def test_a_step_without_its_file_is_named_as_not_done(tmp_path, files, section, sentence):
    write_study(tmp_path)
    for path in tmp_path.glob(files):
        path.unlink()
    methods, page = run_report(tmp_path)
    assert sentence in methods.split("## Not done")[1].split("## References")[0]
    if section:
        page = re.search(rf'<section id="{section}">.*?</section>', page, re.DOTALL)[0]
    assert sentence in page


def test_of_a_whole_study_nothing_is_named_as_not_done(tmp_path):
    write_study(tmp_path)
    methods, page = run_report(tmp_path)
    assert "## Not done\n\nEvery step left its record.\n" in methods
    assert "Not done. " not in page


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.labels.update(asked_again=0, self_agreement=0), "agrees with itself"),
        (lambda s: s.labels.update(corrected=0), "No silver labels were corrected by hand"),
        (lambda s: change(s.human_check, agreement=None), "Agreement between coders was not"),
        (lambda s: change(s.human_check, adjudicated=0), "were not adjudicated"),
        (lambda s: s.comparison.update(pairs=[]), "No two models could be tested"),
        (lambda s: s.comparison.update(keywords={}), "No keyword baseline was computed"),
    ],
)
def test_a_part_of_a_step_that_was_not_done_is_named(study, change, sentence):
    assert not any(sentence in text for text in not_done(study).values())
    change(study)
    assert sentence in methods_markdown(study).split("## Not done")[1]
    page_of(study)


def test_without_any_human_label_the_scores_are_called_agreement_only(study):
    change(study, human_check=None)
    assert "all scores are agreement with silver labels only" in not_done(study)["human_check"]
    study.runs[0] = replace(study.runs[0], label_source="human coders")
    assert "agreement with silver labels only" not in not_done(study)["human_check"]


def test_one_old_run_alone_makes_a_page(tmp_path):
    results = write_study(tmp_path)
    old = json.loads((results / "qwen-after/metrics.json").read_text("utf-8"))
    for key in (
        *("label_source", "weighted", "ece", "versions", "device", "dtype", "seconds", "shortened"),
        *("rows_per_second", "scored_rows_sha256", "codebook_sha256", "adapter_path"),
        *("macro_f1_ci95", "majority_class", "majority_baseline", "accuracy_ci95"),
    ):
        old.pop(key)
    old["measured_against"] = "the labels in test.csv"
    write_json(old, Path("alone/results/old/metrics.json"))
    methods, page = run_report(Path("alone"))
    assert "agreement with silver labels (silver labels.csv)" in methods
    assert "No predictions.csv was found" in page and "Not drawn: run compare_models.py" in page
    assert as_text(old["accuracy_all_rows"], "%") in methods


def test_records_without_any_figure_make_a_page(study):
    for name in ("labels", "splits", "audit", "comparison"):
        record = getattr(study, name)
        record.clear()
        record["settings"] = {}
    page_of(study)
    assert "{" not in methods_markdown(study)


def test_a_folder_without_a_scored_run_is_refused(tmp_path):
    results = write_study(tmp_path)
    for path in results.glob("*-*/metrics.json"):
        path.unlink()
    with pytest.raises(UserError, match=r"holds no scored run .* or bert_tune_eval.py first"):
        run_report(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["a", "b"]}, "has the classes a, b, and ./prompt.txt has Positive, Mild"),
        ({"total": None}, "lacks total: run its evaluation step again"),
    ],
)
def test_metrics_that_the_page_cannot_show_are_refused(tmp_path, change, message):
    path = write_study(tmp_path) / "qwen-after/metrics.json"
    metrics = json.loads(path.read_text("utf-8")) | change
    write_json({key: value for key, value in metrics.items() if value is not None}, path)
    with pytest.raises(UserError, match=re.escape(message)):
        run_report(tmp_path)


@pytest.mark.parametrize(
    ("part", "missing"), [("shares", "shares"), ("silver/f1_ci95", "f1_ci95"), ("sample", "sample")]
)
def test_a_human_check_of_an_older_form_is_refused_with_the_cure(tmp_path, part, missing):
    path = write_study(tmp_path) / "human_check/human_check.json"
    record = json.loads(path.read_text("utf-8"))
    holder = record["silver"]["classes"][2] if "/" in part else record
    del holder[missing]
    write_json(record, path)
    with pytest.raises(UserError, match=f"human_check.json lacks '{missing}': run human_check.py"):
        run_report(tmp_path)


def test_a_prediction_that_is_no_class_is_refused(tmp_path):
    path = write_study(tmp_path) / "bert-after/predictions.csv"
    text = path.read_text("utf-8")
    path.write_text(re.sub(r'"[0-3]","","0', '"9","","0', text, count=1), encoding="utf-8")
    with pytest.raises(UserError, match="predicted '9' is none .* run bert_tune_eval.py again"):
        run_report(tmp_path)


def test_what_does_not_belong_together_is_said_first(tmp_path, capsys):
    results = write_study(tmp_path)
    for name, change in (
        ("audit/audit.json", {"codebook_sha256": "0" * 64}),
        ("comparison.json", {"runs": [{"run": "qwen-after", "accuracy_all_rows": 0.1}]}),
    ):
        record = json.loads((results / name).read_text("utf-8"))
        write_json(record | change, results / name)
    methods, page = run_report(tmp_path)
    for sentence in (
        "The label audit was made with another codebook (000000000000) than",
        "comparison.json is of other scores: run compare_models.py again.",
    ):
        assert sentence in methods.partition("## Data")[0]
        assert sentence in page.partition('<section id="figure1">')[0]
        assert f"to be mended: {sentence}" in capsys.readouterr().out or sentence in methods


def test_a_comment_cannot_leave_the_data_that_holds_it():
    texts = [*HOSTILE, "a\u2028b\u2029c", '"\\', "]]>", "<!--<script>", "\U0001f600"]
    text = str(embedded({"rows": texts}))
    assert json.loads(text) == {"rows": texts}
    assert not set("<>&\u2028\u2029") & set(text)


def test_a_number_that_json_does_not_have_is_not_embedded():
    with pytest.raises(ValueError):
        embedded([float("nan")])


class Elements(HTMLParser):
    """Collects the start tags of a page, each with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_nothing_of_a_comment_becomes_an_element_and_nothing_is_fetched(tmp_path):
    write_study(tmp_path)
    _, page = run_report(tmp_path)
    elements = Elements(page).found
    assert [tag for tag, _ in elements].count("script") == 2
    assert [attributes["alt"] != "" for tag, attributes in elements if tag == "img"] == [True] * 3
    for _, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in {"src", "href", "action", "srcset", "data"} & set(attributes):
            assert attributes[name].startswith(("data:", "#"))
    assert "@import" not in page and "url(" not in page
    for text in HOSTILE:
        assert text not in page


def test_the_policy_names_the_one_script_by_its_hash(tmp_path):
    write_study(tmp_path)
    _, page = run_report(tmp_path)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Elements(page).found if "http-equiv" in a)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def frame_of(predictions):
    """Return the table of some predictions with their texts, by custom_id."""
    texts = predictions.texts(range(len(predictions)))
    columns = predictions.frame.reset_index(drop=True)
    return report_fixture.pd.concat([texts, columns], axis=1).set_index("custom_id")


def test_the_runs_share_their_rows(tmp_path):
    results = write_study(tmp_path)
    codebook = read_codebook("prompt.txt")
    runs = [run for run in read_runs(results) if run.scored]
    found = {run.name: read_predictions(run) for run in runs}
    frames = {name: frame_of(predictions) for name, predictions in found.items()}
    empty = Study(codebook, runs, [], {}, {}, None, {}, {}, {})
    data = prediction_data(empty, page_rows.rows_on_page(runs, found, seed=1))
    assert not data["sampled"] and not data["sample"] and not data["lengths"]
    assert len(data["rows"]) < report_fixture.NUM_ROWS + 60  # four runs on the same, one on some
    assert len({tuple(row) for row in data["rows"]}) == len(data["rows"])
    for run in data["runs"]:
        frame = frames[run["run"]]
        places = [place for place, value in enumerate(run["predicted"]) if value is not None]
        assert len(places) == len(frame)
        for place in places:
            custom_id, message, label = data["rows"][place]
            row = frame.loc[custom_id]
            assert (row["message"], row["class"]) == (message, label)
            assert row["predicted"] == run["predicted"][place]
            if run["confidence"][place] is not None:
                assert run["confidence"][place] == round(row["confidence"] * 10_000)
            assert run["replies"].get(place, "") == (row["reply"] if row["predicted"] < 0 else "")
    assert set(data["runs"][0]["confidence"]) == {None} and data["runs"][0]["replies"]
    assert data["best"] == max(runs, key=lambda run: run.metrics["accuracy_all_rows"]).name


def give_rows(results, runs, total):
    """Let runs have predicted `total` rows, of which some are wrong; two runs differ on some."""
    np, pd = report_fixture.np, report_fixture.pd
    places = np.arange(total)
    true = places % 4
    for n, run in enumerate(runs):
        wrong = places % (50 + n) == 0
        predicted = np.where(wrong, (true + 1 + places // 60 % 3) % 4, true)
        confidence = (0.3 + 0.7 * (places * 7919 % total) / total).round(6)
        table = {
            "custom_id": [f"row-{k + 2}" for k in places],
            "message": [f"评论 {k}" for k in places],
        }
        table |= {"class": true, "predicted": predicted, "reply": "", "confidence": confidence}
        report_fixture.write_csv(pd.DataFrame(table), results / run / "predictions.csv")
        file = results / run / "metrics.json"
        metrics = json.loads(file.read_bytes()) | compute_metrics(true, predicted, 4, 0)
        write_json(metrics, file)


def test_too_many_rows_are_shown_in_part_and_the_page_says_which(tmp_path, monkeypatch):
    results = write_study(tmp_path)
    runs = ("qwen-after", "bert-after")
    give_rows(results, runs, 3000)
    for run in ("qwen-before", "bert-before"):
        shutil.rmtree(results / run)
    monkeypatch.setattr(page_rows, "MOST_ROWS", 500)
    _, page = run_report(tmp_path)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert len(data["rows"]) == 500 and data["sampled"]
    read = [run for run in read_runs(results) if run.scored]
    found = {run.name: read_predictions(run) for run in read}
    shown = page_rows.rows_on_page(read, found, seed=42)
    assert "This page shows 500 of 3,060 rows." in page
    for run in runs:
        assert f"{(results / run / 'predictions.csv').as_posix()}" in page
    assert [reason.key for reason in shown.reasons] == [
        "people",
        "differ",
        "wrong",
        "unsure",
        "random",
    ]
    people, differ, wrong, unsure, sample = shown.reasons
    assert (people.shown, people.rows) == (60, 60)  # as few rows as there are
    assert differ.shown == wrong.shown == unsure.shown == 100
    assert f"100 of {differ.rows:,} rows on which models differ" in page
    assert f"{sample.shown} rows drawn at random from all (seed 42)" in page
    assert sample.rows == 3060 and len(shown.sample) == sample.shown
    by_run = {run["run"]: run for run in data["runs"]}
    least = sorted(frame_of(found["bert-after"])["confidence"])[:50]
    shares = [value for value in by_run["bert-after"]["confidence"] if value is not None]
    assert {round(10_000 * value) for value in least} <= set(shares)
    for run in runs:  # counts of all rows, whatever is shown
        matrix = json.loads((results / run / "metrics.json").read_bytes())["confusion_matrix"]
        counts = [row[1:] for row in by_run[run]["counts"][1:]]
        assert counts == [row[:4] for row in matrix]


def test_the_sample_on_the_page_is_drawn_from_all_rows_alike_and_by_the_seed(tmp_path, monkeypatch):
    results = write_study(tmp_path)
    give_rows(results, ["bert-after"], 4000)
    monkeypatch.setattr(page_rows, "MOST_ROWS", 1000)
    [run] = [run for run in read_runs(results) if run.name == "bert-after"]
    found = {run.name: read_predictions(run)}
    first, again, other = (page_rows.rows_on_page([run], found, seed) for seed in (1, 1, 2))
    assert first == again != other
    drawn = [first.rows[place] for place in first.sample]
    assert abs(sum(label == 0 for _, _, label in drawn) / len(drawn) - 0.25) < 0.06
    wrong = [
        row
        for row, guess in zip(first.rows, first.runs[0]["predicted"], strict=True)
        if row[2] != guess
    ]
    assert len(wrong) == 80  # all that there are, four times their share
    kinds = {
        (row[2], guess) for row, guess in zip(first.rows, first.runs[0]["predicted"], strict=True)
    }
    assert len(kinds) == 4 + 6  # right of each class, wrong of two


def test_long_comments_are_cut_and_the_page_has_as_many_rows_as_fit(tmp_path, monkeypatch):
    results = write_study(tmp_path)
    path = results / "bert-after/predictions.csv"
    table = report_fixture.pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[5:, "message"] = "<" * 100_000
    report_fixture.write_csv(table, path)
    monkeypatch.setattr(page_rows, "MOST_BYTES", 1_000_000)
    _, page = run_report(tmp_path)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert len(page) < 1_300_000 and data["sampled"]
    lengths = {int(place): length for place, length in data["lengths"].items()}
    cut = [place for place, row in enumerate(data["rows"]) if row[1].startswith("<<")]
    assert sorted(lengths) == cut and set(lengths.values()) == {100_000}
    assert {len(data["rows"][place][1]) for place in cut} == {10_000}
    assert f"{len(cut)} comments are longer than 10,000 letters" in page


def test_a_long_comment_among_the_examples_is_cut_with_its_length(study):
    study.comparison["errors"]["qwen-after"][0]["examples"][0]["message"] = "好" * 100_000
    study.audit["top"][0]["message"] = "\u202e" + "z" * 5000
    page = page_of(study)
    assert f"{'好' * 1000}… [100,000 letters in all]</span>" in page and "好" * 1001 not in page
    assert "… [5,001 letters in all]</td>" in page


def test_half_a_letter_in_a_record_is_shown_as_unknown(study):
    study.comparison["errors"]["qwen-after"][0]["examples"][0]["message"] = "a\ud800b"
    page_of(study).encode()
    assert "a\ufffdb" in page_of(study)


def test_predictions_with_half_a_letter_are_refused_with_the_cure(tmp_path):
    path = write_study(tmp_path) / "bert-after/predictions.csv"
    text = path.read_bytes()
    at = text.index(b"row-2")
    path.write_bytes(text[:at] + b"\xed\xa0\x80" + text[at:])
    with pytest.raises(UserError, match="predictions.csv is not UTF-8 .byte .*: save it as"):
        run_report(tmp_path)


def test_the_table_by_class_is_the_report_s():
    names = ["Positive", "Mild", "Negative", "Irrelevant"]
    matrix = [[30, 17, 0, 0, 29], [46, 84, 0, 0, 116], [16, 17, 0, 0, 23], [4, 97, 0, 0, 102]]
    expected = [line.split() for line in report_table(matrix, names).splitlines()[1:] if line]
    rows = [
        [*name.split(), *(f"{value:.2f}" for value in scores if value is not None), str(count)]
        for name, *scores, count in class_scores(matrix, names)
    ]
    assert rows == [[word for word in line if word != "avg"] for line in expected]
    assert class_scores([[0, 0, 5], [0, 0, 2]], ["a", "b"]) == []


def test_the_text_of_either_scheme_stands_out_from_its_ground():
    style = (Path(write_report.__file__).parent / "pipeline/report/page.css").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--(paper|ink|muted|soft|accent): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    )
    for colours in (light, dark):
        for ground in ("paper", "soft"):
            for text in ("ink", "muted", "accent"):
                assert contrast(colours[text], colours[ground]) >= 4.5


def contrast(first, second):
    """Return the contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
