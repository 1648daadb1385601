"""The answers of a label set, each given to the row that it was asked about."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.common.cli import UserError
from pipeline.labelling.answer_table import WITHOUT_ANSWER, AnswerTable
from pipeline.labelling.id_columns import IdColumns, IdsRead
from pipeline.labelling.ids import read_id
from pipeline.labelling.outcomes import AnswerFiles


@dataclass(frozen=True)
class Answers:
    """What a provider answered in one label set, by the places of the rows.

    `ids` are those of the rows, and after them those of requests about equal messages that are no
    row's by now. `first` has where in `table` that stands what the answers to a row's request and
    its other tries come to, -1 for none, and `tries` how often it was sent, as its answers tell,
    both (ids,). `told` are the places of these answers one by one, by row. Requests that were
    repeated on purpose have an entry each in `again_row`, `again_number` and `again`, what the
    answers to it come to; `repeated` are the rows of these, in the order of their first answers.
    `unmatched` are the places of answers that belong to no row, `others`
    counts those of other label sets, and `duplicates` those beside another to the same request, of
    `total`.
    """

    table: AnswerTable
    ids: IdColumns
    first: np.ndarray
    tries: np.ndarray
    told_row: np.ndarray
    told: np.ndarray
    again_row: np.ndarray
    again_number: np.ndarray
    again: np.ndarray
    repeated: np.ndarray
    unmatched: np.ndarray
    others: int
    duplicates: int
    total: int

    def label_of(self, rows: int) -> np.ndarray:
        """Return the labels that answers to the first so many rows' requests come to, -1: none."""
        places = self.first[:rows]
        return np.where(places >= 0, self.table.label[places], -1)

    def of(self, rows: np.ndarray) -> Iterator[list[int]]:
        """Yield the places of all answers about each of some rows, those to its repeats last."""
        told, again = self.told.tolist(), self.again.tolist()
        ends = [
            np.searchsorted(column, rows, side).tolist()
            for column in (self.told_row, self.again_row)
            for side in ("left", "right")
        ]
        for a, b, c, d in zip(*ends, strict=True):
            yield told[a:b] + again[c:d]

    def labels_again(self) -> Iterator[list[int]]:
        """Yield the labels of all answers about each row that was repeated."""
        label = self.table.label.tolist()
        for places in self.of(self.repeated):
            yield [label[place] for place in places]


def match_answers(source: AnswerFiles, ids: IdColumns, label_set: str) -> Answers:
    """Give each answer of a label set to the row that it was asked about.

    `ids` are those of the rows as they are now. An answer that says the same as another to the same
    request counts once.
    """
    table, taken, said, others = AnswerTable(source), IdsRead(), array("q"), 0
    for custom_id, outcome, line in tqdm(source, unit="answer"):
        own = read_id(custom_id)
        if own and own.label_set != label_set:
            others += 1
            continue
        taken.add(*(own[1:] if own else (0, 0, 0)))
        said.append(hash((outcome.label, outcome.reply)))
        table.add(outcome, line)
    return _match(table, ids, taken.columns(), np.asarray(said), others)


def refuse_strangers(answers: Answers, file: Path) -> None:
    """Stop where none of the answers, of which `file` is the first file, belongs to a row."""
    belongs = bool((answers.first >= 0).any())
    if answers.others and not belongs:
        raise UserError(
            f"{file}: all of its {answers.others:,} answers are by another codebook or model "
            "than the requests ask: run submit_batch.py, which keeps them and sends the requests"
        )
    if not belongs:
        raise UserError(
            f"{file}: none of its {answers.total:,} answers belongs to a row of the "
            "spreadsheet: check that they are the answers to these requests"
        )


def _match(
    table: AnswerTable, ids: IdColumns, asked: IdColumns, said: np.ndarray, others: int
) -> Answers:
    """Find the row of each answer: `asked` are the ids of the table's answers, `said` hashes."""
    row = ids.by_message.find(asked)
    equal = np.flatnonzero((row < 0) & (asked.number > 0) & ids.by_message.have(asked.message))
    more: dict[tuple[int, int], int] = {}
    for one in equal.tolist():
        key = int(asked.message[one]), int(asked.number[one])
        row[one] = more.setdefault(key, len(ids) + len(more))
    known = ids.followed_by(more)

    order = np.lexsort((said, asked.mark, row)).astype(np.int32)
    order = order[row[order] >= 0]
    same_request = _equals_last(row[order]) & _equals_last(asked.mark[order])
    kept = np.sort(order[~(same_request & _equals_last(said[order]))])

    shift = len(WITHOUT_ANSWER)
    told = kept[asked.mark[kept] >= 0]
    told = told[np.argsort(row[told], kind="stable")]
    first, tries = np.full(len(known), -1, np.int32), np.zeros(len(known), np.int32)
    np.maximum.at(tries, row[told], asked.tries[told])
    begins = ~_equals_last(row[told])
    first[row[told][begins]] = _come_to(table, told + shift, begins)

    again = kept[asked.mark[kept] < 0]
    repeated, first_answer = np.unique(row[again], return_index=True)
    again = again[np.lexsort((asked.mark[again], row[again]))]
    begins = ~(_equals_last(row[again]) & _equals_last(asked.mark[again]))
    comes_to = _come_to(table, again + shift, begins)
    again = again[begins]  # the first answer to each repeat
    by_row = np.lexsort((again, row[again]))
    return Answers(
        table=table,
        ids=known,
        first=first,
        tries=tries,
        told_row=row[told],
        told=told + shift,
        again_row=row[again][by_row],
        again_number=-asked.mark[again][by_row],
        again=comes_to[by_row],
        repeated=repeated[np.argsort(first_answer)],
        unmatched=np.flatnonzero(row < 0) + shift,
        others=others,
        duplicates=int(same_request.sum()),
        total=len(asked) + others,
    )


def _equals_last(values: np.ndarray) -> np.ndarray:
    """Return which values are equal to the one before, a bool (values,)."""
    return np.append(np.zeros(min(1, len(values)), bool), values[1:] == values[:-1])


def _come_to(table: AnswerTable, places: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return the place of what each group of answers comes to; `begins` says where one begins."""
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(places))
    result = places[starts]
    for group in np.flatnonzero(ends - starts > 1).tolist():
        result[group] = table.agreed(places[starts[group] : ends[group]].tolist())
    return result
