"""LoRA: a fresh adapter on a causal LM, to be trained."""

from peft import LoraConfig, PeftModel, get_peft_model
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
    """Return the base model with an adapter on all seven projections."""
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
    quicken_lora(adapted)
    trained, total = adapted.get_nb_trainable_parameters()
    print(f"training {trained:,} of {total:,} parameters")
    return adapted


def target_modules(model: PreTrainedModel) -> list[str] | str:
    """Return the names of the seven projections; of another architecture all linear layers."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if names.issuperset(PROJECTIONS):
        return PROJECTIONS
    print(f"adapting all linear layers: not all of {', '.join(PROJECTIONS)} are there")
    return "all-linear"
