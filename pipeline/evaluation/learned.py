"""Whether a model has learned to tell the classes apart, or a high accuracy only looks so."""

import textwrap
from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.metrics import compute_metrics, wilson_interval

MARK = "(!)"  # beside a model that has a warning, in tables
FEW_VALID = 0.5  # with a smaller share of valid answers, the scores are those of a part of the rows
SAME_ANSWER = 0.98  # in one answer of 50 or less, the model gives another class than its usual one
FEW_OTHERS = 0.2  # it gives the other classes less than a fifth as often as people give them
SLIGHT = 0.2  # agreement up to this kappa is called slight (Landis & Koch 1977)
NOT_SURE = 1 / 3  # up to this share of the other classes' rows may be found, for all that is known
JUDGED_BY = {
    *("total", "valid", "confusion_matrix", "majority_class", "majority_baseline"),
    *("accuracy_all_rows", "accuracy_all_rows_ci95", "cohen_kappa", "cohen_kappa_ci95"),
}

TRAIN_AGAIN = (
    "What to try, one thing at a time: more epochs (--num-train-epochs), a learning rate three "
    "times higher or lower (--learning-rate), more training rows of the rarer classes, "
    "--class-weights of finetune.py (bert_tune.py has it on), a larger model. Also check some of "
    "the labels against the codebook."
)
TRY = {
    "before": "A model can be like that before fine-tuning: train it, and evaluate it again.",
    "after": TRAIN_AGAIN,
}
READ_REPLIES = (
    "What to try: --decoding score, which always gives a class; and read the column reply of "
    "predictions.csv, which shows what the model wrote."
)
MORE_ROWS = (
    "What to try: evaluate it on more rows, above all on more of the rarer classes; more training "
    "may help as well."
)


def verdict(
    metrics: dict, class_names: Sequence[str], stage: str = "after"
) -> dict[str, str | None]:
    """Return `warning` and `what_to_try`, both None where a model tells the classes apart.

    `metrics` are those of `compute_metrics`, JUDGED_BY among them; `stage` is `before` or `after`
    fine-tuning. There is a warning

    - where most answers are invalid,
    - where all rows have one class, so that they show nothing,
    - where nearly all answers are one class, though people give the others far more often,
    - where the 95 % interval of Cohen's kappa is not above 0: answers that do not depend on the
      comment have a kappa of 0, whatever class they prefer and however frequent it is,
    - where kappa is slight and the interval of the accuracy is not above the share of the most
      frequent class.

    Accuracy alone says too little. Where 95 % of the rows have one class, a model that finds half
    of the others has hardly more accuracy than one that finds none, but a kappa far above 0. And
    where classes are weighted in training, some accuracy is given for the rarer classes on purpose.
    An interval that reaches 0 because the rows are few says so, and not that nothing was learned.
    A figure that is not a number is a warning.
    """
    found = _finding(metrics, class_names)
    if found is None:
        return {"warning": None, "what_to_try": None}
    warning, cure = found
    return {"warning": warning, "what_to_try": cure or TRY[stage]}


def validation_verdict(
    true: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> dict[str, str | None]:
    """Return `verdict` of the classes (rows,) that a model in training predicts."""
    return verdict(compute_metrics(true, predicted, len(class_names), seed=0), class_names)


def warning_text(record: dict) -> str:
    """Return the warning in a record and what to try, as lines of text; "" where there is none."""
    if not record.get("warning"):
        return ""
    parts = (f"WARNING: {record['warning']}", record["what_to_try"])
    return "".join(
        textwrap.fill(part, 100, subsequent_indent="  ", break_long_words=False) + "\n"
        for part in parts
    )


def _finding(metrics: dict, class_names: Sequence[str]) -> tuple[str, str] | None:
    """Return what is wrong and, where it is not that of the stage, the cure."""
    total, valid = metrics["total"], metrics["valid"]
    if not valid >= FEW_VALID * total:
        return (
            f"Only {valid:,} of {total:,} answers are valid: the scores do not show what the model "
            "knows.",
            READ_REPLIES,
        )
    matrix = np.array(metrics["confusion_matrix"])
    names = [f'"{name}"' for name in class_names]
    rows = matrix.sum(1)
    if rows.max() == total:
        return (
            f"All {total:,} rows have the class {names[rows.argmax()]}: they cannot show whether "
            "the model tells the classes apart.",
            MORE_ROWS,
        )
    return _one_answer(matrix, names) or _no_better(metrics, names)


def _one_answer(matrix: np.ndarray, names: list[str]) -> tuple[str, str] | None:
    """Return what is wrong where nearly all valid answers are one class."""
    answered = matrix[:, :-1]
    usual = int(answered.sum(0).argmax())
    valid, given = int(answered.sum()), int(answered[:, usual].sum())
    of_others = valid - int(answered[usual].sum())
    if given < SAME_ANSWER * valid or valid - given >= FEW_OTHERS * of_others:
        return None
    how_many = f"All {valid:,}" if given == valid else f"{given:,} of {valid:,}"
    kind = "answers" if valid == matrix.sum() else "valid answers"
    text = (
        f"{how_many} {kind} are {names[usual]}, which is the class of {valid - of_others:,} of "
        "these rows: "
    )
    right = int(np.trace(answered)) - int(answered[usual, usual])
    if wilson_interval(right, of_others)[1] > NOT_SURE:
        return f"{text}too few rows have another class to tell what the model knows.", MORE_ROWS
    return f"{text}the model gives the same answer whatever the comment says.", ""


def _no_better(metrics: dict, names: list[str]) -> tuple[str, str] | None:
    """Return what is wrong where the answers are hardly better than ones without the comment."""
    kappa, (low, high) = metrics["cohen_kappa"], metrics["cohen_kappa_ci95"]
    accuracy, interval = metrics["accuracy_all_rows"], metrics["accuracy_all_rows_ci95"]
    majority, share = names[metrics["majority_class"]], metrics["majority_baseline"]
    others = metrics["total"] - sum(metrics["confusion_matrix"][metrics["majority_class"]])
    always = (
        f"Accuracy is {accuracy:.4f} [{interval[0]:.4f}, {interval[1]:.4f}], that of always "
        f"answering {majority} is {share:.4f}, and Cohen's kappa is {kappa:.3f} [{low:.3f}, "
        f"{high:.3f}]"
    )
    if not np.isfinite([kappa, low, high, accuracy, *interval, share]).all():
        return f"{always}: these are no numbers that say what the model knows.", ""
    if low <= 0 and high > SLIGHT:
        return (
            f"{always}: these {metrics['total']:,} rows, {others:,} of them of another class, are "
            "too few to tell what the model knows.",
            MORE_ROWS,
        )
    if low <= 0:
        return (
            f"{always}: nothing shows that the model does better than one that does not read the "
            "comment.",
            "",
        )
    if kappa <= SLIGHT and interval[0] <= share:
        return f"{always}: the model tells the classes apart hardly at all.", ""
    return None
