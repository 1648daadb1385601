"""Steps 5 and 7: a causal LM, with or without an adapter, on a CSV of messages."""

import time

import numpy as np
import pandas as pd
from scipy.special import softmax

from pipeline.common.cli import UserError, at_least_one
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import read_json
from pipeline.common.replies import parse_reply
from pipeline.common.rows import read_messages
from pipeline.evaluation.run import (
    calibration_error,
    claim_results,
    predictions_from,
    run_record,
    save_results,
)
from pipeline.llm.prompt import build_prompt, encode_comments
from pipeline.models.folder import (
    RECORD,
    check_adapter,
    check_codebook,
    check_model_folder,
    is_tuned,
    temperature_of,
)

DECODINGS = ("score", "generate")


def evaluate_llm(settings: dict, adapter_path: str = "") -> dict:
    """Predict, score and report every row of `test_file`; return the metrics.

    `settings` are those that `local_inference.py` and `posttune_eval.py` have in common, by their
    lower-case names.
    """
    at_least_one(settings, "batch_size", "max_new_tokens", "max_tokens_per_pack")
    if settings["decoding"] not in DECODINGS:
        raise UserError(f"--decoding {settings['decoding']}: give {' or '.join(DECODINGS)}")
    codebook = read_codebook(settings["prompt_file"])
    rows = read_messages(settings["test_file"], "split_dataset.py", codebook)
    rows = rows.head(settings["max_test_samples"] or len(rows))
    check_model_folder(settings["model_path"], "causal LM")
    claim_results(settings, settings["model_path"], rows)
    if adapter_path:
        check_adapter(adapter_path, settings["model_path"], codebook)
    merged = is_tuned(settings["model_path"])
    if merged:
        record = read_json(f"{settings['model_path']}/{RECORD}", "run finetune.py again")
        check_codebook(settings["model_path"], record, codebook)

    from pipeline.llm.generating import generate_replies
    from pipeline.llm.loading import load_model, load_tokenizer
    from pipeline.llm.scoring import choose_packing, score_comments

    tokenizer = load_tokenizer(settings["model_path"])
    prompt = build_prompt(tokenizer, codebook)
    comments, shortened = encode_comments(
        tokenizer, prompt, rows["message"].tolist(), settings["max_length"]
    )
    model = load_model(settings["model_path"], settings["load_in_4bit"], adapter_path)
    packed = choose_packing(model, prompt, comments, settings["max_length"])
    calibration: dict = {}
    start = time.perf_counter()
    if settings["decoding"] == "score":
        logits = score_comments(model, prompt, comments, settings["max_tokens_per_pack"], packed)
        method = "class tokens compared in one pass"
        temperature = temperature_of(adapter_path or settings["model_path"])
        predictions, calibration = calibrated(logits, temperature, rows, codebook)
    else:
        replies = generate_replies(
            model,
            tokenizer,
            prompt,
            comments,
            settings["batch_size"],
            settings["max_new_tokens"],
            packed,
        )
        method = f"greedy generation of at most {settings['max_new_tokens']} tokens"
        predictions = predictions_of(replies, codebook)
    seconds = time.perf_counter() - start

    weights = "NF4" if settings["load_in_4bit"] else "unquantized"
    prompts = "shared-prefix packs" if packed else "padded batches"
    run = run_record(
        family="llm",
        stage="after" if adapter_path or merged else "before",
        model_path=settings["model_path"],
        adapter_path=adapter_path,
        method=f"{method}, {weights}, {prompts}",
        shortened=shortened,
        seconds=seconds,
        num_rows=len(rows),
        dtype=model.dtype,
        settings=settings,
    )
    return save_results(rows, predictions, codebook, run | calibration)


def predictions_of(replies: list[str], codebook: Codebook) -> pd.DataFrame:
    """Return the columns of predictions.csv for generated replies."""
    parsed = [parse_reply(reply, codebook) for reply in replies]
    return pd.DataFrame(
        {
            "predicted": [reply.label for reply in parsed],
            "reply": replies,
            "form": [reply.form for reply in parsed],
            "confidence": "",
        }
    )


def calibrated(
    logits: np.ndarray, temperature: float, rows: pd.DataFrame, codebook: Codebook
) -> tuple[pd.DataFrame, dict]:
    """Return predictions at a temperature, and what the run's record says of it."""
    raw, scaled = (softmax(logits.astype(float) / t, axis=1) for t in (1.0, temperature))
    record = {"temperature": temperature}
    if (error := calibration_error(raw, rows)) is not None:
        record["ece_without_temperature"] = error
    return predictions_from(scaled, codebook), record
