"""The page: one HTML file that holds its data, pictures, style and script."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Template, Undefined

from pipeline.evaluation.learned import MARK
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.run_text import class_scores
from pipeline.evaluation.runs import Run
from pipeline.planning.label_plan import LabelPlan
from pipeline.planning.plan import Plan
from pipeline.report.coded import (
    coded_classes,
    coded_rows,
    coders_of,
    labelled_rows,
    link_to,
    runs_of_coder,
)
from pipeline.report.coding_sentences import check_sentence
from pipeline.report.label_sentences import curve_description, measured_sentence, verdict_of
from pipeline.report.methods import teachers_of, write_methods
from pipeline.report.model_sentences import method_of, package_versions, trainings_of
from pipeline.report.page_rows import LONGEST_COMMENT, PageRows, embedded, rows_on_page
from pipeline.report.plan_sentences import (
    alternatives,
    expected_sentences,
    meaning_sentence,
    plan_description,
    rule_sentence,
)
from pipeline.report.row_choice import Reason
from pipeline.report.study import Study, inconsistencies, not_done
from pipeline.report.words import as_text

LONGEST_IN_TABLE = 1_000  # letters of a comment beside others, as an example
SURROGATES = re.compile("[\ud800-\udfff]")  # halves of letters, which no file can hold


def render_page(
    study: Study,
    predictions: dict[str, Predictions],
    pictures: dict[str, Path],
    title: str,
    seed: int,
    folder: Path = Path("."),
) -> str:
    """Return the page. `predictions` are by run, where there are some; it will lie in `folder`.

    Everything from a file is escaped: text by the template, the data by `embedded`. Where not all
    rows have room, `seed` draws some.
    """
    shown = rows_on_page([run for run in study.runs if run.name in predictions], predictions, seed)
    all_runs = [*study.runs, *study.unscored]
    records = [run.metrics for run in all_runs] + trainings_of(study, all_runs)
    records += [{"versions": study.coding.versions}] if study.coding else []
    page = page_template("page.html.jinja").render(
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
        coded=coded_part(study, folder) if study.coding else {},
        plan=plan_part(study.plan) if study.plan else {},
        enough=enough_part(study.label_plan) if study.label_plan else {},
        shown=shown,
        seed=seed,
        longest=LONGEST_COMMENT,
        data=embedded(prediction_data(study, shown)),
    )
    return SURROGATES.sub("\ufffd", page) + "\n"


def coded_part(study: Study, folder: Path) -> dict[str, Any]:
    """Return what the page says of the coded spreadsheet; the page will lie in `folder`."""
    coding, check = study.coding, study.human_check
    return {
        "coders": coders_of(coding),
        "classes": coded_classes(coding, check),
        "rows": coded_rows(coding),
        "labelled": labelled_rows(check) if check else 0,
        "check": check_sentence(coding),
        "runs": runs_of_coder(study),
        "files": {
            str(path): link_to(path, folder)
            for path in (Path(coding.output_file), folder / "coded/codes.csv")
        },
    }


def plan_part(plan: Plan) -> dict[str, Any]:
    """Return what the page says of the plan."""
    return {
        "rule": rule_sentence(plan),
        "expected": [*expected_sentences(plan), meaning_sentence(plan)],
        "alternatives": alternatives(plan),
    }


def enough_part(plan: LabelPlan) -> dict[str, str]:
    """Return what the page says of the number of labels."""
    return {"measured": measured_sentence(plan), "verdict": verdict_of(plan)}


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
        "shortened": shortened,
        "because": because,
        "sha256": script_hash,
        "method": method_sentence,
    }
    return environment.get_template(name)


def text_or_dash(value: Any, form: str = "") -> str:
    """Return a value as `as_text` does, a dash where a file lacks it."""
    return "–" if isinstance(value, Undefined) else as_text(value, form)


def because(reason: Reason, seed: int) -> str:
    """Return how many rows are shown for a reason, and how they were chosen."""
    part = as_text(reason.shown)
    many = f"{part} of {as_text(reason.rows, 'row|rows')}"
    if reason.shown == reason.rows:
        many = f"all {as_text(reason.rows, 'row|rows')}"
    return {
        "people": f"{many} that people coded",
        "differ": f"{many} on which models differ, at random",
        "wrong": f"{many} that a model has wrong, at random, each kind of error in turn",
        "unsure": f"{as_text(reason.shown, 'row|rows')} that a model is least sure of",
        "random": f"{as_text(reason.shown, 'row|rows')} drawn at random from all (seed {seed})",
    }[reason.key]


def method_sentence(run: Run) -> str:
    """Return how a run predicts, as the beginning of a sentence."""
    method = method_of(run)
    return method[:1].upper() + method[1:]


def shortened(text: str) -> str:
    """Return a text for a table, a long one cut and with its length."""
    if len(text) <= LONGEST_IN_TABLE:
        return text
    return f"{text[:LONGEST_IN_TABLE]}… [{len(text):,} letters in all]"


def script_hash(script: str) -> str:
    """Return the SHA-256 of a script as a Content-Security-Policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def picture_uri(path: Path) -> str:
    """Return a PNG file as a data: URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def prediction_data(study: Study, shown: PageRows) -> dict:
    """Return what the script of the page reads: the rows once, and what each run predicted.

    See `run_data` for a run. Beside the rows are the letters of comments that are cut, by row, the
    rows of the random sample, and whether not all rows are there.
    """
    there = {run["run"] for run in shown.runs}
    best = max(
        (run for run in study.runs if run.name in there),
        key=lambda run: (run.metrics["total"], run.metrics["accuracy_all_rows"]),
        default=None,
    )
    return {
        "classes": list(study.codebook.names),
        "rows": shown.rows,
        "runs": shown.runs,
        "lengths": shown.lengths,
        "sample": shown.sample,
        "sampled": bool(shown.reasons),
        "best": best.name if best else "",
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
        "plan/plan.png": plan_description(study.plan) if study.plan else "",
        "plan/labels.png": curve_description(study.label_plan) if study.label_plan else "",
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
    if study.label_plan:
        records.append(("Learning curve", study.label_plan.settings))
    if study.plan:
        records.append(("Plan", study.plan.settings))
    if study.coding:
        records.append(("Coded spreadsheet", study.coding.settings))
    return records
