"""Loading: a causal LM, with or without a LoRA adapter, and its tokenizer, from their folders."""

from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.common.cli import UserError
from pipeline.common.machine import compute_dtype, device
from pipeline.models.folder import check_model_folder
from pipeline.models.tokenizer import load_fast_tokenizer
from pipeline.models.weights import check_all_read

Model = PreTrainedModel | PeftModel


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a model folder."""
    return load_fast_tokenizer(check_model_folder(path, "causal LM"))


def load_model(
    path: str,
    load_in_4bit: bool,
    adapter_path: str = "",
    dtype: torch.dtype | None = None,
    place: torch.device | None = None,
) -> Model:
    """Load a causal LM, and a LoRA adapter on it, from their folders.

    Of a model that also reads images, the text alone is used; transformers loads some of them
    without what is for images (Qwen3.5), others whole.
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
    folder = check_model_folder(path, "causal LM")
    model, loaded = _auto_class(folder).from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=nf4 if load_in_4bit else None,
        device_map={"": place or device()},
        generation_config=GenerationConfig(),  # a model's own may sample or penalize repetition
        use_safetensors=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # they are refused
        output_loading_info=True,
    )
    check_all_read(path, loaded)
    for module in model.modules():
        # On a CPU with AVX512-BF16, the first evaluation would repack the weights and round them
        # otherwise than in training: a resumed training would differ from an uninterrupted one.
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    if adapter_path:
        try:
            model = PeftModel.from_pretrained(
                model, adapter_path, torch_device=str(model.device), use_safetensors=True
            )
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise UserError(
                f"{adapter_path} does not fit {path}: give --model-path the adapter's own base"
            ) from error
    return model.eval()


def _auto_class(folder: Path) -> type:
    """Return what loads a folder's model; refuse a model that no text can be asked of."""
    config = type(AutoConfig.from_pretrained(folder))
    if config in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if config in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    raise UserError(f"{folder} holds no model that replies to text: use another model")


def base_of(model: Model) -> PreTrainedModel:
    """Return the model without its adapter's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
