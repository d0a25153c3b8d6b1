"""Densities against plain loops over the same points, and their arguments."""

import numpy as np
import pytest
import torch

from gpurender.kernels.chaos_game import Systems, cpu_walk, densities
from gpurender.recipes import ifs
from tests.support import colored as plain

TRIANGLE = np.array([ifs.TRIANGLE])


def triangle(n=1):
    one = ifs.systems(TRIANGLE, ifs.map_probabilities(TRIANGLE), np.array([3]))
    return Systems(
        *(tensor.expand(n, *tensor.shape[1:]).contiguous() for tensor in (one.maps, one.thresholds, one.counts))
    )


def points_of(system, draw_id, points, seed=3):
    """The points and their frame, float32."""
    return cpu_walk.walks(system, torch.tensor([draw_id], dtype=torch.int64, device="cpu"), seed, points)()(0)


@pytest.mark.parametrize("size", [2, 16, 33, 112])
def test_densities_count_patches(size):
    """Exactly: the window in float32 as documented, the counts in plain NumPy."""
    rng = np.random.default_rng(size)
    for draw_id in range(6):
        view = np.concatenate([rng.uniform(-0.2, 0.2, 2), rng.uniform(0.25, 1, 2)]).astype(np.float32)
        patch = int(rng.integers(1, 512))
        xs, ys, frame = points_of(triangle(), draw_id, 4000)
        found = densities(
            triangle(), torch.tensor([draw_id]), torch.from_numpy(view)[None], torch.tensor([patch], dtype=torch.int32),
            seed=3, points=4000, size=size,
        )[0].numpy()  # fmt: skip
        places = []
        for axis, values in enumerate((xs, ys)):
            low, high = frame[2 * axis], frame[2 * axis + 1]
            extent = high - low
            centre = (low + high) * np.float32(0.5) + extent * view[axis]
            half = extent * view[2 + axis]
            begin = centre - half
            places.append(np.trunc((values - begin) * (np.float32(size - 1) / ((centre + half) - begin))).astype(int))
        covered = np.zeros((size, size), int)
        for bit in range(9):
            if patch >> bit & 1:
                rows, columns = places[0] + bit // 3 - 1, places[1] + bit % 3 - 1
                inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
                np.add.at(covered, (rows[inside], columns[inside]), 1)
        assert np.array_equal(found, covered.astype(np.float32) / np.float32(max(covered.max(), 1)))


def test_a_whole_view_shows_the_plain_density():
    """The rules in float64: a point may fall into the neighbouring pixel by a rounding, and no more."""
    xs, ys, _ = points_of(triangle(), 8, 20_000)
    points = np.stack([xs, ys], 1).astype(np.float64)
    exact = plain.density(points, plain.window(points), np.ones((3, 3), bool), 64)
    whole = torch.tensor([[0, 0, 0.5, 0.5]])
    given = torch.tensor([8]), whole, torch.tensor([511], dtype=torch.int32)
    found = densities(triangle(), *given, seed=3, points=20_000, size=64)[0].numpy()
    assert np.abs(found - exact).mean() < 1e-3
    assert ((found > 0) != (exact > 0)).mean() < 1e-3


def test_no_patch_covers_nothing():
    given = torch.tensor([1, 1]), torch.tensor([[0, 0, 0.5, 0.5]] * 2), torch.tensor([0, 16], dtype=torch.int32)
    found = densities(triangle(2), *given, seed=3, points=500, size=16)
    assert found[0].max() == 0
    assert found[1].max() == 1


def test_one_point_fills_its_patch():
    """A frame without extent: its only pixel, and the patch around it as far as the canvas reaches."""
    still = Systems(
        torch.zeros(1, 1, 6), torch.full((1, 1), 65536, dtype=torch.int32), torch.ones(1, dtype=torch.int32)
    )
    given = torch.tensor([0]), torch.tensor([[0, 0, 0.5, 0.5]]), torch.tensor([511], dtype=torch.int32)
    found = densities(still, *given, seed=0, points=100, size=16)[0]
    expected = torch.zeros(16, 16)
    expected[:2, :2] = 1
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("views", "patches", "message"),
    [
        (torch.zeros(1, 3), None, r"views must be torch\.float32 \(1, 4\)"),
        (torch.zeros(2, 4), None, "views must be"),
        (torch.zeros(1, 4), None, r"views must have shifts in \[-16, 16\] and half sides in \[0.05, 16\]"),
        (torch.tensor([[17, 0, 1, 1.0]]), None, "views must have shifts"),
        (torch.tensor([[0, 0, 1, float("nan")]]), None, "views must have shifts"),
        (None, torch.zeros(1, dtype=torch.int64), r"patches must be torch\.int32 \(1,\)"),
        (None, torch.tensor([512], dtype=torch.int32), r"patches must lie in \[0, 511\], got 512 to 512"),
        (None, torch.tensor([-1], dtype=torch.int32), r"patches must lie in \[0, 511\]"),
    ],
)
def test_wrong_views_and_patches_are_refused(views, patches, message):
    views = torch.tensor([[0, 0, 0.5, 0.5]]) if views is None else views
    patches = torch.tensor([511], dtype=torch.int32) if patches is None else patches
    with pytest.raises(ValueError, match=message):
        densities(triangle(), torch.tensor([0]), views, patches, seed=0, points=100, size=16)
