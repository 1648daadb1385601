"""Label sets against people: which of two sets people agree with more often, and by what test."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binom

from pipeline.evaluation.comparison import compare_pairs, holm
from pipeline.evaluation.metrics import compute_metrics
from pipeline.labelling.label_tables import LabelSet
from pipeline.people.intervals import FEWEST
from pipeline.report.set_rows import JoinedSets, PeopleCodes

LEVEL, POWER = 0.05, 0.8  # of the test; how often it finds the difference that we name
UNLIKELY = 1e-9  # a share of 1 in the search for that difference

Interval = list[float]  # of 95 %: the lower and the upper end


@dataclass(frozen=True)
class Score:
    """A set's agreement with people."""

    name: str
    accuracy: float
    accuracy_ci95: Interval
    macro_f1: float
    macro_f1_ci95: Interval
    cohen_kappa: float
    cohen_kappa_ci95: Interval


@dataclass(frozen=True)
class McNemar:
    """Which of two sets is right more often: the exact test, and what it could have found.

    `difference` is the share of rows that the second has right minus that of the first, counting
    rows as the test does. `detectable` is the difference that the test finds in 8 of 10 samples
    which this many rows (those that one set alone has right) separate, None where they are too few.
    `needed` is how many such rows the test needs to find anything.
    """

    only_first_right: int
    only_second_right: int
    difference: float
    difference_ci95: Interval
    p_value: float
    p_holm: float
    needed: int
    detectable: float | None
    difference_weighted: float | None = None
    difference_weighted_ci95: Interval | None = None


@dataclass(frozen=True)
class PeopleTest:
    """One or two sets against what people coded, on rows that both have a label for.

    `coded` rows have a human class, `without_label` of them no label in a set, `other_class` a
    class that a set's codebook does not have, `lost` are in no set; `rows` are left. `weighted` is
    whether the scores are weighted to the data set, `sampled` whether the rows are a stratified
    sample. `scores` is empty and `test` None where no rows are left; `test` is None for one set.
    `same_codebook` says of each set whether people had its codebook, None where it is not known.
    """

    source: str
    sets: list[str]
    coded: int
    without_label: int
    other_class: int
    lost: int
    rows: int
    class_names: list[str]
    empty_classes: list[str]
    sampled: bool
    weighted: bool
    scores: list[Score]
    test: McNemar | None
    same_codebook: list[bool] | None


def compare_with_people(sets: list[LabelSet], joined: JoinedSets, seed: int) -> list[PeopleTest]:
    """Return all pairs of sets against each source of human codes, the p-values by Holm's method.

    A single set is scored alone.
    """
    groups = list(combinations(sets, 2)) or [tuple(sets)]
    tests = [
        against_people(group, codes, joined, seed) for codes in joined.people for group in groups
    ]
    p_values = [one.test.p_value for one in tests if one.test]
    adjusted = iter(holm(p_values))
    level = LEVEL / max(len(p_values), 1)
    return [
        replace(
            one,
            test=replace(one.test, p_holm=next(adjusted), **could_find(one.test, one.rows, level)),
        )
        if one.test
        else one
        for one in tests
    ]


def against_people(
    group: tuple[LabelSet, ...], codes: PeopleCodes, joined: JoinedSets, seed: int
) -> PeopleTest:
    """Return one or two sets against one source of human codes."""
    names = [one.name for one in group]
    common = [k for k in codes.classes if all(k in joined.classes[name] for name in names)]
    labels = [joined.labels[name] for name in names]
    coded = codes.labels >= 0
    labelled = coded & np.all([own >= 0 for own in labels], axis=0)
    rows = np.flatnonzero(labelled & np.isin(codes.labels, common))
    place = np.full(len(joined.class_names) + 1, -1)  # [-1] is a label that is none of them
    place[common] = np.arange(len(common))
    true = place[codes.labels[rows]]
    weights = weights_of(codes, rows)
    counts = np.ones(len(rows)) if weights is None else weights
    tables = {
        name: pd.DataFrame({"class": true, "predicted": place[own[rows]], "weight": counts})
        for name, own in zip(names, labels, strict=True)
    }
    enough = len(rows) > 0 and len(common) > 1
    known = [one.codebook.sha256 == codes.codebook_sha256 for one in group]
    return PeopleTest(
        source=codes.name,
        sets=names,
        coded=int(coded.sum()),
        without_label=int((coded & ~labelled).sum()),
        other_class=int(labelled.sum()) - len(rows),
        lost=codes.lost,
        rows=len(rows),
        class_names=[joined.class_names[k] for k in common],
        empty_classes=[joined.class_names[k] for k in common if k not in codes.labels[rows]],
        sampled=codes.strata is not None,
        weighted=weights is not None,
        scores=[score(*one, len(common), weights, seed) for one in tables.items() if enough],
        test=mcnemar(tables, seed) if enough and len(group) == 2 else None,
        same_codebook=known if codes.codebook_sha256 else None,
    )


def weights_of(codes: PeopleCodes, rows: np.ndarray) -> np.ndarray | None:
    """Return how many rows of the data set each row of a sample stands for, float (rows,).

    None where no sample was drawn, and where a class of it has too few rows left for an interval.
    """
    if codes.strata is None:
        return None
    sizes, strata = np.array(codes.sizes), codes.strata[rows]
    left = np.bincount(strata, minlength=len(sizes))
    if (left < np.minimum(sizes, FEWEST)).any():
        return None
    return (sizes / np.maximum(left, 1))[strata]


def score(
    name: str, table: pd.DataFrame, num_labels: int, weights: np.ndarray | None, seed: int
) -> Score:
    """Return a set's agreement with people; a class that is none of theirs is wrong."""
    true, predicted = table["class"].to_numpy(), table["predicted"].to_numpy()
    found = compute_metrics(true, predicted, num_labels, seed, weights)
    return Score(
        name=name,
        accuracy=found["accuracy_all_rows"],
        accuracy_ci95=found["accuracy_all_rows_ci95"],
        macro_f1=found["macro_f1"],
        macro_f1_ci95=found["macro_f1_ci95"],
        cohen_kappa=found["cohen_kappa"],
        cohen_kappa_ci95=found["cohen_kappa_ci95"],
    )


def mcnemar(tables: dict[str, pd.DataFrame], seed: int) -> McNemar:
    """Return the test of two sets on the same rows; what depends on other tests is still open."""
    [pair] = compare_pairs(tables, seed)
    return McNemar(
        only_first_right=pair["only_first_right"],
        only_second_right=pair["only_second_right"],
        difference=pair["difference"],
        difference_ci95=pair["difference_ci95"],
        p_value=pair["p_value"],
        p_holm=pair["p_value"],
        needed=0,
        detectable=None,
        difference_weighted=pair.get("difference_weighted"),
        difference_weighted_ci95=pair.get("difference_weighted_ci95"),
    )


def could_find(test: McNemar, rows: int, level: float) -> dict:
    """Return `needed` and `detectable` of a test of so many rows at a level."""
    separating = test.only_first_right + test.only_second_right
    needed = int(np.ceil(1 - np.log2(level)))  # 2 * 0.5 ** needed <= level
    return {"needed": needed, "detectable": detectable_difference(separating, rows, level)}


def detectable_difference(separating: int, rows: int, level: float) -> float | None:
    """Return the difference that McNemar's exact test finds with the power `POWER`, or None.

    Of `rows` rows, `separating` ones are right in one set alone; the test asks whether they split
    evenly. Given their number, its power follows from the binomial distribution.
    """
    counts = np.arange(separating // 2 + 1)
    refused = counts[2 * binom.cdf(counts, separating, 0.5) <= level]
    if not len(refused):
        return None
    most = int(refused[-1])

    def power(share: float) -> float:
        low = binom.cdf(most, separating, share)
        return float(low + binom.sf(separating - most - 1, separating, share))

    share = brentq(lambda share: power(share) - POWER, 0.5, 1 - UNLIKELY)
    return (2 * share - 1) * separating / rows
