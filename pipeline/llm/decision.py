"""A decision model of transformers from an adapter's folder: what others' tools need to serve it.

`pipeline("decision")` reads `decision.json` and `decision_template.jinja`. `transformers serve`
reads `decision_serve.json`, which names the adapter too, and loads that on the base it is given.
"""

import copy
import json
import os
from dataclasses import asdict
from pathlib import Path
from string import Template

from transformers import PreTrainedTokenizerBase
from transformers.decision import DecisionConfig, label_token_ids
from transformers.decision.template_utils import MARK, SPLIT

from pipeline.common.codebook import Codebook, answer
from pipeline.common.files import write_json
from pipeline.llm.prompt import Prompt, comment_tokenizer

SERVE = "decision_serve.json"
# A comment comes with its control tokens between U+F0000 and U+F0001, and would be cut there: `|>`
# and a line break would be two tokens, and in the text of a comment they are one.
TEMPLATE = Template(r"""
{%- set options = $options -%}
{%- if question.type != "choice" or question.options != options or state is not string -%}
{{- raise_exception("ask a choice between " ~ options|tojson ~ " about a string") -}}
{%- endif -%}
{%- set ns = namespace(comment=state) -%}
{%- for token, split in $controls -%}
{%- set ns.comment = ns.comment|replace("\U000f0000" ~ token ~ "\U000f0001", split) -%}
{%- endfor -%}
{{- $prefix ~ "<|split|>" ~ ns.comment ~ "<|split|>" -}}
{{- $suffix ~ "<|split|>" ~ $start ~ "<|mark|>" -}}
""")


def save_decision(
    folder: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    codebook: Codebook,
    prompt: Prompt,
    temperature: float,
    place: str | Path | None = None,
) -> str:
    """Write the files beside an adapter; return "", or why they are not written.

    They are written only where a request gives the tokens of our scoring. `tokenizer` is the one
    of the base's folder, and `place` is where `folder` will be moved to.
    """
    labels = [str(k) for k in range(len(codebook.names))]
    try:
        if label_token_ids(tokenizer, tuple(labels)) != prompt.class_tokens:
            return "a class number alone is another token than in an answer"
    except ValueError as error:
        return str(error)
    config = DecisionConfig(
        labels={"choice": labels},
        temperature={"choice": float(temperature)},
        chat_template=render_template(tokenizer, codebook, prompt),
    )
    if reason := _difference(config, tokenizer, codebook, prompt):
        return reason
    config.save_pretrained(folder)
    base, final = Path(tokenizer.name_or_path).resolve(), Path(place or folder).resolve()
    adapter = os.path.relpath(final, base)  # project and models can move together
    write_json(asdict(config) | {"adapter": adapter}, Path(folder) / SERVE)
    return ""


def decision_request(codebook: Codebook, comment: str) -> dict:
    """Return the request that asks for the class of a comment."""
    question = {"type": "choice", "criteria": dict.fromkeys(codebook.names)}
    return {"state": comment, "questions": {"class": question}}


def render_template(tokenizer: PreTrainedTokenizerBase, codebook: Codebook, prompt: Prompt) -> str:
    """Return the Jinja template of a request: the prompt up to `[` in its parts."""
    values = {
        "options": codebook.names,
        "controls": _split_controls(tokenizer),
        "prefix": prompt.prefix_text,
        "suffix": prompt.suffix_text,
        "start": os.path.commonprefix([answer(k) for k in range(len(codebook.names))]),
    }
    # JSON without escapes of what is not ASCII is a literal of Jinja
    literals = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return TEMPLATE.substitute(literals)


def _split_controls(tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
    """Return each control token with itself split where that leaves its ids as text as they are."""
    encoder = comment_tokenizer(tokenizer)

    def encode(text: str) -> list[int]:
        return encoder.encode(text, add_special_tokens=False).ids

    pairs = []
    for token in _controls(tokenizer):
        ids, middle = encode(token), len(token) / 2
        for place in sorted(range(1, len(token)), key=lambda place: abs(place - middle)):
            if encode(token[:place]) + encode(token[place:]) == ids:
                pairs.append((token, token[:place] + SPLIT + token[place:]))
                break
    return pairs


def _controls(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the added tokens that a comment may hold as text, but for white space."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return sorted(token for token in added | {MARK, SPLIT} if not token.isspace())


def _difference(
    config: DecisionConfig, tokenizer: PreTrainedTokenizerBase, codebook: Codebook, prompt: Prompt
) -> str:
    """Return why the tokens of a request are not those of our scoring, or ""."""
    tokenizer = copy.deepcopy(tokenizer)  # a request adds two tokens to it
    encoder = comment_tokenizer(tokenizer)
    controls = "".join(f"{token}\n{token} a{token}[2]" for token in _controls(tokenizer))
    for comment in ("好", "a", "Women can't drive 😀。", controls):
        ids = encoder.encode(comment, add_special_tokens=False).ids
        asked = prompt.prefix + ids + prompt.suffix + prompt.answers[0][: prompt.shared]
        [(inputs, _)] = config.prepare_inputs(decision_request(codebook, comment), tokenizer)
        if inputs["input_ids"][0].tolist() != asked or inputs["marks"].tolist() != [len(asked)]:
            kind = "with control tokens" if comment == controls else "such as " + comment
            return f"its tokenizer gives a comment {kind} other tokens within a template"
    return ""
