"""Step 9: fine-tune BERT to classify comments.

Reads   MODEL_PATH (an encoder, as git clone leaves it), TRAIN_FILE and VALIDATION_FILE (from
        split_dataset.py), PROMPT_FILE (names and number of the classes)
Writes  OUTPUT_DIR/checkpoint-*, loss_curve.png, training.json and final_model: the weights with the
        highest validation weighted F1, the tokenizer and the record
Run     python bert_tune.py   (--resume goes on from the last checkpoint)
"""

from pipeline.common.cli import at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.rows import read_training_rows
from pipeline.models.folder import check_model_folder

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
# data
MODEL_PATH = "./bert-base-chinese"  # an encoder's folder
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # custom_id, message, class
VALIDATION_FILE = "./pre_process/evaluation/validation.csv"  # the same
PROMPT_FILE = "./prompt.txt"  # the codebook
OUTPUT_DIR = "./bert_checkpoints"  # the result is in its final_model
MAX_LENGTH = 128  # tokens; longer comments are shortened and counted
MAX_TRAIN_SAMPLES = 0  # 0 = all rows
# training
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
NUM_TRAIN_EPOCHS = 10  # at most
EARLY_STOPPING_PATIENCE = 3  # epochs without a better validation weighted F1
LEARNING_RATE = 3e-5  # peak, falling linearly to 0
WEIGHT_DECAY = 0.01  # AdamW's
WARMUP_RATIO = 0.1  # share of the steps from 0 to the peak
CLASS_WEIGHTS = True  # a class counts in inverse proportion to its rows
FREEZE_WORD_EMBEDDINGS = False  # on = faster, less memory where the vocabulary is large
PER_DEVICE_TRAIN_BATCH_SIZE = 32  # rows
PER_DEVICE_EVAL_BATCH_SIZE = 64  # rows
SAVE_TOTAL_LIMIT = 2  # checkpoints kept, the best among them
LOGGING_STEPS = 50  # optimizer steps between two points of the loss curve
RESUME = False  # go on from the last checkpoint in OUTPUT_DIR
SEED = 42  # of the head's weights, dropout and the order of rows
# ---------------------------------------------------------------------------------------------

COUNTS = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "early_stopping_patience",
    "save_total_limit",
    "logging_steps",
)
OWN = ("max_length", "warmup_ratio", "freeze_word_embeddings")  # settings of this training alone


def main(argv: list[str] | None = None) -> None:
    settings = parse_settings(globals(), argv)
    at_least_one(vars(settings), *COUNTS)
    model_path, files = settings.model_path, (settings.train_file, settings.validation_file)
    codebook = read_codebook(settings.prompt_file)
    rows = read_training_rows(*files, codebook, settings.max_train_samples)
    check_model_folder(model_path, "encoder")

    from pipeline.bert.training import bert_trainer
    from pipeline.common.machine import start_run
    from pipeline.models import training

    start_run(settings.dtype)
    record = training.training_record(codebook, model_path, files, rows, vars(settings))
    with training.output_claimed(settings.output_dir, record, settings.resume) as checkpoint:
        trainer = bert_trainer(
            model_path,
            codebook,
            *rows,
            training.options_of(training.TrainingOptions, vars(settings)),
            balanced=settings.class_weights,
            **{name: getattr(settings, name) for name in OWN},
        )
        training.train_and_save(trainer, checkpoint, record, f"Fine-tuning of {model_path}")


if __name__ == "__main__":
    run(main)
