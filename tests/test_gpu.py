"""Packs on a GPU, in the precisions that models are trained and scored in there.

Run with `python -m pytest -m gpu`; the other tests compute on the CPU and hide the GPU.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.utils import send_to_device
from safetensors.torch import load_file, save_file
from test_packing import (
    LABELS,
    PROMPT,
    SHAPES,
    build,
    gradients,
    loss_of,
    random_rows,
    with_adapter,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import TrainingArguments

import finetune
import local_inference
import pipeline.models.training  # noqa: F401
from benchmarks import common, pack_memory
from pipeline.common import machine
from pipeline.common.cli import UserError
from pipeline.common.tables import write_csv
from pipeline.llm import pack_size
from pipeline.llm.answers import AnswerLoss
from pipeline.llm.loading import load_model
from pipeline.llm.packing import pack, pad, use_packs
from pipeline.llm.scoring import choose_packing, score_comments
from pipeline.llm.training import PackTrainer, collate, training_rows
from pre_process.sample.comments import generate_comments

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, or not run with -m gpu"),
]


def both_ways(model):
    """Return the gradients of padded rows and of a pack."""
    rows = [row["input_ids"] for row in training_rows(PROMPT, random_rows(), LABELS)]
    found = []
    for batch in (pad(PROMPT.prefix, rows, 4, 0), pack(PROMPT.prefix, rows, 4)):
        if "pack" in batch:
            use_packs(model.get_base_model())
        batch = send_to_device(batch, model.device)
        found.append(gradients(model, loss_of(model, batch)[0].float()))
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1), (torch.float16, 0.02)]
)
def test_gradients_of_a_pack_are_those_of_padded_rows(shape, dtype, bound):
    padded, packed = both_ways(with_adapter(build(shape).to("cuda", dtype)))
    for name, expected in padded.items():
        assert (packed[name] - expected).norm() / expected.norm() < bound


def test_nf4_packs_train_and_score_as_padded_rows(tiny_qwen2):
    model = with_adapter(load_model(tiny_qwen2, load_in_4bit=True))
    padded, packed = both_ways(model)
    for name, expected in padded.items():
        assert (packed[name] - expected).norm() / expected.norm() < 0.1
    comments = random_rows()
    model.get_base_model().set_attn_implementation("sdpa")
    expected = score_comments(model, PROMPT, comments, 4096, packed=False)
    assert choose_packing(model, PROMPT, comments)
    scores = score_comments(model, PROMPT, comments, 700)
    assert np.abs(scores - expected).max() / np.abs(expected).max() < 0.05


@pytest.fixture
def rows_file():
    """Write 96 rows to rows.csv."""
    rows = pd.DataFrame(generate_comments(96, seed=3), columns=["message", "class"])
    rows.insert(0, "custom_id", [f"row-{n}" for n in range(96)])
    write_csv(rows, "rows.csv")


def tune(model, output, *argv):
    """Train on rows.csv and validate on it; return the record of the training."""
    finetune.main(
        ["--model-path", model, "--train-file", "rows.csv", "--validation-file", "rows.csv"]
        + ["--output-dir", output, "--learning-rate", "5e-3", "--warmup-steps", "2", *argv]
    )
    return json.loads(Path(output, "final_model/training.json").read_bytes())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_qlora_trains_on_several_packs_a_step(tiny_qwen2, dtype, monkeypatch, rows_file):
    for module in ("llm.loading", "models.training"):
        monkeypatch.setattr(f"pipeline.{module}.compute_dtype", lambda: dtype)
    record = tune(tiny_qwen2, "tuned", "--max-tokens-per-pack", "600")
    losses = [entry["eval_loss"] for entry in record["log_history"] if "eval_loss" in entry]
    assert losses[-1] < losses[0]


def test_twenty_steps_of_nf4_in_packs_sized_by_the_memory_lower_the_loss(tiny_qwen2):
    model = with_adapter(load_model(tiny_qwen2, load_in_4bit=True), dropout=0.05)
    use_packs(model.get_base_model())
    size = pack_size.training_pack_tokens(model, PROMPT, 505, len(LABELS), False)
    assert size == len(PROMPT.prefix) + len(LABELS) * 505  # so small a batch fits as a whole
    trainer = step_trainer(model, size)
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=5e-3
    )
    batch = on_gpu(training_rows(PROMPT, random_rows(), LABELS))
    losses = []
    for _ in range(20):
        losses.append(trainer.training_step(model, batch).item())
        optimizer.step()
        optimizer.zero_grad()
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def step_trainer(model, max_tokens):
    """Return what computes steps of a model in the GPU's 16 bit."""
    arguments = TrainingArguments(
        "unused", bf16=True, remove_unused_columns=False, report_to="none"
    )
    return PackTrainer(
        prompt=PROMPT,
        max_tokens=max_tokens,
        model=model,
        args=arguments,
        compute_loss_func=AnswerLoss(PROMPT, [1.0] * 4),
    )


def on_gpu(rows):
    """Return a batch of the Trainer's."""
    batch = collate(rows)
    return batch | {"labels": batch["labels"].to("cuda")}


def test_a_resumed_training_ends_as_the_uninterrupted_one(tiny_qwen2, rows_file):
    options = ["--max-tokens-per-pack", "600", "--save-total-limit", "4"]
    tune(tiny_qwen2, "whole", *options)
    shutil.copytree("whole", "resumed")
    shutil.rmtree("resumed/final_model")
    last = max(Path("resumed").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    shutil.rmtree(last)
    tune(tiny_qwen2, "resumed", "--resume", *options)
    expected, actual = (
        load_file(f"{folder}/final_model/adapter_model.safetensors")
        for folder in ("whole", "resumed")
    )
    for name, weight in expected.items():
        assert (actual[name] - weight).norm() <= 0.02 * weight.norm()


def test_packs_that_do_not_fit_are_halved_and_give_the_same_gradients(capsys):
    model = with_adapter(build(hidden_size=512, intermediate_size=8192).to("cuda"))
    use_packs(model.get_base_model())
    rows = training_rows(PROMPT, random_rows([120] * 64), [k % 4 for k in range(64)])
    whole = step_trainer(model, 100_000)
    torch.cuda.reset_peak_memory_stats()
    whole.training_step(model, on_gpu(rows))
    most = torch.cuda.max_memory_reserved()
    expected = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.7 * most / total)
    try:
        halved = step_trainer(model, 10_000)
        halved.training_step(model, on_gpu(rows))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert halved.max_tokens < 10_000
    assert "the memory is too small: packs of at most" in capsys.readouterr().out
    for name, gradient in expected.items():
        actual = dict(model.named_parameters())[name].grad
        assert (actual - gradient).norm() / gradient.norm() < 0.1


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_a_step_takes_no_more_of_the_gpu_s_memory_than_predicted(precision):
    model, rows = pack_memory.adapted("tiny", precision), common.make_rows(32, 2_000)
    for kind in pack_memory.KINDS:
        line = pack_memory.line(kind, model, rows, pack_memory.bytes_of(kind, model, rows))
        assert float(line["predicted to measured"]) >= 1, kind


@pytest.mark.parametrize("flash", [True, False])
def test_packs_agree_with_padded_rows_with_and_without_flash_attention(flash):
    kernels = [SDPBackend.FLASH_ATTENTION] if flash else []
    model = with_adapter(build().to("cuda", torch.bfloat16))
    with sdpa_kernel([*kernels, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        padded, packed = both_ways(model)
    for name, expected in padded.items():
        assert (packed[name] - expected).norm() / expected.norm() < 0.1


def test_a_run_names_the_gpu_and_its_free_memory(capsys):
    machine.start_run()
    first = capsys.readouterr().out.partition("\n")[0]
    assert first.startswith(f"device: {torch.cuda.get_device_name()}, ")
    before = machine.free_memory()
    held = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    assert 2**27 < before - machine.free_memory() < 2**29
    del held
    assert abs(before - machine.free_memory()) < 2**27  # what torch keeps counts as free


@pytest.mark.parametrize("decoding", ["score", "generate"])
def test_a_model_that_overflows_in_float16_stops_and_computes_in_float32(tiny_qwen2, decoding):
    shutil.copytree(tiny_qwen2, "large")
    weights = load_file("large/model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"] *= 3e6
    save_file(weights, "large/model.safetensors", metadata={"format": "pt"})
    rows = pd.DataFrame(generate_comments(24, seed=3), columns=["message", "class"])
    rows.insert(0, "custom_id", [f"row-{n}" for n in range(24)])
    write_csv(rows, "rows.csv")
    argv = ["--model-path", "large", "--test-file", "rows.csv", "--decoding", decoding]
    argv += ["--no-load-in-4bit", "--dtype"]
    with pytest.raises(UserError, match="not finite numbers in float16: give --dtype float32"):
        local_inference.main([*argv, "float16"])
    local_inference.main([*argv, "float32"])
    machine.start_run()


def test_packs_that_the_gpu_s_memory_cannot_take_are_halved(capsys):
    model, comments = build().to("cuda"), random_rows([200] * 400)
    assert choose_packing(model, PROMPT, comments)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    whole = score_comments(model, PROMPT, comments, 1_000_000)
    room = before + 0.7 * (torch.cuda.max_memory_reserved() - before)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    try:
        halved = score_comments(model, PROMPT, comments, 1_000_000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "the memory is too small for 400 rows at once" in capsys.readouterr().out
    assert np.abs(halved - whole).max() / np.abs(whole).max() < 1e-3
