"""Benchmark 4: rows per second of BERT in training and on the test rows.

The report's procedure (every row padded to 128 tokens, float32, batches of 32, the test rows twice)
against ours (rows of similar length together, padded to the longest of a batch, the last layer for
`[CLS]` alone, the precision that the device computes in, the test rows once), on lengths like the
real ones.

Writes  results/bert_speed*.json and .png, and the section of README.md
Run     python -m benchmarks.bert_speed
"""

import random

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

import bert_tune
import bert_tune_eval
from benchmarks import common
from benchmarks.train_speed import arguments, timed, trainer_of
from pipeline.bert.encoder import forward, softmax_of_logits, spare_last_layer
from pipeline.bert.training import weighted_cross_entropy
from pipeline.common.cli import parse_settings, run
from pipeline.common.machine import compute_dtype, device

# ---------------------------------------------------------------------------------------------
LAYERS = 12  # bert-base's, of width 768
ROWS = 64  # trained on, and classified, in each repetition
MEAN_CHARACTERS = 94  # of a comment: the report's 283 bytes; 48 are COLD's
REPETITIONS = 2  # of all variants, in turns; the median counts
# ---------------------------------------------------------------------------------------------

MAX_LENGTH = bert_tune.MAX_LENGTH
BATCH_SIZE = bert_tune.PER_DEVICE_TRAIN_BATCH_SIZE
GROUPED = 50  # batches among which the Trainer groups by length
EPOCH_ROWS = 4 * GROUPED * BATCH_SIZE
VOCAB_SIZE, CLS, SEP = 21_128, 2, 3  # bert-base-chinese's
WAYS = ("the report's: padded to 128, float32", "ours: similar lengths together")


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    tokenizer = make_tokenizer()
    rows = make_rows(settings["rows"], settings["mean_characters"])
    report, ours = WAYS
    trainers = {
        report: train_report(settings["layers"], tokenizer, rows),
        ours: train_ours(settings["layers"], tokenizer, rows),
    }
    models = {
        report: build_model(settings["layers"]),
        ours: spare_last_layer(build_model(settings["layers"])),
    }
    probabilities: dict[str, np.ndarray] = {}

    def predict_report() -> None:
        for _ in range(2):  # trainer.evaluate and trainer.predict
            probabilities[report] = padded(models[report], tokenizer, rows)

    def predict_ours() -> None:
        size = bert_tune_eval.BATCH_SIZE
        probabilities[ours] = forward(models[ours], tokenizer, ids, size, softmax_of_logits)

    ids = [row["input_ids"] for row in rows]
    times = common.take_turns(
        {
            **{f"training, {way}": lambda way=way: timed(trainers[way]) for way in WAYS},
            f"test rows, {report}, twice": lambda: common.seconds_of(predict_report),
            f"test rows, {ours}, once": lambda: common.seconds_of(predict_ours),
        },
        settings["repetitions"],
    )
    mine = {name.split(",")[0]: seconds for name, seconds in times.items() if ours in name}
    lines = [
        {
            "variant": name,
            **common.speed(seconds, len(rows)),
            "ours is faster": common.ratio(seconds, mine[name.split(",")[0]]),
        }
        for name, seconds in times.items()
    ]
    difference = np.abs(probabilities[report] - probabilities[ours]).max()
    precision = str(compute_dtype()).removeprefix("torch.")
    common.publish(
        "bert_speed",
        settings | {"times": times},
        {"Speed": lines},
        [
            f"{len(rows)} rows of {np.mean([len(row) for row in ids]):.0f} tokens on average after "
            f"the cut at {MAX_LENGTH} ({settings['mean_characters']} characters before it); "
            f"{settings['layers']} layers x 768; ours computes in {precision}. Largest difference "
            f"of the probabilities: {difference:.1e}."
        ],
        common.bars({line["variant"]: line["rows/s"] for line in lines}, "rows per second"),
        variant=f"{settings['layers']}-layers-{settings['mean_characters']}-characters",
    )


def make_tokenizer() -> BertTokenizerFast:
    """Return a tokenizer of the right size; only its padding is used."""
    specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = [*specials, *(f"w{n}" for n in range(len(specials), VOCAB_SIZE))]
    return BertTokenizerFast(vocab={word: n for n, word in enumerate(words)})


def make_rows(num: int, mean_characters: int) -> list[dict]:
    """Return rows of random tokens, a character a token, at most 128 in all.

    They are whole batches of an epoch, from the longest to the shortest: among so few rows alone
    training would find fewer of similar length.
    """
    rng = random.Random(common.SEED)
    lengths = common.make_lengths(EPOCH_ROWS, mean_characters, MAX_LENGTH - 2)
    torch.manual_seed(common.SEED)
    order = list(LengthGroupedSampler(BATCH_SIZE, lengths=lengths))
    batches = [order[start : start + BATCH_SIZE] for start in range(0, EPOCH_ROWS, BATCH_SIZE)]
    count = max(1, num // BATCH_SIZE)
    chosen = [batches[int((n + 0.5) * GROUPED / count)] for n in range(count)]
    lengths = [lengths[row] for batch in chosen for row in batch]
    return [
        {
            "input_ids": [CLS, *(rng.randrange(5, VOCAB_SIZE) for _ in range(length)), SEP],
            "labels": n % common.NUM_CLASSES,
        }
        for n, length in enumerate(lengths)
    ]


def build_model(layers: int) -> BertForSequenceClassification:
    """Return a BERT of random weights, the same ones in every call."""
    torch.manual_seed(common.SEED)
    config = BertConfig(
        vocab_size=VOCAB_SIZE, num_hidden_layers=layers, num_labels=common.NUM_CLASSES
    )
    return BertForSequenceClassification(config).to(device()).eval()


def train_report(layers: int, tokenizer: BertTokenizerFast, rows: list[dict]) -> Trainer:
    """Return the report's training."""
    return trainer_of(
        Trainer,
        model=build_model(layers),
        args=arguments(TrainingArguments, "fp32", 32, learning_rate=3e-5),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer, "max_length", MAX_LENGTH),
    )


def train_ours(layers: int, tokenizer: BertTokenizerFast, rows: list[dict]) -> Trainer:
    """Return the training of bert_tune.py."""
    return trainer_of(
        Trainer,
        model=spare_last_layer(build_model(layers)),
        args=arguments(
            TrainingArguments,
            common.resolve("auto"),
            BATCH_SIZE,
            learning_rate=bert_tune.LEARNING_RATE,
            train_sampling_strategy="sequential",  # of make_rows, which groups by length
        ),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=weighted_cross_entropy([1.0] * common.NUM_CLASSES),
    )


def padded(
    model: BertForSequenceClassification, tokenizer: BertTokenizerFast, rows: list[dict]
) -> np.ndarray:
    """Return class probabilities (rows, classes) of batches of 32 padded to 128."""
    collate = DataCollatorWithPadding(tokenizer, "max_length", MAX_LENGTH)
    parts = []
    for start in range(0, len(rows), 32):
        inputs = collate(rows[start : start + 32]).to(device())
        with torch.no_grad():
            parts.append(model(**inputs).logits.softmax(-1).float().cpu().numpy())
    return np.concatenate(parts)


if __name__ == "__main__":
    run(main)
