"""What the coders' sheets say: their agreement, the silver labels' errors, corrected shares."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.agreement import agreement
from pipeline.cli import UserError
from pipeline.codebook import Codebook
from pipeline.evaluation import confusion
from pipeline.files import check_outputs, write_csv, write_json, write_text
from pipeline.human_report import human_report
from pipeline.human_sample import ADJUDICATION, read_codes, read_sample, settle, sheets_folder
from pipeline.label_quality import label_quality
from pipeline.messages import read_messages
from pipeline.sheets import write_sheet


def score(settings: dict, codebook: Codebook) -> None:
    """Read the coded sheets; write the figures, the disagreements and the human test set."""
    sheets = sheets_folder(settings)
    record, sample = read_sample(sheets, codebook)
    warn_of_new_labels(settings["labeled_file"], sample, codebook)
    codes = read_codes(sheets, record["coders"], sample, codebook)
    final, disputed = settle(codes, sample, codebook, sheets / ADJUDICATION)
    folder = Path(settings["output_dir"]) / ("pilot" if settings["pilot"] else "")
    check_outputs([folder / "human_check.json", settings["human_test_file"]])

    silver, human = sample["class"].to_numpy(), final["label"].to_numpy()
    usable, num_labels = human >= 0, len(codebook.names)
    counts = confusion(silver[usable], human[usable], num_labels)[:, :-1]
    sizes = np.array([stratum["population"] for stratum in record["strata"]])
    for name, coded, stratum in zip(codebook.names, counts.sum(1), record["strata"], strict=True):
        stratum["coded"] = int(coded)
        if stratum["population"] and not coded:
            raise UserError(
                f"{sheets}: none of the {stratum['drawn']} rows of silver class {name} has a "
                "human label: have them coded, and what the coders disagree on adjudicated"
            )
    blank = (codes < 0).sum()
    result = {
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "sample": {key: record[key] for key in ("population", "held_out", "drawn", "date")}
        | {"seed": record["settings"]["seed"], "strata": record["strata"]}
        | {"min_per_class": record["settings"]["min_per_class"]},
        "coders": [
            {"name": name, "coded": len(codes) - int(blank[name]), "blank": int(blank[name])}
            for name in codes
        ],
        "agreement": agreement(codes, num_labels, settings["seed"]),
        "disagreements": int(disputed.sum()),
        "adjudicated": int((final["adjudicated"] >= 0).sum()),
        "undecided": int((~usable & disputed.to_numpy()).sum()),
        "uncoded": int((~usable & ~disputed.to_numpy()).sum()),
        "settings": settings,
    } | label_quality(counts, sizes, list(codebook.names), settings["seed"])

    names = np.array(codebook.names)
    wrong = usable & (silver != human)
    errors = sample.loc[wrong, ["custom_id", "message"]].assign(
        silver=names[silver[wrong]], human=names[human[wrong]]
    )
    write_sheet(
        errors.sort_values(["human", "silver"]), codebook, "", folder / "silver_errors.xlsx"
    )
    write_json(result, folder / "human_check.json")
    write_text(human_report(result), folder / "report.txt")
    if record["held_out"] and not settings["pilot"]:
        weights = (sizes / np.maximum(counts.sum(1), 1))[silver[usable]]
        test = sample.loc[usable, ["custom_id", "message"]].assign(
            **{"class": human[usable], "coded_by": "human", "weight": weights}
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
