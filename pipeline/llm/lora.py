"""LoRA: a fresh adapter on a causal LM, to be trained."""

import re

from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import Linear
from transformers import PreTrainedModel

from pipeline.llm.quick_lora import quicken_lora

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def add_adapter(
    model: PreTrainedModel,
    *,
    r: int,
    lora_alpha: int,
    lora_dropout: float,
    gradient_checkpointing: bool,
) -> PeftModel:
    """Return the base model with an adapter on its linear layers, as `target_modules` says."""
    if gradient_checkpointing:
        model.enable_input_require_grads()
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=target_modules(model),
    )
    adapted = get_peft_model(model, config)
    names = adapted.active_peft_config.target_modules
    if not isinstance(names, str):  # a set, which each process would save in another order
        adapted.active_peft_config.target_modules = sorted(names)
    quicken_lora(adapted)
    trained, total = adapted.get_nb_trainable_parameters()
    print(f"training {trained:,} of {total:,} parameters")
    return adapted


def target_modules(model: PreTrainedModel) -> list[str] | str:
    """Return which linear layers to adapt: those of attention and feed-forward in all layers.

    They are the seven projections, or those that another architecture has instead. Of a model that
    also sees images, or hears, only the part that reads text is adapted, by a regular expression.
    """
    decoder = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is decoder)
    linear = [name for name, module in decoder.named_modules() if isinstance(module, Linear)]
    inside = [re.fullmatch(r"layers\.\d+\.\w+\.(?:.+\.)?(\w+)", name) for name in linear]
    names = {match[1] for match in inside if match}
    if not names:
        print(f"adapting all linear layers of {type(model).__name__}")
        return "all-linear"
    if names != set(PROJECTIONS):
        print(f"adapting {', '.join(sorted(names))}: the linear layers of {type(model).__name__}")
    if model.config.get_text_config() is not model.config:
        return rf"{re.escape(place)}\.layers\..*\.({'|'.join(sorted(names))})"
    return PROJECTIONS if names == set(PROJECTIONS) else sorted(names)
