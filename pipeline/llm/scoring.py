"""Decoding by scores: class logits of comments, one forward pass, the class tokens compared."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate.utils import send_to_device
from transformers import PreTrainedModel

from pipeline.common.finite import LOGITS, check_finite
from pipeline.llm.loading import Model, base_of
from pipeline.llm.pack_size import scoring_pack_tokens
from pipeline.llm.packing import Inputs, NotPackable, pack, pad, prefix_states, use_packs
from pipeline.llm.prompt import Prompt
from pipeline.models.by_length import batches_of_tokens
from pipeline.models.in_batches import compute_in_batches
from pipeline.models.kept_rows import KeptPart, limit_of


def choose_packing(
    model: Model, prompt: Prompt, comments: list[list[int]], max_new_tokens: int = 0
) -> bool:
    """Set the model's attention to packs where that is exact; say so, or why not, in one line.

    Compares the logits of two rows in a pack with those of the rows alone. `max_new_tokens` are
    those of replies, where replies are to be generated.
    """
    base = base_of(model)
    decoder = base.get_decoder()
    implementation = decoder.config._attn_implementation
    longest = len(prompt.prefix) + len(max(comments, key=len)) + len(prompt.suffix)
    reason, difference = _obstacle(base, longest, max_new_tokens), 0.0
    if not reason:
        rows = [ids + prompt.suffix for ids in (min(comments, key=len), max(comments, key=len))]
        was_training = model.training
        model.eval()
        try:
            difference = _difference_of_packs(model, prompt, rows)
        except NotPackable as obstacle:
            reason = str(obstacle)
        model.train(was_training)
        if not difference <= (1e-4 if model.dtype == torch.float32 else 0.05):  # also where NaN
            reason = f"its logits in a pack differ by {difference:.1e} from those of rows alone"
    if reason:
        decoder.set_attn_implementation(implementation)
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


def _difference_of_packs(model: Model, prompt: Prompt, rows: list[list[int]]) -> float:
    """Set the attention to packs; return by how much they change the logits of rows alone.

    The packs are one with the prefix and one without it, as of several; the difference is relative
    to the largest logit.
    """
    expected = torch.cat([last_logits(model, pad(prompt.prefix, [row], 1, 0)) for row in rows])
    check_finite(expected[:, prompt.class_tokens], LOGITS)
    use_packs(base_of(model))
    with inference(model):
        states = prefix_states(model, prompt.prefix)
    packs = [pack(prompt.prefix, rows, 1), pack(prompt.prefix, rows, 1, states)]
    together = torch.stack([last_logits(model, inputs) for inputs in packs])
    return ((together - expected).abs().max() / expected.abs().max()).item()


def _obstacle(base: PreTrainedModel, longest: int, max_new_tokens: int) -> str:
    """Return why a model's attention cannot be packed, as far as its code and config tell.

    In packs the prefix of a generated reply is beyond a sliding window too early, by the padding.
    """
    config = base.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if others := kinds - {"full_attention", "sliding_attention"}:
        return f"it has layers of another kind ({', '.join(sorted(others))})"
    if base._is_stateful:
        return "it keeps a state from token to token"
    if not base._supports_attention_backend:
        return f"{type(base).__name__} has an attention of its own (ALiBi, say)"
    with_reply = longest + max_new_tokens
    if max_new_tokens and window and window < with_reply and "sliding_attention" in kinds:
        return f"its attention slides over {window} tokens, and rows with replies have {with_reply}"
    return ""


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
    kept: KeptPart | None = None,
) -> np.ndarray:
    """Return class logits (rows, classes), float32, in the order of `comments` (token ids).

    `packed` says that the model's attention is that of packs (`choose_packing`). No batch has more
    than `max_tokens_per_pack` tokens, padding included, which bounds the memory; 0 is as many as it
    takes, or as many as `kept` had, whose rows are not scored again.
    """
    asked = prompt.suffix + prompt.answers[0][: prompt.shared]
    rows = [comment + asked for comment in comments]
    with inference(model):
        states = prefix_states(model, prompt.prefix) if packed else None
    prefix = 0 if packed else len(prompt.prefix)
    limit = max_tokens_per_pack
    if not limit:
        longest = max(map(len, rows))
        limit = limit_of(kept, lambda: scoring_pack_tokens(model, prompt, longest, packed))
        print(f"scoring {limit:,} tokens at once")
    batches = batches_of_tokens(rows, limit, prefix, padded=not packed)

    def class_logits(members: list[int]) -> np.ndarray:
        batch = [rows[index] for index in members]
        if packed:
            inputs = pack(prompt.prefix, batch, 1, states)
        else:
            inputs = pad(prompt.prefix, batch, 1, prompt.stop[0])
        values = last_logits(model, inputs)[:, prompt.class_tokens].cpu().numpy()
        check_finite(values, LOGITS)
        return values

    return np.stack(compute_in_batches(batches, class_logits, "scores", kept))
