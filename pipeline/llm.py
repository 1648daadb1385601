"""Causal language models on one device: loading, and greedy replies to comments."""

import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.batching import length_batches
from pipeline.chat import Chat
from pipeline.cli import UserError
from pipeline.models import check_model_folder
from pipeline.runtime import compute_dtype, device


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a model folder."""
    folder = check_model_folder(path, "causal LM")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_model(
    path: str, load_in_4bit: bool, adapter_path: str = ""
) -> PreTrainedModel | PeftModel:
    """Load a causal LM, and a LoRA adapter on it, from their folders.

    The weights are NF4 with double quantization, or as `compute_dtype` says.
    """
    dtype = compute_dtype()
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
        device_map={"": device()},
        attn_implementation="sdpa",
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
            model = PeftModel.from_pretrained(model, adapter_path, use_safetensors=True)
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
) -> list[str]:
    """Return the greedy reply to each comment (token ids), in the order of `comments`.

    Batches hold rows of similar length, padded on the left: the reply is what follows the whole
    padded prompt.
    """
    rows = [chat.prefix + comment + chat.suffix for comment in comments]
    pad = chat.stop[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=chat.stop, pad_token_id=pad
    )
    replies = [""] * len(rows)
    with tqdm(total=len(rows), unit="row", desc="replies") as bar:
        for batch in length_batches(rows, batch_size):
            ids, mask = pad_left([rows[index] for index in batch], pad)
            with torch.inference_mode():
                try:
                    output = model.generate(
                        input_ids=ids.to(model.device),
                        attention_mask=mask.to(model.device),
                        generation_config=config,
                    )
                except torch.OutOfMemoryError as error:
                    raise UserError(
                        f"the GPU's memory is too small for {len(batch)} rows of {ids.shape[1]} "
                        "tokens: give a smaller --batch-size"
                    ) from error
            texts = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
            for index, text in zip(batch, texts, strict=True):
                replies[index] = text
            bar.update(len(batch))
    return replies


def pad_left(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (rows, longest), with the padding on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask
