"""Benchmark 5: what the report's way of cutting replies makes of a perfect model, by batch size.

The model of this simulation always replies the right `[k]`. Batches are padded on the left, and the
report cut a row's reply at the row's own length without padding: as many tokens of the prompt's end
as the row had of padding stand before the reply, and the first `[k]` in there counts. The prompt is
laid out as the report's was: the classes, "[0], [1], [2], or [3]", then the comment.

Writes  results/report_decoder.json and .png, and the section of README.md
Run     python -m benchmarks.report_decoder   (a minute, no model)
"""

import re
import statistics
from itertools import accumulate

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from transformers import PreTrainedTokenizerBase

from benchmarks import common
from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import read_codebook
from pre_process.sample.comments import generate_comments
from pre_process.sample.tiny_qwen2 import train_tokenizer

# ---------------------------------------------------------------------------------------------
PROMPT_FILE = "./prompt.txt"  # the codebook, for the names of the classes
SPREADS = "0.3,0.5,0.8"  # of comments' lengths: the standard deviation of their logarithm
BATCH_SIZES = "1,4,16,64,400"  # rows; the report used 4, and 400 with the 0.5B model
ROWS = 14849  # the report's test set
MEAN_BYTES = 283  # of a comment: the report's
VOCAB_SIZE = 1500  # tokens of the tokenizer; 283 bytes are then about 68 tokens, as with Qwen2.5's
MAX_LENGTH = 512  # tokens of a prompt; longer ones were cut at their end
SEED = 42  # of the comments
# ---------------------------------------------------------------------------------------------

FIRST_ANSWER = re.compile(r"\[(\d+)\]")


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    names = read_codebook(settings["prompt_file"]).names
    generated = generate_comments(settings["rows"], settings["seed"])
    labels = np.array([label for _, label in generated])
    # Other comments than those that the labels belong to: a label and a length are independent.
    others = generate_comments(settings["rows"], settings["seed"] + 1)
    text = "".join(text for text, _ in others) * 2
    tokenizer = train_tokenizer(
        read_codebook(settings["prompt_file"]),
        [text for text, _ in generated[:3000]],
        settings["vocab_size"],
    )
    replies = tokenizer([f"[{label}]<|im_end|>" for label in labels])["input_ids"]
    sizes = [int(part) for part in settings["batch_sizes"].split(",")]
    tables, accuracies = {}, {}
    for spread in map(float, settings["spreads"].split(",")):
        characters = settings["mean_bytes"] * len(text) / len(text.encode())
        lengths = common.make_lengths(len(labels), characters, len(text), spread)
        ends = list(accumulate(lengths))
        comments = [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        prompts = [
            ids[: settings["max_length"]]
            for ids in tokenizer([layout(names, comment) for comment in comments])["input_ids"]
        ]
        lines = [score(names, labels, read(tokenizer, prompts, replies, n, True)) for n in sizes]
        right = score(names, labels, read(tokenizer, prompts, replies, sizes[-1], False))
        tables[f"Comments' lengths with a spread of {spread}"] = [
            *({"rows a batch": f"{n:,}", **line} for n, line in zip(sizes, lines, strict=True)),
            {"rows a batch": f"{sizes[-1]:,}, cut as we do", **right},
        ]
        accuracies[f"spread {spread}"] = [float(line["accuracy"]) for line in lines]
    tokens = statistics.mean(map(len, tokenizer(comments)["input_ids"]))
    common.publish(
        "report_decoder",
        settings,
        tables,
        [
            f"A perfect model on {len(labels):,} comments of {settings['mean_bytes']} bytes and "
            f"{tokens:.0f} tokens on average, in the report's shares of the classes; by class, "
            "precision / recall. The spread of the report's comments is not known. Its table for "
            "the fine-tuned 3B model, in batches of 4: accuracy 0.72, Positive 0.44 / 0.82. That "
            "calls 16% of the other classes' rows Positive: the model's own errors included, no "
            "more than that can be the cut's.",
        ],
        common.lines(
            sizes, accuracies, "rows a batch", "accuracy that a perfect model is given", "linear"
        ),
    )


def score(names: tuple[str, ...], labels: np.ndarray, predicted: list[int]) -> dict[str, str]:
    """Return the columns of a table: accuracy, what falls on the first class, each class."""
    precision, recall, *_ = precision_recall_fscore_support(
        labels, predicted, labels=range(len(names)), zero_division=0
    )
    false = np.mean(np.array(predicted)[labels != 0] == 0)
    return {
        "accuracy": f"{accuracy_score(labels, predicted):.3f}",
        f"others called {names[0]}": f"{false:.1%}",
        **{name: f"{precision[k]:.2f} / {recall[k]:.2f}" for k, name in enumerate(names)},
    }


def layout(names: tuple[str, ...], comment: str) -> str:
    """Return a prompt in the report's order: classes, the list of answers, the comment."""
    classes = "\n".join(f"{k}: {name}" for k, name in enumerate(names))
    return (
        f"<|im_start|>system\nChoose the class of the comment:\n{classes}\n\n"
        "Give only its number, in brackets: [0], [1], [2], or [3].<|im_end|>\n"
        f'<|im_start|>user\nThe comment to classify: "{comment}"<|im_end|>\n'
        "<|im_start|>assistant\n"
    )


def read(
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    replies: list[list[int]],
    batch_size: int,
    unpadded: bool,
) -> list[int]:
    """Return the class read from each row's output, -1 where there is none.

    The output of a row is padding, prompt and reply. It is cut after as many tokens as the prompt
    has, `unpadded` as in the report or with its padding.
    """
    tails = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        width = max(map(len, batch))
        for prompt, reply in zip(batch, replies[start : start + batch_size], strict=True):
            output = [tokenizer.pad_token_id] * (width - len(prompt)) + prompt + reply
            tails.append(output[len(prompt) if unpadded else width :])
    found = map(FIRST_ANSWER.search, tokenizer.batch_decode(tails, skip_special_tokens=True))
    return [int(match[1]) if match else -1 for match in found]


if __name__ == "__main__":
    run(main)
