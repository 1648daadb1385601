"""Decoding by scores: class logits of comments, one forward pass, the class tokens compared."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate.utils import send_to_device
from transformers import PreTrainedModel

from pipeline.llm.loading import Model, base_of
from pipeline.llm.packing import Inputs, pack, pad, prefix_states, use_packs
from pipeline.llm.prompt import Prompt
from pipeline.models.by_length import batches_of_tokens
from pipeline.models.in_batches import compute_in_batches


def choose_packing(
    model: Model, prompt: Prompt, comments: list[list[int]], max_length: int
) -> bool:
    """Set the model's attention to packs where that is exact; say so, or why not, in one line.

    Compares the logits of two rows in a pack with those of the rows alone.
    """
    base = base_of(model)
    implementation = base.config._attn_implementation
    reason, difference = _obstacle(base, max_length), 0.0
    if not reason:
        rows = [ids + prompt.suffix for ids in (min(comments, key=len), max(comments, key=len))]
        was_training = model.training
        model.eval()
        alone = [last_logits(model, pad(prompt.prefix, [row], 1, 0)) for row in rows]
        use_packs(base)
        together = last_logits(model, pack(prompt.prefix, rows, 1))
        model.train(was_training)
        expected = torch.cat(alone)
        difference = ((together - expected).abs().max() / expected.abs().max()).item()
        if not difference <= (1e-4 if model.dtype == torch.float32 else 0.05):  # also where NaN
            reason = f"its logits in a pack differ by {difference:.1e} from those of rows alone"
    if reason:
        base.set_attn_implementation(implementation)
        print(f"padded batches, the prompt repeated in each row: {reason}")
    else:
        print(f"shared-prefix packs: logits equal those of rows alone to {difference:.0e}")
    return not reason


@contextmanager
def inference(model: Model) -> Iterator[None]:
    """Compute without gradients, a float32 adapter in the model's 16 bit as in training."""
    half = model.dtype != torch.float32
    with torch.inference_mode(), torch.autocast(model.device.type, model.dtype, enabled=half):
        yield


def _obstacle(base: PreTrainedModel, max_length: int) -> str:
    """Return why a model's attention cannot be packed, as far as its code and config tell."""
    if not getattr(base, "_supports_attention_backend", False):
        return f"{type(base).__name__} has an attention of its own (ALiBi, say)"
    config = base.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        return f"it has layers other than attention ({', '.join(sorted(kinds))})"
    if window and window < max_length and "sliding_attention" in kinds:
        return f"its attention slides over {window} tokens, and rows may have {max_length}"
    softcap = getattr(config, "attn_logit_softcapping", None)
    return "it caps its attention's logits" if softcap else ""


def last_logits(model: Model, inputs: Inputs) -> torch.Tensor:
    """Return the float32 logits (rows, vocabulary) of inputs that keep one token a row."""
    with inference(model):
        return model(**send_to_device(inputs, model.device)).logits.flatten(0, 1).float()


def score_comments(
    model: Model,
    prompt: Prompt,
    comments: list[list[int]],
    max_tokens_per_pack: int,
    packed: bool = True,
) -> np.ndarray:
    """Return class logits (rows, classes), float32, in the order of `comments` (token ids).

    `packed` says that the model's attention is that of packs (`choose_packing`). No batch has more
    than `max_tokens_per_pack` tokens, padding included, which bounds the memory.
    """
    asked = prompt.suffix + prompt.answers[0][: prompt.shared]
    rows = [comment + asked for comment in comments]
    with inference(model):
        states = prefix_states(model, prompt.prefix) if packed else None
    prefix = 0 if packed else len(prompt.prefix)
    batches = batches_of_tokens(rows, max_tokens_per_pack, prefix, padded=not packed)

    def class_logits(members: list[int]) -> np.ndarray:
        batch = [rows[index] for index in members]
        if packed:
            inputs = pack(prompt.prefix, batch, 1, states)
        else:
            inputs = pad(prompt.prefix, batch, 1, prompt.stop[0])
        return last_logits(model, inputs)[:, prompt.class_tokens].cpu().numpy()

    return np.stack(compute_in_batches(batches, class_logits, "scores"))
