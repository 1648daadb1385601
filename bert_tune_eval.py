"""Step 10: BERT after fine-tuning.

Reads   TUNED_PATH (from bert_tune.py), TEST_FILE, PROMPT_FILE
Writes  OUTPUT_DIR/report.txt, metrics.json, predictions.csv, confusion_matrix.png
Run     python bert_tune_eval.py
"""

from pipeline.bert.evaluate import predict_after
from pipeline.common.cli import at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.rows import read_test_rows
from pipeline.evaluation.run import results_folder, save_results

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
TUNED_PATH = "./bert_checkpoints/final_model"  # the fine-tuned model's folder
TEST_FILE = "./pre_process/evaluation/test.csv"  # any CSV with a message column
PROMPT_FILE = "./prompt.txt"  # the codebook of the training
OUTPUT_DIR = "./results/{model}-after"  # {model} = the name of the base model's folder
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
    predictions, record = predict_after(
        codebook,
        rows,
        tuned_path=settings.tuned_path,
        test_file=settings.test_file,
        output_dir=settings.output_dir,
        batch_size=settings.batch_size,
        max_length=settings.max_length,
        seed=settings.seed,
        settings=vars(settings),
    )
    folder = results_folder(settings.output_dir, record["model_path"])
    save_results(folder, rows, predictions, codebook, record, settings.seed)


if __name__ == "__main__":
    run(main)
