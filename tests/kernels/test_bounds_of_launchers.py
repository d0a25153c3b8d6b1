"""Bounds of what the kernels' launchers take, each from both sides; what they hand over to an implementation.

The implementation is recorded, so that the largest sizes cost nothing; images of the largest canvases have no channels.
"""

import re

import pytest
import torch

from gpurender.kernels import (
    collage,
    diamond_square,
    image_ops,
    mix_erase,
    pixel_noise,
    point_cloud,
    resized_crop,
    warp,
)
from gpurender.kernels.chaos_game import densities, parts_of, render_systems
from gpurender.kernels.chaos_game.params import Instances, Systems
from gpurender.kernels.collage import Objects
from gpurender.kernels.device.boxes import checked_windows
from gpurender.kernels.mix_erase import Mixing
from gpurender.kernels.philox import words
from gpurender.kernels.point_cloud import SpaceSystems
from gpurender.kernels.shuffle import addresses
from gpurender.kernels.soft_targets import soft_targets
from gpurender.kernels.visual_atom import Atoms, draw_centres, render_atoms
from gpurender.numerics.streams import Stream
from gpurender.runtime import dispatch

CPU = torch.device("cpu")
LARGEST = 8192


@pytest.fixture
def given(monkeypatch):
    """What an implementation was given: (operation, device, part, function, arguments), the last call's."""
    calls = []

    class Implementation:
        def __init__(self, *which):
            self.which = which

        def __getattr__(self, name):
            return lambda *arguments: calls.append((*self.which, name, arguments))

    monkeypatch.setattr(dispatch, "implementation", lambda name, device, part="": Implementation(name, device, part))
    return calls


def ids(n=2):
    return torch.arange(n)


def int32s(*shape):
    return torch.zeros(shape, dtype=torch.int32)


def uint8s(*shape):
    return torch.zeros(shape, dtype=torch.uint8)


def systems(kind=Systems, n=2):
    return kind(torch.zeros(n, 3, kind.columns), int32s(n, 3), int32s(n))


def objects(k=4, **changes):
    values = {
        "densities": torch.zeros(k, 5, 5), "orientations": uint8s(k), "colours": torch.zeros(k, 3),
        "places": int32s(k, 3),
    }  # fmt: skip
    return Objects(**values | changes)


def collages(size=9, width=None, blur=0, k=4, n=2):
    return collage.collages(objects(k), uint8s(n, 3, size, width or size), int32s(n) + blur, hue_unit=0.5)


def clouds(points=9, size=9, cameras=None):
    cameras = torch.zeros(2, 2) if cameras is None else cameras
    return point_cloud.render_clouds(systems(SpaceSystems), ids(), cameras, seed=7, points=points, size=size)


def moments(points):
    return point_cloud.moments(systems(SpaceSystems), ids(), seed=7, points=points)


def textures(size):
    return diamond_square.textures(torch.zeros(2, 7), ids(), seed=7, size=size, hue_unit=0.5)


def noise(size, normal=True):
    return pixel_noise.pixels(torch.zeros(2, 3, 4), ids(), normal=normal, seed=7, size=size)


def copies(size, width=None):
    return warp.warped(uint8s(0, size, width or size), torch.zeros(2, 2, 6))


def fields(points):
    return warp.warped(uint8s(1, 9, 9), torch.zeros(2, 2, 6), torch.zeros(2, 2, points, points))


def atoms(**changes):
    values = {
        "rings": int32s(1) + 1, "vertices": int32s(1) + 3, "frequencies": int32s(1, 2), "axes": torch.ones(1, 2),
        "growth": torch.ones(1), "amplitudes": torch.ones(1, 2), "noise_levels": torch.ones(1), "offsets": ids(1),
        "cosines": torch.ones(9), "sines": torch.ones(9),
    }  # fmt: skip
    return Atoms(**values | changes)


def rings(**changes):
    common = {"centres": torch.zeros(2, 2), "draw_ids": ids(), "greys": (1, 9), "seed": 7, "size": 9, "rule": "walk"}
    return render_atoms(atoms(), torch.zeros(2, dtype=torch.int64), **common | changes)


def chain(height, width=8, n=0):
    chains = torch.zeros((n, 1), dtype=torch.int32), torch.zeros((n, 1), dtype=torch.float64), uint8s(n, 1)
    return image_ops.apply_ops(uint8s(n, 1, height, width), *chains, (0, 0, 0))


def density(shift=0.0, side=1.0, patch=1):
    views, patches = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, shift, side, 1.0]]), int32s(2) + patch
    return densities(systems(), ids(), views, patches, seed=7, points=9, size=9)


def placed(count):
    return addresses(torch.tensor([0, 0]), count, length=9, seed=0, instances=1, shuffle=True)


def table(**changes):
    return atoms(**{name: torch.tensor(value, dtype=torch.int32) for name, value in changes.items()})


BOUNDS = [  # what is called, the message without the value, right numbers, wrong ones
    (collages, "backgrounds must be square, of 2 to 8192 pixels, got {0} x {0}", (2, 9), (1,)),
    (lambda blur: collages(blur=blur), "blurs must lie in [0, 85], got {0} to {0}", (0, 85), (-1, 86)),
    (lambda k: collages(k=k), "objects must be the same number for each of 2 canvases, got {0}", (0, 2, 6), (1, 3)),
    (lambda k: collages(k=k, n=0), "objects must be the same number for each of 0 canvases, got {0}", (0,), (1, 2)),
    (lambda n: clouds(points=n), "points must be an integer in [2, 1000000], got {0}", (2, 10**6), (1, 10**6 + 1)),
    (moments, "points must be an integer in [2, 1000000], got {0}", (2, 10**6), (1, 10**6 + 1)),
    (lambda n: clouds(size=n), "size must be an integer in [1, 8192], got {0}", (1, LARGEST), (0, LARGEST + 1)),
    (textures, "size must be an integer in [2, 8192], got {0}", (2, LARGEST), (1, LARGEST + 1)),
    (noise, "size must be an integer in [1, 8192], got {0}", (1, LARGEST), (0, LARGEST + 1)),
    (copies, "image must be square, of 2 to 8192 pixels, got {0} x {0}", (2, LARGEST), (1, LARGEST + 1)),
    (fields, "field must have as many rows as columns, at least 4, got {0} x {0}", (0, 4, 5), (1, 3)),
    (lambda n: rings(size=n), "size must be 1 to 8192 pixels, got {0}", (1, LARGEST), (0, LARGEST + 1)),
    (lambda n: rings(ground=n), "ground must be 0 to 255, got {0}", (0, 255), (-1, 256)),
    (
        lambda n: rings(greys=(4, n)), "greys must be (darkest, lightest) within 0 to 4096, got (4, {0})", (4, 4096),
        (3, 4097),
    ),
    (lambda n: rings(greys=(n, 9)), "greys must be (darkest, lightest) within 0 to 4096, got ({0}, 9)", (0, 9), (-1,)),
    (lambda n: table(rings=[n]), "rings must lie in [1, 2048]", (1, 2048), (0, 2049)),
    (
        lambda n: atoms(vertices=int32s(1) + n, cosines=torch.ones(n), sines=torch.ones(n), most_vertices=5000),
        "and vertices in [3, 4096]", (3, 4096), (2, 4097),
    ),
    (lambda n: table(frequencies=[[0, n]]), "frequencies must lie in [0, 65536]", (0, 65_536), (-1, 65_537)),
    (lambda n: atoms(offsets=torch.tensor([n])), "offsets leave room for a table of q entries", (0, 6), (-1, 7)),
    (placed, "count must be an integer in [0, 2147483647], got {0}", (0, 2**31 - 1), (-1, 2**31)),
    (lambda n: density(shift=n), "views must have shifts in [-16, 16] and", (-16.0, 16.0), (-16.01, 16.01)),
    (lambda n: density(side=n), "half sides in [0.05, 16]", (0.0501, 16.0), (0.0499, 16.01)),
    (lambda n: density(patch=n), "patches must lie in [0, 511], got {0} to {0}", (0, 511), (-1, 512)),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message", "right", "wrong"), BOUNDS, ids=[bound[1][:30] for bound in BOUNDS])
def test_bounds_are_exact(given, call, message, right, wrong):
    for value in right:
        call(value)
    for value in wrong:
        with pytest.raises(ValueError, match=re.escape(message.format(value))):
            call(value)


def test_the_largest_collage_is_drawn(given):
    assert collages(LARGEST, k=0, n=0) is None
    for sides in ((LARGEST + 1, None), (9, 8)):
        with pytest.raises(ValueError, match=r"^backgrounds must be square"):
            collages(*sides, k=0, n=0)


def test_an_image_and_a_field_are_square(given):
    with pytest.raises(ValueError, match=r"^image must be square, of 2 to 8192 pixels, got 9 x 8$"):
        copies(9, 8)
    with pytest.raises(ValueError, match=r"^field must have as many rows as columns, at least 4, got 5 x 4$"):
        warp.warped(uint8s(1, 9, 9), torch.zeros(2, 2, 6), torch.zeros(2, 2, 5, 4))


@pytest.mark.parametrize(("name", "low", "high"), [("densities", 0.0, 1.0), ("colours", 0.0, 255.0)])
def test_values_of_objects_are_exact(name, low, high):
    shape = (4, 5, 5) if name == "densities" else (4, 3)
    for right in (low, high):
        objects(**{name: torch.full(shape, right)})
    for wrong in (low - 0.01, high + 0.01, float("nan")):
        value = torch.full(shape, 0.5)
        value[3, 2] = wrong  # one of many
        with pytest.raises(ValueError, match=rf"^{name} must lie in \[{low:g}, {high:g}\]"):
            objects(**{name: value})


@pytest.mark.parametrize(
    ("column", "right", "wrong", "message"),
    [
        (0, (-8192, 8192), (-8193, 8193), "places must have tops and lefts in [-8192, 8192]"),
        (1, (-8192, 8192), (-8193, 8193), "places must have tops and lefts in [-8192, 8192]"),
        (2, (0, 8192), (-1, 8193), "places must have sides in [0, 8192], got "),
    ],
)
def test_places_of_objects_are_exact(column, right, wrong, message):
    places = int32s(4, 3)
    for value in right:
        places[2, column] = value
        objects(places=places)
    for value in wrong:
        places[2, column] = value
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            objects(places=places)


def test_values_of_objects_are_read_on_a_cpu_alone():
    objects(0)
    elsewhere = {name: tensor.to("meta") for name, tensor in vars(objects()).items()}
    assert len(Objects(**elsewhere)) == 4
    for name in elsewhere:
        with pytest.raises(ValueError, match=r" on (cpu|meta), got torch\.\w+ \(.*\) on (cpu|meta)$"):
            Objects(**elsewhere | {name: elsewhere[name].new_zeros(elsewhere[name].shape, device="cpu")})


@pytest.mark.parametrize("place", [0, 1])
def test_sides_of_changed_images_are_exact(given, place):
    def sides(side):
        return (side, 1) if place == 0 else (1, side)

    for side in (1, 65_535):
        chain(*sides(side), n=1)
    for side in (0, 65_536):
        with pytest.raises(ValueError, match=r"^images must have sides of 1 to 65535, got shape \[1, 1, "):
            chain(*sides(side), n=1)
        chain(*sides(side))  # no image has no side


@pytest.mark.parametrize("shape", [(1, 1, 0, 8), (1, 1, 8, 0)])
def test_canvases_have_pixels(given, shape):
    none, flips, codes = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 2, dtype=torch.bool), uint8s(1)
    with pytest.raises(ValueError, match=r"^canvases must have sides of 1 or more, got shape \[1, 1, "):
        resized_crop.crop_resize(uint8s(*shape), none, flips, codes, (4, 4))
    resized_crop.crop_resize(uint8s(0, *shape[1:]), none[:0], flips[:0], codes[:0], (4, 4))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_weights_of_a_mixup_may_be_0_and_1(given, weight):
    mixing = Mixing(torch.full((2,), weight, dtype=torch.float64), torch.tensor([True, False]), int32s(2, 4))
    mix_erase.mix_erase(uint8s(2, 1, 9, 9), torch.zeros(3, 256), mixing)
    assert given[0][4][2] is not None


def test_windows_are_int32_on_the_device_of_the_canvases():
    right = torch.tensor([[0, 0, 9, 9], [8, 8, 1, 1]], dtype=torch.int32)
    assert checked_windows(right, 2, 9, CPU) is right
    for wrong, error in ((right.long(), TypeError), (right[:1], ValueError), (right.to("meta"), ValueError)):
        with pytest.raises(error, match=r"^windows must be a tensor of torch\.int32 \[2, 4\] on cpu"):
            checked_windows(wrong, 2, 9, CPU)
    with pytest.raises(ValueError, match=r"^windows\[1\] must be .* 8 x 8, got \(8, 8, 1, 1\)$"):
        checked_windows(right.clamp(max=8), 2, 8, CPU)


def test_atoms_keep_their_bounds_on_another_device():
    there = atoms(most_vertices=7, reach=9.5).to(torch.device("meta"))
    assert (there.most_vertices, there.reach, there.rings.device.type) == (7, 9.5, "meta")


def test_no_field_is_an_empty_one_on_the_device_of_the_image(given, monkeypatch):
    monkeypatch.setitem(dispatch.BACKENDS, "meta", "gpu")
    warp.warped(uint8s(1, 9, 9).to("meta"), torch.zeros(2, 2, 6, device="meta"))
    field = given[0][4][2]
    assert (field.device.type, field.dtype, tuple(field.shape)) == ("meta", torch.float32, (2, 2, 0, 0))


def test_arguments_are_handed_over_in_order(given):
    """To the implementation of the tensors' device."""
    codes = uint8s(2)
    render_systems(systems(), ids(), ids(), codes, seed=7, points=9, size=8, color=False, patch=True, mask=False)
    assert given.pop()[:4] == ("chaos_game", CPU, "", "render_systems")
    law = Instances(9, 1, 1, 9, False)
    parts_of(ids(), ids(), codes, law)
    assert given.pop()[:4] == ("chaos_game", CPU, "instances", "parts_of")
    draw_centres(ids(), seed=7, size=9, low=-1.0, high=2.0, whole=True)
    *which, arguments = given.pop()
    assert which == ["visual_atom", CPU, "centres", "draw_centres"]
    assert arguments[1:] == (7, 9, -1.0, 2.0, True)
    rings(rule="smooth orbits", ground=3)
    assert given.pop()[4][4:] == ((1, 9), 7, 9, False, None, True, 3, None)
    rings()
    assert given.pop()[4][4:] == ((1, 9), 7, 9, True, None, False, 0, None)
    noise(9, normal=False)
    assert given.pop()[4][2:] == (False, 7, 9)
    clouds()
    assert given.pop()[4][3:] == (7, 9, 9)
    words(7, Stream.CROP, ids(), 3)
    assert given.pop()[4][1:] == (7, int(Stream.CROP), 3)
    copies(9)
    assert given.pop()[4][2].shape == (2, 2, 0, 0)


@pytest.mark.parametrize(("smoothing", "classes", "on", "off"), [(0.0, 4, 1.0, 0.0), (0.5, 4, 0.625, 0.125)])
def test_smoothed_targets(given, smoothing, classes, on, off):
    soft_targets(ids(), None, classes, smoothing)
    assert given.pop()[4][1:] == (None, classes, on, off)
    found = soft_targets(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), None, classes, smoothing)  # of every device
    assert found.tolist() == [[on, off, off, off], [on, on, off, off]]
    assert not given
