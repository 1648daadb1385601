"""Kill the steps that compute for long at random moments, start them again, compare the ends.

Each script is run once without interruption, then from the beginning again and again: killed
(SIGKILL) once to three times, and started again until it ends. What it leaves must be what the
uninterrupted run left, and no finished row is computed again. Half of the moments are a few
milliseconds after the appearance of a file or folder that is drawn from all that appeared in the
uninterrupted run. The others are spread over the time of the work, some over the whole life of the
process. Prints a table of kills by what the process was doing; the exit status is 1 where anything
differs.

Run     python -m tests.kills --times 100
"""

import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl

from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.models.kept_lines import read_lines
from tests.conftest import ROOT, write_splits

# ---------------------------------------------------------------------------------------------
TIMES = 100  # kills in all
SEED = 0  # of the moments; 0 = another each time
ONLY = ""  # scripts to kill, with commas between; empty = all
KEEP = ""  # a folder in which what differs stays
JOBS = 1  # scripts that run at once
PRELOADED = False  # start scripts as copies of one process: quicker
# ---------------------------------------------------------------------------------------------

TIMED = re.compile("seconds|per_second|runtime")
SCRATCH = re.compile(r"\.(\d+|unfinished-[0-9a-f]+)-")
RUN_OF_KEPT = re.compile(r"-\d+-\d+\.jsonl$")
THERE = re.compile(r"^.*: ([\d,]+) of [\d,]+ rows were there", re.MULTILINE)
RESULTS = ("metrics.json", "audit.json", "coded.json")  # the last files that a run writes
KNOWN = re.compile(r"^[\d,]+ of [\d,]+ comments were computed by an earlier run", re.MULTILINE)
LATEST = 0.02  # seconds from a path's appearance to the kill
LONGEST = 300  # seconds that a run may take
NEEDED_BY = {  # the trainings leave the models of others
    "finetune.py": ("posttune_eval.py",),
    "bert_tune.py": ("bert_tune_eval.py", "label_audit.py", "code_comments.py"),
}
MOST_TOLD = 5  # differences of a run
SMALL = ["--dtype", "float32"]


@dataclass(frozen=True)
class Case:
    """A script with its options; `trains` says that it goes on with --resume."""

    name: str
    script: str
    options: list[str]
    trains: bool = False


@dataclass(frozen=True)
class Timeline:
    """When each path first appeared in a run, and when the run ended, in seconds."""

    appeared: dict[str, float]
    end: float


@dataclass
class Tally:
    """What became of the runs of a script."""

    phases: Counter = field(default_factory=Counter)
    runs: int = 0
    kept: int = 0
    differences: list[str] = field(default_factory=list)


def cases(shared: Path) -> list[Case]:
    """Return the scripts to kill; those that evaluate take what the trainings left in `shared`."""
    splits = [f"--{name}-file={shared}/data/{name}.csv" for name in ("train", "validation")]
    test = [f"--test-file={shared}/data/test.csv", "--output-dir=out"]
    causal = [f"--model-path={shared}/qwen2", "--no-load-in-4bit", *SMALL]
    encoder = [f"--model-path={shared}/bert", *SMALL]
    training = [*splits, "--output-dir=out", "--logging-steps=5"]
    tuned = f"--tuned-path={shared}/bert_tune/out/final_model"
    audit = [f"--labeled-file={shared}/data/audit.csv", "--splits-dir=", "--audit-dir=out"]
    audit += [*encoder, "--folds=3", "--max-length=64"]
    sheet = [*SMALL, f"--excel-file={shared}/data/test.csv", "--text-column=message"]
    sheet += [f"--model={shared}/bert_tune/out/final_model", "--output-dir=out"]
    sheet += ["--output-file=out/{name}_coded{suffix}", "--check-below=0.6", "--batch-size=4"]
    return [
        Case(
            "finetune.py",
            "finetune.py",
            [*causal, *training, "--learning-rate=2e-3", "--per-device-train-batch-size=8"],
            trains=True,
        ),
        Case(
            "bert_tune.py",
            "bert_tune.py",
            [*encoder, *training, "--learning-rate=1e-3", "--num-train-epochs=5"]
            + ["--per-device-train-batch-size=8", "--max-length=64"],
            trains=True,
        ),
        Case(
            "local_inference.py",
            "local_inference.py",
            [*causal, *test, "--decoding=generate", "--batch-size=8", "--max-new-tokens=12"],
        ),
        Case(
            "posttune_eval.py",
            "posttune_eval.py",
            [*causal, *test, f"--adapter-path={shared}/finetune/out/final_model"]
            + ["--decoding=score", "--max-tokens-per-pack=700"],
        ),
        Case("bert_tune_eval.py", "bert_tune_eval.py", [*SMALL, *test, tuned, "--batch-size=4"]),
        Case("code_comments.py", "code_comments.py", sheet),
        Case("label_audit.py", "label_audit.py", [*audit, "--batch-size=8"]),
        Case("label_audit.py, tune", "label_audit.py", [*audit, tuned, "--audit-method=tune"]),
    ]


def build(shared: Path) -> None:
    """Write tiny models and data: real architectures with a few steps of pre-training."""
    from pre_process.sample.comments import generate_comments
    from pre_process.sample.tiny_bert import build_bert
    from pre_process.sample.tiny_qwen2 import build_qwen2

    comments, size = generate_comments(400, seed=1), {"hidden_size": 64, "num_layers": 2}
    codebook = read_codebook(str(ROOT / "prompt.txt"))
    build_qwen2(shared / "qwen2", codebook, comments, pretrain_steps=20, **size)
    build_bert(shared / "bert", comments, pretrain_steps=20, **size)
    write_splits(shared / "data", 3, train=96, validation=32, test=96, audit=96)


class Run:
    """A folder in which a script runs, is killed and runs again."""

    def __init__(self, case: Case, folder: Path, preloaded: bool):
        self.case, self.folder, self.preloaded = case, folder, preloaded
        self.out, self.temporary = folder / "out", folder / "tmp"
        self.temporary.mkdir(parents=True)
        shutil.copy(ROOT / "prompt.txt", folder)

    def start(self, *more: str) -> "Process":
        """Start the script, with `more` options."""
        argv = [str(ROOT / self.case.script), *self.case.options, *more]
        environment = {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        environment["PYTHONUNBUFFERED"] = "1"
        kind = Forked if self.preloaded else Fresh
        return kind(argv, self.folder, environment)

    def paths(self) -> set[str]:
        """Return the names of everything in the output and in the folder for temporary files.

        The parts of names that every run makes anew are stars.
        """
        return {normal(path) for path in self.own_paths()}

    def own_paths(self) -> set[str]:
        """Return the names as they are."""
        return {
            f"{place.name}/{path}"
            for place in (self.out, self.temporary)
            for path in tree(str(place))
        }

    def kept_rows(self) -> Counter:
        """Return how often each row is there among those that killed processes have finished."""
        rows = Counter()
        for path in self.out.glob("unfinished/*.jsonl"):
            part = path.name.rpartition("-")[0].rpartition("-")[0]
            for line in read_lines(path):
                rows.update((part, row) for row in (line or {}).get("rows", ()))
        return rows


def tree(folder: str, before: str = "") -> Iterator[str]:
    """Yield the path of everything below a folder, from which a process may remove things."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        yield before + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from tree(entry.path, f"{before}{entry.name}/")


def normal(path: str) -> str:
    path = re.sub(r"^tmp/[^/]*", "tmp/*", path)
    return RUN_OF_KEPT.sub("-*.jsonl", SCRATCH.sub(".*-", path))


class Fresh:
    """A script started as users start it."""

    def __init__(self, argv: list[str], folder: Path, environment: dict[str, str]):
        self.said = folder / "said.txt"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=folder,
                env=os.environ | environment,
                stdout=said,
                stderr=said,
            )

    def status(self) -> int | None:
        return self.process.poll()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Forked:
    """A script in a copy of this process, which has imported the libraries."""

    def __init__(self, argv: list[str], folder: Path, environment: dict[str, str]):
        self.said, self.ended = folder / "said.txt", None
        self.process = os.fork()
        if self.process == 0:
            with self.said.open("wb") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            os.chdir(folder)
            os.environ |= environment
            sys.stdout.reconfigure(line_buffering=True)
            tempfile.tempdir = None
            sys.argv = argv
            ends_with(lambda: runpy.run_path(argv[0], run_name="__main__"))

    def status(self) -> int | None:
        if self.ended is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            self.ended = os.waitstatus_to_exitcode(status) if process else None
        return self.ended

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        self.ended = os.waitstatus_to_exitcode(status)


Process = Fresh | Forked


def ends_with(work: Callable[[], object]) -> None:
    """Do something in a forked process, and end it."""
    status = 1
    try:
        work()
        status = 0
    except SystemExit as end:  # with a line, where users are to mend something
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if sys.exc_info()[0] is not None:  # os._exit shows no traceback
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def uninterrupted(run: Run) -> Timeline:
    """Run a script to its end; return what appeared when."""
    began, appeared, process = time.monotonic(), {}, run.start()
    while process.status() is None:
        for path in run.paths() - appeared.keys():
            appeared[path] = time.monotonic() - began
        time.sleep(0.001)
    if process.status():
        raise SystemExit(f"{run.case.name} failed uninterrupted:\n{process.said.read_text()}")
    return Timeline(appeared, time.monotonic() - began)


def killed_after(run: Run, process: Process, timeline: Timeline, rng: random.Random) -> bool:
    """Kill a process at a random moment; return False where it ended before that."""
    there, began = run.paths(), time.monotonic()
    awaited = sorted(timeline.appeared.keys() - there)
    drawn = rng.random()
    path, moment = "", rng.uniform(0, timeline.end)
    if awaited and drawn < 0.5:
        path, moment = rng.choice(awaited), rng.choice([0, LATEST / 10, LATEST]) * rng.random()
    elif drawn < 0.9:
        moment = rng.uniform(min(timeline.appeared.values()), timeline.end)
    while process.status() is None and time.monotonic() - began < LONGEST:
        if path and path in run.paths():
            path, began = "", time.monotonic()
        if not path and time.monotonic() - began >= moment:
            process.kill()
            return process.status() == -signal.SIGKILL
        time.sleep(0.0005)
    if process.status() is None:
        process.kill()
        raise SystemExit(f"{run.case.name} took more than {LONGEST} s")
    return False


def phase(case: Case, before: set[str], after: set[str], said: str) -> str:
    """Return what a process was doing when it was killed, by what was there before and after it."""
    new = after - before
    scratch = {path for path in new if SCRATCH.search(path)}
    if case.trains:
        if "out/final_model/training.json" in after:
            return "after final_model was there"
        if any("final_model" in path for path in scratch):
            return "while final_model was written"
        if any(re.search(r"-old\b", path) for path in scratch):
            return "while an old checkpoint was removed"
        if any("checkpoint" in path for path in scratch):
            return "while a checkpoint was written"
        if "rows as tokens" not in said:
            return "at the start"
        if not any(path.startswith("out/checkpoint-") for path in after):
            return "before the first checkpoint"
        return "between checkpoints"
    if {f"out/{name}" for name in RESULTS} & after:
        return "after the results were there"
    if any(re.search(r"-fold\b", path) for path in new):
        return "in a fold's training"
    if any(path.startswith("out/") and not path.startswith("out/unfinished") for path in new):
        return "while the results were written"
    if any(path.startswith("out/unfinished/") for path in new):
        return "in the rows"
    return "at the start"


def kill_and_go_on(
    run: Run, whole: Run, timeline: Timeline, rng: random.Random, tally: Tally, kills: int
) -> None:
    """Kill a run `kills` times, let it end, and note what it was doing and what differs."""
    options = []
    while True:
        before, kept = run.own_paths(), run.kept_rows()
        process = run.start(*options)
        if kills and killed_after(run, process, timeline, rng):
            kills -= 1
            said = process.said.read_text(errors="replace")
            tally.phases[phase(run.case, before, run.own_paths(), said)] += 1
            rows = run.kept_rows()
            if twice := [row for row, times in rows.items() if times > 1]:
                tally.differences.append(f"{len(twice)} rows were computed twice")
            complete = any((run.out / name).exists() for name in RESULTS)
            if lost := set() if complete else kept.keys() - rows.keys():
                tally.differences.append(f"{len(lost)} kept rows were lost")
            options = ["--resume"] if run.case.trains and goes_on(run, rng) else []
            continue
        while process.status() is None:
            time.sleep(0.01)
        said = process.said.read_text(errors="replace")
        if run.case.trains and (cure := next_options(run, said, options)) is not None:
            options = cure
            continue
        break
    tally.runs += 1
    if process.status() and not is_complete(run, said):
        tally.differences.append(f"ended with status {process.status()}: {said.strip()[-500:]}")
        return
    there = sum(int(number.replace(",", "")) for number in THERE.findall(said))
    if there != len(kept) and not KNOWN.search(said):
        tally.differences.append(f"{len(kept)} rows had been finished, {there} were used")
    tally.kept += there
    tally.differences += [f"{run.case.name}: {text}" for text in differences(whole, run)]


def goes_on(run: Run, rng: random.Random) -> bool:
    """Return whether to add --resume: mostly where there is a checkpoint, at times wrongly."""
    return any(run.out.glob("checkpoint-*")) != (rng.random() < 0.15)


def next_options(run: Run, said: str, options: list[str]) -> list[str] | None:
    """Return the options that a training's last line asks for, None where it asks for none."""
    line = said.strip().rpartition("\n")[2]
    if "start without --resume" in line and options:
        return []
    if "go on with --resume" in line and not options:
        return ["--resume"]
    return None


def is_complete(run: Run, said: str) -> bool:
    """Return whether a training says that nothing is left to be done."""
    return run.case.trains and "final_model" in said.strip().rpartition("\n")[2]


def differences(whole: Run, run: Run) -> list[str]:
    """Return in what the outputs of two runs differ, times aside."""
    first, second = whole.paths(), run.paths()
    found = [f"{path} is missing" for path in sorted(first - second)]
    found += [f"{path} is left" for path in sorted(second - first)]
    for path in sorted(first & second):
        files = [folder.folder / path for folder in (whole, run)]
        if files[0].is_file() and content(files[0]) != content(files[1]):
            found.append(f"{path} differs")
    return found[:MOST_TOLD]


def content(path: Path) -> object:
    """Return what a file holds, without times, its own place and the option --resume."""
    if path.name == "decision_serve.json":
        served = json.loads(path.read_bytes())
        return served | {"adapter": Path(served["adapter"]).name}
    if path.name == "README.md":
        return path.read_text(encoding="utf-8").replace("- resume: True", "- resume: False")
    if path.name == "complete.json":
        hashes = json.loads(path.read_bytes())["files"]
        return hashes | {"trainer_state.json": "", "training_args.bin": ""}
    if path.suffix == ".json":
        return without_times(json.loads(path.read_bytes()))
    if path.suffix == ".xlsx":
        book = openpyxl.load_workbook(path)
        return [list(sheet.iter_rows(values_only=True)) for sheet in book]
    if path.suffix == ".txt":
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if "rows/s" not in line]
    return b"" if path.name == "training_args.bin" else path.read_bytes()


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: without_times(part)
            for key, part in value.items()
            if not TIMED.search(key) and key != "resume"
        }
    return [without_times(part) for part in value] if isinstance(value, list) else value


def kill_all(
    folder: Path, times: int, seed: int, only: list[str], preloaded: bool, jobs: int
) -> dict[str, Tally]:
    """Run all scripts whole, then kill them `times` times in all; return what became of each."""
    shared = folder / "shared"
    builder = os.fork()
    if builder == 0:
        os.environ["OMP_NUM_THREADS"] = "1"
        ends_with(lambda: build(shared))
    if os.waitpid(builder, 0)[1]:
        raise SystemExit("the models could not be built")
    wholes, tallies = {}, {}
    for case in cases(shared):
        if only and not {case.script, *NEEDED_BY.get(case.script, ())} & set(only):
            continue
        run = Run(case, shared / case.name.removesuffix(".py"), preloaded)
        wholes[case.name] = run, uninterrupted(run)
        print(f"{case.name}: {wholes[case.name][1].end:.1f} s uninterrupted", flush=True)
        if not only or case.script in only:
            tallies[case.name] = Tally()

    def play(number: int, name: str, kills: int) -> None:
        rng = random.Random(f"{seed}-{number}")
        whole, timeline = wholes[name]
        run = Run(whole.case, folder / f"{number}", preloaded)
        tally, known = tallies[name], len(tallies[name].differences)
        kill_and_go_on(run, whole, timeline, rng, tally, kills)
        print(f"{number}: {name}: {len(tally.differences) - known} differences", flush=True)
        if len(tally.differences) == known:
            shutil.rmtree(run.folder)

    rng, names, number, left = random.Random(seed), list(tallies), 0, times
    with ThreadPoolExecutor(jobs) as workers:
        while left > 0:
            done = []
            for name in names:
                kills = min(rng.choice([1, 1, 2, 3]), left)
                if kills:
                    done.append(workers.submit(play, number, name, kills))
                    number, left = number + 1, left - kills
            for one in done:
                one.result()
            left = times - sum(tally.phases.total() for tally in tallies.values())
    return tallies


def table(tallies: dict[str, Tally]) -> Iterator[str]:
    """Yield the lines of the table: kills by what the process was doing, and the outcomes."""
    for name, tally in tallies.items():
        yield f"{name}: {tally.phases.total()} kills in {tally.runs} runs"
        for what, kills in sorted(tally.phases.items()):
            yield f"    {kills:3} {what}"
        if tally.kept:
            yield f"    {tally.kept:,} finished rows were there at the end and not computed again"
        alike = "all ended as the uninterrupted one"
        yield f"    {'; '.join(tally.differences) or alike}"
    kills = sum(tally.phases.total() for tally in tallies.values())
    different = sum(len(tally.differences) for tally in tallies.values())
    yield f"{kills} kills, {different} differences"


@contextmanager
def work_folder(kept: str) -> Iterator[Path]:
    """Yield a folder to work in, a temporary one where none is given."""
    if kept:
        yield Path(kept).resolve()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    seed = args.seed or random.SystemRandom().randrange(1, 10**6)
    print(f"--seed {seed}", flush=True)
    if args.preloaded:
        preload()
    began, only = time.monotonic(), args.only.split(",") if args.only else []
    with work_folder(args.keep) as folder:
        tallies = kill_all(folder, args.times, seed, only, args.preloaded, args.jobs)
    print("\n".join(table(tallies)), f"in {time.monotonic() - began:.0f} s")
    sys.exit(any(tally.differences for tally in tallies.values()))


def preload() -> None:
    """Import what the scripts import, and compute nothing: processes are made as copies."""
    import peft  # noqa: F401
    import torch

    from pipeline.audit import probabilities, suspects  # noqa: F401
    from pipeline.llm import adapter, evaluate, training  # noqa: F401

    torch.set_num_threads(1)


if __name__ == "__main__":
    run(main)
