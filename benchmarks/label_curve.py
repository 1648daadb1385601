"""Benchmark 10: whether what is said of more labels comes true, on comments that people coded.

A user's labels are drawn at random from the comments, a learning curve is measured on them and
continued. What more labels really bring is the mean score of probes with that many labels on
all other comments. Intervals should hold it in 95 % of the draws or more.

Beside it stand labels that a model chooses, against as many random ones, scored on comments that
were not to be chosen; and linear probes with other penalties.

Writes  results/label_curve-NAME.json and .png, and the section of README.md
Run     python -m benchmarks.label_curve --comments comments.csv --text-column comment_text \\
        --class-column label --model-path ./multilingual-e5-small --name swsr-e5
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import common
from pipeline.bert.encoder import encode, forward, load_encoder, load_tokenizer, mean_of_tokens
from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.files import clean_text
from pipeline.common.rows import MESSAGE_KEY, message_keys
from pipeline.common.tables import read_csv
from pipeline.evaluation.metrics import confusion
from pipeline.planning.active import RANDOM, STRATEGIES, choose
from pipeline.planning.extrapolate import backtest, forecast, interval
from pipeline.planning.learning_curve import (
    MEASURES,
    PROBE_C,
    choose_sizes,
    curve_of,
    divide,
    fit_probe,
    probe_predictions,
)

# ---------------------------------------------------------------------------------------------
COMMENTS = ""  # a .csv file of comments that people coded
TEXT_COLUMN = "message"  # the comment
CLASS_COLUMN = "class"  # its class by people
MODEL_PATH = "./multilingual-e5-small"  # an encoder
MAX_LENGTH = 64  # tokens of a comment
NAME = "comments"  # of the results
LABELS = "300,1000"  # labels that a user has
TIMES = "1.5,2,4"  # so many times as many are forecast
REPEATS = 16  # users, each with other labels
DRAWS = 4  # as plan_coding.py has it
TRUE_DRAWS = 16  # probes of which the true score is the mean
CHOICES = 10  # pools that labels are chosen from
POOL = 4_000  # comments in each
FIRST = 200  # labels before the choice, at random
LAST = 1_000  # and after it
PENALTIES = "1,0.1,0.01,0.001"  # C of logistic regression; scikit-learn's is 1
# ---------------------------------------------------------------------------------------------

PROBE_LABELS = (50, 120, 250, 500, 1000, 2000)


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    rows, features = read_comments(settings)
    sizes = [int(part) for part in settings["labels"].split(",")]
    forecasts = list(forecast_lines(rows, features, sizes, settings))
    chosen = choice_lines(rows, features, settings)
    penalties = [float(part) for part in settings["penalties"].split(",")]
    probes = penalty_lines(rows, features, penalties, settings["true_draws"])
    common.publish(
        "label_curve",
        settings,
        {
            f"{settings['name']}, {len(rows):,} comments: what more labels bring": forecasts,
            "Labels that a model chooses": chosen,
            "Accuracy of linear probes by penalty C": probes,
        },
        [
            f'{settings["repeats"]} users. Gains are in points. "Holds" is the share whose 95 % '
            'interval has the true gain. "Own check holds" is the share whose forecast of '
            "their own largest size held.",
            f"Chosen: {settings['choices']} pools of {settings['pool']:,}, {settings['first']:,} "
            f"random labels, then {settings['last'] - settings['first']:,} more in four rounds. "
            "Differences from random choice are in points, with 95 % intervals over pools.",
        ],
        common.bars(
            {
                f"{line['labels']}, {line['more']} more, {line['score']}": 100
                * float(line["holds"])
                for line in forecasts
            },
            "% of users whose interval has the true gain",
        ),
        settings["name"],
    )


def read_comments(settings: dict) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the comments with their classes as numbers, and a frozen encoder's features."""
    if not settings["comments"]:
        raise UserError("give --comments a .csv file of comments that people coded")
    text, label = settings["text_column"], settings["class_column"]
    cells = read_csv(settings["comments"], [text, label], "a coder")
    messages = cells[text].map(clean_text)
    there = messages != ""
    rows = pd.DataFrame({"message": messages[there].to_numpy()})
    rows["class"] = np.unique(cells[label][there], return_inverse=True)[1]
    rows[MESSAGE_KEY] = message_keys(rows)
    tokenizer = load_tokenizer(settings["model_path"], settings["max_length"])
    ids, _ = encode(tokenizer, rows["message"].tolist(), settings["max_length"])
    encoder = load_encoder(settings["model_path"])
    return rows, forward(encoder, tokenizer, ids, 64, mean_of_tokens)


def scores_on_others(
    rows: pd.DataFrame, features: np.ndarray, known: np.ndarray, others: np.ndarray, fit: Callable
) -> np.ndarray:
    """Return a probe's accuracy and macro F1 on comments that are equal to none it learned."""
    labels, keys = rows["class"].to_numpy(), rows[MESSAGE_KEY].to_numpy()
    others = others[~np.isin(keys[others], keys[known])]
    predicted = fit(features[known], labels[known]).predict(features[others])
    matrix = confusion(labels[others], predicted, labels.max() + 1)
    return np.array([score(matrix) for score in MEASURES.values()])


def forecast_lines(
    rows: pd.DataFrame, features: np.ndarray, sizes: Sequence[int], settings: dict
) -> Iterator[dict]:
    """Yield a table's line for each number of labels, number of more labels, and measure."""

    @cache
    def true_score(size: int) -> np.ndarray:
        rng = np.random.default_rng(common.SEED)
        found = []
        for _ in range(settings["true_draws"]):
            order = rng.permutation(len(rows))
            parts = order[:size], order[size:]
            found.append(scores_on_others(rows, features, *parts, fit_probe))
        return np.mean(found, axis=0)

    rng = np.random.default_rng(common.SEED + 1)
    times = [float(part) for part in settings["times"].split(",")]
    for size in sizes:
        more = [round(size * (time - 1)) for time in times if size * time <= 0.8 * len(rows)]
        outcomes: dict[tuple[str, int], list] = {}
        checks: dict[str, list[bool]] = {}
        for seed in range(settings["repeats"]):
            drawn = rng.permutation(len(rows))[:size]
            for name, curve in curves_of(rows.iloc[drawn], features[drawn], settings, seed):
                law, check = forecast(curve, seed), backtest(curve, seed)
                checks.setdefault(name, []).append(check.holds)
                for number in more:
                    gain = law.gain(size, number)
                    outcomes.setdefault((name, number), []).append(
                        (np.median(gain), *interval(gain))
                    )
        for number in more:
            for place, name in enumerate(MEASURES):
                true = (true_score(size + number) - true_score(size))[place]
                middle, low, high = np.array(outcomes[name, number]).T
                yield {
                    "labels": size,
                    "more": number,
                    "score": name.replace("_", " ").replace("f1", "F1"),
                    "true gain": f"{100 * true:.2f}",
                    "forecast, mean": f"{100 * middle.mean():.2f}",
                    "off by, mean": f"{100 * abs(middle - true).mean():.2f}",
                    "interval, mean width": f"{100 * (high - low).mean():.2f}",
                    "holds": f"{((low <= true) & (true <= high)).mean():.2f}",
                    "own check holds": f"{np.mean(checks[name]):.2f}",
                }


def curves_of(rows: pd.DataFrame, features: np.ndarray, settings: dict, seed: int) -> Iterator:
    """Yield the curves of a user's labels by each measure, as plan_coding.py measures them."""
    labels, groups = rows["class"].to_numpy(), rows[MESSAGE_KEY].to_numpy()
    divided = divide(rows, settings["draws"], seed)
    sizes = choose_sizes("", labels, divided)
    predicted = probe_predictions(features, labels, divided, sizes)
    for name in MEASURES:
        classes = int(labels.max()) + 1
        yield name, curve_of(name, labels, predicted, sizes, groups, classes, seed)


def choice_lines(rows: pd.DataFrame, features: np.ndarray, settings: dict) -> list[dict]:
    """Return a table's lines: what labels chosen by each strategy bring on other comments."""
    labels, found = rows["class"].to_numpy(), []
    for seed in range(settings["choices"]):
        order = np.random.default_rng(seed).permutation(len(rows))
        pool, others = order[: settings["pool"]], order[settings["pool"] :]
        scores = []
        for strategy in STRATEGIES:
            about = features[pool], labels[pool], settings["first"], settings["last"]
            known = pool[choose(strategy, *about, np.random.default_rng(seed))]
            scores.append(scores_on_others(rows, features, known, others, fit_probe))
        found.append(scores)
        print(f"  chose labels from {seed + 1} of {settings['choices']} pools", flush=True)
    scores = 100 * np.array(found)  # (pools, strategies, measures)
    more = scores - scores[:, :1]
    reach = student.ppf(0.975, len(more) - 1) * more.std(0, ddof=1) / np.sqrt(len(more))
    lines = []
    for place, strategy in enumerate(STRATEGIES):
        line = {"labels chosen": strategy}
        for column, name in enumerate(("accuracy", "macro F1")):
            line[name] = f"{scores[:, place, column].mean():.1f}"
            middle, half = more[:, place, column].mean(), reach[place, column]
            line[f"{name}, difference"] = (
                "-"
                if strategy == RANDOM
                else f"{middle:+.1f} [{middle - half:+.1f}, {middle + half:+.1f}]"
            )
        lines.append(line)
    return lines


def penalty_lines(
    rows: pd.DataFrame, features: np.ndarray, penalties: Sequence[float], draws: int
) -> list[dict]:
    """Return a table's lines: accuracy by number of labels, for probes of other penalties."""
    probes: dict[str, Callable] = {
        f"C = {c:g}": lambda x, y, c=c: make_pipeline(
            StandardScaler(), LogisticRegression(C=c, max_iter=1000)
        ).fit(x, y)
        for c in penalties
    }
    probes[f"C = {PROBE_C:g}, classes alike (used)"] = fit_probe
    lines = []
    for name, fit in probes.items():
        line = {"probe": name}
        for size in (size for size in PROBE_LABELS if 2 * size <= len(rows)):
            rng, found = np.random.default_rng(common.SEED), []
            for _ in range(draws // 4):
                order = rng.permutation(len(rows))
                found.append(scores_on_others(rows, features, order[:size], order[size:], fit))
            accuracy, macro_f1 = np.mean(found, axis=0)
            line[f"{size:,} labels"] = f"{accuracy:.3f} ({macro_f1:.3f})"
        lines.append(line)
    return lines


if __name__ == "__main__":
    run(main)
