"""Benchmark 3, first half: the cost of a row as the codebook grows, in training and in scoring.

Ours is shared-prefix packing, as finetune.py and local_inference.py set it up; beside it stand
padded batches, in which each row carries the codebook.

Writes  results/prompt_growth*.json and .png, and the section of README.md
Run     python -m benchmarks.prompt_growth
"""

import statistics
from collections.abc import Callable

from benchmarks import common, score_speed, train_speed
from pipeline.common.cli import parse_settings, run
from pipeline.llm.packing import use_packs

# ---------------------------------------------------------------------------------------------
SHAPE = "small"  # micro, tiny, small, Qwen2.5-0.5B or Qwen2.5-3B
PRECISION = "auto"  # fp32, bf16 or nf4; auto = bf16 on a GPU, fp32 on a CPU
PROMPT_TOKENS = "100,124,250,500,1000,2000"  # of the codebook
TRAIN_ROWS = 32  # of ours: one optimizer step
SCORE_ROWS = 192  # of ours
PADDED_ROWS = 4  # of each padded measurement: one batch
REPETITIONS = 1  # of all variants, in turns; the median counts
# ---------------------------------------------------------------------------------------------

BASE, LONG = 124, 1000  # tokens of the codebooks whose costs are compared


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    shape, precision = settings["shape"], common.resolve(settings["precision"])
    lengths = [int(part) for part in settings["prompt_tokens"].split(",")]
    model = common.build_model(shape, precision)
    counts = {
        "training, ours": settings["train_rows"],
        "scoring, ours": settings["score_rows"],
        "training, padded": settings["padded_rows"],
        "scoring, padded": settings["padded_rows"],
    }

    def variant(kind: str, length: int) -> Callable[[], float]:
        rows = common.make_rows(counts[kind], model.config.vocab_size, length)
        if kind == "training, ours":
            trainer = train_speed.ours(shape, precision, rows)
        elif kind == "training, padded":
            trainer = train_speed.padded(shape, precision, rows, len(rows))
        if kind.startswith("training"):
            return lambda: train_speed.timed(trainer)

        def score() -> float:
            if kind == "scoring, ours":
                use_packs(model)
                return common.seconds_of(lambda: score_speed.ours(model, rows))
            model.set_attn_implementation("sdpa")
            return common.seconds_of(lambda: score_speed.padded(model, rows, len(rows), True))

        return score

    times = common.take_turns(
        {f"{kind}, {n:,} tokens": variant(kind, n) for n in lengths for kind in counts},
        settings["repetitions"],
    )
    costs = {
        kind: {
            n: 1000 * statistics.median(times[f"{kind}, {n:,} tokens"]) / counts[kind]
            for n in lengths
        }
        for kind in counts
    }
    lines = [
        {"codebook, tokens": n, **{f"{kind}, ms a row": costs[kind][n] for kind in counts}}
        for n in lengths
    ]
    notes = [f"{shape}, {precision}; comments of {common.MEAN_TOKENS} tokens on average."]
    if BASE in lengths and LONG in lengths:
        growth = ", ".join(
            f"{kind} {costs[kind][LONG] / costs[kind][BASE]:.2f} x" for kind in counts
        )
        notes.append(f"A row with a codebook of {LONG:,} tokens against one of {BASE}: {growth}.")
    common.publish(
        "prompt_growth",
        settings | {"times": times},
        {"Cost of a row": lines},
        notes,
        common.lines(
            lengths,
            {kind: list(costs[kind].values()) for kind in counts},
            "tokens of the codebook",
            f"ms a row ({shape}, {precision})",
        ),
        variant=f"{shape}-{precision}",
    )


if __name__ == "__main__":
    run(main)
