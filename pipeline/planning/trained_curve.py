"""The real training at a few sizes, beside the linear probe on the same rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject
from pipeline.common.rows import message_keys
from pipeline.common.scratch import remove_unfinished, scratch_beside
from pipeline.models.kept_lines import tokens_sha256
from pipeline.models.kept_rows import KeptRows
from pipeline.planning.learning_curve import MEASURES, Draw, Part, curve_of, fit_probe


@dataclass(frozen=True)
class Trained:
    """A fine-tuned encoder's score by a measure with so many labels, and the probe's.

    Both are on the same `rows`, which neither learned from. The difference is the former minus the
    latter; its interval is over rows, and says nothing of another training on other labels.
    """

    labels: int
    measure: str
    rows: int
    score: float
    probe_score: float
    difference: float
    difference_ci95: list[float]


def trained_scores(
    path: str,
    rows: pd.DataFrame,
    features: np.ndarray,
    draw: Draw,
    sizes: Sequence[int],
    codebook: Codebook,
    training: JsonObject,
    batch_size: int,
    seed: int,
    kept: KeptRows,
) -> list[Trained]:
    """Fine-tune the encoder in `path` on subsets of so many labels, and compare with the probe.

    `training` are the settings of a training of bert_tune.py. A tenth of a subset chooses the best
    epoch. One part of the draw is predicted. A size whose predictions are `kept` is not trained
    again.
    """
    part, labels = draw[0], rows["class"].to_numpy()
    groups = message_keys(rows)[part.unseen]
    found = []
    for size in sizes:
        probe = fit_probe(features[part.learned[:size]], labels[part.learned[:size]])
        pair = [
            probe.predict(features[part.unseen]),
            _trained(path, rows, part, size, codebook, training, batch_size, seed, kept),
        ]
        for measure in MEASURES:
            curve = curve_of(
                measure,
                labels[part.unseen],
                np.array(pair)[None].astype(int),
                [size, size],
                groups,
                len(codebook.names),
                seed,
            )
            difference = float(curve.scores[1] - curve.scores[0])
            contrast = np.array([-1, 1])
            reach = 1.96 * float(np.sqrt(contrast @ curve.covariance @ contrast))
            found.append(
                Trained(
                    size,
                    measure,
                    len(part.unseen),
                    float(curve.scores[1]),
                    float(curve.scores[0]),
                    difference,
                    [difference - reach, difference + reach],
                )
            )
    return found


def _trained(
    path: str,
    rows: pd.DataFrame,
    part: Part,
    size: int,
    codebook: Codebook,
    training: JsonObject,
    batch_size: int,
    seed: int,
    kept: KeptRows,
) -> np.ndarray:
    """Return the classes of a part's unseen rows, by an encoder that learned `size` labels."""
    from pipeline.bert.encoder import encode, forward, load_tokenizer, part_of, softmax_of_logits
    from pipeline.bert.training import fine_tuned

    tokenizer = load_tokenizer(path, training["max_length"])
    known = rows.iloc[part.learned[:size]]
    messages = [*known["message"], *rows["message"].iloc[part.unseen]]
    ids, _ = encode(tokenizer, messages, training["max_length"])
    depends_on = {
        "labels": tokens_sha256([known["class"].tolist()]),
        "classes": len(codebook.names),
        "training": training,
        "seed": seed,
    }
    there = part_of(kept, f"training on {size} labels", path, ids, batch_size, **depends_on)

    def compute() -> np.ndarray:
        checkpoints, start = kept.results / "training", time.perf_counter()
        remove_unfinished(checkpoints)
        with scratch_beside(checkpoints) as scratch:
            settings = training | {"output_dir": str(scratch)}
            model = fine_tuned(path, known, codebook, settings, seed)
        values = forward(model, tokenizer, ids[size:], batch_size, softmax_of_logits)
        print(f"  trained on {size:,} labels in {time.perf_counter() - start:.0f} s", flush=True)
        return values

    return there.whole(len(part.unseen), partial(compute)).argmax(1)
