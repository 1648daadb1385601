"""Agreement between coders: published examples, other libraries, coverage by simulation."""

import krippendorff
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from pipeline.people.agreement import agreement, alphas, kappa_of

LEVELS = ("nominal", "ordinal")

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C: four observers,
# twelve units, five values; his alphas are 0.743 (nominal) and 0.815 (ordinal).
PUBLISHED = pd.DataFrame(
    {
        "A": [0, 1, 2, 2, 1, 0, 3, 0, 1, -1, -1, -1],
        "B": [0, 1, 2, 2, 1, 1, 3, 0, 1, 4, -1, 2],
        "C": [-1, 2, 2, 2, 1, 2, 3, 1, 1, 4, 0, -1],
        "D": [0, 1, 2, 2, 1, 3, 3, 0, 1, 4, 0, -1],
    }
)


def counts_of(codes, num_labels):
    counts = np.stack([(codes == k).sum(axis=1) for k in range(num_labels)], axis=1)
    return counts[counts.sum(1) > 1]


def two_coders(rng, rows, rates=(0.1, 0.2), num_labels=3):
    truth = rng.choice(num_labels, rows, p=[0.6, 0.3, 0.1])
    wrong = [rng.random(rows) < rate for rate in rates]
    other = [(truth + rng.integers(1, num_labels, rows)) % num_labels for _ in rates]
    columns = [np.where(w, o, truth) for w, o in zip(wrong, other, strict=True)]
    return pd.DataFrame(dict(zip("ab", columns, strict=True)))


def test_alpha_is_that_of_krippendorff_s_own_example():
    found = agreement(PUBLISHED, 5, ordered=True)
    assert found["rows"] == 11  # the twelfth unit has one label
    assert round(found["alpha_nominal"], 3) == 0.743
    assert round(found["alpha_ordinal"], 3) == 0.815


@pytest.mark.parametrize("level", LEVELS)
def test_the_alphas_of_redrawn_units_are_those_of_the_krippendorff_library(level):
    units = counts_of(PUBLISHED, 5)
    weights = np.random.default_rng(1).multinomial(len(units), [1 / len(units)] * len(units), 20)
    for weight, alpha in zip(weights, alphas(units, weights, level), strict=True):
        redrawn = np.repeat(units, weight, axis=0)
        reference = krippendorff.alpha(value_counts=redrawn, level_of_measurement=level)
        assert alpha == pytest.approx(reference, abs=1e-12)


def test_kappa_is_scikit_learn_s_over_the_rows_that_both_coded():
    codes = two_coders(np.random.default_rng(2), 200)
    codes.loc[:9, "a"], codes.loc[5:19, "b"] = -1, -1
    found = kappa_of(codes["a"], codes["b"], 3)
    assert (found["coders"], found["rows"]) == (["a", "b"], 180)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(codes["a"][20:], codes["b"][20:]))


def test_three_coders_have_three_kappas_and_percent_counts_their_pairs():
    found = agreement(PUBLISHED[["A", "B", "C"]], 5)
    assert [pair["coders"] for pair in found["kappa"]] == [["A", "B"], ["A", "C"], ["B", "C"]]
    pairs = agree = 0
    for row in PUBLISHED[["A", "B", "C"]].to_numpy():
        labels = [label for label in row if label >= 0]
        pairs += len(labels) * (len(labels) - 1)
        agree += sum(a == b for i, a in enumerate(labels) for j, b in enumerate(labels) if i != j)
    assert found["percent"] == pytest.approx(agree / pairs)


def test_without_rows_that_two_coded_there_is_no_agreement_and_without_variation_alpha_is_0():
    assert agreement(pd.DataFrame({"a": [0, -1], "b": [-1, 1]}), 2) is None
    found = agreement(pd.DataFrame({"a": [1, 1, 1], "b": [1, 1, 1]}), 2)
    assert (found["alpha_nominal"], found["percent"]) == (0.0, 1.0)
    alone = kappa_of(pd.Series([0, -1], name="a"), pd.Series([-1, 1], name="b"), 2)
    assert alone["kappa"] is None


def test_classes_without_an_order_have_no_ordinal_alpha():
    keys = ["rows", "percent", "alpha_nominal", "alpha_nominal_ci95", "kappa"]
    found = agreement(PUBLISHED, 5)
    assert list(found) == keys
    assert list(agreement(PUBLISHED, 5, ordered=True)) == [
        *keys[:-1],
        "alpha_ordinal",
        "alpha_ordinal_ci95",
        "kappa",
    ]


@pytest.mark.parametrize(
    ("rates", "rows"), [((0.1, 0.2), 300), ((0.02, 0.03), 250), ((0.02, 0.03), 60)]
)
def test_the_intervals_cover_alpha_and_kappa_in_93_to_97_of_100_samples(rates, rows):
    """The ordinal alpha is tested with 250 rows or more: with 60 it covers less."""
    rng = np.random.default_rng(3)
    everyone = two_coders(rng, 400_000, rates)
    truth = {
        level: krippendorff.alpha(value_counts=counts_of(everyone, 3), level_of_measurement=level)
        for level in LEVELS
    }
    truth["kappa"] = cohen_kappa_score(everyone["a"], everyone["b"])
    hits = dict.fromkeys([*truth, "bootstrap, nominal"], 0)
    for _ in range(1000):
        codes = two_coders(rng, rows, rates)
        found = agreement(codes, 3, ordered=True)
        ends = {level: found[f"alpha_{level}_ci95"] for level in LEVELS}
        ends["kappa"] = found["kappa"][0]["ci95"]
        for key, (low, high) in ends.items():
            hits[key] += low <= truth[key] <= high
        units, repeats = np.unique(counts_of(codes, 3), axis=0, return_counts=True)
        draws = rng.multinomial(rows, repeats / rows, size=500)
        low, high = np.percentile(alphas(units, draws, "nominal"), [2.5, 97.5])
        hits["bootstrap, nominal"] += low <= truth["nominal"] <= high
    print(f"\nCoders wrong in {rates[0]:.0%} and {rates[1]:.0%} of {rows} rows: coverage")
    for key, count in hits.items():
        print(f"  {key:<20}{count / 1000:.1%}")
    asserted = ["nominal", "kappa"] if rows < 250 else [*LEVELS, "kappa"]
    assert all(930 <= hits[key] <= 970 for key in asserted), hits


def test_coders_who_never_disagreed_still_get_an_interval():
    codes = pd.DataFrame({"a": [0, 1, 2, 1] * 12, "b": [0, 1, 2, 1] * 12})
    found = agreement(codes, 3)
    assert found["alpha_nominal"] == found["kappa"][0]["kappa"] == 1
    assert found["alpha_nominal_ci95"][0] < 0.98 and found["kappa"][0]["ci95"][0] < 0.98
