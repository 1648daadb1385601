"""LoRA on a CPU: its share of a layer in few passes over memory, its dropout quickly drawn.

peft multiplies, scales and adds in a pass each, and torch draws a mask's numbers one by one, in
one thread. Beside matrices that are small, these take a third of a training step.
"""

import math

import numpy as np
import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch.autograd.function import once_differentiable


class QuickDropout(torch.nn.Module):
    """`torch.nn.Dropout` for CPU tensors that draws no number for what it keeps.

    The gaps between dropped elements are geometric. The choice depends on torch's random state
    alone, as a resumed training needs it.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return x
        kept = torch.ones(x.shape, dtype=x.dtype)
        kept.view(-1).index_fill_(0, self.choose(x.numel()), 0)
        return x * kept / (1 - self.p)

    def choose(self, num: int) -> torch.Tensor:
        """Return which of `num` elements to drop, in their order."""
        generator = np.random.Generator(np.random.SFC64(int(torch.randint(2**62, ()))))
        expected = num * self.p
        share = generator.random(int(expected + 8 * math.sqrt(expected) + 16), dtype=np.float32)
        gaps = (np.log1p(-share) / math.log1p(-self.p)).astype(np.int64) + 1
        chosen = gaps.cumsum() - 1
        return torch.from_numpy(chosen[: chosen.searchsorted(num)])


class QuickLora(LoraVariant):
    """peft's place for another forward pass of LoRA: the same result, in fewer passes."""

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs
    ) -> torch.Tensor:
        dropout, scale = module.lora_dropout[active_adapter], module.scaling[active_adapter]
        dropped = None
        if isinstance(dropout, QuickDropout) and dropout.training:
            dropped, scale = dropout.choose(x.numel()), scale / (1 - dropout.p)
        down, up = module.lora_A[active_adapter].weight, module.lora_B[active_adapter].weight
        return _AddLora.apply(result, x, down, up, dropped, scale)


class _AddLora(torch.autograd.Function):
    """result += scale * (x without what is dropped) @ down.T @ up.T, in the precision of result"""

    @staticmethod
    def forward(ctx, result, x, down, up, dropped, scale):
        rows = x.flatten(0, -2).to(result.dtype)
        if dropped is not None:
            rows = rows.clone() if rows.data_ptr() == x.data_ptr() else rows
            rows.view(-1).index_fill_(0, dropped, 0)
        inner = rows @ down.T.to(rows.dtype)
        ctx.save_for_backward(rows, inner, down, up, dropped)
        ctx.scale, ctx.dtype = scale, x.dtype
        ctx.mark_dirty(result)
        result.view(-1, result.shape[-1]).addmm_(inner, up.T.to(rows.dtype), alpha=scale)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        rows, inner, down, up, dropped = ctx.saved_tensors
        outer = gradient.flatten(0, -2)
        through = (outer @ up.to(outer.dtype)).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[1]:
            to_x = through @ down.to(outer.dtype)
            if dropped is not None:
                to_x.view(-1).index_fill_(0, dropped, 0)
            to_x = to_x.view(*gradient.shape[:-1], -1).to(ctx.dtype)
        to_down = (through.T @ rows).to(down.dtype)
        to_up = (outer.T @ inner).mul_(ctx.scale).to(up.dtype)
        return gradient, to_x, to_down, to_up, None, None


def quicken_lora(model: torch.nn.Module) -> None:
    """Let a model's LoRA layers compute quickly where they do so on a CPU."""
    if model.device.type != "cpu":
        return
    for module in model.modules():
        for name in getattr(module, "lora_A", {}):
            dropout = module.lora_dropout[name]
            if isinstance(dropout, torch.nn.Dropout):
                module.lora_dropout[name] = QuickDropout(dropout.p)
            if isinstance(module.lora_A[name], torch.nn.Linear):
                module.lora_variant[name] = QuickLora()
