"""How many tokens a pack may have, and how many rows a batch of generation: what is fastest.

A CPU is fastest with packs of a certain size. A GPU is fastest with as few packs as its memory
allows, since each costs thousands of kernel launches whatever its size. What a token and a row
keep for the backward pass is counted in small passes through the model itself, on its device and
in its precision; what else is in memory at the peak follows from the model's shape.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate.utils import send_to_device
from torch.autograd.graph import saved_tensors_hooks

from pipeline.common.machine import free_memory
from pipeline.llm.loading import Model, base_of
from pipeline.llm.packing import GROUP_ROWS, Inputs, pack, pad
from pipeline.llm.prompt import Prompt

CPU_TRAINING_TOKENS = 1152  # of the rows; those of the prefix, which packs share, come on top
CPU_SCORING_TOKENS, CPU_GENERATION_ROWS = 4096, 32
MOST_SCORING_TOKENS, MOST_GENERATION_ROWS = 16_384, 256  # more is no faster
SHARE = 0.85  # of the free memory: the rest is lost between blocks of different sizes
RESERVE = 2**30  # bytes that libraries take when they are first used
PADDING = 1.05  # of a group's rows to the longest of them, inside attention only
BACKWARD = 1.25  # the gradients inside a layer, to what the layer saved
SHORT, LONG = 16, 80  # tokens of the rows of the small passes


@dataclass(frozen=True)
class Bytes:
    """The memory of a pack: so much whatever is in it, and so much per token and per row."""

    fixed: float
    token: float
    row: float

    def of(self, tokens: int, rows: int) -> float:
        """Return the bytes of a pack whose rows have `tokens` in all, without the prefix."""
        return self.fixed + self.token * tokens + self.row * rows

    def times(self, factor: float) -> "Bytes":
        return Bytes(factor * self.fixed, factor * self.token, factor * self.row)

    def plus(self, other: "Bytes") -> "Bytes":
        return Bytes(self.fixed + other.fixed, self.token + other.token, self.row + other.row)


def training_pack_tokens(
    model: Model,
    prompt: Prompt,
    longest_row: int,
    batch_rows: int,
    gradient_checkpointing: bool,
    packed: bool = True,
) -> int:
    """Return the tokens of a training pack, prefix included: at most those of a whole batch.

    `longest_row` is in tokens after the prefix; `batch_rows` are those of a batch, which no pack
    exceeds. The longest row fits always, whatever the memory. Where the model cannot be `packed`
    these are the tokens of a padded batch, in which each row has the prefix.
    """
    prefix = len(prompt.prefix)
    if on_cpu(model):
        least = longest_row if packed else prefix + longest_row
        return max(CPU_TRAINING_TOKENS, least) + prefix * packed
    free = available()
    fitting = min(
        (free - needed.of(0, batch_rows)) / needed.token
        for needed in training_bytes(model, prompt, gradient_checkpointing, packed)
    )
    most = prefix + batch_rows * longest_row
    if not packed:
        most = batch_rows * (prefix + longest_row)
    return max(prefix + longest_row, min(most, int(fitting) + prefix * packed))


def scoring_pack_tokens(model: Model, prompt: Prompt, longest_row: int, packed: bool = True) -> int:
    """Return the tokens of a scoring pack, or of a padded batch where not `packed`.

    `longest_row` is in tokens after the prefix.
    """
    least = len(prompt.prefix) + longest_row
    if on_cpu(model):
        return max(CPU_SCORING_TOKENS, least)
    needed = scoring_bytes(model, prompt)
    shortest_row = len(prompt.suffix) + 1 + (0 if packed else len(prompt.prefix))
    fitting = (available() - needed.fixed) / (needed.token + needed.row / shortest_row)
    return max(least, min(MOST_SCORING_TOKENS, int(fitting)))


def generation_rows(model: Model, prompt: Prompt, longest_row: int, max_new_tokens: int) -> int:
    """Return the rows of a batch of generation; `longest_row` is in tokens after the prefix.

    The prefix stands once in the cache. A layer's attention lays it before each row's keys and
    values, and under a mask copies these for every head of the queries.
    """
    if on_cpu(model):
        return CPU_GENERATION_ROWS
    needed, shape = scoring_bytes(model, prompt), Shape(model)
    own = longest_row + max_new_tokens
    copies = 1 + shape.queries / shape.keys
    cached = (shape.layers + 1) * own + copies * (len(prompt.prefix) + own)
    row = needed.row + needed.token * longest_row + shape.cache * cached
    return max(1, min(MOST_GENERATION_ROWS, int((available() - needed.fixed) / row)))


def on_cpu(model: Model) -> bool:
    """Return whether a model computes on a CPU."""
    return model.device.type == "cpu"


def available() -> float:
    """Return the bytes that packs may take of the device's free memory."""
    return SHARE * (free_memory() - RESERVE)


class Shape:
    """A model's sizes, of its widest layer where they vary.

    `cache` are the bytes of a token's keys and values in a layer.
    """

    def __init__(self, model: Model):
        config = base_of(model).config.get_text_config()
        self.layers = config.num_hidden_layers
        self.hidden = config.hidden_size
        self.vocabulary = config.vocab_size
        self.item = model.dtype.itemsize
        self.queries = self.keys = 0
        for layer in config.per_layer_config:
            heads = layer.num_attention_heads
            size = getattr(layer, "head_dim", None) or config.hidden_size // heads
            self.queries = max(self.queries, heads * size)
            key_heads = getattr(layer, "num_key_value_heads", None) or heads
            self.keys = max(self.keys, key_heads * size)
        self.cache = 2 * self.keys * self.item
        self.widest = max(
            getattr(part, side)
            for part in base_of(model).get_decoder().modules()
            for side in ("in_features", "out_features")
            if hasattr(part, side)
        )


def training_bytes(
    model: Model, prompt: Prompt, gradient_checkpointing: bool, packed: bool = True
) -> tuple[Bytes, Bytes]:
    """Return the memory of a training pack when the backward pass begins, and inside a layer's.

    All that was saved is in memory then, or with checkpoints what goes into each layer and one
    layer's saved tensors. Beside it are at first the logits' softmax and two gradients of theirs,
    as float32, and later a layer's gradients and, of NF4, one weight as it was.
    """
    shape, saved = Shape(model), saved_bytes(model, prompt, packed)
    prefix = len(prompt.prefix) if packed else 0
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    always = 4 * 4 * trained  # gradient, its copy before the step, the two moments of Adam
    always += 3 * shape.cache * shape.layers * prefix  # states, what packs see, gradients
    held, layer = saved, saved.times(1 / shape.layers)
    if gradient_checkpointing:
        boundary = shape.layers * shape.hidden * shape.item
        held = Bytes(boundary * prefix, boundary, 0)
    logits = Bytes(0, 0, len(prompt.answers[0]) * shape.vocabulary * (shape.item + 3 * 4))
    weight = Bytes(shape.hidden * shape.widest * shape.item, 0, 0)
    working = layer.times(BACKWARD + gradient_checkpointing)
    return tuple(
        held.times(PADDING).plus(beside).plus(Bytes(always, 0, 0))
        for beside in (logits, working.times(PADDING).plus(weight))
    )


def scoring_bytes(model: Model, prompt: Prompt) -> Bytes:
    """Return the memory of a scoring pack at its peak: inside a layer, and at the logits."""
    shape, prefix = Shape(model), len(prompt.prefix)
    mlp = 5 * shape.widest + 4 * shape.hidden
    attention = 8 * (shape.queries + shape.keys) + 6 * shape.hidden
    copies = GROUP_ROWS * 2 * shape.queries * prefix * shape.item  # of the prefix, for a group
    weight = shape.hidden * shape.widest * shape.item
    return Bytes(
        fixed=shape.cache * shape.layers * prefix + copies + weight,
        token=PADDING * max(mlp, attention) * shape.item,
        row=shape.vocabulary * (shape.item + 4),
    )


def saved_bytes(model: Model, prompt: Prompt, packed: bool = True) -> Bytes:
    """Return what a forward pass saves for the backward pass, without the logits' loss.

    In a padded batch a row's tokens are those of the prefix too.
    """
    prefix = prompt.prefix
    if not packed:
        two = _saved(model, pad(prefix, [[0] * LONG, [0] * SHORT], 1, prompt.stop[0]))
        return Bytes(fixed=0, token=two / (2 * (len(prefix) + LONG)), row=0)
    first, longer, second = (
        _saved(model, pack(prefix, [[0] * length for length in lengths], 1))
        for lengths in ((SHORT,), (LONG,), (SHORT, SHORT))
    )
    token = (longer - first) / (LONG - SHORT)
    row = max(0.0, second - first - SHORT * token)
    return Bytes(fixed=first - SHORT * token - row, token=token, row=row)


def _saved(model: Model, inputs: Inputs) -> int:
    """Return the bytes of the tensors that a training pass saves, parameters and buffers aside."""
    own = {part.untyped_storage()._cdata for part in [*model.parameters(), *model.buffers()]}
    found: dict[int, torch.UntypedStorage] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        found[storage._cdata] = storage
        return tensor

    half = model.dtype != torch.float32
    devices = [] if model.device.type == "cpu" else [model.device]
    with (
        torch.random.fork_rng(devices, device_type=model.device.type),
        _training_without_checkpoints(model),
        torch.autocast(model.device.type, model.dtype, enabled=half),
        saved_tensors_hooks(remember, lambda tensor: tensor),
    ):
        output = model(**send_to_device(inputs, model.device))
    total = sum(storage.nbytes() for key, storage in found.items() if key not in own)
    del output
    return total


@contextmanager
def _training_without_checkpoints(model: Model) -> Iterator[None]:
    """Let a model compute as in training, its checkpointed layers as if they were not."""
    modes = [(part, part.training) for part in model.modules()]
    checkpointed = [part for part in model.modules() if getattr(part, "gradient_checkpointing", 0)]
    for part in checkpointed:
        part.gradient_checkpointing = False
    model.train()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for part in checkpointed:
            part.gradient_checkpointing = True
