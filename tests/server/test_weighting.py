"""Weights, beside the formulas written out again, and NumPy's and SciPy's own."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from gpurender.server import weighting

scores = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=2, max_size=9).map(np.array)


def test_the_papers_weights_of_three_experts():
    found = weighting.weights(np.array([0.3, 0.5, 0.7]))  # 0, 1/2, 1 on the scale; e^-10, e^-5, 1
    e = [math.exp(-10), math.exp(-5), 1.0]
    np.testing.assert_allclose(found, np.array(e) / sum(e), rtol=1e-12)


@given(scores)
def test_weights_are_softmax_of_min_max_scores_at_a_tenth(z):
    spread = np.ptp(z)
    z01 = (z - z.min()) / spread if spread else np.zeros_like(z)
    np.testing.assert_allclose(weighting.weights(z), softmax(z01 / 0.1), rtol=1e-9)


def test_equal_scores_give_equal_weights():
    np.testing.assert_array_equal(weighting.weights(np.full(4, 0.25)), np.full(4, 0.25))
    np.testing.assert_array_equal(weighting.unit(np.array([0.2, 0.2])), [0.0, 0.0])
    np.testing.assert_allclose(weighting.unit(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])), [[0, 1, 0.5], [0, 0, 0]])


@given(scores, st.floats(0.12, 1.0))
def test_no_weight_exceeds_the_share_and_the_others_keep_their_proportions(z, most):
    free = weighting.weights(z)
    if most * len(z) < 1.0:
        with pytest.raises(ValueError, match="max_share must be at least 1/"):
            weighting.weights(z, most)
        return
    found = weighting.weights(z, most)
    assert found.max() <= most + 1e-12
    assert found.sum() == pytest.approx(1.0)
    below = found < most - 1e-9
    if below.sum() > 1:
        ratio = found[below] / free[below]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
        assert ratio[0] >= 1.0 - 1e-9  # what was cut off went to them
    if free.max() <= most:
        np.testing.assert_array_equal(found, free)


def test_a_share_that_cannot_make_up_the_whole_is_refused_by_its_bound():
    with pytest.raises(ValueError, match=r"max_share must be at least 1/3 = 0\.3333, for 3 sources .* got 0\.3$"):
        weighting.weights(np.array([0.1, 0.2, 0.3]), 0.3)
    np.testing.assert_allclose(weighting.weights(np.array([0.0, 1.0]), 0.5), [0.5, 0.5])


def test_an_overflow_goes_on_to_the_next():
    found = weighting.capped(np.array([0.7, 0.25, 0.04, 0.01]), 0.4)  # 0.3 over: 0.25 would get 0.5, more than 0.4
    np.testing.assert_allclose(found, [0.4, 0.4, 0.16, 0.04])


@given(st.integers(0, 10**6))
def test_similarity_is_pearsons_correlation(seed):
    generator = np.random.default_rng(seed)
    rows, own = generator.random((3, 5)), generator.random(5)
    expected = [np.corrcoef(row, own)[0, 1] for row in rows]
    np.testing.assert_allclose(weighting.similarity(rows, own), expected, atol=1e-9)


def test_scores_that_say_nothing_are_like_nothing():
    np.testing.assert_array_equal(weighting.similarity(np.full((2, 3), 0.5), np.array([0.1, 0.2, 0.3])), [0.0, 0.0])


def test_largest_remainders():
    assert weighting.whole_shares([0.5, 0.3, 0.2], 10) == [5, 3, 2]
    assert weighting.whole_shares([1 / 3, 1 / 3, 1 / 3], 1000) == [334, 333, 333]
    assert weighting.whole_shares([0.26, 0.26, 0.48], 10) == [3, 2, 5]  # 2.6, 2.6, 4.8: the rests .8, .6, .6
    assert weighting.whole_shares([1.0], 7) == [7]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=9), st.integers(1, 2000))
def test_whole_shares_are_next_to_the_exact_ones(parts, total):
    shares = [part / sum(parts) for part in parts]
    found = weighting.whole_shares(shares, total)
    assert sum(found) == total
    assert all(abs(whole - share * total) < 1.0 for whole, share in zip(found, shares, strict=True))


def test_the_predicted_gain_is_a_least_squares_fit_with_a_level_per_source():
    generator = np.random.default_rng(3)
    seen, gains, own = generator.random((6, 4)), generator.normal(size=(6, 4)), generator.random(4)
    z = weighting.unit(seen)
    design = np.concatenate([np.tile(np.eye(4), (6, 1)), z.reshape(-1, 1)], axis=1)  # [24, 5]: levels, slope
    fitted = np.linalg.lstsq(design, gains.reshape(-1), rcond=None)[0]
    expected = fitted[:4] + fitted[4] * weighting.unit(own)
    np.testing.assert_allclose(weighting.predicted(own, seen, gains), expected)


def test_of_one_task_the_gain_is_its_own():
    found = weighting.predicted(np.array([0.9, 0.1]), np.array([[0.2, 0.4]]), np.array([[0.05, -0.02]]))
    np.testing.assert_allclose(found, [0.05, -0.02])
