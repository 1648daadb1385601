"""Causal language models on one device: loading, and greedy replies to comments."""

import re

import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)

from pipeline.common.cli import UserError
from pipeline.common.machine import compute_dtype, device
from pipeline.llm.packing import ATTENTION, States, pad_left, prefix_states
from pipeline.llm.prompt import Chat
from pipeline.llm.scoring import base_of, inference
from pipeline.models.folder import check_model_folder
from pipeline.models.length_batches import length_batches


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a model folder."""
    folder = check_model_folder(path, "causal LM")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_model(
    path: str,
    load_in_4bit: bool,
    adapter_path: str = "",
    dtype: torch.dtype | None = None,
    place: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """Load a causal LM, and a LoRA adapter on it, from their folders.

    The weights are NF4 with double quantization, or of `dtype`; the default is `compute_dtype`.
    `place` is the device, by default the GPU where there is one.
    """
    dtype = dtype or compute_dtype()
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        check_model_folder(path, "causal LM"),
        dtype=dtype,
        quantization_config=nf4 if load_in_4bit else None,
        device_map={"": place or device()},
        use_safetensors=True,
        local_files_only=True,
    )
    model.generation_config = GenerationConfig()  # a model's own may sample or penalize repetition
    for module in model.modules():
        # On a CPU with AVX512-BF16, the first evaluation would repack the weights and round them
        # otherwise than in training: a resumed training would differ from an uninterrupted one.
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    if adapter_path:
        try:
            model = PeftModel.from_pretrained(
                model, adapter_path, torch_device=model.device.type, use_safetensors=True
            )
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise UserError(
                f"{adapter_path} does not fit {path}: give --model-path the adapter's own base"
            ) from error
    return model.eval()


def generate_replies(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    chat: Chat,
    comments: list[list[int]],
    batch_size: int,
    max_new_tokens: int,
    packed: bool = True,
) -> list[str]:
    """Return the greedy reply to each comment (token ids), in the order of `comments`.

    A reply ends with the turn, with a first line of `[k]`, or after `max_new_tokens`. Batches hold
    rows of similar length; where the model can be `packed` the prefix is computed once.
    """
    if packed:
        base_of(model).set_attn_implementation("sdpa")  # generation pads, with a mask
    with inference(model):
        states = prefix_states(model, chat.prefix) if packed else None
    pad = chat.stop[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=chat.stop, pad_token_id=pad
    )
    rows = [comment + chat.suffix for comment in comments]
    replies = [""] * len(rows)
    with tqdm(total=len(rows), unit="row", desc="replies") as bar:
        for batch in length_batches(rows, batch_size):
            ids, mask = pad_left(chat.prefix, [rows[index] for index in batch], pad, packed)
            width = ids.shape[1]
            with inference(model):
                try:
                    output = model.generate(
                        input_ids=ids.to(model.device),
                        attention_mask=mask.to(model.device),
                        past_key_values=_cache_of(states, len(batch)),
                        generation_config=config,
                        stopping_criteria=[AnswerGiven(tokenizer, width)],
                    )
                except torch.OutOfMemoryError as error:
                    raise UserError(
                        f"the GPU's memory is too small for {len(batch)} rows of {width} tokens: "
                        "give a smaller --batch-size"
                    ) from error
            texts = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
            for index, text in zip(batch, texts, strict=True):
                replies[index] = text
            bar.update(len(batch))
    if packed:
        base_of(model).set_attn_implementation(ATTENTION)
    return replies


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
