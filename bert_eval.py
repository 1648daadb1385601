"""Step 8: BERT before fine-tuning: logistic regression on the frozen encoder's features.

Reads   MODEL_PATH (an encoder, as git clone leaves it), TEST_FILE, TRAIN_FILE (to fit the
        regression), PROMPT_FILE
Writes  OUTPUT_DIR/report.txt, metrics.json, predictions.csv, confusion_matrix.png; stops where
        that folder holds another run
Run     python bert_eval.py   (--untrained-head: a random head instead, which is chance)
"""

from argparse import Namespace

from pipeline.bert.evaluate import predict_before
from pipeline.common.cli import at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.rows import read_test_rows
from pipeline.evaluation.folder import PlannedRun, plan_run
from pipeline.evaluation.run import save_results
from pipeline.models.kept_rows import keeping_rows

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
MODEL_PATH = "./bert-base-chinese"  # an encoder's folder
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # custom_id, message, class
TEST_FILE = "./pre_process/evaluation/test.csv"  # any CSV with a message column
PROMPT_FILE = "./prompt.txt"  # the codebook: names and number of the classes
OUTPUT_DIR = "./results/{model}-{run}"  # run: before, or before-NAME for rows of NAME.csv
UNTRAINED_HEAD = False  # a random classification head, as an untrained BERT has
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
BATCH_SIZE = 64  # rows
MAX_LENGTH = 128  # tokens; longer comments are shortened and counted
MAX_TRAIN_SAMPLES = 0  # 0 = all rows
MAX_TEST_SAMPLES = 0  # 0 = all rows
SEED = 42  # of the random head and the bootstrap intervals
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    settings = parse_settings(globals(), argv)
    at_least_one(vars(settings), "batch_size")
    codebook = read_codebook(settings.prompt_file)
    rows = read_test_rows(settings.test_file, codebook, settings.max_test_samples)
    planned = planned_run(settings, codebook)
    from pipeline.common.machine import start_run

    start_run(settings.dtype)
    with keeping_rows(planned.folder) as kept:
        predictions, record = predict_before(
            codebook,
            rows,
            planned,
            model_path=settings.model_path,
            train_file=settings.train_file,
            max_train_samples=settings.max_train_samples,
            untrained_head=settings.untrained_head,
            batch_size=settings.batch_size,
            max_length=settings.max_length,
            seed=settings.seed,
            settings=vars(settings),
            kept=kept,
        )
        save_results(planned.folder, rows, predictions, codebook, record, settings.seed)


def planned_run(settings: Namespace, codebook: Codebook) -> PlannedRun:
    """Return the run with its folder."""
    return plan_run(
        settings.output_dir,
        "before",
        model_path=settings.model_path,
        random_head=settings.untrained_head,
        test_file=settings.test_file,
        max_test_samples=settings.max_test_samples,
        codebook_sha256=codebook.sha256,
    )


if __name__ == "__main__":
    run(main)
