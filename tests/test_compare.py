"""Steps 11 and 12: tests and tables that compare models."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bert_inference_compare
import compare_models
from pipeline.cli import UserError
from pipeline.evaluation import compute_metrics


def write_run(name, model, stage, family, hits, total=100):
    true = np.arange(total) % 2
    predicted = np.where(np.arange(total) < hits, true, 1 - true)
    run = {"model": model, "stage": stage, "family": family, "test_file": "test.csv"}
    run["scored_rows_sha256"] = str(total)
    metrics = run | {"rows_per_second": 1.0} | compute_metrics(true, predicted, 2, seed=0)
    Path("results", name).mkdir(parents=True)
    Path("results", name, "metrics.json").write_text(json.dumps(metrics))


def test_the_summary_holds_each_model_before_and_after():
    write_run("b-after", "bert", "after", "bert", 82)
    write_run("q-after", "qwen", "after", "llm", 72)
    write_run("q-before", "qwen", "before", "llm", 37)
    write_run("b-before", "bert", "before", "bert", 73)
    compare_models.main([])
    table = pd.read_csv("results/summary.csv")
    assert table["run"].tolist() == ["q-before", "q-after", "b-before", "b-after"]
    assert table["accuracy"].tolist() == [0.37, 0.72, 0.73, 0.82]
    markdown = Path("results/summary.md").read_text().splitlines()
    assert len(markdown) == 6
    assert markdown[2].startswith("| qwen | before | 100 | 100.00% | 37.00% | 37.00% |")
    assert Path("results/figure1.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_of_a_model_at_the_same_stage_are_told_apart():
    write_run("b-before", "bert", "before", "bert", 73)
    write_run("b-chance", "bert", "before", "bert", 25)
    compare_models.main([])
    assert pd.read_csv("results/summary.csv")["model"].tolist() == ["bert", "bert (b-chance)"]


def test_runs_on_different_rows_are_pointed_out(capsys):
    write_run("a-before", "a", "before", "llm", 37)
    write_run("b-before", "b", "before", "llm", 10, total=20)
    compare_models.main([])
    assert "scored on different rows" in capsys.readouterr().out


def test_a_folder_without_scored_runs_is_refused():
    Path("results/new").mkdir(parents=True)
    Path("results/new/metrics.json").write_text("{}")
    with pytest.raises(UserError, match="results holds no scored run"):
        compare_models.main([])


def test_mcnemar_s_exact_test_gives_the_published_p_value():
    # Agresti's approval ratings (86 and 150 changes of mind); R's exact2x2 prints 3.716e-05.
    before = pd.Series([True] * 86 + [False] * 150 + [True] * 100)
    after = pd.Series([False] * 86 + [True] * 150 + [True] * 100)
    test = bert_inference_compare.mcnemar_exact(before, after)
    assert (test["only_before_right"], test["only_after_right"]) == (86, 150)
    assert test["p_value"] == pytest.approx(3.716e-5, rel=1e-4)
    small = bert_inference_compare.mcnemar_exact(before[:3], after[:3])
    assert small["p_value"] == pytest.approx(2 * 0.5**3)
    assert bert_inference_compare.mcnemar_exact(before[:0], after[:0])["p_value"] == 1
