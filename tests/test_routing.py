"""Who codes what: the curve of held-out rows, and what a threshold can be promised to keep."""

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from pipeline.planning.routing import (
    ABOVE_ALL,
    find_routes,
    lowest_promised,
    most_promised,
    p_values,
    promised_at,
    rows_needed,
)

ALPHA = 0.05


def rows(seed, count, teacher_errors=0.0):
    """Return confidences, how often the model is right by them, and where the teacher is wrong."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, count).round(2)
    model_wrong = rng.random(count) > confidence
    return confidence, model_wrong, rng.random(count) < teacher_errors


def routes_of(seed, count):
    confidence, wrong, _ = rows(seed, count)
    return find_routes(confidence, wrong, None, np.ones(count))


def test_each_threshold_keeps_the_rows_at_or_above_it_and_equals_stay_together():
    confidence = np.array([0.6, 0.9, 0.9, 0.8, 1.0])
    wrong = np.array([1, 0, 1, 0, 0], bool)
    routes = find_routes(confidence, wrong, None, np.ones(5))
    assert routes.threshold.tolist() == [ABOVE_ALL, 1.0, 0.9, 0.8, 0.6]
    assert routes.kept.tolist() == [0, 1, 3, 4, 5]
    assert routes.errors.tolist() == [0, 0, 1, 1, 2]
    assert routes.kept_right == pytest.approx([0, 1, 2 / 3, 3 / 4, 3 / 5])
    assert routes.right == pytest.approx([1, 1, 4 / 5, 4 / 5, 3 / 5])
    assert [routes.at(threshold) for threshold in (2, 0.95, 0.9, 0.85, 0.0)] == [0, 1, 2, 2, 4]
    assert [routes.keeping(share) for share in (0, 0.2, 0.3, 1)] == [0, 1, 2, 4]


def test_the_errors_of_those_who_code_the_rest_count_where_they_code():
    confidence, wrong = np.array([0.9, 0.8, 0.7]), np.array([0, 1, 0], bool)
    routes = find_routes(confidence, wrong, np.array([1, 0, 1], bool), np.ones(3))
    assert routes.errors.tolist() == [2, 1, 2, 1]
    assert routes.right == pytest.approx([1 / 3, 2 / 3, 1 / 3, 2 / 3])


def test_a_row_counts_for_those_of_the_data_set_that_it_stands_for():
    confidence, wrong = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 0, 1], bool)
    routes = find_routes(confidence, wrong, None, np.array([1.0, 1.0, 1.0, 7.0]))
    assert routes.kept_share == pytest.approx([0, 0.1, 0.2, 0.3, 1])
    assert routes.right == pytest.approx([1, 1, 1, 1, 0.3])
    assert routes.kept_right[-1] == pytest.approx(0.3)
    assert routes.weighted and (routes.size <= 4).all()
    assert routes.size[0] == pytest.approx(100 / 52)


def test_equal_weights_of_any_size_change_nothing():
    confidence, wrong, teacher = rows(1, 300, 0.1)
    one, other = (find_routes(confidence, wrong, teacher, np.full(300, w)) for w in (1.0, 4.5))
    for name, values in vars(one).items():
        np.testing.assert_allclose(values, vars(other)[name])
    assert one.size == pytest.approx(300) and not one.weighted


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_no_confidence_and_no_weight(bad):
    good = np.array([0.5, 0.6])
    for confidence, weights in ((np.array([0.5, bad]), good), (good, np.array([1.0, bad]))):
        with pytest.raises(ValueError, match="finite"):
            find_routes(confidence, np.zeros(2, bool), None, weights)


def test_the_chance_of_so_few_errors_is_the_binomial_s_and_of_a_small_corpus_larger():
    routes = routes_of(2, 400)
    without_end = p_values(routes, 0.9, 0)
    np.testing.assert_allclose(without_end, binom.cdf(routes.errors, 400, 0.1))
    np.testing.assert_allclose(p_values(routes, 0.9, 10**7), without_end, atol=1e-4)
    small = p_values(routes, 0.9, 500)
    errors = routes.errors[20]
    assert small[20] == hypergeom.cdf(errors, 900, errors + 51, 400)
    assert (small[without_end < 0.2] > without_end[without_end < 0.2]).all()


def test_weights_that_differ_by_next_to_nothing_give_the_chance_of_equal_ones():
    confidence, wrong, teacher = rows(3, 400, 0.08)
    weights = np.ones(400)
    equal = find_routes(confidence, wrong, teacher, weights)
    weights[0] += 1e-9
    nearly = find_routes(confidence, wrong, teacher, weights)
    assert nearly.weighted and not equal.weighted
    np.testing.assert_allclose(p_values(nearly, 0.9, 0), p_values(equal, 0.9, 0), atol=1e-6)


def test_the_lowest_threshold_before_the_first_that_fails_is_taken():
    routes = routes_of(4, 600)
    place = lowest_promised(routes, 0.9, ALPHA, 0)
    chances = p_values(routes, 0.9, 0)
    assert (chances[1 : place + 1] <= ALPHA).all() and chances[place + 1] > ALPHA
    assert lowest_promised(routes, 0.8, ALPHA, 0) > place > lowest_promised(routes, 0.95, ALPHA, 0)
    assert lowest_promised(routes, 0.9, ALPHA, 500) < place


def test_few_rows_can_promise_little_and_more_take_it_further():
    routes = find_routes(np.linspace(0.5, 1, 50), np.zeros(50, bool), None, np.ones(50))
    most = most_promised(routes, ALPHA, 0)
    assert most == pytest.approx(ALPHA ** (1 / 50), abs=1e-4) and most < ALPHA ** (1 / 50)
    assert lowest_promised(routes, most, ALPHA, 0) == 50
    assert lowest_promised(routes, 0.99, ALPHA, 0) == 0
    assert rows_needed(0.99, ALPHA) == 299 and 0.99**299 <= ALPHA < 0.99**298


def test_a_teacher_who_misses_the_target_alone_is_promised_nothing():
    confidence, wrong, teacher = rows(5, 500, 0.2)
    routes = find_routes(confidence, wrong, teacher, np.ones(500))
    assert lowest_promised(routes, 0.9, ALPHA, 0) is None
    assert most_promised(routes, ALPHA, 0) < 0.9


def test_what_is_promised_for_a_threshold_is_the_bound_of_its_accuracy():
    routes = routes_of(6, 500)
    for place in (20, 40):
        promised = promised_at(routes, place, ALPHA, 0)
        assert promised < routes.right[place]
        assert p_values(routes, promised, 0)[place] <= ALPHA
        assert p_values(routes, promised + 1e-4, 0)[place] > ALPHA
    assert promised_at(routes, 0, ALPHA, 0) == 1


@pytest.mark.parametrize(("held_out", "to_code"), [(300, 300), (300, 3000)])
def test_the_promise_holds_in_19_of_20_draws_also_of_a_small_corpus(held_out, to_code):
    held = 0
    for seed in range(400):
        confidence, wrong, _ = rows(seed, held_out + to_code)
        here, there = slice(held_out), slice(held_out, None)
        routes = find_routes(confidence[here], wrong[here], None, np.ones(held_out))
        threshold = routes.threshold[lowest_promised(routes, 0.9, ALPHA, to_code)]
        held += (wrong[there] & (confidence[there] >= threshold)).mean() <= 0.1
    assert 0.93 <= held / 400 <= 0.995


def test_the_promise_of_a_weighted_sample_holds_about_as_often():
    held = promised = 0
    for seed in range(300):
        confidence, wrong, teacher = rows(seed, 6000, 0.06)
        rare = np.random.default_rng(seed).random(6000) < 0.1
        sample = np.append(np.flatnonzero(rare)[:150], np.flatnonzero(~rare)[:350])
        weights = np.where(rare, rare.sum() / 150, (~rare).sum() / 350)[sample]
        rest = np.delete(np.arange(6000), sample)
        routes = find_routes(confidence[sample], wrong[sample], teacher[sample], weights)
        place = lowest_promised(routes, 0.88, ALPHA, len(rest))
        if place is not None:
            kept = confidence[rest] >= routes.threshold[place]
            held += np.where(kept, wrong[rest], teacher[rest]).mean() <= 0.12
            promised += 1
    assert promised > 270 and held / promised >= 0.92
