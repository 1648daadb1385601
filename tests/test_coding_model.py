"""The tuned models that code comments: found by their record, and the same as in evaluation."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_splits

import bert_tune
import bert_tune_eval
import finetune
import local_inference
import posttune_eval
from pipeline.coding.model import (
    ADAPTER_KIND,
    ENCODER,
    MERGED,
    ModelOptions,
    find_model,
    open_model,
)
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.models.kept_rows import keeping_rows

KINDS = {  # folder -> what it is, its evaluation, how that is called
    "bert/final_model": (ENCODER, bert_tune_eval, ["--tuned-path"]),
    "qlora/final_model": (ADAPTER_KIND, posttune_eval, ["--adapter-path"]),
    "qlora/merged_model": (MERGED, local_inference, ["--decoding", "score", "--model-path"]),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_qwen2, tiny_bert, tiny_codebook):
    """Fine-tune both kinds of models, one epoch each; return the folder of the models and data."""
    place = tmp_path_factory.mktemp("study")
    data = write_splits(place, 4, train=60, validation=24, test=23)
    files = ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
    shared = [*files, "--prompt-file", tiny_codebook, "--num-train-epochs", "1"]
    shared += ["--learning-rate", "5e-3"]
    bert_tune.main([*shared, "--model-path", tiny_bert, "--output-dir", f"{place}/bert"])
    adapter = ["--model-path", tiny_qwen2, "--no-load-in-4bit", "--merge"]
    finetune.main([*shared, *adapter, "--output-dir", f"{place}/qlora"])
    return place


def options_of(path, **more):
    """Return how a model is opened here: unquantized, in small packs and batches."""
    options = {"load_in_4bit": False, "max_tokens_per_pack": 700, "batch_size": 7} | more
    return ModelOptions(str(path), **options)


def messages_of(study):
    return pd.read_csv(study / "test.csv", dtype=str)["message"].tolist()


@pytest.mark.parametrize("folder", KINDS)
def test_a_model_codes_a_file_with_the_probabilities_of_its_evaluation(
    folder, study, codebook, tiny_qwen2
):
    kind, script, argv = KINDS[folder]
    argv = [*argv, str(study / folder), "--test-file", f"{study}/test.csv"]
    if script is bert_tune_eval:
        argv += ["--batch-size", "7"]
    else:
        argv += ["--no-load-in-4bit", "--max-tokens-per-pack", "700"]
    if script is posttune_eval:
        argv += ["--model-path", tiny_qwen2]
    script.main([*argv, "--output-dir", "evaluated"])
    table = pd.read_csv("evaluated/predictions.csv")
    found = find_model(options_of(study / folder), codebook)
    assert (found.kind, found.temperature != 1) == (kind, True)
    probabilities = open_model(found, codebook).probabilities(messages_of(study))
    assert probabilities.dtype == np.float64
    np.testing.assert_array_equal(
        probabilities.round(6), table.filter(regex="^p_").to_numpy(), strict=True
    )


@pytest.mark.parametrize("folder", KINDS)
def test_rows_that_an_interrupted_run_has_finished_are_taken_as_they_are(
    folder, study, codebook, capsys
):
    model = open_model(find_model(options_of(study / folder), codebook), codebook)
    messages = messages_of(study)
    with pytest.raises(KeyboardInterrupt), keeping_rows(Path("coded")) as kept:
        first = model.probabilities(messages, kept)
        raise KeyboardInterrupt
    capsys.readouterr()
    with keeping_rows(Path("coded")) as kept:
        np.testing.assert_array_equal(model.probabilities(messages, kept), first)
    assert "23 of 23 rows were there" in capsys.readouterr().out


def test_packs_are_as_large_as_those_of_the_first_comments(study, codebook, monkeypatch):
    from pipeline.llm import scoring

    rooms = iter([900, 500, 300])
    monkeypatch.setattr(scoring, "scoring_pack_tokens", lambda *_: next(rooms))
    found = find_model(options_of(study / "qlora/final_model", max_tokens_per_pack=0), codebook)
    messages = messages_of(study)
    with keeping_rows(Path("coded")) as kept:
        model = open_model(found, codebook)
        for part in (messages[:10], messages[10:]):
            model.probabilities(part, kept)
    assert next(rooms) == 500


def test_a_fingerprint_changes_with_what_the_probabilities_follow_from(study, codebook):
    model = shutil.copytree(study / "bert/final_model", "model")
    before = find_model(options_of(model), codebook).fingerprint
    assert find_model(options_of(model, batch_size=64), codebook).fingerprint == before
    assert find_model(options_of(model, load_in_4bit=True), codebook).fingerprint == before
    assert find_model(options_of(model, max_length=60), codebook).fingerprint != before
    edit_record(model, lambda record: record["validation"].update(temperature=2.5))
    assert find_model(options_of(model), codebook).fingerprint != before
    adapter = study / "qlora/final_model"
    prints = {
        find_model(options_of(path, load_in_4bit=quantized), codebook).fingerprint
        for path in (adapter, study / "qlora/merged_model")
        for quantized in (True, False)
    }
    assert len(prints) == 4


def edit_record(folder, change):
    """Change a folder's training.json."""
    path = Path(folder, "training.json")
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def forget_base(folder):
    edit_record(folder, lambda record: record["settings"].update(model_path="./moved/Qwen2"))


def without_temperature(folder):
    edit_record(folder, lambda record: record["validation"].update(temperature=float("nan")))


def other_codebook(folder):
    with Path("prompt.txt").open("a", encoding="utf-8") as prompt:
        prompt.write("Quotations count.\n")


def no_settings(folder):
    edit_record(folder, lambda record: record.pop("settings"))


WRONG = [
    ("absent", None, "absent not found: run finetune.py or bert_tune.py, or give --model"),
    ("bert/final_model", other_codebook, "was trained with another codebook than prompt.txt"),
    ("qlora/final_model", other_codebook, "was trained with another codebook than prompt.txt"),
    ("qlora/merged_model", other_codebook, "was trained with another codebook than prompt.txt"),
    ("qlora/final_model", forget_base, "is an adapter of Qwen2, which is not in ./moved/Qwen2"),
    ("bert/final_model", without_temperature, "training.json lacks temperature"),
    ("bert/final_model", no_settings, "training.json lacks model_path"),
    ("bert", None, "bert has a training.json beside no model: give --model the final_model"),
]


@pytest.mark.parametrize(("folder", "change", "said"), WRONG)
def test_a_model_that_cannot_code_by_this_codebook_is_refused_in_a_line(
    folder, change, said, study
):
    if (study / folder).is_dir():
        shutil.copytree(study / folder, folder)
    if change:
        change(folder)
    with pytest.raises(UserError) as error:
        find_model(options_of(folder), read_codebook("prompt.txt"))
    assert said in str(error.value)


@pytest.mark.parametrize("fixture", ["tiny_qwen2", "tiny_bert"])
def test_probabilities_asked_of_a_model_that_was_never_tuned_are_refused(
    fixture, request, codebook
):
    model = request.getfixturevalue(fixture)
    with pytest.raises(UserError, match="holds no model that was tuned to code comments"):
        find_model(options_of(model), codebook)


def test_an_adapter_on_another_base_is_refused_by_this_script_s_own_options(
    study, codebook, tiny_qwen2
):
    base = Path(shutil.copytree(tiny_qwen2, "other"))
    config = json.loads((base / "config.json").read_bytes())
    (base / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}), encoding="utf-8")
    with pytest.raises(UserError, match="give --base-model that base, or another --model"):
        find_model(options_of(study / "qlora/final_model", base_path="other"), codebook)
