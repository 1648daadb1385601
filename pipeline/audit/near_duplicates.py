"""Comments that are the same but for a few characters, a user name, a link or punctuation."""

import re
import unicodedata

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import HashingVectorizer

MENTION = re.compile(r"@[\w-]+|https?://[!-~]+")
BLOCK = 500  # texts that are compared with the others at a time


def near_duplicates(messages: list[str], similarity: float) -> np.ndarray:
    """Return the number of the group of near-duplicates that each message is in, int (messages,).

    Two messages are near-duplicates where the sets of character 3-grams of their words have a
    cosine of `similarity` or more; a group is what such pairs connect. Case, width, punctuation,
    user names and links do not count. A message like no other is a group of its own.
    """
    texts, places = np.unique([plain(message) for message in messages], return_inverse=True)
    grams = HashingVectorizer(
        analyzer="char", ngram_range=(3, 3), binary=True, alternate_sign=False
    )
    vectors = csr_array(grams.transform(texts))
    sizes = np.diff(vectors.indptr)
    order = np.argsort(sizes, kind="stable")
    pairs = [
        similar_pairs(vectors[order], sizes[order], similarity, start)
        for start in range(0, len(texts), BLOCK)
    ]
    left, right = (order[np.concatenate(side)] for side in zip(*pairs, strict=True))
    links = coo_array((np.ones(len(left)), (left, right)), shape=(len(texts), len(texts)))
    return connected_components(links, directed=False)[1][places]


def similar_pairs(
    vectors: csr_array, sizes: np.ndarray, similarity: float, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a block of rows with itself and later rows, as two index arrays.

    `vectors` has unit length and grows in the number of 3-grams, `sizes`: the cosine of two sets is
    at most the root of the smaller size over the larger, so that far larger rows are passed over.
    """
    stop = min(start + BLOCK, len(sizes))
    end = np.searchsorted(sizes, sizes[stop - 1] / similarity**2, side="right")
    cosines = (vectors[start:stop] @ vectors[start:end].T).tocoo()
    close = (cosines.data >= similarity - 1e-9) & (cosines.row < cosines.col)
    return cosines.row[close] + start, cosines.col[close] + start


def plain(message: str) -> str:
    """Return the words of a message, in one case and width; all of it where it has none."""
    text = unicodedata.normalize("NFKC", message).casefold()
    return "".join(re.findall(r"\w+", MENTION.sub(" ", text))) or message
