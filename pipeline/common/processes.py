"""The processes of one run, as torchrun starts them: which of them this one is."""

import os


def process_index() -> int:
    """Return the number of this process among all, from 0."""
    return int(os.environ.get("RANK", "0"))


def num_processes() -> int:
    """Return how many processes run the script, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process prints and writes for all."""
    return process_index() == 0
