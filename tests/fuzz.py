"""Fuzz a reader by atheris: a value or a `UserError` within seconds; anything else stops the run.

Keeps   .fuzz/<target>, the inputs that reached new code; .fuzz/<target>-crash-*, what failed
Run     python -m tests.fuzz --target replies --minutes 10   (on Linux; pip install atheris==3.0.0)
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

from pipeline.common.cli import UserError, parse_settings, run

# ---------------------------------------------------------------------------------------------
TARGET = "replies"  # codebook, requests, answers, messages, comments, ledger: see fuzz_targets.py
MINUTES = 10.0  # how long
MAX_BYTES = 4_096  # of an input
TIMEOUT = 10  # seconds: an input that takes longer is a hang
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    os.environ["TQDM_DISABLE"] = "1"
    atheris.enabled_hooks.add("str")  # so that it learns what texts are compared with
    with atheris.instrument_imports(include=["pipeline", "excel_2_csv"]):
        from tests.fuzz_targets import SEEDS, TARGETS, WORDS, run_target
    if args.target not in TARGETS:
        raise UserError(f"--target {args.target}: give one of {', '.join(TARGETS)}")
    kept = Path(".fuzz", args.target).resolve()
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[args.target]):
        (kept / f"seed-{number}").write_bytes(seed)
    options = {
        "dict": write_dictionary(WORDS[args.target], kept.with_suffix(".dict")),
        "artifact_prefix": f"{kept}-",
        "max_total_time": round(60 * args.minutes),
        "max_len": args.max_bytes,
        "timeout": args.timeout,
        "rss_limit_mb": 4096,
        "print_final_stats": 1,
    }
    options = [f"-{name}={value}" for name, value in options.items()]
    target = TARGETS[args.target]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        atheris.Setup([sys.argv[0], str(kept), *options], lambda data: run_target(target, data))
        atheris.Fuzz()


def write_dictionary(words: tuple[str, ...], path: Path) -> Path:
    """Write words that a fuzzer puts in, as libFuzzer reads them."""
    escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in words)
    path.write_text("".join(f'"{word}"\n' for word in escaped), encoding="ascii")
    return path


if __name__ == "__main__":
    run(main)
