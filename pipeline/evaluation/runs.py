"""The runs: the reader of the metrics.json that evaluation steps leave."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.files import read_json
from pipeline.evaluation.learned import JUDGED_BY, verdict

EVALUATED_BY = {  # (family, stage) -> the step that makes such a run
    ("llm", "before"): "local_inference.py",
    ("llm", "after"): "posttune_eval.py",
    ("bert", "before"): "bert_eval.py",
    ("bert", "after"): "bert_tune_eval.py",
}
SILVER, HUMAN = "silver labels", "human coders"
MIXED = f"{SILVER} and {HUMAN}"
SCORE_NAMES = {  # what a score is against -> how the texts call it
    SILVER: "agreement with silver labels",
    HUMAN: "accuracy against human coders",
    MIXED: "agreement with labels of which some are silver, and some by human coders",
}
NEEDED = ("model", "family", "stage", "test_file", "method", "settings", "class_names")
NEEDED_SCORES = ("total", "valid", "valid_rate", "accuracy_all_rows", "confusion_matrix")
OPTIONAL = (  # what an older version did not write, or not every run has: None
    *("accuracy_ci95", "accuracy_weighted", "accuracy_weighted_ci95", "accuracy_all_rows_ci95"),
    *("macro_f1", "macro_f1_ci95", "cohen_kappa", "cohen_kappa_ci95", "ece", "temperature"),
    *("majority_class", "majority_baseline", "rows_per_second", "scored_rows_sha256"),
    *("human_rows", "accuracy_human_rows", "accuracy_human_rows_ci95"),
    *("warning", "what_to_try"),
)


@dataclass(frozen=True)
class Run:
    """One folder of results: what a model predicted for a file of rows, and its scores.

    `metrics` is what metrics.json holds, None for a score that it lacks. A run of rows without a
    class has no scores. `distinction` tells runs of a model at the same stage apart: "human
    coders" where all labels that the scores are against are theirs, the folder's name where that is
    not enough or there are no scores, else "".
    """

    folder: Path
    model: str
    family: str  # llm or bert
    stage: str  # before or after fine-tuning
    class_names: tuple[str, ...]
    label_source: str  # a key of SCORE_NAMES
    measured_against: str  # what the scores are, with the file of the labels
    weighted: bool  # the scores count each row for those of the data set that it stands for
    metrics: dict
    distinction: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def made_by(self) -> str:
        """The script that makes such a run."""
        return EVALUATED_BY[self.family, self.stage]

    @property
    def scored(self) -> bool:
        """Whether rows had a class to score the predictions by."""
        return "accuracy" in self.metrics

    @property
    def predictions_file(self) -> Path:
        """Where the predictions stand, row by row."""
        return self.folder / "predictions.csv"

    @property
    def labels(self) -> str:
        """Whose labels the scores are against, and whether the scores are weighted."""
        return f"{self.label_source}{', weighted' * self.weighted}"

    @property
    def display_name(self) -> str:
        """The model's name in tables and figures, as in "bert-base-chinese (human coders)"."""
        return f"{self.model}{self._distinction_in_brackets}"

    @property
    def short_title(self) -> str:
        """The run among those of its model, as in "after fine-tuning (human coders)"."""
        return f"{self.stage} fine-tuning{self._distinction_in_brackets}"

    @property
    def title(self) -> str:
        """The run among all: the model, the stage, and the distinction."""
        return f"{self.model} {self.short_title}"

    @property
    def _distinction_in_brackets(self) -> str:
        return f" ({self.distinction})" if self.distinction else ""


def read_runs(results_dir: str | Path) -> list[Run]:
    """Return the runs of a folder as `find_runs` does; raises UserError where none is scored."""
    records = _read_records(results_dir)
    if not any("accuracy" in metrics for metrics in records.values()):
        *first, last = EVALUATED_BY.values()
        raise UserError(
            f"{results_dir} holds no scored run (*/metrics.json): run {', '.join(first)} or {last} "
            "first"
        )
    return _runs_of(records)


def find_runs(results_dir: str | Path) -> list[Run]:
    """Return the runs of a folder: causal LMs first, a model's runs together, "before" first.

    Raises UserError where a metrics.json lacks what every version wrote.
    """
    return _runs_of(_read_records(results_dir))


def _read_records(results_dir: str | Path) -> dict[Path, dict]:
    """Return what metrics.json says, by the run's folder."""
    files = sorted(Path(results_dir).glob("*/metrics.json"))
    return {file.parent: read_json(file, "run its evaluation step again") for file in files}


def _runs_of(records: dict[Path, dict]) -> list[Run]:
    runs = [run_of(folder, metrics) for folder, metrics in records.items()]
    runs.sort(key=lambda run: (run.family != "llm", run.model, run.stage == "after"))
    return with_distinctions(runs)


def run_of(folder: Path, metrics: dict) -> Run:
    """Return the run that a metrics.json describes, also one of an older version."""
    file = folder / "metrics.json"
    needed = NEEDED + NEEDED_SCORES * ("accuracy" in metrics)
    if missing := [key for key in needed if key not in metrics]:
        raise UserError(f"{file} lacks {missing[0]}: run its evaluation step again")
    family, stage = metrics["family"], metrics["stage"]
    if (family, stage) not in EVALUATED_BY:
        raise UserError(
            f"{file}: family {family!r} and stage {stage!r} are those of no step: run its "
            "evaluation step again"
        )
    if "warning" not in metrics and metrics.keys() >= JUDGED_BY:  # an older version's
        metrics = metrics | verdict(metrics, metrics["class_names"], stage)
    source = metrics.get("label_source", SILVER)
    against = metrics.get("measured_against") if "label_source" in metrics else None
    return Run(
        folder=folder,
        model=metrics["model"],
        family=family,
        stage=stage,
        class_names=tuple(metrics["class_names"]),
        label_source=source,
        measured_against=against or score_name(source, metrics["test_file"]),
        weighted=metrics.get("weighted", False),
        metrics=dict.fromkeys(OPTIONAL) | metrics,
    )


def score_name(label_source: str, test_file: str) -> str:
    """Return what a score against some labels is, and the file of the labels."""
    return f"{SCORE_NAMES[label_source]} ({test_file})"


def mixed_score_name(human_rows: int, silver_rows: int, test_file: str) -> str:
    """Return what a score is where people coded some of the rows, and the file of the labels."""
    rows = f"{human_rows:,} human, {silver_rows:,} silver rows"
    return f"agreement with the labels of {rows} ({test_file})"


def with_distinctions(runs: list[Run]) -> list[Run]:
    """Return the runs, each with a distinction where its title would be another's."""
    found: dict[tuple, Run] = {}
    for run in runs:
        distinction = HUMAN * (run.label_source == HUMAN) if run.scored else run.name
        if (run.model, run.stage, distinction) in found:
            distinction = ", ".join(filter(None, (distinction, run.name)))
        found[run.model, run.stage, distinction] = replace(run, distinction=distinction)
    return list(found.values())


def on_same_rows(runs: Iterable[Run]) -> list[list[Run]]:
    """Return scored runs in groups that were scored on the same rows with the same classes.

    A run of an older version, which does not say its rows, is a group of its own.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.metrics["scored_rows_sha256"] or run.name, []).append(run)
    return list(groups.values())
