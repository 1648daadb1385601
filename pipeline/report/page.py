"""The report page: one HTML file that holds its data, pictures, style and script."""

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
from sklearn.metrics import classification_report

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.files import read_csv
from pipeline.report.methods import write_methods
from pipeline.report.model_sentences import method_of, package_versions
from pipeline.report.study import EVALUATIONS, Study, inconsistencies, not_done
from pipeline.report.words import shown

LONGEST_REPLY = 200  # letters of an invalid reply that the page shows
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def read_predictions(folder: Path, run: dict, codebook: Codebook) -> pd.DataFrame:
    """Return a run's predictions, empty where the file is gone.

    `class` and `predicted` are ints, -1 for none; `confidence` is a float, NaN where blank.
    """
    columns = ["custom_id", "message", "class", "predicted", "reply", "confidence"]
    path = folder / run["run"] / "predictions.csv"
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    step = EVALUATIONS[run["family"], run["stage"]].rpartition(" ")[2]
    frame = read_csv(path, columns, step)[columns]
    for column in ("class", "predicted"):
        labels = frame[column].map(lambda cell: parse_label(cell, codebook))
        if labels.isna().any():
            cell = frame[column][labels.isna()].iloc[0]
            raise UserError(f"{path}: {column} {cell!r} is none of the classes: run {step} again")
        frame[column] = labels.astype(int)
    return frame.assign(confidence=pd.to_numeric(frame["confidence"], errors="coerce"))


def render_page(
    study: Study, predictions: dict[str, pd.DataFrame], pictures: dict[str, Path], title: str
) -> str:
    """Return the page. `predictions` has a `read_predictions` table per run; see `Study`.

    Everything from a file is escaped: text by the template, the data by `embedded`.
    """
    data = prediction_data(study, predictions)
    return (
        page_template().render(
            title=title,
            study=study,
            titles={run["run"]: run["title"] for run in study.runs},
            class_scores=class_scores,
            pictures={name: picture_uri(path) for name, path in pictures.items()},
            descriptions=descriptions(study),
            methods=write_methods(study),
            not_done=not_done(study),
            doubts=inconsistencies(study),
            records=settings_records(study),
            versions=package_versions([*study.runs, *study.unscored]),
            comments=len({row[:2] for row in data["rows"]}),
            data=embedded(data),
        )
        + "\n"
    )


@cache
def page_template() -> Template:
    """Return the page's template, with the filters it uses."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=ChainableUndefined,  # what an older file lacks is shown as a dash
    )
    environment.filters |= {
        "shown": cell,
        "shaded": shaded,
        "sha256": script_hash,
        "method": told_method,
    }
    return environment.get_template("page.html.jinja")


def cell(value: Any, form: str = "") -> str:
    """Return a value as `shown` does, a dash where a file lacks it."""
    return "–" if isinstance(value, Undefined) else shown(value, form)


def told_method(run: dict) -> str:
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
    ten thousandths or None; `replies` holds the invalid replies by row.
    """
    places: dict[tuple, int] = {}
    for frame in predictions.values():
        for row in zip(frame["custom_id"], frame["message"], frame["class"], strict=True):
            places.setdefault(row, len(places))
    runs = []
    for run in study.runs:
        frame = predictions[run["run"]]
        if frame.empty:
            continue
        predicted: list[int | None] = [None] * len(places)
        confidence: list[int | None] = [None] * len(places)
        replies = {}
        for row in frame.itertuples():
            place = places[row.custom_id, row.message, row[3]]  # itertuples cannot name "class"
            predicted[place] = row.predicted
            if not np.isnan(row.confidence):
                confidence[place] = round(10_000 * row.confidence)
            if row.predicted < 0 and row.reply:
                replies[place] = row.reply[:LONGEST_REPLY]
        runs.append(
            {
                "run": run["run"],
                "title": run["title"],
                "against": run["against"],
                "predicted": predicted,
                "confidence": confidence,
                "replies": replies,
            }
        )
    best = max(
        (run for run in study.runs if not predictions[run["run"]].empty),
        key=lambda run: (run["total"], run["accuracy_all_rows"]),
        default={"run": ""},
    )
    return {
        "classes": list(study.codebook.names),
        "rows": list(places),
        "runs": runs,
        "best": best["run"],
    }


def class_scores(matrix: list[list[int]], names: list[str]) -> list[tuple]:
    """Return the report's table of the valid predictions in a (k, k + 1) matrix.

    Rows of name, precision, recall, F1 and rows: the classes, the accuracy (as F1, the others None)
    and the two averages; none where there is no valid prediction.
    """
    counts = np.array(matrix)[:, : len(names)]
    if not counts.sum():
        return []
    labels = np.arange(len(names))
    table = classification_report(
        np.repeat(labels, len(names)),
        np.tile(labels, len(names)),
        sample_weight=counts.ravel(),
        labels=labels,
        output_dict=True,
        zero_division=0,
    )
    parts = [(name, table[str(k)]) for k, name in enumerate(names)]
    parts += [(name, table[f"{name} avg"]) for name in ("macro", "weighted")]
    scores = [
        (name, part["precision"], part["recall"], part["f1-score"], int(part["support"]))
        for name, part in parts
    ]
    accuracy = ("accuracy", None, None, table["accuracy"], int(counts.sum()))
    return [*scores[: len(names)], accuracy, *scores[len(names) :]]


def shaded(matrix: list[list[int]]) -> list[list[tuple[int, float]]]:
    """Return each count of a matrix with its share of the row."""
    return [[(count, count / max(sum(row), 1)) for count in row] for row in matrix]


def descriptions(study: Study) -> dict[str, str]:
    """Return what each picture shows, in words and numbers, for who does not see it."""
    titles = {run["run"]: run["title"] for run in study.runs}
    bars = [
        f"{titles.get(run['run'], run['run'])}: accuracy {shown(run.get('accuracy'), '%')}, macro "
        f"F1 {shown(run.get('macro_f1'), '.3f')}, valid {shown(run.get('valid_rate'), '%')}"
        for run in study.comparison.get("runs", [])
    ]
    bars += [
        f"baseline {one['name']}: accuracy {shown(one.get('accuracy'), '%')}, macro F1 "
        f"{shown(one.get('macro_f1'), '.3f')}"
        for one in study.comparison.get("baselines", [])
    ]
    errors = [
        f"{run['title']}: expected calibration error {shown(run['ece'], '.3f')}"
        for run in study.runs
        if "ece" in run
    ]
    curves = []
    for run, points in study.comparison.get("coverage", {}).items():
        ends = [points[place] for place in sorted({0, len(points) // 2, len(points) - 1})][
            : len(points)
        ]
        told = [f"{shown(p['accuracy'], '%')} of {shown(p['coverage'], '%')}" for p in ends]
        curves.append(f"{titles.get(run, run)}: right on {', '.join(told)} of the rows")
    return {
        "figure1.png": "Bars of the accuracy of valid predictions, macro F1 and valid "
        f"predictions. {'; '.join(bars)}.",
        "calibration.png": f"Accuracy against confidence. {'; '.join(errors)}.",
        "coverage.png": "Accuracy against the share of rows that are left to the model. "
        f"{'; '.join(curves)}.",
    }


def settings_records(study: Study) -> list[tuple[str, dict]]:
    """Return the settings of every run and training, under a heading each."""
    facts = ("method", "device", "dtype", "seconds", "rows_per_second", "shortened")
    records, seen = [], []
    for run in [*study.runs, *study.unscored]:
        known = {key: run[key] for key in facts if key in run}
        records.append((run["title"], known | run["settings"]))
        if run["training"] and run["training"] not in seen:
            seen.append(run["training"])
            records.append((f"Training of {run['model']}", run["training"].get("settings", {})))
    if study.human_check:
        records.append(("Human sample", study.human_check.sample.settings))
        records.append(("Human check", study.human_check.settings))
    if study.audit.get("settings"):
        records.append(("Label audit", study.audit["settings"]))
    return records
