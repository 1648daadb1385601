"""Step 10: BERT after fine-tuning.

Reads   TUNED_PATH (from bert_tune.py), TEST_FILE, PROMPT_FILE
Writes  OUTPUT_DIR/report.txt, metrics.json, predictions.csv, confusion_matrix.png; stops where
        that folder holds another run
Run     python bert_tune_eval.py
"""

from argparse import Namespace

from pipeline.bert.evaluate import predict_after, read_tuning
from pipeline.common.cli import at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.rows import read_test_rows
from pipeline.evaluation.folder import PlannedRun, plan_run
from pipeline.evaluation.run import save_results
from pipeline.models.kept_rows import keeping_rows

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
TUNED_PATH = "./bert_checkpoints/final_model"  # the fine-tuned model's folder
TEST_FILE = "./pre_process/evaluation/test.csv"  # any CSV with a message column
PROMPT_FILE = "./prompt.txt"  # the codebook of the training
OUTPUT_DIR = "./results/{model}-{run}"  # run: after, human (human_test.csv), after-NAME (NAME.csv)
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
BATCH_SIZE = 64  # rows
MAX_LENGTH = 128  # tokens, as in training; longer comments are shortened and counted
MAX_TEST_SAMPLES = 0  # 0 = all rows
SEED = 42  # of the bootstrap intervals
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
        predictions, record = predict_after(
            codebook,
            rows,
            planned,
            tuned_path=settings.tuned_path,
            batch_size=settings.batch_size,
            max_length=settings.max_length,
            seed=settings.seed,
            settings=vars(settings),
            kept=kept,
        )
        save_results(planned.folder, rows, predictions, codebook, record, settings.seed)


def planned_run(settings: Namespace, codebook: Codebook) -> PlannedRun:
    """Return the run with its folder, which is called after the base model."""
    tuning = read_tuning(settings.tuned_path, codebook)
    return plan_run(
        settings.output_dir,
        "after",
        model_path=tuning["settings"]["model_path"],
        trained_path=settings.tuned_path,
        test_file=settings.test_file,
        max_test_samples=settings.max_test_samples,
        codebook_sha256=codebook.sha256,
    )


if __name__ == "__main__":
    run(main)
