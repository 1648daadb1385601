"""Steps 8, 10 and 11: BERT before and after fine-tuning, on a CSV of messages."""

import pandas as pd

from pipeline.common.cli import UserError, at_least_one
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import read_json
from pipeline.common.rows import read_messages
from pipeline.evaluation.run import (
    claim_results,
    predictions_from,
    results_folder,
    run_record,
    save_results,
)
from pipeline.models.folder import (
    RECORD,
    check_codebook,
    check_model_folder,
    fingerprint,
    refuse_tuned,
)


def read_test(settings: dict, codebook: Codebook) -> pd.DataFrame:
    """Read the rows to predict, at most `max_test_samples` of them."""
    at_least_one(settings, "batch_size")
    rows = read_messages(settings["test_file"], "split_dataset.py", codebook)
    return rows.head(settings["max_test_samples"] or len(rows))


def predict_before(
    settings: dict, codebook: Codebook, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict]:
    """Predict with the encoder as it was downloaded; return predictions and the run's record.

    A linear probe fitted on `train_file`, or with `untrained_head` a random head, which is chance.
    """
    refuse_tuned(check_model_folder(settings["model_path"], "encoder"))
    folder = results_folder(settings["output_dir"], settings["model_path"])
    claim_results(folder, rows, settings["test_file"])
    messages = rows["message"].tolist()
    sizes = {"batch_size": settings["batch_size"], "max_length": settings["max_length"]}
    if settings["untrained_head"]:
        from pipeline.bert.encoder import predict_with_classifier

        outcome = predict_with_classifier(
            settings["model_path"], messages, codebook, seed=settings["seed"], **sizes
        )
        method = "an untrained random head: chance"
    else:
        train = read_messages(settings["train_file"], "split_dataset.py", codebook, labelled=True)
        train = train.head(settings["max_train_samples"] or len(train))
        if train["class"].nunique() < 2:
            raise UserError(f"{settings['train_file']} holds one class: a probe needs two")

        from pipeline.bert.encoder import predict_with_probe

        outcome = predict_with_probe(
            settings["model_path"], train, messages, len(codebook.names), **sizes
        )
        method = f"a linear probe on frozen features, fitted on {len(train)} rows"
    return _package(settings, codebook, rows, settings["model_path"], "before", method, *outcome)


def predict_after(
    settings: dict, codebook: Codebook, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict]:
    """Predict with the model that bert_tune.py made; return predictions and the run's record."""
    path = settings["tuned_path"]
    record = read_json(f"{path}/{RECORD}", "run bert_tune.py first")
    check_codebook(path, record, codebook)
    base = record["settings"]["model_path"]
    if "model_path" in settings and record["base_fingerprint"] != fingerprint(
        str(check_model_folder(settings["model_path"], "encoder"))
    ):
        raise UserError(
            f"{path} was tuned from {base}, and {settings['model_path']} is another model: give "
            "--model-path that one"
        )
    claim_results(results_folder(settings["output_dir"], base), rows, settings["test_file"])

    from pipeline.bert.encoder import predict_with_classifier

    outcome = predict_with_classifier(
        path,
        rows["message"].tolist(),
        codebook,
        settings["batch_size"],
        settings["max_length"],
        settings["seed"],
    )
    return _package(settings, codebook, rows, base, "after", f"fine-tuned in {path}", *outcome)


def _package(
    settings, codebook, rows, model_path, stage, method, probabilities, shortened, seconds
) -> tuple[pd.DataFrame, dict]:
    from pipeline.common.machine import compute_dtype

    run = run_record(
        family="bert",
        stage=stage,
        model_path=model_path,
        method=method,
        shortened=shortened,
        seconds=seconds,
        num_rows=len(rows),
        dtype=compute_dtype(),
        test_file=settings["test_file"],
        settings=settings,
    )
    return predictions_from(probabilities, codebook), run


def evaluate_bert(settings: dict, predict) -> dict:
    """Predict (`predict_before` or `predict_after`), score and report; return the metrics."""
    codebook = read_codebook(settings["prompt_file"])
    rows = read_test(settings, codebook)
    predictions, run = predict(settings, codebook, rows)
    folder = results_folder(settings["output_dir"], run["model_path"])
    return save_results(folder, rows, predictions, codebook, run, settings["seed"])
