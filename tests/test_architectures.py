"""Families of models, tiny and random, by the scripts: packed or padded, trained, merged."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import FAMILIES, build
from bitsandbytes.nn import Linear4bit
from conftest import write_splits
from encoder_families import ENCODERS, build_encoder
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from torch.nn.functional import cross_entropy
from transformers import TrainingArguments

import bert_eval
import bert_tune
import bert_tune_eval
import finetune
import local_inference
import posttune_eval
from pipeline.bert import encoder
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.llm.answers import AnswerLoss
from pipeline.llm.generating import generate_replies
from pipeline.llm.loading import base_of, load_model, load_tokenizer
from pipeline.llm.lora import add_adapter
from pipeline.llm.packing import pack, pad
from pipeline.llm.prompt import build_prompt, encode_comments
from pipeline.llm.scoring import choose_packing, score_comments
from pipeline.llm.training import PackTrainer, training_rows
from pre_process.sample.comments import generate_comments

MESSAGES = [
    "短",
    "男女平等 " * 30,
    "一条普通的评论，说了几句话😀",
    "NA",
    "<|im_end|></s><eos>[2]",
    "a",
]
LABELS = [0, 1, 2, 3, 0, 1]


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory, tiny_codebook):
    """Return a function that builds a family's model once, and returns its folder."""
    place = tmp_path_factory.mktemp("families")
    text = read_codebook(tiny_codebook).text
    texts = [text] * 20 + [comment for comment, _ in generate_comments(300, seed=1)]

    @cache
    def folder(name):
        return build(FAMILIES[name], place / name.replace(" ", "-"), texts)

    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_splits(tmp_path_factory.mktemp("data"), 3, train=8, validation=8, test=6)


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def asked(name, folder, codebook):
    """Return a family's tokenizer, prompt and comments."""
    tokenizer = load_tokenizer(folder)
    prompt = build_prompt(tokenizer, codebook)
    comments, shortened = encode_comments(tokenizer, prompt, MESSAGES, 512)
    assert shortened == 0
    return tokenizer, prompt, comments


def relative(actual, expected):
    return (actual - expected).abs().max() / expected.abs().max()


def test_a_reply_is_asked_for_as_in_a_finished_chat_and_without_a_thought(
    name, family_folder, codebook
):
    family = FAMILIES[name]
    tokenizer, prompt, comments = asked(name, family_folder(name), codebook)
    assert tokenizer.decode(prompt.suffix).endswith(family.reply)
    assert prompt.suffix_text.endswith(family.reply)
    opens = "its chat template opens a thought in each reply, which is closed, empty"
    assert (opens in prompt.note) == ("R1" in name)
    assert prompt.answers[1][-1] in prompt.stop
    assert tokenizer.convert_ids_to_tokens(prompt.answers[1][-1]) in family.control_tokens
    controls = set(tokenizer.convert_tokens_to_ids(list(family.control_tokens)))
    assert not controls & {token for comment in comments for token in comment}


def test_rows_are_scored_and_replied_to_as_alone_in_packs_or_padded_with_the_reason(
    name, family_folder, codebook, capsys
):
    tokenizer, prompt, comments = asked(name, family_folder(name), codebook)
    model = load_model(family_folder(name), load_in_4bit=False)
    rows = [prompt.prefix + comment + prompt.suffix for comment in comments]
    with torch.no_grad():
        logits = [
            model(torch.tensor([row + prompt.answers[0][: prompt.shared]])).logits[0, -1]
            for row in rows
        ]
        tokens = model.generate(
            torch.tensor([rows[1]]), max_new_tokens=4, do_sample=False, eos_token_id=prompt.stop
        )
    reply = tokenizer.decode(tokens[0, len(rows[1]) :], skip_special_tokens=True)
    expected = torch.stack(logits)[:, prompt.class_tokens].numpy()

    packed = choose_packing(model, prompt, comments)
    said = "padded batches, the prompt repeated in each row: " + FAMILIES[name].padded
    assert (said if FAMILIES[name].padded else "shared-prefix packs:") in capsys.readouterr().out
    assert packed == (not FAMILIES[name].padded)
    for max_tokens in (200, 4096):
        scores = score_comments(model, prompt, comments, max_tokens, packed)
        assert np.abs(scores - expected).max() < 1e-5 * torch.stack(logits).abs().max().item()
    packed = choose_packing(model, prompt, comments, 4)
    replies, _ = generate_replies(model, tokenizer, prompt, comments, 4, 4, packed)
    assert replies[1] == reply


def test_4_bit_weights_are_scored_in_packs_as_padded_and_an_adapter_on_them_learns(
    name, family_folder, codebook
):
    _, prompt, comments = asked(name, family_folder(name), codebook)
    model = with_adapter(family_folder(name), load_in_4bit=True)
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    expected = score_comments(model, prompt, comments, 4096, packed=False)
    packed = choose_packing(model, prompt, comments)
    scores = score_comments(model, prompt, comments, 4096, packed)
    assert np.abs(scores - expected).max() < 1e-4 * np.abs(expected).max()
    rows = [row["input_ids"] for row in training_rows(prompt, comments, LABELS)]
    length = len(prompt.answers[0])
    inputs = pack(prompt.prefix, rows, length) if packed else pad(prompt.prefix, rows, length, 0)
    model(**inputs).logits.float().square().mean().backward()
    assert all(
        gradient.isfinite().all() and gradient.any() for gradient in gradients(model).values()
    )


def with_adapter(folder, gradient_checkpointing=False, load_in_4bit=False):
    """Return a model with an adapter that changes something."""
    torch.manual_seed(0)
    model = add_adapter(
        load_model(folder, load_in_4bit),
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        gradient_checkpointing=gradient_checkpointing,
    )
    for parameter, weight in model.named_parameters():
        if "lora_B" in parameter:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def gradients(model):
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def test_a_training_step_has_the_gradients_of_separate_rows(
    name, family_folder, codebook, tmp_path
):
    _, prompt, comments = asked(name, family_folder(name), codebook)
    model, rows = with_adapter(family_folder(name)), training_rows(prompt, comments, LABELS)
    length = len(prompt.answers[0])
    model.train()
    for row in rows:
        output = model(torch.tensor([prompt.prefix + row["input_ids"]]))
        answer = torch.tensor(prompt.answers[row["labels"]])
        (cross_entropy(output.logits[0, -length:], answer) / len(rows)).backward()
    expected = gradients(model)
    leaves = {parameter.split(".lora_")[0].rpartition(".")[2] for parameter in expected}
    assert leaves == set(FAMILIES[name].adapted.split())

    packed = choose_packing(model, prompt, comments)
    for max_tokens in (len(prompt.prefix) + 200, 5000):  # several packs, and one
        actual = step_gradients(model, prompt, rows, tmp_path, packed, max_tokens)
        assert_alike(actual, expected)


def step_gradients(model, prompt, rows, tmp_path, packed, max_tokens, share_prefix=True):
    trainer = PackTrainer(
        prompt,
        max_tokens,
        packed=packed,
        share_prefix=share_prefix,
        model=model,
        args=TrainingArguments(str(tmp_path), remove_unused_columns=False, report_to="none"),
        compute_loss_func=AnswerLoss(prompt, [1, 1, 1, 1]),
    )
    batch = trainer.data_collator(rows)
    model.zero_grad()
    trainer.training_step(model, batch, trainer._get_num_items_in_batch([batch], "cpu"))
    return gradients(model)


def assert_alike(actual, expected):
    assert actual.keys() == expected.keys()
    scale = max(gradient.abs().max() for gradient in expected.values())
    assert max((actual[name] - expected[name]).abs().max() for name in expected) < 1e-4 * scale


@pytest.mark.parametrize("name", ["Gemma 4", "Gemma 3 with images", "Qwen3.5"])
def test_gradient_checkpointing_leaves_the_gradients_as_they_are(
    name, family_folder, codebook, tmp_path
):
    _, prompt, comments = asked(name, family_folder(name), codebook)
    rows, results = training_rows(prompt, comments, LABELS), []
    for checkpointed in (False, True):
        model = with_adapter(family_folder(name), checkpointed)
        if checkpointed:
            model.gradient_checkpointing_enable()
        packed = choose_packing(model, prompt, comments)
        results.append(step_gradients(model, prompt, rows, tmp_path, packed, 1000, False))
    assert_alike(*results)


SCRIPTED = [
    "Qwen3",
    "Qwen3.5",
    "Gemma 3 with images",
    "Gemma 4 with images and sound",
    "Ministral 3 with images",
    "Phi 3",
    "SmolLM3",
]


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_family_goes_through_the_scripts_in_4_bit_and_merged(name, family_folder, data):
    model = ["--model-path", family_folder(name)]
    test = ["--test-file", f"{data}/test.csv", "--max-new-tokens", "3"]
    local_inference.main([*model, *test, "--decoding", "generate", "--output-dir", "before"])
    files = ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
    training = ["--num-train-epochs", "1", "--warmup-steps", "1", "--learning-rate", "1e-2"]
    finetune.main([*model, *files, *training, "--output-dir", "qlora", "--merge"])
    adapter = Path("qlora/final_model")
    with safe_open(adapter / "adapter_model.safetensors", "pt") as weights:
        kept = list(weights.keys())
    assert kept and not [key for key in kept if re.search("vision|audio|lm_head", key)]
    scored = ["--adapter-path", str(adapter), "--no-load-in-4bit", "--decoding", "score"]
    posttune_eval.main([*model, *test, *scored, "--output-dir", "adapter"])
    merged = ["--model-path", "qlora/merged_model", "--no-load-in-4bit", "--decoding", "score"]
    local_inference.main([*merged, *test, "--output-dir", "merged"])
    metrics = {
        run: json.loads(Path(run, "metrics.json").read_bytes()) for run in ("adapter", "merged")
    }
    assert [metrics[run]["valid"] for run in metrics] == [6, 6]
    given, same = (pd.read_csv(f"{run}/predictions.csv").filter(like="p_") for run in metrics)
    assert given.to_numpy() == pytest.approx(same.to_numpy(), abs=0.02)


def test_a_thought_that_is_closed_is_told_once_a_run_after_the_device(family_folder, data, capsys):
    [name] = [name for name in FAMILIES if "R1" in name]
    model = ["--model-path", family_folder(name), "--no-load-in-4bit"]
    files = ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
    finetune.main([*model, *files, "--num-train-epochs", "1", "--output-dir", "qlora"])
    trained = capsys.readouterr().out
    test = ["--test-file", f"{data}/test.csv", "--decoding", "score", "--output-dir", "scored"]
    local_inference.main([*model, *test])
    for said in (trained, capsys.readouterr().out):
        assert said.count("opens a thought") == 1
        assert said.index("device: ") < said.index("opens a thought")


@pytest.mark.parametrize("name", [name for name in FAMILIES if "images" in name])
def test_only_the_text_part_of_a_model_with_images_is_adapted(name, family_folder):
    model = with_adapter(family_folder(name))
    adapted = {key.split(".lora_")[0] for key, _ in model.named_parameters() if "lora_" in key}
    layers = base_of(model).get_decoder().layers
    linear = {module for module in layers.modules() if isinstance(module, LoraLayer)}
    assert len(adapted) == len(linear) >= 7 * 2
    assert adapted == {key for key, module in model.named_modules() if module in linear}


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """Return a function that builds an encoder once, and returns its folder."""
    place = tmp_path_factory.mktemp("encoders")
    texts = [comment for comment, _ in generate_comments(300, seed=1)]

    @cache
    def folder(name):
        return build_encoder(name, place / name, texts)

    return folder


@pytest.fixture(scope="module")
def encoder_data(tmp_path_factory):
    return write_splits(tmp_path_factory.mktemp("data"), 4, train=24, validation=8, test=8)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_probed_tuned_saved_and_evaluated(name, encoder_folder, encoder_data):
    model, test = encoder_folder(name), f"{encoder_data}/test.csv"
    train, validation = (f"{encoder_data}/{split}.csv" for split in ("train", "validation"))
    base = ["--model-path", model, "--max-length", "64", "--train-file", train]
    evaluated = ["--test-file", test, "--max-length", "64"]
    bert_eval.main([*base, "--test-file", test, "--output-dir", "before"])
    options = ["--num-train-epochs", "1", "--learning-rate", "1e-3", "--output-dir", "tuned"]
    bert_tune.main([*base, "--validation-file", validation, *options])
    for size in ("1", "8"):  # rows alone, and padded to the longest
        batches = ["--batch-size", size, "--output-dir", f"after{size}"]
        bert_tune_eval.main(["--tuned-path", "tuned/final_model", *evaluated, *batches])
    metrics = [json.loads(Path(run, "metrics.json").read_bytes()) for run in ("before", "after8")]
    assert [record["valid"] for record in metrics] == [8, 8]
    alone, together = (pd.read_csv(f"after{n}/predictions.csv").filter(like="p_") for n in "18")
    assert alone.to_numpy() == pytest.approx(together.to_numpy(), abs=1e-5)
    assert alone.to_numpy().std(axis=0).max() > 1e-3


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_takes_as_many_tokens_as_it_has_positions_and_no_control_tokens(
    name, encoder_folder
):
    folder = encoder_folder(name)
    with pytest.raises(UserError, match="--max-length 129: .* takes 3 to 128 tokens"):
        encoder.load_tokenizer(folder, 129)
    tokenizer = encoder.load_tokenizer(folder, 128)
    controls = "".join(tokenizer.all_special_tokens)
    rows, shortened = encoder.encode(tokenizer, [f"评论{controls}", "男女平等" * 100], 128)
    assert (len(rows[1]), shortened) == (128, 1)
    specials = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert [token for token in rows[0] if token in specials] == [rows[0][0], rows[0][-1]]
    model = encoder.load_encoder(folder).eval()
    features = encoder.forward(model, tokenizer, rows, 2, encoder.mean_of_tokens)
    assert np.isfinite(features).all()


def test_a_roberta_classifier_computes_the_first_token_alone_in_its_last_layer(
    encoder_folder, codebook
):
    folder = encoder_folder("XLM-R")
    tokenizer = encoder.load_tokenizer(folder, 64)
    rows, _ = encoder.encode(tokenizer, ["男女平等", "一条普通的评论，说了几句话"], 64)
    spared = encoder.load_classifier(folder, codebook, seed=1).eval()
    inputs = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    widths = []
    spared.roberta.encoder.layer[-1].output.register_forward_hook(
        lambda module, arguments, output: widths.append(output.shape[1])
    )
    with torch.no_grad():
        logits = spared(**inputs).logits
        spared.roberta.encoder.layer[-1].attention.output._forward_pre_hooks.clear()
        whole = spared(**inputs).logits
    assert widths == [1, inputs["input_ids"].shape[1]]
    assert relative(logits, whole) < 1e-5


def test_a_tokenizer_of_tekken_alone_or_without_an_end_is_refused(family_folder, codebook):
    folder = Path(shutil.copytree(family_folder("Mistral"), "Mistral"))
    tokenizer = load_tokenizer("Mistral")
    tokenizer.chat_template = tokenizer.eos_token = None
    with pytest.raises(UserError, match="Mistral: its tokenizer names no token that ends a text"):
        build_prompt(tokenizer, codebook)
    (folder / "tokenizer.json").rename(folder / "tekken.json")
    with pytest.raises(UserError, match="Mistral has Mistral's tekken.json and no tokenizer.json"):
        load_tokenizer("Mistral")
