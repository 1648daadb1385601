"""Step 4 of the demo: build the models that a real run downloads, small enough for a CPU.

Two Qwen2 causal LMs and a BERT, briefly pre-trained on generated comments of another seed than the
sample's, in folders laid out as a clone from Hugging Face.

Reads   PROMPT_FILE (the codebook)
Writes  OUTPUT_DIR/Qwen2-tiny-0.7M, Qwen2-tiny-0.3M, bert-tiny-chinese
Run     python -m pre_process.sample.build_models
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.codebook import read_codebook
from pre_process.sample.comments import generate_comments

# --------------------------------------------------------------------------------------------
OUTPUT_DIR = "./demo/models"  # a folder per model
ONLY = ""  # the name of one model; empty = all three
PROMPT_FILE = "./prompt.txt"  # codebook
NUM_PRETRAIN = 4000  # generated comments
QWEN2_STEPS = 400  # pre-training steps of the larger Qwen2
SMALL_QWEN2_STEPS = 600  # of the smaller Qwen2
BERT_STEPS = 200  # of BERT
SEED = 1234  # same seed, same models; not the sample's
# --------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    codebook = read_codebook(args.prompt_file)
    comments = generate_comments(args.num_pretrain, args.seed)
    folder = Path(args.output_dir)

    import pipeline.common.machine  # noqa: F401
    from pre_process.sample.tiny_bert import build_bert
    from pre_process.sample.tiny_qwen2 import build_qwen2

    builders = {
        "Qwen2-tiny-0.7M": partial(
            build_qwen2,
            codebook=codebook,
            hidden_size=128,
            num_layers=2,
            pretrain_steps=args.qwen2_steps,
            learning_rate=3e-3,
        ),
        "Qwen2-tiny-0.3M": partial(
            build_qwen2,
            codebook=codebook,
            hidden_size=64,
            num_layers=2,
            pretrain_steps=args.small_qwen2_steps,
            learning_rate=6e-3,
        ),
        "bert-tiny-chinese": partial(
            build_bert, pretrain_steps=args.bert_steps, learning_rate=2e-3
        ),
    }
    if args.only and args.only not in builders:
        raise UserError(f"--only {args.only}: give one of {', '.join(builders)}")
    for name in [args.only] if args.only else builders:
        parameters = builders[name](folder / name, comments=comments)
        print(f"wrote {folder / name}: {parameters:,} parameters")


if __name__ == "__main__":
    run(main)
