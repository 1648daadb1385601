"""How silver labels came about, for the shell and for a paper."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import pandas as pd

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.common.rows import HUMAN, coded_by_people
from pipeline.evaluation.metrics import cohen_kappa, confusion, wilson_interval
from pipeline.labelling.labels import Answers, self_agreement
from pipeline.labelling.outcomes import Outcome


def describe_labels(
    labels: Mapping[str, Outcome],
    corrected: Mapping[str, Outcome],
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
    outcomes = corrected.values()
    silver = [out for out in labels.values() if out.form != HUMAN]
    classes = Counter(out.label for out in outcomes)
    models = Counter(out.model for out in silver if out.model)
    reasons = Counter(out.form.split(" line ")[0] for out in outcomes if out.label < 0)
    dates = [
        datetime.fromtimestamp(out.created, UTC).date().isoformat() for out in silver if out.created
    ]
    again, agree, pairs = self_agreement(answers.asked_again())
    return {
        "requests": len(outcomes),
        "labelled": sum(out.label >= 0 for out in outcomes),
        "human_rows": len(outcomes) - len(silver),
        "reasons": dict(reasons.most_common()),
        "strict": sum(out.form == "strict" for out in silver),
        "lenient": sum(out.form == "lenient" for out in silver),
        "teachers": [model for model, _ in models.most_common()] or [settings.get("model", "")],
        "requested_model": settings.get("model", ""),
        "temperature": settings.get("temperature"),
        "max_tokens": settings.get("max_tokens"),
        "first_answer": min(dates, default=""),
        "last_answer": max(dates, default=""),
        "asked_coded_rows": check_of_people(rows, answers, len(codebook.names)),
        "asked_again": again,
        "all_agree": agree,
        "self_agreement": pairs,
        "classes": {name: classes[k] for k, name in enumerate(codebook.names)},
        "corrected": sum(corrected[row].label != out.label for row, out in labels.items()),
        "majority_vote": majority_vote,
        "duplicates": answers.duplicates,
        "unmatched": len(answers.unmatched),
        "other_sets": answers.others,
        "codebook_sha256": codebook.sha256,
        "class_names": list(codebook.names),
    }


def check_of_people(rows: pd.DataFrame, answers: Answers, num_labels: int) -> JsonObject | None:
    """Return how far the teacher agrees with people on the rows that people coded and it was asked.

    None where there are no such rows.
    """
    human = coded_by_people(rows)
    pairs = []
    for row, label, by_people in zip(rows["request"], rows["class"], human, strict=True):
        if by_people and (silver := answers.label_of(row)) >= 0:
            pairs.append((label, silver))
    if not pairs:
        return None
    people, teacher = zip(*pairs, strict=True)
    matrix = confusion(pd.Series(people).to_numpy(), pd.Series(teacher).to_numpy(), num_labels)
    agree = sum(label == silver for label, silver in pairs)
    return {
        "rows": len(pairs),
        "agreement": agree / len(pairs),
        "agreement_ci95": wilson_interval(agree, len(pairs)),
        "cohen_kappa": float(cohen_kappa(matrix)),
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
