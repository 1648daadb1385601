"""Comments of any text as tokens: none is a control token, and no row changes another's."""

from functools import cache

import pytest
from architectures import FAMILIES, chat_tokenizer
from encoder_families import ENCODERS, of_kind, wordpiece_tokenizer
from hostile import CONTROL_TOKENS, tries, words
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.bert import encoder
from pipeline.common.codebook import read_codebook
from pipeline.llm.prompt import build_prompt, encode_comments
from pre_process.sample.comments import generate_comments
from pre_process.sample.tiny_qwen2 import train_tokenizer

LONGEST = 4_096
KINDS = ["Qwen2.5", *dict.fromkeys(family.template for family in FAMILIES.values())]


def training_texts():
    return [read_codebook("prompt.txt").text, *(text for text, _ in generate_comments(200, 1))]


@cache
def tokenizer_of(kind):
    """Train a tokenizer that has a family's control tokens and its chat template, or none."""
    texts = training_texts()
    if kind == "Qwen2.5":
        return train_tokenizer(read_codebook("prompt.txt"), texts, 1_200)
    family = next(family for family in FAMILIES.values() if family.template == kind)
    return chat_tokenizer(family, texts)


def controls_of(tokenizer):
    return {k for k, token in tokenizer.added_tokens_decoder.items() if token.special}


@pytest.mark.parametrize("kind", KINDS)
@tries(0.2)
@given(messages=st.lists(words(), min_size=2, max_size=4))
@example(messages=["".join(CONTROL_TOKENS), "x"])
def test_no_comment_has_a_control_token_or_changes_another_row_s(kind, messages):
    tokenizer, codebook = tokenizer_of(kind), read_codebook("prompt.txt")
    prompt = build_prompt(tokenizer, codebook)
    controls = controls_of(tokenizer)
    assert controls
    rows, shortened = encode_comments(tokenizer, prompt, messages, LONGEST)
    assert len(rows) == len(messages)
    room = LONGEST - prompt.overhead
    for row in rows:
        assert not controls & set(row)
        assert len(row) <= room
    alone = [encode_comments(tokenizer, prompt, [message], LONGEST) for message in messages]
    assert rows == [row for [row], _ in alone]
    assert shortened == sum(cut for _, cut in alone)
    assert all(len(row) == room for [row], cut in alone if cut)
    assert build_prompt(tokenizer, codebook) == prompt


@pytest.mark.parametrize("kind", KINDS[:1])
@given(messages=st.lists(words(), min_size=1, max_size=4))
def test_a_comment_s_tokens_spell_it(kind, messages):
    tokenizer = tokenizer_of(kind)
    prompt = build_prompt(tokenizer, read_codebook("prompt.txt"))
    messages = [message[:2_000] for message in messages]
    rows, shortened = encode_comments(tokenizer, prompt, messages, 20_000)
    assert shortened == 0
    spelled = [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in rows]
    assert spelled == [tokenizer.backend_tokenizer.normalizer.normalize_str(m) for m in messages]


@cache
def encoder_tokenizer(pieces):
    texts = training_texts()
    return wordpiece_tokenizer(texts, 1_500) if "vocab" in pieces else of_kind(pieces, texts)


@pytest.mark.parametrize("pieces", sorted({kind[2] for kind in ENCODERS.values()}))
@tries(0.2)
@given(messages=st.lists(words(), min_size=2, max_size=4))
@example(messages=["".join(CONTROL_TOKENS), "x"])
def test_an_encoder_s_control_tokens_in_a_comment_are_text(pieces, messages):
    tokenizer = encoder_tokenizer(pieces)
    controls = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    rows, shortened = encoder.encode(tokenizer, messages, 128)
    for row, message in zip(rows, messages, strict=True):
        assert (row[0], row[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert not controls & set(row[1:-1])
        assert encoder.encode(tokenizer, [message], 128)[0] == [row]
    assert shortened <= sum(len(row) == 128 for row in rows)
