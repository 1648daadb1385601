"""Silver labels against human ones, and corrected shares: references and coverage."""

import numpy as np
import pytest
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from pipeline.evaluation.metrics import wilson_interval
from pipeline.people.label_quality import figures, intervals, label_quality
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
    found = label_quality(*sample, NAMES)
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
    for k, share in enumerate(label_quality(counts, sizes, NAMES)["shares"]):
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
    for k, share in enumerate(label_quality(counts, sizes, NAMES)["shares"]):
        low, high = ppi_mean_ci(
            (human == k).astype(float),
            (silver == k).astype(float),
            (everyone == k).astype(float),
            alpha=0.05,
            lam=1,
        )
        width = np.diff(share["corrected_ci95"])[0]
        assert 0.8 < width / float(np.squeeze(high - low)) < 1


def test_the_shares_intervals_have_the_textbook_s_variance_of_a_stratified_share(sample):
    # Cochran (1977), Sampling Techniques, equation 5.53: sum of W² (1 - f) p (1 - p) / (n - 1).
    counts, sizes = sample
    n, weights = counts.sum(1), sizes / sizes.sum()
    within = counts / n[:, None]
    spread = (1 - n / sizes) * weights**2 / (n - 1)
    variance = (spread[:, None] * within * (1 - within)).sum(0)
    for k, share in enumerate(label_quality(counts, sizes, NAMES)["shares"]):
        size = share["corrected"] * (1 - share["corrected"]) / variance[k]
        expected = wilson_interval(share["corrected"] * size, size)
        assert share["corrected_ci95"] == pytest.approx(expected, abs=1e-9)


def test_a_class_s_precision_has_wilson_s_interval_at_the_corrected_number_of_its_rows(sample):
    counts, sizes = sample
    n, hits = counts.sum(1), counts.diagonal()
    rows = (n - 1) / (1 - n / sizes)
    for k, one in enumerate(label_quality(counts, sizes, NAMES)["silver"]["classes"]):
        expected = wilson_interval(hits[k] / n[k] * rows[k], rows[k])
        assert one["precision_ci95"] == pytest.approx(expected, abs=1e-9)


def test_labels_without_an_error_in_the_sample_still_get_an_interval(sample):
    counts, sizes = np.diag([50, 160, 50, 240]), sample[1]
    silver = label_quality(counts, sizes, NAMES)["silver"]
    assert silver["classes"][0]["precision_ci95"] == pytest.approx(
        wilson_interval(50 / (1 - 50 / 2000), 50 / (1 - 50 / 2000))
    )
    for part, key in [(silver, "accuracy"), (silver, "macro_f1"), (silver, "cohen_kappa")] + [
        (one, key) for one in silver["classes"] for key in PARTS
    ]:
        assert part[key] == 1 and 0.9 < part[f"{key}_ci95"][0] < 0.995


def test_a_data_set_that_is_coded_as_a_whole_leaves_no_doubt_about_its_shares():
    counts = np.array([[400, 100], [50, 450]])
    found = label_quality(counts, counts.sum(1), ["a", "b"])
    assert found["shares"][0]["corrected_ci95"] == pytest.approx([0.45, 0.45], abs=1e-3)
    low, high = found["silver"]["accuracy_ci95"]
    assert high - low < 1e-9


def test_a_class_that_no_silver_label_has_is_estimated_from_the_other_strata():
    counts, sizes = np.array([[90, 10], [0, 0]]), np.array([1000, 0])
    found = label_quality(counts, sizes, ["a", "b"])
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


def dirichlet_draws(counts, sizes, rng, num=400):
    """Return tables (num, k, k) of draws with the prior of Perks, shifted to weigh 4/k² of it.

    Quantiles of these are no textbook's intervals. They are what the method in use is compared to.
    """
    k, sampled = counts.shape[1], counts.sum(1, keepdims=True)
    smoothed = counts + 1 / k
    mean = smoothed / smoothed.sum(1, keepdims=True)
    shares = rng.standard_gamma(smoothed, size=(num, *counts.shape))
    shares /= shares.sum(-1, keepdims=True)
    observed = counts / sampled
    uncoded = np.sqrt(1 - sampled / sizes[:, None])
    centre = observed + uncoded * 4 / k**2 * (mean - observed)
    spread = uncoded * np.sqrt((sampled + 2) / (sampled - 1))
    return np.maximum(centre + spread * (shares - mean), 0) * sizes[:, None]


def covered(ends, truth):
    return [
        (ends[key][0] <= truth[key] + 1e-12) & (truth[key] <= ends[key][1] + 1e-12) for key in truth
    ]


@pytest.mark.parametrize("design", DESIGNS)
def test_the_intervals_cover_the_truth_in_93_to_97_of_100_samples(design):
    """1,000 samples of 20 data sets: in one alone, a truth between two counts may be missed."""
    shares, teacher, total, floor = DESIGNS[design]
    rng = np.random.default_rng(4)
    num_rows, data_sets, runs = 20_000, 20, 50
    joint = np.array(shares)[:, None] * teacher
    hits, compared, naive_right = [], [], []
    for _ in range(data_sets):
        population = rng.multinomial(num_rows, joint.ravel()).reshape(joint.shape).T
        sizes, truth = population.sum(1), figures(population.astype(float))
        strata = zip(population, allocate(sizes, total, floor), strict=True)
        counts = np.stack(
            [rng.multivariate_hypergeometric(row, n, size=runs) for row, n in strata], axis=1
        )
        hits.append(covered(intervals(counts, sizes), truth))
        for one in counts:
            draws = figures(dirichlet_draws(one, sizes, rng))
            ends = {key: np.percentile(draws[key], [2.5, 97.5], axis=0) for key in truth}
            compared.append(covered(ends, truth))
        naive = [wilson_interval(size, num_rows) for size in sizes]
        held = zip(naive, truth["corrected"], strict=True)
        naive_right.append(sum(low <= true <= high for (low, high), true in held))
    rates = {key: np.concatenate([one[i] for one in hits]).mean(0) for i, key in enumerate(truth)}
    before = {key: np.mean([one[i] for one in compared], axis=0) for i, key in enumerate(truth)}
    print(f"\n{design}: coverage of 95 % intervals, lowest and highest class")
    print(f"  {'':<12}{'Wilson, effective size':<26}shifted Dirichlet draws")
    for key in truth:
        cells = [f"{rate[key].min():.1%} to {rate[key].max():.1%}" for rate in (rates, before)]
        print(f"  {key:<12}{cells[0]:<26}{cells[1]}")
    for key, rate in rates.items():
        assert rate.min() >= 0.93 and rate.max() <= 0.97, (key, rate)
    if teacher is CARELESS:
        assert np.mean(naive_right) <= 1, "naive shares fail here"


def test_an_interval_holds_its_own_estimate_also_where_a_class_is_coded_as_a_whole():
    counts = np.array([[36, 4, 0], [10, 380, 10], [0, 0, 8]])
    for sizes in ([40, 9000, 8], [40, 400, 8]):
        found = label_quality(counts, np.array(sizes), ["a", "b", "c"])
        silver = found["silver"]
        ranges = [(part[key], part[f"{key}_ci95"]) for part in silver["classes"] for key in PARTS]
        ranges += [(share["corrected"], share["corrected_ci95"]) for share in found["shares"]]
        ranges += [(silver[key], silver[f"{key}_ci95"]) for key in ("accuracy", "macro_f1")]
        for value, (low, high) in ranges:
            assert low - 1e-9 <= value <= high + 1e-9
