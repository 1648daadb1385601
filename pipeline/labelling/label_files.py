"""What step 3 writes: the rows with their labels, why others have none, what to send again."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.codebook import Codebook
from pipeline.common.files import (
    JsonObject,
    clean_text,
    remove_outdated,
    write_json,
    write_text,
)
from pipeline.common.rows import coded_by_people
from pipeline.common.stored_rows import StoredRows
from pipeline.common.tables import PART, csv_writer
from pipeline.labelling.answers import Answers
from pipeline.labelling.ids import set_of
from pipeline.labelling.label_sets import folder_of
from pipeline.labelling.labels import Labels
from pipeline.labelling.outcomes import CONFLICT, MALFORMED, NOT_ASKED, TIE
from pipeline.labelling.requests import Requests, another_try


def write_labels(
    rows: StoredRows,
    labels: Labels,
    answers: Answers,
    unlabeled_file: str | Path,
    labeled_file: str | Path,
    purged_file: str | Path,
    errors_file: str | Path,
) -> None:
    """Write every row without a class, every row with its class or -1, and the labelled rows.

    The errors file says why rows have no label, and which answers have no row. The labelled rows
    take their place last, as what later steps follow.
    """
    columns = _columns(rows.frame)
    with csv_writer(purged_file, columns) as purged:
        with (
            csv_writer(labeled_file, columns) as labeled,
            csv_writer(unlabeled_file, ["custom_id", "message", "class"]) as unlabeled,
        ):
            for table in _tables(rows, labels):
                cells = table.to_numpy().tolist()
                labeled.write_rows(cells)
                unlabeled.write_rows([(row[0], row[1], "-1") for row in cells])
                purged.write_rows([row for row in cells if row[2] != "-1"])
        _write_errors(rows.frame["custom_id"], labels, answers, errors_file)


def _columns(frame: pd.DataFrame) -> list[str]:
    return ["custom_id", "message", "class", *(["coded_by"] if "coded_by" in frame else [])]


def _tables(rows: StoredRows, labels: Labels) -> Iterator[pd.DataFrame]:
    """Yield custom_id, message, class (-1 for none), and coded_by where people coded rows.

    In parts; all cells are text.
    """
    columns = _columns(rows.frame)
    for part in rows.parts(rows.frame):
        yield part[columns].assign(**{"class": labels.label[part.index].astype(str)})


def _write_errors(
    custom_ids: pd.Series, labels: Labels, answers: Answers, path: str | Path
) -> None:
    """Write custom_id, reason and reply of rows without a label and of answers without a row."""
    failed, unmatched = np.flatnonzero(labels.label < 0), answers.unmatched
    with csv_writer(path, ["custom_id", "reason", "reply"]) as writer:
        for some in _parts(failed):
            pairs = zip(custom_ids.iloc[some], labels.outcomes(some), strict=True)
            writer.write_rows(
                [(row, clean_text(out.form), clean_text(out.reply)) for row, out in pairs]
            )
        for some in _parts(unmatched):
            writer.write_rows(
                [
                    tuple(
                        map(clean_text, (custom_id, _why_unmatched(custom_id, out.form), out.reply))
                    )
                    for custom_id, out in answers.table.read_again(some.tolist())
                ]
            )


def _why_unmatched(custom_id: str, form: str) -> str:
    """Return why an answer belongs to no row."""
    if form.startswith(MALFORMED):
        return form
    return "no such row" if set_of(custom_id) else "unknown id"


def _parts(places: np.ndarray) -> Iterator[np.ndarray]:
    """Yield places in parts; none where there are none."""
    for start in range(0, len(places), PART):
        yield places[start : start + PART]


def retry_lines(
    labels: Labels, requests: Requests | None, answers: Answers, sent: np.ndarray
) -> Iterator[str]:
    """Yield the requests to send again: of rows without a label that one more answer may decide.

    How often each was sent before is known from the ids that were `sent` (rows,) and those of the
    answers.
    """
    if requests is None:
        return
    settled = np.any([labels.have_form(form) for form in (CONFLICT, TIE, NOT_ASKED)], axis=0)
    places = requests.ids.by_message.find(answers.ids)[: len(sent)]
    rows = np.flatnonzero((labels.label < 0) & ~settled & (places >= 0))
    tries = np.maximum(answers.tries[rows], sent[rows]) + 1
    again = requests.read_at(places[rows].tolist())
    for request, number in zip(again, tries.tolist(), strict=True):
        yield another_try(request, number)


def write_confidence(
    custom_ids: pd.Series, labels: Labels, names: tuple[str, ...], path: str | Path
) -> None:
    """Write the teacher's probability of each class; a row whose answer has none is blank.

    Where no answer has any, what an earlier run wrote goes: it is of other answers.
    """
    if not labels.table.know_probabilities(labels.place):
        if Path(path).is_file():
            remove_outdated(path)
            print(f"removed {path}: these answers have no probabilities")
        return
    with csv_writer(path, ["custom_id", *(f"p_{name}" for name in names)]) as writer:
        for some in _parts(np.arange(len(labels.place))):
            known = labels.table.probabilities(labels.place[some]).tolist()
            writer.write_rows(
                [
                    [custom_id, *("" if p != p else f"{p:.6f}" for p in probabilities)]
                    for custom_id, probabilities in zip(custom_ids.iloc[some], known, strict=True)
                ]
            )


def write_label_set(
    rows: StoredRows,
    labels: Labels,
    answers: Answers,
    label_set: str,
    record: JsonObject,
    codebook: Codebook,
    label_sets_dir: str | Path,
) -> None:
    """Write the labels, the codebook and the record into the folder of the label set, if any.

    They stay there when another codebook or teacher is asked. `labels` are those before people
    corrected any. What the teacher said of rows that people coded is in the column `teacher`, and
    the labels of repeats are in `repeat_1`, `repeat_2`, ..., each blank where there is none.
    """
    if not label_set:
        return
    folder = folder_of(label_sets_dir, label_set, record["requested_model"])
    more = _more_columns(rows.frame, answers)
    with csv_writer(folder / "labels.csv", [*_columns(rows.frame), *more]) as writer:
        for table in _tables(rows, labels):
            columns = {name: values[table.index] for name, values in more.items()}
            writer.write_rows(table.assign(**columns).to_numpy().tolist())
    write_text(codebook.text + "\n", folder / "prompt.txt")
    write_json(record, folder / "silver_labels.json")


def _more_columns(frame: pd.DataFrame, answers: Answers) -> dict[str, np.ndarray]:
    """Return the column `teacher`, where people coded rows, and one for each repeat, as text."""
    more = {}
    if (human := coded_by_people(frame)).any():
        said = answers.label_of(len(frame))
        more["teacher"] = np.where(human & (said >= 0), said.astype(str), "")
    label = answers.table.label
    of_rows = answers.again_row < len(frame)
    for number in np.unique(answers.again_number[of_rows]).tolist():
        these = of_rows & (answers.again_number == number)
        column = np.full(len(frame), "", "U2")
        column[answers.again_row[these]] = label[answers.again[these]].astype(str)
        more[f"repeat_{number}"] = column
    return more
