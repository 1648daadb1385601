"""Steps 5 and 7: a causal LM, with or without an adapter, on a CSV of messages."""

import time

import pandas as pd

from pipeline.common.cli import UserError, at_least_one
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import read_json
from pipeline.common.replies import parse_cut_reply, parse_reply
from pipeline.common.rows import read_test_rows
from pipeline.evaluation.folder import check_results, plan_run
from pipeline.evaluation.run import (
    calibrated,
    run_record,
    save_results,
)
from pipeline.models.folder import (
    RECORD,
    check_adapter,
    check_codebook,
    check_learned_rows,
    check_model_folder,
    is_tuned,
    temperature_of,
    training_sha256,
)
from pipeline.models.kept_rows import keeping_rows

DECODINGS = ("score", "generate")


def evaluate_llm(
    *,
    model_path: str,
    adapter_path: str,
    test_file: str,
    prompt_file: str,
    output_dir: str,
    load_in_4bit: bool,
    dtype: str,
    decoding: str,
    batch_size: int,
    max_tokens_per_pack: int,
    max_length: int,
    max_new_tokens: int,
    max_test_samples: int,
    seed: int,
    settings: dict,
) -> dict:
    """Predict, score and report every row of `test_file`; return the metrics.

    `adapter_path` is "" for the base model alone. `settings` are all of the script's, for the
    record.
    """
    at_least_one({"max_new_tokens": max_new_tokens}, "max_new_tokens")
    if decoding not in DECODINGS:
        raise UserError(f"--decoding {decoding}: give {' or '.join(DECODINGS)}")
    codebook = read_codebook(prompt_file)
    rows = read_test_rows(test_file, codebook, max_test_samples)
    stage = checked_stage(model_path, adapter_path, codebook)
    planned = plan_run(
        output_dir,
        stage,
        model_path=model_path,
        trained_path=adapter_path,
        test_file=test_file,
        max_test_samples=max_test_samples,
        codebook_sha256=codebook.sha256,
    )
    check_results(planned, rows)
    check_learned_rows(adapter_path or model_path, test_file, rows)

    from pipeline.common.machine import start_run
    from pipeline.llm.asked import AskedModel
    from pipeline.llm.generating import generate_replies
    from pipeline.models.in_batches import wait_for_all
    from pipeline.models.text_tokens import tokenizer_sha256

    with keeping_rows(planned.folder) as kept:
        kept.claim()
        start_run(dtype)
        asked = AskedModel(model_path, adapter_path, codebook, load_in_4bit)
        comments, shortened = asked.encode(rows["message"].tolist(), max_length)
        asked.load(comments, max_new_tokens if decoding == "generate" else 0)
        calibration: dict = {}
        if decoding == "score":
            logits, seconds = asked.logits(comments, max_tokens_per_pack, kept)
            method = "class tokens compared in one pass"
            temperature = temperature_of(adapter_path or model_path)
            predictions, calibration = calibrated(logits, temperature, rows, codebook)
        else:
            wait_for_all()
            start = time.perf_counter()
            part = kept.part(
                "replies",
                **asked.depends_on(comments),
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                tokenizer=tokenizer_sha256(asked.tokenizer),
            )
            replies, cut = generate_replies(
                asked.model,
                asked.tokenizer,
                asked.prompt,
                comments,
                batch_size,
                max_new_tokens,
                asked.packed,
                part,
            )
            seconds = part.seconds + time.perf_counter() - start
            method = f"greedy generation of at most {max_new_tokens} tokens"
            predictions = predictions_of(replies, cut, codebook)

        weights = "NF4" if load_in_4bit else "unquantized"
        prompts = "shared-prefix packs" if asked.packed else "padded batches"
        run = run_record(
            family="llm",
            stage=stage,
            model_path=model_path,
            adapter_path=adapter_path,
            method=f"{method}, {weights}, {prompts}",
            shortened=shortened,
            seconds=seconds,
            num_rows=len(rows),
            dtype=asked.model.dtype,
            test_file=test_file,
            settings=settings,
        )
        run |= {"prompt_sha256": asked.prompt.sha256}
        run |= {"training_sha256": training_sha256(adapter_path or model_path)}
        return save_results(planned.folder, rows, predictions, codebook, run | calibration, seed)


def checked_stage(model_path: str, adapter_path: str, codebook: Codebook) -> str:
    """Return whether a model is one "before" or "after" fine-tuning.

    Raises UserError where it cannot be loaded, or was fine-tuned with another codebook, or where
    the adapter is of another base.
    """
    check_model_folder(model_path, "causal LM")
    if adapter_path:
        check_adapter(adapter_path, model_path, codebook)
    merged = is_tuned(model_path)
    if merged:
        record = read_json(f"{model_path}/{RECORD}", "run finetune.py again")
        check_codebook(model_path, record, codebook)
    return "after" if adapter_path or merged else "before"


def predictions_of(replies: list[str], cut: list[bool], codebook: Codebook) -> pd.DataFrame:
    """Return the columns of predictions.csv for generated replies, some of them cut."""
    parsed = [
        (parse_cut_reply if was_cut else parse_reply)(reply, codebook)
        for reply, was_cut in zip(replies, cut, strict=True)
    ]
    return pd.DataFrame(
        {
            "predicted": [reply.label for reply in parsed],
            "reply": replies,
            "form": [reply.form for reply in parsed],
            "confidence": "",
        }
    )
