"""Step 13: the silver labels against human coders, and the labels that look wrong.

--draw    a random sample of the held-out rows, in a spreadsheet per coder
--pilot   another sample, of the other rows, to refine the codebook on (with --score: scores it)
--score   agreement between the coders, silver labels against theirs, corrected class shares
--audit   labels that the comments' text makes improbable, and near-duplicates labelled differently

Reads   LABELED_FILE (from jsonl_to_csv.py), TEST_FILE (from split_dataset.py), PROMPT_FILE
        SHEETS_DIR/<coder>.xlsx once people filled in `class`, and adjudication.xlsx `adjudicated`
        MODEL_PATH (an encoder), for the audit
Writes  SHEETS_DIR/sample.csv, sample.json, <coder>.xlsx, adjudication.xlsx
        OUTPUT_DIR/human_check.json, report.txt, silver_errors.xlsx; HUMAN_TEST_FILE
        AUDIT_DIR/audit.json, audit.xlsx (corrections go back by jsonl_to_csv.py --corrections)
Run     python human_check.py --draw
"""

from pathlib import Path

import numpy as np

from pipeline.agreement import agreement
from pipeline.cli import UserError, at_least_one, parse_settings, run
from pipeline.codebook import Codebook, read_codebook
from pipeline.files import check_outputs, write_csv, write_json, write_text
from pipeline.human_report import human_report
from pipeline.human_sample import (
    ADJUDICATION,
    draw,
    read_codes,
    read_sample,
    settle,
    sheets_folder,
)
from pipeline.label_quality import label_quality
from pipeline.sheets import write_sheet

# ---------------------------------------------------------------------------------------------
# what to do
DRAW = False  # draw the sample
PILOT = False  # draw the sample to refine the codebook on; with SCORE, score that one
SCORE = False  # read the coded sheets
AUDIT = False  # look for labels that are probably wrong
# the sample
LABELED_FILE = "./pre_process/purged_labeled_v2.csv"  # the data set: custom_id, message, class
TEST_FILE = "./pre_process/evaluation/test.csv"  # held-out rows to draw from; empty = all rows
PROMPT_FILE = "./prompt.txt"  # the codebook
SHEETS_DIR = "./pre_process/human_check"  # the sample and the coders' sheets
CODERS = "coder1,coder2"  # names, a sheet each
SAMPLE_SIZE = 500  # rows
MIN_PER_CLASS = 50  # rows of each silver class, or all that it has
OUTPUT_DIR = "./results/human_check"  # the figures
HUMAN_TEST_FILE = "./pre_process/evaluation/human_test.csv"  # a TEST_FILE of human labels
# the audit
MODEL_PATH = "./bert-base-chinese"  # an encoder's folder
AUDIT_METHOD = "probe"  # "tune" = fine-tune BERT once a fold, as TUNED_PATH was
TUNED_PATH = "./bert_checkpoints/final_model"  # whose settings "tune" takes
AUDIT_DIR = "./results/audit"  # the labels to look at
FOLDS = 5  # parts of the rows, each predicted by a model of the others
SIMILARITY = 0.9  # of two comments' character 3-grams, from which on they are near-duplicates
BATCH_SIZE = 64  # rows
MAX_LENGTH = 128  # tokens; longer comments are shortened
SEED = 42  # of the draws, the coders' orders, the intervals and the folds
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    at_least_one(settings, "sample_size", "min_per_class", "batch_size")
    codebook = read_codebook(settings["prompt_file"])
    if settings["audit"]:
        from pipeline.audit import audit

        audit(settings, codebook)
    elif settings["score"]:
        score(settings, codebook)
    elif settings["draw"] or settings["pilot"]:
        draw(settings, codebook)
    else:
        raise UserError("nothing to do: give --draw, --pilot, --score or --audit")


def score(settings: dict, codebook: Codebook) -> None:
    """Read the coded sheets; write the figures, the disagreements and the human test set."""
    sheets = sheets_folder(settings)
    record, sample = read_sample(sheets, codebook)
    codes = read_codes(sheets, record["coders"], sample, codebook)
    final, disputed = settle(codes, sample, codebook, sheets / ADJUDICATION)
    folder = Path(settings["output_dir"]) / ("pilot" if settings["pilot"] else "")
    check_outputs([folder / "human_check.json", settings["human_test_file"]])

    silver, human = sample["class"].to_numpy(), final["label"].to_numpy()
    usable, num_labels = human >= 0, len(codebook.names)
    counts = np.zeros((num_labels, num_labels), int)
    np.add.at(counts, (silver[usable], human[usable]), 1)
    sizes = np.array([stratum["population"] for stratum in record["strata"]])
    for name, coded, stratum in zip(codebook.names, counts.sum(1), record["strata"], strict=True):
        stratum["coded"] = int(coded)
        if stratum["population"] and not coded:
            raise UserError(
                f"{sheets}: none of the {stratum['drawn']} rows of silver class {name} has a "
                "human label: have them coded, or adjudicate them"
            )
    blank = (codes < 0).sum()
    result = {
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "sample": {key: record[key] for key in ("population", "held_out", "drawn", "date")}
        | {"seed": record["settings"]["seed"], "strata": record["strata"]},
        "coders": [
            {"name": name, "coded": len(codes) - int(blank[name]), "blank": int(blank[name])}
            for name in codes
        ],
        "agreement": agreement(codes, num_labels, settings["seed"]),
        "disagreements": int(disputed.sum()),
        "adjudicated": int((final["adjudicated"] >= 0).sum()),
        "undecided": int((~usable & disputed.to_numpy()).sum()),
        "unusable": int((~usable & ~disputed.to_numpy()).sum()),
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
    print(f"wrote {folder}: human_check.json, report.txt\n\n{human_report(result)}")
    if open_cases := int((disputed & (final["adjudicated"] < 0)).sum()):
        print(f"to be decided, in {sheets / ADJUDICATION}: {open_cases:,} rows")


if __name__ == "__main__":
    run(main)
