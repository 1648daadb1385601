"""What step 3 writes: the rows with their labels, why others have none, what to send again."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.common.files import clean_text, write_csv
from pipeline.labelling.outcomes import CONFLICT, TIE, Outcome
from pipeline.labelling.requests import Request, write_shards


def write_labels(
    requests: Mapping[str, Request],
    labels: Mapping[str, Outcome],
    unlabeled_file: str | Path,
    labeled_file: str | Path,
    purged_file: str | Path,
) -> None:
    """Write every row without a class, every row with its class or -1, and the labelled rows."""
    rows = [
        (custom_id, clean_text(request.message), labels[custom_id].label)
        for custom_id, request in requests.items()
    ]
    table = pd.DataFrame(rows, columns=["custom_id", "message", "class"])
    write_csv(table.assign(**{"class": -1}), unlabeled_file)
    write_csv(table, labeled_file)
    write_csv(table[table["class"] >= 0], purged_file)


def write_errors(
    labels: Mapping[str, Outcome], unmatched: list[tuple[str, str, str]], path: str | Path
) -> None:
    """Write custom_id, reason and reply of rows without a label and of answers without a row."""
    failed = [
        (custom_id, outcome.form, outcome.reply)
        for custom_id, outcome in labels.items()
        if outcome.label < 0
    ]
    table = pd.DataFrame(failed + unmatched, columns=["custom_id", "reason", "reply"])
    write_csv(table.assign(reply=table["reply"].map(clean_text)), path)


def write_retry(
    requests: Mapping[str, Request],
    labels: Mapping[str, Outcome],
    path: str | Path,
    max_requests: int,
    max_bytes: int,
) -> None:
    """Write the requests to send again: of rows without a label that one more answer may decide."""
    lines = [
        request.line
        for custom_id, request in requests.items()
        if labels[custom_id].label < 0 and labels[custom_id].form not in (CONFLICT, TIE)
    ]
    files = write_shards(lines, path, max_requests, max_bytes)
    print(f"wrote {', '.join(map(str, files))}: {len(lines):,} requests")


def write_confidence(
    labels: Mapping[str, Outcome], names: tuple[str, ...], path: str | Path
) -> None:
    """Write the teacher's probability of each class, where the answers hold any.

    A row whose answer has none is blank.
    """
    if not any(outcome.probabilities for outcome in labels.values()):
        return
    blank = ("",) * len(names)
    cells = [
        ["" if p is None else f"{p:.6f}" for p in outcome.probabilities] or blank
        for outcome in labels.values()
    ]
    table = pd.DataFrame(cells, columns=[f"p_{name}" for name in names])
    table.insert(0, "custom_id", list(labels))
    write_csv(table, path)
