"""A corpus: a folder of .csv and .parquet, coded file by file in one process, or on Ray."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import ROOT, read_codebook

import code_comments
from pipeline.bert.encoder import load_classifier, load_tokenizer
from pipeline.coding.check_rule import CheckRule
from pipeline.coding.model import ModelOptions, find_model, open_model
from pipeline.common.cli import UserError
from pipeline.corpus import manifest
from pipeline.corpus.corpus import Engine, code_corpus
from pipeline.corpus.corpus_files import Columns, cells_of_file, cleaned, read_part
from pipeline.corpus.survey import survey_corpus
from pre_process.sample.comments import generate_comments

RAY_IS_THERE = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tiny_bert, tiny_codebook):
    """A classifier's folder as bert_tune.py leaves it; its head is as it was drawn."""
    folder, codebook = (
        tmp_path_factory.mktemp("tuned") / "final_model",
        read_codebook(tiny_codebook),
    )
    load_classifier(tiny_bert, codebook, seed=3).save_pretrained(folder)
    load_tokenizer(tiny_bert, 64).save_pretrained(folder)
    record = {
        "settings": {"model_path": tiny_bert, "max_length": 64},
        "codebook_sha256": codebook.sha256,
        "class_names": list(codebook.names),
    }
    (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return str(folder)


def comments(size, seed=5):
    """Return a table of so many comments with ids."""
    texts = [text for text, _ in generate_comments(size, seed)]
    return pd.DataFrame({"id": [f"c{seed}-{n}" for n in range(size)], "comment": texts})


@pytest.fixture
def folder():
    """A corpus of 30 comments in a .csv and 20 in a .parquet of a folder below."""
    (Path("corpus") / "more").mkdir(parents=True)
    comments(30).to_csv("corpus/a.csv", index=False)
    comments(20, seed=6).to_parquet("corpus/more/b.parquet", row_group_size=7)
    return "corpus"


@pytest.fixture
def code(tuned, codebook):
    """Return a function that codes the corpus into results/corpus."""

    def run(threshold=None, dtype="auto", engine="", **changed):
        settings = {
            "input_dir": "corpus",
            "output_dir": "results/corpus",
            "columns": Columns("id", "comment"),
            "found": find_model(ModelOptions(tuned), codebook),
            "codebook": codebook,
            "rule": CheckRule(threshold, {}),
            "engine": Engine(engine, dtype=dtype),
            "settings": {},
            "rows_per_part": 8,
        }
        code_corpus(**settings | changed)
        return json.loads(Path("results/corpus/manifest.json").read_text(encoding="utf-8"))

    return run


def codes(output="results/corpus"):
    """Return the codes of all parts, in the order of the files."""
    return pd.concat(map(pd.read_parquet, sorted(Path(output, "codes").iterdir())))


def test_every_comment_of_all_files_gets_the_probabilities_of_the_model(
    folder, code, tuned, codebook
):
    told = code(threshold=0.3)
    there = codes()
    wanted = pd.concat([comments(30), comments(20, seed=6)])
    model = open_model(find_model(ModelOptions(tuned), codebook), codebook)
    probabilities = model.probabilities(wanted["comment"].tolist())
    assert there["custom_id"].tolist() == wanted["id"].tolist()
    columns = [f"p_{name}" for name in codebook.names]
    np.testing.assert_allclose(there[columns], probabilities, atol=1e-6)
    assert there["class"].tolist() == probabilities.argmax(axis=1).tolist()
    assert there["class_name"].tolist() == [codebook.names[k] for k in there["class"]]
    assert set(there["coded_by"]) == {"model"}
    assert there["check"].tolist() == (probabilities.max(axis=1) < 0.3).astype(int).tolist()
    assert told["checked"] == there["check"].sum()
    assert sum(told["class_counts"].values()) == told["coded"] == told["rows"] == 50
    assert told["codebook_sha256"] == codebook.sha256
    assert len(pd.read_parquet("results/corpus/codes")) == 50  # no other file is in the way


def test_a_row_at_the_threshold_of_a_plan_is_sure_as_in_a_spreadsheet(
    folder, code, tuned, codebook
):
    wanted = pd.concat([comments(30), comments(20, seed=6)])["comment"].tolist()
    model = open_model(find_model(ModelOptions(tuned), codebook), codebook)
    confidence = model.probabilities(wanted).max(axis=1)
    written = confidence.round(6)  # as predictions.csv has it, from which a plan is made
    place = int((written - confidence).argmax())
    assert written[place] > confidence[place]
    code(threshold=float(written[place]))
    assert codes()["check"].tolist() == (written < written[place]).astype(int).tolist()


def test_where_comments_go_is_said_on_ray_too(folder, code, tuned, codebook, monkeypatch, capsys):
    def stop(*_):
        raise UserError("stopped")

    monkeypatch.setattr("pipeline.corpus.corpus._ray_engine", lambda workers: stop)
    found = find_model(ModelOptions(tuned), codebook)
    served = replace(found, options=replace(found.options, base_url="http://example.org/v1"))
    with pytest.raises(UserError, match="stopped"):
        code(engine="ray", found=served)
    assert "50 comments go to example.org, not encrypted (http)" in capsys.readouterr().out


def test_without_a_threshold_no_row_is_marked_as_sure_or_unsure(folder, code):
    assert code()["checked"] == 0
    assert codes()["check"].isna().all()


def test_messages_are_cleaned_as_those_of_a_spreadsheet_and_empty_ones_are_counted(code):
    Path("corpus").mkdir()
    rows = [("1", "two\nlines"), ("2", " \u200b "), ("3", "two lines"), ("4", ""), ("5", "NA")]
    pd.DataFrame(rows, columns=["id", "comment"]).to_csv("corpus/a.csv", index=False)
    told = code()
    assert codes()["custom_id"].tolist() == ["1", "3", "5"]
    assert codes()["confidence"].iloc[0] == codes()["confidence"].iloc[1]
    assert (told["rows"], told["coded"], told["empty"], told["failed"]) == (5, 3, 2, 0)


def test_a_part_of_a_csv_is_read_alone_as_it_stands_in_the_whole_file():
    Path("c").mkdir()
    text = '\ufeff\nid,comment\n1,"a ""b""\n\nc"\n\n2,d\n,\n3,\u96ea\r\n4,"e,f"\n5,\n6,g'
    Path("c/a.csv").write_text(text, encoding="utf-8", newline="")
    columns = Columns("id", "comment")
    [survey], _ = survey_corpus("c", columns, Path("state"), rows_per_part=2)
    [cells] = cells_of_file(Path("c/a.csv"), columns)
    assert [part.to_code for part in survey.parts] == [2, 2, 1]
    alone = [read_part(Path("c/a.csv"), columns, part) for part in survey.parts]
    assert [one for part in alone for one in part.ids] == cleaned(cells.ids, cells.texts).ids
    assert [one for part in alone for one in part.messages] == [
        'a "b" c',
        "d",
        "\u96ea",
        "e,f",
        "",
        "g",
    ]


def test_rows_whose_message_is_no_text_are_listed_and_the_others_are_coded(code):
    Path("corpus").mkdir()
    broken = pd.DataFrame({"id": [1, 2, 3], "comment": [b"fine", b"\xff\xfe", None]})
    broken.to_parquet("corpus/bytes.parquet")
    numbers = pd.DataFrame({"id": ["4", "5"], "comment": [float("nan"), 666.0]})
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"id": numbers["id"], "comment": pa.array(numbers["comment"].to_numpy())})
    parquet.write_table(table, "corpus/numbers.parquet")
    told = code()
    assert codes()["custom_id"].tolist() == ["1", "5"]
    assert (told["rows"], told["coded"], told["empty"], told["failed"]) == (5, 2, 1, 2)
    failed = pd.read_csv("results/corpus/failed.csv", dtype=str)
    assert failed.to_numpy().tolist() == [
        ["bytes.parquet", "2", "2", "not UTF-8"],
        ["numbers.parquet", "1", "4", "NaN, not a text"],
    ]


def test_what_is_there_is_not_computed_again_and_a_new_file_is_taken_in(folder, code):
    assert code()["computed"] == 50
    whole = codes()
    files = sorted(Path("results/corpus/codes").iterdir())
    before = {file: file.stat().st_mtime_ns for file in files[2:]}
    files[0].unlink()
    files[1].unlink()
    comments(9, seed=7).to_csv("corpus/0.csv", index=False)  # sorted before the others
    told = code()
    assert told["computed"] == 8 + 8 + 9
    assert (told["rows"], told["coded"]) == (59, 59)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert codes()[:50].equals(whole)
    assert codes()["custom_id"][50:].tolist() == comments(9, seed=7)["id"].tolist()


def test_a_copy_of_a_file_with_another_time_is_the_same_file(folder, code):
    code()
    os.utime("corpus/a.csv", (1, 1))
    assert code()["computed"] == 0


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"threshold": 0.5}, "another threshold"),
        ({"dtype": "bfloat16"}, "another precision or size of batches"),
        ({"columns": Columns("B", "A")}, "another column of ids or comments, or masking"),
    ],
)
def test_a_folder_coded_otherwise_is_refused(folder, code, changed, what):
    code()
    with pytest.raises(UserError, match=rf"results/corpus was coded with {what} .*--output-dir"):
        code(**changed)


def test_the_script_codes_a_folder_and_masks_personal_data_from_the_model(tuned, capsys):
    Path("corpus").mkdir()
    rows = rows_of(["1", "2", "3"], ["write to ann@example.org", "write to ‹e-mail›", "more"])
    rows.to_csv("corpus/a.csv", index=False)
    options = ["--excel-file=corpus", "--id-column=id", f"--model={tuned}", "--check-below=0.9"]
    code_comments.main([*options, "--mask-personal-data"])
    there = codes("results/coded")
    assert there["confidence"].iloc[0] == there["confidence"].iloc[1]
    assert set(there["check"]) <= {0, 1}
    assert "3 rows: 3 coded, 0 empty, 0 failed" in capsys.readouterr().out
    with pytest.raises(UserError, match="--user-column A is for a spreadsheet, and corpus is a"):
        code_comments.main([*options, "--user-column=A"])
    with pytest.raises(UserError, match="--engine ray is for a folder, and corpus/a.csv is a spre"):
        code_comments.main([*options, "--excel-file=corpus/a.csv", "--engine=ray"])


def test_a_run_that_coded_nothing_leaves_the_next_one_free(folder, code):
    code()
    for path in Path("results/corpus/codes").iterdir():
        path.unlink()
    assert code(columns=Columns("B", "A"))["computed"] == 50
    assert codes()["custom_id"].tolist()[0] == comments(30)["comment"][0]


def test_a_folder_coded_by_another_model_or_program_is_refused(folder, code, tuned, monkeypatch):
    code()
    with monkeypatch.context() as changed:
        changed.setattr(manifest, "COMPUTES", ["coding/model.py"])
        with pytest.raises(UserError, match="coded with another version of this program"):
            code()
    for name in ("corpus/pieces", "coding/server", "evaluation/calibration", "sheets/reading"):
        assert f"{name}.py" in manifest.COMPUTES
    record = Path(tuned, "training.json")
    kept = record.read_text(encoding="utf-8")
    record.write_text(
        json.dumps(json.loads(kept) | {"validation": {"temperature": 2.0}}), encoding="utf-8"
    )
    try:
        with pytest.raises(UserError, match="coded with another model"):
            code()
    finally:
        record.write_text(kept, encoding="utf-8")


def rows_of(ids, texts):
    return pd.DataFrame({"id": ids, "comment": texts})


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"a.csv": rows_of(["1", "2"], ["x", "y"]), "b.csv": rows_of(["3", "1"], ["z", ""])},
            r"id '1' in column 'id' stands twice \(a.csv, row 2; b.csv, row 3\)",
        ),
        ({"a.csv": rows_of(["1", ""], ["x", "y"])}, "a.csv, row 3 has no id in column 'id'"),
        (
            {"a.parquet": rows_of([1, 2], pd.to_datetime(["2024-01-01", "2024-01-02"]))},
            "a.parquet: column 'comment' holds timestamp.*, which is no text",
        ),
        ({"a.parquet": rows_of([1, 2], [True, False])}, "'comment' holds bool, which is no text"),
        ({"a.csv": pd.DataFrame({"id": ["1"], "text": ["x"]})}, "a.csv has no column 'comment'"),
        (
            {"a.csv": pd.DataFrame({"key": ["1"], "comment": ["x"]})},
            "a.csv has no column 'id': .* give --id-column the name of the column with",
        ),
        ({"a.csv": rows_of(["1", "2"], ["", " "])}, "column 'comment' holds no text"),
        ({"a.csv": b"id,comment\n1,\xff\n"}, "a.csv is not UTF-8"),
        ({"a.parquet": b"PAR1 cut short"}, "a.parquet cannot be read as a .parquet"),
        ({"_a.csv": b"", ".b.csv": b"", "c.txt": b""}, "corpus holds no .csv and no .parquet"),
    ],
)
def test_a_corpus_that_cannot_be_coded_whole_is_refused_before_anything_is(code, files, told):
    Path("corpus").mkdir()
    for name, content in files.items():
        if isinstance(content, bytes):
            Path("corpus", name).write_bytes(content)
        elif name.endswith(".csv"):
            content.to_csv(Path("corpus", name), index=False)
        else:
            content.to_parquet(Path("corpus", name))
    with pytest.raises(UserError, match=told):
        code()
    assert not Path("results/corpus/codes").exists()
    assert not list(Path("results").rglob("*.json"))


def test_a_file_that_was_coded_may_neither_change_nor_go(folder, code):
    code()
    text = Path("corpus/a.csv").read_bytes()
    Path("corpus/a.csv").write_bytes(text + b"new,row\n")
    with pytest.raises(UserError, match="a.csv has changed since it was taken in: .* new rows"):
        code()
    Path("corpus/a.csv").unlink()
    with pytest.raises(UserError, match="a.csv is gone, whose rows are coded: put it back"):
        code()


def test_an_engine_that_is_none_and_ray_where_it_is_not_installed_are_refused(
    folder, code, monkeypatch
):
    with pytest.raises(UserError, match="--engine spark: give ray, or leave it out"):
        code(engine="spark")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.delitem(sys.modules, "pipeline.corpus.on_ray", raising=False)
    with pytest.raises(UserError, match=r"pip install -r requirements-ray.txt"):
        code(engine="ray")
    assert not Path("results").exists()


DRIVER = """
import sys
import code_comments
from pipeline.corpus import corpus
from pipeline.common.cli import run

def main():
    corpus.code_corpus.__defaults__ = (3,)  # rows of a part
    engine, output, model = sys.argv[1:]
    code_comments.main(["--excel-file=corpus", f"--output-dir={output}", "--id-column=id",
        f"--model={model}", f"--engine={engine}", "--workers=2"])

if __name__ == "__main__":
    run(main)
"""


def start(engine, output, model):
    """Start a run with one thread a process; return it. What it prints goes to driver.log."""
    Path("driver.py").write_text(DRIVER, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "driver.py", engine, output, model]
    with open("driver.log", "w", encoding="utf-8") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def wait_for(done, process):
    """Return what `done` returns as soon as it is true."""
    until = time.monotonic() + 120
    while not (found := done()):
        assert process.poll() is None, Path("driver.log").read_text(encoding="utf-8")
        assert time.monotonic() < until, Path("driver.log").read_text(encoding="utf-8")
        time.sleep(0.02)
    return found


def parts_there():
    return sorted(Path("results/corpus/codes").glob("[0-9]*.parquet"))


@pytest.mark.slow
@pytest.mark.skipif(not RAY_IS_THERE, reason="Ray is not installed: requirements-ray.txt")
def test_on_ray_a_killed_driver_and_a_killed_worker_lose_and_double_nothing(folder, tuned):
    comments(200, seed=8).to_csv("corpus/large.csv", index=False)
    process = start("ray", "results/corpus", tuned)
    wait_for(lambda: len(parts_there()) > 5, process)
    family = psutil.Process(process.pid).children(recursive=True)
    family = [child for child in family if "Agent" not in child.name()]  # they take half a minute
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(family) > 3
    assert psutil.wait_procs(family, timeout=30)[1] == []
    before = {path: path.stat().st_mtime_ns for path in parts_there()}
    assert 5 < len(before) < 60

    comments(40, seed=9).to_csv("corpus/new.csv", index=False)
    process = start("ray", "results/corpus", tuned)
    wait_for(lambda: len(parts_there()) > len(before), process)
    family = psutil.Process(process.pid).children(recursive=True)
    connected = [c for child in family for c in child.net_connections("inet")]
    addresses = {a.ip.removeprefix("::ffff:") for c in connected for a in (c.laddr, c.raddr) if a}
    assert addresses == {"127.0.0.1"}
    worker = next(child for child in family if child.name().startswith("ray::MapWorker"))
    worker.send_signal(signal.SIGKILL)
    assert len(parts_there()) < 85
    assert process.wait(timeout=120) == 0, Path("driver.log").read_text(encoding="utf-8")

    assert {path: path.stat().st_mtime_ns for path in before} == before
    told = json.loads(Path("results/corpus/manifest.json").read_text(encoding="utf-8"))
    there = sum(len(pd.read_parquet(path)) for path in before)
    assert (told["rows"], told["coded"], told["computed"]) == (290, 290, 290 - there)
    assert start("", "results/one_process", tuned).wait(timeout=120) == 0
    assert codes().equals(codes("results/one_process"))
    assert codes()["custom_id"].is_unique
    assert list(corpus_logs()) == []


def corpus_logs():
    """Return Ray's folders of this corpus among those for temporary files."""
    from pipeline.corpus.on_ray import TEMPORARY, mark_of

    return TEMPORARY.glob(f"{mark_of(Path('results/corpus/codes').resolve())}*")
