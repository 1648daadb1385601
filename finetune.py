"""Step 6: QLoRA: fine-tune a causal LM to answer a comment with its class.

Reads   MODEL_PATH (the base model), TRAIN_FILE and VALIDATION_FILE (from split_dataset.py),
        PROMPT_FILE (the codebook)
Writes  OUTPUT_DIR/checkpoint-*, loss_curve.png, training.json and final_model: the adapter with the
        lowest validation loss, its tokenizer and its record
Run     python finetune.py --model-path ./Qwen2.5-3B   (--resume goes on from the last checkpoint)
"""

import pandas as pd

from pipeline.cli import at_least_one, parse_settings, run
from pipeline.codebook import read_codebook
from pipeline.messages import read_training_rows
from pipeline.models import check_model_folder

# ---------------------------------------------------------------------------------------------
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
PER_DEVICE_TRAIN_BATCH_SIZE = 4  # rows
GRADIENT_ACCUMULATION_STEPS = 8  # batches; 4 x 8 = 32 rows per optimizer step
PER_DEVICE_EVAL_BATCH_SIZE = 8  # rows
GRADIENT_CHECKPOINTING = False  # on = less memory, a third slower
SAVE_TOTAL_LIMIT = 2  # checkpoints kept, the best among them
LOGGING_STEPS = 10  # optimizer steps between two points of the loss curve
RESUME = False  # go on from the last checkpoint in OUTPUT_DIR
SEED = 42  # of the adapter's weights, dropout and the order of rows
# ---------------------------------------------------------------------------------------------

COUNTS = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "save_total_limit",
    "logging_steps",
    "lora_r",
)
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    at_least_one(settings, *COUNTS)
    codebook = read_codebook(settings["prompt_file"])
    train, validation = read_training_rows(settings, codebook)
    check_model_folder(settings["model_path"], "causal LM")

    from transformers import DataCollatorForSeq2Seq, Trainer, set_seed

    from pipeline.chat import build_chat
    from pipeline.llm import load_tokenizer
    from pipeline.training import claim_output, train_and_save, trainer_arguments, training_record

    record = training_record(settings, codebook)
    checkpoint = claim_output(settings["output_dir"], record, settings["resume"])
    tokenizer = load_tokenizer(settings["model_path"])
    tokenizer.padding_side = "right"
    chat = build_chat(tokenizer, codebook)
    set_seed(settings["seed"])
    trainer = Trainer(
        model=build_model(settings),
        args=trainer_arguments(
            settings,
            warmup_steps=settings["warmup_steps"],
            gradient_accumulation_steps=settings["gradient_accumulation_steps"],
            activation_checkpointing=settings["gradient_checkpointing"],
            metric_for_best_model="eval_loss",
            prediction_loss_only=True,
        ),
        train_dataset=tokenize(tokenizer, chat, train, settings["max_length"]),
        eval_dataset=tokenize(tokenizer, chat, validation, settings["max_length"]),
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        processing_class=tokenizer,
    )
    train_and_save(trainer, checkpoint, record, f"QLoRA of {settings['model_path']}")


def build_model(settings: dict):
    """Return the base model with a fresh LoRA adapter on all seven projections."""
    from peft import LoraConfig, get_peft_model

    from pipeline.llm import load_model

    model = load_model(settings["model_path"], settings["load_in_4bit"])
    if settings["gradient_checkpointing"]:
        model.enable_input_require_grads()
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings["lora_r"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings["lora_dropout"],
        target_modules=PROJECTIONS,
    )
    model = get_peft_model(model, config)
    trained, total = model.get_nb_trainable_parameters()
    print(f"training {trained:,} of {total:,} parameters")
    return model


def tokenize(tokenizer, chat, rows: pd.DataFrame, max_length: int):
    """Return a dataset of `input_ids` and `labels`, -100 everywhere but on the answer."""
    from datasets import Dataset

    from pipeline.chat import encode_comments

    comments, shortened = encode_comments(tokenizer, chat, rows["message"].tolist(), max_length)
    print(f"{len(rows):,} rows as tokens, {shortened:,} comments shortened to fit {max_length}")
    asked = [chat.prefix + comment + chat.suffix for comment in comments]
    answers = [chat.answers[label] for label in rows["class"]]
    pairs = list(zip(asked, answers, strict=True))
    return Dataset.from_dict(
        {
            "input_ids": [prompt + reply for prompt, reply in pairs],
            "labels": [[-100] * len(prompt) + reply for prompt, reply in pairs],
        }
    )


if __name__ == "__main__":
    run(main)
