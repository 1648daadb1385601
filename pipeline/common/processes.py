"""The processes of one run, as torchrun starts them: which of them this one is."""

import os
import time

UNSUPPORTED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
SECONDS_TO_END = 5  # in which the main process has said why all of them end


def process_index() -> int:
    """Return the number of this process among all, from 0."""
    return int(os.environ.get("RANK", "0"))


def num_processes() -> int:
    """Return how many processes run the script, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process prints and writes for all."""
    return process_index() == 0


def let_the_main_process_end() -> None:
    """Wait, in another process than the main one, until the main one has ended the run.

    All processes come to the same error, which is to be shown once: torchrun ends the others when
    one has ended. This returns where the main one goes on, as the error is this process's alone.
    """
    if not is_main_process():
        time.sleep(SECONDS_TO_END)


def unsupported_launch() -> str | None:
    """Return why this run cannot go on as it was started, with the cure, or None where it can.

    `accelerate launch --cpu` sets a port for several processes and starts one.
    """
    cure = "start several processes by torchrun --nproc-per-node NUMBER SCRIPT"
    for name, kind in UNSUPPORTED.items():
        if os.environ.get(name, "").lower() in {"1", "true"}:
            return f"{kind} is not supported, each process holds the whole model: {cure}"
    if "WORLD_SIZE" in os.environ:
        return None
    if any(int(os.environ.get(name, "1")) > 1 for name in MPI):
        return f"mpirun is not supported: {cure}"
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ:
        return f"accelerate launch has started one process only: {cure}"
    return None
