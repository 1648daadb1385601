"""Benchmark 3, second half: seconds and memory of scoring as the number of rows grows.

Each number of rows is scored in a process of its own. Time should grow with the rows, and memory
should not: the engine holds one pack at a time.

Writes  results/row_growth*.json and .png, and the section of README.md
Run     python -m benchmarks.row_growth
"""

from benchmarks import common, score_speed
from pipeline.common.cli import parse_settings, run

# ---------------------------------------------------------------------------------------------
SHAPE = "micro"  # micro, tiny, small, Qwen2.5-0.5B or Qwen2.5-3B
PRECISION = "auto"  # fp32, bf16 or nf4; auto = bf16 on a GPU, fp32 on a CPU
ROWS = "1000,10000,100000"  # each number is scored once
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    shape, precision = settings["shape"], common.resolve(settings["precision"])
    counts = [int(part) for part in settings["rows"].split(",")]
    lines = []
    for num in counts:
        before, beyond, seconds = common.in_fresh_process(score, shape, precision, num)
        lines.append(
            {
                "rows": num,
                "seconds": seconds,
                "rows/s": num / seconds,
                "libraries, model and rows, GiB": before,
                "beyond them, GiB": beyond,
            }
        )
        print(f"  {num:,} rows: {seconds:.1f} s, {beyond:.3f} GiB", flush=True)
    common.publish(
        "row_growth",
        settings,
        {"Scoring": lines},
        [
            f"{shape}, {precision}: a prompt of {common.PREFIX_TOKENS} tokens, comments of "
            f"{common.MEAN_TOKENS} on average. The rows' own tokens are in memory before the start."
        ],
        common.lines(
            counts, {"seconds": [line["seconds"] for line in lines]}, "rows", "seconds to score"
        ),
        variant=f"{shape}-{precision}",
    )


def score(shape: str, precision: str, num: int) -> tuple[float, float, float]:
    """Return GiB before scoring `num` rows, the most beyond them, and the seconds it took."""
    model = common.build_model(shape, precision, packs=True)
    rows = common.make_rows(num, model.config.vocab_size)
    score_speed.ours(model, rows.first(10))
    seconds: list[float] = []
    before, beyond = common.memory_of(
        lambda: seconds.append(common.seconds_of(lambda: score_speed.ours(model, rows)))
    )
    return before, beyond, seconds[0]


if __name__ == "__main__":
    run(main)
