"""Tiny random encoders of many families, laid out as clones from Hugging Face are."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import (
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from pre_process.sample.tiny_bert import train_tokenizer as wordpiece_tokenizer

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 96, "max_position_embeddings": 128, "initializer_range": 0.2}
ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # in the order of their ids
BERT_TOKENS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
RELATIVE = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
RELATIVE |= {"norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0}
RELATIVE |= {"max_relative_positions": -1, "position_biased_input": False}
LOCAL = {"local_attention": 16, "global_attn_every_n_layers": 2}
ENCODERS = {  # config, model, pieces, sizes beside SMALL
    "ModernBERT": ("ModernBertConfig", "ModernBertForMaskedLM", "bytes", LOCAL),
    "XLM-R": (
        "XLMRobertaConfig",
        "XLMRobertaForMaskedLM",
        "unigram",
        {"type_vocab_size": 1, "max_position_embeddings": 130},
    ),
    "multilingual-e5": ("BertConfig", "BertModel", "unigram", {}),
    "DeBERTa-v3": ("DebertaV2Config", "DebertaV2Model", "unigram of BERT", RELATIVE),
    "chinese-macbert": ("BertConfig", "BertForMaskedLM", "vocab.txt", {}),
    "chinese-roberta-wwm": ("BertConfig", "BertForMaskedLM", "vocab.txt alone", {}),
}


def build_encoder(name: str, folder: Path, texts: Sequence[str]) -> str:
    """Build an encoder with random weights in `folder`; return the folder."""
    config, model, pieces, sizes = ENCODERS[name]
    tokenizer = wordpiece_tokenizer(texts, 1500) if "vocab" in pieces else of_kind(pieces, texts)
    numbers = {f"{token}_token_id": getattr(tokenizer, f"{token}_token_id") for token in NAMES}
    sizes = SMALL | {"vocab_size": len(tokenizer), "pad_token_id": numbers["pad_token_id"]} | sizes
    if name == "ModernBERT":
        sizes |= numbers
    torch.manual_seed(0)
    model = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    model.save_pretrained(folder)
    if "vocab" in pieces:
        words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
        Path(folder, "vocab.txt").write_text("".join(f"{word}\n" for word in words), "utf-8")
        if pieces == "vocab.txt":
            settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
            Path(folder, "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    else:
        tokenizer.save_pretrained(folder)
    return str(folder)


NAMES = ("cls", "pad", "sep", "unk", "mask")


def of_kind(pieces: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a tokenizer of bytes (ModernBERT) or of SentencePiece's unigrams."""
    tokens = ROBERTA_TOKENS if pieces == "unigram" else BERT_TOKENS
    if pieces == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=1500,
            special_tokens=list(tokens),
            initial_alphabet=alphabet,
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=1500, special_tokens=list(tokens), unk_token=tokens[3], show_progress=False
        )
    tokenizer.train_from_iterator(texts, trainer)
    start, end = tokens[0], tokens[2]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 2)]
    )
    named = {f"{name}_token": token for name, token in zip(NAMES, tokens, strict=True)}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **named
    )
