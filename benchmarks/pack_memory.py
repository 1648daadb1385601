"""Benchmark 5: the memory of packs, as `pack_size` predicts it and as it is.

On a GPU the truth is what torch says that it allocated at most. Without one, the tensors that are
alive are counted as operations make them: of real tensors, or of fake ones, which have shapes but
no values, so that shapes of any size fit.

Writes  results/pack_memory*.json and .png, and the section of README.md
Run     python -m benchmarks.pack_memory   (--shape Qwen2.5-3B --precision nf4 on a GPU)
"""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import send_to_device
from peft import LoraConfig, get_peft_model
from torch._subclasses import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from benchmarks import common, train_speed
from benchmarks.common import Rows
from pipeline.common.cli import parse_settings, run
from pipeline.llm.pack_size import Bytes, scoring_bytes, training_bytes
from pipeline.llm.packing import pack, use_packs
from pipeline.llm.training import training_rows

# ---------------------------------------------------------------------------------------------
SHAPE = "Qwen2.5-3B"  # micro, tiny, small, Qwen2.5-0.5B, Qwen2.5-3B or Qwen2.5-7B
PRECISION = "bf16"  # fp32, bf16 or nf4 (with real tensors)
FAKE = True  # shapes without values, on a CPU
ROWS = "8,16,32"  # of the packs
PREFIX_TOKENS = 124  # of the codebook
# ---------------------------------------------------------------------------------------------

KINDS = ("training", "training, checkpointed", "scoring")


class GpuDropout(torch.nn.Module):
    """Dropout that saves on a CPU what it saves on a GPU: a mask of one byte an element."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.native_dropout(x, self.p, self.training)[0]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, as long as they live."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.now = self.most = 0
        self.known = {
            part.untyped_storage()._cdata for part in [*model.parameters(), *model.buffers()]
        }

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return output

    def count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    shape, precision = settings["shape"], common.resolve(settings["precision"])
    fake = settings["fake"] and precision != "nf4" and not torch.cuda.is_available()
    counts = [int(part) for part in settings["rows"].split(",")]
    rows = common.make_rows(max(counts), 2_000, settings["prefix_tokens"])
    if fake:
        model = shapes_of(common.config_of(shape), common.dtype_of(precision))
    else:
        model = adapted(shape, precision)
    lines = [
        line(kind, model, rows.first(count), bytes_of(kind, model, rows))
        for kind in KINDS
        for count in counts
    ]
    held = "allocated by torch on the GPU" if torch.cuda.is_available() else "of live tensors"
    common.publish(
        "pack_memory",
        settings,
        {f"{shape}, {precision}": lines},
        [
            f"A prompt of {len(rows.prompt.prefix)} tokens. Measured: the most {held} in one "
            f"step{', with fake tensors' if fake else ''}, beyond the model, and in training the "
            "two moments of the optimizer and a copy of the gradients."
        ],
        common.bars(
            {f"{row['what']}, {row['rows']} rows": row["measured, GiB"] for row in lines}, "GiB"
        ),
        variant=f"{shape}-{precision}",
    )


def adapted(shape: str, precision: str) -> torch.nn.Module:
    """Return a model with LoRA; on a CPU its dropout saves what a GPU's does."""
    model = train_speed.adapted(shape, precision, packs=True, checkpointing=True)
    return model if torch.cuda.is_available() else with_gpu_dropout(model)


def with_gpu_dropout(model: torch.nn.Module) -> torch.nn.Module:
    """Replace the dropout of a model's LoRA layers by `GpuDropout`."""
    for module in model.modules():
        for name, dropout in getattr(module, "lora_dropout", {}).items():
            module.lora_dropout[name] = GpuDropout(dropout.p)
    return model


def shapes_of(config: Qwen2Config, dtype: torch.dtype) -> torch.nn.Module:
    """Return a model with LoRA whose weights have shapes and no values, on the CPU."""
    with torch.device("meta"):
        base = Qwen2ForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa")
        use_packs(base)
        base.enable_input_require_grads()
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **common.LORA))
    base.model.rotary_emb = Qwen2RotaryEmbedding(config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                fake = torch.empty(weight.shape, dtype=weight.dtype)
                module._parameters[name] = torch.nn.Parameter(fake, weight.requires_grad)
    return with_gpu_dropout(model)


def bytes_of(kind: str, model: torch.nn.Module, rows: Rows) -> tuple[Bytes, ...]:
    """Return the predictions for packs of a kind, of which the largest counts."""
    if kind == "scoring":
        return (scoring_bytes(model, rows.prompt),)
    return training_bytes(model, rows.prompt, "checkpointed" in kind)


def line(kind: str, model: torch.nn.Module, rows: Rows, needed: tuple[Bytes, ...]) -> dict:
    """Return a line of the table: a pack's size, what was predicted, what it took."""
    own = [row["input_ids"] for row in training_rows(rows.prompt, rows.comments, rows.labels)]
    if kind == "scoring":
        own = rows.asked
    tokens = sum(map(len, own))
    predicted = max(part.of(tokens, len(own)) for part in needed)
    with checkpointing(model, "checkpointed" in kind):
        measured = peak(model, rows, own, kind != "scoring")
    return {
        "what": kind,
        "rows": len(own),
        "tokens of a pack": tokens + len(rows.prompt.prefix),
        "predicted, GiB": predicted / 2**30,
        "measured, GiB": measured / 2**30,
        "predicted to measured": f"{predicted / measured:.2f}",
        "measured a token, MiB": measured / tokens / 2**20,
    }


@contextmanager
def checkpointing(model: torch.nn.Module, on: bool) -> Iterator[None]:
    """Let a model checkpoint its layers for a while."""
    if on:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    yield
    if on:
        model.gradient_checkpointing_disable()


def peak(model: torch.nn.Module, rows: Rows, own: list[list[int]], training: bool) -> int:
    """Return the most bytes that a step on one pack takes beyond the model."""
    num_kept = len(rows.prompt.answers[0]) if training else 1
    inputs = send_to_device(pack(rows.prompt.prefix, own, num_kept), model.device)
    targets = torch.zeros(num_kept * len(own), dtype=torch.long, device=model.device)

    def step() -> None:
        model.train(training)
        with (
            torch.set_grad_enabled(training),
            torch.autocast(model.device.type, model.dtype, enabled=model.dtype != torch.float32),
        ):
            logits = model(**inputs).logits.flatten(0, 1).float()
            loss = cross_entropy(logits, targets) if training else None
        del logits
        if training:
            loss.backward()
            model.zero_grad()

    moments = 3 * 4 * sum(part.numel() for part in model.parameters() if part.requires_grad)
    gc.collect()
    if torch.cuda.is_available():
        _, gib = common.memory_of(step)
        most = int(gib * 2**30)
    else:
        with LiveBytes(model) as live:
            step()
        most = live.most
    return most + (moments if training else 0)


if __name__ == "__main__":
    run(main)
