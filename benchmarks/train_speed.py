"""Benchmark 1: rows per second and peak memory of LoRA training, four ways on the same rows.

(a) the report's procedure, (b) loss on the answer, padded to the batch, (c) TRL's SFTTrainer at its
best of several settings, (d) ours: shared-prefix packing. All are Trainers with the same optimizer,
32 rows per optimizer step, and the same weights; the clock runs inside `train()`.

Writes  results/train_speed*.json and .png, and the section of README.md
Run     python -m benchmarks.train_speed   (--shape Qwen2.5-3B --precision nf4 on a GPU)
"""

import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks import common
from benchmarks.common import PAD, ROWS_PER_STEP, Rows
from pipeline.common.cli import parse_settings, run
from pipeline.llm.answers import AnswerLoss
from pipeline.llm.pack_size import training_pack_tokens
from pipeline.llm.quick_lora import quicken_lora
from pipeline.llm.training import PackTrainer, training_rows

# ---------------------------------------------------------------------------------------------
SHAPE = "small"  # micro, tiny, small, Qwen2.5-0.5B or Qwen2.5-3B
PRECISION = "auto"  # fp32, bf16 or nf4; auto = bf16 on a GPU, fp32 on a CPU
ROWS = 32  # trained on in each repetition
REPETITIONS = 2  # of all variants, in turns; the median counts
PREFIX_TOKENS = 124  # of the codebook
MAX_TOKENS_PER_PACK = 0  # of ours; 0 = what finetune.py takes by itself
MEMORY_SHAPE = "Qwen2.5-0.5B"  # of the comparison of memory; none = leave it out
# ---------------------------------------------------------------------------------------------

REPORT_LENGTH = 512  # tokens
ANSWER_TOKENS = 4
REPORT, PADDED, GROUPED, TRL, OURS = (
    "(a) the report's: padded to 512, loss everywhere",
    "(b) answer-only loss, padded to the batch",
    "(b') the same, batches of similar length",
    "(c) TRL SFTTrainer",
    "(d) ours: shared-prefix packs",
)
BATCHES = (4, 8)
MEMORY_BATCHES, MEMORY_PACKS = (4, 8), (2560, 1280, 640)
TRL_SETTINGS = {
    "batches of 4": {"per_device_train_batch_size": 4},
    "batches of 8 of similar length": {
        "per_device_train_batch_size": 8,
        "train_sampling_strategy": "group_by_length",
    },
    "padding-free, batches of 8": {
        "per_device_train_batch_size": 8,
        "padding_free": True,
        "max_length": None,
    },
    "packed to 1,024 tokens": {
        "per_device_train_batch_size": 1,
        "packing": True,
        "max_length": 1024,
        "gradient_accumulation_steps": 7,  # of about 5 rows each
    },
}


class Clock(TrainerCallback):
    """Takes the seconds of a Trainer's loop."""

    def on_train_begin(self, args, state, control, **kwargs):
        common.synchronize()
        self.seconds = -common.time.perf_counter()

    def on_train_end(self, args, state, control, **kwargs):
        common.synchronize()
        self.seconds += common.time.perf_counter()


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    shape, precision = settings["shape"], common.resolve(settings["precision"])
    config, budget = common.config_of(shape), settings["max_tokens_per_pack"]
    rows = common.make_rows(settings["rows"], config.vocab_size, settings["prefix_tokens"])

    def first_run(build: Callable, *args) -> Callable[[], float]:
        return lambda: timed(build(shape, precision, rows, *args))

    batch = int(common.best_of({str(n): first_run(padded, n) for n in BATCHES}))
    chosen = common.best_of({name: first_run(trl, name) for name in TRL_SETTINGS})
    trainers = {
        REPORT: report(shape, precision, rows),
        f"{PADDED} of {batch}": padded(shape, precision, rows, batch),
        f"{GROUPED}, {batch}": padded(shape, precision, rows, batch, "group_by_length"),
        f"{TRL}, {chosen}": trl(shape, precision, rows, chosen),
        OURS: ours(shape, precision, rows, budget),
    }
    times = common.take_turns(
        {name: lambda trainer=trainer: timed(trainer) for name, trainer in trainers.items()},
        settings["repetitions"],
    )
    own_tokens = rows.own_tokens(ANSWER_TOKENS - 1)
    rate = common.matrix_rate(config, own_tokens, common.dtype_of(precision))
    needed = common.work(config, own_tokens, ANSWER_TOKENS * len(rows), training=True)
    losses = {name: trainer.losses[0] for name, trainer in trainers.items()}
    tables = {"Speed": speed_table(times, losses, len(rows), needed / rate)}
    notes = [
        f"{len(rows)} rows: a prompt of {len(rows.prompt.prefix)} tokens, and "
        f"{own_tokens / len(rows):.0f} of comment, suffix and answer on average. "
        f"{shape}, {precision}: {config.num_hidden_layers} layers x {config.hidden_size}, "
        f"{config.vocab_size:,} words. Matrix products here: {rate / 1e9:,.0f} Gflop/s.",
    ]
    del trainers
    if settings["memory_shape"] != "none":
        heading = f"Peak memory, shape of {settings['memory_shape']}, {precision}"
        tables[heading] = memory_table(settings["memory_shape"], precision, chosen)
        notes.append(
            "Memory: the most that a process of its own held while it trained on 4, 8 or 32 rows, "
            "the longest of 32 among them, beyond what it held with the model loaded."
        )
    speeds = {row["variant"]: row["rows/s"] for row in tables["Speed"]}
    common.publish(
        "train_speed",
        settings | {"hardware_flops": rate, "times": times},
        tables,
        notes,
        common.bars(speeds, f"training rows per second ({shape}, {precision})"),
        variant=f"{shape}-{precision}",
    )


def speed_table(
    times: dict[str, list[float]], losses: dict[str, float], num_rows: int, least: float
) -> list[dict]:
    """Return a line per variant; `least` is the seconds of the rows' work at the matrix rate."""
    return [
        {
            "variant": name,
            **common.speed(seconds, num_rows),
            "ours is faster": common.ratio(seconds, times[OURS]),
            "share of the matrix rate": f"{least / statistics.median(seconds):.1%}",
            "loss of the first pass": f"{losses[name]:.5f}",
        }
        for name, seconds in times.items()
    ]


def memory_table(shape: str, precision: str, trl_setting: str) -> list[dict]:
    """Return a line per variant: GiB with the model loaded, and the most beyond it."""
    wanted = [
        (f"{REPORT}, batches of 4", "report", 4, ()),
        *((f"{PADDED} of {n}", "padded", n, (n,)) for n in MEMORY_BATCHES),
        (f"{TRL}, {trl_setting}", "trl", 8, (trl_setting,)),
        *((f"{OURS} of {n:,} tokens", "ours", ROWS_PER_STEP, (n,)) for n in MEMORY_PACKS),
    ]
    lines = []
    for name, build, num, args in wanted:
        measured = common.in_fresh_process(peak_memory, build, shape, precision, num, args)
        print(f"  {name}: {measured or 'memory did not suffice'}", flush=True)
        before, beyond, seconds = measured or (None, None, None)
        lines.append(
            {
                "variant": name,
                "libraries and model, GiB": before,
                "beyond them, GiB": beyond,
                "rows/s of these rows": measured and num / seconds,
            }
        )
    beyond = {line["variant"]: line["beyond them, GiB"] for line in lines}
    for line in lines:
        for n in MEMORY_BATCHES:
            usual, own = beyond[f"{PADDED} of {n}"], beyond[line["variant"]]
            line[f"of (b)'s of {n}"] = own and usual and f"{own / usual:.2f}"
    return lines


def peak_memory(
    build: str, shape: str, precision: str, num: int, args: tuple
) -> tuple[float, float, float]:
    """Return GiB with the model loaded, the most beyond them in training `num` rows, seconds."""
    rows = common.make_rows(ROWS_PER_STEP, common.config_of(shape).vocab_size).first(num)
    trainer = BUILDERS[build](shape, precision, rows, *args)
    before, beyond = common.memory_of(trainer.train)
    return before, beyond, trainer.clock.seconds


# Trainers ----------------------------------------------------------------------------------------


def whole(rows: Rows) -> list[dict[str, list[int]]]:
    """Return rows as whole sequences with labels, -100 everywhere but on the answer."""
    sequences = []
    for own, label in zip(rows.asked, rows.labels, strict=True):
        asked, answer = rows.prompt.prefix + own, rows.prompt.answers[label]
        labels = [-100] * len(asked) + answer
        sequences.append({"input_ids": asked + answer, "labels": labels})
    return sequences


def timed(trainer: Trainer) -> float:
    """Train on the Trainer's rows once; return the seconds of its loop."""
    trainer.losses.append(trainer.train().training_loss)
    return trainer.clock.seconds


def arguments(
    kind: type, precision: str, per_device_train_batch_size: int, **more: Any
) -> TrainingArguments:
    """Return a Trainer's arguments: one epoch, 32 rows per optimizer step, nothing saved."""
    accumulation = max(1, ROWS_PER_STEP // per_device_train_batch_size)
    common_ones = {
        "output_dir": tempfile.gettempdir(),
        "per_device_train_batch_size": per_device_train_batch_size,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 1,
        "learning_rate": 2e-4,
        "weight_decay": 0.01,
        "bf16": precision != "fp32",
        "use_cpu": not torch.cuda.is_available(),
        "activation_checkpointing": False,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": common.SEED,
    }
    return kind(**common_ones | more)


def trainer_of(kind: type[Trainer], **parts: Any) -> Trainer:
    """Return a Trainer with a clock."""
    clock = Clock()
    trainer = kind(callbacks=[clock], **parts)
    trainer.clock, trainer.losses = clock, []
    for callback in ("PrinterCallback", "ProgressCallback"):
        for found in list(trainer.callback_handler.callbacks):
            if type(found).__name__ == callback:
                trainer.remove_callback(found)
    return trainer


def adapted(shape: str, precision: str, packs: bool = False, checkpointing: bool = False):
    """Return a model with LoRA on all seven projections."""
    model = common.build_model(shape, precision, packs)
    if checkpointing:
        model.enable_input_require_grads()
    torch.manual_seed(common.SEED)
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **common.LORA))


def report(shape: str, precision: str, rows: Rows) -> Trainer:
    """Return the report's training: every row padded to 512, the loss on all 512 tokens."""

    def collate(batch: list[dict]) -> dict[str, torch.Tensor]:
        inputs = right_padded(batch, REPORT_LENGTH)
        return inputs | {"labels": inputs["input_ids"].clone()}

    return trainer_of(
        Trainer,
        model=adapted(shape, precision, checkpointing=True),
        args=arguments(TrainingArguments, precision, 4, activation_checkpointing=True),
        train_dataset=whole(rows),
        data_collator=collate,
    )


def padded(
    shape: str,
    precision: str,
    rows: Rows,
    batch_size: int,
    sampling: str = "random",
) -> Trainer:
    """Return the usual training: batches as wide as their longest row, the loss on the answer."""
    return trainer_of(
        Trainer,
        model=adapted(shape, precision),
        args=arguments(TrainingArguments, precision, batch_size, train_sampling_strategy=sampling),
        train_dataset=whole(rows),
        data_collator=right_padded,
    )


def right_padded(batch: list[dict], width: int = 0) -> dict[str, torch.Tensor]:
    """Return rows as tensors (rows, width), as wide as the longest where no width is given."""
    width = width or max(len(row["input_ids"]) for row in batch)

    def fill(values: list[int], value: int) -> list[int]:
        return (values + [value] * width)[:width]

    return {
        "input_ids": torch.tensor([fill(row["input_ids"], PAD) for row in batch]),
        "labels": torch.tensor([fill(row["labels"], -100) for row in batch]),
        "attention_mask": torch.tensor([fill([1] * len(row["input_ids"]), 0) for row in batch]),
    }


def trl(shape: str, precision: str, rows: Rows, setting: str) -> Trainer:
    """Return TRL's SFTTrainer under one of `TRL_SETTINGS`; its loss is on the answer too."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    more = {"max_length": None, **TRL_SETTINGS[setting]}
    vocab_size = common.config_of(shape).vocab_size
    return trainer_of(
        SFTTrainer,
        model=common.build_model(shape, precision),
        args=arguments(SFTConfig, precision, **more),
        train_dataset=Dataset.from_list(whole(rows)),
        processing_class=common.words_tokenizer(vocab_size),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **common.LORA),
    )


def ours(shape: str, precision: str, rows: Rows, max_tokens: int = 0) -> Trainer:
    """Return the engine's training, as finetune.py sets it up: 32 rows in packs.

    Where `max_tokens` is 0 a pack has as many tokens as the engine finds best.
    """
    model = adapted(shape, precision, packs=True)
    quicken_lora(model)
    longest = max(map(len, rows.asked)) + ANSWER_TOKENS - 1
    max_tokens = max_tokens or training_pack_tokens(
        model, rows.prompt, longest, ROWS_PER_STEP, False
    )
    return trainer_of(
        PackTrainer,
        prompt=rows.prompt,
        model=model,
        args=arguments(TrainingArguments, precision, ROWS_PER_STEP),
        train_dataset=training_rows(rows.prompt, rows.comments, rows.labels),
        max_tokens=max_tokens,
        compute_loss_func=AnswerLoss(rows.prompt, [1.0] * len(rows.prompt.answers)),
    )


BUILDERS = {"report": report, "padded": padded, "trl": trl, "ours": ours}

if __name__ == "__main__":
    run(main)
