"""Decoding by generation: the greedy replies of a causal LM to comments."""

import re

import torch
from tqdm import tqdm
from transformers import DynamicCache, GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria

from pipeline.common.cli import UserError
from pipeline.common.finite import FiniteLogits
from pipeline.llm.loading import Model, base_of
from pipeline.llm.packing import ATTENTION, States, pad_left, prefix_states
from pipeline.llm.prompt import Prompt
from pipeline.llm.scoring import inference
from pipeline.models.by_length import batches_of_rows


def generate_replies(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    comments: list[list[int]],
    batch_size: int,
    max_new_tokens: int,
    packed: bool = True,
) -> tuple[list[str], list[bool]]:
    """Return the greedy reply to each comment (token ids), and whether it was cut, in their order.

    A reply ends with the turn or with a first line of `[k]`; after `max_new_tokens` it is cut.
    Batches hold rows of similar length; where the model can be `packed` the prefix is computed
    once.
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
    replies, cut = [""] * len(rows), [False] * len(rows)
    stop = torch.tensor(prompt.stop, device=model.device)
    with tqdm(total=len(rows), unit="row", desc="replies") as bar:
        for batch in batches_of_rows(rows, batch_size):
            ids, mask = pad_left(prompt.prefix, [rows[index] for index in batch], pad, packed)
            width = ids.shape[1]
            answer_given, finite = AnswerGiven(tokenizer, width), FiniteLogits()
            with inference(model):
                try:
                    output = model.generate(
                        input_ids=ids.to(model.device),
                        attention_mask=mask.to(model.device),
                        past_key_values=_cache_of(states, len(batch)),
                        generation_config=config,
                        stopping_criteria=[answer_given],
                        logits_processor=[finite],
                    )
                except torch.OutOfMemoryError as error:
                    raise UserError(
                        f"the GPU's memory is too small for {len(batch)} rows of {width} tokens: "
                        "give a smaller --batch-size"
                    ) from error
            finite.check()
            tokens = output[:, width:]
            ended = torch.isin(tokens, stop).any(1) | answer_given(output, None)
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for index, text, whole in zip(batch, texts, ended.tolist(), strict=True):
                replies[index], cut[index] = text, not whole
            bar.update(len(batch))
    if packed:
        base_of(model).get_decoder().set_attn_implementation(ATTENTION)
    return replies, cut


class AnswerGiven(StoppingCriteria):
    """Ends a row whose first line is `[k]` and nothing else: what follows is no answer."""

    LINE = re.compile(r"\s*\[[0-9]\]\s*\n")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_width: int):
        self.tokenizer, self.prompt_width = tokenizer, prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_width :])
        ended = [self.LINE.match(text) is not None for text in texts]
        return torch.tensor(ended, device=input_ids.device)


def _cache_of(states: States | None, num_rows: int) -> DynamicCache | None:
    """Return a cache in which each row has seen the prefix."""
    if states is None:
        return None
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(states):
        cache.update(*(part.expand(num_rows, -1, -1, -1) for part in (keys, values)), layer)
    return cache
