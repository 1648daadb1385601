"""A BERT of less than a million parameters, built and briefly pre-trained on generated comments."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import normalizers, pre_tokenizers
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from pre_process.sample.folders import model_folder

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_POSITIONS = 512
BATCH_ROWS = 32
BATCH_WIDTH = 64  # tokens; longer comments are cut in pre-training
MASKED = 0.15  # share of tokens to guess


def build_bert(
    folder: str | Path,
    comments: Sequence[tuple[str, int]],
    *,
    hidden_size: int = 128,
    num_layers: int = 2,
    vocab_size: int = 2000,
    pretrain_steps: int = 200,
    learning_rate: float = 1e-3,
    seed: int = 42,
) -> int:
    """Build a BERT from (text, class) comments; write it to `folder`; return its parameters.

    The classes are not used: the pre-training is masked-language modelling. `vocab_size` is the
    most tokens that the vocabulary may have. The folder is laid out as a clone from Hugging Face.
    """
    texts = [text for text, _ in comments]
    tokenizer = train_tokenizer(texts, vocab_size)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=max(1, hidden_size // 64),
        intermediate_size=4 * hidden_size,
        max_position_embeddings=MAX_POSITIONS,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = BertForMaskedLM(config)
    pretrain(model, tokenizer, texts, pretrain_steps, learning_rate, seed)
    with model_folder(folder, "BERT") as scratch:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        vocab = "".join(f"{word}\n" for word, _ in words)
        (scratch / "vocab.txt").write_text(vocab, encoding="utf-8", newline="\n")
    return model.num_parameters()


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> BertTokenizerFast:
    """Return a WordPiece tokenizer in which each Chinese character is a token.

    The pieces are characters, alone and inside a word, the most frequent first: the library's own
    trainer breaks ties otherwise in every run.
    """
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            counts.update([word[0], *(f"##{character}" for character in word[1:])])
    pieces = [*SPECIAL_TOKENS, *sorted(counts, key=lambda piece: (-counts[piece], piece))]
    vocab = {piece: n for n, piece in enumerate(pieces[:vocab_size])}
    return BertTokenizerFast(vocab=vocab, model_max_length=MAX_POSITIONS)


def pretrain(
    model: BertForMaskedLM,
    tokenizer: BertTokenizerFast,
    texts: Sequence[str],
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train on guessing masked tokens."""
    rng = random.Random(seed)
    encoded = tokenizer(list(texts), truncation=True, max_length=BATCH_WIDTH)["input_ids"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=max(steps, 1), pct_start=0.1, anneal_strategy="linear"
    )
    model.train()
    for _ in tqdm(range(steps), desc="pre-training BERT", unit="step"):
        rows = rng.choices(encoded, k=BATCH_ROWS)
        batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        ids = batch["input_ids"]
        masked = (torch.rand(ids.shape) < MASKED) & (ids >= len(SPECIAL_TOKENS))
        batch["input_ids"] = ids.masked_fill(masked, tokenizer.mask_token_id)
        states = model.bert(**batch).last_hidden_state[masked]
        cross_entropy(model.cls(states), ids[masked]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()
