"""The folders of runs: their names, and that none is overwritten by another run."""

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.files import write_json
from pipeline.common.tables import write_csv
from pipeline.evaluation.folder import check_results, plan_run, results_folder
from pipeline.evaluation.run import save_results
from pipeline.models.folder import fingerprint

DEFAULT = "./results/{model}-{run}"
PLAN = {
    "model_path": "./m",
    "trained_path": "./tuned",
    "test_file": "./test.csv",
    "max_test_samples": 0,
    "codebook_sha256": "c" * 64,
}
ROWS = pd.DataFrame({"custom_id": ["row-2"], "message": ["评论"], "class": [1]})
CURE = "give another --output-dir, or move that folder away"


def write_models():
    """Write what the checks of a model, an adapter and a tuned BERT read."""
    for name, config in (
        ("causal", {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}),
        ("encoder", {"model_type": "bert", "architectures": ["BertForMaskedLM"]}),
    ):
        write_json(config, Path(name, "config.json"))
        write_json({}, Path(name, "tokenizer.json"))
        save_file({"w": np.zeros(1)}, Path(name) / "model.safetensors")
    for name, model in (("adapter", "causal"), ("tuned", "encoder")):
        record = {
            "base_fingerprint": fingerprint(model),
            "codebook_sha256": read_codebook("prompt.txt").sha256,
            "settings": {"model_path": model},
        }
        write_json(record, Path(name, "training.json"))
        write_json({}, Path(name, "adapter_config.json"))
        save_file({"w": np.zeros(1)}, Path(name) / "adapter_model.safetensors")


def save_run(folder, *, model, stage, test_file="test.csv", adapter="", **settings):
    """Save a run of one row, as an evaluation does."""
    record = {
        "model": Path(model).name,
        "family": "bert",
        "stage": stage,
        "model_path": model,
        "adapter_path": adapter,
        "test_file": test_file,
        "method": "scored",
        "shortened": 0,
        "rows_per_second": 1.0,
        "device": "CPU",
        "dtype": "float32",
        "settings": settings,
    }
    predictions = pd.DataFrame({"predicted": [1], "reply": "", "form": "strict", "confidence": ""})
    codebook = read_codebook("prompt.txt")
    return save_results(Path(folder), ROWS, predictions, codebook, record, seed=0)


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("stage", "test_file", "folder"),
    [
        ("before", "./pre_process/evaluation/test.csv", "m-before"),
        ("after", "studies/gender/pre_process/evaluation/test.csv", "m-after"),
        ("compare", "test.csv", "m-compare"),
        ("after", "./pre_process/evaluation/human_test.csv", "m-human"),
        ("before", "./pre_process/evaluation/human_test.csv", "m-before-human"),
        ("compare", "human_test.csv", "m-compare-human"),
        ("after", "./pre_process/unlabeled_v2.csv", "m-after-unlabeled_v2"),
        ("before", "test.2.csv", "m-before-test.2"),
    ],
)
def test_a_run_s_folder_follows_from_model_stage_and_test_file(stage, test_file, folder):
    assert results_folder(DEFAULT, "models/m/", stage, test_file) == Path("results", folder)


@pytest.mark.parametrize("script", ["local_inference", "posttune_eval", "bert_eval"])
def test_an_output_dir_that_is_given_is_taken_as_it_stands(script):
    folder = importlib.import_module(script).OUTPUT_DIR
    assert results_folder(folder, "m", "after", "test.csv") == Path("results/m-after")
    assert results_folder("mine/x", "m", "after", "human_test.csv") == Path("mine/x")


SCRIPTS = [  # a script, its options, and the folder of its run on human_test.csv
    ("local_inference", "--model-path causal", "causal-before-human"),
    ("posttune_eval", "--model-path causal --adapter-path adapter", "causal-human"),
    ("bert_eval", "--model-path encoder", "encoder-before-human"),
    ("bert_tune_eval", "--tuned-path tuned", "encoder-human"),
    ("bert_inference_compare", "--model-path encoder --tuned-path tuned", "encoder-compare-human"),
]
IMPORT_TORCH = [pytest.param(*case, marks=pytest.mark.torch) for case in SCRIPTS[2:]]


@pytest.mark.parametrize(("script", "options", "folder"), SCRIPTS[:2] + IMPORT_TORCH)
def test_a_run_on_human_labels_goes_beside_the_one_on_silver_labels_before_a_model_is_loaded(
    script, options, folder
):
    write_models()
    write_csv(ROWS, "human_test.csv")
    save_run(f"results/{folder}", model="another", stage="before")
    kept = contents("results")
    with pytest.raises(UserError) as error:
        importlib.import_module(script).main([*options.split(), "--test-file", "human_test.csv"])
    [there, planned] = str(error.value).split(" than this one ")
    assert there == (
        f"results/{folder} holds another run (another before fine-tuning, all rows of test.csv)"
    )
    assert planned.endswith(f", all rows of human_test.csv): {CURE}")
    assert contents("results") == kept


CHANGES = [
    ({"model_path": "./n"}, "m after fine-tuning in ./tuned, all rows of ./test.csv"),
    ({"model_path": "./other/m"}, "m after fine-tuning in ./tuned, all rows of ./test.csv"),
    ({"trained_path": "./tuned_2"}, "m after fine-tuning in ./tuned, all rows of ./test.csv"),
    ({"test_file": "./human_test.csv"}, "m after fine-tuning in ./tuned, all rows of ./test.csv"),
    ({"max_test_samples": 100}, "m after fine-tuning in ./tuned, all rows of ./test.csv"),
    (
        {"codebook_sha256": "d" * 64},
        "m after fine-tuning in ./tuned, all rows of ./test.csv, by another codebook",
    ),
]


def save_planned(folder, **more):
    """Save the run of PLAN, with changes, into a folder."""
    plan = PLAN | more
    return save_run(
        folder,
        model=plan["model_path"],
        stage="after",
        test_file=plan["test_file"],
        tuned_path=plan["trained_path"],
        max_test_samples=plan["max_test_samples"],
    )


def as_planned(stage="after", **changes):
    """Return the run of PLAN, with changes, by the codebook of `save_planned`."""
    ours = {"codebook_sha256": read_codebook("prompt.txt").sha256}
    return plan_run("x", stage, **(PLAN | ours | changes))


@pytest.mark.parametrize(("change", "there"), CHANGES)
def test_another_run_is_not_overwritten_and_the_one_that_is_there_is_named(change, there):
    save_planned("x")
    with pytest.raises(UserError) as error:
        check_results(as_planned(**change), ROWS)
    assert str(error.value).startswith(f"x holds another run ({there}) than this one (")


def test_the_message_names_the_run_that_lies_there_this_one_and_the_cure():
    save_planned("x")
    with pytest.raises(UserError) as error:
        check_results(as_planned(max_test_samples=1000), ROWS)
    assert str(error.value) == (
        "x holds another run (m after fine-tuning in ./tuned, all rows of ./test.csv) than this "
        "one (m after fine-tuning in ./tuned, the first 1,000 rows of ./test.csv): give another "
        "--output-dir, or move that folder away"
    )


@pytest.mark.parametrize("stage", ["before", "compare"])
def test_a_run_of_another_stage_is_not_overwritten(stage):
    save_planned("x")
    with pytest.raises(UserError, match="x holds another run .m after fine-tuning in ./tuned, all"):
        check_results(as_planned(stage), ROWS)


def test_the_same_run_may_be_made_again_with_other_settings_and_paths_in_another_form():
    save_planned("x")
    check_results(as_planned(), ROWS)
    check_results(as_planned(), ROWS.assign(**{"class": 0, "custom_id": "row-3"}))
    resolved = {key: str(Path(PLAN[key]).resolve()) for key in ("model_path", "test_file")}
    check_results(as_planned(**resolved), ROWS)


def test_a_trial_on_a_few_rows_is_replaced_by_one_on_more_and_not_the_other_way():
    save_planned("x", max_test_samples=100)
    for more in (100, 1000, 0):
        check_results(as_planned(max_test_samples=more), ROWS)
    with pytest.raises(UserError, match=r"x holds another run .*, the first 100 rows of ./test"):
        check_results(as_planned(max_test_samples=99), ROWS)


def test_a_random_head_does_not_replace_the_probe():
    save_run("x", model="./m", stage="before", untrained_head=False)
    plan = {"test_file": "test.csv", "trained_path": ""}
    check_results(as_planned("before", **plan), ROWS)
    with pytest.raises(UserError, match="m before fine-tuning, all rows"):
        check_results(as_planned("before", **plan, random_head=True), ROWS)
    save_run("y", model="./m", stage="before", untrained_head=True)
    planned = plan_run("y", "before", **(PLAN | plan))
    with pytest.raises(UserError, match="m before fine-tuning with a random head, all rows"):
        check_results(planned, ROWS)


def test_what_a_killed_run_left_is_no_run(monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    monkeypatch.setattr("pipeline.evaluation.run.write_json", kill)
    with pytest.raises(Killed):
        save_planned("x")
    assert list(Path("x").iterdir()) == []
    for name in ("confusion_matrix.png", "predictions.csv", "report.txt"):
        Path("x", name).touch()  # where it was killed while its files took their places
        check_results(as_planned("before", model_path="./n"), ROWS)


def test_a_run_of_an_older_version_that_names_no_codebook_may_be_made_again():
    save_planned("x")
    record = json.loads(Path("x/metrics.json").read_bytes())
    del record["codebook_sha256"], record["settings"]["max_test_samples"]
    write_json(record, "x/metrics.json")
    check_results(as_planned(codebook_sha256="d" * 64), ROWS)
    with pytest.raises(UserError, match="x holds another run"):
        check_results(as_planned(model_path="./n"), ROWS)


def test_a_comparison_of_two_berts_is_overwritten_by_no_run_and_by_no_other_comparison():
    record = save_planned("scored")
    write_json({"before": record, "after": record}, "x/comparison.json")
    check_results(as_planned("compare"), ROWS)
    there = "m before and after fine-tuning in ./tuned, all rows of ./test.csv"
    for planned in (as_planned("after"), as_planned("compare", trained_path="./tuned_2")):
        with pytest.raises(UserError) as error:
            check_results(planned, ROWS)
        assert str(error.value).startswith(f"x holds another run ({there}) than this one (")


def test_the_comparison_of_all_models_is_no_run():
    write_json({"runs": [], "pairs": []}, "x/comparison.json")
    check_results(as_planned(), ROWS)
