"""A plan applied: the rows that the model is unsure of, as requests or as sheets for people."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.coding.coded_rows import CodedRows, refuse_other_model
from pipeline.coding.probabilities import KNOWN_FILE, read_stored
from pipeline.coding.record import CODE_AGAIN
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.stored_rows import StoredRows, store_rows
from pipeline.common.tables import PART
from pipeline.labelling.id_columns import ids_of_rows
from pipeline.labelling.ledger import what_was_sent
from pipeline.labelling.requests import Requests
from pipeline.labelling.shards import request_files, write_shards
from pipeline.people.held_out import in_samples
from pipeline.people.unsure_rows import earlier_rows, refuse_written, write_task
from pipeline.planning.plan import PLAN_AGAIN, Plan, confidence_below

ROUNDED = 2e-6  # what a confidence in codes.csv, of six digits, may be off


def check_plan(plan: Plan, coded: CodedRows | None, codebook: Codebook) -> CodedRows:
    """Return the coded rows that a plan is for; raises UserError where they do not fit it."""
    if plan.codebook_sha256 != codebook.sha256:
        raise UserError(f"the plan is by another codebook than {codebook.path}: {PLAN_AGAIN}")
    if plan.threshold is None:
        raise UserError(
            "the plan has no threshold: run plan_coding.py with --target-accuracy or --budget first"
        )
    if coded is None:
        raise UserError("no rows were coded by the model yet: run code_comments.py first")
    refuse_other_model(coded, plan.model, codebook)
    return coded


def unsure_rows(
    coded: CodedRows, threshold: float, input_file: str, codebook: Codebook
) -> tuple[StoredRows, np.ndarray]:
    """Return the rows of the sheet, and the places of those that the model is unsure of.

    These are of less confidence than the threshold, and nobody else coded them. Raises UserError
    where there are none, or the sheet has other rows by now.
    """
    unsure = coded.rows[coded.rows["confidence"] < threshold]
    ids = unsure["custom_id"]
    if ids.empty:
        raise UserError(
            f"{coded.path}: no row is left for others: {len(coded.rows):,} rows are at the "
            f"threshold or above, and others coded {coded.by_others:,}"
        )
    stored = store_rows(input_file, "excel_2_csv.py", codebook)
    cure = f"run excel_2_csv.py for the spreadsheet of now, and {CODE_AGAIN}"
    if len(stored.frame) != (count := len(coded.rows) + coded.by_others):
        raise UserError(
            f"{coded.path} has {count:,} rows, and {input_file} {len(stored.frame):,}: {cure}"
        )
    places = pd.Index(stored.frame["custom_id"]).get_indexer(ids)
    if (places < 0).any():
        missing = ids.iloc[int((places < 0).argmax())]
        raise UserError(f"{coded.path}: {missing} is not in {input_file}: {cure}")
    order = np.argsort(places)
    _refuse_other_comments(coded, unsure.iloc[order], stored, places[order])
    print(f"{len(places):,} rows were coded by the model alone, with {confidence_below(threshold)}")
    return stored, places[order]


def _refuse_other_comments(
    coded: CodedRows, unsure: pd.DataFrame, stored: StoredRows, places: np.ndarray
) -> None:
    """Stop where an id is that of another comment now: its confidence is not that of the row."""
    known = read_stored(coded.path.with_name(KNOWN_FILE))
    if known is None:
        return
    for start in range(0, len(places), PART):
        part = unsure.iloc[start : start + PART]
        messages = stored.messages(places[start : start + PART])
        same = np.abs(known.confidence(messages) - part["confidence"].to_numpy()) < ROUNDED
        if not same.all():
            raise UserError(
                f"{stored.path}: {part['custom_id'].iloc[int(same.argmin())]} is not the comment "
                "that was coded: run excel_2_csv.py and code_comments.py for one spreadsheet, as "
                "it is now and with the same options, then this again"
            )


def write_requests(
    stored: StoredRows,
    places: np.ndarray,
    codebook: Codebook,
    requests_file: str,
    state_file: str,
    unsure_file: str,
    max_requests: int,
    max_bytes: int,
) -> None:
    """Write the requests of some rows as they stand in the file of all requests.

    A line keeps its id, so that what was sent is known to the ledger and not sent again. Equal
    comments that are asked once share a request. Raises UserError where a row has none.
    """
    requests = Requests(request_files(requests_file))
    if requests.prompt != codebook.text:
        raise UserError(
            f"{requests_file} asks with another codebook than {codebook.path}: run "
            "batch_infer_gen.py again"
        )
    ids = ids_of_rows(stored.frame).only(places)
    found = requests.ids.by_message.find(ids)
    shared = np.flatnonzero(found < 0)
    first = pd.Series(np.arange(len(requests)), index=requests.ids.message)
    first = first[~first.index.duplicated()]
    found[shared] = first.reindex(ids.message[shared], fill_value=-1).to_numpy()
    if missing := int((found < 0).sum()):
        raise UserError(
            f"{missing:,} of the rows have no request in {requests_file}: run batch_infer_gen.py "
            "again, which writes the requests of all rows that people did not code"
        )
    asked = np.unique(found)
    sent, _ = what_was_sent(state_file, requests.label_set, None, requests.ids)
    lines = (line.decode() for line in requests.lines_at(asked.tolist()))
    files = write_shards(lines, unsure_file, max_requests, max_bytes)
    more = f" to {files[-1].name} ({len(files)} files)" if len(files) > 1 else ""
    print(f"wrote {files[0]}{more}: {len(asked):,} requests")
    if again := int((sent[asked] > 0).sum()):
        print(
            f"{again:,} of them were sent before and will not be sent again: run jsonl_to_csv.py, "
            "which says what came of them, and code_comments.py"
        )
    print(
        f"next: python submit_batch.py --requests-file {unsure_file}, then jsonl_to_csv.py, then "
        "code_comments.py"
    )


def write_sheets(
    stored: StoredRows,
    places: np.ndarray,
    plan: Plan,
    coders: list[str],
    codebook: Codebook,
    coding_dir: str,
    settings: dict[str, Any],
) -> None:
    """Write some rows into sheets for people, but for those in earlier ones by this codebook."""
    folder = Path(coding_dir)
    refuse_written(folder, coders)
    rows = stored.frame.iloc[places][["custom_id"]].assign(message=stored.messages(places))
    before = in_samples(rows, earlier_rows(folder, codebook))
    if before.any():
        print(f"  left out {before.sum():,} rows that stand in earlier sheets for people")
    if before.all():
        raise UserError("all of the rows stand in earlier sheets for people: have them coded")
    write_task(
        rows[~before],
        coders,
        plan.threshold,
        plan.model.path,
        codebook,
        folder,
        settings,
    )
    print(
        f"next: have {', '.join(f'{folder / coder}.xlsx' for coder in coders)} coded, then run "
        f"human_check.py --sheets-dir {coding_dir}, then code_comments.py"
    )
