"""What the coders' sheets say: their agreement, the silver labels' errors, corrected shares."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs, write_csv, write_json, write_text
from pipeline.common.rows import read_messages
from pipeline.evaluation.metrics import confusion
from pipeline.people.agreement import agreement
from pipeline.people.coding import ADJUDICATION, read_codes, settle
from pipeline.people.label_quality import label_quality
from pipeline.people.sample import read_sample, sheets_folder
from pipeline.people.score_text import human_report
from pipeline.sheets.coding import write_sheet


def score(settings: dict, codebook: Codebook) -> None:
    """Read the coded sheets; write the figures, the disagreements and the human test set."""
    sheets = sheets_folder(settings)
    record, sample = read_sample(sheets, codebook)
    warn_of_new_labels(settings["labeled_file"], sample, codebook)
    codes = read_codes(sheets, record["coders"], sample, codebook)
    final, disputed = settle(codes, sample, codebook, sheets / ADJUDICATION)
    folder = Path(settings["output_dir"]) / ("pilot" if settings["pilot"] else "")
    check_outputs([folder / "human_check.json", settings["human_test_file"]])

    usable = (final["label"] >= 0).to_numpy()
    rows = sample[usable].assign(human=final["label"].to_numpy()[usable])
    counts = confusion(rows["class"].to_numpy(), rows["human"].to_numpy(), len(codebook.names))
    counts = counts[:, :-1]  # people give no invalid answer
    refuse_uncoded_classes(sheets, record["strata"], counts.sum(1))
    result = {
        **described(record, codes, counts.sum(1), codebook),
        "agreement": agreement(codes, len(codebook.names), ordered=settings["ordered_classes"]),
        "disagreements": int(disputed.sum()),
        "adjudicated": int((final["adjudicated"] >= 0).sum()),
        "undecided": int((~usable & disputed.to_numpy()).sum()),
        "uncoded": int((~usable & ~disputed.to_numpy()).sum()),
        "settings": settings,
    }
    sizes = np.array([stratum["population"] for stratum in record["strata"]])
    result |= label_quality(counts, sizes, list(codebook.names))

    write_sheet(silver_errors(rows, codebook), codebook, "", folder / "silver_errors.xlsx")
    write_json(result, folder / "human_check.json")
    write_text(human_report(result), folder / "report.txt")
    if record["held_out"] and not settings["pilot"]:
        weights = (sizes / np.maximum(counts.sum(1), 1))[rows["class"]]
        test = rows[["custom_id", "message"]].assign(
            **{"class": rows["human"], "coded_by": "human", "weight": weights}
        )
        write_csv(test, settings["human_test_file"])
    else:
        print("no test set is made of this sample: models learn from its rows")
    print(f"wrote {folder}: human_check.json, report.txt\n\n{human_report(result)}")
    if listed := int((disputed & (final["adjudicated"] < 0)).sum()):
        print(
            f"to be looked at, in {sheets / ADJUDICATION}: {listed:,} rows, "
            f"{result['undecided']:,} of them without a majority"
        )


def refuse_uncoded_classes(sheets: Path, strata: list[dict], coded: np.ndarray) -> None:
    """Stop where no row of a silver class has a human label: nothing is known of it then."""
    for stratum in strata:
        if stratum["population"] and not coded[stratum["class"]]:
            raise UserError(
                f"{sheets}: none of the {stratum['drawn']} rows of silver class {stratum['name']} "
                "has a human label: have them coded, and what the coders disagree on adjudicated"
            )


def described(record: dict, codes: pd.DataFrame, coded: np.ndarray, codebook: Codebook) -> dict:
    """Return the sample and the coders, as human_check.json has them."""
    kept = {key: record[key] for key in ("population", "held_out", "drawn", "date")}
    kept |= {key: record["settings"][key] for key in ("seed", "min_per_class")}
    strata = [stratum | {"coded": int(coded[stratum["class"]])} for stratum in record["strata"]]
    blank = (codes < 0).sum()
    return {
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "sample": kept | {"strata": strata},
        "coders": [
            {"name": name, "coded": len(codes) - int(blank[name]), "blank": int(blank[name])}
            for name in codes
        ],
    }


def silver_errors(rows: pd.DataFrame, codebook: Codebook) -> pd.DataFrame:
    """Return the rows whose silver class is not the human one, with both names."""
    names = np.array(codebook.names)
    wrong = rows[rows["class"] != rows["human"]].sort_values(["human", "class"])
    return wrong[["custom_id", "message"]].assign(
        silver=names[wrong["class"]], human=names[wrong["human"]]
    )


def warn_of_new_labels(path: str, sample: pd.DataFrame, codebook: Codebook) -> None:
    """Say so where the labels are no longer those that were drawn."""
    if not Path(path).is_file():
        return
    now = read_messages(path, "jsonl_to_csv.py", codebook)
    labels = sample["custom_id"].map(dict(zip(now["custom_id"], now["class"], strict=True)))
    if changed := int((labels != sample["class"]).sum()):
        print(
            f"{changed:,} rows of the sample have another label in {path} by now: the figures are "
            "those of the labels as they were drawn"
        )
