"""Step 12: the summary of all models, its tables and its figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import compare_models
from pipeline.common.cli import UserError
from pipeline.evaluation.calibration import expected_calibration_error
from pipeline.evaluation.metrics import compute_metrics

NAMES = ("Positive", "Mild", "Negative", "Irrelevant")
COUNTS = ["rows", "only_first_right", "only_second_right"]

LISTS = ("runs", "pairs", "baselines")
KEYS = {
    "all": "runs pairs coverage by_hand calibration errors baselines keywords",
    "runs": "run model stage family label_source measured_against weighted total valid_rate "
    "accuracy accuracy_ci95 "
    "accuracy_all_rows accuracy_all_rows_ci95 macro_f1 macro_f1_ci95 cohen_kappa "
    "cohen_kappa_ci95 rows_per_second",
    "pairs": "first second rows only_first_right only_second_right difference difference_ci95 "
    "p_value p_holm",
    "baselines": "name method rows accuracy accuracy_ci95 macro_f1 macro_f1_ci95 runs",
}


def write_run(
    name, model, stage, family, hits, total=100, confidence=None, names=NAMES, invalid=0, **more
):
    """Write a run of `total` rows of classes 0, 1, 0, 1, ...: the first `hits` right, then errors.

    The last `invalid` rows have no valid answer.
    """
    true = np.arange(total) % 2
    predicted = np.where(np.arange(total) < hits, true, 1 - true)
    predicted[total - invalid :] = -1
    metrics = {"model": model, "stage": stage, "family": family, "test_file": "test.csv"}
    metrics |= {"method": "scored", "settings": {}}
    metrics |= {"scored_rows_sha256": str(total), "class_names": list(names)}
    metrics |= {"rows_per_second": 1.0} | compute_metrics(true, predicted, len(names), seed=0)
    columns = {"custom_id": [f"row-{n + 2}" for n in range(total)]}
    columns |= {"message": [f"评论 {n}" for n in range(total)], "class": true}
    columns |= {"predicted": predicted, "reply": "", "confidence": ""}
    if confidence is not None:
        columns["confidence"] = confidence
        metrics["ece"] = expected_calibration_error(np.array(confidence), true == predicted)
    Path("results", name).mkdir(parents=True)
    pd.DataFrame(columns).to_csv(f"results/{name}/predictions.csv", index=False)
    Path("results", name, "metrics.json").write_text(json.dumps(metrics | more), encoding="utf-8")


def comparison():
    return json.loads(Path("results/comparison.json").read_bytes())


def test_the_summary_holds_each_model_before_and_after():
    write_run("b-after", "bert", "after", "bert", 82)
    write_run("q-after", "qwen", "after", "llm", 72)
    write_run("q-before", "qwen", "before", "llm", 37)
    write_run("b-before", "bert", "before", "bert", 73)
    Path("results/human_check").mkdir()  # a folder without metrics.json is no run
    compare_models.main([])
    table = pd.read_csv("results/summary.csv")
    assert table["run"].tolist() == ["q-before", "q-after", "b-before", "b-after"]
    assert table["accuracy"].tolist() == [0.37, 0.72, 0.73, 0.82]
    ends = table.loc[0, ["accuracy_all_rows_low", "accuracy_all_rows_high"]]
    assert ends.tolist() == pytest.approx([0.2818, 0.4678], abs=1e-4)  # Wilson, 37 of 100
    markdown = Path("results/summary.md").read_text(encoding="utf-8").splitlines()
    scores = "37.00% | 37.00% [28.18%, 46.78%] | 0.185 ["
    assert markdown[2].startswith(f"| qwen | before | 100 | 100.00% | {scores}")
    assert [line.split(" | ")[0] for line in markdown[2:6]] == ["| qwen"] * 2 + ["| bert"] * 2
    assert Path("results/figure1.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_of_a_model_at_the_same_stage_are_told_apart():
    write_run("b-before", "bert", "before", "bert", 73)
    write_run("b-chance", "bert", "before", "bert", 25)
    compare_models.main([])
    assert pd.read_csv("results/summary.csv")["model"].tolist() == ["bert", "bert (b-chance)"]


def test_comparison_json_has_the_keys_that_other_steps_read():
    confidence = np.linspace(0.99, 0.4, 100)
    write_run("q-before", "qwen", "before", "llm", 60, invalid=10)
    write_run("q-after", "qwen", "after", "llm", 80, confidence=confidence)
    compare_models.main([])
    found = comparison()
    for name, keys in KEYS.items():
        assert list(found[name][0] if name in LISTS else found) == keys.split(" ")
    assert found["runs"][0].keys() | {"ece"} == found["runs"][1].keys()
    assert found["runs"][0]["label_source"] == "silver labels"
    (pair,) = found["pairs"]
    assert [pair[key] for key in COUNTS] == [100, 0, 20]
    assert pair["difference"] == 0.2
    assert list(found["coverage"]) == list(found["by_hand"]) == ["q-after"]
    assert list(found["coverage"]["q-after"][0]) == ["coverage", "rows", "accuracy", "threshold"]
    shares = [point["coverage"] for point in found["coverage"]["q-after"]]
    assert shares == pytest.approx(np.arange(1, 21) / 20)
    assert found["coverage"]["q-after"][-1]["accuracy"] == 0.8
    assert found["by_hand"]["q-after"] == [
        {"accuracy": 0.8, "share": 0.0},
        {"accuracy": 0.85, "share": pytest.approx(0.06)},  # 80 of 94
        {"accuracy": 0.9, "share": pytest.approx(0.12)},  # 80 of 88
        {"accuracy": 0.95, "share": pytest.approx(0.16)},  # 80 of 84
        {"accuracy": 0.99, "share": pytest.approx(0.20)},
    ]
    bins = found["calibration"]["q-after"]
    assert list(bins[0]) == ["confidence", "accuracy", "rows", "share"]
    assert sum(one["rows"] for one in bins) == 100
    for name in ("calibration.png", "coverage.png"):
        assert Path("results", name).read_bytes().startswith(b"\x89PNG")


def test_errors_stand_by_class_name_the_most_frequent_first_with_the_most_confident_examples():
    names = ("积极", "温和", "消极", "无关")
    confidence = np.where(np.arange(100) < 60, 0.5, np.arange(100) / 100)
    write_run("q", "qwen", "after", "llm", 60, confidence=confidence, names=names, invalid=30)
    compare_models.main([])
    cells = comparison()["errors"]["q"]
    assert [(cell["true"], cell["predicted"], cell["rows"]) for cell in cells] == [
        (0, -1, 15),
        (1, -1, 15),
        (0, 1, 5),
        (1, 0, 5),
    ]
    assert cells[3]["examples"] == [
        {"custom_id": f"row-{n + 2}", "message": f"评论 {n}", "confidence": n / 100}
        for n in (69, 67, 65)
    ]
    table = pd.read_csv("results/errors.csv")
    columns = "run true predicted rows custom_id message confidence"
    assert table.columns.tolist() == columns.split()
    assert table["true"].tolist() == ["积极"] * 3 + ["温和"] * 3 + ["积极"] * 3 + ["温和"] * 3
    assert table["predicted"].tolist() == ["invalid"] * 6 + ["温和"] * 3 + ["积极"] * 3
    assert "Always 积极" in Path("results/summary.md").read_text(encoding="utf-8")


def test_runs_of_generated_text_have_no_curves_and_earlier_ones_go():
    write_run("q-before", "qwen", "before", "llm", 37)
    for name in ("calibration.png", "coverage.png"):
        Path("results", name).write_text("of an earlier comparison", encoding="utf-8")
    compare_models.main([])
    found = comparison()
    assert found["coverage"] == found["by_hand"] == found["calibration"] == {}
    assert found["pairs"] == []
    assert found["errors"]["q-before"][0]["examples"][0]["confidence"] is None
    assert not list(Path("results").glob("c*.png"))
    markdown = Path("results/summary.md").read_text(encoding="utf-8")
    assert "] |  | 1.0 |\n" in markdown
    assert "No confidence (generated text; --decoding score gives one): q-before." in markdown


def test_a_run_on_weighted_rows_is_shown_as_the_data_set_has_it():
    weights = np.where(np.arange(100) < 50, 9.0, 1.0)
    weighted = {"accuracy_weighted": 0.95, "accuracy_weighted_ci95": [0.9, 0.98], "weighted": True}
    human = {"label_source": "human coders", "measured_against": "accuracy against human coders"}
    write_run("b-human", "bert", "after", "bert", 50, **weighted, **human)
    path = Path("results/b-human/predictions.csv")
    pd.read_csv(path).assign(weight=weights).to_csv(path, index=False)
    compare_models.main([])
    found = comparison()
    [run] = found["runs"]
    assert (run["model"], run["accuracy"]) == ("bert (human coders)", 0.5)
    assert (run["accuracy_weighted"], run["accuracy_weighted_ci95"]) == (0.95, [0.9, 0.98])
    table = pd.read_csv("results/summary.csv")
    assert table[["accuracy", "accuracy_weighted"]].to_numpy().tolist() == [[0.5, 0.95]]
    markdown = Path("results/summary.md").read_text(encoding="utf-8")
    assert "| Accuracy (valid) | Accuracy (valid, weighted) |" in markdown
    assert "| 50.00% | 95.00% |" in markdown
    assert found["baselines"][0]["accuracy"] == pytest.approx(0.5)
    assert found["baselines"][0]["runs"] == ["b-human"]


def test_the_test_and_its_difference_count_rows_beside_a_weighted_difference():
    for name, hits in (("a", 50), ("b", 60)):
        write_run(name, name, "after", "bert", hits, weighted=True, label_source="human coders")
        path = Path(f"results/{name}/predictions.csv")
        weights = np.where(np.arange(100) < 50, 9.0, 1.0)
        pd.read_csv(path).assign(weight=weights).to_csv(path, index=False)
    compare_models.main([])
    [pair] = comparison()["pairs"]
    assert pair["difference"] == pytest.approx(0.1)
    assert pair["p_value"] == pytest.approx(2 * 0.5**10)
    assert pair["difference_weighted"] == pytest.approx(10 / 500)
    markdown = Path("results/summary.md").read_text(encoding="utf-8")
    assert "| a | b | 0 | 10 | +10.0 | " in markdown
    assert "| p | p (Holm) | Weighted difference | 95 % interval |" in markdown
    assert "| 0.002 | 0.002 | +2.0 | " in markdown


def test_each_group_of_runs_on_the_same_rows_has_baselines_of_its_own(write_rows):
    write_run("a", "a", "after", "llm", 60)
    write_run("b", "b", "after", "llm", 80)
    against = "accuracy against human coders (human_test.csv)"
    human = {"label_source": "human coders", "measured_against": against, "weighted": True}
    write_run("a-human", "a", "after", "llm", 10, total=20, **human)
    write_rows("train.csv", [(f"r{n}", ("男女平等", "天气很好")[n % 2], n % 2) for n in range(9)])
    compare_models.main(["--train-file", "train.csv"])
    found = comparison()["baselines"]
    assert [(one["name"], one["rows"], one["runs"]) for one in found] == [
        ("Always Positive", 100, ["a", "b"]),
        ("Keywords", 100, ["a", "b"]),
        ("Always Positive", 20, ["a-human"]),
        ("Keywords", 20, ["a-human"]),
    ]
    markdown = Path("results/summary.md").read_text(encoding="utf-8")
    for name in ("Always Positive", "Keywords"):
        assert f"| {name} (silver labels) | 100 |" in markdown
        assert f"| {name} (human coders) | 20 |" in markdown


def test_a_run_of_an_older_version_is_shown_without_what_it_lacks_and_is_not_paired():
    write_run("new", "a", "after", "llm", 60)
    write_run("old", "a", "before", "llm", 40)
    path = Path("results/old/metrics.json")
    old = json.loads(path.read_bytes())
    for key in ("scored_rows_sha256", "macro_f1_ci95", "accuracy_ci95", "rows_per_second"):
        del old[key]
    path.write_text(json.dumps(old), encoding="utf-8")
    compare_models.main([])
    assert comparison()["pairs"] == []
    table = pd.read_csv("results/summary.csv").set_index("run")
    assert table.loc["old", "accuracy"] == 0.4 and np.isnan(table.loc["old", "macro_f1_low"])
    line = Path("results/summary.md").read_text(encoding="utf-8").splitlines()[2]
    assert line.startswith("| a | before | 100 |") and line.endswith("|  |  |")


def test_runs_on_different_rows_are_pointed_out_and_not_paired(capsys):
    write_run("a-before", "a", "before", "llm", 37)
    write_run("b-before", "b", "before", "llm", 10, total=20)
    write_run("b-after", "b", "after", "llm", 15, total=20)
    compare_models.main([])
    assert "scored on different rows" in capsys.readouterr().out
    found = comparison()
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [("b-before", "b-after")]
    assert [one["rows"] for one in found["baselines"]] == [100, 20]


def test_predictions_are_joined_by_custom_id_whatever_their_order():
    write_run("a", "a", "after", "llm", 60)
    write_run("b", "b", "after", "llm", 80)
    compare_models.main([])
    first = comparison()["pairs"]
    assert [first[0][key] for key in COUNTS] == [100, 0, 20]
    table = pd.read_csv("results/b/predictions.csv")
    table[::-1].to_csv("results/b/predictions.csv", index=False)
    compare_models.main([])
    assert comparison()["pairs"] == first


def test_rows_without_a_class_are_left_out():
    write_run("a", "a", "after", "llm", 60)
    table = pd.read_csv("results/a/predictions.csv")
    more = table.head(5).assign(**{"class": -1, "custom_id": [f"new-{n}" for n in range(5)]})
    pd.concat([more, table]).to_csv("results/a/predictions.csv", index=False)
    compare_models.main([])
    assert comparison()["baselines"][0]["rows"] == 100


def test_a_run_without_predictions_is_told_in_one_line():
    write_run("q-after", "qwen", "after", "llm", 37)
    Path("results/q-after/predictions.csv").unlink()
    with pytest.raises(UserError) as error:
        compare_models.main([])
    assert str(error.value) == (
        "results/q-after/predictions.csv not found: run posttune_eval.py first"
    )
    assert not Path("results/summary.csv").exists()


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("predicted", "-1", " does not fit the metrics.json beside it"),
        ("predicted", "two", ", row 2: predicted 'two' is none of the classes"),
        ("class", "7", ", row 2: class '7' is none of the classes"),
        ("class", "-1", " does not fit the metrics.json beside it"),
        ("custom_id", "row-4", " does not fit the metrics.json beside it"),
        ("confidence", "high", ", row 2: confidence 'high' is no share from 0 to 1"),
    ],
)
def test_predictions_that_are_not_those_of_the_metrics_are_refused(column, cell, message):
    write_run("b", "bert", "after", "bert", 60)
    table = pd.read_csv("results/b/predictions.csv", dtype=str, keep_default_na=False)
    table.loc[0, column] = cell
    table.to_csv("results/b/predictions.csv", index=False)
    with pytest.raises(UserError) as error:
        compare_models.main([])
    expected = f"results/b/predictions.csv{message}: run bert_tune_eval.py again"
    assert str(error.value) == expected


@pytest.mark.parametrize("cell", ["", "nan", "many", "-1", "inf"])
def test_a_weight_that_is_no_number_above_0_is_refused(cell):
    write_run("b", "bert", "after", "bert", 60)
    table = pd.read_csv("results/b/predictions.csv", dtype=str, keep_default_na=False)
    table.assign(weight=["2", cell] + ["1"] * 98).to_csv("results/b/predictions.csv", index=False)
    with pytest.raises(UserError, match=f"predictions.csv, row 3: weight '{cell}' is no number"):
        compare_models.main([])


def test_two_runs_that_hold_different_ids_are_refused():
    write_run("a", "a", "after", "llm", 60)
    write_run("b", "b", "after", "llm", 80)
    table = pd.read_csv("results/b/predictions.csv", dtype=str)
    table["custom_id"] = "x" + table["custom_id"]
    table.to_csv("results/b/predictions.csv", index=False)
    with pytest.raises(UserError, match="of a and b hold different custom_ids"):
        compare_models.main([])


def test_a_folder_without_scored_runs_is_refused():
    Path("results/new").mkdir(parents=True)
    Path("results/new/metrics.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="results holds no scored run"):
        compare_models.main([])


def test_the_summary_says_which_labels_the_scores_are_against():
    write_run("old", "a", "before", "llm", 60, measured_against="the labels in test.csv")
    compare_models.main([])
    first = Path("results/summary.md").read_text(encoding="utf-8")
    assert "The scores are agreement with silver labels (test.csv).\n" in first
    assert "weighted" not in first
    against = "accuracy against human coders (human_test.csv)"
    human = {"label_source": "human coders", "measured_against": against, "weighted": True}
    write_run("new", "a", "after", "llm", 60, total=50, **human)
    compare_models.main([])
    markdown = Path("results/summary.md").read_text(encoding="utf-8")
    assert "The scores are agreement with silver labels (test.csv): old.\n" in markdown
    assert f"The scores are {against}: new.\n" in markdown
    assert "weighted to the data set" in markdown
    assert pd.read_csv("results/summary.csv")["label_source"].tolist() == [
        "silver labels",
        "human coders",
    ]


def test_rows_that_people_coded_beside_silver_ones_are_told_apart_in_every_table():
    against = "agreement with the labels of 20 human, 80 silver rows (test.csv)"
    mixed = {"label_source": "silver labels and human coders", "measured_against": against}
    mixed |= {"human_rows": 20, "accuracy_human_rows": 0.8}
    mixed |= {"accuracy_human_rows_ci95": [0.584, 0.9193]}
    confidence = np.linspace(0.99, 0.4, 100)
    write_run("a", "a", "after", "llm", 60, confidence=confidence, **mixed)
    path = Path("results/a/predictions.csv")
    coded_by = np.where(np.isin(np.arange(100), [60, 61, *range(18)]), "human", "")
    pd.read_csv(path).assign(coded_by=coded_by).to_csv(path, index=False)
    compare_models.main([])
    markdown = Path("results/summary.md").read_text(encoding="utf-8")
    assert f"The scores are {against}.\n" in markdown
    assert "| Accuracy (all rows) | Accuracy (human rows) |" in markdown
    assert " | 80.00% [58.40%, 91.93%] | " in markdown
    table = pd.read_csv("results/summary.csv")
    assert table[["human_rows", "accuracy_human_rows"]].to_numpy().tolist() == [[20, 0.8]]
    errors = pd.read_csv("results/errors.csv", keep_default_na=False).set_index("custom_id")
    human = errors.index[errors["coded_by"] == "human"].tolist()
    assert human == ["row-62", "row-63"] and set(errors["coded_by"]) == {"human", ""}
    examples = [one for cell in comparison()["errors"]["a"] for one in cell["examples"]]
    assert [one["custom_id"] for one in examples if "coded_by" in one] == human


@pytest.mark.parametrize("training_rows", [False, True])
def test_the_keyword_baseline_needs_training_rows(training_rows, write_rows, capsys):
    write_run("a", "a", "after", "llm", 60)
    if training_rows:
        rows = [(f"r{n}", ("男女平等", "天气很好")[n % 2], n % 2) for n in range(9)]
        write_rows("pre_process/evaluation/train.csv", rows)
    compare_models.main([])
    found = comparison()
    names = [one["name"] for one in found["baselines"]]
    missing = "no keyword baseline: ./pre_process/evaluation/train.csv not found"
    assert (missing in capsys.readouterr().out) == (not training_rows)
    assert names == ["Always Positive", "Keywords"][: 1 + training_rows]
    assert found["keywords"] == (
        {"Positive": ["男女平等"], "Mild": ["天气很好"], "Negative": [], "Irrelevant": []}
        if training_rows
        else {}
    )


def test_a_codebook_of_other_classes_leaves_the_keyword_baseline_out(write_rows, capsys):
    write_run("a", "a", "after", "llm", 60, names=("相关", "无关"))
    write_rows("train.csv", [(f"r{n}", "评论", n % 2) for n in range(9)])
    compare_models.main(["--train-file", "train.csv"])
    assert "./prompt.txt names other classes than the runs" in capsys.readouterr().out
    assert [one["name"] for one in comparison()["baselines"]] == ["Always 相关"]


def test_no_torch_is_imported():
    code = "import compare_models, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
