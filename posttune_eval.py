"""Step 7: the same as step 5, with the adapter that finetune.py trained.

Reads   MODEL_PATH (the base model), ADAPTER_PATH (from finetune.py), TEST_FILE, PROMPT_FILE
Writes  OUTPUT_DIR/report.txt, metrics.json, predictions.csv, confusion_matrix.png; stops where
        that folder holds another run
Run     python posttune_eval.py --model-path ./Qwen2.5-3B
"""

from pipeline.common.cli import parse_settings, run
from pipeline.llm.evaluate import evaluate_llm

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
MODEL_PATH = "./Qwen2.5-3B"  # the base model's folder
ADAPTER_PATH = "./qlora_checkpoints/final_model"  # the adapter's folder
TEST_FILE = "./pre_process/evaluation/test.csv"  # any CSV with a message column
PROMPT_FILE = "./prompt.txt"  # the codebook of the training
OUTPUT_DIR = "./results/{model}-{run}"  # run: after, human (human_test.csv), after-NAME (NAME.csv)
LOAD_IN_4BIT = True  # NF4, as in training; off = 16 bit (32 on a CPU)
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
DECODING = "score"  # class tokens compared, with probabilities; "generate" = the reply
BATCH_SIZE = 0  # rows at once, to generate; 0 = as many as the memory takes
MAX_TOKENS_PER_PACK = 0  # tokens at once, to score; 0 = as many as the memory takes
MAX_LENGTH = 512  # tokens of codebook, comment and answer; only the comment is shortened
MAX_NEW_TOKENS = 20  # tokens of the reply, to generate
MAX_TEST_SAMPLES = 0  # 0 = all rows
SEED = 42  # of the bootstrap intervals
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    settings = parse_settings(globals(), argv)
    evaluate_llm(
        model_path=settings.model_path,
        adapter_path=settings.adapter_path,
        test_file=settings.test_file,
        prompt_file=settings.prompt_file,
        output_dir=settings.output_dir,
        load_in_4bit=settings.load_in_4bit,
        dtype=settings.dtype,
        decoding=settings.decoding,
        batch_size=settings.batch_size,
        max_tokens_per_pack=settings.max_tokens_per_pack,
        max_length=settings.max_length,
        max_new_tokens=settings.max_new_tokens,
        max_test_samples=settings.max_test_samples,
        seed=settings.seed,
        settings=vars(settings),
    )


if __name__ == "__main__":
    run(main)
