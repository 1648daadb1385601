"""How silver labels came about: for the shell, for a paper, and row by row."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from pipeline.labelling.outcomes import Outcome, self_agreement
from pipeline.labelling.requests import Request


def describe_labels(
    outcomes: Sequence[Outcome], request: Request, asked_again: list[list[Outcome]]
) -> dict[str, Any]:
    """Return what a paper says of silver labels: who gave them, when, how many, and why not others.

    `outcomes` has one per row, `request` is any of the requests, and `asked_again` holds all
    outcomes of each row that was asked more than once.
    """
    body = json.loads(request.line)["body"]
    forms = Counter(out.form.split(" line ")[0] for out in outcomes if out.label < 0)
    dates = [
        datetime.fromtimestamp(out.created, UTC).date().isoformat()
        for out in outcomes
        if out.created
    ]
    rows, agreed, pairs = self_agreement(asked_again)
    return {
        "requests": len(outcomes),
        "labelled": sum(out.label >= 0 for out in outcomes),
        "reasons": dict(forms.most_common()),
        "strict": sum(out.form == "strict" for out in outcomes),
        "lenient": sum(out.form == "lenient" for out in outcomes),
        "teachers": [body.get("model", "")],
        "temperature": body.get("temperature"),
        "max_tokens": body.get("max_tokens"),
        "first_answer": min(dates, default=""),
        "last_answer": max(dates, default=""),
        "asked_again": rows,
        "all_agree": agreed,
        "self_agreement": pairs,
    }


def print_summary(record: dict) -> None:
    """Print how many rows each class and each reason has; a row is counted once."""
    labelled, total = record["labelled"], record["requests"]
    print(f"{labelled:,} of {total:,} rows have a label ({labelled / total:.2%}):")
    for k, (name, count) in enumerate(record["classes"].items()):
        print(f"  {count:>9,}  [{k}] {name} ({count / max(labelled, 1):.1%})")
    print(f"  {record['strict']:>9,}  answered exactly [k]; {record['lenient']:,} in another form")
    if record["corrected"]:
        print(f"  {record['corrected']:>9,}  corrected by hand")
    print(f"{total - labelled:,} rows have none:")
    for reason, count in record["reasons"].items():
        print(f"  {count:>9,}  {reason}")
    print(
        f"{record['duplicates']:,} answers came twice; {record['strays']:,} belong to no row (in "
        "the errors file)"
    )
    if rows := record["asked_again"]:
        print(
            f"{rows:,} rows were labelled more than once: all labels of {record['all_agree']:,} "
            f"agree ({record['all_agree'] / rows:.1%}), and {record['self_agreement']:.1%} of the "
            "pairs of labels"
        )


def confidence_table(
    custom_ids: Iterable[str], outcomes: Iterable[Outcome], names: tuple[str, ...]
) -> pd.DataFrame:
    """Return the teacher's probability of each class, blank where the provider gave none."""
    blank = ("",) * len(names)
    cells = [
        ["" if p is None else f"{p:.6f}" for p in out.probabilities] or blank for out in outcomes
    ]
    table = pd.DataFrame(cells, columns=[f"p_{name}" for name in names])
    table.insert(0, "custom_id", list(custom_ids))
    return table
