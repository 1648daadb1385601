"""Step 13b: the silver labels against people: how right they are, and corrected class shares.

Run it when the coders have filled in the spreadsheets of human_sample.py; who they are stands in
sample.json. What they disagree on is listed in adjudication.xlsx: decide these rows together, fill
in `adjudicated`, and run it again. With --pilot, the pilot's sheets are scored, and no test set is
made of them. The rows that plan_coding.py --apply gave to people are scored with --sheets-dir
./pre_process/coding: their agreement and classes alone, as they are no random sample.

Reads   SHEETS_DIR/sample.csv, sample.json, <coder>.xlsx (from human_sample.py; people filled in
        `class`), adjudication.xlsx (people filled in `adjudicated`); PROMPT_FILE
        LABELED_FILE (from jsonl_to_csv.py), where there, to say which labels changed since
Writes  OUTPUT_DIR/human_check.json, report.txt, silver_errors.xlsx; SHEETS_DIR/adjudication.xlsx,
        human_labels.csv (the rows' final classes). The pilot's are in folders called pilot
        HUMAN_TEST_FILE, a test set of human labels, where the sample is of held-out rows; a .json
        beside it names their codebook
Run     python human_check.py
"""

from pathlib import Path

import pandas as pd

from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import check_outputs, write_text
from pipeline.common.tables import write_csv
from pipeline.people.codes import adjudicate, print_open_disputes, read_codes
from pipeline.people.record import HUMAN_LABELS_FILE, Stratum
from pipeline.people.sample import read_sample, sample_folder
from pipeline.people.score import (
    count_coded,
    human_labels,
    human_test_rows,
    score_sample,
    silver_errors,
    warn_of_new_labels,
    write_human_test,
)
from pipeline.people.score_text import human_report
from pipeline.people.unsure_rows import is_task, score_task
from pipeline.sheets.coding import write_sheet

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
PILOT = False  # score the pilot of human_sample.py --pilot
LABELED_FILE = "./pre_process/purged_labeled_v2.csv"  # the labels as they are now
PROMPT_FILE = "./prompt.txt"  # the codebook
SHEETS_DIR = "./pre_process/human_check"  # the sample and the coders' sheets
ORDERED_CLASSES = False  # on = steps of a scale, in the codebook's order: ordinal alpha too
OUTPUT_DIR = "./results/human_check"  # the figures
HUMAN_TEST_FILE = "./pre_process/evaluation/human_test.csv"  # a TEST_FILE of human labels
# ---------------------------------------------------------------------------------------------

CHECK_FILE = "human_check.json"


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    codebook = read_codebook(args.prompt_file)
    sheets = sample_folder(args.sheets_dir, args.pilot, codebook)
    if is_task(sheets):
        score_task(sheets, codebook, Path(args.output_dir) / sheets.name, args.ordered_classes)
        return
    sample, rows = read_sample(sheets, codebook)
    warn_of_new_labels(args.labeled_file, rows, codebook)
    codes = read_codes(sheets, sample.coders, rows, codebook)
    final = adjudicate(sheets, codes, rows, codebook)
    coded = rows.assign(human=final["label"].to_numpy()).query("human >= 0")
    sample = count_coded(sample, coded, sheets)
    folder = Path(args.output_dir) / (sheets.name if args.pilot else "")
    check_outputs([folder / CHECK_FILE, sheets / HUMAN_LABELS_FILE, args.human_test_file])
    scored = (sample, codes, final, coded, codebook, vars(args))
    check = score_sample(*scored, ordered=args.ordered_classes)
    write_csv(human_labels(coded), sheets / HUMAN_LABELS_FILE)
    write_sheet(silver_errors(coded, codebook), codebook, "", folder / "silver_errors.xlsx")
    held_out = sample.held_out and not args.pilot
    make_human_test(coded, sample.strata, codebook, args.human_test_file if held_out else "")
    write_text(human_report(check), folder / "report.txt")
    check.write(folder / CHECK_FILE)
    print(f"wrote {folder}: {CHECK_FILE}, report.txt\n\n{human_report(check)}")
    print_open_disputes(sheets, final)


def make_human_test(
    coded: pd.DataFrame, strata: list[Stratum], codebook: Codebook, path: str
) -> None:
    """Write the test set of human labels; say so where `path` is "", for no such set."""
    if path:
        write_human_test(human_test_rows(coded, strata), codebook, path)
    else:
        print("no test set is made of this sample: models learn from its rows")


if __name__ == "__main__":
    run(main)
