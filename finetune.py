"""Step 6: QLoRA: fine-tune a causal LM to answer a comment with its class.

Reads   MODEL_PATH, TRAIN_FILE and VALIDATION_FILE (from split_dataset.py), PROMPT_FILE
Writes  OUTPUT_DIR/checkpoint-*, loss_curve.png, training.json and final_model: the adapter with the
        highest validation accuracy, its tokenizer, record, README.md and decision-model files;
        with MERGE also merged_model, in 16 bit
Run     python finetune.py --model-path ./Qwen2.5-3B   (--resume goes on from the last checkpoint)
"""

from functools import partial
from pathlib import Path

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.rows import read_training_rows
from pipeline.models.folder import check_model_folder

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
# data
MODEL_PATH = "./Qwen2.5-3B"  # a model's folder
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # custom_id, message, class
VALIDATION_FILE = "./pre_process/evaluation/validation.csv"  # the same
PROMPT_FILE = "./prompt.txt"  # the codebook
OUTPUT_DIR = "./qlora_checkpoints"  # the result is in its final_model
MAX_LENGTH = 512  # tokens of codebook, comment and answer; only the comment is shortened
MAX_TRAIN_SAMPLES = 0  # 0 = all rows
# adapter
LOAD_IN_4BIT = True  # NF4 with double quantization; off = LoRA on 16 bit (32 on a CPU)
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
LORA_R = 16  # rank
LORA_ALPHA = 32  # scale of the update: alpha / r
LORA_DROPOUT = 0.05  # share of the adapter's inputs
# training
NUM_TRAIN_EPOCHS = 3  # passes over the training rows
LEARNING_RATE = 2e-4  # peak, falling linearly to 0
WEIGHT_DECAY = 0.01  # AdamW's
WARMUP_STEPS = 20  # optimizer steps from 0 to the peak
CLASS_WEIGHTS = False  # on = a class counts in inverse proportion to its rows
PER_DEVICE_TRAIN_BATCH_SIZE = 32  # rows, which share one prompt
GRADIENT_ACCUMULATION_STEPS = 1  # batches; 32 x 1 = 32 rows per optimizer step
MAX_TOKENS_PER_PACK = 0  # tokens computed at once; 0 = as many as the memory takes
PER_DEVICE_EVAL_BATCH_SIZE = 32  # rows
EARLY_STOPPING_PATIENCE = 2  # epochs without a better validation accuracy
GRADIENT_CHECKPOINTING = False  # on = less memory, a third slower
SAVE_TOTAL_LIMIT = 2  # checkpoints kept, the best among them
LOGGING_STEPS = 10  # optimizer steps between two points of the loss curve
MERGE = False  # on = also write base and adapter as one model; later with RESUME
RESUME = False  # go on from the last checkpoint in OUTPUT_DIR
SEED = 42  # of the adapter's weights, dropout and the order of rows
# ---------------------------------------------------------------------------------------------

COUNTS = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "early_stopping_patience",
    "save_total_limit",
    "logging_steps",
    "lora_r",
)


def main(argv: list[str] | None = None) -> None:
    settings = parse_settings(globals(), argv)
    at_least_one(vars(settings), *COUNTS)
    refuse_small_packs(settings.max_tokens_per_pack, settings.max_length)
    model_path, files = settings.model_path, (settings.train_file, settings.validation_file)
    codebook = read_codebook(settings.prompt_file)
    rows = read_training_rows(*files, codebook, settings.max_train_samples)
    check_model_folder(model_path, "causal LM")

    from pipeline.llm.adapter import adapter_record, finish_adapter, merge_adapter
    from pipeline.llm.training import AdapterOptions, adapter_trainer
    from pipeline.models import training

    if settings.merge and settings.resume and (Path(settings.output_dir) / "final_model").is_dir():
        merge_adapter(model_path, settings.output_dir)
        return
    record = adapter_record(codebook, model_path, files, rows, vars(settings))
    with training.output_claimed(settings.output_dir, record, settings.resume) as checkpoint:
        kinds = (training.TrainingOptions, AdapterOptions)
        options = [training.options_of(kind, vars(settings)) for kind in kinds]
        trainer = adapter_trainer(model_path, codebook, *rows, *options)
        finish = partial(finish_adapter, trainer.processing_class, codebook, trainer.prompt)
        training.train_and_save(trainer, checkpoint, record, f"QLoRA of {model_path}", finish)
        if settings.merge:
            merge_adapter(model_path, settings.output_dir)


def refuse_small_packs(max_tokens_per_pack: int, max_length: int) -> None:
    """Refuse packs that are too small for a row."""
    if 0 < max_tokens_per_pack < max_length:
        raise UserError(
            f"--max-tokens-per-pack {max_tokens_per_pack}: a row may have --max-length "
            f"{max_length} tokens; give at least that, or 0"
        )


if __name__ == "__main__":
    run(main)
