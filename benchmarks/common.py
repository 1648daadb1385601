"""What the benchmarks share: models of a shape, rows, clocks, memory, and how results are written.

Weights and tokens are random: neither changes what a step costs, and nothing is downloaded.
"""

import gc
import math
import multiprocessing
import platform
import random
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from matplotlib.ticker import NullLocator
from torch.nn.functional import linear
from transformers import Qwen2Config, Qwen2ForCausalLM

import finetune
from pipeline.common.files import read_json, replacing, write_json, write_text
from pipeline.common.machine import compute_dtype, describe_device, device, versions
from pipeline.evaluation.plots import plt
from pipeline.llm.lora import PROJECTIONS
from pipeline.llm.packing import use_packs
from pipeline.llm.prompt import Prompt

SEED = 42
LORA = {
    "r": finetune.LORA_R,
    "lora_alpha": finetune.LORA_ALPHA,
    "lora_dropout": finetune.LORA_DROPOUT,
    "target_modules": PROJECTIONS,
}
ROWS_PER_STEP = finetune.PER_DEVICE_TRAIN_BATCH_SIZE * finetune.GRADIENT_ACCUMULATION_STEPS

# Hyper-parameters of a Qwen2. The last two are the published models'.
_FIELDS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
SHAPES = {
    "micro": (2, 128, 512, 4, 2, 2_000),
    "tiny": (4, 256, 1024, 4, 2, 8_000),
    "small": (8, 512, 2048, 8, 2, 32_000),
    "Qwen2.5-0.5B": (24, 896, 4864, 14, 2, 151_936),
    "Qwen2.5-3B": (36, 2048, 11008, 16, 2, 151_936),
    "Qwen2.5-7B": (28, 3584, 18944, 28, 4, 152_064),
}

# Lengths of the report's comments: 283 bytes a comment, 68 tokens of Qwen2.5; the spread is that of
# 25,726 comments of the COLD benchmark (0.73) and of the sample's generator (0.88).
MEAN_TOKENS, SPREAD, MAX_TOKENS = 68, 0.8, 380
PREFIX_TOKENS, SUFFIX_TOKENS, NUM_CLASSES = 124, 5, 4
PAD, END, OPEN, CLOSE, FIRST_CLASS, FIRST_WORD = 0, 1, 2, 3, 4, 16

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
NOT_MEASURED = "-"


# Models ------------------------------------------------------------------------------------------


def config_of(shape: str) -> Qwen2Config:
    """Return the configuration of a shape in `SHAPES`."""
    return Qwen2Config(
        **dict(zip(_FIELDS, SHAPES[shape], strict=True)),
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        pad_token_id=PAD,
    )


def resolve(precision: str) -> str:
    """Return "fp32", "bf16" or "nf4"; "auto" is bf16 where the engine computes in it."""
    if precision == "auto":
        return "fp32" if compute_dtype() == torch.float32 else "bf16"
    return precision


def dtype_of(precision: str) -> torch.dtype:
    """Return the dtype that a model computes in."""
    return torch.float32 if resolve(precision) == "fp32" else torch.bfloat16


def build_model(shape: str, precision: str, packs: bool = False) -> Qwen2ForCausalLM:
    """Return a model with random weights, the same ones in every call, ready to score.

    `precision` is that of the weights; nf4 is bitsandbytes' with double quantization, as in
    finetune.py, all linear layers but the head.
    """
    torch.manual_seed(SEED)
    with torch.device(device()):
        model = Qwen2ForCausalLM._from_config(
            config_of(shape), dtype=dtype_of(precision), attn_implementation="sdpa"
        )
    if resolve(precision) == "nf4":
        quantize(model)
    if packs:
        use_packs(model)
    model.requires_grad_(False)
    return model.eval()


def quantize(model: Qwen2ForCausalLM) -> None:
    """Replace the linear layers of the decoder by NF4 ones."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, old in list(parent.named_children()):
                if not isinstance(old, torch.nn.Linear):
                    continue
                new = Linear4bit(
                    old.in_features,
                    old.out_features,
                    bias=old.bias is not None,
                    compute_dtype=old.weight.dtype,
                    compress_statistics=True,
                    quant_type="nf4",
                )
                new.weight = Params4bit(
                    old.weight.data.cpu(), requires_grad=False, quant_type="nf4"
                )
                new.bias = old.bias
                setattr(parent, name, new.to(device()))
    model.is_loaded_in_4bit = True  # for peft and TRL


def linear_shapes(config: Qwen2Config) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of a layer's seven projections."""
    hidden, inner = config.hidden_size, config.intermediate_size
    head = hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    return [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)] + [
        (hidden, inner),
        (hidden, inner),
        (inner, hidden),
    ]


# Rows --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Comments with the prompt that asks for their labels, all as random tokens."""

    prompt: Prompt
    comments: list[list[int]]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.comments)

    @property
    def asked(self) -> list[list[int]]:
        """Comment and suffix of each row: what is its own, before the answer."""
        return [comment + self.prompt.suffix for comment in self.comments]

    def own_tokens(self, answer_tokens: int) -> int:
        """Return the tokens of all rows without the prefix, with some of the answer's."""
        return sum(map(len, self.asked)) + answer_tokens * len(self)

    def first(self, num: int) -> "Rows":
        """Return the longest row and the first ones, `num` in all."""
        longest = max(range(len(self)), key=lambda n: len(self.comments[n]))
        order = [longest, *(n for n in range(len(self)) if n != longest)][:num]
        return Rows(self.prompt, [self.comments[n] for n in order], [self.labels[n] for n in order])


def make_rows(num: int, vocab_size: int, prefix_tokens: int = PREFIX_TOKENS) -> Rows:
    """Return random rows; an answer is `[`, a digit, `]` and the end of the turn."""
    rng = random.Random(SEED)

    def tokens(length: int) -> list[int]:
        return [rng.randrange(FIRST_WORD, vocab_size) for _ in range(length)]

    prompt = Prompt(
        prefix=tokens(prefix_tokens),
        suffix=tokens(SUFFIX_TOKENS),
        answers=[[OPEN, FIRST_CLASS + k, CLOSE, END] for k in range(NUM_CLASSES)],
        stop=[END],
    )
    comments = [tokens(length) for length in make_lengths(num)]
    return Rows(prompt, comments, [n % NUM_CLASSES for n in range(num)])


def make_lengths(
    num: int, mean: float = MEAN_TOKENS, longest: int = MAX_TOKENS, spread: float = SPREAD
) -> list[int]:
    """Return lengths of comments: the quantiles of a lognormal, in random order.

    Quantiles instead of draws, so that few rows have the same mean and spread as many.
    """
    normal = NormalDist(0, spread)
    raw = [math.exp(normal.inv_cdf((n + 0.5) / num)) for n in range(num)]
    random.Random(f"lengths {SEED}").shuffle(raw)  # an order that nothing else is drawn in
    scale = mean * num / sum(raw)
    return [min(max(round(scale * value), 1), longest) for value in raw]


def words_tokenizer(vocab_size: int):
    """Return a tokenizer in which token 17 is the word `w17`: a comment's tokens have a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{token}": token for token in range(OPEN, vocab_size)}
    specials = {"<pad>": PAD, "<end>": END}
    tokenizer = Tokenizer(models.WordLevel(specials | words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<pad>"
    )


def to_words(tokens: Sequence[int]) -> str:
    """Return the text of tokens for `words_tokenizer`."""
    return " ".join(f"w{token}" for token in tokens)


# Time and work -----------------------------------------------------------------------------------


def synchronize() -> None:
    """Wait for the GPU, so that a clock sees its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(function: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - start


def take_turns(
    variants: Mapping[str, Callable[[], float]], repetitions: int
) -> dict[str, list[float]]:
    """Run every variant once per repetition, one after the other; return their seconds.

    In turns, so that what else the machine does hits all alike. A variant returns the seconds that
    count. A first run, on a GPU a first round, warms up and is not counted.
    """
    for run in list(variants.values())[: None if torch.cuda.is_available() else 1]:
        run()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(repetitions):
        for name, run in variants.items():
            times[name].append(run())
            print(f"  {repetition + 1}/{repetitions} {name}: {times[name][-1]:.2f} s", flush=True)
    return times


def best_of(candidates: Mapping[str, Callable[[], float]]) -> str:
    """Return the candidate that is fastest, each run once, after a first run that warms up."""
    next(iter(candidates.values()))()
    times = {}
    for name, run in candidates.items():
        times[name] = run()
        print(f"  trying {name}: {times[name]:.2f} s", flush=True)
    return min(times, key=times.get)


def matrix_rate(config: Qwen2Config, tokens: int, dtype: torch.dtype) -> float:
    """Return the flop/s that the machine reaches on a layer's seven projections of `tokens` rows.

    The best of several passes: what the machine can do, not what it did beside others.
    """
    shapes = linear_shapes(config)
    pairs = [
        (
            torch.randn(tokens, inputs, device=device(), dtype=dtype),
            torch.randn(outputs, inputs, device=device(), dtype=dtype),
        )
        for inputs, outputs in shapes
    ]

    def layer() -> None:
        for x, weight in pairs:
            linear(x, weight)

    layer()
    passes = max(3, round(1 / max(seconds_of(layer), 1e-3)))
    return (
        2 * tokens * sum(a * b for a, b in shapes) / min(seconds_of(layer) for _ in range(passes))
    )


def work(config: Qwen2Config, tokens: int, answers: int, training: bool) -> float:
    """Return the flops that rows need, for `tokens` of their own and `answers` tokens read.

    Per token 2 flops (scoring) or 4 (training: forward, and backward through frozen weights) per
    weight of the seven projections, in training also 6 per weight of the adapter; the head
    likewise, at the answers' tokens alone. The prompt, attention's scores, norms and padding count
    as no work.
    """
    shapes = linear_shapes(config)
    weights = config.num_hidden_layers * sum(a * b for a, b in shapes)
    adapter = config.num_hidden_layers * sum(LORA["r"] * (a + b) for a, b in shapes)
    head = config.hidden_size * config.vocab_size
    if training:
        return (4 * weights + 6 * adapter) * tokens + 4 * head * answers
    return 2 * weights * tokens + 2 * head * answers


# Memory ------------------------------------------------------------------------------------------


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """Return `function(*args)` from a process of its own, None where memory did not suffice."""
    gc.collect()
    torch.cuda.empty_cache()  # nothing without a GPU
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_limit_memory) as pool:
        pool.submit(int).result()  # a process that cannot even start is a crash
        try:
            return pool.submit(function, *args).result()
        except (BrokenProcessPool, MemoryError, torch.OutOfMemoryError):
            return None
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            return None


def _limit_memory() -> None:
    """Let this process fail before the machine's memory is full."""
    if not torch.cuda.is_available():
        limit = _kibibytes("/proc/self/status", "VmSize") + 0.9 * _kibibytes(
            "/proc/meminfo", "MemAvailable"
        )
        resource.setrlimit(resource.RLIMIT_AS, (int(limit * 1024),) * 2)


def _kibibytes(file: str, name: str) -> int:
    return int(
        re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(encoding="utf-8"), re.MULTILINE)[1]
    )


def memory_of(function: Callable[[], Any]) -> tuple[float, float]:
    """Return GiB in use before a call and the most that it needed beyond them.

    The GPU's where there is one, else the process's resident memory (Linux).
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return before / 2**30, (torch.cuda.max_memory_allocated() - before) / 2**30
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here
    before = _kibibytes("/proc/self/status", "VmRSS")
    function()
    return before / 2**20, (_kibibytes("/proc/self/status", "VmHWM") - before) / 2**20


# Results -----------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return the hardware and the versions that results depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.is_file() and re.search(
        r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8")
    )
    cpu = found[1] if found else platform.processor()
    memory = _kibibytes("/proc/meminfo", "MemTotal") / 2**20
    hardware = f"{describe_device()}; {cpu}, {memory:.0f} GiB of memory"
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        hardware = f"{describe_device()}, {total:.0f} GiB; {hardware.partition('; ')[2]}"
    try:
        extra = {"trl": version("trl")}
    except PackageNotFoundError:
        extra = {}
    return {"hardware": hardware, "versions": versions() | extra}


def speed(seconds: Sequence[float], rows: int) -> dict[str, Any]:
    """Return the columns of a table that say how fast `rows` were, of several times."""
    return {
        "rows/s": rows / statistics.median(seconds),
        "slowest to fastest": f"{number(rows / max(seconds))} to {number(rows / min(seconds))}",
    }


def ratio(seconds: Sequence[float], ours: Sequence[float]) -> str:
    """Return how many times as fast ours is: the median of the turns, which saw the same noise."""
    return f"{statistics.median(a / b for a, b in zip(seconds, ours, strict=True)):.2f} x"


def number(value: float | int | str | None) -> str:
    """Return a value as tables show it: three digits that count."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.3g}".rstrip(".")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    names = list(rows[0])
    cells = [names, *[[number(row[name]) for name in names] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def publish(
    name: str,
    settings: Mapping[str, Any],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    notes: Sequence[str],
    draw: Callable[[plt.Axes], None],
    variant: str = "",
) -> None:
    """Print the tables; write results/<name>*.json and .png; put them into README.md.

    `tables` are by heading; `variant` tells several runs of one benchmark apart.
    """
    gpu = torch.cuda.get_device_name().replace(" ", "-") if torch.cuda.is_available() else ""
    stem = "-".join(part for part in (name, variant, gpu) if part)
    command = " ".join(["python -m benchmarks." + name, *sys.argv[1:]])
    record = {
        "command": command,
        **machine(),
        "settings": dict(settings),
        "tables": tables,
        "notes": list(notes),
    }
    for heading, rows in tables.items():
        print(f"\n{heading}\n\n{table(rows)}")
    print("", *notes, sep="\n")
    write_json(record, FOLDER / "results" / f"{stem}.json")
    figure, axes = plt.subplots(figsize=(7, 4))
    draw(axes)
    with replacing(FOLDER / "results" / f"{stem}.png") as scratch:
        figure.savefig(scratch, dpi=120, bbox_inches="tight", format="png")
    plt.close(figure)
    update_readme(name)
    print(f"\nwrote {FOLDER / 'results' / stem}.json and .png, and {README}")


def update_readme(name: str) -> None:
    """Write the section of a benchmark, between its markers, from the JSON files of its runs."""
    files = sorted((FOLDER / "results").glob("*.json"))
    parts = []
    for file in files:
        record = read_json(file, f"run benchmarks.{name} again")
        if record["command"].split()[2] != f"benchmarks.{name}":
            continue
        kept = ("torch", "transformers", "peft", "trl", "bitsandbytes")
        known = ", ".join(f"{k} {v}" for k, v in record["versions"].items() if k in kept)
        parts.append(f"`{record['command']}` on {record['hardware']}; {known}\n")
        parts += [f"{title}:\n\n{table(rows)}\n" for title, rows in record["tables"].items()]
        parts += [f"{note}\n" for note in record["notes"]]
        parts.append(f"![{file.stem}](results/{file.stem}.png)\n")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text = README.read_text(encoding="utf-8")
    if begin not in text:
        text += f"\n## {name}.py\n\n{begin}{end}\n"
    head, rest = text.split(begin)
    write_text(head + begin + "\n".join(parts) + rest[rest.index(end) :], README)


def bars(values: Mapping[str, float], label: str) -> Callable[[plt.Axes], None]:
    """Return how to draw horizontal bars, the last of them ours."""

    def draw(axes: plt.Axes) -> None:
        names = list(values)[::-1]
        colours = ["#2b6cb0", *["#9aa5b1"] * (len(names) - 1)]
        drawn = axes.barh(names, [values[name] for name in names], color=colours)
        axes.bar_label(drawn, labels=[number(values[name]) for name in names], padding=3)
        axes.set_xlabel(label)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)

    return draw


def lines(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    y_scale: str = "log",
) -> Callable[[plt.Axes], None]:
    """Return how to draw curves over x, whose axis is logarithmic."""

    def draw(axes: plt.Axes) -> None:
        for name, y in curves.items():
            axes.plot(x, y, "--o" if "padded" in name else "-o", label=name)
        axes.set_xscale("log")
        axes.set_yscale(y_scale)
        axes.set_xticks(x, [f"{value:,}" for value in x])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(alpha=0.3)
        axes.legend()

    return draw
