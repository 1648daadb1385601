"""A tokenizer to which control tokens are text: what `[SEP]` or `<|im_end|>` in a comment is."""

import hashlib
import json

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

NO_TEXT = "\ufdd0"  # a code point that is no character, in no text


def as_text(tokenizer: PreTrainedTokenizerBase, keep_words: bool = False) -> Tokenizer:
    """Return a model's tokenizer without its added tokens, or but for those that are words.

    The pieces of a unigram model (XLM-R, DeBERTa-v3) include its control tokens, which it would
    find in a text without being told to: they are given names that no text has.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    words = [token for token in spec["added_tokens"] if keep_words and not token["special"]]
    dropped = {token["content"] for token in spec["added_tokens"]}
    dropped -= {token["content"] for token in words}
    if spec["model"]["type"] == "Unigram":
        for piece in spec["model"]["vocab"]:
            piece[0] = NO_TEXT * (piece[0] in dropped) + piece[0]
    return Tokenizer.from_str(
        json.dumps(spec | {"added_tokens": words, "truncation": None, "padding": None})
    )


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of what a tokenizer makes of a text, and a text of tokens."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
