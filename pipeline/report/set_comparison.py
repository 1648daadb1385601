"""Label sets beside each other: which labels changed, and how far a teacher repeats itself."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.evaluation.metrics import confusion, wilson_interval
from pipeline.labelling.label_tables import LabelSet
from pipeline.people.agreement import agreement, kappa_of
from pipeline.people.intervals import effective_interval
from pipeline.report.set_people import PeopleTest, compare_with_people
from pipeline.report.set_rows import ABSENT, JoinedSets

Interval = list[float]  # of 95 %: the lower and the upper end


@dataclass(frozen=True)
class SetSummary:
    """A label set: whose it is, and how many of its rows have a label."""

    name: str
    teachers: list[str]
    first_answer: str
    last_answer: str
    codebook_sha256: str
    class_names: list[str]
    rows: int
    labelled: int
    by_people: int


@dataclass(frozen=True)
class Example:
    """A comment whose label changed, with what people said of it, "" where they did not."""

    custom_id: str
    message: str
    human: str


@dataclass(frozen=True)
class Change:
    """The rows whose label went from one class to another; of repeats, all classes they had."""

    classes: list[str]
    rows: int
    examples: list[Example]


@dataclass(frozen=True)
class SetPair:
    """Two sets on the rows that both have.

    `compared` rows have a label in both, `without_first` none in the first alone, `by_people` were
    coded by people and not by a teacher. `counts` has the first's classes in rows and the second's
    in columns. Figures are None where there is nothing to compare.
    """

    first: str
    second: str
    rows: int
    rows_first_alone: int
    rows_second_alone: int
    compared: int
    without_first: int
    without_second: int
    without_both: int
    by_people: int
    changed: int
    changed_share: float | None
    changed_share_ci95: Interval | None
    kappa: float | None
    kappa_ci95: Interval | None
    classes_first: list[str]
    classes_second: list[str]
    classes_first_alone: list[str]
    classes_second_alone: list[str]
    counts: list[list[int]]
    changes: list[Change]
    same_codebook: bool


@dataclass(frozen=True)
class Repeats:
    """What a teacher said when it was asked the same rows again, with the same codebook."""

    name: str
    rows: int
    asked_again: int
    all_agree: float
    all_agree_ci95: Interval
    pairs_agree: float
    pairs_agree_ci95: Interval
    alpha: float | None
    alpha_ci95: Interval | None
    changes: list[Change]


@dataclass(frozen=True)
class SetComparison:
    """All that compare_labels.py finds, in comparison.json."""

    sets: list[SetSummary]
    class_names: list[str]
    pairs: list[SetPair]
    repeats: list[Repeats]
    people: list[PeopleTest]
    changed_rows: int


def compare_sets(
    sets: list[LabelSet], joined: JoinedSets, changed: int, examples: int, seed: int
) -> SetComparison:
    """Return the figures of all pairs of sets, of repeats, and of sets against people.

    `changed` counts the rows whose label changed, `examples` is how many of each change are kept.
    Raises UserError where there is one set and nothing to compare it with.
    """
    repeats = [repeats_of(one.name, joined, examples, seed) for one in sets]
    found = [one for one in repeats if one is not None]
    if len(sets) < 2 and not found and not joined.people:
        raise UserError(
            f"{sets[0].path} is the only set of labels, and there is nothing to compare it with: "
            "change the codebook and label again, ask some rows again by submit_batch.py --repeat, "
            "or have people code a sample"
        )
    return SetComparison(
        sets=[summary(one) for one in sets],
        class_names=joined.class_names,
        pairs=[compare_pair(*pair, joined, examples, seed) for pair in combinations(sets, 2)],
        repeats=found,
        people=compare_with_people(sets, joined, seed),
        changed_rows=changed,
    )


def summary(one: LabelSet) -> SetSummary:
    """Return what a table shows of a set."""
    return SetSummary(
        name=one.name,
        teachers=one.teachers,
        first_answer=one.first_answer,
        last_answer=one.last_answer,
        codebook_sha256=one.codebook.sha256,
        class_names=list(one.codebook.names),
        rows=len(one.rows),
        labelled=int((one.rows["class"] >= 0).sum()),
        by_people=int((one.rows["people"] >= 0).sum()),
    )


def compare_pair(
    first: LabelSet, second: LabelSet, joined: JoinedSets, examples: int, seed: int
) -> SetPair:
    """Return what changed from one set to another.

    The intervals are Wilson's for the changed share and the jackknife's for Cohen's kappa, those of
    rows that are a random sample. Kappa is None where the codebooks have no class in common, and
    where all labels are of one class.
    """
    old, new = joined.labels[first.name], joined.labels[second.name]
    own, others = joined.classes[first.name], joined.classes[second.name]
    both = (old != ABSENT) & (new != ABSENT)
    compared = (old >= 0) & (new >= 0)
    by_people = both & ~compared & joined.in_spreadsheet
    asked = both & ~by_people
    changed = compared & (old != new)
    total, found = int(compared.sum()), int(changed.sum())
    num_labels = len(joined.class_names)
    kappa = kappa_of(pd.Series(old), pd.Series(new), num_labels)
    if not set(own) & set(others) or len(np.union1d(old[compared], new[compared])) < 2:
        kappa |= {"kappa": None, "ci95": None}
    counts = confusion(old[compared], new[compared], num_labels)[np.ix_(own, others)]
    names = joined.class_names
    return SetPair(
        first=first.name,
        second=second.name,
        rows=int(both.sum()),
        rows_first_alone=int(((old != ABSENT) & (new == ABSENT)).sum()),
        rows_second_alone=int(((old == ABSENT) & (new != ABSENT)).sum()),
        compared=total,
        without_first=int((asked & (old < 0) & (new >= 0)).sum()),
        without_second=int((asked & (old >= 0) & (new < 0)).sum()),
        without_both=int((asked & (old < 0) & (new < 0)).sum()),
        by_people=int(by_people.sum()),
        changed=found,
        changed_share=found / total if total else None,
        changed_share_ci95=wilson_interval(found, total) if total else None,
        kappa=kappa["kappa"],
        kappa_ci95=kappa["ci95"],
        classes_first=[names[k] for k in own],
        classes_second=[names[k] for k in others],
        classes_first_alone=[names[k] for k in own if k not in others],
        classes_second_alone=[names[k] for k in others if k not in own],
        counts=counts.tolist(),
        changes=changes(np.stack([old, new], axis=1), changed, joined, examples, seed),
        same_codebook=first.codebook.sha256 == second.codebook.sha256,
    )


def changes(
    codes: np.ndarray, changed: np.ndarray, joined: JoinedSets, examples: int, seed: int
) -> list[Change]:
    """Return the changed rows by their classes (rows, columns of `codes`), the most frequent first.

    The examples are drawn at random.
    """
    places, human, found = np.flatnonzero(changed), joined.human, []
    kinds, kind_of = np.unique(codes[places], axis=0, return_inverse=True)
    for number, kind in enumerate(kinds):
        own = places[kind_of.ravel() == number]
        drawn = np.random.default_rng(seed).permutation(own)[:examples]
        rows = joined.rows.iloc[drawn]
        shown = [
            Example(*row)
            for row in zip(
                rows["custom_id"], rows["message"], joined.names_of(human[drawn]), strict=True
            )
        ]
        classes = [joined.class_names[k] for k in kind if k >= 0]
        found.append(Change(classes, len(own), shown))
    return sorted(found, key=lambda change: -change.rows)


def repeats_of(name: str, joined: JoinedSets, examples: int, seed: int) -> Repeats | None:
    """Return how far a teacher repeats itself, None where it was asked no row again.

    Each row counts once. The intervals are Wilson's; that of the pairs of answers and that of
    Krippendorff's alpha rest on the jackknife over rows. Alpha is None where all answers are of one
    class.
    """
    if not joined.repeats[name]:
        return None
    codes = np.stack([joined.labels[name], *joined.repeats[name]], axis=1)
    answers = (codes >= 0).sum(1)
    again = answers > 1
    if not again.any():
        return None
    num_labels = len(joined.class_names)
    counts = np.stack([(codes[again] == k).sum(1) for k in range(num_labels)], axis=1)
    num = answers[again]
    agreeing = (counts * (counts - 1)).sum(1) / (num * (num - 1))
    rows, same = int(again.sum()), int((agreeing == 1).sum())
    share, variance = agreeing.mean(), agreeing.var() / max(rows - 1, 1)
    ends = effective_interval(np.array(share), np.array(variance), rows)
    varied = (counts.sum(0) > 0).sum() > 1
    found = agreement(pd.DataFrame(codes[again]), num_labels) if varied else {}
    given = np.sort(np.where(counts > 0, np.arange(num_labels), num_labels), axis=1)
    kinds = np.full((len(codes), num_labels), -1)
    kinds[again] = np.where(given == num_labels, -1, given)
    differ = np.zeros(len(codes), bool)
    differ[again] = agreeing < 1
    return Repeats(
        name=name,
        rows=rows,
        asked_again=int(num.sum()) - rows,
        all_agree=same / rows,
        all_agree_ci95=wilson_interval(same, rows),
        pairs_agree=float(share),
        pairs_agree_ci95=[float(end) for end in ends],
        alpha=found.get("alpha_nominal"),
        alpha_ci95=found.get("alpha_nominal_ci95"),
        changes=changes(kinds, differ, joined, examples, seed),
    )
