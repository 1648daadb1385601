"""The class that codes a batch of comments, in one process and on each worker of a cluster."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.coding.codes import DIGITS
from pipeline.coding.model import ModelOptions, find_model, open_model
from pipeline.coding.record import MODEL
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook

if TYPE_CHECKING:
    import pyarrow as pa

SHORTENED, PIECE = "shortened", "piece"  # of a batch, no columns of the results


class BatchCoder:
    """A tuned model that is loaded once and codes one table of comments after another.

    `check` is 1 for a row whose confidence, of `DIGITS` as that of the rows that a plan is made
    from, is below `threshold`. It is empty for all where that is None.
    """

    def __init__(
        self, options: ModelOptions, codebook: Codebook, threshold: float | None, dtype: str
    ) -> None:
        """Load a model; `dtype` is that of `start_run`, which prints what it computes on."""
        from pipeline.common.machine import start_run

        start_run(dtype)
        self._codebook, self._threshold = codebook, threshold
        self._model = open_model(find_model(options, codebook), codebook)

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        """Return the codes of the rows (`custom_id`, `message`, `piece`), in their order.

        Equal messages of a batch are computed once. Raises UserError where a probability is not
        finite.
        """
        import pyarrow as pa

        messages = batch["message"].to_pylist()
        unique = list(dict.fromkeys(messages))
        place = {message: n for n, message in enumerate(unique)}
        before = self._model.shortened
        of_unique = self._model.probabilities(unique)
        if not np.isfinite(of_unique).all():
            raise UserError(f"{self._model.path}: a probability is not finite: train it again")
        probabilities = of_unique[[place[message] for message in messages]]
        classes, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        names = pa.array(self._codebook.names)
        check = pa.nulls(len(messages), pa.int8())
        if self._threshold is not None:
            unsure = confidence.round(DIGITS) < self._threshold
            check = pa.array(unsure.astype(np.int8))
        columns = {
            "custom_id": batch["custom_id"],
            "class": pa.array(classes.astype(np.int32)),
            "class_name": names.take(pa.array(classes)),
            "coded_by": pa.array(np.full(len(messages), MODEL, object)),
            "check": check,
            "predicted": pa.array(classes.astype(np.int32)),
            "confidence": pa.array(confidence.astype(np.float32)),
        }
        for k, name in enumerate(self._codebook.names):
            columns[f"p_{name}"] = pa.array(probabilities[:, k].astype(np.float32))
        shortened = np.full(len(messages), self._model.shortened - before, np.int32)
        return pa.table(columns | {SHORTENED: pa.array(shortened), PIECE: batch[PIECE]})
