"""The benchmarks run and write their tables; how fast anything is, no test says."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from benchmarks import (
    common,
    data_growth,
    pack_memory,
    plan_holds,
    prompt_growth,
    report_decoder,
    score_speed,
    train_profile,
)

ONCE = ["--repetitions", "1"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Let the benchmarks write into a folder of the test's own; return it."""
    (tmp_path / "README.md").write_text("# Benchmarks\n", encoding="utf-8")
    monkeypatch.setattr(common, "FOLDER", tmp_path)
    monkeypatch.setattr(common, "README", tmp_path / "README.md")
    return tmp_path / "results"


def test_a_perfect_model_loses_by_the_report_s_cut_and_not_by_ours(results):
    report_decoder.main(["--rows", "400", "--spreads", "0.5", "--batch-sizes", "1,4,16"])
    record = json.loads((results / "report_decoder.json").read_text())
    (lines,) = record["tables"].values()
    accuracy = [float(line["accuracy"]) for line in lines]
    assert accuracy[0] == accuracy[-1] == 1
    assert 0.9 > accuracy[1] > accuracy[2]
    assert (results / "report_decoder.png").read_bytes().startswith(b"\x89PNG")


def test_ours_and_padded_scoring_agree_where_they_are_timed(results):
    score_speed.main(["--shape", "micro", "--precision", "fp32", "--rows", "8", *ONCE])
    record = json.loads((results / "score_speed-micro-fp32.json").read_text())
    assert len(record["tables"]["Speed"]) == 6
    difference = float(record["notes"][1].split(": ")[1].split(",")[0])
    assert difference < 1e-5


def test_a_growing_prompt_is_measured_and_its_table_is_in_the_readme(results):
    arguments = ["--shape", "micro", "--precision", "fp32", "--prompt-tokens", "124,1000"]
    rows = ["--train-rows", "4", "--score-rows", "4", "--padded-rows", "2"]
    prompt_growth.main([*arguments, *rows, *ONCE])
    text = (results.parent / "README.md").read_text(encoding="utf-8")
    assert "training, ours, ms a row" in text and "codebook of 1,000 tokens" in text


@pytest.mark.parametrize("fake", [True, False])
def test_what_a_pack_takes_stands_beside_what_was_predicted(results, fake):
    kind = "--fake" if fake else "--no-fake"
    pack_memory.main(["--shape", "micro", "--precision", "fp32", "--rows", "2,8", kind])
    record = json.loads((results / "pack_memory-micro-fp32.json").read_text())
    (lines,) = record["tables"].values()
    assert [line["rows"] for line in lines] == [2, 8] * 3
    assert all(float(line["predicted to measured"]) >= 1 for line in lines)
    assert ("fake" in record["notes"][0]) == fake


def test_the_parts_of_a_step_add_up_to_its_seconds(results):
    train_profile.main(["--shape", "micro", "--precision", "fp32", "--rows", "8"])
    record = json.loads((results / "train_profile-micro-fp32-124.json").read_text())
    assert len(record["tables"]["Training"]) == 8
    for lines in record["tables"].values():
        shares = [float(line["share of the step"].rstrip("%")) for line in lines]
        assert sum(shares) == pytest.approx(100, abs=0.5)
        assert "matrix products" in [line["kind"] for line in lines]


@pytest.mark.slow
def test_each_data_step_is_measured_in_a_process_of_its_own(results):
    data_growth.main(["--rows", "400", "--xlsx-rows", "400"])
    record = json.loads((results / "data_growth.json").read_text())
    (lines,) = record["tables"].values()
    steps = ["1, .xlsx", "1, .csv", "2", "3", "3b", "human sample", "compare", "page"]
    assert [line["step"] for line in lines] == steps
    for line in lines:
        assert line["rows"] == 400 and line["rows/s"] == pytest.approx(400 / line["seconds"])
        assert 30 < line["peak memory, MB"] < 500  # this process, which has torch, has more
    assert "The page has 0." in record["notes"][1]


def test_promises_of_plans_are_counted_on_rows_kept_out(results, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 2000)
    features = np.stack([labels + rng.normal(0, 0.8, 2000), rng.normal(0, 1, 2000)], axis=1)
    monkeypatch.setattr(plan_holds, "features_of", lambda *given: features)
    table = pd.DataFrame({"message": [f"c{n}" for n in range(2000)], "class": labels})
    table.assign(place=["here"] * 1500 + ["there"] * 500).to_csv("comments.csv", index=False)
    sizes = ["--train-rows", "200", "--held-out-rows", "400", "--sample-rows", "300"]
    options = ["--comments", "comments.csv", "--group-column", "place", "--targets", "0.85,0.9"]
    plan_holds.main([*options, *sizes, "--seeds", "2", "--draws", "20"])
    (lines,) = json.loads((results / "plan_holds-comments.json").read_text())["tables"].values()
    found = {(line["held-out rows"], line["target"]): line for line in lines}
    assert len(found) == 8
    for name in ("equal weights", "people's sample", "other source"):
        assert float(found[name, "0.9"]["broken"].rstrip("%")) <= 20
        assert found[name, "0.9"]["promised"] == "40 of 40"
    assert float(found["equal weights", "0.9"]["without a margin: holds"].rstrip("%")) < 85


def test_seconds_a_row_are_compared_with_the_size_before():
    lines = [{"step": "2", "rows": num, "rows/s": rate} for num, rate in ((10, 50), (100, 40))]
    found = [data_growth.with_growth(line, lines) for line in lines]
    assert [line["seconds a row, to the size before"] for line in found] == [None, "1.25"]


def test_every_benchmark_has_its_place_in_the_readme():
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__", "common"}
    assert all(f"<!-- {name} -->" in text for name in scripts)
