"""The reader of runs: their order, their titles, and what it refuses."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import bert_inference_compare
from pipeline.common.cli import UserError
from pipeline.evaluation.comparison import summary_row
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.run import score_run
from pipeline.evaluation.runs import on_same_rows, read_runs, run_of

NAMES = ("Positive", "Mild", "Negative", "Irrelevant")
METRICS = {
    "test_file": "test.csv",
    "method": "scored",
    "settings": {},
    "class_names": list(NAMES),
    "total": 2,
    "valid": 2,
    "valid_rate": 1.0,
    "accuracy": 0.5,
    "accuracy_all_rows": 0.5,
    "confusion_matrix": [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0] * 5, [0] * 5],
}
PREDICTIONS = (
    "custom_id,message,class,predicted,reply,confidence\n"
    "row-2,NA,0,0,,0.9\nrow-3,评论,1,0,,\nrow-4,new,-1,-1,I cannot say,\n"
)


def write(name, family, model, stage, **more):
    """Write a run's metrics.json and predictions.csv; None leaves a key out."""
    folder = Path("results", name)
    folder.mkdir(parents=True)
    metrics = METRICS | {"family": family, "model": model, "stage": stage} | more
    metrics = {key: value for key, value in metrics.items() if value is not None}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "predictions.csv").write_text(PREDICTIONS, encoding="utf-8")


def test_causal_lms_come_first_a_model_s_runs_together_and_before_first():
    for name, *run in (
        ("1", "bert", "b", "after"),
        ("2", "llm", "z", "after"),
        ("3", "llm", "a", "after"),
        ("4", "llm", "z", "before"),
        ("5", "bert", "b", "before"),
    ):
        write(name, *run)
    write("6", "llm", "z", "before", accuracy=None, total=None)
    assert [run.name for run in read_runs("results")] == ["3", "4", "6", "2", "5", "1"]
    assert [run.name for run in read_runs("results") if not run.scored] == ["6"]


def test_each_run_has_a_title_of_its_own():
    write("b-after", "bert", "b", "after")
    write("b-again", "bert", "b", "after")
    write("b-human", "bert", "b", "after", label_source="human coders")
    write("b-other", "bert", "b", "after", label_source="human coders")
    write("c-after", "bert", "c", "after", label_source="silver labels and human coders")
    write("a-new", "bert", "b", "after", accuracy=None)
    assert [run.title for run in read_runs("results")] == [
        "b after fine-tuning (a-new)",
        "b after fine-tuning",
        "b after fine-tuning (b-again)",
        "b after fine-tuning (human coders)",
        "b after fine-tuning (human coders, b-other)",
        "c after fine-tuning",
    ]


def test_what_an_older_run_lacks_is_none_and_its_labels_are_silver():
    write("old", "llm", "m", "after", measured_against="the labels in test.csv")
    [run] = read_runs("results")
    assert (run.label_source, run.weighted) == ("silver labels", False)
    assert run.measured_against == "agreement with silver labels (test.csv)"
    assert run.metrics["macro_f1_ci95"] is None and run.metrics["ece"] is None


def test_runs_are_on_the_same_rows_where_they_say_so():
    write("a", "llm", "m", "before", scored_rows_sha256="0")
    write("b", "llm", "m", "after", scored_rows_sha256="0")
    write("c", "llm", "n", "before")
    write("d", "llm", "n", "after")
    groups = on_same_rows(read_runs("results"))
    assert [[run.name for run in group] for group in groups] == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": None}, "results/x/metrics.json lacks method: run its evaluation step again"),
        ({"total": None}, "results/x/metrics.json lacks total: run its evaluation step again"),
        (
            {"stage": "during"},
            "results/x/metrics.json: family 'llm' and stage 'during' are those of no step: run its "
            "evaluation step again",
        ),
    ],
)
def test_metrics_of_no_step_are_refused(change, message):
    write("x", **({"family": "llm", "model": "m", "stage": "after"} | change))
    with pytest.raises(UserError) as error:
        read_runs("results")
    assert str(error.value) == message


def test_predictions_are_read_as_they_stand_with_those_that_are_not_scored():
    write("x", "llm", "m", "before")
    [run] = read_runs("results")
    predictions = read_predictions(run)
    table, texts = predictions.frame, predictions.texts([0, 1, 2])
    assert table.index.is_unique and texts["custom_id"].tolist() == ["row-2", "row-3", "row-4"]
    assert texts["message"].tolist() == ["NA", "评论", "new"]
    assert table[["class", "predicted"]].to_numpy().tolist() == [[0, 0], [1, 0], [-1, -1]]
    assert table["confidence"].isna().tolist() == [False, True, True]
    assert table["weight"].tolist() == [1.0] * 3
    assert predictions.texts([2])["reply"].tolist() == ["I cannot say"]


def test_two_berts_are_compared_as_all_models_are(codebook):
    rows = pd.DataFrame({"custom_id": ["r1", "r2", "r3"], "message": "评论", "class": [0, 1, 1]})
    rows = rows.assign(coded_by="human", weight=[4.0, 1.0, 1.0])
    record = {"family": "bert", "model": "b", "model_path": "./b", "test_file": "test.csv"}
    record |= {"method": "a probe", "settings": {}, "rows_per_second": 1.0}
    answers = {"before": [0, 0, 0], "after": [1, 1, 1]}
    predictions = {
        stage: pd.DataFrame({"predicted": predicted, "form": "most probable class"})
        for stage, predicted in answers.items()
    }
    metrics = {
        stage: score_run(rows, table, codebook, record | {"stage": stage}, seed=0)
        for stage, table in predictions.items()
    }
    found = bert_inference_compare.compare(rows, predictions, metrics, seed=0)
    assert list(found) == ["runs", "pairs", "before", "after"]
    assert found["runs"][1] == summary_row(run_of(Path("after"), metrics["after"]))
    [pair] = found["pairs"]
    assert (pair["only_first_right"], pair["only_second_right"]) == (1, 2)
    assert pair["difference"] == pytest.approx(1 / 3)
    assert pair["difference_weighted"] == pytest.approx(-1 / 3)
    text = bert_inference_compare.both_as_text(found)
    assert "Measured against: accuracy against human coders (test.csv)\n" in text
    assert "accuracy, after minus before   +0.3333  [" in text
    assert "the difference, weighted       -0.3333  [" in text


def test_a_comparison_of_two_berts_on_labels_of_both_kinds_has_those_of_people_apart(codebook):
    rows = pd.DataFrame({"custom_id": ["r1", "r2", "r3"], "message": "评论", "class": [0, 1, 1]})
    rows["coded_by"] = ["human", "human", ""]
    record = {"family": "bert", "model": "b", "model_path": "./b", "test_file": "test.csv"}
    record |= {"method": "a probe", "settings": {}, "rows_per_second": 1.0}
    outcomes = {}
    for stage, predicted in (("before", [0, 0, 0]), ("after", [0, 1, 1])):
        table = pd.DataFrame({"predicted": predicted, "form": "most probable class"})
        outcomes[stage] = table, record | {"stage": stage}
    bert_inference_compare.save_comparison(Path("x"), rows, *outcomes.values(), codebook, seed=0)
    text = Path("x/comparison.txt").read_text(encoding="utf-8")
    measured = "agreement with the labels of 2 human, 1 silver rows (test.csv)"
    assert f"Measured against: {measured}\n" in text
    for stage, accuracy in (("Before", "0.5000"), ("After", "1.0000")):
        assert re.search(
            rf"^{stage} fine-tuning: accuracy on the 2 rows that people coded, .*: {accuracy}  \[",
            text,
            re.MULTILINE,
        )
    table = pd.read_csv("x/predictions.csv", keep_default_na=False)
    assert table["coded_by"].tolist() == ["human", "human", ""]


def test_a_comparison_of_two_berts_says_which_of_them_gives_one_answer_only(codebook):
    classes = [0] * 10 + [1] * 30
    rows = pd.DataFrame({"custom_id": [f"r{n}" for n in range(40)], "message": "评论"})
    rows = rows.assign(**{"class": classes})
    record = {"family": "bert", "model": "b", "model_path": "./b", "test_file": "test.csv"}
    record |= {"method": "a probe", "settings": {}, "rows_per_second": 1.0}
    outcomes = {}
    for stage, predicted in (("before", classes), ("after", [1] * 40)):
        table = pd.DataFrame({"predicted": predicted, "form": "most probable class"})
        outcomes[stage] = table, record | {"stage": stage}
    bert_inference_compare.save_comparison(Path("x"), rows, *outcomes.values(), codebook, seed=0)
    text = Path("x/comparison.txt").read_text(encoding="utf-8")
    assert text.count("WARNING") == 1
    assert (
        'After fine-tuning (!)\nWARNING: All 40 answers are "Mild", which is the class of 30'
        in text
    )


@pytest.mark.parametrize(("source", "human"), [("human coders", True), (None, False)])
def test_predictions_of_an_older_run_are_people_s_where_all_its_labels_are(source, human):
    write("x", "llm", "m", "after", label_source=source)
    assert set(read_predictions(read_runs("results")[0]).frame["human"]) == {human}
