"""Why torch does not use a GPU that is there, and what to do."""

import os
import shutil
import subprocess
import sys

import torch

from pipeline.common.cli import UserError

BUILD = "install its build for CUDA, https://pytorch.org/get-started/locally"
AGAIN = "update the driver, or run install_env.sh again, which picks a torch for it"
NO_DEVICE = 6  # nvidia-smi's exit status where it finds no GPU


def why_unused() -> str:
    """Return a line that says why a GPU of this machine stays unused and the cure, "" for none.

    The GPU is one that nvidia-smi shows, or Apple's. Called where torch itself finds none.
    """
    if sys.platform == "darwin":
        if torch.backends.mps.is_built() and not torch.backends.mps.is_available():
            return "WARNING: the GPU stays unused: this macOS is too old for torch, update it"
        return ""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        shown = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=30
        )
    except subprocess.TimeoutExpired:
        return "WARNING: a GPU may stay unused: nvidia-smi does not end; restart the machine"
    first = shown.stdout.partition("\n")[0].strip()
    if shown.returncode == NO_DEVICE:
        return ""
    if shown.returncode:
        return (
            f"WARNING: a GPU may stay unused: nvidia-smi says {first!r}; install the driver again, "
            "or restart the machine"
        )
    return f"WARNING: the GPU stays unused, {first}: {_reason()}"


def _reason() -> str:
    """Return why torch finds no NVIDIA GPU, and what to do."""
    if not torch.cuda._is_compiled():
        return f"torch {torch.__version__} is a build for CPUs; {BUILD}"
    said = "it finds no GPU"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        said = str(error).partition("\n")[0].partition(". ")[0]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and "No CUDA GPUs" in said:
        return f"the variable CUDA_VISIBLE_DEVICES is {hidden!r}; remove it to compute on the GPU"
    return f"torch {torch.__version__} says: {said}; {AGAIN}"


def refuse_gpu_too_old(place: torch.device) -> None:
    """Raise UserError where torch holds no code for a GPU, as CUDA 13 has none for a V100."""
    if torch.version.cuda is None:  # AMD's
        return
    major, minor = torch.cuda.get_device_capability(place)
    built = torch.cuda.get_arch_list()
    if not any(_runs_on(arch, major, minor) for arch in built):
        raise UserError(
            f"torch {torch.__version__} has no code for {torch.cuda.get_device_name(place)} "
            f"(compute capability {major}.{minor}; it has {' '.join(built)}): run install_env.sh "
            "again, which picks one that has, or compute on the CPU with ACCELERATE_USE_CPU=1"
        )


def _runs_on(arch: str, major: int, minor: int) -> bool:
    """Return whether code for `sm_80` or `compute_90` runs on a GPU of a compute capability.

    Binary code runs within its major version from its minor version on, PTX on all that is newer:
    https://docs.nvidia.com/cuda/cuda-c-programming-guide, "Binary Compatibility".
    """
    kind, _, number = arch.partition("_")
    built = divmod(int(number.rstrip("af")), 10)
    if kind == "compute":
        return built <= (major, minor)
    return built[0] == major and built[1] <= minor
