"""Step 3c: labels that are probably wrong, and near-duplicates labelled differently.

audit.xlsx lists them for people to look at, the most doubtful first. Where a label is wrong, choose
the right class in `corrected`, and leave the cell empty where it is right. Then run
jsonl_to_csv.py --corrections ./results/audit/audit.xlsx, which puts the corrected classes into the
labels, and split_dataset.py again, which leaves each row in its split. audit.json is for the page
of write_report.py.

Only rows of train.csv and validation.csv are looked at: labels of test rows that were corrected
where a model disputes them would favour that model. Rows that people coded help to find the wrong
labels of others, and are not listed.

Reads   LABELED_FILE (from jsonl_to_csv.py), PROMPT_FILE, MODEL_PATH (an encoder)
        SPLITS_DIR/train.csv, validation.csv, test.csv (from split_dataset.py)
        with --audit-method tune also TUNED_PATH/training.json (from bert_tune.py)
Writes  AUDIT_DIR/audit.xlsx, audit.json
Run     python label_audit.py
"""

from argparse import Namespace

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.processes import num_processes
from pipeline.common.rows import read_messages
from pipeline.models.folder import check_model_folder, refuse_tuned
from pipeline.models.kept_rows import KeptRows, keeping_rows

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
LABELED_FILE = "./pre_process/purged_labeled_v2.csv"  # the data set: custom_id, message, class
SPLITS_DIR = "./pre_process/evaluation"  # the splits, of which test is left out; empty = all rows
PROMPT_FILE = "./prompt.txt"  # the codebook
MODEL_PATH = "./bert-base-chinese"  # an encoder's folder
AUDIT_METHOD = "probe"  # "tune" = fine-tune BERT once a fold, as TUNED_PATH was
TUNED_PATH = "./bert_checkpoints/final_model"  # whose settings "tune" takes
AUDIT_DIR = "./results/audit"  # the labels to look at
FOLDS = 5  # parts of the rows, each predicted by a model of the others
SIMILARITY = 0.9  # of two comments' character 3-grams, from which on they are near-duplicates
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
BATCH_SIZE = 64  # rows
MAX_LENGTH = 128  # tokens; longer comments are shortened
SEED = 42  # of the folds
# ---------------------------------------------------------------------------------------------


METHODS = ("probe", "tune")


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    check_settings(args.audit_method, args.folds, args.similarity, args.batch_size)
    codebook = read_codebook(args.prompt_file)
    refuse_tuned(check_model_folder(args.model_path, "encoder"))
    labelled = read_messages(args.labeled_file, "jsonl_to_csv.py", codebook, labelled=True)

    from pipeline.audit import suspects
    from pipeline.audit.near_duplicates import near_duplicates
    from pipeline.common.machine import start_run

    start_run(args.dtype)
    folder = suspects.check_folder(args.audit_dir)
    rows = suspects.rows_to_audit(labelled, args.splits_dir, codebook)
    groups = near_duplicates(rows["message"].tolist(), args.similarity)
    suspects.refuse_few_messages(args.labeled_file, rows, groups, args.folds, codebook)
    with keeping_rows(folder) as kept:
        kept.claim()
        probabilities, method = class_probabilities(args, rows, groups, codebook, kept)
        found = suspects.find_suspects(rows, probabilities, groups)
        record = suspects.audit_record(found, codebook, method, len(labelled), vars(args))
        suspects.write_audit(found, record, codebook, folder)


def class_probabilities(
    args: Namespace, rows: pd.DataFrame, groups: np.ndarray, codebook: Codebook, kept: KeptRows
) -> tuple[np.ndarray, str]:
    """Return class probabilities (rows, classes) by the method that was asked for, and its name."""
    from pipeline.audit.probabilities import probe_probabilities, split_folds, tuned_probabilities

    folds = split_folds(rows["class"].to_numpy(), groups, args.folds, args.seed)
    shared = (args.model_path, rows, folds, codebook, args.batch_size)
    if args.audit_method == "probe":
        return probe_probabilities(*shared, args.max_length, kept)
    return tuned_probabilities(*shared, args.tuned_path, args.seed, kept)


def check_settings(method: str, folds: int, similarity: float, batch_size: int) -> None:
    """Refuse settings that make no sense."""
    if method not in METHODS:
        raise UserError(f"--audit-method {method}: give {' or '.join(METHODS)}")
    if method == "tune" and num_processes() > 1:
        raise UserError("--audit-method tune trains in one process: start it without torchrun")
    if folds < 2:
        raise UserError(f"--folds {folds}: give at least 2")
    if not 0 < similarity <= 1:
        raise UserError(f"--similarity {similarity}: give a share above 0, at most 1")
    at_least_one({"batch_size": batch_size}, "batch_size")


if __name__ == "__main__":
    run(main)
