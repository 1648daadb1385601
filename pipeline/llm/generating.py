"""Decoding by generation: the greedy replies of a causal LM to comments."""

import re

import torch
from transformers import Cache, GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria
from transformers.cache_utils import DynamicLayer

from pipeline.common.finite import FiniteLogits
from pipeline.llm.loading import Model, base_of
from pipeline.llm.pack_size import generation_rows
from pipeline.llm.packing import ATTENTION, States, pad_left, prefix_states
from pipeline.llm.prompt import Prompt
from pipeline.llm.scoring import inference
from pipeline.models.by_length import batches_of_rows
from pipeline.models.in_batches import compute_in_batches
from pipeline.models.kept_rows import KeptPart, limit_of


def generate_replies(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    comments: list[list[int]],
    batch_size: int,
    max_new_tokens: int,
    packed: bool = True,
    kept: KeptPart | None = None,
) -> tuple[list[str], list[bool]]:
    """Return the greedy reply to each comment (token ids), and whether it was cut, in their order.

    A reply ends with the turn or with a first line of `[k]`; after `max_new_tokens` it is cut.
    Batches hold `batch_size` rows of similar length, 0 being as many as the memory takes, or as
    many as `kept` had, whose replies are not generated again; where the model can be `packed` the
    prefix is computed once.
    """
    if packed:
        base_of(model).get_decoder().set_attn_implementation("sdpa")  # generation pads, with a mask
    with inference(model):
        states = prefix_states(model, prompt.prefix) if packed else None
    pad = prompt.stop[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=prompt.stop, pad_token_id=pad
    )
    rows = [comment + prompt.suffix for comment in comments]
    size = batch_size
    if not size:
        longest = max(map(len, rows)) + (0 if packed else len(prompt.prefix))
        size = limit_of(kept, lambda: generation_rows(model, prompt, longest, max_new_tokens))
        print(f"generating {size} replies at once")
    stop = torch.tensor(prompt.stop, device=model.device)

    def replies_of(members: list[int]) -> list[tuple[str, bool]]:
        ids, mask = pad_left(prompt.prefix, [rows[index] for index in members], pad, packed)
        width = ids.shape[1]
        answer_given, finite = AnswerGiven(tokenizer, width), FiniteLogits()
        with inference(model):
            output = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                past_key_values=_cache_of(states),
                generation_config=config,
                stopping_criteria=[answer_given],
                logits_processor=[finite],
            )
        finite.check()
        tokens = output[:, width:]
        ended = torch.isin(tokens, stop).any(1) | answer_given(output, None)
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return list(zip(texts, (~ended).tolist(), strict=True))

    answered = compute_in_batches(batches_of_rows(rows, size), replies_of, "replies", kept)
    if packed:
        base_of(model).get_decoder().set_attn_implementation(ATTENTION)
    return [reply for reply, _ in answered], [was_cut for _, was_cut in answered]


class AnswerGiven(StoppingCriteria):
    """Ends a row whose first line is `[k]` and nothing else: what follows is no answer."""

    LINE = re.compile(r"\s*\[[0-9]\]\s*\n")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_width: int):
        self.tokenizer, self.prompt_width = tokenizer, prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_width :])
        ended = [self.LINE.match(text) is not None for text in texts]
        return torch.tensor(ended, device=input_ids.device)


class AfterPrefix(DynamicLayer):
    """A layer's keys and values of rows that have all seen a prefix, whose own are kept once.

    They are laid before each row's for a layer's attention only. With 256 rows after a prefix of
    1,000 tokens, a copy for every row would take 8.8 GiB in the shape of Qwen2.5-3B.
    """

    def __init__(self, prefix: tuple[torch.Tensor, torch.Tensor]):
        super().__init__()
        self.prefix = prefix

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = super().update(key_states, value_states)
        keys, values = (
            torch.cat([shared.expand(len(part), -1, -1, -1), part], dim=-2)
            for shared, part in zip(self.prefix, own, strict=True)
        )
        return keys, values

    def get_seq_length(self) -> int:
        return self.prefix[0].shape[-2] + super().get_seq_length()


def _cache_of(states: States | None) -> Cache | None:
    """Return a cache in which each row has seen the prefix."""
    return None if states is None else Cache(layers=[AfterPrefix(layer) for layer in states])
