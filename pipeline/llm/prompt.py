"""The prompt that asks for a label, as tokens: prefix + comment + suffix, then `[k]`.

Training, generation and scoring build their tokens here: a model is asked as it was trained.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import jinja2
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, answer
from pipeline.models.text_tokens import as_text

COMMENT, ANSWER = "\u2983comment\u2984", "\u2983answer\u2984"
TODAY = datetime(2024, 7, 26)  # in each prompt that names a date: what Llama 3.2 falls back on
DATE_CODES = "aAbBdDeFhHIjmMpRSTyY"  # what a template may ask of the date, as strftime spells it
TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError, ArithmeticError)  # of what a template computes
THOUGHT = re.compile(r"<([\w:]*think[\w:]*)>\s*\Z")  # opened, and not closed
OPENS_THOUGHT = (
    "its chat template opens a thought in each reply, which is closed, empty, so that the answer "
    "comes at once"
)
PLAIN = f"{{codebook}}\n\nComment: {COMMENT}\nAnswer: {ANSWER}\n"


@dataclass(frozen=True)
class Prompt:
    """Token ids around a comment. `answers[k]` is `[k]` and the token that ends the turn.

    `prefix_text` and `suffix_text` are what the ids of `prefix` and `suffix` spell. `note` is what
    the user should know of the chat template, one line, or "".
    """

    prefix: list[int]
    suffix: list[int]
    answers: list[list[int]]
    stop: list[int]
    prefix_text: str = ""
    suffix_text: str = ""
    note: str = field(default="", compare=False)

    @property
    def shared(self) -> int:
        """How many tokens all answers begin with: those of `[`."""
        columns = zip(*self.answers, strict=True)
        return next(n for n, tokens in enumerate(columns) if len(set(tokens)) > 1)

    @property
    def class_tokens(self) -> list[int]:
        """The token of each class, after those that all answers share."""
        return [tokens[self.shared] for tokens in self.answers]

    @property
    def sha256(self) -> str:
        """The hash of all tokens of a row but the comment's."""
        tokens = [self.prefix, self.suffix, self.answers]
        return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()

    @property
    def overhead(self) -> int:
        """The tokens of a row that are not the comment's."""
        return len(self.prefix) + len(self.suffix) + max(map(len, self.answers))


def build_prompt(tokenizer: PreTrainedTokenizerBase, codebook: Codebook) -> Prompt:
    """Render the codebook, a comment and an answer with the tokenizer's own chat template.

    Where the template knows no system turn the codebook opens the user's; where there is no
    template, the codebook, the comment and the answer follow each other as plain text.
    """
    text, opens_thought = _render(tokenizer, codebook)
    prefix, rest = text.split(COMMENT)
    suffix, end = rest.split(ANSWER)

    def encode(part: str) -> list[int]:
        return tokenizer(part, add_special_tokens=False)["input_ids"]

    bos = (
        []
        if tokenizer.chat_template or tokenizer.bos_token_id is None
        else [tokenizer.bos_token_id]
    )
    ending = encode(end.strip() or end)[:1] if tokenizer.chat_template else []
    ending = ending or [tokenizer.eos_token_id]
    if ending == [None]:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer names no token that ends a text (eos_token), "
            "and it has no chat template: use another model"
        )
    return Prompt(
        prefix=bos + encode(prefix),
        suffix=encode(suffix),
        answers=[tokens + ending for tokens in _answers(encode, tokenizer, codebook)],
        stop=sorted({*ending, tokenizer.eos_token_id} - {None}),
        prefix_text=(tokenizer.bos_token if bos else "") + prefix,
        suffix_text=suffix,
        note=f"{tokenizer.name_or_path}: {OPENS_THOUGHT}" if opens_thought else "",
    )


def _answers(
    encode: Callable[[str], list[int]], tokenizer: PreTrainedTokenizerBase, codebook: Codebook
) -> list[list[int]]:
    """Return the tokens of each answer: of one length, alike but for one token at one place.

    A tokenizer that joins some digits to a bracket gets the characters of the answers one by one.
    """
    texts = [answer(k) for k in range(len(codebook.names))]
    for parts in ([[text] for text in texts], [list(text) for text in texts]):
        answers = [[token for part in row for token in encode(part)] for row in parts]
        if len({len(tokens) for tokens in answers}) == 1:
            kinds = sorted(len(set(column)) for column in zip(*answers, strict=True))
            if kinds == [1] * (len(kinds) - 1) + [len(texts)]:
                return answers
    raise UserError(
        f"{tokenizer.name_or_path}: its tokenizer gives the digits of {', '.join(texts)} no token "
        "of their own: use another model"
    )


def _render(tokenizer: PreTrainedTokenizerBase, codebook: Codebook) -> tuple[str, bool]:
    """Return the prompt as text, with `COMMENT` and `ANSWER` in their places.

    And whether the template opens a thought where a reply begins.
    """
    if not tokenizer.chat_template:
        return PLAIN.replace("{codebook}", codebook.text), False
    system = [{"role": "system", "content": codebook.text}, {"role": "user", "content": COMMENT}]
    merged = [{"role": "user", "content": f"{codebook.text}\n\n{COMMENT}"}]
    template, why = with_fixed_date(tokenizer.get_chat_template()), ""
    for turns in (system, merged):
        try:
            asked = tokenizer.apply_chat_template(
                turns,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
            answered = tokenizer.apply_chat_template(
                [*turns, {"role": "assistant", "content": ANSWER}],
                chat_template=template,
                tokenize=False,
                enable_thinking=False,
            )
        except TEMPLATE_ERRORS as error:
            why = f" ({error})"
            continue
        if asked.count(COMMENT) == 1 and answered.count(ANSWER) == 1 and codebook.text in asked:
            before, after = answered.split(ANSWER)
            text = _without_thought(asked, before) + ANSWER + after
            return text, bool(THOUGHT.search(asked))
    raise UserError(
        f"{tokenizer.name_or_path}: its chat template does not keep the codebook and the comment"
        f"{why}: use another model, or delete the template (chat_template.jinja, or chat_template "
        "in tokenizer_config.json)"
    )


def with_fixed_date(template: str) -> str:
    """Return a chat template in which today is `TODAY`, so that a prompt is the same tomorrow.

    Templates of Llama 3.2, SmolLM3 or gpt-oss print `strftime_now(format)`, a function of
    transformers that takes no other date; a macro of that name at their start goes before it.
    """
    if "strftime_now" not in template:
        return template
    dates = "".join(f"|replace('%{code}', '{TODAY:%{code}}')" for code in DATE_CODES)
    macro = f"{{% macro strftime_now(format) %}}{{{{ format|replace('%-', '%'){dates} }}}}"
    return macro + "{% endmacro %}\n" + template  # the line break goes: trim_blocks


def _without_thought(asked: str, answered: str) -> str:
    """Return the prompt up to the answer, where a model that reasons by default is not to.

    `asked` is what the template has a model reply to, `answered` what stands before an answer in a
    finished chat. That is taken where it goes on from `asked`: it closes an empty thought, or opens
    the channel of answers (gpt-oss). A thought that is open even so is closed here.
    """
    if answered.startswith(asked):
        return answered
    opened = THOUGHT.search(asked)
    return f"{asked.rstrip()}\n\n</{opened[1]}>\n\n" if opened else asked


def comment_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return the tokenizer without its added tokens: in a comment, `<|im_end|>` is just text."""
    return as_text(tokenizer)


def encode_comments(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, messages: list[str], max_length: int
) -> tuple[list[list[int]], int]:
    """Return each comment's token ids and how many were shortened.

    A row (prefix, comment, suffix, answer) holds at most `max_length` tokens; only the comment is
    ever shortened, at its end.
    """
    room = max_length - prompt.overhead
    if room < 1:
        raise UserError(
            f"--max-length {max_length} leaves no room for a comment beside the codebook and the "
            f"answer ({prompt.overhead} tokens): give at least {prompt.overhead + 128}"
        )
    encoded = comment_tokenizer(tokenizer).encode_batch(messages, add_special_tokens=False)
    rows = [row.ids for row in encoded]
    return [row[:room] for row in rows], sum(len(row) > room for row in rows)
