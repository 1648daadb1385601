"""Which tuned model codes a study's spreadsheet."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from pipeline.common.cli import UserError
from pipeline.common.files import write_json
from pipeline.evaluation.best_run import best_model


def score(run, accuracy, rows="test", probabilities=True):
    metrics = {"accuracy_all_rows": accuracy, "scored_rows_sha256": rows}
    write_json(metrics | ({"ece": 0.1} if probabilities else {}), f"results/{run}/metrics.json")


def best(*names):
    return best_model(Path("results"), list(names))


def test_the_model_of_the_highest_accuracy_on_the_test_rows_is_taken():
    score("a-after", 0.8)
    score("b-after", 0.9)
    score("c-before", 0.99)
    assert best("a", "b", "c") == "b" and best("a", "c") == "a" and best("c", "d") == ""


def test_of_equal_models_the_first_is_taken():
    score("a-after", 0.8)
    score("b-after", 0.8)
    assert best("a", "b") == "a" and best("b", "a") == "b"


@pytest.mark.parametrize(("rows", "taken"), [("people", "a"), ("others", "b")])
def test_people_s_codes_decide_where_they_scored_all_models_on_the_same_rows(rows, taken):
    score("a-after", 0.8)
    score("b-after", 0.9)
    score("a-human", 0.7, "people")
    assert best("a", "b") == "b"
    score("b-human", 0.6, rows)
    assert best("a", "b") == taken


def test_a_run_without_probabilities_does_not_count():
    score("a-after", 0.8)
    score("b-after", 0.9, probabilities=False)
    assert best("a", "b") == "a"


def test_a_score_that_is_no_number_stops_the_choice():
    score("a-after", 0.8)
    Path("results/b-after").mkdir()
    Path("results/b-after/metrics.json").write_bytes(b'{"ece": 0.1, "accuracy_all_rows": NaN}')
    with pytest.raises(UserError, match="b-after.metrics.json: accuracy nan: run its evaluation"):
        best("a", "b")


def test_make_reads_the_name_that_it_prints():
    score("a-after", 0.8)
    command = [sys.executable, "-m", "pipeline.evaluation.best_run", "results", "a", "b"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.stdout == "a\n"
