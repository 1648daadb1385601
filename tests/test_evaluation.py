"""The report of a run: the report's own tables to the character, and the figures below them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_tables import REPORT_TABLES
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, f1_score

from pipeline.common.cli import UserError
from pipeline.evaluation.folder import results_folder
from pipeline.evaluation.metrics import (
    cohen_kappa,
    compute_metrics,
    confusion,
    macro_f1,
    wilson_interval,
)
from pipeline.evaluation.run import predictions_from, save_results
from pipeline.evaluation.run_text import report_block, report_text

ADAPTERS = {"Qwen2.5-3B": "./qlora_checkpoints", "Qwen2.5-0.5B": "./qlora_checkpoints_0.5B"}


def vectors(matrix, invalid=0):
    """Return shuffled true and predicted labels with a matrix's counts and `invalid` rows more."""
    true = [t for t, row in enumerate(matrix) for count in row for _ in range(count)]
    predicted = [p for row in matrix for p, count in enumerate(row) for _ in range(count)]
    true, predicted = np.array(true + [0] * invalid), np.array(predicted + [-1] * invalid)
    order = np.random.default_rng(0).permutation(len(true))
    return true[order], predicted[order]


@pytest.mark.parametrize("table", REPORT_TABLES, ids=lambda table: table["name"])
def test_the_report_s_six_blocks_are_printed_to_the_character(table):
    name, after = table["name"].split()[0], "after" in table["name"]
    invalid = table["total_samples"] - table["valid_predictions"]
    metrics = compute_metrics(*vectors(table["matrix"], invalid), num_labels=4, seed=0) | {
        "family": "bert" if table["valid_share"] is None else "llm",
        "stage": "after" if after else "before",
        "class_names": ["Positive", "Mild", "Negative", "Irrelevant"],
        "model_path": f"./{name}",
        "adapter_path": f"{ADAPTERS.get(name)}/final_model" if after else "",
        "test_file": "./pre_process/evaluation/test.csv",
    }
    if table["valid_share"] is None:
        head = f"{'After' if after else 'Before'} fine tune\nTest accuracy: {table['accuracy']}\n\n"
        expected = head + "Classification report:\n" + table["table"]
    else:
        base = f"Base Model: ./{name}\nLoRA Adapter: {ADAPTERS[name]}/final_model\n"
        expected = (
            (base if after else f"Model: ./{name}\n")
            + "Test set: ./pre_process/evaluation/test.csv\nTotal samples: 14849\n"
            + f"Valid predictions: {table['valid_predictions']} ({table['valid_share']})\n"
            + f"Accuracy: {table['accuracy']}\n\nClassification Report:\n{table['table']}"
        )
    assert report_block(metrics) == expected


@pytest.fixture
def labels():
    rng = np.random.default_rng(1)
    true = rng.choice(4, 400, p=[0.13, 0.43, 0.09, 0.35])
    predicted = np.where(rng.random(400) < 0.6, true, rng.integers(-1, 4, 400))
    return true, predicted


def test_macro_f1_and_kappa_are_scikit_learn_s_with_invalid_as_a_wrong_answer(labels):
    true, predicted = labels
    matrix = confusion(true, predicted, 4)
    assert matrix.sum() == 400 and matrix[:, -1].sum() == (predicted < 0).sum()
    expected = f1_score(true, predicted, labels=range(4), average="macro")
    assert macro_f1(matrix) == pytest.approx(expected)
    assert cohen_kappa(matrix) == pytest.approx(cohen_kappa_score(true, predicted))


def test_kappa_of_one_class_only_is_zero_and_no_division():
    assert cohen_kappa(confusion(np.zeros(5, int), np.zeros(5, int), 2)) == 0


def test_the_wilson_interval_is_wilson_s():
    # Newcombe 1998, table I: 81 of 263 and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx([0.0624, 0.1605], abs=5e-5)
    interval = list(binomtest(81, 263).proportion_ci(method="wilson"))
    assert wilson_interval(81, 263) == pytest.approx(interval, rel=1e-12)


def test_the_intervals_cover_the_truth_in_93_to_97_of_100_samples():
    shares = np.array([[0.20, 0.05, 0.02], [0.06, 0.30, 0.03], [0.04, 0.05, 0.25]])
    exact = np.hstack([shares, np.zeros((3, 1))]) * 1e6
    truth = {
        "accuracy_all_rows": float(np.trace(shares)),
        "macro_f1": float(macro_f1(exact)),
        "cohen_kappa": float(cohen_kappa(exact)),
    }
    rng, hits = np.random.default_rng(2), dict.fromkeys(truth, 0)
    for _ in range(1000):
        true, predicted = vectors(rng.multinomial(500, shares.ravel()).reshape(3, 3))
        metrics = compute_metrics(true, predicted, 3, seed=0)
        for key, value in truth.items():
            low, high = metrics[f"{key}_ci95"]
            hits[key] += low <= value <= high
    assert all(930 <= count <= 970 for count in hits.values()), hits


def test_metrics_tell_valid_from_all_rows(labels):
    true, predicted = labels
    metrics = compute_metrics(true, predicted, 4, seed=0)
    valid = predicted >= 0
    assert metrics["accuracy"] == pytest.approx((true == predicted)[valid].mean())
    assert metrics["accuracy_all_rows"] == pytest.approx((true == predicted).mean())
    assert metrics["majority_class"] == 1
    assert metrics["majority_baseline"] == pytest.approx((true == 1).mean())


def record_of(**more):
    return {
        "model": "m",
        "family": "llm",
        "stage": "before",
        "model_path": "./m",
        "adapter_path": "",
        "test_file": "test.csv",
        "method": "greedy",
        "shortened": 0,
        "rows_per_second": 1.0,
        "device": "CPU",
        "dtype": "float32",
        "settings": {"seed": 0},
    } | more


def results(codebook, classes, predicted, folder="results/m-before"):
    rows = pd.DataFrame(
        {
            "custom_id": [f"row-{n}" for n in range(len(classes))],
            "message": "评论",
            "class": classes,
        }
    )
    forms = ["strict" if label >= 0 else "no_label" for label in predicted]
    replies = [f"[{label}]\nyes" if label >= 0 else "?" for label in predicted]
    table = {"predicted": predicted, "reply": replies, "form": forms, "confidence": ""}
    return save_results(Path(folder), rows, pd.DataFrame(table), codebook, record_of(), seed=0)


def test_a_run_leaves_its_predictions_metrics_report_and_picture(codebook):
    metrics = results(codebook, [0, 1, 2, 3], [0, 1, 1, -1])
    folder = Path("results/m-before")
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert (folder / "report.txt").read_text() == report_text(metrics)
    assert (folder / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    lines = (folder / "predictions.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[:2] == [
        '"custom_id","message","class","predicted","reply","confidence"',
        '"row-0","评论","0","0","[0] yes",""',
    ]
    assert len(lines) == 5
    assert metrics["answers"] == {"strict": 3, "no_label": 1}
    assert metrics["confusion_matrix"][3] == [0, 0, 0, 0, 1]


def test_a_run_s_folder_is_called_after_the_model_s():
    before = ("before", "test.csv")
    named = results_folder("results/{model}-before", "./models/m/", *before)
    assert named == Path("results/m-before")
    assert results_folder("new", "./models/m", *before) == Path("new")


def test_probabilities_that_are_no_numbers_are_refused(codebook):
    probabilities = np.full((5, 4), 0.25)
    probabilities[[1, 3], [0, 2]] = np.nan
    with pytest.raises(UserError, match="gives no probabilities for 2 of 5 rows"):
        predictions_from(probabilities, codebook)


def test_rows_without_a_class_are_predicted_and_not_scored(codebook):
    metrics = results(codebook, [-1, 1, -1], [0, 1, 2])
    assert (metrics["total"], metrics["predicted_rows"]) == (1, 3)
    assert metrics["rows_without_class"] == 2
    metrics = results(codebook, [-1, -1], [0, -1], "new/m")
    assert "accuracy" not in metrics
    report = Path("new/m/report.txt").read_text(encoding="utf-8")
    assert "2 of them without a class of their own, hence not scored" in report
    assert "Predicted classes: Positive 1, Mild 0, Negative 0, Irrelevant 0" in report
    assert len(Path("new/m/predictions.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_a_run_without_any_valid_prediction_has_a_report(codebook):
    metrics = results(codebook, [0, 1], [-1, -1])
    assert (metrics["accuracy"], metrics["valid"]) == (0.0, 0)
    assert "Valid predictions: 0 (0.00%)" in Path("results/m-before/report.txt").read_text(
        encoding="utf-8"
    )


def human_rows(classes, weights, coded_by="human"):
    rows = pd.DataFrame({"custom_id": [f"row-{n}" for n in range(len(classes))], "message": "评论"})
    return rows.assign(**{"class": classes, "coded_by": coded_by, "weight": weights})


def test_a_score_on_human_labels_is_called_accuracy_and_weighted_to_the_data_set(codebook):
    rows = human_rows([0, 0, 1, 1], [1.0, 1.0, 3.0, 3.0])
    predicted = pd.DataFrame({"predicted": [0, 1, 1, 1], "form": "strict"})
    predicted = predicted.assign(reply="", confidence="")
    metrics = save_results(Path("m"), rows, predicted, codebook, record_of(), seed=0)
    assert metrics["label_source"] == "human coders"
    assert metrics["measured_against"] == "accuracy against human coders (test.csv)"
    assert metrics["accuracy"] == 0.75
    assert metrics["accuracy_all_rows"] == pytest.approx(7 / 8)
    report = Path("m/report.txt").read_text(encoding="utf-8")
    assert "Measured against: accuracy against human coders (test.csv)" in report
    assert "weighted to the data set" in report
    weighted = f"{metrics['accuracy_weighted']:.4f}"
    assert f"\nAccuracy: {metrics['accuracy']:.4f}\n" in report and weighted == "0.8750"
    assert f"sample stands for: {weighted}  [" in report
    header = Path("m/predictions.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    columns = '"custom_id","message","class","predicted","reply","confidence","coded_by","weight"'
    assert header == columns


def test_a_score_on_silver_labels_is_called_agreement(codebook):
    metrics = results(codebook, [0, 1], [0, 1])
    assert metrics["label_source"] == "silver labels"
    assert metrics["measured_against"] == "agreement with silver labels (test.csv)"
    mixed = human_rows([0, 1], 1.0, coded_by=["human", ""]).drop(columns="weight")
    predicted = pd.DataFrame({"predicted": [0, 1], "form": "strict", "reply": "", "confidence": ""})
    metrics = save_results(Path("m"), mixed, predicted, codebook, record_of(), seed=0)
    assert metrics["label_source"] == "silver labels and human coders"


def test_a_test_set_of_both_kinds_of_labels_says_how_many_and_how_often_it_is_right_on_people_s(
    codebook,
):
    coded_by = ["human"] * 4 + [""] * 6
    rows = human_rows([0, 0, 1, 1, 0, 0, 1, 1, 1, -1], 1.0, coded_by).drop(columns="weight")
    predicted = pd.DataFrame({"predicted": [0, 0, 1, -1, 1, 1, 1, 1, 0, 0], "form": "strict"})
    predicted = predicted.assign(reply="", confidence="")
    metrics = save_results(Path("m"), rows, predicted, codebook, record_of(), seed=0)
    against = "agreement with the labels of 4 human, 5 silver rows (test.csv)"
    assert metrics["measured_against"] == against
    assert (metrics["human_rows"], metrics["accuracy_human_rows"]) == (4, 0.75)
    assert metrics["accuracy_human_rows_ci95"] == wilson_interval(3, 4)
    low, high = wilson_interval(3, 4)
    report = Path("m/report.txt").read_text(encoding="utf-8")
    assert f"Measured against: {against}\n" in report
    assert (
        "Accuracy on the 4 rows that people coded, an invalid answer being wrong: 0.7500  "
        f"[{low:.4f}, {high:.4f}]\n"
    ) in report
    table = pd.read_csv("m/predictions.csv", dtype=str, keep_default_na=False)
    assert table["coded_by"].tolist() == coded_by


def test_a_row_without_a_class_is_coded_by_nobody(codebook):
    rows = human_rows([0, -1], 1.0, ["human", "human"]).drop(columns="weight")
    rows.loc[2] = ["row-2", "评论", 1, ""]
    predicted = pd.DataFrame({"predicted": [0, 0, 0], "form": "strict", "reply": ""})
    predicted["confidence"] = ""
    metrics = save_results(Path("m"), rows, predicted, codebook, record_of(), seed=0)
    assert metrics["human_rows"] == 1 and metrics["accuracy_human_rows"] == 1.0


def test_weighted_metrics_are_scikit_learn_s(labels):
    true, predicted = labels
    weights = np.array([1.0, 2.5, 7.0, 0.5])[true]
    metrics = compute_metrics(true, predicted, 4, seed=0, weights=weights)
    expected = f1_score(true, predicted, labels=range(4), average="macro", sample_weight=weights)
    assert metrics["macro_f1"] == pytest.approx(expected)
    expected = cohen_kappa_score(true, predicted, sample_weight=weights)
    assert metrics["cohen_kappa"] == pytest.approx(expected)
    accuracy = np.average(true == predicted, weights=weights)
    assert metrics["accuracy_all_rows"] == pytest.approx(accuracy)
    assert metrics["confusion_matrix"] == confusion(true, predicted, 4).tolist()


def test_weights_that_are_all_alike_change_nothing_however_large_or_small(labels):
    plain = compute_metrics(*labels, 4, seed=0)
    for weight in (5.0, 0.001):
        weighted = compute_metrics(*labels, 4, seed=0, weights=np.full(400, weight))
        for key in ("accuracy_all_rows", "macro_f1", "cohen_kappa"):
            assert weighted[key] == pytest.approx(plain[key])
            assert weighted[f"{key}_ci95"] == pytest.approx(plain[f"{key}_ci95"])
        assert weighted["accuracy_weighted"] == pytest.approx(plain["accuracy"])
        assert weighted["accuracy_weighted_ci95"] == pytest.approx(plain["accuracy_ci95"])


def test_weighted_intervals_cover_the_data_set_s_figures_in_93_to_97_of_100_samples():
    # Two strata, one of which is drawn five times as densely, as a floor per class makes it.
    rng, runs = np.random.default_rng(5), 1000
    shares = [np.array([0.7, 0.1, 0.15, 0.05]), np.array([0.1, 0.1, 0.2, 0.6])]
    sizes, drawn = [18_000, 2_000], [270, 150]
    truth = sum(size * share for size, share in zip(sizes, shares, strict=True))
    truth = np.hstack([truth.reshape(2, 2), np.zeros((2, 1))])
    expected = {
        "accuracy_all_rows": np.trace(truth) / truth.sum(),
        "macro_f1": float(macro_f1(truth)),
        "cohen_kappa": float(cohen_kappa(truth)),
    }
    hits = dict.fromkeys(expected, 0)
    weights = np.repeat([size / n for size, n in zip(sizes, drawn, strict=True)], drawn)
    for run in range(runs):
        cells = [rng.choice(4, n, p=share) for n, share in zip(drawn, shares, strict=True)]
        true, predicted = np.divmod(np.concatenate(cells), 2)
        metrics = compute_metrics(true, predicted, 2, run, weights)
        for key, value in expected.items():
            low, high = metrics[f"{key}_ci95"]
            hits[key] += low <= value <= high
    assert all(0.93 <= count / runs <= 0.97 for count in hits.values()), hits
