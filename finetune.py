"""Step 6: QLoRA: fine-tune a causal LM to answer a comment with its class.

Reads   MODEL_PATH, TRAIN_FILE and VALIDATION_FILE (from split_dataset.py), PROMPT_FILE
Writes  OUTPUT_DIR/checkpoint-*, loss_curve.png, training.json and final_model: the adapter with the
        highest validation accuracy, its tokenizer, record, README.md and decision-model files;
        with MERGE also merged_model, in 16 bit
Run     python finetune.py --model-path ./Qwen2.5-3B   (--resume goes on from the last checkpoint)
"""

from pathlib import Path

import pandas as pd

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
LORA_R = 16  # rank
LORA_ALPHA = 32  # scale of the update: alpha / r
LORA_DROPOUT = 0.05  # share of the adapter's inputs
# training
NUM_TRAIN_EPOCHS = 3  # passes over the training rows
LEARNING_RATE = 2e-4  # peak, falling linearly to 0
WEIGHT_DECAY = 0.01  # AdamW's
WARMUP_STEPS = 20  # optimizer steps from 0 to the peak
CLASS_WEIGHTS = False  # on = a class counts in inverse proportion to its rows
PER_DEVICE_TRAIN_BATCH_SIZE = 32  # rows behind one prompt
GRADIENT_ACCUMULATION_STEPS = 1  # batches; 32 x 1 = 32 rows per optimizer step
MAX_TOKENS_PER_PACK = 1280  # bounds the memory: a longer batch is split; at least MAX_LENGTH
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
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    at_least_one(settings, *COUNTS)
    if settings["max_tokens_per_pack"] < settings["max_length"]:
        raise UserError(
            f"--max-tokens-per-pack {settings['max_tokens_per_pack']}: a row may have --max-length "
            f"{settings['max_length']} tokens; give at least that"
        )
    codebook = read_codebook(settings["prompt_file"])
    train, validation = read_training_rows(settings, codebook)
    check_model_folder(settings["model_path"], "causal LM")

    from transformers import set_seed

    from pipeline.llm.adapter import finish_adapter, merge_adapter
    from pipeline.llm.generating import load_tokenizer
    from pipeline.llm.prompt import build_chat
    from pipeline.llm.training import build_trainer
    from pipeline.models.training import (
        claim_output,
        class_weights,
        train_and_save,
        training_record,
    )

    final = Path(settings["output_dir"]) / "final_model"
    if settings["merge"] and settings["resume"] and final.is_dir():
        merge_adapter(settings["model_path"], final, final.with_name("merged_model"))
        return
    record = training_record(settings, codebook)
    record["num_rows"] = {"train": len(train), "validation": len(validation)}
    checkpoint = claim_output(settings["output_dir"], record, settings["resume"])
    tokenizer = load_tokenizer(settings["model_path"])
    chat = build_chat(tokenizer, codebook)
    datasets = tuple(tokenize(tokenizer, chat, rows, settings) for rows in (train, validation))
    set_seed(settings["seed"])
    model = build_model(settings)
    weights = class_weights(train["class"], len(codebook.names), settings["class_weights"])
    trainer = build_trainer(settings, model, tokenizer, chat, datasets, weights)

    def finish(folder: Path, record: dict) -> None:
        finish_adapter(folder, record, tokenizer, codebook, chat)

    title = f"QLoRA of {settings['model_path']}"
    train_and_save(trainer, checkpoint, record, title, finish)
    if settings["merge"] and trainer.is_world_process_zero():
        merge_adapter(settings["model_path"], final, final.with_name("merged_model"))


def build_model(settings: dict):
    """Return the base model with a fresh LoRA adapter on all seven projections."""
    from peft import LoraConfig, get_peft_model

    from pipeline.llm.dropout import quicken_dropout
    from pipeline.llm.generating import load_model

    model = load_model(settings["model_path"], settings["load_in_4bit"])
    if settings["gradient_checkpointing"]:
        model.enable_input_require_grads()
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings["lora_r"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings["lora_dropout"],
        target_modules=target_modules(model),
    )
    model = get_peft_model(model, config)
    quicken_dropout(model)
    trained, total = model.get_nb_trainable_parameters()
    print(f"training {trained:,} of {total:,} parameters")
    return model


def target_modules(model) -> list[str] | str:
    """Return the names of the seven projections; of another architecture all linear layers."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if names.issuperset(PROJECTIONS):
        return PROJECTIONS
    print(f"adapting all linear layers: not all of {', '.join(PROJECTIONS)} are there")
    return "all-linear"


def tokenize(tokenizer, chat, rows: pd.DataFrame, settings: dict) -> list[dict]:
    """Return the rows as tokens, ready for packs."""
    from pipeline.llm.prompt import encode_comments
    from pipeline.llm.training import training_rows

    length = settings["max_length"]
    comments, shortened = encode_comments(tokenizer, chat, rows["message"].tolist(), length)
    print(f"{len(rows):,} rows as tokens, {shortened:,} comments shortened to fit {length}")
    return training_rows(chat, comments, rows["class"].tolist())


if __name__ == "__main__":
    run(main)
