"""Steps 5 and 7: a causal LM, with or without an adapter, on a CSV of messages."""

import time

import pandas as pd

from pipeline.chat import build_chat, encode_comments
from pipeline.cli import at_least_one
from pipeline.codebook import parse_reply, read_codebook
from pipeline.evaluation import claim_results, run_record, save_results
from pipeline.messages import read_messages
from pipeline.models import check_adapter, check_model_folder


def evaluate_llm(settings: dict, adapter_path: str = "") -> dict:
    """Predict, score and report every row of `test_file`; return the metrics.

    `settings` are those that `local_inference.py` and `posttune_eval.py` have in common, by their
    lower-case names.
    """
    at_least_one(settings, "batch_size", "max_new_tokens")
    codebook = read_codebook(settings["prompt_file"])
    rows = read_messages(settings["test_file"], "split_dataset.py", codebook)
    rows = rows.head(settings["max_test_samples"] or len(rows))
    check_model_folder(settings["model_path"], "causal LM")
    claim_results(settings, settings["model_path"], rows)
    if adapter_path:
        check_adapter(adapter_path, settings["model_path"], codebook)

    from pipeline.llm import generate_replies, load_model, load_tokenizer

    tokenizer = load_tokenizer(settings["model_path"])
    chat = build_chat(tokenizer, codebook)
    comments, shortened = encode_comments(
        tokenizer, chat, rows["message"].tolist(), settings["max_length"]
    )
    model = load_model(settings["model_path"], settings["load_in_4bit"], adapter_path)
    start = time.perf_counter()
    replies = generate_replies(
        model, tokenizer, chat, comments, settings["batch_size"], settings["max_new_tokens"]
    )
    seconds = time.perf_counter() - start

    parsed = [parse_reply(reply, codebook) for reply in replies]
    predictions = pd.DataFrame(
        {
            "predicted": [reply.label for reply in parsed],
            "reply": replies,
            "form": [reply.form for reply in parsed],
            "confidence": "",
        }
    )
    weights = "NF4" if settings["load_in_4bit"] else "unquantized"
    run = run_record(
        family="llm",
        stage="after" if adapter_path else "before",
        model_path=settings["model_path"],
        adapter_path=adapter_path,
        method=f"greedy generation of at most {settings['max_new_tokens']} tokens, {weights}",
        shortened=shortened,
        seconds=seconds,
        num_rows=len(rows),
        dtype=model.dtype,
        settings=settings,
    )
    return save_results(rows, predictions, codebook, run)
