"""What the kernels' launchers take: the last value that is right, and not the first that is wrong.

A kernel reads and writes memory where these values say, so each bound is tried on both of its sides.
"""

import re

import pytest
import torch

from gpurender.kernels.chaos_game import MAX_MAPS, Systems
from gpurender.kernels.device.tables import survival_table
from gpurender.kernels.mix_erase import Mixing, mix_erase
from gpurender.kernels.resized_crop import check_boxes, crop_resize

HEIGHT, WIDTH = 21, 19
INSIDE = [(0, 0, 21, 19), (20, 18, 1, 1), (0, 18, 21, 1), (20, 0, 1, 19), (3, 4, 18, 15)]
EMPTY = [(0, 0, 0, 19), (0, 0, 21, 0), (21, 0, 0, 1), (0, 19, 1, 0)]
OUTSIDE = [
    (-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, -1, 1), (0, 0, 1, -1), (20, 0, 2, 1), (0, 18, 1, 2), (0, 0, 22, 1),
    (0, 0, 1, 20), (21, 0, 1, 1), (0, 19, 1, 1), (2**31 - 1, 0, 9, 1), (0, 2**31 - 1, 1, 9),
]  # fmt: skip


def mixed(box):
    """Two images, mixed by a patch."""
    patches = torch.tensor([(0, 0, 1, 1), box], dtype=torch.int32)
    mixing = Mixing(torch.full((2,), 0.5, dtype=torch.float64), torch.tensor([True, True]), patches)
    return mix_erase(torch.zeros((2, 1, HEIGHT, WIDTH), dtype=torch.uint8), torch.zeros(3, 256), mixing)


@pytest.mark.parametrize("box", INSIDE)
def test_boxes_up_to_the_edges_are_taken(box):
    check_boxes(torch.tensor([box]), HEIGHT, WIDTH)
    assert mixed(box).shape == (2, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize("box", EMPTY)
def test_empty_boxes_mix_nothing_and_crop_nothing(box):
    assert mixed(box).shape == (2, 3, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"boxes\[0\] must be .* with sides of 1 or more"):
        check_boxes(torch.tensor([box]), HEIGHT, WIDTH)


@pytest.mark.parametrize("box", OUTSIDE)
def test_boxes_that_leave_the_image_are_refused(box):
    with pytest.raises(
        ValueError, match=r"mixing\.patches must be .* inside an image of 21 x 19.*" + re.escape(str(box))
    ):
        mixed(box)
    with pytest.raises(ValueError, match=r"boxes\[1\] must be .* 21 x 19, got " + re.escape(str(box))):
        check_boxes(torch.tensor([INSIDE[0], box]), HEIGHT, WIDTH)


def systems(n=2, m=3, **changes):
    given = {
        "maps": torch.zeros(n, m, 6),
        "thresholds": torch.zeros(n, m, dtype=torch.int32),
        "counts": torch.zeros(n, dtype=torch.int32),
    }
    return Systems(**given | changes)


@pytest.mark.parametrize("maps", [1, MAX_MAPS])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_systems_of_one_to_all_maps_are_taken(n, maps):
    assert len(systems(n, maps)) == n


@pytest.mark.parametrize("maps", [0, MAX_MAPS + 1])
def test_systems_of_no_maps_or_too_many_are_refused(maps):
    with pytest.raises(ValueError, match=rf"^maps must be 1 to {MAX_MAPS} a system, got {maps}$"):
        systems(2, maps)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("maps", torch.zeros(shape)) for shape in [(1, 3, 6), (3, 3, 6), (2, 3, 5), (2, 3, 7)]],
        *[("thresholds", torch.zeros(shape, dtype=torch.int32)) for shape in [(1, 3), (3, 3), (2, 2), (2, 4), (2,)]],
        ("counts", torch.zeros((2, 1), dtype=torch.int32)),
        ("maps", torch.zeros((2, 3, 6), dtype=torch.float64)),
        ("thresholds", torch.zeros((2, 3), dtype=torch.int64)),
        ("counts", torch.zeros(2, dtype=torch.int64)),
    ],
)
def test_systems_of_another_shape_or_type_are_refused(name, value):
    got = re.escape(f"{value.dtype} {tuple(value.shape)}")
    with pytest.raises(ValueError, match=rf"^{name} must be torch\.\w+ \(.*\), got {got}$"):
        systems(**{name: value})


@pytest.mark.parametrize("size", [1, 32, 1024])
def test_gaps_survive_as_often_as_their_formula_says(size):
    """floor(2^32 (510/511)^g), in integers; the table's float64 may be one off, as each of its steps is rounded."""
    table = [int(value) & 0xFFFFFFFF for value in survival_table(size, torch.device("cpu"))]
    exact = [2**32 * 510**gap // 511**gap for gap in range(1, size + 1)]
    assert len(table) == size + 1
    assert table[0] == 0
    assert max(abs(a - b) for a, b in zip(table[1:], exact, strict=True)) <= 1


def crop(size):
    """No image at all, so that the largest size costs nothing."""
    none = torch.zeros(0, 4, dtype=torch.int32)
    flips, filters = torch.zeros(0, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.uint8)
    return crop_resize(torch.zeros((0, 1, 8, 8), dtype=torch.uint8), none, flips, filters, size)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (65_535, 1), (1, 65_535)])
def test_sizes_from_1_to_65535_are_drawn(size):
    assert crop(size).shape == (0, 1, *size)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("side", [0, -1, 65_536])
def test_other_sizes_are_refused(place, side):
    size = (side, 9) if place == 0 else (9, side)
    with pytest.raises(ValueError, match=rf"^size\[{place}\] must be an integer in \[1, 65535\], got {side}$"):
        crop(size)
    with pytest.raises(ValueError, match=r"^size must be \(height, width\), got "):
        crop((9, 9, 9))
