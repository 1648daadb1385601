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

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
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
EXCLUDE = "./pre_process/human_check*/**/sample.csv"  # earlier samples, not to be drawn again
CODERS = "coder1,coder2"  # names, a sheet each
SAMPLE_SIZE = 500  # rows
MIN_PER_CLASS = 50  # rows of each silver class, or all that it has
ORDERED_CLASSES = False  # on = steps of a scale, in the codebook's order: ordinal alpha too
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
SEED = 42  # of the draws, the coders' orders and the folds
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    at_least_one(settings, "sample_size", "min_per_class", "batch_size")
    codebook = read_codebook(settings["prompt_file"])
    chosen = [name for name in ("draw", "score", "audit") if settings[name]]
    if not chosen and settings["pilot"]:
        chosen = ["draw"]
    if len(chosen) != 1:
        raise UserError("give one of --draw, --pilot, --score and --audit")
    if chosen == ["draw"]:
        from pipeline.people.sample import draw

        draw(settings, codebook)
    elif chosen == ["score"]:
        from pipeline.people.score import score

        score(settings, codebook)
    else:
        from pipeline.audit.label_audit import audit

        audit(settings, codebook)


if __name__ == "__main__":
    run(main)
