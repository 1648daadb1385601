"""How silver labels came about, for the shell and for a paper."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.labelling.labels import Answers, self_agreement
from pipeline.labelling.outcomes import Outcome
from pipeline.labelling.requests import Request


def describe_labels(
    labels: Mapping[str, Outcome],
    answers: Answers,
    requests: Mapping[str, Request],
    codebook: Codebook,
    corrected: int,
    majority_vote: bool,
) -> JsonObject:
    """Return what a paper says of silver labels: who gave them, when, how many, and why not others.

    The model and its settings are those of the first request; `corrected` is how many labels
    people changed.
    """
    outcomes = labels.values()
    body = json.loads(next(iter(requests.values())).line)["body"]
    reasons = Counter(out.form.split(" line ")[0] for out in outcomes if out.label < 0)
    classes = Counter(out.label for out in outcomes)
    dates = [
        datetime.fromtimestamp(out.created, UTC).date().isoformat()
        for out in outcomes
        if out.created
    ]
    rows, agreed, pairs = self_agreement(answers.asked_again())
    return {
        "requests": len(outcomes),
        "labelled": sum(out.label >= 0 for out in outcomes),
        "reasons": dict(reasons.most_common()),
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
        "classes": {name: classes[k] for k, name in enumerate(codebook.names)},
        "corrected": corrected,
        "majority_vote": majority_vote,
        "duplicates": answers.duplicates,
        "unmatched": len(answers.unmatched),
        "codebook_sha256": codebook.sha256,
        "class_names": list(codebook.names),
    }


def print_summary(record: JsonObject) -> None:
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
        f"{record['duplicates']:,} answers came twice; {record['unmatched']:,} belong to no row "
        "(in the errors file)"
    )
    if rows := record["asked_again"]:
        print(
            f"{rows:,} rows were labelled more than once: all labels of {record['all_agree']:,} "
            f"agree ({record['all_agree'] / rows:.1%}), and {record['self_agreement']:.1%} of the "
            "pairs of labels"
        )
