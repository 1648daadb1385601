"""How silver labels came about, for the shell and for a paper."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.common.rows import HUMAN, coded_by_people
from pipeline.evaluation.metrics import cohen_kappa, confusion, wilson_interval
from pipeline.labelling.answers import Answers
from pipeline.labelling.labels import Labels, self_agreement


def describe_labels(
    labels: Labels,
    corrected: Labels,
    answers: Answers,
    rows: pd.DataFrame,
    settings: JsonObject,
    codebook: Codebook,
    majority_vote: bool,
) -> JsonObject:
    """Return what a paper says of silver labels: who gave them, when, how many, and why not others.

    `labels` are those of the answers and of people who coded rows, `corrected` those after people
    changed some.
    The models are those that answered; `settings` are those of the requests.
    """
    table = labels.table
    silver = labels.place[~labels.have_form(HUMAN)]
    models = most_common(table.model[silver], list(table.models))
    models.pop("", None)
    created = table.created[silver]
    dates = [datetime.fromtimestamp(one, UTC).date() for one in _ends(created[created != 0])]
    again, agree, pairs = self_agreement(answers.labels_again())
    without = corrected.label < 0
    classes = np.bincount(corrected.label[~without], minlength=len(codebook.names)).tolist()
    return {
        "requests": len(corrected.label),
        "labelled": int((~without).sum()),
        "human_rows": len(labels.label) - len(silver),
        "reasons": most_common(table.form[corrected.place[without]], list(table.forms)),
        "strict": int(labels.have_form("strict").sum()),
        "lenient": int(labels.have_form("lenient").sum()),
        "teachers": list(models) or [settings.get("model", "")],
        "requested_model": settings.get("model", ""),
        "temperature": settings.get("temperature"),
        "max_tokens": settings.get("max_tokens"),
        "first_answer": dates[0].isoformat() if dates else "",
        "last_answer": dates[-1].isoformat() if dates else "",
        "asked_coded_rows": check_of_people(rows, answers, len(codebook.names)),
        "asked_again": again,
        "all_agree": agree,
        "self_agreement": pairs,
        "classes": dict(zip(codebook.names, classes, strict=True)),
        "corrected": int((corrected.label != labels.label).sum()),
        "majority_vote": majority_vote,
        "duplicates": answers.duplicates,
        "unmatched": len(answers.unmatched),
        "other_sets": answers.others,
        "codebook_sha256": codebook.sha256,
        "class_names": list(codebook.names),
    }


def most_common(numbers: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Return how often each name's number is there, the most frequent first, then as they come."""
    values, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    return {names[values[one]]: int(counts[one]) for one in order}


def _ends(values: np.ndarray) -> list[float]:
    """Return the least and the greatest value, nothing where there is none."""
    return [float(values.min()), float(values.max())] if len(values) else []


def check_of_people(rows: pd.DataFrame, answers: Answers, num_labels: int) -> JsonObject | None:
    """Return how far the teacher agrees with people on the rows that people coded and it was asked.

    None where there are no such rows.
    """
    silver = answers.label_of(len(rows))
    both = coded_by_people(rows) & (silver >= 0)
    if not both.any():
        return None
    people, teacher = rows["class"].to_numpy()[both], silver[both]
    agree, count = int((people == teacher).sum()), int(both.sum())
    return {
        "rows": count,
        "agreement": agree / count,
        "agreement_ci95": wilson_interval(agree, count),
        "cohen_kappa": float(cohen_kappa(confusion(people, teacher, num_labels))),
    }


def print_summary(record: JsonObject) -> None:
    """Print how many rows each class and each reason has; a row is counted once."""
    labelled, total = record["labelled"], record["requests"]
    print(f"{labelled:,} of {total:,} rows have a label ({labelled / total:.2%}):")
    for k, (name, count) in enumerate(record["classes"].items()):
        print(f"  {count:>9,}  [{k}] {name} ({count / max(labelled, 1):.1%})")
    if record["human_rows"]:
        print(f"  {record['human_rows']:>9,}  coded by people in the spreadsheet")
    print(f"  {record['strict']:>9,}  answered exactly [k]; {record['lenient']:,} in another form")
    if record["corrected"]:
        print(f"  {record['corrected']:>9,}  corrected by hand")
    print(f"{total - labelled:,} rows have none:")
    for reason, count in record["reasons"].items():
        print(f"  {count:>9,}  {reason}")
    print(
        f"{record['duplicates']:,} answers came twice; {record['unmatched']:,} belong to no row "
        "(in the errors file)"
    )
    if record["other_sets"]:
        print(f"{record['other_sets']:,} answers are those of another codebook or model: left out")
    if rows := record["asked_again"]:
        print(
            f"{rows:,} rows were labelled more than once: all labels of {record['all_agree']:,} "
            f"agree ({record['all_agree'] / rows:.1%}), and {record['self_agreement']:.1%} of the "
            "pairs of labels"
        )
    if check := record["asked_coded_rows"]:
        low, high = check["agreement_ci95"]
        print(
            f"on {check['rows']:,} rows that people coded, the model gives their class in "
            f"{check['agreement']:.1%} [{low:.1%}, {high:.1%}] (Cohen's kappa "
            f"{check['cohen_kappa']:.4f})"
        )
