"""Numbers that stand for texts: 64 bits each, the same on every machine."""

import hashlib
from collections.abc import Iterable

import numpy as np


def text_hash(text: str) -> int:
    """Return a number that stands for a text: the first 64 bits of its SHA-256."""
    return int.from_bytes(_digest(text))


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """Return a number for each text, uint64 (texts,); see `text_hash`."""
    return np.frombuffer(b"".join(map(_digest, texts)), ">u8").astype(np.uint64)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8]
