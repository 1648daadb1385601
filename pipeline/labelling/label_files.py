"""What step 3 writes: the rows with their labels, why others have none, what to send again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject, clean_text, write_json, write_text
from pipeline.common.rows import coded_by_people
from pipeline.common.tables import write_csv
from pipeline.labelling.ids import plain_id, try_of
from pipeline.labelling.label_sets import folder_of
from pipeline.labelling.labels import Answers
from pipeline.labelling.outcomes import CONFLICT, NOT_ASKED, TIE, Outcome
from pipeline.labelling.requests import Request, another_try


def write_labels(
    rows: pd.DataFrame,
    labels: Mapping[str, Outcome],
    answers: Answers,
    unlabeled_file: str | Path,
    labeled_file: str | Path,
    purged_file: str | Path,
    errors_file: str | Path,
) -> None:
    """Write every row without a class, every row with its class or -1, and the labelled rows.

    The errors file says why rows have no label, and which answers have no row. The labelled rows
    are written last, as what later steps follow.
    """
    table = _table(rows, labels)
    write_csv(
        table.drop(columns="coded_by", errors="ignore").assign(**{"class": -1}), unlabeled_file
    )
    write_csv(table, labeled_file)
    _write_errors(labels, answers.unmatched, errors_file)
    write_csv(table[table["class"] >= 0], purged_file)


def _table(rows: pd.DataFrame, labels: Mapping[str, Outcome]) -> pd.DataFrame:
    """Return custom_id, message, class (-1 for none), and coded_by where people coded rows."""
    columns = [name for name in ("custom_id", "message", "class", "coded_by") if name in rows]
    classes = [labels[custom_id].label for custom_id in rows["custom_id"]]
    return rows[columns].assign(**{"class": classes})


def _write_errors(
    labels: Mapping[str, Outcome], unmatched: list[tuple[str, str, str]], path: str | Path
) -> None:
    """Write custom_id, reason and reply of rows without a label and of answers without a row."""
    failed = [
        (custom_id, outcome.form, outcome.reply)
        for custom_id, outcome in labels.items()
        if outcome.label < 0
    ]
    table = pd.DataFrame(failed + unmatched, columns=["custom_id", "reason", "reply"])
    write_csv(table.map(clean_text), path)


def retry_lines(
    rows: pd.DataFrame,
    labels: Mapping[str, Outcome],
    requests: Mapping[str, Request],
    answers: Answers,
    sent: Iterable[str],
) -> list[str]:
    """Return the requests to send again: of rows without a label that one more answer may decide.

    How often each was sent before is known from the ids that were `sent` and those of the answers.
    """
    tries = Counter(answers.tries)
    for custom_id in sent:
        row = plain_id(custom_id)
        tries[row] = max(tries[row], try_of(custom_id))
    settled = (CONFLICT, TIE, NOT_ASKED.form)
    lines = []
    for custom_id, row in zip(rows["custom_id"], rows["request"], strict=True):
        outcome = labels[custom_id]
        if outcome.label < 0 and outcome.form not in settled and row in requests:
            lines.append(another_try(requests[row], tries[row] + 1))
    return lines


def write_confidence(
    labels: Mapping[str, Outcome], names: tuple[str, ...], path: str | Path
) -> None:
    """Write the teacher's probability of each class; a row whose answer has none is blank.

    Where no answer has any, what an earlier run wrote goes: it is of other answers.
    """
    if not any(outcome.probabilities for outcome in labels.values()):
        if Path(path).is_file():
            Path(path).unlink()
            print(f"removed {path}: these answers have no probabilities")
        return
    blank = ("",) * len(names)
    cells = [
        ["" if p is None else f"{p:.6f}" for p in outcome.probabilities] or blank
        for outcome in labels.values()
    ]
    table = pd.DataFrame(cells, columns=[f"p_{name}" for name in names])
    table.insert(0, "custom_id", list(labels))
    write_csv(table, path)


def write_label_set(
    rows: pd.DataFrame,
    labels: Mapping[str, Outcome],
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
    table = _table(rows, labels)
    if (human := coded_by_people(rows)).any():
        said = pd.Series([answers.label_of(row) for row in rows["request"]], index=table.index)
        table["teacher"] = said.astype(object).where(human & (said >= 0), "")
    said_again = [answers.repeats.get(row, {}) for row in rows["request"]]
    for number in sorted({number for row in said_again for number in row}):
        column = [row[number].label if number in row else "" for row in said_again]
        table[f"repeat_{number}"] = column
    write_csv(table, folder / "labels.csv")
    write_text(codebook.text + "\n", folder / "prompt.txt")
    write_json(record, folder / "silver_labels.json")
