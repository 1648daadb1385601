"""How many labels are enough: the curve of the labels that are there, continued and priced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.cli import UserError, at_least_one
from pipeline.common.codebook import Codebook
from pipeline.common.files import JsonObject, check_outputs, read_json, write_text, written_together
from pipeline.common.fitting_rows import check_codebook_of
from pipeline.common.processes import num_processes
from pipeline.common.rows import message_keys, read_labelled, read_messages
from pipeline.common.tables import write_csv
from pipeline.models.folder import RECORD, check_codebook, check_model_folder, refuse_tuned
from pipeline.models.kept_lines import tokens_sha256
from pipeline.models.kept_rows import KeptPart, KeptRows, keeping_rows
from pipeline.planning.active import contest
from pipeline.planning.costs import price_per_row
from pipeline.planning.extrapolate import FURTHEST, backtest, forecast, interval, why_not
from pipeline.planning.label_plan import (
    LABELS_FILES,
    LABELS_PLOT,
    LABELS_TEXT,
    POINTS_FILE,
    LabelPlan,
    LearningCurve,
    More,
    Point,
)
from pipeline.planning.label_text import labels_table, labels_text
from pipeline.planning.learning_curve import (
    MEASURES,
    Curve,
    check_labels,
    choose_sizes,
    curve_of,
    divide,
    probe_predictions,
    read_sizes,
)
from pipeline.planning.trained_curve import Trained, trained_scores

LINE_POINTS = 40  # of the forecast, in a figure


@dataclass(frozen=True)
class LabelOptions:
    """What the user chooses of a plan of labels, by the names of plan_coding.py's settings."""

    train_file: str
    validation_file: str
    labeled_file: str
    model_path: str
    more_labels: str
    sizes: str
    draws: int
    train_sizes: str
    tuned_path: str
    state_file: str
    price_per_million_input_tokens: float
    price_per_million_output_tokens: float
    dtype: str
    batch_size: int
    max_length: int
    seed: int


def plan_labels(codebook: Codebook, folder: Path, settings: JsonObject) -> None:
    """Measure a learning curve, continue it, and write labels.json, .csv, .txt and .png.

    `settings` are those of plan_coding.py, among them the fields of `LabelOptions`. Raises
    UserError for labels of another codebook or too few of a class, for an encoder that is tuned
    already, and for sizes that the labels do not allow.
    """
    options = LabelOptions(**{one.name: settings[one.name] for one in fields(LabelOptions)})
    at_least_one(settings, "draws", "batch_size")
    if settings["apply"]:
        raise UserError("--labels writes no rows that could be applied: give it or --apply")
    refuse_tuned(check_model_folder(options.model_path, "encoder"))
    if num_processes() > 1:
        raise UserError("--labels runs in one process: start it without torchrun")
    source, rows = read_labels(options, codebook)
    check_labels(source, rows, codebook)
    more = more_labels(options.more_labels, len(rows))
    training = read_training(options, codebook) if options.train_sizes else {}
    check_outputs([folder / name for name in LABELS_FILES])

    from pipeline.common.machine import start_run

    start_run(options.dtype)
    with keeping_rows(folder) as kept:
        kept.claim()
        plan = measure(source, rows, more, training, codebook, options, settings, kept)
        write_labels(plan, folder)


def read_labels(options: LabelOptions, codebook: Codebook) -> tuple[str, pd.DataFrame]:
    """Return the labelled rows and where they are from.

    They are those of the training and the validation file: the test rows are left for the test of
    the model. Before there is a split, as with a pilot, they are all that have a label.
    """
    train, validation = options.train_file, options.validation_file
    if not Path(train).is_file():
        print(f"{train} not found: taking all rows of {options.labeled_file}")
        return options.labeled_file, read_labelled(options.labeled_file, codebook)
    parts = []
    for file in (train, validation):
        check_codebook_of(file, codebook)
        parts.append(read_messages(file, "split_dataset.py", codebook, labelled=True))
    return f"{train} and {validation}", pd.concat(parts, ignore_index=True)


def more_labels(asked: str, labels: int) -> list[int]:
    """Return how many more labels to look at: as asked, or half, once and twice those there are."""
    if not asked:
        places = 1 - len(str(labels))
        rounded = [round(labels * times, places) for times in (0.5, 1, 2)]
        return sorted({int(number) for number in rounded if number})
    more = read_sizes("--more-labels", asked)
    if more[-1] > (FURTHEST - 1) * labels:
        raise UserError(
            f"--more-labels {asked}: with {labels:,} labels there are, nothing can be said of more "
            f"than {round((FURTHEST - 1) * labels):,} others: label some, and run this again"
        )
    return more


def read_training(options: LabelOptions, codebook: Codebook) -> JsonObject:
    """Return the settings of the training that the trainings take."""
    record = read_json(f"{options.tuned_path}/{RECORD}", "run bert_tune.py first")
    check_codebook(options.tuned_path, record, codebook)
    return record["settings"]


def measure(
    source: str,
    rows: pd.DataFrame,
    more: Sequence[int],
    training: JsonObject,
    codebook: Codebook,
    options: LabelOptions,
    settings: JsonObject,
    kept: KeptRows,
) -> LabelPlan:
    """Return the plan; what is `kept` of an interrupted run is not computed again."""
    labels, groups = rows["class"].to_numpy(), message_keys(rows)
    num_classes, seed, path = len(codebook.names), options.seed, options.model_path
    divided = divide(rows, options.draws, seed)
    sizes = choose_sizes(options.sizes, labels, divided)
    train_sizes = []
    if options.train_sizes:
        train_sizes = choose_sizes(options.train_sizes, labels, divided, "--train-sizes")
    features, part_of_draw = features_of(rows, options, kept, sizes)
    predicted = probe_predictions(features, labels, divided, sizes, part_of_draw)
    prices = options.price_per_million_input_tokens, options.price_per_million_output_tokens
    price, price_source = price_per_row(
        options.state_file, rows["message"].tolist(), codebook, *prices
    )
    curves = [
        continued(
            name,
            curve_of(name, labels, predicted, sizes, groups, num_classes, seed),
            len(rows),
            more,
            price,
            seed,
        )
        for name in MEASURES
    ]
    trained: list[Trained] = []
    if train_sizes:
        about = codebook, training, options.batch_size, seed, kept
        trained = trained_scores(path, rows, features, divided[0], train_sizes, *about)
    contests = contest(features, labels, divided, groups, num_classes, sizes[0], seed)
    return LabelPlan(
        source=source,
        labels=len(rows),
        class_counts={
            name: int((labels == number).sum()) for number, name in enumerate(codebook.names)
        },
        encoder=path,
        draws=options.draws,
        price_per_label=price,
        price_source=price_source,
        curves=curves,
        trained=trained,
        contests=contests,
        codebook_sha256=codebook.sha256,
        class_names=list(codebook.names),
        date=datetime.now(UTC).date().isoformat(),
        settings=settings,
    )


def features_of(
    rows: pd.DataFrame, options: LabelOptions, kept: KeptRows, sizes: Sequence[int]
) -> tuple[np.ndarray, Callable[[int], KeptPart]]:
    """Return the frozen encoder's features (rows, hidden), and where a draw's predictions are."""
    from pipeline.bert.encoder import (
        encode,
        forward,
        load_encoder,
        load_tokenizer,
        mean_of_tokens,
        part_of,
    )

    path, batch_size = options.model_path, options.batch_size
    tokenizer = load_tokenizer(path, options.max_length)
    ids, shortened = encode(tokenizer, rows["message"].tolist(), options.max_length)
    print(f"{len(rows):,} labels, {shortened:,} comments shortened to {options.max_length} tokens")
    part = part_of(kept, "features", path, ids, batch_size)
    features = forward(load_encoder(path), tokenizer, ids, batch_size, mean_of_tokens, part)
    depends_on = {
        "features": part.fingerprint,
        "labels": tokens_sha256([rows["class"].tolist()]),
        "sizes": list(sizes),
        "seed": options.seed,
    }
    return features, lambda number: kept.part(f"draw {number}", **depends_on)


def continued(
    measure: str, curve: Curve, labels: int, more: Sequence[int], price: float, seed: int
) -> LearningCurve:
    """Return a curve with what is to be said of it: what more labels than now will bring."""
    reach = 1.96 * np.sqrt(np.diag(curve.covariance))
    points = [
        Point(int(size), float(score), [float(score - half), float(score + half)])
        for size, score, half in zip(curve.sizes, curve.scores, reach, strict=True)
    ]
    reason = why_not(curve)
    if reason:
        return LearningCurve(measure, points, reason, None, None, [], [])
    law = forecast(curve, seed)
    found = [
        More(number, number * price, float(np.median(gain)), interval(gain))
        for number in more
        for gain in [law.gain(labels, number)]
    ]
    line = [
        Point(round(size), float(np.median(score)), interval(score))
        for size in np.geomspace(curve.sizes[0], labels + max(more), LINE_POINTS)
        for score in [law.score(size)]
    ]
    return LearningCurve(measure, points, "", law.fit, backtest(curve, seed), found, line)


@written_together()
def write_labels(plan: LabelPlan, folder: Path) -> None:
    """Write and print the plan."""
    from pipeline.planning.label_plot import plot_labels

    text = labels_text(plan)
    write_csv(labels_table(plan), folder / POINTS_FILE)
    write_text(text, folder / LABELS_TEXT)
    plot_labels(plan, folder / LABELS_PLOT)
    plan.write(folder)
    print(f"wrote {folder}: {', '.join(LABELS_FILES)}\n\n{text}")
