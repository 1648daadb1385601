"""The machine that a model runs on: device, precision, memory, versions."""

import os
import platform
from importlib.metadata import version
from types import ModuleType

import psutil
import torch
import transformers
from accelerate.utils import parse_flag_from_env

from pipeline.common.cgroup import free_in_cgroup
from pipeline.common.cli import UserError
from pipeline.common.processes import is_main_process, num_processes
from pipeline.common.unused_gpu import refuse_gpu_too_old, why_unused

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
DTYPES = ("auto", "bfloat16", "float16", "float32")
USE_CPU = "ACCELERATE_USE_CPU"  # an environment variable of accelerate
NOT_TRIED = {"mps": "Apple's GPUs (mps)", "xpu": "Intel's GPUs (xpu)"}
# Qwen2 on a V100: https://github.com/QwenLM/Qwen3/issues/868; Qwen2.5:
# https://github.com/turboderp-org/exllamav2/issues/627; Gemma 3:
# https://github.com/Blaizzy/mlx-vlm/pull/293.
FLOAT16 = (
    "float16 ends at 65,504, which activations of Qwen2.5, Gemma 3 and others that were trained in "
    "bfloat16 may exceed: the run stops if they do, and --dtype float32 is the cure"
)

_asked: list[torch.dtype] = []  # the precision that this run was asked for, if any


def start_run(dtype: str = "auto") -> None:
    """Take a precision for this process, and print the device, the precision and the memory.

    `dtype` is one of `DTYPES`; "auto" is what `compute_dtype` finds best. Further lines say why a
    GPU stays unused and what to do, that a kind of GPU was not tried, and what float16 may do.
    Raises UserError where torch has no code for the GPU.
    """
    place = device()
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: give {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    if dtype == "float16" and place.type == "cpu":
        raise UserError("--dtype float16: a CPU computes in float32 or bfloat16")
    if place.type == "cuda":
        refuse_gpu_too_old(place)
    _asked[:] = [] if dtype == "auto" else [getattr(torch, dtype)]
    if not is_main_process():
        return
    print(machine_line())
    if place.type == "cpu" and not parse_flag_from_env(USE_CPU) and (reason := why_unused()):
        print(reason)
    if place.type in NOT_TRIED:
        print(
            f"{NOT_TRIED[place.type]} were not tried: compare some rows with a run on the CPU, "
            f"with the environment variable {USE_CPU}=1"
        )
    if compute_dtype() == torch.float16:
        print(FLOAT16)


def machine_line() -> str:
    """Return what a run prints first: device, precision, memory, and how many processes."""
    free, total = memory()
    words = [
        f"device: {describe_device()}",
        dtype_name(compute_dtype()),
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB of memory free",
    ]
    gpus = 0 if device().type == "cpu" else torch.accelerator.device_count()
    if num_processes() > 1:
        words.append(f"{num_processes()} processes")
    elif gpus > 1:
        words.append(f"one of {gpus} GPUs: torchrun --nproc-per-node {gpus} SCRIPT uses all")
    return ", ".join(words)


def device() -> torch.device:
    """Return the GPU where there is one, this process's own in a distributed run, else the CPU.

    A GPU is what torch can use: of NVIDIA or AMD (cuda), Apple (mps) or Intel (xpu). Where the user
    has set `USE_CPU`, which the Trainer reads too, it is the CPU. Raises UserError where there are
    more processes than GPUs.
    """
    if parse_flag_from_env(USE_CPU):
        return torch.device("cpu")
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return torch.device("cpu")
    index, count = int(os.environ.get("LOCAL_RANK", 0)), torch.accelerator.device_count()
    if index >= count:
        raise UserError(
            f"this machine has {count} GPU{'s' * (count != 1)}: start at most so many processes, "
            f"by torchrun --nproc-per-node {count}"
        )
    return torch.device(found.type, index)


def describe_device() -> str:
    """Return the device's name, such as "NVIDIA A100" or "CPU (x86_64, 8 threads)"."""
    place = device()
    if place.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU ({platform.machine()}, {threads} thread{'s' * (threads != 1)})"
    if place.type == "mps":
        return f"{torch.backends.mps.get_name()} (mps)"
    return module_of(place).get_device_name(place)


def module_of(place: torch.device) -> ModuleType:
    """Return torch's module for a kind of device: `torch.cuda`, `torch.mps`, `torch.cpu`."""
    return torch.get_device_module(place)


def compute_dtype() -> torch.dtype:
    """Return the precision that `start_run` was asked for, else the best that the device has.

    That is bfloat16 where the device computes in it, float16 on an older GPU, else float32.
    """
    if _asked:
        return _asked[0]
    kind = device().type
    if kind == "cpu":
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    if kind == "mps":  # from macOS 14 on, by emulation on M1 and M2
        newer = torch.backends.mps.is_macos_or_newer(14, 0)
        return torch.bfloat16 if newer else torch.float32
    if kind == "xpu":
        return torch.bfloat16 if torch.xpu.is_bf16_supported() else torch.float16
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bf16 else torch.float16


def dtype_name(dtype: torch.dtype) -> str:
    """Return a precision's name without its module, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices: AVX512-BF16 or AMX.

    False where torch cannot say, as before 2.11, which `install_env.sh` takes for some GPUs.
    """
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def memory() -> tuple[int, int]:
    """Return the device's free memory and all of it, in bytes.

    What torch holds and does not use counts as free. On a CPU, a limit of the process's control
    group (a container's, or that of a cluster's job) counts too.
    """
    place = device()
    if place.type == "cpu":
        machine = psutil.virtual_memory()
        limits = free_in_cgroup()
        return min(machine.available, limits[0]), min(machine.total, limits[1])
    if place.type == "mps":
        total = torch.mps.recommended_max_memory()
        return total - torch.mps.current_allocated_memory(), total
    module = module_of(place)
    free, total = module.mem_get_info(place)
    return free + module.memory_reserved(place) - module.memory_allocated(place), total


def free_memory() -> int:
    """Return the device's free memory in bytes; see `memory`."""
    return memory()[0]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
