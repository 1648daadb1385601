"""plan_coding.py --labels: how many labels are enough, what more of them bring, which to choose."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_splits

import bert_tune
import plan_coding
from pipeline.common.cli import UserError
from pipeline.common.rows import message_keys
from pipeline.common.tables import write_csv
from pipeline.planning import label_planning
from pipeline.planning.active import RANDOM, STRATEGIES, choose, contest, margins, spread_out
from pipeline.planning.extrapolate import backtest, forecast, interval, why_not
from pipeline.planning.label_plan import LabelPlan
from pipeline.planning.label_text import labels_text
from pipeline.planning.learning_curve import (
    Curve,
    choose_sizes,
    curve_of,
    divide,
    fit_probe,
    in_shares,
    probe_predictions,
)

SIZES = np.geomspace(100, 800, 8).round()
pytestmark = pytest.mark.torch


def power_law(sizes, floor=0.2, drop=0.8, exponent=0.4):
    return 1 - floor - drop * np.asarray(sizes) ** -exponent


def curve(scores, noise):
    return Curve(SIZES, np.asarray(scores), noise**2 * np.eye(len(SIZES)))


def plan(model, **more):
    """Run plan_coding.py --labels on few labels; return what it has written."""
    settings = {
        "train_file": "splits/train.csv",
        "validation_file": "splits/validation.csv",
        "labeled_file": "labeled.csv",
        "model_path": model,
        "draws": 1,
        "max_length": 64,
        "dtype": "float32",
        "output_dir": "plan",
    } | more
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    plan_coding.main(["--labels", *options])
    return LabelPlan.read("plan")


@pytest.fixture
def splits():
    write_splits(Path("splits"), 3, train=230, validation=40)


# The rows that learn --------------------------------------------------------------------------


def test_every_beginning_of_the_rows_to_learn_from_has_the_classes_in_their_shares():
    labels = np.repeat([0, 1, 2], [120, 60, 20])
    rows = in_shares(np.arange(200), labels, np.random.default_rng(0))
    assert sorted(rows) == list(range(200))
    for size in (10, 50, 100):
        counts = np.bincount(labels[rows[:size]], minlength=3)
        assert (abs(counts - size * np.array([0.6, 0.3, 0.1])) <= 1.5).all()


def test_a_row_is_predicted_once_a_draw_and_equal_messages_stay_together():
    texts = [f"comment {n % 90}" for n in range(120)]
    rows = pd.DataFrame({"message": texts, "class": np.arange(120) % 90 % 2})
    for draw in divide(rows, 3, seed=1):
        assert sorted(np.concatenate([part.unseen for part in draw])) == list(range(120))
        for part in draw:
            known = set(rows["message"][part.learned])
            assert known.isdisjoint(rows["message"][part.unseen])


def test_sizes_are_as_asked_or_each_as_many_times_the_one_before():
    rows = pd.DataFrame({"message": map(str, range(1000)), "class": np.arange(1000) % 4})
    labels, divided = rows["class"].to_numpy(), divide(rows, 1, seed=1)
    assert choose_sizes("200, 100,200", labels, divided) == [100, 200]
    sizes = choose_sizes("", labels, divided)
    assert (len(sizes), sizes[0], sizes[-1]) == (8, 100, 800)
    for asked, told in (
        ("100,900", "give sizes of 20 to 800"),
        ("5,100", "20 to 800"),
        ("a", "whole"),
    ):
        with pytest.raises(UserError, match=told):
            choose_sizes(asked, labels, divided)


# What more labels bring -----------------------------------------------------------------------


def test_the_interval_of_a_gain_holds_for_power_laws_and_narrows_with_less_noise():
    rng, held, widths = np.random.default_rng(0), [], {0.002: [], 0.01: []}
    for law in ((0.2, 0.8, 0.2), (0.15, 3, 0.5), (0.1, 10, 0.7)):
        true = np.subtract(*power_law([2000, 1000], *law))
        for noise in widths:
            for seed in range(10):
                scores = power_law(SIZES, *law) + rng.normal(0, noise, len(SIZES))
                low, high = interval(forecast(curve(scores, noise), seed).gain(1000, 1000))
                held.append(low <= true <= high)
                widths[noise].append(high - low)
    assert np.mean(held) >= 0.93
    assert np.mean(widths[0.002]) < 0.6 * np.mean(widths[0.01])


def test_more_labels_bring_next_to_nothing_where_the_curve_is_flat():
    gain = forecast(curve(np.full(8, 0.75), 0.001), 0).gain(1000, 3000)
    assert interval(gain)[0] >= 0 and interval(gain)[1] < 0.005
    falling = forecast(curve(0.75 - 0.01 * np.arange(8), 0.001), 0)
    assert falling.fit < 0.01, "no power law falls"


def test_nothing_is_said_of_a_curve_of_few_sizes_or_of_no_numbers():
    whole = curve(power_law(SIZES), 0.01)
    assert why_not(whole) == ""
    assert "has 3 sizes (100 to 181 labels)" in why_not(whole.upto(200))
    broken = Curve(SIZES, np.append(whole.scores[:-1], np.nan), whole.covariance)
    assert why_not(broken) == "the scores are no finite numbers"
    assert "no finite" in why_not(Curve(SIZES, whole.scores, np.full((8, 8), np.nan)))


def test_a_forecast_of_the_largest_size_holds_for_a_power_law_and_misses_a_jump():
    scores = power_law(SIZES)
    test = backtest(curve(scores, 0.002), 0)
    assert (test.fitted_to, test.predicted_for, test.holds) == (328, 800, True)
    scores[-1] += 0.1
    assert not backtest(curve(scores, 0.002), 0).holds
    assert backtest(curve(scores, 0.002).upto(300), 0) is None


def test_the_interval_of_a_measured_score_is_that_of_other_users_with_as_many_labels():
    """The scores of 20 users differ from their mean as much as their covariances say."""
    rng, found, variances = np.random.default_rng(0), [], []
    for seed in range(20):
        labels = rng.integers(0, 2, 200)
        features = rng.normal(size=(200, 5)) + 0.8 * labels[:, None]
        rows = pd.DataFrame({"message": map(str, range(200)), "class": labels})
        divided = divide(rows, 2, seed)
        predicted = probe_predictions(features, labels, divided, [40, 150])
        groups = message_keys(rows)
        one = curve_of("accuracy", labels, predicted, [40, 150], groups, 2, seed)
        found.append(one.scores)
        variances.append(np.diag(one.covariance))
    spread = np.std(found, axis=0) / np.sqrt(np.mean(variances, axis=0))
    assert (spread < 1.3).all() and (spread > 0.4).all()


# Labels that a model chooses ------------------------------------------------------------------


def rare_class(seed, count=800):
    """Return features and labels of which a class is rare and lies apart."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.06).astype(int)
    features = rng.normal(size=(count, 8))
    features[:, 0] += 3 * labels
    return features, labels


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_begins_with_the_same_labels_and_takes_as_many(strategy):
    features, labels = rare_class(0)
    known = choose(strategy, features, labels, 100, 200, np.random.default_rng(0))
    assert len(set(known)) == len(known) == 200
    assert known[:100].tolist() == list(range(100))
    assert (known.tolist() == list(range(200))) == (strategy == RANDOM)


def test_uncertain_rows_are_those_between_classes_and_diverse_ones_lie_apart():
    features, labels = rare_class(0)
    probe = fit_probe(features, labels)
    first = probe.predict_proba(features)[:, 0]
    assert margins(probe, features).argmin() == abs(first - 0.5).argmin()
    groups = np.repeat(np.eye(4) * 10, 25, axis=0) + np.random.default_rng(0).normal(size=(100, 4))
    rows = spread_out(groups, 4, np.random.default_rng(0))
    assert sorted(rows // 25) == [0, 1, 2, 3]


def test_choosing_pays_where_a_class_is_rare_and_random_labels_show_it_seldom():
    features, labels = rare_class(1, 1200)
    rows = pd.DataFrame({"message": map(str, range(1200)), "class": labels})
    found = contest(features, labels, divide(rows, 1, 0), message_keys(rows), 2, 60, seed=0)
    best = {one.strategy: one for one in found if one.measure == "macro_f1"}
    assert best["uncertain"].difference_ci95[0] > 0
    assert best[RANDOM].difference_ci95 == [0, 0]
    assert best[RANDOM].labels == 480 and best[RANDOM].chosen == 360
    assert contest(features, labels, divide(rows, 1, 0), message_keys(rows), 2, 479, 0) == []


# The whole ------------------------------------------------------------------------------------


def test_what_more_labels_cost_and_bring_is_said_and_the_test_rows_are_not_read(
    splits, tiny_bert, capsys
):
    found = plan(tiny_bert, more_labels="100,500", draws=2)
    assert found.labels == 270 and sum(found.class_counts.values()) == 270
    accuracy, macro_f1 = found.curves
    assert (accuracy.measure, macro_f1.measure) == ("accuracy", "macro_f1")
    assert [one.labels for one in accuracy.points][-1] == 216
    for more in accuracy.more:
        assert more.price == more.labels * found.price_per_label > 0
        assert more.gain_ci95[0] <= more.gain <= more.gain_ci95[1]
    text = Path("plan/labels.txt").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    price = 500 * found.price_per_label
    assert f"500 more labels cost {price:.2f} yuan and bring about" in text
    table = pd.read_csv("plan/labels.csv")
    assert set(table["kind"]) == {"measured", "forecast"}
    assert Path("plan/labels.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path("plan").iterdir()) == [
        *("labels.csv", "labels.json", "labels.png", "labels.txt"),
    ]
    assert {one.strategy for one in found.contests} == set(STRATEGIES)


def test_a_killed_run_goes_on_and_comes_to_the_same(splits, tiny_bert, monkeypatch, capsys):
    whole = plan(tiny_bert)
    shutil.move("plan", "whole")

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as within, pytest.raises(Killed):
        within.setattr(label_planning, "contest", kill)
        plan(tiny_bert)
    assert [path.name for path in Path("plan").iterdir() if path.is_dir()] == ["unfinished"]
    capsys.readouterr()
    assert plan(tiny_bert) == whole
    said = capsys.readouterr().out
    for what in ("features", "draw 1"):
        assert f"{what}: 270 of 270 rows were there from a run that was interrupted" in said


def test_a_pilot_without_a_split_is_enough(tiny_bert, capsys):
    write_splits(Path("."), 4, labeled=120)
    found = plan(tiny_bert)
    assert "splits/train.csv not found: taking all rows of labeled.csv" in capsys.readouterr().out
    assert (found.labels, found.source) == (120, "labeled.csv")


def test_nothing_is_said_of_more_labels_where_there_are_too_few(tiny_bert):
    write_splits(Path("."), 4, labeled=70)
    found = plan(tiny_bert)
    assert found.curves[0].more == found.curves[0].line == []
    text = Path("plan/labels.txt").read_text(encoding="utf-8")
    assert "Nothing can be said of more labels" in text and "more labels cost" not in text
    assert Path("plan/labels.png").is_file()


def test_the_real_training_stands_beside_the_probe_and_no_size_is_trained_twice(
    splits, tiny_bert, monkeypatch
):
    options = ["--num-train-epochs", "1", "--max-length", "64", "--dtype", "float32"]
    files = ["--train-file", "splits/train.csv", "--validation-file", "splits/validation.csv"]
    bert_tune.main(["--model-path", tiny_bert, *options, *files])
    from pipeline.bert import training

    done, fine_tune = [], training.fine_tuned

    class Killed(BaseException):
        pass

    def counted(path, rows, *more):
        if len(done) == 1:
            done.append(0)
            raise Killed
        done.append(len(rows))
        return fine_tune(path, rows, *more)

    monkeypatch.setattr(training, "fine_tuned", counted)
    sizes = {"train_sizes": "60,120"}
    with pytest.raises(Killed):
        plan(tiny_bert, **sizes)
    found = plan(tiny_bert, **sizes)
    assert done == [60, 0, 120], "60 was trained before the kill, and not again"
    assert [(one.labels, one.measure) for one in found.trained] == [
        *((60, "accuracy"), (60, "macro_f1"), (120, "accuracy"), (120, "macro_f1")),
    ]
    for one in found.trained:
        assert one.difference == pytest.approx(one.score - one.probe_score)
    assert not list(Path("plan").glob("*training*"))
    text = labels_text(found)
    assert "Fine-tuned on 120 labels: accuracy" in text
    assert "the probe's curve, not that of these models" in text


def test_what_is_said_follows_the_intervals(splits, tiny_bert):
    found = plan(tiny_bert, more_labels="100")

    def text(gain, ends, **more):
        changed = [
            replace(
                one,
                more=[replace(one.more[0], gain=gain, gain_ci95=ends)],
                **({"fit": 0.5, "backtest": None} | more),
            )
            for one in found.curves
        ]
        return " ".join(labels_text(replace(found, curves=changed)).split())

    pays, flat, open_ = text(0.02, [0.01, 0.03]), text(0.001, [0, 0.004]), text(0.01, [0, 0.02])
    assert "bring about 2.0 points [1.0, 3.0] of accuracy" in pays
    assert "do not pay" not in pays and "It is open" not in pays and "rely" not in pays
    assert "More labels do not pay: even 100 bring less than half a point" in flat
    assert "It is open whether more labels pay" in open_
    assert "no smooth curve" in text(0.02, [0.01, 0.03], fit=0.001)
    assert "no smooth curve" in text(0.02, [0.01, 0.03], fit=float("nan"))

    def choice(ends):
        changed = [
            one
            if one.strategy == RANDOM
            else replace(one, difference=sum(ends) / 2, difference_ci95=ends)
            for one in found.contests
        ]
        return " ".join(labels_text(replace(found, contests=changed)).split())

    chance = "An interval above 0 is no proof where six are looked at: one is so by chance in one"
    assert "Choosing pays here" in choice([0.01, 0.03]) and chance not in choice([0.01, 0.03])
    assert f"Nothing shows that choosing pays here: label random rows. {chance}" in choice(
        [0.001, 0.03]
    )
    assert "Nothing shows" in choice([-0.01, 0.03]) and chance not in choice([-0.01, 0.03])
    missed = replace(found.curves[0].backtest, holds=False)
    assert "missed the largest size" in text(0.02, [0.01, 0.03], backtest=missed)


def few_of_a_class(rows):
    return rows[(rows["class"] != 0) | (rows["class"] == 0).cumsum().le(4)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[rows["class"] == 1], "needs two classes: label more"),
        (few_of_a_class, r"4 comments have class 0 \(Positive\).* needs 5"),
    ],
)
def test_labels_of_one_class_or_of_too_few_rows_are_refused(splits, tiny_bert, change, told):
    rows = pd.read_csv("splits/train.csv", dtype=str).astype({"class": int})
    validation = pd.read_csv("splits/validation.csv", dtype=str).astype({"class": int})
    both = change(pd.concat([rows, validation], ignore_index=True))
    write_csv(both, "labeled.csv")
    with pytest.raises(UserError, match=told):
        plan(tiny_bert, train_file="none.csv")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"model_path": "nothing"}, "nothing not found"),
        ({"sizes": "20,5000"}, "--sizes 20,5000: of these 270 labels"),
        ({"more_labels": "900"}, "--more-labels 900: with 270 labels"),
        ({"more_labels": "5,-5"}, "give whole numbers above 0"),
        ({"train_sizes": "100"}, "bert_checkpoints/final_model/training.json not found"),
        ({"draws": 0}, "--draws 0: give at least 1"),
        ({"train_file": "none.csv"}, "labeled.csv not found: run jsonl_to_csv.py first"),
        ({"max_length": 5000}, "--max-length 5000"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_a_line(splits, tiny_bert, more, told):
    with pytest.raises(UserError, match=told):
        plan(tiny_bert, **more)


def test_labels_of_another_codebook_and_a_tuned_encoder_are_refused(splits, tiny_bert):
    shutil.copytree(tiny_bert, "tuned")
    Path("tuned/training.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="tuned is already fine-tuned to classify"):
        plan("tuned")
    record = json.dumps({"codebook_sha256": "another"})
    Path("splits/splits.json").write_text(record, encoding="utf-8")
    with pytest.raises(UserError, match="classes by another codebook"):
        plan(tiny_bert)
    Path("silver_labels.json").write_text(record, encoding="utf-8")
    shutil.copy("splits/train.csv", "labeled.csv")
    with pytest.raises(UserError, match="labels by another codebook"):
        plan(tiny_bert, train_file="none.csv")


def test_labels_and_apply_are_not_done_together():
    with pytest.raises(UserError, match="--labels writes no rows that could be applied"):
        plan_coding.main(["--labels", "--apply"])


def test_features_that_are_no_numbers_stop_the_run(splits, tiny_bert, monkeypatch):
    from pipeline.bert import encoder

    monkeypatch.setattr(encoder, "mean_of_tokens", lambda output, mask: mask.float() * np.nan)
    with pytest.raises(UserError, match="are not finite numbers"):
        plan(tiny_bert)
