"""Fuzz a target by atheris: a value or a `UserError` within seconds, anything else stops the run.

Run     python -m tests.fuzz replies --minutes 10
Keeps   .fuzz/<target>, the inputs that reached new code; .fuzz/<target>-crash-*, what failed
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import atheris

os.environ["TQDM_DISABLE"] = "1"
atheris.enabled_hooks.add("str")  # so that it learns what texts are compared with
with atheris.instrument_imports(include=["pipeline", "excel_2_csv"]):
    from tests.fuzz.targets import SEEDS, TARGETS, WORDS, run_target

LONGEST = 4_096  # bytes of an input
HANG = 10  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    kept = Path(".fuzz", args.target).resolve()
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[args.target]):
        (kept / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={round(60 * args.minutes)}", f"-timeout={HANG}"]
    limits += [f"-dict={dictionary(args.target, kept.with_suffix('.dict'))}"]
    limits += [f"-max_len={LONGEST}", "-rss_limit_mb=4096", "-print_final_stats=1"]
    target = TARGETS[args.target]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        places = [str(kept), f"-artifact_prefix={kept}-"]
        atheris.Setup([sys.argv[0], *places, *limits], lambda data: run_target(target, data))
        atheris.Fuzz()


def dictionary(target: str, path: Path) -> Path:
    """Write the words of a target as libFuzzer reads them."""
    words = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in WORDS[target])
    path.write_text("".join(f'"{word}"\n' for word in words), encoding="ascii")
    return path


if __name__ == "__main__":
    main()
