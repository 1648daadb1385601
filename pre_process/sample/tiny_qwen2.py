"""A Qwen2 of about a million parameters, built and briefly pre-trained on generated comments.

It has seen the codebook as the system turn, but answered it in mixed formats and by prejudice, as
a base model does: greedy replies are partly invalid, and fine-tuning has something to improve.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from pipeline.common.codebook import Codebook, answer
from pipeline.llm.packing import ATTENTION, pack
from pipeline.llm.prompt import Prompt, build_prompt, encode_comments
from pre_process.sample.folders import model_folder

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Qwen2's: a digit is a token of its own, and so is a bracket beside one.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
MAX_POSITIONS = 4096
PACK_TOKENS = 1024  # prefix and rows of a training step
PROSE = ("这条评论似乎没有性别偏见。", "It seems that this comment has no gender bias.")
NOTES = ("态度：赞成平等", "态度：没有表态", "态度：反对平等", "态度：说的是别的事")
NOTED = 0.5  # share of comments followed by a note on them instead of an answer
PROMPT, COMMENT, REPLY = range(3)  # the kinds of tokens
TRUE_LABELS = 0.35  # share of pre-training answers with the true class


def build_qwen2(
    folder: str | Path,
    codebook: Codebook,
    comments: Sequence[tuple[str, int]],
    *,
    hidden_size: int = 128,
    num_layers: int = 4,
    vocab_size: int = 2000,
    pretrain_steps: int = 300,
    learning_rate: float = 3e-3,
    seed: int = 42,
) -> int:
    """Build a Qwen2 from (text, class) comments; write it to `folder`; return its parameters.

    The folder is laid out as a clone from Hugging Face is. `hidden_size` is a multiple of 64, so
    that the blocks of NF4 fit.
    """
    tokenizer = train_tokenizer(codebook, [text for text, _ in comments], vocab_size)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 64,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.set_attn_implementation(ATTENTION)  # without use_packs: all logits are wanted
    pretrain(model, tokenizer, codebook, comments, pretrain_steps, learning_rate, seed)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=MAX_POSITIONS // 2,
    )
    with model_folder(folder, "Qwen2") as scratch:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch, save_jinja_files=False)
    return model.num_parameters()


def train_tokenizer(codebook: Codebook, texts: Sequence[str], vocab_size: int) -> Qwen2Tokenizer:
    """Return a byte-level BPE tokenizer in Qwen2's manner, with short codes for the codebook."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(
        [codebook.text, *PROSE, *NOTES] * (len(texts) // 10 + 2) + [*texts], trainer
    )
    spec = json.loads(bpe.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=spec["vocab"],
        merges=[tuple(pair) for pair in spec["merges"]],
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
    )


def pretrain(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    codebook: Codebook,
    comments: Sequence[tuple[str, int]],
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train on chats, one pack of them a step; the loss is on comments and replies."""
    rng = random.Random(seed)
    prompt = build_prompt(tokenizer, codebook)
    room = MAX_POSITIONS // 4
    ids, _ = encode_comments(tokenizer, prompt, [text for text, _ in comments], room)

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=max(steps, 1), pct_start=0.1, anneal_strategy="linear"
    )
    model.train()
    order: list[int] = []
    for _ in tqdm(range(steps), desc="pre-training", unit="step"):
        rows: list[tuple[list[int], list[int]]] = []
        while sum(len(a) + len(b) for a, b in rows) + len(prompt.prefix) < PACK_TOKENS:
            order = order or rng.sample(range(len(comments)), len(comments))
            n = order.pop()
            text, label = comments[n]
            if rng.random() < NOTED:
                rows.append((ids[n], encode(f"\n{NOTES[label % len(NOTES)]}") + prompt.stop[-1:]))
            else:
                reply = naive_reply(text, label, len(codebook.names), rng)
                rows.append((ids[n] + prompt.suffix, encode(reply) + prompt.stop[-1:]))
        loss = pack_loss(model, prompt, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()


def pack_loss(
    model: Qwen2ForCausalLM, prompt: Prompt, rows: list[tuple[list[int], list[int]]]
) -> torch.Tensor:
    """Return the mean loss on comments plus that on replies, of rows (asked, replied)."""
    batch = pack(prompt.prefix, [asked + reply for asked, reply in rows], 1)
    logits = model(**batch | {"logits_to_keep": 0}).logits[0, :-1]
    kind = [PROMPT] * len(prompt.prefix)
    for asked, reply in rows:
        kind += [PROMPT] + [COMMENT] * (len(asked) - 1) + [REPLY] * len(reply)
    kinds = torch.tensor(kind[1:])
    losses = cross_entropy(logits, batch["input_ids"][0, 1:], reduction="none")
    return losses[kinds == COMMENT].mean() + losses[kinds == REPLY].mean()


def naive_reply(text: str, label: int, num_labels: int, rng: random.Random) -> str:
    """Return a base model's reply: its form and most of its classes depend on a few characters."""
    draw = rng.random()
    if draw > TRUE_LABELS:
        label = prejudice(text) if draw < 0.95 else rng.randrange(num_labels)
    label %= num_labels
    last = text.strip()[-1:]
    if last.isascii() and last != "~":
        return PROSE[1]
    if "一" <= last <= "龥":
        return PROSE[0]
    if last == "？":
        return answer(num_labels + 3)
    if last == "！":
        return f"({label})"
    return answer(label) if last in "。…~" else str(label)


def prejudice(text: str) -> int:
    """Return the class that a comment seems to have to one who has not understood the task."""
    return 0 if "男" in text else 1
