"""Tiny random models of many families, laid out as clones from Hugging Face are.

Each has its family's own config, a tokenizer of its family's kind and a chat template in its
family's manner: the control tokens, what becomes of a system turn, and how a thought is closed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 1600
IMAGES = {"vision_config": {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}}
IMAGES["vision_config"] |= {"num_attention_heads": 2, "patch_size": 14, "image_size": 28}
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16}
SMALL |= {"num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 2048}
LOCAL_AND_GLOBAL = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 96}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4}
LINEAR |= {"linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16}
SHARED_STATES = {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "global_head_dim": 32}
SHARED_STATES |= {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB_SIZE}
SHARED_STATES |= {"layer_types": ["sliding_attention", "full_attention"] * 2}
EXPERTS = {"num_experts_per_tok": 2, "num_experts": 4, "moe_intermediate_size": 32}

# {role} and {content} of a turn, what opens the reply, and how the reply itself is written
CHATML = "<|im_start|>{role}\n{content}<|im_end|>\n"
EMPTY = "<think>\n\n</think>\n\n"


def chat(turn: str, opened: str, replied: str, start: str = "", roles: str = "m.role") -> str:
    """Return a template of `turn`s, `opened` where a reply is asked for, `replied` as one is."""
    role, content = "' + " + roles + " + '", "' + m.content + '"
    said = turn.replace("{role}", role).replace("{content}", content)
    reply = replied.replace("{content}", content)
    return (
        f"{{{{- '{start}' -}}}}{{%- for m in messages -%}}{{%- if m.role == 'assistant' -%}}"
        f"{{{{- '{reply}' -}}}}{{%- else -%}}{{{{- '{said}' -}}}}{{%- endif -%}}{{%- endfor -%}}"
        f"{{%- if add_generation_prompt -%}}{opened}{{%- endif -%}}"
    ).replace("\n", "\\n")


def say(text: str) -> str:
    """Return what prints a text, in a template."""
    return "{{- '" + text + "' -}}"


def unless_thinking(text: str, otherwise: str = "") -> str:
    """Return what a template says where `enable_thinking` is false, and where it is not."""
    asked = "enable_thinking is defined and not enable_thinking"
    return f"{{%- if {asked} -%}}{say(text)}{{%- else -%}}{say(otherwise)}{{%- endif -%}}"


NO_SYSTEM_TURN = (
    "{%- if messages[0].role == 'system' -%}{{ raise_exception('no system role') }}{%- endif -%}"
)
AS_MODEL = "('model' if m.role == 'assistant' else m.role)"
ASSISTANT = "<|im_start|>assistant\n"
QWEN3 = chat(
    CHATML, say(ASSISTANT) + unless_thinking(EMPTY), ASSISTANT + EMPTY + "{content}<|im_end|>\n"
)
QWEN3_5 = chat(
    CHATML,
    say(ASSISTANT) + unless_thinking(EMPTY, "<think>\n"),
    ASSISTANT + EMPTY + "{content}<|im_end|>\n",
)
LLAMA3_HEADER = "<|start_header_id|>{role}<|end_header_id|>\n\n"
LLAMA3 = chat(
    LLAMA3_HEADER + "{content}<|eot_id|>",
    say(LLAMA3_HEADER.replace("{role}", "assistant")),
    LLAMA3_HEADER.replace("{role}", "assistant") + "{content}<|eot_id|>",
    start="<|begin_of_text|>",
)
GEMMA = NO_SYSTEM_TURN + chat(
    "<start_of_turn>{role}\n{content}<end_of_turn>\n",
    say("<start_of_turn>model\n"),
    "<start_of_turn>model\n{content}<end_of_turn>\n",
    start="<bos>",
    roles=AS_MODEL,
)
GEMMA4 = chat(
    "<|turn>{role}\n{content}<turn|>\n",
    say("<|turn>model\n") + unless_thinking("<|channel>thought\n<channel|>"),
    "<|turn>model\n{content}<turn|>\n",
    start="<bos>",
    roles=AS_MODEL,
)
MISTRAL = NO_SYSTEM_TURN + chat("[INST] {content} [/INST]", "", " {content}</s>", start="<s>")
PHI = chat(
    "<|{role}|>\n{content}<|end|>\n", say("<|assistant|>\n"), "<|assistant|>\n{content}<|end|>\n"
)
SMOLLM3 = chat(
    CHATML.replace("{content}", "Reasoning Mode: /no_think\n\n{content}"),
    say(ASSISTANT) + unless_thinking("<think>\n\n</think>\n"),
    ASSISTANT + "{content}<|im_end|>\n",
)
GPT_OSS = chat(
    "<|start|>{role}<|message|>{content}<|end|>",
    say("<|start|>assistant"),
    "<|start|>assistant<|channel|>final<|message|>{content}<|return|>",
)
DEEPSEEK_R1 = chat("<|{role}|>{content}", say("<|assistant|><think>\n"), "<|assistant|>{content}")


@dataclass(frozen=True)
class Family:
    """A family of causal LMs: how it is built, and what becomes of its prompts."""

    config: str  # a class of transformers, as `model`
    model: str
    template: str
    reply: str  # what the prompt's suffix ends with
    control_tokens: Sequence[str]
    sizes: dict = field(default_factory=dict)
    pieces: str = "bytes"  # of the tokenizer: bytes, or sentencepiece's
    images: dict | None = None  # the text model is a part of one that sees images
    padded: str = ""  # why the prompt is repeated in each row
    adapted: str = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"


CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
GEMMA_TOKENS = ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
GEMMA4_TOKENS = ("<eos>", "<bos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>")
FAMILIES = {
    "Qwen3": Family("Qwen3Config", "Qwen3ForCausalLM", QWEN3, ASSISTANT + EMPTY, CHATML_TOKENS),
    "Qwen3 of experts": Family(
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        QWEN3,
        ASSISTANT + EMPTY,
        CHATML_TOKENS,
        EXPERTS,
        adapted="q_proj k_proj v_proj o_proj",
    ),
    "Qwen3.5": Family(
        "Qwen3_5Config",
        "Qwen3_5ForConditionalGeneration",
        QWEN3_5,
        ASSISTANT + EMPTY,
        CHATML_TOKENS,
        LINEAR,
        images={
            "vision_config": {"hidden_size": 32, "depth": 1, "num_heads": 2, "out_hidden_size": 64}
            | {"intermediate_size": 32, "num_position_embeddings": 16}
        },
        padded="it has layers of another kind (linear_attention)",
        adapted="q_proj k_proj v_proj o_proj gate_proj up_proj down_proj "
        "in_proj_qkv in_proj_z in_proj_a in_proj_b out_proj",
    ),
    "Llama 3.2": Family(
        "LlamaConfig",
        "LlamaForCausalLM",
        LLAMA3,
        LLAMA3_HEADER.replace("{role}", "assistant"),
        ("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    ),
    "Gemma 2": Family(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        GEMMA,
        "<start_of_turn>model\n",
        GEMMA_TOKENS,
        pieces="sentencepiece",
        padded="it caps its attention's logits",
    ),
    "Gemma 3": Family(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        GEMMA,
        "<start_of_turn>model\n",
        GEMMA_TOKENS,
        LOCAL_AND_GLOBAL,
        pieces="sentencepiece",
    ),
    "Gemma 3 with images": Family(
        "Gemma3Config",
        "Gemma3ForConditionalGeneration",
        GEMMA,
        "<start_of_turn>model\n",
        GEMMA_TOKENS,
        LOCAL_AND_GLOBAL | {"sliding_window": 1024},
        images=IMAGES | {"mm_tokens_per_image": 4, "image_token_index": VOCAB_SIZE - 1},
        pieces="sentencepiece",
    ),
    "Gemma 4 with images and sound": Family(
        "Gemma4Config",
        "Gemma4ForConditionalGeneration",
        GEMMA4,
        "<|turn>model\n<|channel>thought\n<channel|>",
        GEMMA4_TOKENS,
        SHARED_STATES | {"sliding_window": 512},
        images={
            "vision_config": {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
            | {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
            | {"position_embedding_size": 64},
            "audio_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
            | {"output_proj_dims": 32},
            "image_token_id": VOCAB_SIZE - 1,
            "video_token_id": VOCAB_SIZE - 2,
            "audio_token_id": VOCAB_SIZE - 3,
        },
        pieces="sentencepiece",
    ),
    "Gemma 4": Family(
        "Gemma4TextConfig",
        "Gemma4ForCausalLM",
        GEMMA4,
        "<|turn>model\n<|channel>thought\n<channel|>",
        GEMMA4_TOKENS,
        SHARED_STATES | {"sliding_window": 96},
        pieces="sentencepiece",
    ),
    "Mistral": Family(
        "MistralConfig",
        "MistralForCausalLM",
        MISTRAL,
        " [/INST] ",
        ("</s>", "<s>", "[INST]", "[/INST]"),
        {"sliding_window": None},
        pieces="sentencepiece",
    ),
    "Ministral 3 with images": Family(
        "Mistral3Config",
        "Mistral3ForConditionalGeneration",
        MISTRAL,
        " [/INST] ",
        ("</s>", "<s>", "[INST]", "[/INST]"),
        {"model_type": "ministral3"},
        images={"vision_config": IMAGES["vision_config"] | {"model_type": "pixtral"}}
        | {"image_token_index": VOCAB_SIZE - 1},
    ),
    "Phi 3": Family(
        "Phi3Config",
        "Phi3ForCausalLM",
        PHI,
        "<|assistant|>\n",
        ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        {"sliding_window": 96},
        pieces="sentencepiece",
        adapted="qkv_proj o_proj gate_up_proj down_proj",
    ),
    "SmolLM3": Family(
        "SmolLM3Config",
        "SmolLM3ForCausalLM",
        SMOLLM3,
        ASSISTANT + "<think>\n\n</think>\n",
        CHATML_TOKENS,
        {"no_rope_layer_interval": 2},
    ),
    "gpt-oss": Family(
        "GptOssConfig",
        "GptOssForCausalLM",
        GPT_OSS,
        "<|start|>assistant<|channel|>final<|message|>",
        ("<|return|>", "<|start|>", "<|message|>", "<|end|>", "<|channel|>"),
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 128},
        padded="its attention has sinks",
        adapted="q_proj k_proj v_proj o_proj",
    ),
    "DeepSeek-R1 of Qwen2": Family(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        DEEPSEEK_R1,
        "<|assistant|><think>\n\n</think>\n\n",
        ("<|end|>", "<|user|>", "<|system|>", "<|assistant|>"),
    ),
}


def build(family: Family, folder: Path, texts: Sequence[str]) -> str:
    """Build a family's model with random weights in `folder`; return the folder."""
    tokenizer = chat_tokenizer(family, texts)
    sizes = SMALL | {"vocab_size": VOCAB_SIZE, "eos_token_id": 0, "bos_token_id": 1}
    sizes |= {"pad_token_id": 0} | family.sizes
    config = getattr(transformers, family.config)
    config = (
        config(**sizes) if family.images is None else config(text_config=sizes, **family.images)
    )
    torch.manual_seed(0)
    model = getattr(transformers, family.model)(config)
    for name, weight in model.named_parameters():
        if "sinks" in name or (name.endswith("norm.weight") and weight.dim() == 1):
            torch.nn.init.normal_(weight, mean=weight.mean().item(), std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def chat_tokenizer(family: Family, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer of a family's kind, with its control tokens and its template."""
    train = {"bytes": of_bytes, "sentencepiece": of_sentencepiece}[family.pieces]
    tokenizer = train(texts, VOCAB_SIZE - 100, list(family.control_tokens))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=family.control_tokens[0],
        bos_token=family.control_tokens[1],
        chat_template=family.template,
    )


def of_bytes(texts: Sequence[str], vocab_size: int, control_tokens: list[str]) -> Tokenizer:
    """Train a byte-level BPE that splits digits in threes, as those of Llama 3 and tekken."""
    bpe = Tokenizer(models.BPE())
    split = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return trained(bpe, texts, vocab_size, control_tokens, alphabet)


def of_sentencepiece(texts: Sequence[str], vocab_size: int, control_tokens: list[str]) -> Tokenizer:
    """Train a BPE of characters with bytes to fall back on, as those of Gemma, Llama 2, Phi 3."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_previous")
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return trained(bpe, texts, vocab_size, control_tokens, [], pieces)


def trained(
    bpe: Tokenizer,
    texts: Sequence[str],
    vocab_size: int,
    control_tokens: list[str],
    alphabet: Sequence[str],
    pieces: Sequence[str] = (),
) -> Tokenizer:
    """Return a tokenizer trained on texts; `pieces` are in its vocabulary too."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*control_tokens, *pieces],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    spec = json.loads(bpe.to_str())
    added = [token for token in spec["added_tokens"] if token["content"] in control_tokens]
    return Tokenizer.from_str(json.dumps(spec | {"added_tokens": added}))
