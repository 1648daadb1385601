"""The loss and the metrics that training reads off an answer's tokens, and what an epoch prints."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction

import bert_tune
import finetune
from pipeline.common.tables import write_csv
from pipeline.evaluation import plots
from pipeline.llm.answers import AnswerLoss, class_logits, score_metrics
from pipeline.llm.prompt import Prompt
from pipeline.models.epoch_lines import epoch_line

PROMPT = Prompt([3, 4], [1, 2], [[7, 10 + k, 8, 9] for k in range(3)], [9])
NAMES = ("a", "b", "c")
LABELS = torch.tensor([0, 2, 1, 2, 0])


def random_logits(scale=1.0):
    """Return the logits (1, tokens, vocabulary) of five answers of four tokens."""
    generator = torch.Generator().manual_seed(4)
    return scale * torch.randn(1, len(LABELS) * 4, 20, generator=generator)


def token_losses(logits):
    """Return the cross-entropy (rows, tokens) of the answers."""
    targets = torch.tensor(PROMPT.answers)[LABELS]
    return cross_entropy(logits[0], targets.flatten(), reduction="none").view(len(LABELS), 4)


def test_the_class_token_s_loss_in_training_stands_apart_from_the_others():
    loss, logits = AnswerLoss(PROMPT, [2.0, 1.0, 1.0]), random_logits().requires_grad_()
    expected = token_losses(logits).detach()
    value = loss(SimpleNamespace(logits=logits[:, :8]), LABELS[:2], 5)
    value = value + loss(SimpleNamespace(logits=logits[:, 8:]), LABELS[2:], 5)
    weights = torch.tensor([2.0, 1.0, 1.0])[LABELS]
    assert value.item() == pytest.approx((expected.mean(1) * weights).sum().item() / 5)
    with torch.no_grad():
        loss(SimpleNamespace(logits=logits), LABELS)  # validation: not counted
    means = loss.take_means(torch.device("cpu"))
    assert means["class_loss"] == pytest.approx(expected[:, 1].mean().item())
    assert means["other_loss"] == pytest.approx(expected[:, [0, 2, 3]].mean().item())
    loss(SimpleNamespace(logits=logits[:, :8]), LABELS[:2])
    again = loss.take_means(torch.device("cpu"))  # since the last time only
    assert again["class_loss"] == pytest.approx(expected[:2, 1].mean().item())


def test_the_sums_stay_on_the_device_and_hold_no_graph():
    loss, logits = AnswerLoss(PROMPT, [1.0] * 3), random_logits().requires_grad_()
    loss(SimpleNamespace(logits=logits), LABELS)
    assert not loss.sums.requires_grad and loss.sums.tolist()[2] == 5
    on_meta = AnswerLoss(PROMPT, [1.0] * 3)
    on_meta.sums = on_meta.sums.to("meta")
    values = SimpleNamespace(logits=logits.detach().to("meta").requires_grad_())
    on_meta(values, LABELS.to("meta"))  # reading a number off a meta tensor would fail
    assert {part.device.type for part in (on_meta.sums, on_meta.answers, on_meta.weights)} == {
        "meta"
    }


def test_the_class_token_s_loss_in_validation_is_that_among_all_tokens():
    logits = random_logits()
    values = class_logits(PROMPT, logits, len(LABELS))
    scores = score_metrics(EvalPrediction(values.numpy(), LABELS.numpy()), NAMES)
    assert scores["class_loss"] == pytest.approx(token_losses(logits)[:, 1].mean().item())
    asked = logits.view(5, 4, 20)[:, 1, 10:13]
    probabilities = asked.softmax(1)
    assert values.softmax(1) == pytest.approx(probabilities, abs=1e-6)
    assert scores["accuracy"] == (asked.argmax(1) == LABELS).float().mean()


def test_a_validation_of_one_answer_is_warned_of():
    labels = np.repeat([0, 1], [74, 26])
    one = np.tile(np.array([2.0, 0.0, 0.0], dtype=np.float32), (100, 1))
    scores = score_metrics(EvalPrediction(one, labels), NAMES)
    assert scores["accuracy"] == 0.74
    assert scores["warning"].startswith('All 100 answers are "a", which is the class of 74 of')
    right = 4 * np.eye(3, dtype=np.float32)[labels]
    assert score_metrics(EvalPrediction(right, labels), NAMES)["warning"] is None


def test_an_epoch_s_line_begins_with_the_class_token():
    history = [
        {"step": 10, "loss": 0.9, "class_loss": 1.1, "other_loss": 0.8},
        {"step": 20, "loss": 0.25, "class_loss": 0.75, "other_loss": 1e-4},
        {"step": 20, "eval_loss": 0.2},
    ]
    logs = {"eval_loss": 0.2, "eval_class_loss": 0.6, "eval_accuracy": 0.8, "eval_macro_f1": 0.7}
    logs |= {"eval_temperature": 1.2, "eval_warning": None, "eval_runtime": 3.0, "epoch": 2.0}
    assert epoch_line(logs, history, 2.0) == (
        "epoch 2: class token: training loss 0.7500, validation loss 0.6000, accuracy 0.8000, "
        "macro f1 0.7000; whole answer: training loss 0.2500, validation loss 0.2000"
    )
    del logs["eval_class_loss"]
    assert epoch_line(logs, [], 1.0) == (
        "epoch 1: validation loss 0.2000, accuracy 0.8000, macro f1 0.7000"
    )


def test_the_loss_curve_of_a_few_steps_is_that_of_the_class_token_too(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    plots.plot_loss([{"step": 4, "eval_loss": 2.1, "eval_class_loss": 1.2}], "a training", "a.png")
    labels = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
    assert labels == ["validation, class token", "validation, whole answer"]


@pytest.fixture
def unlearnable():
    """Write rows whose class has nothing to do with the comment; 74 in 100 have class 1."""
    classes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [9, 74, 9, 8]))
    for name in ("train", "validation"):
        rows = pd.DataFrame({"message": "这是一条评论", "class": classes})
        rows.insert(0, "custom_id", [f"row-{n}" for n in range(100)])
        write_csv(rows, f"{name}.csv")
    return ["--train-file", "train.csv", "--validation-file", "validation.csv"]


@pytest.mark.parametrize("family", ["llm", "bert"])
def test_a_training_that_learns_nothing_says_so_each_epoch_and_at_the_end(
    family, unlearnable, tiny_qwen2, tiny_bert, capsys
):
    argv = [*unlearnable, "--num-train-epochs", "2", "--output-dir", "out", "--logging-steps", "1"]
    if family == "llm":
        argv += ["--model-path", tiny_qwen2, "--no-load-in-4bit", "--learning-rate", "5e-3"]
        finetune.main(argv)
    else:
        bert_tune.main([*argv, "--model-path", tiny_bert, "--no-class-weights"])
    said = capsys.readouterr()
    everything = said.out + said.err
    assert everything.count("WARNING: All 100 answers are") == 3
    assert said.out.rindex("WARNING") > said.out.rindex("best validation")
    with open("out/final_model/training.json", encoding="utf-8") as file:
        record = json.load(file)
    assert record["validation"]["warning"].startswith("All 100 answers are")
    assert "--learning-rate" in record["validation"]["what_to_try"]
    epochs = [entry for entry in record["log_history"] if "eval_loss" in entry]
    assert len(epochs) == 2 and all(entry["eval_warning"] for entry in epochs)
    if family == "llm":
        with open("out/final_model/README.md", encoding="utf-8") as file:
            card = file.read()
        assert card.index("They are agreement with") < card.index("\nWARNING: All 100 answers are")
        steps = [entry for entry in record["log_history"] if "loss" in entry]
        for entry in steps:
            whole = (entry["class_loss"] + 3 * entry["other_loss"]) / 4
            assert whole == pytest.approx(entry["loss"], rel=1e-4)
        assert "class token: training loss" in everything
