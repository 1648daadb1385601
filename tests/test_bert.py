"""Steps 8 to 11: tokens, the order of rows, the probe, fine-tuning and its evaluation."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_splits
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score
from transformers import AutoModelForSequenceClassification

import bert_eval
import bert_inference_compare
import bert_tune
import bert_tune_eval
from pipeline.bert import encoder as bert
from pipeline.bert.training import ClassifierTrainer, bert_trainer, weighted_cross_entropy
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.rows import read_training_rows
from pipeline.common.tables import write_csv
from pipeline.models.training import (
    TrainingOptions,
    class_weights,
    options_of,
    output_claimed,
    training_record,
)

MESSAGES = ["短", "男女平等，" * 80, "[SEP] 一条 [MASK] 评论 [PAD]", "NA", "😀", "说了几句话" * 3]
FINAL = "tuned/final_model"
SIZES = ["--batch-size", "16", "--max-length", "64"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write 200 training, 40 validation and 60 test rows; return their folder."""
    return write_splits(tmp_path_factory.mktemp("data"), 4, train=200, validation=40, test=60)


def tune(model, data, *argv, output="tuned"):
    bert_tune.main(
        ["--model-path", model, "--output-dir", str(output), "--num-train-epochs", "2"]
        + ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
        + ["--learning-rate", "2e-3", "--logging-steps", "2", "--max-length", "64", *argv]
    )


@pytest.fixture(scope="module")
def tuned(tiny_bert, data, tmp_path_factory, tiny_codebook):
    """Fine-tune for two epochs without interruption; return the output folder."""
    output = tmp_path_factory.mktemp("tuned") / "bert"
    tune(tiny_bert, data, "--prompt-file", tiny_codebook, output=output)
    return output


def test_a_message_is_cut_at_the_length_and_counted_and_its_controls_are_text(tiny_bert):
    tokenizer = bert.load_tokenizer(tiny_bert, 64)
    rows, shortened = bert.encode(tokenizer, MESSAGES, 64)
    assert [len(row) for row in rows].count(64) == shortened == 1
    assert all(row[0] == tokenizer.cls_token_id for row in rows)
    assert all(row[-1] == tokenizer.sep_token_id for row in rows)
    assert not set(rows[2][1:-1]) & {tokenizer.sep_token_id, tokenizer.mask_token_id}
    with pytest.raises(UserError, match="--max-length 513: .* takes 3 to 512 tokens"):
        bert.load_tokenizer(tiny_bert, 513)


def test_each_message_is_tokenized_once(tiny_bert, codebook, data, monkeypatch):
    asked, as_text = [], bert.as_text

    class Counted:
        def __init__(self, *arguments, **options):
            self.tokenizer = as_text(*arguments, **options)
            self.enable_truncation = self.tokenizer.enable_truncation

        def encode_batch(self, texts):
            asked.extend(texts)
            return self.tokenizer.encode_batch(texts)

    monkeypatch.setattr(bert, "as_text", Counted)
    _, shortened = bert.encode(bert.load_tokenizer(tiny_bert, 64), MESSAGES, 64)
    assert (asked, shortened) == (MESSAGES, 1)

    asked.clear()
    train, validation = (pd.read_csv(data / f"{name}.csv") for name in ("train", "validation"))
    settings = {name.lower(): getattr(bert_tune, name) for name in vars(bert_tune)}
    options = options_of(TrainingOptions, settings)
    own = {"max_length": 64, "warmup_ratio": 0.1, "balanced": True, "freeze_word_embeddings": False}
    bert_trainer(tiny_bert, codebook, train, validation, options, **own)
    assert asked == [*train["message"], *validation["message"]]


def test_the_last_layer_loses_nothing_by_computing_one_token(tiny_bert, tiny_codebook):
    tokenizer = bert.load_tokenizer(tiny_bert, 64)
    rows, _ = bert.encode(tokenizer, MESSAGES, 64)
    inputs = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    spared = bert.load_classifier(tiny_bert, read_codebook(tiny_codebook), 42).eval()
    whole = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=4).eval()
    whole.load_state_dict(spared.state_dict())
    labels = torch.arange(len(rows)) % 4
    logits = []
    for model in (spared, whole):
        output = model(**inputs, labels=labels)
        output.loss.backward()
        logits.append(output.logits)
    torch.testing.assert_close(*logits)
    for (name, mine), other in zip(spared.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_row_s_probabilities_depend_on_neither_its_batch_nor_its_place(
    tiny_bert, codebook, batch_size
):
    together, _, _ = bert.predict_with_classifier(tiny_bert, MESSAGES, codebook, batch_size, 64, 1)
    again, _, _ = bert.predict_with_classifier(tiny_bert, MESSAGES[::-1], codebook, 6, 64, 1)
    assert together == pytest.approx(again[::-1], abs=1e-6)
    assert together.sum(1) == pytest.approx(np.ones(6))


def test_the_probe_learns_and_an_untrained_head_does_not(tiny_bert, data):
    files = ["--train-file", f"{data}/train.csv", "--test-file", f"{data}/test.csv"]
    bert_eval.main(["--model-path", tiny_bert, *files, *SIZES])
    name = Path(tiny_bert).name
    folder = Path(f"results/{name}-before")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (folder / "report.txt").read_text().startswith("Before fine tune\nTest accuracy: 0.")
    bert_eval.main(
        ["--model-path", tiny_bert, *files, *SIZES, "--untrained-head", "--output-dir", "chance"]
    )
    chance = json.loads(Path("chance/metrics.json").read_bytes())
    assert chance["macro_f1"] < 0.3 < metrics["macro_f1"]
    assert "chance" in Path("chance/report.txt").read_text(encoding="utf-8")


def test_probabilities_of_the_probe_stand_in_the_columns_of_their_classes(tiny_bert, data):
    train = pd.read_csv(data / "train.csv")
    train = train[train["class"].isin([1, 3])]
    probabilities, _, _ = bert.predict_with_probe(tiny_bert, train, MESSAGES, 4, 16, 64)
    assert probabilities[:, [1, 3]].sum(1) == pytest.approx(np.ones(6))


def test_rows_that_people_coded_are_counted_in_training_and_in_the_test(
    tiny_bert, data, codebook, tuned
):
    for name in ("train", "validation", "test"):
        rows = pd.read_csv(data / f"{name}.csv")
        rows["coded_by"] = ["human"] * 9 + [""] * (len(rows) - 9)
        write_csv(rows, f"{name}.csv")
    bert_eval.main(
        ["--model-path", tiny_bert, "--train-file", "train.csv", "--test-file", "test.csv", *SIZES]
    )
    metrics = json.loads(Path(f"results/{Path(tiny_bert).name}-before/metrics.json").read_bytes())
    assert metrics["method"].endswith(" rows, 9 of them coded by people")
    against = "agreement with the labels of 9 human, 51 silver rows (test.csv)"
    assert metrics["measured_against"] == against
    files = ("train.csv", "validation.csv")
    record = training_record(
        codebook, tiny_bert, files, read_training_rows(*files, codebook, 0), settings={}
    )
    assert record["human_rows"] == {"train": 9, "validation": 9}
    silver = json.loads((tuned / "final_model/training.json").read_bytes())
    assert silver["human_rows"] == {"train": 0, "validation": 0}


def test_class_weights_balance_the_classes():
    labels = pd.Series([0] * 6 + [1] * 3 + [3])
    assert class_weights(labels, 4, True) == pytest.approx([10 / 24, 10 / 12, 1, 2.5])
    assert class_weights(labels, 4, False) == [1, 1, 1, 1]
    logits, target = torch.randn(10, 4), torch.tensor(labels.to_numpy())
    loss = weighted_cross_entropy([10 / 24, 10 / 12, 1, 2.5])
    rows = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    weights = torch.tensor([10 / 24, 10 / 12, 1, 2.5])[target]
    outputs = type("Outputs", (), {"logits": logits})
    actual = loss(outputs, target, weights.sum()).item()
    assert actual == pytest.approx((rows * weights).sum() / weights.sum())


def test_a_process_alone_takes_a_batch_without_reading_numbers_off_the_device():
    arguments = SimpleNamespace(class_weights=torch.tensor([2.0, 1.0], device="meta"))
    batch = {
        "input_ids": torch.ones(3, 7, dtype=torch.long, device="meta"),
        "attention_mask": torch.ones(3, 7, dtype=torch.long, device="meta"),
        "labels": torch.zeros(3, dtype=torch.long, device="meta"),
    }
    rows, own, weight = ClassifierTrainer.own_inputs(arguments, batch)
    assert rows == slice(None) and weight.shape == ()
    assert all(own[name].shape == batch[name].shape for name in batch)


def test_frozen_word_embeddings_are_those_of_the_encoder(tiny_bert, data):
    tune(tiny_bert, data, "--freeze-word-embeddings", "--num-train-epochs", "1")
    before, after = (load_file(f"{path}/model.safetensors") for path in (tiny_bert, FINAL))
    words = "embeddings.word_embeddings.weight"
    name = next(name for name in before if name.endswith(words))
    assert torch.equal(before[name], after[f"bert.{words}"])
    positions = "embeddings.position_embeddings.weight"
    assert not torch.equal(before[name.replace(words, positions)], after[f"bert.{positions}"])


def test_fine_tuning_keeps_the_best_weights_by_validation_f1(tuned, codebook):
    record = json.loads((tuned / "final_model/training.json").read_text())
    scores = {e["step"]: e["eval_weighted_f1"] for e in record["log_history"] if "eval_loss" in e}
    best = load_file(tuned / f"checkpoint-{max(scores, key=scores.get)}" / "model.safetensors")
    final = load_file(tuned / "final_model/model.safetensors")
    assert all(torch.equal(best[name], final[name]) for name in final)
    config = json.loads((tuned / "final_model/config.json").read_text())
    assert config["id2label"] == {str(k): name for k, name in enumerate(codebook.names)}
    assert (tuned / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_fine_tuning_ends_as_the_uninterrupted_one(tuned, tiny_bert, data):
    shutil.copytree(tuned, "tuned")
    last = max(Path("tuned").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    shutil.rmtree(last)
    shutil.rmtree("tuned/final_model")
    tune(tiny_bert, data, "--resume")
    expected = load_file(tuned / last.name / "model.safetensors")
    resumed = load_file(f"tuned/{last.name}/model.safetensors")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_second_training_in_the_same_folder_is_refused_while_the_first_goes_on():
    first, second = (output_claimed("tuned", {}, resume=False) for _ in range(2))
    with first, pytest.raises(UserError, match="another training is at work on tuned"), second:
        pass
    with output_claimed("tuned", {}, resume=False) as checkpoint:
        assert checkpoint is None


def test_a_resumed_fine_tuning_stops_early_where_the_uninterrupted_one_did(tiny_bert, data):
    patient = ["--num-train-epochs", "5", "--early-stopping-patience", "2"]
    patient += ["--learning-rate", "1e-12", "--save-total-limit", "9"]
    tune(tiny_bert, data, *patient)
    steps = {path.name for path in Path("tuned").glob("checkpoint-*")}
    assert steps == {"checkpoint-7", "checkpoint-14", "checkpoint-21"}  # of 35
    with pytest.raises(UserError, match="the training is complete: nothing to resume"):
        tune(tiny_bert, data, *patient, "--resume")
    shutil.rmtree("tuned/checkpoint-21")
    shutil.rmtree("tuned/final_model")
    tune(tiny_bert, data, *patient, "--resume")
    record = json.loads(Path("tuned/final_model/training.json").read_bytes())
    assert max(entry["step"] for entry in record["log_history"]) == 21


def test_the_tuned_model_is_evaluated_row_by_row(tuned, tiny_bert, data):
    tuned_path = ["--tuned-path", str(tuned / "final_model")]
    bert_tune_eval.main([*tuned_path, "--test-file", f"{data}/test.csv", *SIZES])
    folder = Path(f"results/{Path(tiny_bert).name}-after")
    predictions = pd.read_csv(folder / "predictions.csv")
    test = pd.read_csv(data / "test.csv")
    assert predictions["custom_id"].tolist() == test["custom_id"].tolist()
    shares = predictions[["p_Positive", "p_Mild", "p_Negative", "p_Irrelevant"]].to_numpy()
    assert shares.sum(1) == pytest.approx(np.ones(60), abs=1e-5)
    assert predictions["confidence"].to_numpy() == pytest.approx(shares.max(1))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["accuracy"] == accuracy_score(test["class"], shares.argmax(1))
    assert (folder / "report.txt").read_text().startswith("After fine tune\nTest accuracy: 0.")


def evaluate(folder, data, rows, output):
    """Evaluate a tuned model; return metrics, and predicted classes and probabilities of rows."""
    files = ["--tuned-path", str(folder), "--test-file", f"{data}/{rows}.csv", *SIZES]
    bert_tune_eval.main([*files, "--output-dir", output])
    table = pd.read_csv(f"{output}/predictions.csv")
    metrics = json.loads(Path(output, "metrics.json").read_bytes())
    return metrics, table["predicted"], table.filter(regex="^p_").to_numpy()


def test_a_temperature_fitted_on_the_validation_rows_scales_probabilities_and_moves_no_class(
    tuned, data
):
    shutil.copytree(tuned / "final_model", FINAL)
    record = json.loads(Path(FINAL, "training.json").read_bytes())
    fitted = dict(record["validation"])
    metrics, predicted, scaled = evaluate(FINAL, data, "validation", "calibrated")
    assert metrics["temperature"] == fitted["temperature"] != 1
    assert metrics["ece"] == pytest.approx(fitted["ece_with_temperature"], abs=1e-4)
    assert metrics["ece_without_temperature"] == pytest.approx(fitted["ece"], abs=1e-4)
    report = Path("calibrated/report.txt").read_text(encoding="utf-8")
    assert f" at temperature {fitted['temperature']:.3f}, " in report

    for name in ("temperature", "ece", "ece_with_temperature"):
        del record["validation"][name]  # as bert_tune.py wrote it before
    Path(FINAL, "training.json").write_text(json.dumps(record), encoding="utf-8")
    older, same, raw = evaluate(FINAL, data, "validation", "older")
    assert older["temperature"] == 1
    assert len({run["training_sha256"] for run in (metrics, older)} | {""}) == 3
    assert older["ece"] == pytest.approx(older["ece_without_temperature"], abs=1e-4)
    assert list(predicted) == list(same)
    powers = raw ** (1 / fitted["temperature"])
    assert scaled == pytest.approx(powers / powers.sum(1, keepdims=True), abs=1e-4)


def test_the_comparison_records_the_temperature_of_the_tuned_model_alone(tuned, tiny_bert, data):
    files = ["--train-file", f"{data}/train.csv", "--test-file", f"{data}/test.csv"]
    both = ["--model-path", tiny_bert, "--tuned-path", f"{tuned}/final_model"]
    bert_inference_compare.main([*both, *files, *SIZES, "--output-dir", "compared"])
    comparison = json.loads(Path("compared/comparison.json").read_bytes())
    fitted = json.loads((tuned / "final_model/training.json").read_bytes())["validation"]
    assert comparison["after"]["temperature"] == fitted["temperature"]
    assert "ece_without_temperature" in comparison["after"]
    assert "temperature" not in comparison["before"]


def test_the_comparison_counts_what_only_one_model_got_right(tuned, tiny_bert, data):
    bert_inference_compare.main(
        ["--model-path", tiny_bert, "--tuned-path", str(tuned / "final_model")]
        + ["--train-file", f"{data}/train.csv", "--test-file", f"{data}/test.csv", *SIZES]
    )
    folder = Path(f"results/{Path(tiny_bert).name}-compare")
    comparison = json.loads((folder / "comparison.json").read_text())
    rows = pd.read_csv(folder / "predictions.csv")
    before = rows["predicted_before"] == rows["class"]
    after = rows["predicted_after"] == rows["class"]
    [pair] = comparison["pairs"]
    assert pair["only_second_right"] == (after & ~before).sum()
    assert [row["accuracy"] for row in comparison["runs"]] == [before.mean(), after.mean()]
    assert comparison["before"]["accuracy"] == before.mean()
    assert comparison["after"]["accuracy"] == after.mean()
    text = (folder / "comparison.txt").read_text()
    shutil.copytree(tiny_bert, "other")
    vectors = load_file("other/model.safetensors")
    save_file({name: tensor + 1 for name, tensor in vectors.items()}, "other/model.safetensors")
    with pytest.raises(UserError, match="was tuned from .*, and other is another model"):
        bert_inference_compare.main(
            ["--model-path", "other", "--tuned-path", str(tuned / "final_model")]
            + ["--train-file", f"{data}/train.csv", "--test-file", f"{data}/test.csv"]
        )
    assert "Before fine tune" in text and "After fine tune" in text and "rows/s" in text
    assert (folder / "confusion_difference.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_is_not_scored_on_the_rows_that_it_learned(tiny_bert, tuned, data, capsys):
    final = str(tuned / "final_model")
    shutil.copy(data / "train.csv", "test.csv")
    with pytest.raises(UserError, match=r"test.csv: 100% of its rows are rows that .* learned"):
        bert_tune_eval.main(["--tuned-path", final, "--test-file", "test.csv", *SIZES])
    with pytest.raises(UserError, match="100% of its rows are rows that the probe on .* learned"):
        bert_eval.main(
            ["--model-path", tiny_bert, "--test-file", "test.csv", *SIZES]
            + ["--train-file", f"{data}/train.csv"]
        )
    assert not list(Path("results").rglob("*.csv"))
    validation = ["--test-file", f"{data}/validation.csv", "--output-dir", "validated"]
    bert_tune_eval.main(["--tuned-path", final, *validation, *SIZES])
    assert "is the validation file of the training, by which its best" in capsys.readouterr().out


def test_a_tuned_model_with_another_vocabulary_beside_it_is_refused(tuned, data):
    shutil.copytree(tuned / "final_model", FINAL)
    file = Path(FINAL, "tokenizer.json")
    content = json.loads(file.read_bytes())
    words = content["model"]["vocab"]
    first, second = sorted(words, key=words.get)[-2:]
    words[first], words[second] = words[second], words[first]
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="was trained with another tokenizer than the one that is"):
        bert_tune_eval.main(["--tuned-path", FINAL, "--test-file", f"{data}/test.csv", *SIZES])
    record = json.loads(Path(FINAL, "training.json").read_bytes())
    del record["tokenizer_sha256"]  # of an older version
    Path(FINAL, "training.json").write_text(json.dumps(record), encoding="utf-8")
    bert_tune_eval.main(["--tuned-path", FINAL, "--test-file", f"{data}/test.csv", *SIZES])
