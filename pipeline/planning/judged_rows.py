"""The held-out rows that a plan is measured on: the run, and what others say of its rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json
from pipeline.common.records import read_record
from pipeline.common.rows import find_rows, read_messages
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.runs import HUMAN, Run, read_runs, run_of
from pipeline.people.record import RECORD_FILE, SAMPLE_FILE, Sample
from pipeline.planning.plan import Model

READ_FOR_PRICE = 1_000  # messages, where the price of a request is an estimate
LEARNED = ("train", "validation")  # files of rows that a model was fitted to


@dataclass(frozen=True)
class JudgedRows:
    """Held-out rows and who is wrong about them, all (rows,).

    `teacher_wrong` is None where the teacher's labels are the ones that the rows are judged by, or
    where they are not known (`teacher_known`). `messages` are some of the rows', for a price.
    """

    confidence: np.ndarray
    model_wrong: np.ndarray
    teacher_wrong: np.ndarray | None
    teacher_known: bool
    weights: np.ndarray
    messages: list[str]

    def __len__(self) -> int:
        return len(self.confidence)


def model_of(run: Run) -> Model:
    """Return the model of a run."""
    metrics = run.metrics
    tuned = metrics.get("adapter_path") or metrics["settings"].get("tuned_path")
    path = tuned or metrics.get("model_path", "")
    training = metrics.get("training_sha256", "")
    return Model(run.model, path, metrics["temperature"] or 1.0, training)


def find_run(results_dir: str, folder: str, model_path: str, codebook: Codebook) -> Run:
    """Return the run in `folder`, or where that is "" the one to plan by.

    That is one of the tuned model in `model_path`, against people's labels where there is one, else
    on the silver test rows. With an empty path, there must be runs of one model alone. Raises
    UserError where there is no such run, or it is of another model, by another codebook or on rows
    without a class.
    """
    if folder:
        metrics = read_json(Path(folder) / "metrics.json", "give --run the folder of an evaluation")
        run = run_of(Path(folder), metrics)
        _refuse_untuned(run, model_path)
    else:
        run = _choose(read_runs(results_dir), results_dir, model_path, codebook)
    if run.metrics.get("codebook_sha256") != codebook.sha256:
        raise UserError(
            f"{run.folder} was evaluated with another codebook than {codebook.path}: run "
            f"{run.made_by} again, or give --prompt-file that one"
        )
    if not run.scored:
        raise UserError(f"{run.folder} has no class to judge a row by: give --run another folder")
    if _rows_of(run) in LEARNED:
        raise UserError(
            f"{run.folder} is on {run.metrics['test_file']}, which the model was fitted to: give "
            "--run a run on held-out rows"
        )
    return run


def _refuse_untuned(run: Run, model_path: str) -> None:
    """Refuse a run whose model cannot code the rows, or is not the one in `model_path`."""
    if run.stage != "after":
        raise UserError(
            f"{run.folder} is from before fine-tuning, and only a tuned model codes comments: give "
            "--run a run of a tuned model"
        )
    path = model_of(run).path
    if model_path and Path(path).resolve() != Path(model_path).resolve():
        raise UserError(
            f"{run.folder} is a run of {path}, and not of {model_path}: give --run another folder, "
            f"or --model {path}"
        )


def _rows_of(run: Run) -> str:
    """Return the name of the file that a run is on, without its ending."""
    return Path(run.metrics["test_file"]).stem


def _choose(runs: list[Run], results_dir: str, model_path: str, codebook: Codebook) -> Run:
    tuned = [
        run for run in runs if run.stage == "after" and run.scored and _rows_of(run) not in LEARNED
    ]
    if model_path:
        same = Path(model_path).resolve()
        tuned = [run for run in tuned if Path(model_of(run).path).resolve() == same]
    if not tuned:
        of = f" of {model_path}" if model_path else ""
        raise UserError(
            f"{results_dir} holds no scored run after fine-tuning{of}: run posttune_eval.py or "
            "bert_tune_eval.py first"
        )
    mine = [run for run in tuned if run.metrics.get("codebook_sha256") == codebook.sha256] or tuned
    if len(paths := {Path(model_of(run).path).resolve(): model_of(run).path for run in mine}) > 1:
        raise UserError(
            f"{results_dir} holds runs of several models: give --model one of "
            f"{', '.join(sorted(paths.values()))}"
        )
    best = [run for run in mine if run.label_source == HUMAN] or mine
    named = [run for run in best if _rows_of(run) in ("human_test", "test")]
    if len(found := named or best) > 1:
        raise UserError(
            f"{results_dir} holds several runs to plan by: give --run one of "
            f"{', '.join(sorted(str(run.folder) for run in found))}"
        )
    return found[0]


def read_judged(run: Run, codebook: Codebook, sheets_dir: str) -> JudgedRows:
    """Return a run's rows, judged by their class.

    Against silver labels the teacher is right by definition, and rows of the file that people coded
    are left out, as no model codes such a row. Against people, the teacher is judged by the labels
    in the sample.csv of `sheets_dir`, of which the rows were drawn, where it has them all. Raises
    UserError for a run without probabilities, and where no row is left.
    """
    predictions = read_predictions(run).scored
    frame = predictions.frame
    if frame["confidence"].isna().any():
        option = " with --decoding score" if run.family == "llm" else " again"
        raise UserError(
            f"{run.predictions_file} has no probabilities, which a plan needs: run "
            f"{run.made_by}{option}"
        )
    by_people = run.label_source == HUMAN
    places = np.flatnonzero(by_people | ~frame["human"].to_numpy())
    if len(places) < len(frame):
        print(
            f"  left out {len(frame) - len(places):,} rows that people coded: no model codes them"
        )
    frame = frame.iloc[places]
    if not len(frame):
        raise UserError(f"{run.predictions_file} has no row to judge: give --run another folder")
    teacher_wrong = None
    if by_people:
        silver = _silver_labels(predictions.texts(places), sheets_dir, codebook)
        if silver is not None:
            teacher_wrong = silver != frame["class"].to_numpy()
    return JudgedRows(
        confidence=frame["confidence"].to_numpy(float),
        model_wrong=(frame["class"] != frame["predicted"]).to_numpy(),
        teacher_wrong=teacher_wrong,
        teacher_known=teacher_wrong is not None or not by_people,
        weights=frame["weight"].to_numpy(float),
        messages=predictions.texts(places[:READ_FOR_PRICE])["message"].tolist(),
    )


def _silver_labels(rows: pd.DataFrame, sheets_dir: str, codebook: Codebook) -> np.ndarray | None:
    """Return the silver labels that people's sample has of some rows, None where one lacks."""
    folder = Path(sheets_dir)
    if not all((folder / name).is_file() for name in (RECORD_FILE, SAMPLE_FILE)):
        return None
    record = read_record(folder / RECORD_FILE, Sample, "put back the file as it was")
    if record.codebook_sha256 != codebook.sha256:
        return None
    drawn = read_messages(folder / SAMPLE_FILE, "human_sample.py", codebook, labelled=True)
    places = find_rows(rows, drawn)
    return None if (places < 0).any() else drawn["class"].to_numpy()[places]
