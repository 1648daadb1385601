"""Benchmark 9: whether the accuracy that a plan promises holds on rows kept out, on your comments.

Comments that people coded, a linear probe on a frozen encoder as the small model. Each seed trains
it on other rows; each draw of the others plans from held-out rows and counts on the rest how many
are right. Beside the plan stands what is often done: the threshold at which the held-out rows reach
the target, with nothing allowed for chance.

- equal weights: held-out test rows; who codes the rest is right by definition.
- people's sample: a stratified sample with weights, as human_sample.py draws it, by the classes of
  the teacher; people code the rest.
- people's sample, teacher: the same, and the teacher codes the rest with its errors. The teacher is
  a stand-in: people's class, changed at random in TEACHER_ERRORS of the rows, more often where the
  probe is unsure.
- other source: with GROUP_COLUMN, the rows to be coded are those of other groups than the one that
  the model and the plan know. A plan promises nothing for them.

Writes  results/plan_holds-NAME.json and .png, and the section of README.md
Run     python -m benchmarks.plan_holds --comments comments.csv --text-column comment_text \\
        --class-column label --model-path ./multilingual-e5-small --name swsr
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks import common
from pipeline.bert.encoder import encode, fit_probe, forward, load_encoder, load_tokenizer
from pipeline.bert.encoder import mean_of_tokens as mean
from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.files import clean_text
from pipeline.common.tables import read_csv
from pipeline.people.sample import allocate
from pipeline.planning.routing import Routes, find_routes, lowest_promised

# ---------------------------------------------------------------------------------------------
COMMENTS = ""  # a .csv file of comments that people coded
TEXT_COLUMN = "message"  # the comment
CLASS_COLUMN = "class"  # its class by people
GROUP_COLUMN = ""  # where comments come from; empty = no trial with rows of another source
MODEL_PATH = "./multilingual-e5-small"  # an encoder
MAX_LENGTH = 64  # tokens of a comment
NAME = "comments"  # of the results
SEEDS = 10  # trainings
DRAWS = 100  # of held-out rows, for each training
TRAIN_ROWS = 2_500  # the probe learns from
HELD_OUT_ROWS = 1_500  # the plan rests on, where weights are equal
SAMPLE_ROWS = 500  # of people's sample
MIN_PER_CLASS = 100  # of these
TEACHER_ERRORS = 0.1  # share of rows in which the stand-in for a teacher is wrong
TARGETS = "0.85,0.9,0.95"  # accuracies
ALPHA = 0.05  # the chance that a promise may not hold
# ---------------------------------------------------------------------------------------------

EQUAL, PEOPLE, TEACHER = "equal weights", "people's sample", "people's sample, teacher"
OTHER = "other source"
NOTHING = 2.0  # a threshold that keeps no row


@dataclass(frozen=True)
class Coded:
    """Rows that a model coded: its confidence, whether it and the teacher are wrong, all (rows,).

    `silver` is the teacher's class, by which samples are stratified.
    """

    confidence: np.ndarray
    model_wrong: np.ndarray
    teacher_wrong: np.ndarray
    silver: np.ndarray

    def only(self, places: np.ndarray) -> "Coded":
        """Return some of the rows."""
        return Coded(*(column[places] for column in vars(self).values()))

    def right(self, threshold: float, by_teacher: bool) -> tuple[float, float]:
        """Return which shares of the rows are right and are kept by the model."""
        kept = self.confidence >= threshold
        others = self.teacher_wrong if by_teacher else np.zeros(len(kept), bool)
        return 1 - np.where(kept, self.model_wrong, others).mean(), kept.mean()


def main(argv: list[str] | None = None) -> None:
    settings = vars(parse_settings(globals(), argv))
    targets = [float(part) for part in settings["targets"].split(",")]
    comments, labels, groups = read_comments(settings)
    features = features_of(comments, settings["model_path"], settings["max_length"])
    outcomes: dict[tuple[str, float], list[tuple]] = {}
    for seed in range(settings["seeds"]):
        for key, outcome in trials(features, labels, groups, targets, seed, settings):
            outcomes.setdefault(key, []).append(outcome)
    lines = [line_of(*key, found) for key, found in outcomes.items()]
    broken = {f"{line['held-out rows']}, {line['target']}": line["broken"] for line in lines}
    common.publish(
        "plan_holds",
        settings,
        {f"{settings['name']}, {len(comments):,} comments": lines},
        [
            f"{settings['seeds']} trainings, {settings['draws']} draws each. 'Broken' is the share "
            "of all draws in which a promise was made and the rows kept out are right less often; "
            f"a plan promises at most {settings['alpha']:.0%}. 'Holds' is the share of the draws "
            "with a promise; where a target is out of reach, the few promises are those of lucky "
            "draws. 'In the interval' is how often the accuracy of the rows kept out lies in the "
            "95 % interval that was told. 'Without a margin' is the threshold at which the "
            "held-out rows just reach the target."
        ],
        common.bars(
            {name: float(share.rstrip("%")) for name, share in broken.items()},
            "% of all draws in which a promise is made and does not hold",
        ),
        settings["name"],
    )


def read_comments(settings: dict) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the comments, their classes as numbers, and their groups (rows,), 0 without any."""
    if not settings["comments"]:
        raise UserError("give --comments a .csv file of comments that people coded")
    names = [settings[name] for name in ("text_column", "class_column", "group_column")]
    rows = read_csv(settings["comments"], [name for name in names if name], "a coder")
    text = rows[names[0]].map(clean_text)
    rows, text = rows[text != ""], text[text != ""]
    labels = np.unique(rows[names[1]], return_inverse=True)[1]
    groups = np.zeros(len(rows), int)
    if names[2]:
        groups = (rows[names[2]] != rows[names[2]].mode()[0]).to_numpy(int)
    return text.tolist(), labels, groups


def features_of(comments: list[str], model_path: str, max_length: int) -> np.ndarray:
    """Return a frozen encoder's features of comments, (rows, hidden)."""
    tokenizer = load_tokenizer(model_path, max_length)
    rows, _ = encode(tokenizer, comments, max_length)
    return forward(load_encoder(model_path).eval(), tokenizer, rows, 32, mean)


def trials(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    targets: list[float],
    seed: int,
    settings: dict,
) -> Iterator[tuple[tuple[str, float], tuple]]:
    """Yield what the plans of a training come to: which trial and target, and the outcome."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(groups == 0))
    train, rest = order[: settings["train_rows"]], order[settings["train_rows"] :]
    if len(rest) < 2 * settings["held_out_rows"]:
        raise UserError("too few comments: give fewer --train-rows or --held-out-rows")
    probe = fit_probe(features[train], labels[train])
    coded = code(probe, features, labels, settings["teacher_errors"], rng)
    here, others, alpha = coded.only(rest), coded.only(np.flatnonzero(groups)), settings["alpha"]
    for _ in range(settings["draws"]):
        drawn = rng.permutation(len(rest))
        first = drawn[: settings["held_out_rows"]]
        held, left = here.only(first), here.only(drawn[len(first) :])
        routes = find_routes(held.confidence, held.model_wrong, None, np.ones(len(first)))
        for target in targets:
            yield (EQUAL, target), outcome(routes, left, target, alpha, by_teacher=False)
            if len(others.silver):
                yield (OTHER, target), outcome(routes, others, target, alpha, by_teacher=False)
        places, weights = people_s_sample(here, drawn, settings)
        sample, left = here.only(places), here.only(np.setdiff1d(drawn, places))
        for name, wrong in ((PEOPLE, None), (TEACHER, sample.teacher_wrong)):
            routes = find_routes(sample.confidence, sample.model_wrong, wrong, weights)
            for target in targets:
                yield (name, target), outcome(routes, left, target, alpha, wrong is not None)


def code(
    probe, features: np.ndarray, labels: np.ndarray, errors: float, rng: np.random.Generator
) -> Coded:
    """Return rows as the probe codes them, and the stand-in for a teacher."""
    probabilities = probe.predict_proba(features)
    confidence = probabilities.max(1).round(6)
    unsure = 1 - confidence
    teacher_wrong = rng.random(len(labels)) < errors * (0.5 + 0.5 * unsure / unsure.mean())
    other = (labels + rng.integers(1, labels.max() + 1, len(labels))) % (labels.max() + 1)
    return Coded(
        confidence=confidence,
        model_wrong=probabilities.argmax(1) != labels,
        teacher_wrong=teacher_wrong,
        silver=np.where(teacher_wrong, other, labels),
    )


def people_s_sample(
    rows: Coded, drawn: np.ndarray, settings: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of a stratified sample of some rows in random order, and its weights."""
    sizes = np.bincount(rows.silver)
    quotas = allocate(sizes, settings["sample_rows"], settings["min_per_class"])
    of_class = [drawn[rows.silver[drawn] == k][:n] for k, n in enumerate(quotas)]
    weights = [np.full(n, size / max(n, 1)) for n, size in zip(quotas, sizes, strict=True)]
    return np.concatenate(of_class), np.concatenate(weights)


def outcome(
    routes: Routes, left: Coded, target: float, alpha: float, by_teacher: bool
) -> tuple[float | None, ...]:
    """Return what a plan and the plain threshold come to on the rows kept out.

    For the plan: the share that is right and the share that is kept, None without a promise, and
    whether the first lies in the interval that was told. Then the two shares of the other.
    """
    place = lowest_promised(routes, target, alpha, len(left.silver))
    reached = np.flatnonzero(routes.right >= target)
    plain = left.right(routes.threshold[reached[-1]] if len(reached) else NOTHING, by_teacher)
    if place is None:
        return None, None, None, *plain
    right, kept = left.right(routes.threshold[place], by_teacher)
    low, high = routes.interval(place, len(left.silver))
    return right, kept, low <= right <= high, *plain


def line_of(name: str, target: float, found: list[tuple]) -> dict[str, str]:
    """Return the line of a table: how often the promise holds, and what it costs."""
    promised = [one for one in found if one[0] is not None]
    columns = np.array(promised, float).reshape(len(promised), 5)
    plain = np.array([one[3:] for one in found])
    missed = int((columns[:, 0] < target - 1e-12).sum())
    shares = [f"{share:.1%}" for share in columns.mean(0)] if promised else ["-"] * 5
    return {
        "held-out rows": name,
        "target": f"{target:g}",
        "broken": f"{missed / len(found):.1%}",
        "promised": f"{len(promised):,} of {len(found):,}",
        "holds": f"{1 - missed / len(promised):.1%}" if promised else "-",
        "right": shares[0],
        "model keeps": shares[1],
        "in the interval": shares[2],
        "without a margin: holds": f"{(plain[:, 0] >= target).mean():.1%}",
        "model keeps so": f"{plain[:, 1].mean():.1%}",
    }


if __name__ == "__main__":
    run(main)
