"""Batches of rows of similar length."""

from collections.abc import Iterator, Sequence


def length_batches(rows: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of `rows` in batches sorted by length.

    The longest come first, so that a memory too small shows at once and not after hours.
    """
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
