"""The rows of several label sets in one table: each row with every set's class and people's."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import bare_words
from pipeline.common.rows import find_rows
from pipeline.labelling.label_tables import LabelSet
from pipeline.people.human_codes import HumanCodes

NONE, ABSENT = -1, -2  # no label; a row that the set does not have
SPREADSHEET = "the spreadsheet"  # where people coded rows without a sample being drawn


@dataclass(frozen=True)
class PeopleCodes:
    """What people said of the rows of a `JoinedSets`.

    `labels` (rows,) holds classes, -1 for none; `classes` are the classes that people could choose.
    `strata` (rows,) and `sizes` are those of the sample, None where none was drawn. `lost` counts
    coded rows that no set has. `codebook_sha256` is "" where it is not known.
    """

    name: str
    labels: np.ndarray
    classes: list[int]
    codebook_sha256: str = ""
    lost: int = 0
    strata: np.ndarray | None = None
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class JoinedSets:
    """The rows of all sets, each once, with what each set and people say of them.

    A class is a place in `class_names`, which holds the classes of all codebooks: those whose names
    have the same words are one. `labels` has an array (rows,) per set, `repeats` one per time that
    the teacher was asked again; `classes` has a set's classes in the order of its codebook.
    """

    rows: pd.DataFrame  # custom_id, message
    class_names: list[str]
    classes: dict[str, list[int]]
    labels: dict[str, np.ndarray]
    repeats: dict[str, list[np.ndarray]]
    people: list[PeopleCodes]

    def names_of(self, labels: np.ndarray) -> np.ndarray:
        """Return classes by name, "" where there is none."""
        names = np.array([*self.class_names, ""], dtype=object)
        return names[np.where(labels < 0, len(self.class_names), labels)]

    @property
    def in_spreadsheet(self) -> np.ndarray:
        """Which rows people coded in the spreadsheet, a bool (rows,)."""
        found = [codes.labels >= 0 for codes in self.people if codes.name == SPREADSHEET]
        return found[0] if found else np.zeros(len(self.rows), bool)

    @property
    def human(self) -> np.ndarray:
        """What people said of each row, the first source that has it, -1 where none has."""
        found = np.full(len(self.rows), NONE)
        for codes in self.people:
            found = np.where(found < 0, codes.labels, found)
        return found


def join_sets(sets: list[LabelSet], samples: list[HumanCodes]) -> JoinedSets:
    """Return the rows of all sets in one table, the last set's first and in its order.

    Raises UserError where two sets have no row in common.
    """
    table, places = sets[-1].rows[["custom_id", "message"]], {}
    for one in reversed(sets):
        found = find_rows(one.rows, table)
        new = found < 0
        found[new] = np.arange(len(table), len(table) + new.sum())
        new_rows = one.rows.loc[new, ["custom_id", "message"]]
        table = pd.concat([table, new_rows], ignore_index=True)
        places[one.name] = found
    for first, second in combinations(sets, 2):
        if not np.intersect1d(places[first.name], places[second.name]).size:
            raise UserError(
                f"{first.path} and {second.path} have no row in common: they label other data; "
                "name by --sets those that belong together"
            )
    names: dict[str, str] = {}
    classes = {one.name: class_places(one.codebook.names, names) for one in reversed(sets)}
    labels, repeats, in_spreadsheet = {}, {}, np.full(len(table), NONE)
    for one in sets:
        at, known = places[one.name], np.array([*classes[one.name], NONE])
        labels[one.name] = spread(known[one.rows["class"]], at, len(table), ABSENT)
        repeats[one.name] = [
            spread(known[one.rows[name]], at, len(table), NONE) for name in one.repeats
        ]
        coded = spread(known[one.rows["people"]], at, len(table), NONE)
        in_spreadsheet = np.where(coded >= 0, coded, in_spreadsheet)
    people = [people_codes(sample, table, names) for sample in samples]
    if (in_spreadsheet >= 0).any():
        own = {k for one in sets if (one.rows["people"] >= 0).any() for k in classes[one.name]}
        people.append(PeopleCodes(SPREADSHEET, in_spreadsheet, sorted(own)))
    return JoinedSets(table, list(names.values()), classes, labels, repeats, people)


def class_places(own: tuple[str, ...], names: dict[str, str]) -> list[int]:
    """Return the places of a codebook's classes among `names`, which new ones are added to."""
    for name in own:
        names.setdefault(bare_words(name), name)
    order = list(names)
    return [order.index(bare_words(name)) for name in own]


def spread(labels: np.ndarray, places: np.ndarray, size: int, rest: int) -> np.ndarray:
    """Return labels at their places in an array of `size`, `rest` elsewhere."""
    table = np.full(size, rest)
    table[places] = labels
    return table


def people_codes(sample: HumanCodes, table: pd.DataFrame, names: dict[str, str]) -> PeopleCodes:
    """Return what people coded in a sample, at the places of its rows in `table`."""
    classes = class_places(sample.class_names, names)
    places = find_rows(sample.rows, table)
    there = places >= 0
    labels = np.array(classes)[sample.rows["class"]]
    strata = sample.rows["stratum"].to_numpy()
    return PeopleCodes(
        sample.name,
        spread(labels[there], places[there], len(table), NONE),
        classes,
        sample.codebook_sha256,
        int((~there).sum()),
        spread(strata[there], places[there], len(table), NONE),
        sample.sizes,
    )


def changed_rows(joined: JoinedSets) -> pd.DataFrame:
    """Return the rows of which any two sets, or answers, say something else.

    The columns are `custom_id`, `message`, each set's class name, those of its repeats, and `human`
    where people coded rows. Rows with the same change stand together.
    """
    columns = {}
    for name, labels in joined.labels.items():
        columns[name] = labels
        for number, repeat in enumerate(joined.repeats[name], start=1):
            columns[f"{name}, asked again {number}"] = repeat
    codes = np.stack(list(columns.values()), axis=1)
    lowest = np.where(codes < 0, len(joined.class_names), codes).min(1)
    changed = (codes.max(1) >= 0) & (codes.max(1) != lowest)
    order = np.flatnonzero(changed)
    order = order[np.lexsort(codes[order].T[::-1])]
    table = joined.rows.iloc[order].reset_index(drop=True)
    for name, labels in columns.items():
        table[name] = joined.names_of(labels[order])
    if joined.people:
        table["human"] = joined.names_of(joined.human[order])
    return table
