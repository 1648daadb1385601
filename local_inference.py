"""Step 5: a local LLM on a CSV of messages, before fine-tuning.

Reads   MODEL_PATH (a causal LM, as git clone leaves it), TEST_FILE (message; custom_id and class
        where they exist: rows without a class are predicted, not scored), PROMPT_FILE
Writes  OUTPUT_DIR/report.txt, metrics.json, predictions.csv, confusion_matrix.png; stops where
        that folder holds another run
Run     python local_inference.py --model-path ./Qwen2.5-3B
"""

from pipeline.common.cli import parse_settings, run
from pipeline.llm.evaluate import evaluate_llm

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
MODEL_PATH = "./Qwen2.5-3B"  # a model's folder
TEST_FILE = "./pre_process/evaluation/test.csv"  # any CSV with a message column
PROMPT_FILE = "./prompt.txt"  # the codebook
OUTPUT_DIR = "./results/{model}-{run}"  # run: before, or before-NAME for rows of NAME.csv
LOAD_IN_4BIT = True  # NF4, as in training; off = 16 bit (32 on a CPU)
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
DECODING = "generate"  # the reply as text; "score" = class tokens compared, always valid
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
        adapter_path="",
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
