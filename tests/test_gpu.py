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

import finetune
import local_inference
import pipeline.models.training  # noqa: F401
from pipeline.common import machine
from pipeline.common.cli import UserError
from pipeline.common.files import write_csv
from pipeline.llm.loading import load_model
from pipeline.llm.packing import pack, pad, use_packs
from pipeline.llm.scoring import choose_packing, score_comments
from pipeline.llm.training import training_rows
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_qlora_trains_on_several_packs_a_step(tiny_qwen2, dtype, monkeypatch):
    for module in ("llm.loading", "models.training"):
        monkeypatch.setattr(f"pipeline.{module}.compute_dtype", lambda: dtype)
    rows = pd.DataFrame(generate_comments(96, seed=3), columns=["message", "class"])
    rows.insert(0, "custom_id", [f"row-{n}" for n in range(96)])
    write_csv(rows, "rows.csv")
    finetune.main(
        ["--model-path", tiny_qwen2, "--train-file", "rows.csv", "--validation-file", "rows.csv"]
        + ["--max-tokens-per-pack", "600", "--learning-rate", "5e-3", "--warmup-steps", "2"]
    )
    record = json.loads(Path("qlora_checkpoints/final_model/training.json").read_bytes())
    losses = [entry["eval_loss"] for entry in record["log_history"] if "eval_loss" in entry]
    assert losses[-1] < losses[0]


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
