"""Benchmark 8: the steps that handle rows, from ten thousand rows to a million.

A spreadsheet of generated comments, answers in the provider's format, and two runs that predicted
every row. Each step is a process of its own, whose seconds and peak memory are measured, with the
start of Python and its libraries. Time should grow with the rows and no faster. The files lie in a
temporary folder, about 3 GB for a million rows, and are removed.

Writes  results/data_growth.json and .png, and the section of README.md
Run     python -m benchmarks.data_growth   (--rows 10000,100000 takes a minute)
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from openpyxl import Workbook

from benchmarks import common
from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import Codebook, answer, read_codebook
from pipeline.common.files import write_json
from pipeline.common.tables import PART, csv_writer, read_csv_parts
from pipeline.evaluation.metrics import compute_metrics
from pre_process.sample.comments import generate_comments
from pre_process.sample.replies import completion

# ---------------------------------------------------------------------------------------------
ROWS = "10000,100000,1000000"  # sizes, each measured once
XLSX_ROWS = 100000  # step 1 reads an .xlsx too, up to this size
SEED = 42  # of the comments, the answers and the predictions
# ---------------------------------------------------------------------------------------------

ROOT = common.FOLDER.parent
COLUMNS = ["user", "date", "gender", "place", "likes", "comment"]
GENDERS, PLACES = ("女", "男", ""), ("北京", "上海", "广东", "四川", "河南", "其他")
RUNS = {"bert-after": ("bert", 0.8), "qwen-after": ("llm", 0.85)}  # family, accuracy
# A step begins as a copy of the process that starts it, whose memory would count as its own: a
# small process starts it.
START = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
status = subprocess.call(sys.argv[1:], stdout=sys.stderr)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, time.perf_counter() - begin, usage.ru_maxrss / 1024]))
"""


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    sizes = sorted(int(part) for part in settings["rows"].split(","))
    lines, pages = [], []
    for num in sizes:
        with tempfile.TemporaryDirectory() as folder:
            lines += measure(Path(folder), num, num <= settings["xlsx_rows"], settings["seed"])
            size = (Path(folder) / "results/report.html").stat().st_size / 1e6
            pages.append(f"{size:.1f} MB of {num:,} rows")
    steps = list(dict.fromkeys(line["step"] for line in lines))
    table = [with_growth(line, lines) for step in steps for line in lines if line["step"] == step]
    seconds = {step: [line["seconds"] for line in lines if line["step"] == step] for step in steps}
    curves = {step: times for step, times in seconds.items() if len(times) == len(sizes)}
    common.publish(
        "data_growth",
        settings,
        {"Steps": table},
        [
            "A process of its own for each step, with its start: about a second, and 100 to 220 MB "
            "for the libraries. Seconds a row are compared with the size before: 1 is a time that "
            "grows with the rows, and less than 1 is the start, which does not grow.",
            "The two runs that are compared, and shown on the page, have predicted all rows. The "
            f"page has {', '.join(pages)}.",
        ],
        common.lines(sizes, curves, "rows", "seconds"),
    )


def measure(study: Path, num: int, with_xlsx: bool, seed: int) -> list[dict]:
    """Return a line of the table for each step on `num` rows, in a folder of its own."""
    shutil.copy(ROOT / "prompt.txt", study)
    codebook = read_codebook(study / "prompt.txt")
    sheet, lines = study / "comments.csv", []

    def step(title: str, script: str, *options: str) -> None:
        seconds, memory = run_step(script, "--study", str(study), *options)
        lines.append({"step": title, "rows": num, "seconds": seconds, "rows/s": num / seconds})
        lines[-1]["peak memory, MB"] = memory
        print(f"  {num:,} rows, {title}: {seconds:.1f} s, {memory:.0f} MB", flush=True)

    write_sheet(sheet, num, seed)
    if with_xlsx:
        write_workbook(sheet, sheet.with_suffix(".xlsx"))
        workbook = str(sheet.with_suffix(".xlsx"))
        step("1, .xlsx", "excel_2_csv.py", "--excel-file", workbook)
    step("1, .csv", "excel_2_csv.py", "--excel-file", str(sheet))
    step("2", "batch_infer_gen.py")
    write_answers(study / "pre_process/datas", codebook, seed)
    step("3", "jsonl_to_csv.py")
    step("3b", "split_dataset.py")
    step("human sample", "human_sample.py")
    write_runs(study, codebook, seed)
    step("compare", "compare_models.py")
    step("page", "write_report.py")
    return lines


def run_step(script: str, *options: str) -> tuple[float, float]:
    """Run a script; return its seconds and peak memory in MB."""
    command = [sys.executable, "-c", START, sys.executable, str(ROOT / script), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    status, seconds, memory = json.loads(done.stdout)
    if status:
        raise RuntimeError(f"{script} stopped: {done.stderr[-2000:]}")
    return seconds, memory


def with_growth(line: dict, lines: list[dict]) -> dict:
    """Return a line with the seconds of a row, those of the next smaller size being 1."""
    smaller = [one for one in lines if one["step"] == line["step"] and one["rows"] < line["rows"]]
    growth = f"{smaller[-1]['rows/s'] / line['rows/s']:.2f}" if smaller else None
    return line | {"seconds a row, to the size before": growth}


def comment_parts(num: int, seed: int) -> Iterator[list[str]]:
    """Yield generated comments, in parts."""
    for start in range(0, num, PART):
        part = generate_comments(min(PART, num - start), seed + start)
        yield [comment for comment, _ in part]


def write_sheet(path: Path, num: int, seed: int) -> None:
    """Write a spreadsheet of generated comments as CSV."""
    rng = random.Random(seed)
    first = date(2024, 1, 1)
    with csv_writer(path, COLUMNS) as writer:
        for comments in comment_parts(num, seed):
            writer.write_rows(
                [
                    [
                        f"user{rng.randrange(num)}",
                        (first + timedelta(days=rng.randrange(366))).isoformat(),
                        rng.choice(GENDERS),
                        rng.choice(PLACES),
                        str(int(rng.lognormvariate(1.5, 1.5))),
                        comment,
                    ]
                    for comment in comments
                ]
            )


def write_workbook(source: Path, path: Path) -> None:
    """Write the rows of a CSV file as a workbook."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("comments")
    sheet.append(COLUMNS)
    for part in read_csv_parts(source, COLUMNS, "data_growth"):
        for cells in part.itertuples(index=False):
            sheet.append(list(cells))
    book.save(path)


def write_answers(folder: Path, codebook: Codebook, seed: int) -> None:
    """Write an answer to each request, in the provider's format; one in a hundred is no label."""
    rng, num_labels = random.Random(seed), len(codebook.names)
    with (folder / "silver_label_v2.jsonl").open("w", encoding="utf-8") as out:
        for file in sorted(folder.glob("inf_batch_v2*.jsonl")):
            with file.open(encoding="utf-8") as requests:
                for line in requests:
                    label = rng.randrange(num_labels) if rng.random() < 0.99 else num_labels + 3
                    request = json.loads(line)
                    record = completion(request, answer(label), "stop", num_labels, rng)
                    out.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_runs(study: Path, codebook: Codebook, seed: int) -> None:
    """Write two runs of all labelled rows: predictions.csv and metrics.json."""
    labelled = study / "pre_process/purged_labeled_v2.csv"
    names = [f"p_{name}" for name in codebook.names]
    columns = ["custom_id", "message", "class", "predicted", "reply", "confidence", *names]
    for number, (name, (family, accuracy)) in enumerate(RUNS.items()):
        rng, true, predicted = np.random.default_rng(seed + number), [], []
        folder = study / "results" / name
        with csv_writer(folder / "predictions.csv", columns) as writer:
            for part in read_csv_parts(labelled, columns[:3], "jsonl_to_csv.py"):
                labels = part["class"].to_numpy().astype(int)
                found = predictions_of(labels, accuracy, names, rng)
                rows = part[columns[:3]].reset_index(drop=True)
                writer.write_frame(pd.concat([rows, found], axis=1))
                true.append(labels)
                predicted.append(found["predicted"].to_numpy())
        metrics = compute_metrics(np.concatenate(true), np.concatenate(predicted), len(names), seed)
        metrics |= {"model": family, "family": family, "stage": "after", "settings": {}}
        metrics |= {"test_file": str(labelled), "method": "class tokens compared"}
        metrics |= {"class_names": codebook.names, "codebook_sha256": codebook.sha256}
        write_json(metrics | {"scored_rows_sha256": "all rows"}, folder / "metrics.json")


def predictions_of(
    labels: np.ndarray, accuracy: float, names: list[str], rng: np.random.Generator
) -> pd.DataFrame:
    """Return random probabilities of the classes, the label's the highest with a probability."""
    shares = rng.dirichlet(np.ones(len(names)), len(labels))
    rows, best = np.arange(len(labels)), shares.argmax(1)
    chosen = np.where(rng.random(len(labels)) < accuracy, labels, best)
    swapped = shares.copy()
    swapped[rows, chosen], swapped[rows, best] = shares[rows, best], shares[rows, chosen]
    swapped = swapped.round(6)
    table = {"predicted": chosen, "reply": "", "confidence": swapped[rows, chosen]}
    return pd.DataFrame(table | dict(zip(names, swapped.T, strict=True)))


if __name__ == "__main__":
    run(main)
