"""Silver labels against human ones, and corrected shares: references and coverage."""

import numpy as np
import pytest
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from pipeline.evaluation.metrics import wilson_interval
from pipeline.people.label_quality import draw_tables, figures, label_quality
from pipeline.people.sample import allocate

PARTS = ("precision", "recall", "f1")
NAMES = ["Positive", "Mild", "Negative", "Irrelevant"]
SHARES = np.array([0.13, 0.43, 0.09, 0.35])
# Of each true class, the share of silver labels: a teacher that takes many comments for Mild, and
# one that is seldom wrong.
CARELESS = [
    [0.80, 0.15, 0.01, 0.04],
    [0.03, 0.87, 0.02, 0.08],
    [0.02, 0.28, 0.65, 0.05],
    [0.005, 0.045, 0.01, 0.94],
]
CAREFUL = [
    [0.96, 0.03, 0.0, 0.01],
    [0.01, 0.97, 0.01, 0.01],
    [0.0, 0.06, 0.94, 0.0],
    [0.003, 0.007, 0.0, 0.99],
]


@pytest.fixture
def sample():
    """Return the counts (silver, human) of a stratified sample, and the strata's sizes."""
    counts = np.array([[44, 5, 0, 2], [3, 150, 4, 7], [0, 9, 40, 1], [1, 6, 2, 126]])
    return counts, np.array([2000, 9000, 800, 8200])


def rows_of(counts, sizes):
    """Return silver label, human label and weight of each sampled row."""
    silver, human = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return silver, human, (sizes / counts.sum(1))[silver]


def test_the_figures_are_scikit_learn_s_with_the_rows_weights(sample):
    found = label_quality(*sample, NAMES, seed=0)
    silver, human, weights = rows_of(*sample)
    precision, recall, f1, _ = precision_recall_fscore_support(human, silver, sample_weight=weights)
    for k, one in enumerate(found["silver"]["classes"]):
        expected = (precision[k], recall[k], f1[k], (human == k).sum())
        values = [one[key] for key in ("precision", "recall", "f1", "rows")]
        assert values == pytest.approx(expected)
    kappa = cohen_kappa_score(human, silver, sample_weight=weights)
    assert found["silver"]["cohen_kappa"] == pytest.approx(kappa)
    assert found["silver"]["macro_f1"] == pytest.approx(f1.mean())
    accuracy = np.average(human == silver, weights=weights)
    assert found["silver"]["accuracy"] == pytest.approx(accuracy)
    assert found["silver"]["confusion_matrix"] == sample[0].T.tolist()


def test_the_corrected_shares_are_the_prediction_powered_ones_of_ppi_python(sample):
    counts, sizes = sample
    silver, human, weights = rows_of(counts, sizes)
    everyone = np.repeat(np.arange(4), sizes)
    for k, share in enumerate(label_quality(counts, sizes, NAMES, seed=0)["shares"]):
        reference = ppi_mean_pointestimate(
            (human == k).astype(float),
            (silver == k).astype(float),
            (everyone == k).astype(float),
            lam=1,
            w=weights,
        )
        assert share["corrected"] == pytest.approx(float(np.squeeze(reference)))
        assert share["naive"] == pytest.approx(sizes[k] / sizes.sum())


def test_stratification_makes_the_intervals_a_little_narrower_than_ppi_python_s():
    sizes = np.array([13_000, 43_000, 9_000, 35_000])
    drawn = allocate(sizes, 1000, floor=1)
    counts = np.array([[104, 20, 1, 5], [13, 374, 9, 34], [2, 25, 58, 5], [2, 16, 3, 329]])
    assert counts.sum(1).tolist() == drawn.tolist()
    silver, human, _ = rows_of(counts, sizes)
    everyone = np.repeat(np.arange(4), sizes)
    for k, share in enumerate(label_quality(counts, sizes, NAMES, seed=0)["shares"]):
        low, high = ppi_mean_ci(
            (human == k).astype(float),
            (silver == k).astype(float),
            (everyone == k).astype(float),
            alpha=0.05,
            lam=1,
        )
        width = np.diff(share["corrected_ci95"])[0]
        assert 0.8 < width / float(np.squeeze(high - low)) < 1


def test_the_draws_spread_as_the_textbook_s_variance_of_a_stratified_share(sample):
    # Cochran (1977), Sampling Techniques, equation 5.53: sum of W² (1 - f) p (1 - p) / (n - 1).
    counts, sizes = sample
    n, weights = counts.sum(1), sizes / sizes.sum()
    shares = counts / n[:, None]
    spread = (1 - n / sizes) * weights**2 / (n - 1)
    expected = np.sqrt((spread[:, None] * shares * (1 - shares)).sum(0))
    draws = figures(draw_tables(counts, sizes, np.random.default_rng(0)))["corrected"]
    assert draws.std(0) == pytest.approx(expected, rel=0.1)


def test_a_data_set_that_is_coded_as_a_whole_leaves_no_doubt_about_its_shares():
    counts = np.array([[400, 100], [50, 450]])
    found = label_quality(counts, counts.sum(1), ["a", "b"], seed=0)
    assert found["shares"][0]["corrected_ci95"] == pytest.approx([0.45, 0.45], abs=1e-3)
    low, high = found["silver"]["accuracy_ci95"]
    assert high - low < 1e-9


def test_a_class_that_no_silver_label_has_is_estimated_from_the_other_strata():
    counts, sizes = np.array([[90, 10], [0, 0]]), np.array([1000, 0])
    found = label_quality(counts, sizes, ["a", "b"], seed=0)
    assert found["shares"][1]["naive"] == 0
    assert found["shares"][1]["corrected"] == pytest.approx(0.1)
    assert found["silver"]["classes"][1]["precision"] == 0


def even(num_labels, accuracy):
    """Return a teacher whose errors fall on all other classes alike."""
    wrong = (1 - accuracy) / (num_labels - 1)
    return np.full((num_labels, num_labels), wrong) + np.eye(num_labels) * (accuracy - wrong)


MANY = [0.25, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.04, 0.04, 0.02]
DESIGNS = {  # shares of the true classes, the teacher, rows to draw, floor
    "four classes, a careless teacher": (SHARES, CARELESS, 500, 50),
    "four classes, a careful teacher": (SHARES, CAREFUL, 500, 50),
    "two classes, one of them rare": ([0.05, 0.95], even(2, 0.95), 500, 50),
    "ten classes": (MANY, even(10, 0.85), 500, 30),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_the_intervals_cover_the_truth_in_93_to_97_of_100_samples(design):
    shares, teacher, total, floor = DESIGNS[design]
    rng = np.random.default_rng(4)
    num_rows, runs = 20_000, 1000
    joint = np.array(shares)[:, None] * teacher
    population = rng.multinomial(num_rows, joint.ravel()).reshape(joint.shape).T
    sizes, truth = population.sum(1), figures(population.astype(float))
    drawn = allocate(sizes, total, floor)
    hits = {key: np.zeros(np.shape(value)) for key, value in truth.items()}
    for _ in range(runs):
        counts = np.array(
            [
                rng.multivariate_hypergeometric(row, n)
                for row, n in zip(population, drawn, strict=True)
            ]
        )
        draws = figures(draw_tables(counts, sizes, rng, num=400))
        for key, values in draws.items():
            low, high = np.percentile(values, [2.5, 97.5], axis=0)
            hits[key] += (low <= truth[key]) & (truth[key] <= high)
    covered = {key: np.ravel(count) / runs for key, count in hits.items()}
    for key in ("corrected", "accuracy", "macro_f1", "cohen_kappa", "f1"):
        assert covered[key].min() >= 0.93 and covered[key].max() <= 0.97, covered
    for key in ("precision", "recall"):  # near 1, where counts are coarse, they may cover more
        assert covered[key].min() >= 0.93 and covered[key].max() <= 0.985, covered
    if teacher is CARELESS:
        naive = [wilson_interval(size, num_rows) for size in sizes]
        held = zip(naive, truth["corrected"], strict=True)
        assert sum(low <= true <= high for (low, high), true in held) <= 1, "naive shares fail here"


def test_an_interval_holds_its_own_estimate_also_where_a_class_is_coded_as_a_whole():
    counts = np.array([[36, 4, 0], [10, 380, 10], [0, 0, 8]])
    for sizes in ([40, 9000, 8], [40, 400, 8]):
        found = label_quality(counts, np.array(sizes), ["a", "b", "c"], seed=0)
        silver = found["silver"]
        ranges = [(part[key], part[f"{key}_ci95"]) for part in silver["classes"] for key in PARTS]
        ranges += [(share["corrected"], share["corrected_ci95"]) for share in found["shares"]]
        ranges += [(silver[key], silver[f"{key}_ci95"]) for key in ("accuracy", "macro_f1")]
        for value, (low, high) in ranges:
            assert low - 1e-9 <= value <= high + 1e-9
