"""Benchmark 2: rows per second of classifying comments with a causal LM, on the same rows.

(a) the report's generation of 20 and of 50 tokens in batches of 4, (b) padded scoring, also with
rows of similar length together, (c) transformers' `pipeline("decision")`, a request at a time, (d)
ours. (b), (c) and (d) must agree.

Writes  results/score_speed*.json and .png, and the section of README.md
Run     python -m benchmarks.score_speed
"""

import statistics
from collections.abc import Callable

import numpy as np
import torch
from transformers import DecisionPipeline, GenerationConfig, PreTrainedModel
from transformers.decision.configuration_utils import DecisionConfig

import local_inference
from benchmarks import common
from benchmarks.common import PAD, Rows
from pipeline.common.cli import parse_settings, run
from pipeline.llm.pack_size import scoring_pack_tokens
from pipeline.llm.packing import pad, use_packs
from pipeline.llm.scoring import last_logits, score_comments
from pipeline.models.by_length import batches_of_rows

# ---------------------------------------------------------------------------------------------
SHAPE = "small"  # micro, tiny, small, Qwen2.5-0.5B or Qwen2.5-3B
PRECISION = "auto"  # fp32, bf16 or nf4; auto = bf16 on a GPU, fp32 on a CPU
ROWS = 64  # classified in each repetition
REPETITIONS = 2  # of all variants, in turns; the median counts
PREFIX_TOKENS = 124  # of the codebook
# ---------------------------------------------------------------------------------------------

REPORT, PADDED, SORTED, DECISION, OURS = (
    "(a) the report's generation, batches of 4, {} tokens",
    "(b) padded scoring, batches of {}",
    "(b') the same, rows of similar length together",
    '(c) pipeline("decision"), a request at a time',
    "(d) ours: shared-prefix packs",
)
NEW_TOKENS = (20, 50)
BATCHES = (4, 8, 16, 32)
REPORT_BATCH = 4


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    shape, precision = settings["shape"], common.resolve(settings["precision"])
    model = common.build_model(shape, precision)
    rows = common.make_rows(settings["rows"], model.config.vocab_size, settings["prefix_tokens"])
    decide = decision_pipeline(model, rows)
    logits: dict[str, np.ndarray] = {}

    def scored(name: str, function: Callable, *args) -> Callable[[], float]:
        def once() -> float:
            if function is ours:
                use_packs(model)
            else:
                model.set_attn_implementation("sdpa")
            return common.seconds_of(lambda: logits.update({name: function(model, rows, *args)}))

        return once

    batch = int(common.best_of({str(n): scored("", padded, n, True) for n in BATCHES}))
    usual = PADDED.format(batch)
    times = common.take_turns(
        {
            **{REPORT.format(n): scored("", generated, n) for n in NEW_TOKENS},
            usual: scored(usual, padded, batch, False),
            SORTED: scored(SORTED, padded, batch, True),
            DECISION: scored(DECISION, decided, decide),
            OURS: scored(OURS, ours),
        },
        settings["repetitions"],
    )
    own_tokens = rows.own_tokens(1)
    rate = common.matrix_rate(model.config, own_tokens, common.dtype_of(precision))
    least = common.work(model.config, own_tokens, len(rows), training=False) / rate
    lines = [
        {
            "variant": name,
            **common.speed(seconds, len(rows)),
            "ours is faster": common.ratio(seconds, times[OURS]),
            "share of the matrix rate": f"{least / statistics.median(seconds):.1%}",
        }
        for name, seconds in times.items()
    ]
    softmax = torch.from_numpy(logits[OURS]).softmax(-1).numpy()
    notes = [
        f"{len(rows)} rows: a prompt of {len(rows.prompt.prefix)} tokens, and "
        f"{own_tokens / len(rows):.0f} of comment, suffix and `[` on average. {shape}, "
        f"{precision}. Matrix products here: {rate / 1e9:,.0f} Gflop/s.",
        f"Largest difference of (d)'s class logits from (b)'s: "
        f"{np.abs(logits[OURS] - logits[usual]).max():.1e}, where the largest logit is "
        f"{np.abs(logits[usual]).max():.2g}; of (d)'s probabilities from (c)'s: "
        f"{np.abs(softmax - logits[DECISION]).max():.1e}.",
    ]
    common.publish(
        "score_speed",
        settings | {"hardware_flops": rate, "times": times},
        {"Speed": lines},
        notes,
        common.bars(
            {line["variant"]: line["rows/s"] for line in lines},
            f"rows classified per second ({shape}, {precision})",
        ),
        variant=f"{shape}-{precision}",
    )


def generated(model: PreTrainedModel, rows: Rows, new_tokens: int) -> np.ndarray:
    """Generate as the report did: rows in their order, all of the new tokens, no stop."""
    config = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, pad_token_id=PAD)
    output = torch.empty(0)
    for start in range(0, len(rows), REPORT_BATCH):
        batch = pad(rows.prompt.prefix, rows.asked[start : start + REPORT_BATCH], 1, PAD)
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            output = model.generate(**inputs, generation_config=config)
        assert output.shape[1] == inputs["input_ids"].shape[1] + new_tokens
    return output.cpu().numpy()


def padded(model: PreTrainedModel, rows: Rows, batch_size: int, by_length: bool) -> np.ndarray:
    """Return class logits (rows, classes) of padded batches, each row with the whole prompt."""
    prompt = rows.prompt
    asked = [row + prompt.answers[0][: prompt.shared] for row in rows.asked]
    logits = np.empty((len(rows), len(prompt.answers)), dtype=np.float32)
    in_order = (range(n, min(n + batch_size, len(asked))) for n in range(0, len(asked), batch_size))
    for members in batches_of_rows(asked, batch_size) if by_length else map(list, in_order):
        batch = pad(prompt.prefix, [asked[n] for n in members], 1, PAD)
        logits[members] = last_logits(model, batch)[:, prompt.class_tokens].cpu().numpy()
    return logits


def decision_pipeline(model: PreTrainedModel, rows: Rows) -> DecisionPipeline:
    """Return transformers' pipeline for the same prompt, whose tokens are words."""
    prompt = rows.prompt
    prefix, suffix = map(
        common.to_words, (prompt.prefix, prompt.suffix + prompt.answers[0][: prompt.shared])
    )
    config = DecisionConfig(
        labels={"choice": [common.to_words([token]) for token in prompt.class_tokens]},
        chat_template=f"{{{{ '{prefix} ' ~ state ~ ' {suffix}' if question }}}}",
    )
    return DecisionPipeline(
        model=model,
        tokenizer=common.words_tokenizer(model.config.vocab_size),
        decision_config=config,
    )


def decided(model: PreTrainedModel, rows: Rows, decide: DecisionPipeline) -> np.ndarray:
    """Return the pipeline's probabilities (rows, classes)."""
    options = {str(k): None for k in range(len(rows.prompt.answers))}
    question = {"label": {"type": "choice", "criteria": options}}
    answers = [
        decide({"state": common.to_words(comment), "questions": question})
        for comment in rows.comments
    ]
    return np.array([list(answer["label"]["probabilities"].values()) for answer in answers])


def ours(model: PreTrainedModel, rows: Rows) -> np.ndarray:
    """Return the engine's class logits (rows, classes)."""
    prompt, longest = rows.prompt, max(map(len, rows.asked)) + 1
    tokens = local_inference.MAX_TOKENS_PER_PACK or scoring_pack_tokens(model, prompt, longest)
    return score_comments(model, prompt, rows.comments, tokens)


if __name__ == "__main__":
    run(main)
