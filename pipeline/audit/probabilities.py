"""Class probabilities of each row, by models that learned from other rows."""

from functools import partial

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.bert.encoder import (
    encode,
    fit_probe,
    forward,
    load_encoder,
    load_tokenizer,
    mean_of_tokens,
    part_of,
    softmax_of_logits,
)
from pipeline.bert.training import fine_tuned
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json
from pipeline.common.scratch import remove_unfinished, scratch_beside
from pipeline.models.folder import RECORD, check_codebook
from pipeline.models.kept_lines import tokens_sha256
from pipeline.models.kept_rows import KeptRows

Folds = list[tuple[np.ndarray, np.ndarray]]  # the rows to learn from, the rows to predict


def split_folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> Folds:
    """Return the parts, stratified by class: each row is predicted once.

    `groups` (rows,) are numbers of groups of near-duplicates, which stay together.
    """
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, groups))


def probe_probabilities(
    path: str,
    rows: pd.DataFrame,
    folds: Folds,
    codebook: Codebook,
    batch_size: int,
    max_length: int,
    kept: KeptRows,
) -> tuple[np.ndarray, str]:
    """Return class probabilities (rows, classes) of linear probes, and how they were made.

    The probes are fitted on the features of the encoder in `path`, which stays as it is. Those that
    are among the `kept` rows are not computed again.
    """
    tokenizer = load_tokenizer(path, max_length)
    ids, _ = encode(tokenizer, rows["message"].tolist(), max_length)
    part = part_of(kept, "features", path, ids, batch_size)
    features = forward(load_encoder(path), tokenizer, ids, batch_size, mean_of_tokens, part)
    labels = rows["class"].to_numpy()
    probabilities = np.zeros((len(rows), len(codebook.names)))
    for known, unseen in folds:
        probe = fit_probe(features[known], labels[known])
        probabilities[np.ix_(unseen, probe.classes_)] = probe.predict_proba(features[unseen])
    return probabilities, "a linear probe on frozen features"


def tuned_probabilities(
    path: str,
    rows: pd.DataFrame,
    folds: Folds,
    codebook: Codebook,
    batch_size: int,
    tuned_path: str,
    seed: int,
    kept: KeptRows,
) -> tuple[np.ndarray, str]:
    """Return class probabilities (rows, classes) of BERT, and how they were made.

    The encoder in `path` is fine-tuned once a fold with the settings of the model in `tuned_path`,
    a tenth of the known rows being its validation; not for a fold whose rows are `kept`.
    """
    record = read_json(f"{tuned_path}/{RECORD}", "run bert_tune.py first")
    check_codebook(tuned_path, record, codebook)
    training = record["settings"]
    tokenizer = load_tokenizer(path, training["max_length"])
    ids, _ = encode(tokenizer, rows["message"].tolist(), training["max_length"])
    probabilities = np.zeros((len(rows), len(codebook.names)))
    checkpoints = kept.results / "fold"
    remove_unfinished(checkpoints)

    def of_fold(known: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        with scratch_beside(checkpoints) as scratch:
            settings = training | {"output_dir": str(scratch)}
            model = fine_tuned(path, rows.iloc[known], codebook, settings, seed)
        unseen_ids = [ids[i] for i in unseen]
        return forward(model, tokenizer, unseen_ids, batch_size, softmax_of_logits)

    for number, (known, unseen) in enumerate(folds, 1):
        depends_on = {
            "labels": tokens_sha256([rows["class"].tolist(), known.tolist(), unseen.tolist()]),
            "classes": len(codebook.names),
            "training": training,
            "seed": seed,
        }
        part = part_of(kept, f"fold {number}", path, ids, batch_size, **depends_on)
        probabilities[unseen] = part.whole(len(unseen), partial(of_fold, known, unseen))
    return probabilities, f"BERT fine-tuned with the settings of {tuned_path}"
