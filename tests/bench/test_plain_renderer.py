"""The renderer that ours is compared with: does it do what it is said to do?"""

import numpy as np
import pytest

from bench import plain_renderer

MAPS = np.array([[0.5, 0.0, 0.0, 0.5, x, y] for x, y in ((0.0, 0.0), (0.5, 0.0), (0.25, 0.5))])


def test_points_of_a_sierpinski_triangle_are_counted():
    counts = np.zeros((64, 64), np.int32)
    plain_renderer.plain(MAPS, np.array([1 / 3, 2 / 3, 1.0]), 20_000, 64, 7, counts)
    assert counts.sum() == 20_000
    quarters = [counts[:32, :32].sum(), counts[:32, 32:].sum(), counts[32:].sum()]
    assert np.abs(np.array(quarters) / 20_000 - 1 / 3).max() < 0.03
    assert counts[40:, :8].sum() == counts[40:, 56:].sum() == 0  # outside the triangle
    assert counts[20:28, 29:35].sum() == 0  # its middle
    assert (counts > 0).mean() < 0.35


@pytest.mark.parametrize("limits", [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
def test_a_map_is_chosen_as_often_as_it_should(limits):
    """A single map has a single point, but for the way there."""
    counts = np.zeros((16, 16), np.int32)
    maps = MAPS + np.array([0, 0, 0, 0, 0.125, 0.25])  # the way begins at 0, which none of them keeps
    plain_renderer.plain(maps, np.array(limits), 1000, 16, 1, counts)
    assert counts.max() > 940


def test_each_renderer_has_a_rate_per_round(monkeypatch):
    monkeypatch.setattr(plain_renderer, "BATCH", 2)
    monkeypatch.setattr(plain_renderer, "ROUNDS", 2)
    found = plain_renderer.rates(0.02)
    assert list(found) == ["drawn", "kept", "plain"]
    assert all(len(some) == 2 and min(some) > 0 for some in found.values())
