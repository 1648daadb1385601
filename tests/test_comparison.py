"""The statistics of a comparison, against published examples, other libraries and brute force."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from pipeline.evaluation import baselines
from pipeline.evaluation.calibration import expected_calibration_error, reliability_bins
from pipeline.evaluation.comparison import (
    TARGETS,
    by_hand,
    compare_pairs,
    compare_runs,
    coverage_curve,
    difference_interval,
    holm,
    mcnemar_exact,
)
from pre_process.sample.comments import generate_comments

GROUPS = {"silver a": 0.5, "silver b": 0.7, "human a": 0.6, "human b": 0.7, "human c": 0.9}


def rows_of(right, confidence, name="row"):
    """Return a table of predictions that are right or wrong."""
    index = pd.Index([f"{name}-{n}" for n in range(len(right))], name="custom_id")
    columns = {"message": "m", "class": 1, "predicted": np.where(right, 1, 0), "weight": 1.0}
    return pd.DataFrame(columns | {"confidence": confidence}, index=index)


def alone(only_first, only_second, rows):
    """Return which rows one model alone got right, and weights that are all alike."""
    places = np.arange(rows)
    return places < only_first, places >= rows - only_second, np.ones(rows)


def test_mcnemar_s_exact_test_gives_the_published_p_value():
    # Agresti's approval ratings (86 and 150 changes of mind); R's exact2x2 prints 3.716e-05.
    assert mcnemar_exact(86, 150) == pytest.approx(3.716e-5, rel=1e-4)
    assert mcnemar_exact(3, 0) == pytest.approx(2 * 0.5**3)
    assert mcnemar_exact(0, 0) == 1


@pytest.mark.parametrize(("first", "second"), [(0, 5), (7, 7), (12, 3), (86, 150), (400, 21)])
def test_mcnemar_s_exact_test_is_statsmodels(first, second):
    expected = mcnemar([[50, first], [second, 9]], exact=True).pvalue
    assert mcnemar_exact(first, second) == pytest.approx(min(1, expected), rel=1e-9)


def test_holm_s_adjustment_gives_the_worked_example():
    # https://en.wikipedia.org/wiki/Holm-Bonferroni_method: at 0.05 only H1 and H4 are rejected.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_holm_s_adjustment_is_statsmodels():
    rng = np.random.default_rng(0)
    for size in (1, 2, 15, 28):
        p_values = rng.beta(0.3, 1, size=size)
        p_values[: size // 3] = p_values[0]
        expected = multipletests(p_values, method="holm")[1]
        assert holm(p_values.tolist()) == pytest.approx(expected.tolist(), rel=1e-12)


def test_the_interval_of_a_paired_difference_covers_the_truth_in_95_of_100_samples():
    rng = np.random.default_rng(1)
    samples = rng.multinomial(600, (0.08, 0.14, 0.78), size=1000)
    covered = [
        low <= 0.14 - 0.08 <= high
        for first, second, _ in samples
        for low, high in [difference_interval(*alone(first, second, 600), seed=first + second)]
    ]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_interval_of_a_paired_difference_is_that_of_redrawn_rows():
    first, second, rows = 40, 70, 500
    pairs = np.repeat([-1, 1, 0], [first, second, rows - first - second])
    rng = np.random.default_rng(2)
    draws = rng.choice(pairs, size=(20_000, rows)).mean(1)
    expected = np.percentile(draws, [2.5, 97.5])
    interval = difference_interval(*alone(first, second, rows), seed=0)
    assert interval == pytest.approx(expected, abs=0.004)


def test_the_interval_of_a_weighted_difference_covers_the_truth_in_95_of_100_samples():
    rng, covered = np.random.default_rng(6), 0
    sizes, drawn = (18_000, 2_000), (270, 150)
    shares = ((0.08, 0.14, 0.78), (0.30, 0.05, 0.65))
    truth = sum(size * (s[1] - s[0]) for size, s in zip(sizes, shares, strict=True)) / sum(sizes)
    weights = np.repeat([size / n for size, n in zip(sizes, drawn, strict=True)], drawn)
    for run in range(1000):
        kinds = np.concatenate([rng.choice(3, n, p=s) for n, s in zip(drawn, shares, strict=True)])
        low, high = difference_interval(kinds == 0, kinds == 1, weights, seed=run)
        covered += low <= truth <= high
    assert 930 <= covered <= 970


def test_in_a_weighted_sample_a_row_counts_for_the_rows_that_it_stands_for():
    right = {"a": np.repeat([True, False], [30, 30]), "b": np.repeat([False, True], [30, 30])}
    weights = np.repeat([9.0, 1.0], [30, 30])
    confidence = np.linspace(0.9, 0.6, 60)
    tables = {name: rows_of(right[name], confidence).assign(weight=weights) for name in right}
    [pair] = compare_pairs(tables, seed=0)
    assert pair["difference_weighted"] == pytest.approx(-0.8)
    assert (pair["only_first_right"], pair["only_second_right"]) == (30, 30)
    assert coverage_curve(tables["a"])[9] == {
        "coverage": pytest.approx(0.9),
        "rows": 30,
        "accuracy": 1.0,
        "threshold": pytest.approx(confidence[29]),
    }
    shares = [target["share"] for target in by_hand(tables["a"])]
    assert shares == pytest.approx([0.0, 0.0, 0.0, 0.1 - 0.9 / 19, 0.1 - 0.09 / 11], abs=0.02)


def test_the_difference_beside_p_is_the_one_that_the_test_is_of():
    rng, confidence = np.random.default_rng(8), np.full(400, 0.5)
    right = {"a": rng.random(400) < 0.7, "b": rng.random(400) < 0.8}
    weights = np.where(right["a"], 5.0, 1.0)
    plain = {name: rows_of(right[name], confidence) for name in right}
    [expected] = compare_pairs(plain, seed=0)
    [pair] = compare_pairs({name: t.assign(weight=weights) for name, t in plain.items()}, seed=0)
    assert "difference_weighted" not in expected
    counts = pair["only_second_right"] - pair["only_first_right"]
    assert pair["difference"] == pytest.approx(counts / 400)
    assert {key: pair[key] for key in expected} == expected
    assert pair["difference"] > 0 > pair["difference_weighted"]
    low, high = pair["difference_weighted_ci95"]
    assert low < pair["difference_weighted"] < high < pair["difference"]


def test_pairs_are_counted_on_rows_of_the_same_id():
    rng = np.random.default_rng(3)
    right = {name: rng.random(200) < share for name, share in (("a", 0.5), ("b", 0.6), ("c", 0.9))}
    tables = {name: rows_of(right[name], 0.5).sample(frac=1, random_state=4) for name in right}
    pairs = compare_pairs(tables, seed=42)
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    for pair in pairs:
        first, second = right[pair["first"]], right[pair["second"]]
        assert pair["only_first_right"] == (first & ~second).sum()
        assert pair["only_second_right"] == (second & ~first).sum()
        assert pair["difference"] == pytest.approx(second.mean() - first.mean())
        low, high = pair["difference_ci95"]
        assert low < pair["difference"] < high


def test_holm_s_adjustment_is_over_all_pairs_of_all_groups_of_rows():
    rng = np.random.default_rng(7)
    tables = {name: rows_of(rng.random(90) < share, 0.5) for name, share in GROUPS.items()}
    groups = [[name for name in tables if name[0] == kind] for kind in "sh"]
    pairs = compare_runs(groups, tables, seed=0)["pairs"]
    assert len(pairs) == 1 + 3
    expected = multipletests([pair["p_value"] for pair in pairs], method="holm")[1]
    assert [pair["p_holm"] for pair in pairs] == pytest.approx(expected.tolist())


def test_expected_calibration_error_is_that_of_the_hand_computed_bins():
    # Bin 14 of 15 holds 0.90 and 0.92, one of them right; bin 8 two rows of 0.5, both right; the
    # last one a certain row, right: (2 * |0.91 - 0.5| + 2 * |0.5 - 1| + 0) / 5.
    confidence = np.array([0.90, 0.5, 0.92, 0.5, 1.0])
    correct = np.array([True, True, False, True, True])
    bins = reliability_bins(confidence, correct)
    assert bins["confidence"].tolist() == pytest.approx([0.5, 0.91, 1.0])
    assert bins["accuracy"].tolist() == [1.0, 0.5, 1.0]
    assert bins["rows"].tolist() == [2, 2, 1]
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.82 + 1) / 5)


def test_the_coverage_curve_is_the_mean_over_all_orders_of_tied_rows():
    confidence = np.array([0.9, 0.7, 0.7, 0.95, 0.7, 0.4])
    right = np.array([True, False, True, True, True, False])
    curve = coverage_curve(rows_of(right, confidence))
    orders = [sorted(order, key=lambda n: -confidence[n]) for order in permutations(range(6))]
    for point in curve:
        kept = [order[: point["rows"]] for order in orders]
        assert point["accuracy"] == pytest.approx(np.mean([right[rows] for rows in kept]))
        assert point["threshold"] == min(confidence[kept[0]])
    assert [point["rows"] for point in curve] == [-(-6 * n // 20) for n in range(1, 21)]
    shuffled = rows_of(right, confidence).iloc[[5, 1, 4, 0, 3, 2]]
    assert coverage_curve(shuffled) == curve


@pytest.mark.parametrize("seed", range(5))
def test_the_share_to_code_by_hand_is_the_smallest_of_all_thresholds(seed):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, size=300).round(2)  # with ties
    right = rng.random(300) < confidence
    rows = rows_of(right, confidence)
    for target, found in zip(TARGETS, by_hand(rows), strict=True):
        shares = [
            np.mean(confidence < threshold)
            for threshold in np.unique(confidence)
            if (confidence >= threshold).sum() >= 30
            and right[confidence >= threshold].mean() >= target
        ]
        assert found["accuracy"] == target
        assert found["share"] == (pytest.approx(min(shares)) if shares else None)


def test_fewer_than_30_rows_reach_no_target():
    right, confidence = np.arange(100) < 29, np.linspace(1, 0.3, 100)
    assert [target["share"] for target in by_hand(rows_of(right, confidence))] == [
        pytest.approx(0.64),  # 29 of 36
        pytest.approx(0.66),  # 29 of 34
        pytest.approx(0.68),  # 29 of 32
        pytest.approx(0.70),  # 29 of 30
        None,  # 29 of 29
    ]


def test_words_are_those_between_spaces_and_runs_of_chinese_characters():
    assert list(baselines.words("Equal Pay!")) == ["equal", "pay"]
    assert list(baselines.words("男女平等，好")) == [
        *("男女", "女平", "平等", "男女平", "女平等", "男女平等"),
        "好",
    ]
    assert list(baselines.words("支持GIRLS help girls")) == ["支持", "girls", "help", "girls"]


def messages(*rows):
    return pd.DataFrame(rows, columns=["message", "class"])


def test_keywords_tell_classes_apart_and_hold_no_part_of_one_another():
    train = messages(
        *[("我支持男女平等", 0), ("平等很重要", 0), ("今天天气好", 1), ("天气预报", 1)] * 10
    )
    test = messages(("要男女平等", 0), ("什么天气", 1), ("平等", 0))
    names = ["支持", "无关", "空"]
    found = baselines.train_baselines([train], 3, seed=0)
    parts = [test["message"][:1], test["message"][1:]]
    scores = baselines.baseline_scores(test, parts, found, names, seed=0)
    keywords = found.keywords.by_name(names)
    assert [one["name"] for one in scores] == ["Always 支持", "Keywords"]
    assert scores[1]["accuracy"] == 1.0
    assert scores[0]["accuracy"] == pytest.approx(2 / 3)
    assert scores[0]["macro_f1"] == pytest.approx(0.8 / 3)
    assert keywords["支持"][0] == "平等"
    assert keywords["无关"][0] == "天气"
    assert keywords["空"] == []
    for found in keywords.values():
        assert len(found) <= 10
        assert not any(a != b and a in b for a in found for b in found)


def test_keywords_of_many_training_rows_are_looked_for_in_some_drawn_at_random(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ROWS", 50)
    rows = [("男女平等", 0), ("天气预报", 1), ("天气很好", 1)] * 100
    whole, parts = messages(*rows), [messages(*rows[:7]), messages(*rows[7:])]
    found = baselines.train_baselines(parts, 2, seed=3)
    assert found.counts.tolist() == [100, 200]
    assert "in 50 training rows drawn at random from 300." in found.keywords.method
    again, other = (baselines.train_baselines([whole], 2, seed=n) for n in (3, 4))
    drawn = [one.keywords.model.class_count_.tolist() for one in (found, again, other)]
    assert drawn[0] == drawn[1] != drawn[2] and sum(drawn[2]) == 50


def test_words_counted_by_hash_first_are_those_of_a_vocabulary_of_all(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_WORDS", 300)
    rows = pd.Series([message for message, _ in generate_comments(2000, seed=5)])
    of_all = CountVectorizer(analyzer=baselines.words, binary=True).fit(rows)
    holds = of_all.transform(rows)
    often = np.sort(holds.sum(0).A1)[::-1]
    first = np.argsort(-holds.sum(0).A1, kind="stable")[:300]  # of equals by the alphabet
    expected = sorted(of_all.get_feature_names_out()[first].tolist())
    for hashes in (2**22, 2**10):  # hardly any word shares its hash; all do
        monkeypatch.setattr(baselines, "NUM_HASHES", hashes)
        found, vocabulary = baselines.count_words(rows)
        assert vocabulary.tolist() == expected
        counts = found.sum(0).A1
        assert np.sort(counts)[::-1].tolist() == often[:300].tolist()
        places = [of_all.vocabulary_[word] for word in vocabulary]
        assert (holds[:, places] != found).nnz == 0


@pytest.mark.parametrize(
    "train",
    [
        messages(("平等", 0), ("天气", 0)),
        messages(("平等", 0), ("平等", 1)),
        messages(("🐶", 0), ("！", 1)),
    ],
    ids=["one class", "the same words", "no word"],
)
def test_no_keyword_baseline_where_no_word_tells_a_class(train):
    found = baselines.train_baselines([train], 2, seed=0)
    assert found.keywords is None
    scores = baselines.baseline_scores(messages(("平等", 0)), [["平等"]], found, ["a", "b"], seed=0)
    assert [one["name"] for one in scores] == ["Always a"]


def test_the_majority_class_is_that_of_the_training_rows_where_there_are_some():
    test = messages(("a", 1), ("b", 1), ("c", 0))
    train = baselines.train_baselines([messages(("!", 0))], 2, seed=0)
    scores = baselines.baseline_scores(test, [], train, ["x", "y"], seed=0)
    assert (scores[0]["name"], scores[0]["accuracy"]) == ("Always x", pytest.approx(1 / 3))
    scores = baselines.baseline_scores(test, [], None, ["x", "y"], seed=0)
    assert (scores[0]["name"], scores[0]["accuracy"]) == ("Always y", pytest.approx(2 / 3))
    assert scores[0]["method"] == "The most frequent class of the test rows, for every row."
