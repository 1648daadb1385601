"""Benchmark 6: where the seconds of a training step and of scoring go, by kind of operation.

Writes  results/train_profile*.json and .png, and the section of README.md
Run     python -m benchmarks.train_profile
"""

from collections import defaultdict
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

from benchmarks import common, score_speed, train_speed
from pipeline.common.cli import parse_settings, run

# ---------------------------------------------------------------------------------------------
SHAPE = "small"  # micro, tiny, small, Qwen2.5-0.5B, Qwen2.5-3B or Qwen2.5-7B
PRECISION = "auto"  # fp32, bf16 or nf4; auto = bf16 where the machine computes in it, else fp32
ROWS = 32  # of a training step, and scored
PREFIX_TOKENS = 124  # of the codebook
MAX_TOKENS_PER_PACK = 0  # in training; 0 = what finetune.py takes by itself
# ---------------------------------------------------------------------------------------------

KINDS = {
    "attention": ("scaled_dot_product", "flash", "efficient_attention"),
    "softmax of the logits": ("log_softmax", "nll_loss"),
    "copies and moves": ("copy_", "cat", "index", "fill", "clone", "zero_", "scatter"),
    "matrix products": ("mm", "linear", "dot"),
    "optimizer": ("adam", "foreach"),
}
ADAPTER, ELEMENTWISE, REST = "the adapter's matrix products", "element by element", "between them"


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    shape, precision = settings["shape"], common.resolve(settings["precision"])
    config = common.config_of(shape)
    rows = common.make_rows(settings["rows"], config.vocab_size, settings["prefix_tokens"])
    trainer = train_speed.ours(shape, precision, rows, settings["max_tokens_per_pack"])
    model = common.build_model(shape, precision, packs=True)
    answers = train_speed.ANSWER_TOKENS
    parts = {
        "Training": (lambda: train_speed.timed(trainer), answers - 1, answers),
        "Scoring": (lambda: common.seconds_of(lambda: score_speed.ours(model, rows)), 1, 1),
    }
    rate = common.matrix_rate(config, rows.own_tokens(1), common.dtype_of(precision))
    tables, notes = {}, []
    for name, (step, own, read) in parts.items():
        seconds = min(step() for _ in range(4))
        tables[name] = table_of(step, seconds)
        needed = common.work(config, rows.own_tokens(own), read * len(rows), name == "Training")
        notes.append(
            f"{name}: {seconds:.2f} s for {len(rows)} rows, {needed / rate / seconds:.1%} of the "
            "matrix rate."
        )
    common.publish(
        "train_profile",
        settings | {"hardware_flops": rate},
        tables,
        [
            f"{shape}, {precision}: a prompt of {len(rows.prompt.prefix)} tokens. Matrix products "
            f"here: {rate / 1e9:,.0f} Gflop/s. The shares are those of a step under torch's "
            "profiler.",
            *notes,
        ],
        common.bars(
            {line["kind"]: 100 * line["seconds"] for line in tables["Training"]},
            "hundredths of a second of a training step",
        ),
        variant=f"{shape}-{precision}-{settings['prefix_tokens']}",
    )


def table_of(step: Callable[[], float], fastest: float) -> list[dict]:
    """Return a line per kind of operation: its calls, its share of a step's seconds."""
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True
    ) as profiler:
        seconds = step()
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in profiler.key_averages(group_by_input_shape=True):
        kind = kind_of(event.key, event.input_shapes)
        if kind and event.self_cpu_time_total:
            spent[kind] += event.self_cpu_time_total / 1e6
            calls[kind] += event.count
    spent[REST] = max(0.0, seconds - sum(spent.values()))
    return [
        {
            "kind": kind,
            "calls": calls[kind] or None,
            "share of the step": f"{spent[kind] / seconds:.1%}",
            "seconds": fastest * spent[kind] / seconds,
        }
        for kind in sorted(spent, key=lambda kind: -spent[kind])
    ]


def kind_of(name: str, shapes: list[list[int]]) -> str:
    """Return the kind of an operation, "" for one that computes nothing itself."""
    if not name.startswith("aten::"):
        return ""
    operation = name.removeprefix("aten::")
    if operation in VIEWS:
        return ""
    for kind, words in KINDS.items():
        if any(word in operation for word in words):
            thin = any(len(shape) == 2 and common.LORA["r"] in shape for shape in shapes)
            return ADAPTER if kind == "matrix products" and thin else kind
    return ELEMENTWISE


VIEWS = {
    *("view", "_unsafe_view", "reshape", "t", "transpose", "as_strided", "expand", "slice"),
    *("select", "detach", "detach_", "unsqueeze", "squeeze", "split", "split_with_sizes", "alias"),
    *("empty", "empty_like", "empty_strided", "item", "_local_scalar_dense", "flatten", "unbind"),
    *(
        "to",
        "_to_copy",
        "resolve_conj",
        "resolve_neg",
        "linear",
        "matmul",
        "result_type",
        "is_nonzero",
    ),
}


if __name__ == "__main__":
    run(main)
