"""Batches of rows of similar length, the longest first: too small a memory shows at once."""

from collections.abc import Iterator, Sequence


def batches_of_rows(rows: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of `rows` in batches of `batch_size`, sorted by length."""
    order = _longest_first(rows)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def batches_of_tokens(
    rows: Sequence[Sequence[int]], max_tokens: int, prefix: int = 0, padded: bool = False
) -> Iterator[list[int]]:
    """Yield the indices of `rows` in batches of at most `max_tokens`, sorted by length.

    A batch counts `prefix` tokens and those of its rows, or where it is `padded` as many times
    `prefix` and its longest row as it has rows. A row longer than `max_tokens` comes alone.
    """
    batch: list[int] = []
    tokens = prefix
    for index in _longest_first(rows):
        first = prefix + len(rows[index])
        if batch:
            longest = prefix + len(rows[batch[0]])
            grown = longest * (len(batch) + 1) if padded else tokens + len(rows[index])
            if grown <= max_tokens:
                batch.append(index)
                tokens = grown
                continue
            yield batch
        batch, tokens = [index], first
    if batch:
        yield batch


def _longest_first(rows: Sequence[Sequence[int]]) -> list[int]:
    return sorted(range(len(rows)), key=lambda index: -len(rows[index]))
