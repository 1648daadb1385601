"""The processes of one run, as torchrun starts them: which of them this one is."""

import os
import time

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
