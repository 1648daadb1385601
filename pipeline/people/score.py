"""What the coders' sheets say: their agreement, the silver labels' errors, corrected shares."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import write_json
from pipeline.common.records import to_record
from pipeline.common.rows import find_rows, read_messages
from pipeline.common.tables import write_csv
from pipeline.evaluation.metrics import confusion, wilson_interval
from pipeline.people.agreement import agreement
from pipeline.people.intervals import FEWEST
from pipeline.people.label_quality import label_quality
from pipeline.people.record import (
    Agreement,
    Coder,
    HumanCheck,
    Sample,
    Share,
    SilverQuality,
    Stratum,
)


def count_coded(sample: Sample, rows: pd.DataFrame, folder: Path) -> Sample:
    """Return the sample with the number of rows of each silver class that have a human label.

    `rows` are the rows that have one. Raises UserError where a class has too few for an interval.
    `folder` holds the sheets.
    """
    coded = rows["class"].value_counts()
    strata = [
        replace(stratum, coded=int(coded.get(k, 0))) for k, stratum in enumerate(sample.strata)
    ]
    for stratum in strata:
        if stratum.coded < min(FEWEST, stratum.population):
            raise UserError(
                f"{folder}: {'one' if stratum.coded else 'none'} of the {stratum.drawn} rows of "
                f"silver class {stratum.name} has a human label, and an interval needs {FEWEST}: "
                "have them coded, and what the coders disagree on adjudicated"
            )
    return replace(sample, strata=strata)


def score_sample(
    sample: Sample,
    codes: pd.DataFrame,
    final: pd.DataFrame,
    rows: pd.DataFrame,
    codebook: Codebook,
    settings: dict[str, Any],
    ordered: bool,
) -> HumanCheck:
    """Return the figures of a coded sample.

    `codes` has a column per coder, `final` is `final_labels` of them; `rows` are the sampled rows
    that have a label, `class` being the silver and `human` the human one. `ordered` is whether the
    classes are steps of a scale.
    """
    names = list(codebook.names)
    counts = confusion(rows["class"].to_numpy(), rows["human"].to_numpy(), len(names))
    counts = counts[:, :-1]  # people give no invalid answer
    sizes = np.array([stratum.population for stratum in sample.strata])
    quality = label_quality(counts, sizes, names)
    known = np.array([stratum.by_people for stratum in sample.strata])
    blank = (codes < 0).sum()
    without, disputed = final["label"] < 0, final["disputed"]
    return HumanCheck(
        class_names=names,
        codebook_sha256=codebook.sha256,
        sample=sample,
        coders=[Coder(name, len(codes) - int(blank[name]), int(blank[name])) for name in codes],
        agreement=to_record(agreement(codes, len(names), ordered=ordered), Agreement | None),
        disagreements=int(disputed.sum()),
        adjudicated=int((final["adjudicated"] >= 0).sum()),
        undecided=int((without & disputed).sum()),
        uncoded=int((without & ~disputed).sum()),
        silver=to_record(quality["silver"], SilverQuality),
        shares=to_record(shares_of_all(quality["shares"], sizes, known), list[Share]),
        settings=settings,
    )


def shares_of_all(shares: list[dict], sizes: np.ndarray, known: np.ndarray) -> list[dict]:
    """Return the shares of the classes among all labelled rows, of which people coded some before.

    `shares` are those of the rows with a silver label, `sizes` (k,) of each class; `known` (k,)
    counts the rows that people coded. Their classes are certain: a share of all rows is linear in
    that of the silver rows, and so are the ends of its interval.
    """
    if not known.any():
        return shares
    silver, total = sizes.sum(), (sizes + known).sum()

    def of_all(share: float, k: int) -> float:
        return float((share * silver + known[k]) / total)

    return [
        {
            "name": one["name"],
            "naive": float((sizes[k] + known[k]) / total),
            "naive_ci95": wilson_interval(sizes[k] + known[k], total),
            "corrected": of_all(one["corrected"], k),
            "corrected_ci95": [of_all(end, k) for end in one["corrected_ci95"]],
        }
        for k, one in enumerate(shares)
    ]


def human_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the coded rows with their final class by people."""
    return rows[["custom_id", "message"]].assign(**{"class": rows["human"]})


def human_test_rows(rows: pd.DataFrame, strata: list[Stratum]) -> pd.DataFrame:
    """Return the coded rows as a test set: each stands for `weight` rows of the data set."""
    weights = {k: one.population / max(one.coded, 1) for k, one in enumerate(strata)}
    return human_labels(rows).assign(coded_by="human", weight=rows["class"].map(weights))


def write_human_test(rows: pd.DataFrame, codebook: Codebook, path: str | Path) -> None:
    """Write a test set of human labels, and beside it a record that names their codebook."""
    write_csv(rows, path)
    record = {"rows": len(rows), "codebook_sha256": codebook.sha256}
    write_json(record, Path(path).with_suffix(".json"))


def silver_errors(rows: pd.DataFrame, codebook: Codebook) -> pd.DataFrame:
    """Return the rows whose silver class is not the human one, with both names."""
    names = np.array(codebook.names)
    wrong = rows[rows["class"] != rows["human"]].sort_values(["human", "class"])
    return wrong[["custom_id", "message"]].assign(
        silver=names[wrong["class"]], human=names[wrong["human"]]
    )


def warn_of_new_labels(path: str, sample: pd.DataFrame, codebook: Codebook) -> None:
    """Say so where the labels are no longer those that were drawn, or rows have none by now."""
    if not Path(path).is_file():
        return
    now = read_messages(path, "jsonl_to_csv.py", codebook)
    places = find_rows(sample, now)
    if gone := int((places < 0).sum()):
        print(
            f"{gone:,} rows of the sample are not in {path} by now: the figures are those of the "
            "rows as they were drawn"
        )
    labels = now["class"].to_numpy()[places]
    if changed := int(((labels != sample["class"]) & (places >= 0)).sum()):
        print(
            f"{changed:,} rows of the sample have another label in {path} by now: the figures are "
            "those of the labels as they were drawn"
        )
