"""The machine that a model runs on: device, precision, versions."""

import os
import platform
from importlib.metadata import version

import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "scikit-learn",
    "pandas",
)


def device() -> torch.device:
    """Return the GPU where there is one, this process's own in a distributed run, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def describe_device() -> str:
    """Return the device's name, such as "NVIDIA A100" or "CPU (x86_64, 8 threads)"."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {threads} thread{'s' * (threads != 1)})"


def compute_dtype() -> torch.dtype:
    """Return bfloat16 where the device computes in it, float16 on an older GPU, else float32."""
    if not torch.cuda.is_available():
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bf16 else torch.float16


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices: AVX512-BF16 or AMX."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
