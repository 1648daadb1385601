"""Benchmark 8: BERT's training with and without the word embeddings of a large vocabulary.

The shape is multilingual-e5-small's: 96 of its 118 million weights are the vectors of 250,037
words, of which a batch reads a few hundred while the optimizer writes them all. Frozen, they get no
gradient and no moments.

Writes  results/frozen_embeddings*.json and .png, and the section of README.md
Run     python -m benchmarks.frozen_embeddings
"""

import random

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    TrainingArguments,
)

import bert_tune
from benchmarks import common
from benchmarks.bert_speed import CLS, SEP, make_tokenizer
from benchmarks.train_speed import arguments, timed, trainer_of
from pipeline.bert.encoder import spare_last_layer
from pipeline.bert.training import ClassifierTrainer
from pipeline.common.cli import parse_settings, run
from pipeline.common.machine import device

# ---------------------------------------------------------------------------------------------
ROWS = 128  # trained on in each repetition
MEAN_TOKENS = 43  # of a comment
REPETITIONS = 3  # of both variants, in turns; the median counts
# ---------------------------------------------------------------------------------------------

VOCAB_SIZE, HIDDEN, LAYERS, HEADS = 250_037, 384, 12, 12  # multilingual-e5-small's
TRAINED, FROZEN = "all weights trained", "word embeddings frozen"


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    rows = make_rows(settings["rows"], settings["mean_tokens"])
    precision = common.resolve("auto")
    trainers = {name: trainer(rows, precision, name == FROZEN) for name in (TRAINED, FROZEN)}
    variants = {name: lambda part=part: timed(part) for name, part in trainers.items()}
    times = common.take_turns(variants, settings["repetitions"])
    lines = [
        {
            "variant": name,
            **common.speed(seconds, len(rows)),
            "frozen is faster": common.ratio(seconds, times[FROZEN]),
            "gradients and moments, GiB": 3 * 4 * trained_weights(trainers[name].model) / 2**30,
        }
        for name, seconds in times.items()
    ]
    common.publish(
        "frozen_embeddings",
        settings | {"times": times},
        {"Speed": lines},
        [
            f"{len(rows)} rows of {settings['mean_tokens']} tokens on average in batches of "
            f"{bert_tune.PER_DEVICE_TRAIN_BATCH_SIZE}; {LAYERS} layers x {HIDDEN}, {VOCAB_SIZE:,} "
            f"words, {precision}. The bytes are counted: a gradient and AdamW's two moments a "
            "trained weight, in float32."
        ],
        common.bars({line["variant"]: line["rows/s"] for line in lines}, "rows per second"),
    )


def make_rows(num: int, mean_tokens: int) -> list[dict]:
    """Return rows of random tokens in batches of similar length."""
    rng = random.Random(common.SEED)
    lengths = sorted(common.make_lengths(num, mean_tokens, bert_tune.MAX_LENGTH - 2))
    return [
        {
            "input_ids": [CLS, *(rng.randrange(5, VOCAB_SIZE) for _ in range(length)), SEP],
            "labels": n % common.NUM_CLASSES,
        }
        for n, length in enumerate(lengths)
    ]


def trainer(rows: list[dict], precision: str, frozen: bool) -> ClassifierTrainer:
    """Return the training of bert_tune.py, of random weights."""
    torch.manual_seed(common.SEED)
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_labels=common.NUM_CLASSES,
    )
    model = spare_last_layer(BertForSequenceClassification(config).to(device()))
    model.get_input_embeddings().requires_grad_(not frozen)
    return trainer_of(
        ClassifierTrainer,
        class_weights=[1.0] * common.NUM_CLASSES,
        model=model,
        args=arguments(
            TrainingArguments,
            precision,
            bert_tune.PER_DEVICE_TRAIN_BATCH_SIZE,
            learning_rate=bert_tune.LEARNING_RATE,
        ),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(make_tokenizer()),
    )


def trained_weights(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


if __name__ == "__main__":
    run(main)
