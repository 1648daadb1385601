"""Step 10: BERT after fine-tuning.

Reads   TUNED_PATH (from bert_tune.py), TEST_FILE, PROMPT_FILE
Writes  OUTPUT_DIR/report.txt, metrics.json, predictions.csv, confusion_matrix.png
Run     python bert_tune_eval.py
"""

from pipeline.bert.evaluate import evaluate_bert, predict_after
from pipeline.common.cli import parse_settings, run

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
    evaluate_bert(vars(parse_settings(globals(), argv)), predict_after)


if __name__ == "__main__":
    run(main)
