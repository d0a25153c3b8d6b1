"""Portfolios, beside trying all of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpurender.server.portfolio import greedy


def value(table, columns):
    return table[:, list(columns)].max(1).mean()


def test_the_best_on_average_comes_first_and_then_what_adds_most():
    table = np.array([[0.9, 0.5, 0.8], [0.1, 0.7, 0.6]])  # means 0.5, 0.6, 0.7
    assert greedy(table, 1) == [2]
    assert greedy(table, 2) == [2, 0]  # with 0: (0.9 + 0.6) / 2; with 1: (0.8 + 0.7) / 2, equal; the first
    assert greedy(table, 3) == [2, 0, 1]


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 7))
def test_each_choice_adds_most_and_the_bound_holds(seed, tasks, recipes):
    table = np.random.default_rng(seed).integers(0, 100, (tasks, recipes)) / 100
    for count in range(1, recipes + 1):
        found = greedy(table, count)
        assert len(set(found)) == count
        assert found == greedy(table, recipes)[:count]
        best = max(value(table, some) for some in itertools.combinations(range(recipes), count))
        assert value(table, found) >= (1 - 1 / np.e) * best
        more = [value(table, [*found[:-1], c]) for c in range(recipes) if c not in found[:-1]]
        assert value(table, found) == pytest.approx(max(more))


@pytest.mark.parametrize("count", [0, 4])
def test_a_portfolio_has_as_many_recipes_as_there_are(count):
    with pytest.raises(ValueError, match=f"k must be 1 to 3, the recipes to choose from, got {count}"):
        greedy(np.zeros((2, 3)), count)
