"""Steps 8, 10 and 11: predictions of an encoder before and after fine-tuning."""

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject, read_json
from pipeline.common.fitting_rows import (
    check_codebook_of,
    refuse_learned_rows,
    sample_of,
    say_missing_classes,
)
from pipeline.common.rows import coded_by_people, read_messages
from pipeline.evaluation.folder import PlannedRun, check_results
from pipeline.evaluation.run import calibrated, predictions_from, run_record
from pipeline.models.folder import (
    RECORD,
    check_codebook,
    check_learned_rows,
    check_model_folder,
    fingerprint,
    refuse_tuned,
    temperature_of,
    training_sha256,
)
from pipeline.models.kept_rows import KeptRows


def predict_before(
    codebook: Codebook,
    rows: pd.DataFrame,
    planned: PlannedRun,
    *,
    model_path: str,
    train_file: str,
    max_train_samples: int,
    untrained_head: bool,
    batch_size: int,
    max_length: int,
    seed: int,
    settings: dict,
    kept: KeptRows,
) -> tuple[pd.DataFrame, dict]:
    """Predict with the encoder as it was downloaded; return predictions and the run's record.

    A linear probe fitted on `train_file`, or with `untrained_head` a random head, which is chance.
    The folder of the `planned` run is checked first. `settings` are all of the script's, for the
    record. `kept` are the rows that are finished.
    """
    refuse_tuned(check_model_folder(model_path, "encoder"))
    check_results(planned, rows)
    kept.claim()
    messages = rows["message"].tolist()
    if untrained_head:
        from pipeline.bert.encoder import predict_with_classifier

        outcome = predict_with_classifier(
            model_path,
            messages,
            codebook,
            batch_size,
            max_length,
            seed,
            kept,
            "probabilities before",
        )
        method = "an untrained random head: chance"
    else:
        train = read_messages(train_file, "split_dataset.py", codebook, labelled=True)
        train = train.head(max_train_samples or len(train))
        if train["class"].nunique() < 2:
            raise UserError(f"{train_file} holds one class: a probe needs two")
        check_codebook_of(train_file, codebook)
        say_missing_classes(train_file, train, codebook)
        probe = f"the probe on {train_file}"
        refuse_learned_rows(planned.test_file, rows, sample_of(train), probe)

        from pipeline.bert.encoder import predict_with_probe

        outcome = predict_with_probe(
            model_path, train, messages, len(codebook.names), batch_size, max_length, kept
        )
        method = f"a linear probe on frozen features, fitted on {len(train)} rows"
        if human := int(coded_by_people(train).sum()):
            method += f", {human} of them coded by people"
    record = _record("before", model_path, method, *outcome, planned.test_file, settings)
    return predictions_from(outcome[0], codebook), record


def predict_after(
    codebook: Codebook,
    rows: pd.DataFrame,
    planned: PlannedRun,
    *,
    tuned_path: str,
    model_path: str = "",
    batch_size: int,
    max_length: int,
    seed: int,
    settings: dict,
    kept: KeptRows,
) -> tuple[pd.DataFrame, dict]:
    """Predict with the model that bert_tune.py made; return predictions and the run's record.

    Where a `model_path` is given, the model must have been tuned from that encoder. The folder of
    the `planned` run is checked first. `settings` are all of the script's, for the record. `kept`
    are the rows that are finished.
    """
    tuning = read_tuning(tuned_path, codebook)
    base = tuning["settings"]["model_path"]
    if model_path and tuning["base_fingerprint"] != fingerprint(
        str(check_model_folder(model_path, "encoder"))
    ):
        raise UserError(
            f"{tuned_path} was tuned from {base}, and {model_path} is another model: give "
            "--model-path that one"
        )
    check_results(planned, rows)
    check_learned_rows(tuned_path, planned.test_file, rows)
    kept.claim()

    from pipeline.bert.encoder import Classifier

    classifier = Classifier(tuned_path, codebook, batch_size, max_length, seed)
    outcome = classifier.logits(rows["message"].tolist(), kept, "probabilities after")
    method = f"fine-tuned in {tuned_path}"
    record = _record("after", base, method, *outcome, planned.test_file, settings)
    predictions, calibration = calibrated(outcome[0], temperature_of(tuned_path), rows, codebook)
    return predictions, record | calibration | {"training_sha256": training_sha256(tuned_path)}


def read_tuning(tuned_path: str, codebook: Codebook) -> JsonObject:
    """Return the record of the training that made a model; refuse one by another codebook."""
    tuning = read_json(f"{tuned_path}/{RECORD}", "run bert_tune.py first")
    check_codebook(tuned_path, tuning, codebook)
    return tuning


def _record(
    stage: str,
    model_path: str,
    method: str,
    values: np.ndarray,
    shortened: int,
    seconds: float,
    test_file: str,
    settings: dict,
) -> dict:
    from pipeline.common.machine import compute_dtype

    return run_record(
        family="bert",
        stage=stage,
        model_path=model_path,
        method=method,
        shortened=shortened,
        seconds=seconds,
        num_rows=len(values),
        dtype=compute_dtype(),
        test_file=test_file,
        settings=settings,
    )
