"""Whether a model tells the classes apart: what is warned of, and what is not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import plots
from pipeline.evaluation.comparison_text import comparison_text
from pipeline.evaluation.learned import validation_verdict, verdict, warning_text
from pipeline.evaluation.metrics import compute_metrics
from pipeline.evaluation.run import save_results
from pipeline.evaluation.runs import read_runs

NAMES = ("not sexist", "sexist")


def counted(cells):
    """Return true and predicted classes of so many rows: {(true, predicted): rows}."""
    true, predicted = np.repeat(np.array(list(cells)), list(cells.values()), axis=0).T
    return true, predicted


def found(cells, names=NAMES, stage="after", weights=None):
    """Return the verdict on so many rows: {(true, predicted): rows}."""
    metrics = compute_metrics(*counted(cells), len(names), seed=0, weights=weights)
    return verdict(metrics, names, stage)


def test_one_answer_for_all_rows_is_told_by_its_class_and_its_share():
    result = found({(0, 0): 593, (1, 0): 207})
    assert result["warning"] == (
        'All 800 answers are "not sexist", which is the class of 593 of these rows: the model '
        "gives the same answer whatever the comment says."
    )
    for cure in ("--num-train-epochs", "--learning-rate", "--class-weights", "labels"):
        assert cure in result["what_to_try"]


def test_one_answer_is_told_also_where_it_is_a_rare_class():
    warning = found({(0, 1): 593, (1, 1): 207})["warning"]
    assert warning.startswith('All 800 answers are "sexist", which is the class of 207 of')


def test_a_few_other_answers_are_no_learning_even_if_they_are_right():
    warning = found({(0, 0): 593, (1, 0): 200, (1, 1): 7})["warning"]
    assert warning.startswith('793 of 800 answers are "not sexist"')
    metrics = compute_metrics(*counted({(0, 0): 593, (1, 0): 200, (1, 1): 7}), 2, seed=0)
    assert metrics["cohen_kappa_ci95"][0] > 0


def test_a_model_that_seldom_gives_a_rare_class_is_not_warned_of():
    # 98.5 % of the answers are one class, as are 97 % of the rows.
    assert found({(0, 0): 968, (0, 1): 2, (1, 0): 17, (1, 1): 13})["warning"] is None


def test_a_good_model_of_a_rare_class_is_not_warned_of_though_its_accuracy_is_the_baseline_s():
    cells = {(0, 0): 740, (0, 1): 20, (1, 0): 18, (1, 1): 22}
    metrics = compute_metrics(*counted(cells), 2, seed=0)
    low, high = metrics["accuracy_all_rows_ci95"]
    assert low < metrics["majority_baseline"] < high
    assert metrics["cohen_kappa"] > 0.4
    assert found(cells)["warning"] is None


def test_guesses_in_the_shares_of_the_classes_are_no_better_than_none():
    warning = found({(0, 0): 440, (0, 1): 153, (1, 0): 154, (1, 1): 53})["warning"]
    assert warning.endswith("better than one that does not read the comment.")
    assert 'that of always answering "not sexist" is 0.7412' in warning
    assert "Accuracy is 0.6162 [" in warning


def test_slight_agreement_is_warned_of_only_where_accuracy_is_not_above_the_baseline_s():
    below = {(0, 0): 540, (0, 1): 53, (1, 0): 170, (1, 1): 37}
    metrics = compute_metrics(*counted(below), 2, seed=0)
    assert metrics["cohen_kappa_ci95"][0] > 0 and metrics["cohen_kappa"] < 0.2
    assert found(below)["warning"].endswith("the model tells the classes apart hardly at all.")
    above = {(0, 0): 250, (0, 1): 160, (1, 0): 200, (1, 1): 210}
    metrics = compute_metrics(*counted(above), 2, seed=0)
    assert metrics["cohen_kappa"] < 0.2
    assert metrics["accuracy_all_rows_ci95"][0] > metrics["majority_baseline"]
    assert found(above)["warning"] is None


def test_few_rows_are_said_to_be_few_and_not_that_nothing_was_learned():
    result = found({(0, 0): 18, (0, 1): 4, (1, 0): 5, (1, 1): 3})
    assert result["warning"].endswith(
        "these 30 rows, 8 of them of another class, are too few to tell what the model knows."
    )
    assert "more rows" in result["what_to_try"] and "epochs" not in result["what_to_try"]
    result = found({(0, 0): 22, (1, 0): 7})
    assert result["warning"].endswith(
        "too few rows have another class to tell what the model knows."
    )
    assert "more rows" in result["what_to_try"]
    assert "the same answer" in found({(0, 0): 22, (1, 0): 8})["warning"]


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_a_model_that_finds_all_of_very_few_rows_is_not_said_to_have_learned_nothing(rare):
    result = found({(0, 0): 100 - rare, (1, 1): rare})
    assert result["warning"].endswith(
        f"these 100 rows, {rare} of them of another class, are too few to tell what the model "
        "knows."
    )
    assert "more rows" in result["what_to_try"]
    assert found({(0, 0): 96, (1, 1): 4})["warning"] is None


def test_rows_of_one_class_show_nothing():
    result = found({(0, 0): 50})
    assert result["warning"].startswith('All 50 rows have the class "not sexist": they cannot show')


def test_answers_that_are_mostly_invalid_are_a_case_of_their_own():
    result = found({(0, -1): 560, (1, -1): 186, (0, 0): 30, (1, 1): 24}, stage="before")
    assert result["warning"].startswith("Only 54 of 800 answers are valid")
    assert "--decoding score" in result["what_to_try"]
    assert found({(0, -1): 40, (1, -1): 20})["warning"].startswith("Only 0 of 60 answers are valid")
    good = {(0, -1): 400, (1, -1): 160, (0, 0): 160, (0, 1): 5, (1, 0): 5, (1, 1): 70}
    assert found(good)["warning"].startswith("Only 240 of 800 answers are valid")
    half = {(0, -1): 290, (1, -1): 110, (0, 0): 290, (0, 1): 13, (1, 0): 20, (1, 1): 77}
    assert found(half)["warning"] is None


def test_one_answer_is_said_of_the_valid_answers_where_some_are_not():
    warning = found({(0, 0): 400, (1, 0): 150, (0, -1): 60, (1, -1): 20})["warning"]
    assert warning.startswith('All 550 valid answers are "not sexist", which is the class of 400')


def test_before_fine_tuning_the_cure_is_to_train():
    assert "train it" in found({(0, 0): 593, (1, 0): 207}, stage="before")["what_to_try"]


@pytest.mark.parametrize("key", ["cohen_kappa", "cohen_kappa_ci95", "accuracy_all_rows_ci95"])
def test_no_figure_that_is_not_a_number_passes(key):
    cells = {(0, 0): 550, (0, 1): 43, (1, 0): 40, (1, 1): 167}
    metrics = compute_metrics(*counted(cells), 2, seed=0)
    assert verdict(metrics, NAMES)["warning"] is None
    nan = [float("nan")] * 2 if key.endswith("ci95") else float("nan")
    assert "no numbers" in verdict(metrics | {key: nan}, NAMES)["warning"]


def test_weights_widen_what_cannot_be_told():
    cells = {(0, 0): 60, (0, 1): 30, (1, 0): 32, (1, 1): 48}
    true, _ = counted(cells)
    assert found(cells)["warning"] is None
    weights = np.where(np.arange(len(true)) % 17 == 0, 60.0, 1.0)
    assert "too few" in found(cells, weights=weights)["warning"]


def test_of_100_models_that_guess_95_or_more_are_warned_of_and_of_100_that_learned_none():
    rng, warned = np.random.default_rng(3), {0.0: 0, 0.4: 0}
    for share in warned:
        for _ in range(100):
            true = rng.choice(4, 400, p=[0.13, 0.43, 0.09, 0.35])
            guess = rng.permutation(true)
            predicted = np.where(rng.random(400) < share, true, guess)
            result = validation_verdict(true, predicted, ("a", "b", "c", "d"))
            warned[share] += result["warning"] is not None
    assert warned[0.0] >= 95 and warned[0.4] == 0, warned


def run_of_one_class(codebook, model, predicted):
    classes = np.repeat([0, 1, 2, 3], [13, 43, 9, 35])
    rows = pd.DataFrame({"message": "评论", "class": classes})
    rows.insert(0, "custom_id", [f"row-{n}" for n in range(100)])
    table = {"predicted": predicted, "reply": "", "form": "strict", "confidence": ""}
    record = {"model": model, "family": "llm", "stage": "after", "model_path": f"./{model}"}
    record |= {"adapter_path": "a", "test_file": "test.csv", "method": "greedy", "shortened": 0}
    record |= {"rows_per_second": 1.0, "device": "CPU", "dtype": "float32", "settings": {}}
    save_results(Path("results", model), rows, pd.DataFrame(table), codebook, record, seed=0)
    return classes


def test_a_run_has_the_warning_in_its_record_its_report_and_the_table_of_all_models(
    codebook, capsys
):
    classes = run_of_one_class(codebook, "dull", np.ones(100, int))
    printed = capsys.readouterr().out
    run_of_one_class(codebook, "good", classes)
    metrics = json.loads(Path("results/dull/metrics.json").read_bytes())
    assert metrics["warning"].startswith('All 100 answers are "Mild"')
    text = warning_text(metrics)
    assert text.startswith('WARNING: All 100 answers are "Mild"') and "\nWhat to try" in text
    assert max(map(len, text.splitlines())) <= 100
    report = Path("results/dull/report.txt").read_text(encoding="utf-8")
    assert text in report and text in printed
    assert report.index("weighted avg") < report.index("WARNING") < report.index("Measured against")
    good = json.loads(Path("results/good/metrics.json").read_bytes())
    assert good["warning"] is None and warning_text(good) == ""
    assert "WARNING" not in Path("results/good/report.txt").read_text(encoding="utf-8")

    import compare_models

    compare_models.main([])
    summary = Path("results/summary.md").read_text(encoding="utf-8")
    dull, good = summary.splitlines()[2:4]
    assert "| (!) 0.000 [0.000, 0.000] |" in dull and "(!)" not in good
    assert f"\n(!) dull\n{text}" in summary and summary.count("WARNING") == 1
    comparison = json.loads(Path("results/comparison.json").read_bytes())
    assert comparison_text(comparison) == summary
    assert [run.get("warning") for run in comparison["runs"]] == [metrics["warning"], None]


@pytest.mark.parametrize("marked", [{}, {"warning": "It gives one answer."}])
def test_the_number_above_a_bar_hides_no_end_of_its_interval(marked):
    figure, axes = plots.plt.subplots()
    axes.set_ylim(0, 1)
    run = {"macro_f1": 0.4, "macro_f1_ci95": [0.3, 0.5], **marked}
    plots._bar(axes, 0, run, "macro_f1", "{:.3f}", "grey")
    [number] = axes.texts
    figure.canvas.draw()
    box = number.get_bbox_patch().get_window_extent()
    plots.plt.close(figure)
    assert number.get_text() == ("(!)\n0.400" if marked else "0.400")
    assert box.y0 > axes.transData.transform((0, 0.5))[1]


def test_an_older_run_without_a_verdict_gets_it_from_its_figures(codebook):
    run_of_one_class(codebook, "dull", np.ones(100, int))
    file = Path("results/dull/metrics.json")
    metrics = json.loads(file.read_bytes())
    older = {k: v for k, v in metrics.items() if k not in ("warning", "what_to_try")}
    file.write_text(json.dumps(older), encoding="utf-8")
    assert read_runs("results")[0].metrics["warning"] == metrics["warning"]
    del older["majority_class"]
    file.write_text(json.dumps(older), encoding="utf-8")
    assert read_runs("results")[0].metrics["warning"] is None
