"""Transferability scores: published numbers, the authors' code on small arrays, the formulas in another form."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gpurender.search import transferability
from gpurender.search.transferability import (
    h_score,
    leep,
    log_me,
    regularised_h_score,
    scores,
    spearman,
    trans_rate,
)

LABELS = np.arange(12) % 3
ON_FEATURES = (log_me, h_score, regularised_h_score, trans_rate)


def waves(rows, columns):
    """Numbers in [-1, 1] without a pattern, the same with any version of NumPy."""
    return np.sin(np.arange(1.0, rows * columns + 1) ** 2).reshape(rows, columns)


def separated(columns):
    """Features of 12 images in three classes, which lie 2 apart along the first three axes."""
    x = waves(12, columns)
    x[:, :3] += 2 * np.eye(3)[LABELS]
    return x


def probabilities(classes=5):
    x = np.exp(2 * waves(12, classes))
    return x / x.sum(1, keepdims=True)


def random_task(samples, columns, classes, distance=1.0):
    """Features and labels of a task whose classes are unequal in size."""
    rng = np.random.default_rng(samples + columns)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, (2, samples - classes)).min(0)])
    return rng.normal(size=(samples, columns)) + distance * rng.normal(size=(classes, columns))[labels], labels


def iris():
    """The data that ``sklearn.datasets.load_iris`` returns, without the second that it takes to import it."""
    found = find_spec("sklearn")
    if found is None:
        pytest.skip("needs scikit-learn, of the extra 'test'")
    table = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "iris.csv", delimiter=",", skiprows=1)
    assert table.shape == (150, 5)
    return table[:, :4], table[:, 4].astype(np.int64)


# Published numbers


def test_scores_of_iris_are_the_published_ones():
    # flairNLP/transformer-ranker, tests/estimators/test_logme.py and test_hscore.py: features of float32, an iteration
    # that stops at a change of 0.001; the covariance of class means is over N - 1 there, that of features over N.
    x, labels = iris()
    single = x.astype(np.float32)
    assert log_me(single, labels) == pytest.approx(-0.16006022033609904, rel=1e-6)
    assert regularised_h_score(single, labels) == pytest.approx(1.177842480406727 * 149 / 150, rel=1e-9)
    assert h_score(x, labels) == pytest.approx(1.19189883, abs=5e-9)  # Pillai's trace, by R's summary.manova


def test_the_h_score_is_the_trace_of_pillai():
    # SAS/STAT 14.2 User's Guide, "Multivariate tests": Pillai's trace of the example of skulls, 0.44702843.
    skulls = [
        [2.068, 2.070, 1.580], [2.068, 2.074, 1.602], [2.090, 2.090, 1.613], [2.097, 2.093, 1.613],
        [2.117, 2.125, 1.663], [2.140, 2.146, 1.681], [2.045, 2.054, 1.580], [2.076, 2.088, 1.602],
        [2.090, 2.093, 1.643], [2.111, 2.114, 1.643], [2.093, 2.098, 1.653], [2.100, 2.106, 1.623],
        [2.104, 2.101, 1.653],
    ]  # fmt: skip
    assert h_score(np.array(skulls), np.repeat([0, 1, 2], [6, 4, 3])) == pytest.approx(0.44702843, abs=5e-9)


def test_leep_of_the_published_example():
    # ReemMahmoud/leep-transferability-score, leep_score.ipynb, the examples 1 and 2, by the code of thuml/LogME.
    labels = np.array([0, 2, 4, 4, 1, 1, 3, 0, 0, 2])
    assert leep(np.eye(4)[[3, 1, 1, 2, 1, 0, 0, 3, 3, 0]], labels) == pytest.approx(-0.6591673732008659, rel=1e-12)
    assert leep(np.eye(5)[labels], labels) == 0.0


def test_scores_are_those_of_the_authors_code():
    # Run once: thuml/LogME 56551ca, LEEP.py and LogME.py (_fit_icml, without its 1e-5 in two denominators and with a
    # tolerance of 1e-13); thuml/Transfer-Learning-Library c4aa59e, tllib/ranking/hscore.py and transrate.py.
    few, many = separated(4), separated(20)
    assert log_me(few, LABELS) == pytest.approx(-0.5976118481026217, rel=1e-10)
    assert log_me(many, LABELS) == pytest.approx(-0.4286084785027227, rel=1e-7)  # there by the eigenvalues of F'F
    assert h_score(few, LABELS) == pytest.approx(1.5616814001758683, rel=1e-12)
    assert trans_rate(few, LABELS) == pytest.approx(1.2727328969984981, rel=1e-11)
    assert trans_rate(many, LABELS) == pytest.approx(28.775395589304892, rel=1e-11)
    assert leep(probabilities(), LABELS) == pytest.approx(-0.9764547207404105, rel=1e-12)


# Another form of the formulas


@pytest.mark.parametrize(("samples", "columns", "classes"), [(40, 5, 3), (12, 30, 3), (20, 20, 2), (60, 20, 4)])
def test_log_me_is_the_largest_evidence(samples, columns, classes):
    optimize = pytest.importorskip("scipy.optimize", reason="needs SciPy, of the extra 'test'")
    x, labels = random_task(samples, columns, classes)
    values, vectors = np.linalg.eigh(x @ x.T)

    def missing(logarithms, z):  # y ~ N(0, F F' / alpha + I / beta): what the evidence is before the weights come in
        variances = np.maximum(values, 0.0) * np.exp(-logarithms[0]) + np.exp(-logarithms[1])
        return (np.log(2 * np.pi * variances) + z / variances).sum() / 2

    best = []
    for label in range(classes):
        z = (vectors.T @ (labels == label)) ** 2
        settings = {"method": "Nelder-Mead", "bounds": [(-10, 25), (-10, 25)], "options": {"fatol": 1e-10}}
        starts = [optimize.minimize(missing, start, (z,), **settings) for start in ((1, 1), (5, 2), (1, 8))]
        best.append(-min(found.fun for found in starts) / samples)
    assert log_me(x, labels) == pytest.approx(np.mean(best), abs=1e-8)


def test_log_me_is_the_formula_of_the_paper():
    # Equation 2 at the fixed point of one class, by matrices of D x D.
    x, labels = random_task(30, 4, 2)
    samples, columns = x.shape
    found = []
    for label in (0, 1):
        y = (labels == label).astype(float)
        alpha = beta = 1.0
        for _ in range(200):
            a = alpha * np.eye(columns) + beta * x.T @ x
            m = beta * np.linalg.inv(a) @ x.T @ y
            gamma = np.trace(beta * x.T @ x @ np.linalg.inv(a))
            alpha, beta = gamma / (m @ m), (samples - gamma) / ((x @ m - y) ** 2).sum()
        a = alpha * np.eye(columns) + beta * x.T @ x
        evidence = samples / 2 * np.log(beta) + columns / 2 * np.log(alpha) - samples / 2 * np.log(2 * np.pi)
        evidence -= beta / 2 * ((x @ m - y) ** 2).sum() + alpha / 2 * m @ m + np.log(np.linalg.det(a)) / 2
        found.append(evidence / samples)
    assert log_me(x, labels) == pytest.approx(np.mean(found), rel=1e-10)


def between(x, labels):
    """The covariance of the class means, each as often as there are samples, divided by N; by loops."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for label in labels:
        step = x[labels == label].mean(0) - x.mean(0)
        total += np.outer(step, step)
    return total / len(x)


def test_h_score_is_a_trace_of_covariances():
    x, labels = random_task(40, 6, 4)
    inverse = np.linalg.inv(np.cov(x.T, bias=True))
    assert h_score(x, labels) == pytest.approx(np.trace(inverse @ between(x, labels)), rel=1e-10)


@pytest.mark.parametrize("samples", [40, 9])
def test_regularised_h_score_shrinks_as_ledoit_and_wolf_do(samples):
    x, labels = random_task(samples, 12, 3)
    x = (x - x.mean(0)) * np.linspace(0.2, 3.0, 12)
    covariance = x.T @ x / samples
    target = np.eye(12) * np.trace(covariance) / 12
    error = sum(((np.outer(row, row) - covariance) ** 2).sum() for row in x) / samples**2
    a = error / ((covariance - target) ** 2).sum()
    assert 0.0 < a < 1.0
    inverse = np.linalg.inv((1 - a) * covariance + a * target)
    expected = (1 - a) * np.trace(inverse @ between(x, labels))
    assert regularised_h_score(x, labels) == pytest.approx(expected, rel=1e-10)


def test_a_covariance_that_is_nearly_a_multiple_of_the_identity_is_shrunk_to_it():
    x = np.vstack([np.eye(3), -np.eye(3), np.eye(3), -np.eye(3)])
    assert regularised_h_score(x * [1.01, 1.0, 1.0], np.arange(12) // 3 % 2) == 0.0  # a, without its bound, is 1,881
    one = waves(12, 1)
    assert regularised_h_score(one, LABELS) == h_score(one, LABELS) > 0.0  # a variance alone is a multiple already


def test_leep_is_a_sum_over_samples_and_classes():
    theta, labels = probabilities(), np.array([0, 0, 0, 1, 2, 1, 0, 2, 1, 1, 0, 0])
    samples, sources = theta.shape
    joint = np.zeros((3, sources))
    for i in range(samples):
        for z in range(sources):
            joint[labels[i], z] += theta[i, z] / samples
    total = 0.0
    for i in range(samples):
        total += np.log(sum(joint[labels[i], z] / joint[:, z].sum() * theta[i, z] for z in range(sources)))
    assert leep(theta, labels) == pytest.approx(total / samples, rel=1e-12)
    unused = np.insert(theta, 2, 0.0, axis=1)  # a source class that is never predicted
    assert leep(unused, labels) == pytest.approx(total / samples, rel=1e-12)


def test_trans_rate_is_a_difference_of_determinants():
    x, labels = random_task(25, 3, 3)
    z = x - x.mean(0)

    def rate(rows):
        return np.log(np.linalg.det(np.eye(3) + rows.T @ rows / (len(rows) * 1e-4))) / 2

    expected = rate(z) - sum((labels == c).mean() * rate(z[labels == c]) for c in range(3))
    assert trans_rate(x, labels) == pytest.approx(expected, rel=1e-10)


def test_trans_rate_of_points_on_axes():
    # Four classes at (±1, 0) and (0, ±1): Z'Z / N = I / 2, in each class one eigenvalue of 1.
    x = np.repeat([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], 3, axis=0)
    expected = np.log(1 + 0.5e4) - np.log(1 + 1e4) / 2
    assert trans_rate(x, np.repeat([0, 1, 2, 3], 3)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("high", [3, 8, 1000])
def test_spearman_is_that_of_scipy(high):
    stats = pytest.importorskip("scipy.stats", reason="needs SciPy, of the extra 'test'")
    x, y = np.random.default_rng(high).integers(0, high, (2, 30))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


# What must hold


@pytest.mark.parametrize("columns", [4, 20])
@pytest.mark.parametrize("score", ON_FEATURES)
def test_rotations_and_the_order_of_samples_change_nothing(score, columns):
    x, labels = random_task(15, columns, 3)
    rotation = np.linalg.qr(waves(columns, columns))[0]
    order = np.random.default_rng(0).permutation(15)
    expected = score(x, labels)
    assert score(x @ rotation, labels) == pytest.approx(expected, rel=1e-9)
    assert score(x[order], labels[order]) == pytest.approx(expected, rel=1e-9)
    assert score(x, 2 - labels) == pytest.approx(expected, rel=1e-9)  # other names of the classes
    assert score(x, labels) == expected
    assert score(x.astype(np.float32), labels) == pytest.approx(expected, rel=1e-4)


def test_the_h_score_ignores_linear_maps_and_columns_that_say_nothing_new():
    x, labels = random_task(30, 5, 3)
    expected = h_score(x, labels)
    assert 0.0 < expected < 2.0
    assert h_score(x @ (waves(5, 5) + 2 * np.eye(5)) + 7.0, labels) == pytest.approx(expected, rel=1e-9)
    more = np.column_stack([x, x[:, :2] @ [1.0, 2.0], np.full(30, 1e9 / 7)])  # dependent; constant and large
    assert h_score(more, labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("score", [log_me, regularised_h_score])
def test_the_scale_of_features_does_not_matter(score):
    x, labels = random_task(30, 5, 3)
    for factor in (1e-6, 1e6):
        assert score(factor * x, labels) == pytest.approx(score(x, labels), rel=1e-9)


@pytest.mark.parametrize("score", ON_FEATURES)
def test_features_that_separate_the_classes_score_higher(score):
    useless, labels = random_task(60, 8, 3, distance=0.0)
    useful = useless + 4 * np.eye(8)[labels]
    assert score(useful, labels) > score(useless, labels)


def test_predictions_that_say_nothing_have_the_leep_of_the_frequencies():
    frequencies = np.array([1, 2, 3]) / 6
    found = leep(np.full((12, 7), 1 / 7), np.repeat([0, 1, 2], [2, 4, 6]))
    assert found == pytest.approx((frequencies * np.log(frequencies)).sum(), rel=1e-12)


@pytest.mark.parametrize(
    "x",
    [np.zeros((12, 3)), np.ones((12, 3)), np.eye(3)[LABELS], np.eye(12), np.eye(3)[LABELS // 3 % 3], waves(12, 1)],
    ids=["zero", "constant", "perfect", "identity", "unrelated", "one column"],
)
@pytest.mark.parametrize("score", ON_FEATURES)
@pytest.mark.filterwarnings("error")
def test_degenerate_features_have_a_finite_score(score, x):
    assert np.isfinite(score(x, LABELS))


def test_features_of_zero_are_worth_nothing():
    zero = np.zeros((12, 3))
    assert h_score(zero, LABELS) == regularised_h_score(zero, LABELS) == trans_rate(zero, LABELS) == 0.0
    noise = -(np.log(2 * np.pi / 3) + 1) / 2  # all is noise: 1 / beta = |y|² / N = 1/3
    assert log_me(zero, LABELS) == pytest.approx(noise, rel=1e-12)
    signs = np.where(np.arange(12) // 3 % 2, 1.0, -1.0)  # orthogonal to the targets of all classes
    assert log_me(signs[:, None], LABELS) == pytest.approx(noise, rel=1e-9)


def test_scores_are_the_single_scores():
    x, p = separated(4), probabilities()
    assert scores(x, p, LABELS) == {
        "logme": log_me(x, LABELS),
        "h_score": h_score(x, LABELS),
        "h_score_regularised": regularised_h_score(x, LABELS),
        "leep": leep(p, LABELS),
        "transrate": trans_rate(x, LABELS),
    }
    assert all(type(value) is float for value in scores(x, p, LABELS).values())
    assert list(x.ravel()) == list(separated(4).ravel())  # the arguments stay as they are


def test_spearman_of_few_values():
    assert spearman([1, 2, 3], [10, 20, 40]) == 1.0
    assert spearman([1, 2, 3], [0.3, 0.2, -5]) == -1.0
    assert spearman([1, 1, 1], [1, 2, 3]) == spearman([1, 2, 3], [0, 0, 0]) == spearman([5], [6]) == 0.0


# Errors


@pytest.mark.parametrize(
    ("features", "labels", "error", "message"),
    [
        (separated(4)[:11], LABELS, ValueError, "labels must be as many as rows of features, 11, got 12"),
        (separated(4), LABELS * 0, ValueError, r"labels must be 0 or more and of two classes or more, got \[0.0\]"),
        (separated(4), LABELS - 1, ValueError, r"labels must be 0 or more .* got \[-1.0, 0.0, 1.0\]"),
        (separated(4), LABELS * 1.0, TypeError, "labels must be integers, got float64"),
        (separated(4), LABELS[:, None], ValueError, r"labels must be an array \[N\].*got the shape \[12, 1\]"),
        (separated(4) * np.nan, LABELS, ValueError, "features must be finite, got nan"),
        (separated(4) + np.inf, LABELS, ValueError, "features must be finite, got inf"),
        (separated(4)[:, 0], LABELS, ValueError, r"features must be an array \[N, D\].*got the shape \[12\]"),
        (separated(4)[:, :0], LABELS, ValueError, r"features must be .* not empty, got the shape \[12, 0\]"),
        ([[1.0], [1.0, 2.0]], LABELS, ValueError, r"features must be an array \[N, D\], got \[\[1.0\]"),
        (separated(4) > 0, LABELS, TypeError, "features must be an array .* of numbers, got .* of bool"),
    ],
)
@pytest.mark.parametrize("score", ON_FEATURES)
def test_bad_input_is_named(score, features, labels, error, message):
    with pytest.raises(error, match=message):
        score(features, labels)


def test_what_is_no_probability_is_named():
    for wrong in (probabilities() * 2, waves(12, 5), np.tile([1.5, -0.5], (12, 1))):
        with pytest.raises(ValueError, match="probabilities must be 0 or more, with rows that sum to 1, got a least"):
            leep(wrong, LABELS)
    with pytest.raises(ValueError, match="labels must be as many as rows of probabilities, 11, got 12"):
        leep(probabilities()[:11], LABELS)
    with pytest.raises(ValueError, match="probabilities must be finite, got nan"):
        scores(separated(4), probabilities() * np.nan, LABELS)


def test_lists_that_cannot_be_ranked_are_named():
    with pytest.raises(ValueError, match="y must have as many values as x, 3, got 2"):
        spearman([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="x must be finite, got nan"):
        spearman([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match=r"x must be an array \[N\] that is not empty"):
        spearman([], [])


def test_all_names_are_public():
    assert sorted(transferability.__all__) == transferability.__all__
