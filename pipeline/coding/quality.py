"""What the evaluations of a model say of its quality."""

from pathlib import Path

from pipeline.coding.model import FoundModel
from pipeline.coding.record import Quality
from pipeline.common.codebook import Codebook
from pipeline.evaluation.runs import Run, find_runs
from pipeline.planning.judged_rows import LEARNED, model_of


def quality_of(results_dir: str, found: FoundModel, codebook: Codebook) -> list[Quality]:
    """Return the scores of a model in `results_dir`, those on rows that it learned from left out.

    A run belongs to the model where its path, its codebook and its training are the model's. Runs
    of an earlier training are named.
    """
    quality = []
    for run in find_runs(results_dir):
        if not _is_of(run, found, codebook):
            continue
        if not found.is_trained_as(model_of(run)):
            print(
                f"left out the scores in {run.folder}: they are of another training or of replies "
                f"without probabilities; run {run.made_by} again"
            )
            continue
        metrics = run.metrics
        quality.append(
            Quality(
                measured_against=run.measured_against,
                rows=metrics["total"],
                accuracy=metrics["accuracy_all_rows"],
                ci95=metrics["accuracy_all_rows_ci95"],
                macro_f1=metrics["macro_f1"],
                run=run.name,
            )
        )
    return quality


def _is_of(run: Run, found: FoundModel, codebook: Codebook) -> bool:
    """Return whether a run scores the model in a folder, by this codebook, on rows new to it."""
    path = model_of(run).path
    return (
        run.scored
        and bool(path)
        and Path(path).resolve() == Path(found.options.path).resolve()
        and run.metrics.get("codebook_sha256") == codebook.sha256
        and Path(run.metrics["test_file"]).stem not in LEARNED
    )
