"""Where a device's memory is too small: an attempt of which nothing is left."""

from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

Result = TypeVar("Result")


def unless_out_of_memory(compute: Callable[..., Result], *arguments) -> Result | None:
    """Return `compute(*arguments)`, or None where the memory is too small, which is freed then.

    CUDA's own "out of memory", where torch's share fills the card, is one of its errors too.
    """
    try:
        return compute(*arguments)
    except RuntimeError as error:
        if "out of memory" not in str(error) and not should_reduce_batch_size(error):
            raise
    clear_device_cache(garbage_collection=True)  # the error held the attempt's tensors until here
    return None
