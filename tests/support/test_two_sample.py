"""The two-sample tests that other tests rest on: they see what is wrong, and nothing where nothing is."""

import numpy as np
import pytest

from tests.support.two_sample import same_counts, same_law

COUNT = 20_000


def draws(seed, high=224):
    """Integers in [0, high)."""
    return np.random.default_rng(seed).integers(0, high, COUNT)


@pytest.mark.parametrize("high", [2, 31, 57, 224, 50_000])
def test_equal_laws_pass(high):
    same_law(draws(1, high), draws(2, high))
    same_law(draws(1, high) / 7, draws(2, high) / 7)
    same_counts(draws(1, high).tolist(), draws(2, high).tolist())


@pytest.mark.parametrize("high", [57, 224])
def test_a_pixel_less_for_every_odd_number_is_seen(high):
    """Of which the distribution functions differ by half a pixel's share."""
    short = draws(2, high)
    with pytest.raises(AssertionError, match=r"heights.*: p = 0"):
        same_law(draws(1, high), short - short % 2, "heights")


def test_another_scale_is_seen_whatever_the_numbers():
    for ours in (draws(1, 50_000) * 1.05, np.rint(draws(1, 50_000) * 1.05)):
        with pytest.raises(AssertionError, match="areas: p = "):
            same_law(ours, draws(2, 50_000), "areas")


def test_no_draws_are_no_law():
    with pytest.raises(AssertionError, match="none: 0 draws of ours"):
        same_law([], [1.0], "none")
