"""The rows on the page with their texts, and what each run predicted on them."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.runs import MIXED, Run
from pipeline.report.row_choice import AllRows, Reason, all_rows, choose_rows

MOST_ROWS = 20_000  # on the page
MOST_BYTES = 7_500_000  # of the rows on the page, which with all else is to stay below 10 MB
BLOCK = 200  # rows whose texts are read at once
LONGEST_COMMENT = 10_000  # letters of a comment that the page has
LONGEST_REPLY = 200  # letters of an invalid reply that the page has
RUN_BYTES = 10  # of a row's class and confidence
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class RowText:
    """The texts of a row, cut; `length` is the comment's, in letters, and `replies` are by run."""

    custom_id: str
    message: str
    label: int
    length: int
    replies: dict[int, str]

    @property
    def size(self) -> int:
        """The bytes of the texts on the page."""
        return len(embedded([self.custom_id, self.message, self.label, self.replies]).encode())


@dataclass(frozen=True)
class PageRows:
    """The rows on the page, in the order of the files, and what each run predicted.

    `lengths` has the letters of the comments that are cut, by place, and `sample` the places of the
    rows that were drawn at random. `reasons` says why rows are shown, and is empty where all are.
    `total` and `comments` count all rows, and all comments, that there are.
    """

    rows: list[tuple[str, str, int]]
    runs: list[dict]
    lengths: dict[int, int]
    sample: list[int]
    reasons: list[Reason]
    total: int
    comments: int


def rows_on_page(runs: list[Run], predictions: dict[str, Predictions], seed: int) -> PageRows:
    """Return the rows that the page shows; `predictions` are by run, `seed` that of the sample."""
    rows = all_rows([predictions[run.name] for run in runs])
    choice = choose_rows(rows, MOST_ROWS, seed)
    texts = read_texts(rows, choice.order[:MOST_ROWS])
    places = np.array(sorted(texts), int)
    shown = [texts[place] for place in places.tolist()]
    sampled = len(shown) < rows.total
    sample = choice.sample(len(shown)) if sampled else np.zeros(0, int)
    return PageRows(
        rows=[(text.custom_id, text.message, text.label) for text in shown],
        runs=[run_data(run, rows, number, places, shown) for number, run in enumerate(runs)],
        lengths={n: text.length for n, text in enumerate(shown) if text.length > LONGEST_COMMENT},
        sample=np.flatnonzero(np.isin(places, sample)).tolist(),
        reasons=choice.reasons(len(shown)) if sampled else [],
        total=rows.total,
        comments=rows.comments,
    )


def read_texts(rows: AllRows, order: np.ndarray) -> dict[int, RowText]:
    """Return the texts of the first rows of `order`, as many as have room on the page, by place."""
    found: dict[int, RowText] = {}
    room = MOST_BYTES
    for start in range(0, len(order), BLOCK):
        for place, text in block_texts(rows, order[start : start + BLOCK]).items():
            room -= text.size + RUN_BYTES * len(rows.predictions)
            if room < 0:
                return found
            found[place] = text
    return found


def block_texts(rows: AllRows, block: np.ndarray) -> dict[int, RowText]:
    """Return the texts of some rows by place: those of the first run that has the row."""
    found: dict[int, RowText] = {}
    for number, predictions in enumerate(rows.predictions):
        at = rows.at[number][block]
        unread = np.array([place not in found for place in block.tolist()], bool)
        invalid = predictions.frame["predicted"].to_numpy()[at] < 0
        needed = (at >= 0) & (unread | invalid)
        texts = predictions.texts(at[needed]).itertuples()
        for place, text, is_invalid in zip(
            block[needed].tolist(), texts, invalid[needed].tolist(), strict=True
        ):
            cut = text.message[:LONGEST_COMMENT]
            label = int(rows.labels[place])
            row = RowText(text.custom_id, cut, label, len(text.message), {})
            row = found.setdefault(place, row)
            if is_invalid and text.reply:
                row.replies[number] = text.reply[:LONGEST_REPLY]
    return {place: found[place] for place in block.tolist()}


def run_data(
    run: Run, rows: AllRows, number: int, places: np.ndarray, texts: list[RowText]
) -> dict[str, Any]:
    """Return what a run predicted on the rows at some places, whose texts are `texts`.

    `predicted` is a class, -1 (invalid) or None (not among the run's rows), `confidence` in ten
    thousandths or None; `replies` holds the invalid replies by row, `human` the rows that people
    coded where the others are silver. `counts` counts all rows of the run by class and prediction,
    -1 first.
    """
    frame, at = rows.predictions[number].frame, rows.at[number][places]
    there = at >= 0
    predicted = frame["predicted"].to_numpy()[at].tolist()
    confidence = frame["confidence"].to_numpy()[at]
    human = there & frame["human"].to_numpy()[at] & (rows.labels[places] >= 0)
    sure = np.round(10_000 * np.nan_to_num(confidence)).astype(int).tolist()
    has_confidence = there & ~np.isnan(confidence)
    size = len(run.class_names) + 1
    cells = (frame["class"].to_numpy().astype(int) + 1) * size + frame["predicted"] + 1
    replies = {n: text.replies[number] for n, text in enumerate(texts) if number in text.replies}
    return {
        "run": run.name,
        "title": run.title,
        "against": run.measured_against,
        "predicted": [p if known else None for p, known in zip(predicted, there, strict=True)],
        "confidence": [s if known else None for s, known in zip(sure, has_confidence, strict=True)],
        "replies": replies,
        "human": np.flatnonzero(human).tolist() if run.label_source == MIXED else [],
        "counts": np.bincount(cells, minlength=size * size).reshape(size, size).tolist(),
    }


def embedded(value: Any) -> Markup:
    """Return JSON for a <script> element: no text in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(UNSAFE))
