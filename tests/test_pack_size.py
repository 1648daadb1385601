"""The size of packs follows from the memory: what is predicted of them is what they take."""

from dataclasses import replace

import pytest
import torch
from test_packing import PROMPT, SHAPES, build, random_rows, with_adapter
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

from benchmarks import common, pack_memory
from pipeline.llm import pack_size
from pipeline.llm.packing import pack, pad, use_packs


@pytest.mark.parametrize("shape", ["Qwen2.5-0.5B", "Qwen2.5-3B", "Qwen2.5-7B"])
def test_a_step_takes_no_more_than_predicted_and_little_less(shape):
    config = common.config_of(shape)
    config.num_hidden_layers = 3
    config.layer_types = config.layer_types[:3]
    model = pack_memory.shapes_of(config, torch.bfloat16)
    rows = common.make_rows(32, 2_000)
    for kind, most in zip(pack_memory.KINDS, (1.35, 1.35, 2), strict=True):
        line = pack_memory.line(kind, model, rows, pack_memory.bytes_of(kind, model, rows))
        assert 1 <= float(line["predicted to measured"]) < most, kind


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_pack_saves_grows_with_its_tokens_and_rows_as_predicted(shape):
    model = with_adapter(build(shape), dropout=0.1)
    use_packs(model.get_base_model())
    predicted = pack_size.saved_bytes(model, PROMPT)
    for lengths in ((200,), (30, 30, 30), (100, 140) * 20):
        rows = random_rows(lengths)
        saved = pack_size._saved(model, pack(PROMPT.prefix, rows, 1))
        assert 0.98 < pack_size.PADDING * predicted.of(sum(lengths), len(rows)) / saved < 1.25


def test_what_a_padded_batch_saves_grows_with_all_its_tokens():
    model = with_adapter(build(), dropout=0.1)
    predicted = pack_size.saved_bytes(model, PROMPT, packed=False)
    for longest in (30, 80, 200):
        batch = pad(PROMPT.prefix, random_rows([longest, 20, 20]), 1, 0)
        saved = pack_size._saved(model, batch)
        tokens = batch["input_ids"].numel()
        assert 0.98 < pack_size.PADDING * predicted.of(tokens, 3) / saved < 1.25


@pytest.mark.parametrize("precision", ["fp32", "bf16", "nf4"])
def test_a_step_of_real_tensors_takes_no_more_than_predicted(precision):
    model, rows = pack_memory.adapted("micro", precision), common.make_rows(32, 2_000)
    for kind in pack_memory.KINDS:
        line = pack_memory.line(kind, model, rows, pack_memory.bytes_of(kind, model, rows))
        assert 1 <= float(line["predicted to measured"]) < 2, kind


def test_the_small_passes_leave_no_trace():
    model = with_adapter(build(), dropout=0.1)
    use_packs(model.get_base_model())
    model.gradient_checkpointing_enable()
    state, modes = torch.random.get_rng_state(), [part.training for part in model.modules()]
    pack_size.saved_bytes(model, PROMPT)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [part.training for part in model.modules()] == modes
    assert model.is_gradient_checkpointing
    assert all(weight.grad is None for weight in model.parameters())


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Return what makes a model count as on a GPU with so many bytes free."""

    def with_free(num_bytes):
        monkeypatch.setattr(pack_size, "on_cpu", lambda model: False)
        monkeypatch.setattr(pack_size, "free_memory", lambda: num_bytes)

    return with_free


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_pack_is_as_large_as_the_memory_takes_and_a_batch_has_rows(
    on_a_gpu, checkpointing
):
    model = pack_memory.adapted("micro", "fp32")
    rows = common.make_rows(32, 2_000)
    prefix = len(rows.prompt.prefix)
    sizes = {}
    for mebibytes in (0, 1060, 1090, 1120, 40_000):
        on_a_gpu(mebibytes * 2**20)
        size = pack_size.training_pack_tokens(model, rows.prompt, 390, 32, checkpointing)
        needed = pack_size.training_bytes(model, rows.prompt, checkpointing)
        if prefix + 390 < size < prefix + 32 * 390:
            most = max(part.of(size - prefix, 32) for part in needed)
            assert most <= pack_size.available() < most * 1.01
        sizes[mebibytes] = size
    assert list(sizes.values()) == sorted(sizes.values())
    assert sizes[0] == prefix + 390
    assert sizes[1090] < sizes[1120] < sizes[40_000] == prefix + 32 * 390


def test_a_padded_batch_counts_the_prefix_of_every_row(on_a_gpu):
    model, rows = pack_memory.adapted("micro", "fp32"), common.make_rows(4, 2_000)
    prefix = len(rows.prompt.prefix)
    on_a_gpu(40_000 * 2**20)
    size = pack_size.training_pack_tokens(model, rows.prompt, 390, 32, False, packed=False)
    assert size == 32 * (prefix + 390)


def test_scoring_and_generation_take_what_fits_and_no_more_than_is_of_use(on_a_gpu):
    model, rows = pack_memory.adapted("micro", "fp32"), common.make_rows(4, 2_000)
    found = []
    for mebibytes in (0, 1200, 40_000):
        on_a_gpu(mebibytes * 2**20)
        tokens = pack_size.scoring_pack_tokens(model, rows.prompt, 390)
        found.append((tokens, pack_size.generation_rows(model, rows.prompt, 390, 20)))
    assert found[0] == (len(rows.prompt.prefix) + 390, 1)
    assert 514 < found[1][0] < 16_384 and 1 < found[1][1] < 256
    assert found[2] == (16_384, 256)


def test_a_row_of_generation_counts_the_copies_that_attention_makes_under_a_mask(on_a_gpu):
    on_a_gpu(4000 * 2**20)
    prompt = replace(PROMPT, prefix=[0] * 20_000)
    four, one = (  # of 4 heads
        pack_size.generation_rows(build(shape), prompt, 10, 1)
        for shape in ("Llama", "Qwen2 with one key head")
    )
    assert four < one < 1.7 * four  # keys once and for 4 heads: 1/4 + 1 to 1 + 1, and not 1 to 4


def test_heads_that_vary_by_layer_count_as_the_largest():
    config = Gemma4TextConfig(num_hidden_layers=6, vocab_size=100, vocab_size_per_layer_input=100)
    with torch.device("meta"):
        model = Gemma4ForCausalLM(config)
    sizes = [layer.head_dim * layer.num_key_value_heads for layer in config.per_layer_config]
    assert len(set(sizes)) == 2
    assert pack_size.Shape(model).keys == max(sizes)


def test_on_a_cpu_sizes_are_constant_but_for_long_rows():
    model = build()
    assert pack_size.training_pack_tokens(model, PROMPT, 300, 32, False) == 50 + 1152
    assert pack_size.training_pack_tokens(model, PROMPT, 3000, 32, False) == 3050
    assert pack_size.training_pack_tokens(model, PROMPT, 300, 32, False, packed=False) == 1152
    assert pack_size.training_pack_tokens(model, PROMPT, 3000, 32, False, packed=False) == 3050
    assert pack_size.scoring_pack_tokens(model, PROMPT, 300) == 4096
    assert pack_size.scoring_pack_tokens(model, PROMPT, 6000) == 6050
    assert pack_size.generation_rows(model, PROMPT, 300, 20) == 32
