"""The whole job at the report's size on one GPU: 51,969 rows trained for 3 epochs, 14,849 scored.

The engine as finetune.py and posttune_eval.py set it up, on random weights and rows of the report's
lengths. The report's training took 15 hours.

Writes  results/whole_job*.json and .png, and the section of README.md
Run     python -m benchmarks.whole_job   (--max-steps 50 times 50 optimizer steps and extrapolates)
"""

from benchmarks import common, score_speed, train_speed
from pipeline.common.cli import parse_settings, run
from pipeline.llm.packing import use_packs

# ---------------------------------------------------------------------------------------------
SHAPE = "Qwen2.5-3B"  # micro, tiny, small, Qwen2.5-0.5B or Qwen2.5-3B
PRECISION = "nf4"  # fp32, bf16 or nf4
TRAIN_ROWS = 51969  # the report's
EPOCHS = 3  # the report's
TEST_ROWS = 14849  # the report's
MAX_TOKENS_PER_PACK = 0  # in training; 0 = what finetune.py takes by itself
MAX_STEPS = 0  # optimizer steps to time, after 3 that warm up; 0 = the whole job
# ---------------------------------------------------------------------------------------------

REPORT_HOURS = 15


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    shape, precision = settings["shape"], common.resolve(settings["precision"])
    config = common.config_of(shape)
    all_steps = settings["epochs"] * -(-settings["train_rows"] // common.ROWS_PER_STEP)
    steps = settings["max_steps"] or all_steps

    rows = common.make_rows(settings["train_rows"], config.vocab_size)
    trainer = train_speed.ours(shape, precision, rows, settings["max_tokens_per_pack"])
    trainer.args.max_steps = 3
    trainer.train()
    trainer.args.max_steps = steps
    _, train_memory = common.memory_of(trainer.train)
    rate = common.matrix_rate(config, trainer.max_tokens, common.dtype_of(precision))
    trained = steps * common.ROWS_PER_STEP
    answers = train_speed.ANSWER_TOKENS
    needed = common.work(
        config, rows.own_tokens(answers - 1) / len(rows) * trained, answers * trained, True
    )
    lines = [line("training", trainer.clock.seconds, steps / all_steps, trained, train_memory)]
    lines[0]["share of the matrix rate"] = f"{needed / trainer.clock.seconds / rate:.1%}"

    model = trainer.model.get_base_model()
    use_packs(model.eval())
    tested = min(settings["test_rows"], trained) if settings["max_steps"] else settings["test_rows"]
    test = common.make_rows(tested, config.vocab_size)
    score_speed.ours(model, test.first(min(100, tested)))
    seconds: list[float] = []
    _, score_memory = common.memory_of(
        lambda: seconds.append(common.seconds_of(lambda: score_speed.ours(model, test)))
    )
    needed = common.work(config, test.own_tokens(1), tested, training=False)
    lines.append(line("scoring", seconds[0], tested / settings["test_rows"], tested, score_memory))
    lines[1]["share of the matrix rate"] = f"{needed / seconds[0] / rate:.1%}"

    whole = sum(part["the whole, min"] for part in lines)
    measured = "measured" if not settings["max_steps"] else "EXTRAPOLATED from the part measured"
    common.publish(
        "whole_job",
        settings | {"hardware_flops": rate},
        {f"{shape}, {precision}": lines},
        [
            f"The whole job: {whole:.1f} minutes, {measured}; the report's training alone took "
            f"{REPORT_HOURS} hours, {REPORT_HOURS * 60 / lines[0]['the whole, min']:.0f} times "
            "ours. Loading the model and validation are not in it. Matrix products here: "
            f"{rate / 1e12:.1f} Tflop/s. Memory is that beyond the model's.",
        ],
        common.bars(
            {"the report's training": REPORT_HOURS * 60.0, "training and scoring, ours": whole},
            f"minutes ({measured})",
        ),
        variant=f"{shape}-{precision}",
    )


def line(part: str, seconds: float, share: float, rows: int, memory: float) -> dict:
    """Return a line of the table: what was timed, and the whole where that was a part."""
    return {
        "part": part,
        "rows timed": rows,
        "seconds": seconds,
        "rows/s": rows / seconds,
        "timed": f"{share:.1%} of it",
        "the whole, min": seconds / share / 60,
        "peak beyond the model, GiB": memory,
    }


if __name__ == "__main__":
    run(main)
