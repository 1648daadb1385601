"""The folder of a run: how it is called, and whether what it holds may be replaced."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject, check_outputs, read_json

STAGES = {  # what is scored -> how a message calls it
    "before": "before fine-tuning",
    "after": "after fine-tuning",
    "compare": "before and after fine-tuning",
}


@dataclass(frozen=True)
class PlannedRun:
    """What tells a run from another, and the folder of its results.

    Other settings, or other labels in the same file of rows, make the same run again.
    """

    folder: Path
    stage: str  # a key of STAGES
    model_path: str
    trained_path: str  # the adapter or the fine-tuned model, "" for none
    random_head: bool
    test_file: str
    max_test_samples: int  # 0 = all rows
    codebook_sha256: str  # "" = not on record


def plan_run(
    output_dir: str,
    stage: str,
    *,
    model_path: str,
    trained_path: str = "",
    random_head: bool = False,
    test_file: str,
    max_test_samples: int,
    codebook_sha256: str,
) -> PlannedRun:
    """Return a run with its folder, which `results_folder` names."""
    return PlannedRun(
        folder=results_folder(output_dir, model_path, stage, test_file),
        stage=stage,
        model_path=model_path,
        trained_path=trained_path,
        random_head=random_head,
        test_file=test_file,
        max_test_samples=max_test_samples,
        codebook_sha256=codebook_sha256,
    )


def results_folder(output_dir: str, model_path: str, stage: str, test_file: str) -> Path:
    """Return a run's folder: `output_dir`, with the parts in braces filled in.

    {model} is the name of the model's folder. {run} is the stage, and for rows of another file than
    `test.csv` that file's name too: `before-new` for `new.csv`, `before-human` for `human_test.csv`
    and, after fine-tuning, just `human`.
    """
    rows, model = Path(test_file).stem, Path(model_path).resolve().name
    run = stage + {"test": "", "human_test": "-human"}.get(rows, f"-{rows}")
    if (stage, rows) == ("after", "human_test"):
        run = "human"
    return Path(output_dir.replace("{model}", model).replace("{run}", run))


def check_results(planned: PlannedRun, rows: pd.DataFrame) -> None:
    """Stop before any work where the results could not be written, or would replace another run.

    The same run may be made again, on as many rows as before or more. Predicting new rows without a
    class leaves the evaluation of a test set alone.
    """
    check_outputs([planned.folder / "metrics.json"])
    for scored, there in runs_in(planned.folder):
        if scored and (rows["class"] < 0).all():
            raise UserError(
                f"{planned.folder} holds the scores on {there.test_file}, and {planned.test_file} "
                "has no class to score: give another --output-dir"
            )
        if not replaces(planned, there):
            other = ", by another codebook" * (not same_codebook(planned, there))
            raise UserError(
                f"{planned.folder} holds another run ({described(there)}{other}) than this one "
                f"({described(planned)}): give another --output-dir, or move that folder away"
            )


def runs_in(folder: Path) -> Iterator[tuple[bool, PlannedRun]]:
    """Yield whether it is scored, and the run itself, of the run and the comparison in a folder."""
    for name in ("metrics.json", "comparison.json"):
        file = folder / name
        record = read_json(file, f"remove {file}") if file.is_file() else {}
        if name == "metrics.json" and record:
            yield "accuracy" in record, run_on_record(folder, record, record.get("stage", ""))
        elif "after" in record:
            yield True, run_on_record(folder, record["after"], "compare")


def run_on_record(folder: Path, metrics: JsonObject, stage: str) -> PlannedRun:
    """Return the run that a metrics.json describes, also one of an older version."""
    settings = metrics.get("settings", {})
    return PlannedRun(
        folder=folder,
        stage=stage,
        model_path=metrics.get("model_path", ""),
        trained_path=metrics.get("adapter_path") or settings.get("tuned_path", ""),
        random_head=settings.get("untrained_head", False),
        test_file=metrics.get("test_file", ""),
        max_test_samples=settings.get("max_test_samples", 0),
        codebook_sha256=metrics.get("codebook_sha256", ""),
    )


def replaces(planned: PlannedRun, there: PlannedRun) -> bool:
    """Return whether a planned run is the one that is there, on as many rows or more."""
    paths = [
        [os.path.realpath(path) for path in (run.model_path, run.trained_path, run.test_file)]
        for run in (planned, there)
    ]
    limit, earlier = (run.max_test_samples or float("inf") for run in (planned, there))
    return (
        paths[0] == paths[1]
        and (planned.stage, planned.random_head) == (there.stage, there.random_head)
        and same_codebook(planned, there)
        and limit >= earlier
    )


def same_codebook(planned: PlannedRun, there: PlannedRun) -> bool:
    """Return whether the run that is there has the codebook of a planned one, as far as it says."""
    return there.codebook_sha256 in ("", planned.codebook_sha256)


def described(run: PlannedRun) -> str:
    """Return which run it is, for a message."""
    rows = f"the first {run.max_test_samples:,}" if run.max_test_samples else "all"
    return (
        f"{Path(run.model_path).name} {STAGES.get(run.stage, '')}"
        f"{f' in {run.trained_path}' * bool(run.trained_path)}"
        f"{' with a random head' * run.random_head}, {rows} rows of {run.test_file}"
    )
