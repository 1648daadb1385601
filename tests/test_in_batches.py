"""Batches that do not fit into the memory: halved, with the results that they would have had."""

import weakref

import numpy as np
import pytest
import torch
from conftest import write_splits

from pipeline.bert import encoder
from pipeline.common.cli import UserError
from pipeline.common.tables import read_csv
from pipeline.llm.generating import AfterPrefix, generate_replies
from pipeline.llm.loading import load_model, load_tokenizer
from pipeline.llm.packing import prefix_states
from pipeline.llm.prompt import build_prompt, encode_comments
from pipeline.llm.scoring import choose_packing, score_comments
from pipeline.models.in_batches import compute_in_batches
from pipeline.models.memory import unless_out_of_memory

HALVED = "the memory is too small for {} rows at once: this batch and all that follow are cut in "
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


def whole_and_halved(model, compute):
    """Return what `compute` gives, and what it gives when the most tokens it took do not fit."""
    taken, room = [], [float("inf")]

    def allocate(module, args, kwargs):
        taken.append(kwargs["input_ids"].numel())
        if taken[-1] > room[0]:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    model.register_forward_pre_hook(allocate, with_kwargs=True)
    whole = compute()
    room[0] = max(taken) - 1
    return whole, compute()


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    folder = write_splits(tmp_path_factory.mktemp("data"), 5, test=37)
    return read_csv(folder / "test.csv", ["message"], "nothing")["message"].tolist()


@pytest.fixture
def asked(tiny_qwen2, codebook, messages):
    """Return a causal LM, its tokenizer, the prompt and the comments' tokens."""
    model, tokenizer = load_model(tiny_qwen2, load_in_4bit=False), load_tokenizer(tiny_qwen2)
    torch.manual_seed(0)
    for weight in model.parameters():  # random weights reply to every comment in another way
        weight.data += 0.2 * torch.randn_like(weight)
    prompt = build_prompt(tokenizer, codebook)
    comments, _ = encode_comments(tokenizer, prompt, messages, 512)
    return model, tokenizer, prompt, comments


def test_a_batch_that_does_not_fit_is_cut_in_half_and_so_are_those_after_it(capsys):
    tried = []

    def compute(rows):
        tried.append(rows)
        if len(rows) > 3:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return [row * row for row in rows]

    values = compute_in_batches([[8, 0, 1, 2, 3, 4, 5], [6, 9, 7, 10]], compute)
    assert values == [row * row for row in range(11)]
    assert [len(rows) for rows in tried] == [7, 4, 2, 2, 2, 1, 1, 1, 1, 1]
    told = [line for line in capsys.readouterr().out.splitlines() if line]
    assert told == [HALVED.format(7) + "half", HALVED.format(4) + "half"]


def test_a_row_that_does_not_fit_alone_ends_the_run_with_one_line():
    def compute(rows):
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    with pytest.raises(UserError, match="too small for a single row: give a smaller --max-length"):
        compute_in_batches([[0, 1]], compute)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(OUT_OF_MEMORY),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_a_lack_of_memory_is_known_on_every_device(error):
    def compute():
        raise error

    assert unless_out_of_memory(compute) is None


def test_another_error_is_no_lack_of_memory():
    def compute(rows):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        compute_in_batches([[0, 1]], compute)


def test_what_an_attempt_held_is_free_when_the_next_one_begins():
    held = []

    def compute():
        tensor = torch.zeros(8)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    assert unless_out_of_memory(compute) is None
    assert held[0]() is None


@pytest.mark.parametrize("packed", [True, False])
def test_halved_packs_give_the_scores_of_whole_ones(asked, packed, capsys):
    model, _, prompt, comments = asked
    if packed:
        assert choose_packing(model, prompt, comments)
    whole, halved = whole_and_halved(
        model, lambda: score_comments(model, prompt, comments, 4000, packed)
    )
    assert np.abs(halved - whole).max() < 1e-4 * np.abs(whole).max()
    assert (halved.argmax(1) == whole.argmax(1)).all() and len(set(whole.argmax(1))) > 1
    assert capsys.readouterr().out.count("are cut in half") == 1


@pytest.mark.parametrize("packed", [True, False])
def test_halved_batches_give_the_replies_of_whole_ones(asked, packed, capsys):
    model, tokenizer, prompt, comments = asked
    if packed:
        assert choose_packing(model, prompt, comments, 6)
    whole, halved = whole_and_halved(
        model, lambda: generate_replies(model, tokenizer, prompt, comments, 16, 6, packed)
    )
    assert halved == whole and len(set(whole[0])) > 10
    assert capsys.readouterr().out.count(HALVED.format(16)) == 1


def test_halved_batches_give_the_features_of_whole_ones(tiny_bert, messages, capsys):
    tokenizer, model = encoder.load_tokenizer(tiny_bert, 64), encoder.load_encoder(tiny_bert)
    rows, _ = encoder.encode(tokenizer, messages, 64)
    whole, halved = whole_and_halved(
        model, lambda: encoder.forward(model, tokenizer, rows, 16, encoder.mean_of_tokens)
    )
    assert halved == pytest.approx(whole, abs=1e-5)
    assert capsys.readouterr().out.count(HALVED.format(16)) == 1


def test_a_cache_holds_the_prefix_once_for_all_rows(asked):
    model, _, prompt, _ = asked
    [keys, values], *_ = prefix_states(model, prompt.prefix)
    layer = AfterPrefix((keys, values))
    rows = torch.randn(5, keys.shape[1], 2, keys.shape[3])
    seen, _ = layer.update(rows, rows)
    assert torch.equal(seen, torch.cat([keys.expand(5, -1, -1, -1), rows], 2))
    assert layer.get_seq_length() == len(prompt.prefix) + 2
    assert layer.keys.shape[2] == 2 and layer.prefix[0] is keys
