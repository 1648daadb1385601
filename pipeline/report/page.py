"""The page: one HTML file that holds its data, pictures, style and script."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Template, Undefined
from markupsafe import Markup

from pipeline.evaluation.learned import MARK
from pipeline.evaluation.run_text import class_scores
from pipeline.evaluation.runs import MIXED, Run
from pipeline.report.methods import teachers_of, write_methods
from pipeline.report.model_sentences import method_of, package_versions, trainings_of
from pipeline.report.study import Study, inconsistencies, not_done
from pipeline.report.words import as_text

LONGEST_REPLY = 200  # letters of an invalid reply that the page shows
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def render_page(
    study: Study, predictions: dict[str, pd.DataFrame], pictures: dict[str, Path], title: str
) -> str:
    """Return the page. `predictions` holds `read_predictions` tables by run, where there are some.

    Everything from a file is escaped: text by the template, the data by `embedded`.
    """
    data = prediction_data(study, predictions)
    all_runs = [*study.runs, *study.unscored]
    records = [run.metrics for run in all_runs] + trainings_of(study, all_runs)
    return (
        page_template("page.html.jinja").render(
            title=title,
            study=study,
            titles=study.titles,
            labels={run.name: run.labels for run in study.runs},
            class_scores=class_scores,
            pictures={name: picture_uri(path) for name, path in pictures.items()},
            descriptions=descriptions(study),
            teachers=teachers_of(study.labels) if study.labels else "a model",
            methods=write_methods(study),
            not_done=not_done(study),
            doubts=inconsistencies(study),
            mark=MARK,
            records=settings_records(study),
            versions=package_versions(records),
            comments=len({row[:2] for row in data["rows"]}),
            data=embedded(data),
        )
        + "\n"
    )


@cache
def page_template(name: str) -> Template:
    """Return a page's template, with the filters that templates use."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=ChainableUndefined,  # what an older file lacks is shown as a dash
    )
    environment.filters |= {
        "as_text": text_or_dash,
        "shaded": shaded,
        "sha256": script_hash,
        "method": method_sentence,
    }
    return environment.get_template(name)


def text_or_dash(value: Any, form: str = "") -> str:
    """Return a value as `as_text` does, a dash where a file lacks it."""
    return "–" if isinstance(value, Undefined) else as_text(value, form)


def method_sentence(run: Run) -> str:
    """Return how a run predicts, as the beginning of a sentence."""
    method = method_of(run)
    return method[:1].upper() + method[1:]


def embedded(value: Any) -> Markup:
    """Return JSON for a <script> element: no text in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(UNSAFE))


def script_hash(script: str) -> str:
    """Return the SHA-256 of a script as a Content-Security-Policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def picture_uri(path: Path) -> str:
    """Return a PNG file as a data: URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def prediction_data(study: Study, predictions: dict[str, pd.DataFrame]) -> dict:
    """Return the rows once, and what each run predicted on them, in the order of the rows.

    A run's `predicted` is a class, -1 (invalid) or None (not among its rows), its `confidence` in
    ten thousandths or None; `replies` holds the invalid replies by row, `human` the rows
    that people coded where the others are silver.
    """
    places: dict[tuple, int] = {}
    for frame in predictions.values():
        for row in zip(frame.index, frame["message"], frame["class"], strict=True):
            places.setdefault(row, len(places))
    predicted_runs = [run for run in study.runs if run.name in predictions]
    best = max(
        predicted_runs,
        key=lambda run: (run.metrics["total"], run.metrics["accuracy_all_rows"]),
        default=None,
    )
    return {
        "classes": list(study.codebook.names),
        "rows": list(places),
        "runs": [run_data(run, predictions[run.name], places) for run in predicted_runs],
        "best": best.name if best else "",
    }


def run_data(run: Run, frame: pd.DataFrame, places: dict[tuple, int]) -> dict:
    """Return what a run predicted at the places of its rows; see `prediction_data`."""
    predicted: list[int | None] = [None] * len(places)
    confidence: list[int | None] = [None] * len(places)
    replies, human = {}, []
    for row in frame.itertuples():
        place = places[row.Index, row.message, row[2]]  # itertuples cannot name "class"
        predicted[place] = row.predicted
        if not np.isnan(row.confidence):
            confidence[place] = round(10_000 * row.confidence)
        if run.label_source == MIXED and row.coded_by == "human" and row[2] >= 0:
            human.append(place)
        if row.predicted < 0 and row.reply:
            replies[place] = row.reply[:LONGEST_REPLY]
    return {
        "run": run.name,
        "title": run.title,
        "against": run.measured_against,
        "predicted": predicted,
        "confidence": confidence,
        "replies": replies,
        "human": human,
    }


def shaded(matrix: list[list[int]]) -> list[list[tuple[int, float]]]:
    """Return each count of a matrix with its share of the row."""
    return [[(count, count / max(sum(row), 1)) for count in row] for row in matrix]


def descriptions(study: Study) -> dict[str, str]:
    """Return what each picture shows, in words and numbers, for who does not see it."""
    titles, compared = study.titles, study.comparison.get("runs", [])
    bars = [
        f"{titles.get(run['run'], run['run'])}: {accuracy_of(run)}, macro F1 "
        f"{as_text(run.get('macro_f1'), '.3f')}, valid {as_text(run.get('valid_rate'), '%')}"
        f"{f' {MARK}' * ('warning' in run)}"
        for run in compared
    ]
    bars += [
        f"baseline {title}: accuracy {as_text(one.get('accuracy'), '%')}, macro F1 "
        f"{as_text(one.get('macro_f1'), '.3f')}"
        for title, one in study.baselines
    ]
    errors = [
        f"{run.title}: expected calibration error {as_text(run.metrics['ece'], '.3f')}"
        for run in study.runs
        if run.metrics["ece"] is not None
    ]
    curves = []
    for run, points in study.comparison.get("coverage", {}).items():
        places = sorted({0, len(points) // 2, len(points) - 1}) if points else []
        ends = [points[place] for place in places]
        shares = [f"{as_text(p['accuracy'], '%')} of {as_text(p['coverage'], '%')}" for p in ends]
        curves.append(f"{titles.get(run, run)}: right on {', '.join(shares)} of the rows")
    return {
        "figure1.png": "Bars of the accuracy of valid predictions, macro F1 and valid "
        f"predictions. {'; '.join(bars)}.",
        "calibration.png": f"Accuracy against confidence. {'; '.join(errors)}.",
        "coverage.png": "Accuracy against the share of rows that are left to the model. "
        f"{'; '.join(curves)}.",
    }


def accuracy_of(run: dict) -> str:
    """Return the accuracy of valid predictions that Figure 1 shows of a run of comparison.json."""
    if "accuracy_weighted" in run:
        return f"weighted accuracy {as_text(run['accuracy_weighted'], '%')}"
    return f"accuracy {as_text(run.get('accuracy'), '%')}"


def settings_records(study: Study) -> list[tuple[str, dict]]:
    """Return the settings of every run and training, under a heading each."""
    facts = ("method", "device", "processes", "dtype", "seconds", "rows_per_second", "shortened")
    records, seen = [], []
    for run in [*study.runs, *study.unscored]:
        known = {key: run.metrics[key] for key in facts if run.metrics.get(key) is not None}
        records.append((run.title, known | run.metrics["settings"]))
        training = study.trainings.get(run.name)
        if training and training not in seen:
            seen.append(training)
            records.append((f"Training of {run.model}", training.get("settings", {})))
    if study.human_check:
        records.append(("Human sample", study.human_check.sample.settings))
        records.append(("Human check", study.human_check.settings))
    if study.audit.get("settings"):
        records.append(("Label audit", study.audit["settings"]))
    return records
