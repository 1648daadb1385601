"""Labels that people corrected: read from sheets, kept, and put in the place of silver ones."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_label
from pipeline.common.files import clean_text, read_csv, write_csv
from pipeline.labelling.outcomes import Outcome
from pipeline.labelling.requests import Request
from pipeline.sheets.coding import read_filled_in, without_space


def read_corrections(
    sheet: str, kept: str, requests: Mapping[str, Request], codebook: Codebook
) -> dict[str, int]:
    """Return custom_id -> class of all corrections: those of `kept`, and of `sheet` if it is given.

    `kept` is what `write_corrections` wrote in earlier runs. Raises UserError where either belongs
    to other data or another codebook.
    """
    messages = {custom_id: request.message for custom_id, request in requests.items()}
    corrections: dict[str, int] = {}
    if Path(kept).is_file():
        columns = ["custom_id", "message", "class", "codebook_sha256"]
        for row, line in read_csv(kept, columns, "jsonl_to_csv.py").iterrows():
            message = messages.get(line["custom_id"], "")
            same = without_space(message) == without_space(line["message"])
            if not same or line["codebook_sha256"] != codebook.sha256:
                what = "codebook" if same else "data"
                raise UserError(
                    f"{kept}, row {row}: the corrections are those of other {what}: move the file "
                    "away, or give another --corrections-file"
                )
            label = parse_label(line["class"], codebook)
            if label is None or label < 0:
                raise UserError(
                    f"{kept}, row {row}: {line['class']!r} is no class ({codebook.choices}): "
                    "correct the cell"
                )
            corrections[line["custom_id"]] = label
    if sheet:
        cure = "run label_audit.py first"
        filled_in = read_filled_in(sheet, codebook, "corrected", messages, cure)
        corrections |= {row: label for row, label in filled_in.items() if label >= 0}
    return corrections


def apply_corrections(labels: dict[str, Outcome], corrections: Mapping[str, int]) -> int:
    """Put the corrected classes into `labels`; return how many rows got another label by that."""
    changed = 0
    for custom_id, label in corrections.items():
        if labels[custom_id].label != label:
            labels[custom_id] = Outcome(label, "corrected", "")
            changed += 1
    return changed


def write_corrections(
    corrections: Mapping[str, int],
    requests: Mapping[str, Request],
    path: str,
    codebook: Codebook,
) -> None:
    """Write all corrections, so that the next run has them again."""
    rows = [
        (custom_id, clean_text(requests[custom_id].message), label, codebook.sha256)
        for custom_id, label in corrections.items()
    ]
    columns = ["custom_id", "message", "class", "codebook_sha256"]
    write_csv(pd.DataFrame(rows, columns=columns), path)
