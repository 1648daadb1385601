"""Shared-prefix packing: many rows in one sequence after the prompt that they have in common.

A pack is `[prefix][row 1][row 2]...`. Every token attends to the prefix and, causally, to its own
row, whose positions go on where the prefix ends: just what the row would see alone. Logits, loss
and gradients are therefore those of separate rows, while the prefix is computed once, nothing is
padded in the linear layers, and the vocabulary's head runs only where an answer is read.

The idea of sharing a prompt's computation is that of cascade inference (FlashInfer, 2024); here it
also carries gradients. Attention is computed per group of rows of similar length over
[prefix, row], so that its cost grows with the number of rows and not with its square.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

ATTENTION = "shared_prefix"  # the name of `attend` as a model's attn_implementation
GROUP_SPREAD = 1.5  # the longest row of a group to its shortest: padding inside attention only
GROUP_ROWS = 64  # of a group at most, which copies the prefix's keys and values for each row
SHORT = 16  # tokens; shorter rows count as this long when groups are made

UNKNOWN = {  # arguments of an attention function that `attend` does not know
    "softcap": "it caps its attention's logits",
    "s_aux": "its attention has sinks",
    "position_bias": "its attention has a bias by position",
}

Inputs = dict[str, Any]  # keyword arguments of a model's forward
States = list[tuple[torch.Tensor, torch.Tensor]]  # a prefix's keys and values, per layer


class NotPackable(Exception):
    """What a model's attention asks for, and packs do not have."""


def pack(
    prefix: Sequence[int],
    rows: Sequence[Sequence[int]],
    num_kept: int,
    states: States | None = None,
) -> Inputs:
    """Return rows as one sequence, for a model whose attention is `ATTENTION`.

    The model's logits are (1, rows x num_kept, vocabulary): those at the last `num_kept` tokens of
    each row, in the order of `rows`. With `states` (`prefix_states`) the prefix is not in the
    sequence, and its keys and values are these.
    """
    start = len(prefix) if states is None else 0
    lengths = torch.tensor([len(row) for row in rows])
    ends = start + lengths.cumsum(0)
    starts = ends - lengths
    total = int(ends[-1])
    ids = [*prefix[:start]]
    for row in rows:
        ids += row
    positions = torch.arange(total)
    positions[start:] += len(prefix) - starts.repeat_interleave(lengths)

    tokens, real, shapes = [torch.arange(start)], [torch.ones(start, dtype=torch.bool)], []
    for members in _groups(lengths):
        width = int(lengths[members[-1]])
        inside = torch.arange(width) < lengths[members, None]
        tokens.append((starts[members, None] + torch.arange(width) * inside).flatten())
        real.append(inside.flatten())
        shapes.append((len(members), width))
    spread, is_real = torch.cat(tokens), torch.cat(real)
    place = torch.empty(total, dtype=torch.long)
    place[spread[is_real]] = is_real.nonzero().flatten()
    kept = (ends[:, None] - num_kept + torch.arange(num_kept)).flatten()
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": positions[None],
        "logits_to_keep": kept,
        "use_cache": False,
        "pack": {
            "kept": kept,
            "start": start,
            "spread": spread,  # token of the sequence -> its slot in the groups, laid end to end
            "place": place,  # and back
            "padding": (~is_real).nonzero().flatten(),
            "shapes": shapes,
            "states": states,
        },
    }


def use_packs(model: PreTrainedModel) -> None:
    """Give a causal LM the attention of packs, and spare its last layer what no logit needs."""
    decoder = model.get_decoder()
    decoder.set_attn_implementation(ATTENTION)
    layers = getattr(decoder, "layers", None)
    last = layers[-1] if layers else None
    if not hasattr(last, "mlp") or hasattr(last.mlp, "experts") or hasattr(last, "spares_tokens"):
        return
    last.spares_tokens = True
    pack: dict = {}

    def remember(layer, args, kwargs):
        pack.clear()
        pack.update(kwargs.get("pack") or {})

    def only_kept(mlp, args):
        return (args[0][:, pack["kept"]],) if pack else args

    def in_place(mlp, args, output):
        if not pack:
            return output
        whole = output.new_zeros(1, len(pack["place"]), output.shape[-1])
        return whole.index_copy(1, pack["kept"], output)

    last.register_forward_pre_hook(remember, with_kwargs=True)
    last.mlp.register_forward_pre_hook(only_kept)
    last.mlp.register_forward_hook(in_place)


def prefix_states(model: torch.nn.Module, prefix: Sequence[int]) -> States:
    """Compute the keys and values of a prefix: (1, key heads, tokens, size) per layer.

    A layer without some of its own (Gemma 4) has those of the last layer of its kind before it.
    """
    ids = torch.tensor([[*prefix]], device=model.device)
    cache = DynamicCache()  # a model's own would forget what lies before a sliding window
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    states = [(layer.keys, layer.values) for layer in cache.layers]
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or [""] * len(states)
    for kind in kinds[len(states) :]:
        last = max(n for n, earlier in enumerate(kinds[: len(cache.layers)]) if earlier == kind)
        states.append(states[last])
    return states


def _groups(lengths: torch.Tensor) -> list[list[int]]:
    """Return the indices of rows in groups of similar length, each sorted by length."""
    groups: list[list[int]] = []
    limit = 0.0
    for index in lengths.argsort(stable=True).tolist():
        if lengths[index] > limit or len(groups[-1]) == GROUP_ROWS:
            groups.append([])
            limit = GROUP_SPREAD * max(SHORT, int(lengths[index]))
        groups[-1].append(index)
    return groups


def pad(prefix: Sequence[int], rows: Sequence[Sequence[int]], num_kept: int, pad_id: int) -> Inputs:
    """Return rows as a batch padded on the left, each with the prefix, for any causal LM.

    The model's logits are (rows, num_kept, vocabulary), as of `pack` but for the shape.
    """
    ids, mask = pad_left(prefix, rows, pad_id)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "logits_to_keep": num_kept,
        "use_cache": False,
    }


def pad_left(
    prefix: Sequence[int], rows: Sequence[Sequence[int]], pad_id: int, after_prefix: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask of prefix and rows, both (rows, prefix + longest row).

    The padding stands before the prefix, or `after_prefix`, which all rows then have in one place.
    """
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        padding, seen = [pad_id] * (width - len(row)), [0] * (width - len(row))
        if after_prefix:
            ids.append([*prefix, *padding, *row])
            mask.append([1] * len(prefix) + seen + [1] * len(row))
        else:
            ids.append([*padding, *prefix, *row])
            mask.append(seen + [1] * (len(prefix) + len(row)))
    return torch.tensor(ids), torch.tensor(mask)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    pack: dict | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attend in a pack; without one, causally. An attention function of transformers.

    `query` is (1, heads, tokens, size), `key` and `value` may have fewer heads. Returns
    (1, tokens, heads, size) and no weights. A `sliding_window` is kept to.
    Raises NotPackable where the model asks for what is not computed here.
    """
    for argument, meaning in UNKNOWN.items():
        if kwargs.get(argument) is not None:
            raise NotPackable(meaning)
    window = kwargs.get("sliding_window")
    if pack is None:
        tokens = key.shape[2]
        if attention_mask is None and window is not None and window < tokens:
            mask = _lower_right(query.shape[2], tokens, query.device, query.dtype, window)
            attention_mask = mask[None, None]
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )

    start, shapes, padding = pack["start"], pack["shapes"], pack["padding"]
    sizes = [start, *(rows * width for rows, width in shapes)]

    def groups_of(states):
        """(1, heads, tokens, size) -> the prefix's and each group's, (slots, heads, size)"""
        flat = states.transpose(1, 2)[0]
        return _Move.apply(flat, pack["spread"], pack["place"], padding[:0]).split(sizes)

    def batched(states, shape):
        """(slots, heads, size) -> (rows, heads, width, size)"""
        return states.view(*shape, *states.shape[1:]).transpose(1, 2)

    grouped = _takes_grouped_heads(query, key, value, dropout)

    def sdpa(query, key, value, mask=None, is_causal=False):
        # no fused kernel of a GPU takes fewer key heads together with a mask as a tensor
        as_they_are = grouped and (query.device.type == "cpu" or type(mask) is not torch.Tensor)
        if not as_they_are:
            repeats = query.shape[1] // key.shape[1]
            key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
        output = scaled_dot_product_attention(
            query,
            key,
            value,
            mask,
            dropout_p=dropout,
            is_causal=is_causal,
            scale=scaling,
            enable_gqa=as_they_are,
        )
        return output.transpose(1, 2).flatten(0, 1)

    queries, keys, values = groups_of(query), groups_of(key), groups_of(value)
    outputs = []
    if start:
        first = [batched(states[0], (1, start)) for states in (queries, keys, values)]
        slides = window is not None and window < start
        if slides:
            mask = _lower_right(start, start, query.device, query.dtype, window)
            outputs.append(sdpa(*first, mask))
        else:
            outputs.append(sdpa(*first, is_causal=True))
        prefix = first[1:]
    else:
        prefix = pack["states"][module.layer_idx]
    for n, shape in enumerate(shapes, start=1):
        attended = [
            torch.cat([shared.expand(shape[0], -1, -1, -1), batched(states[n], shape)], 2)
            for shared, states in zip(prefix, (keys, values), strict=True)
        ]
        mask = _lower_right(shape[1], attended[0].shape[2], query.device, query.dtype, window)
        outputs.append(sdpa(batched(queries[n], shape), *attended, mask))
    output = _Move.apply(torch.cat(outputs), pack["place"], pack["spread"], padding)
    return output[None], None


def _takes_grouped_heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float
) -> bool:
    """Return whether fewer key heads than query heads leave the device a fused kernel."""
    if query.device.type == "cpu":
        return True
    return can_use_flash_attention(SDPAParams(query, key, value, None, dropout, False, True))


@lru_cache(maxsize=256)
def _lower_right(
    queries: int, keys: int, device: torch.device, dtype: torch.dtype, window: int | None = None
) -> torch.Tensor | CausalBias:
    """Return the mask of queries that are the last of the keys, to be added.

    It is causal, within a window if any.

    On a GPU FlashAttention computes it without a mask, in blocks, as FlexAttention would.
    """
    slides = window is not None and window < keys
    if device.type == "cuda" and not slides:
        return causal_lower_right(queries, keys)
    with torch.inference_mode(False):  # what is scored with may be trained with
        unseen = torch.full((queries, keys), -torch.inf, dtype=dtype, device=device)
        later = unseen.triu(keys - queries + 1)
        return later + unseen.tril(keys - queries - window) if slides else later


class _Move(torch.autograd.Function):
    """Tokens to slots or back: the gradient moves the other way, and padding gets none.

    As an indexing operation its gradient would be a scatter, which is several times slower.
    """

    @staticmethod
    def forward(ctx, states, index, inverse, padding):
        ctx.save_for_backward(inverse, padding)
        return states.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient):
        inverse, padding = ctx.saved_tensors
        return gradient.index_select(0, inverse).index_fill_(0, padding, 0), None, None, None


AttentionInterface.register(ATTENTION, attend)
