"""Dropout whose mask is drawn quickly on a CPU, where LoRA's took a fifth of a training step.

torch draws a CPU's Bernoulli mask in one thread, a number an element. 16 random bits an element
say as much, and NumPy's SFC64 gives them several times as fast.
"""

import numpy as np
import torch

STEPS = 2**16  # of the probability


class QuickDropout(torch.nn.Module):
    """`torch.nn.Dropout` for CPU tensors, its probability rounded to 1/65,536.

    The mask depends on torch's random state alone, as a resumed training needs it.
    """

    def __init__(self, p: float):
        super().__init__()
        self.dropped = round(p * STEPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        generator = np.random.Generator(np.random.SFC64(int(torch.randint(2**62, ()))))
        bits = generator.integers(-STEPS // 2, STEPS // 2, x.shape, dtype=np.int16)
        kept = torch.from_numpy(bits) >= self.dropped - STEPS // 2
        return x * kept.to(x.dtype).mul_(STEPS / (STEPS - self.dropped))


def quicken_dropout(model: torch.nn.Module) -> None:
    """Replace the dropout of a model's LoRA layers where it computes on a CPU."""
    if model.device.type != "cpu":
        return
    for module in model.modules():
        for name, dropout in getattr(module, "lora_dropout", {}).items():
            if isinstance(dropout, torch.nn.Dropout):
                module.lora_dropout[name] = QuickDropout(dropout.p)
