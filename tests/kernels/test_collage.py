"""Collages against OpenCV: by the hashes of what it returned, by OpenCV itself if it is installed, and by plain
NumPy."""

import hashlib

import numpy as np
import pytest
import torch

from gpurender.kernels.collage import MAX_BLUR, Objects, collages, cpu
from gpurender.recipes import colored
from tests.support import colored as plain

UNIT = 6 / 180
# SHA-256 of what OpenCV 4.5.5 and 5.0.0 return on x86-64 (opencv-python-headless) for the inputs below
COLOURS = "d8246b8e0593d2a7032d7657acfba103a8d21b58f567af0e256a5e5b06a9e947"
RESIZED = {
    33: "7e0adf1e94c9fe62ee2bd630a731b698c90fdffe3c2bf4e94ebbbba99b8754e4",
    56: "0fe9698b6522abac05f0dbf79caec4b6419d0d056f7dde159a0e08143a2695f2",
    57: "9ad3c8fe7aeb0cdbbf915f23a6b5bff832bfdf34b9e3c8cc6d6cfe59e8bd0224",
    80: "57ae4386259154368bb2f7e8e8b53dd2f8386dbab76b4021a52d305aed39af81",
}
BLURRED = {
    0.5: "79e0a13ecee3e818adfc71fbffb87e7b800447f0c2532b44707d04fd84f9b186",
    0.6180339887: "9feb6ac029b197d836ae45b4e628b4d97bea2f3fdd35387be72decf1cb946c41",
    0.75: "d676132d949bc87b070cfc5e8aacecabe3271218de2d7c0998a7dbc1e637047b",
    0.9: "f65901597bdf86e1f5de614ba47fadb11e4c50fa90d72a4406e3f1cf84f1b91b",
    1.0: "ddadd900e4aa535b248bba0c5f24d81eaaafb259e28ad4dd69409aef2dc751ff",
}


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def bytes_of(*sides):
    """Many saturations and values of all hues, uint8 [256, s, v, 3]."""
    return np.stack(np.meshgrid(np.arange(256), *sides, indexing="ij"), -1).astype(np.uint8)


def picture():
    """Any picture, uint8 [112, 112, 3]."""
    y, x, c = np.meshgrid(np.arange(112), np.arange(112), np.arange(3), indexing="ij")
    return ((x * x * 7 + y * y * 13 + x * y * 5 + c * 71) % 251).astype(np.uint8)


def rgb_of(pairs, unit=UNIT):
    """Colours of all hues with k pairs of saturation and value: uint8 [256, k, 3]."""
    found = np.empty((256, len(pairs), 3), np.uint8)
    palette = np.empty((3, 256), np.uint8)
    for k, (saturation, value) in enumerate(pairs):
        cpu.palette_of(np.float32(saturation), np.float32(value), np.float32(unit), palette)
        found[:, k] = palette.T
    return found


def test_colours_are_opencv_s():
    """Of a grid of 1.1 million, by the hash of what OpenCV returned."""
    hsv = bytes_of(np.arange(0, 256, 5), np.arange(0, 256, 3)).reshape(256, -1, 3)
    found = rgb_of(hsv[0, :, 1:])
    assert digest(found) == COLOURS


@pytest.mark.parametrize("turn", [180, 256])
def test_colours_are_those_of_colorsys(turn):
    """A byte may be one lower where the exact value is almost whole."""
    hsv = bytes_of(np.arange(0, 256, 51), np.arange(0, 256, 51)).reshape(256, -1, 3)
    found = rgb_of(hsv[0, :, 1:], 6 / turn).astype(int)
    exact = [[plain.hsv_bytes(h * 180 / turn, int(s), int(v)) for _, s, v in hsv[0]] for h in range(256)]
    assert np.isin(np.array(exact) - found, (0, 1)).all()
    assert (np.array(exact) == found).mean() > 0.9  # in this grid many values are whole


def resized(image, side):
    """An image uint8 [H, H, 3] resized by the reference."""
    target = np.empty((3, side, side), np.uint8)
    cpu.resize(np.ascontiguousarray(image.transpose(2, 0, 1)), target)
    return target.transpose(1, 2, 0)


@pytest.mark.parametrize("side", RESIZED)
def test_resizing_is_opencv_s(side):
    assert digest(resized(picture(), side)) == RESIZED[side]


@pytest.mark.parametrize("side", [1, 17, 33, 111, 112, 113, 134])
def test_resizing_is_bilinear(side):
    found, exact = resized(picture(), side).astype(int), plain.resized(picture(), side)
    assert np.abs(found - exact).max() <= 1


def nothing(count):
    """No object for each of ``count`` canvases."""
    places = torch.zeros((count, 3), dtype=torch.int32)
    return Objects(
        torch.zeros((count, 4, 4)), torch.zeros(count, dtype=torch.uint8), torch.zeros((count, 3)), places
    )  # fmt: skip


@pytest.mark.parametrize("sigma", BLURRED)
def test_blur_is_opencv_s(sigma):
    """From the word of a standard deviation through the steps of the weights."""
    least, steps = colored.blur_steps(0.5, 1.0)
    word = min(round((sigma - 0.5) * 2 * 2**32), 2**32 - 1)
    weight = least + int(np.searchsorted(steps, word, side="right"))
    ground = torch.from_numpy(picture()).permute(2, 0, 1)[None].contiguous()
    found = collages(nothing(1), ground, torch.tensor([weight], dtype=torch.int32), hue_unit=UNIT)
    found = found[0].permute(1, 2, 0).numpy()
    assert digest(found) == BLURRED[sigma]
    assert np.abs(found.astype(int) - plain.blurred(picture(), sigma)).max() <= 2
    assert np.array_equal(ground[0].permute(1, 2, 0).numpy(), picture())  # the background is not changed


def test_objects_are_pasted_in_order_turned_and_clipped():
    """Against plain loops: three objects a canvas, some beyond the edges, one left out, with holes."""
    rng = np.random.default_rng(0)
    count, each, height, size = 6, 3, 9, 24
    densities = np.where(
        rng.random((count * each, height, height)) < 0.6, rng.random((count * each, height, height)), 0
    )
    densities = torch.from_numpy(densities.astype(np.float32))
    orientations = torch.from_numpy(rng.integers(0, 8, count * each).astype(np.uint8))
    colours = torch.from_numpy(np.floor(rng.uniform(0, 256, (count * each, 3))).clip(0, 255).astype(np.float32))
    sides = rng.choice([0, 1, 5, 9, 14, 24], count * each)
    places = np.stack([rng.integers(-8, 20, count * each), rng.integers(-8, 20, count * each), sides], 1)
    grounds = rng.integers(0, 256, (count, 3, size, size)).astype(np.uint8)
    objects = Objects(densities, orientations, colours, torch.from_numpy(places.astype(np.int32)))
    found = collages(
        objects, torch.from_numpy(grounds), torch.zeros(count, dtype=torch.int32), hue_unit=UNIT
    ).numpy()  # fmt: skip
    for n in range(count):
        canvas = grounds[n].transpose(1, 2, 0).copy()
        for k in range(n * each, (n + 1) * each):
            top, left, side = places[k]
            if side:
                plain.pasted(canvas, resized(tinted(densities[k], orientations[k], colours[k]), side), top, left)
        assert np.array_equal(found[n], canvas.transpose(2, 0, 1)), n


def tinted(density, orientation, colour):
    """One object at its own size, turned by NumPy after the library coloured it; uint8 [H, H, 3]."""
    side = len(density)
    place = torch.tensor([[0, 0, side]], dtype=torch.int32)
    one = Objects(density[None], torch.zeros(1, dtype=torch.uint8), colour[None], place)
    black = torch.zeros((1, 3, side, side), dtype=torch.uint8)
    image = collages(one, black, torch.zeros(1, dtype=torch.int32), hue_unit=UNIT)[0].permute(1, 2, 0).numpy()
    image = image[::-1] if orientation & 1 else image
    image = image[:, ::-1] if orientation & 2 else image
    return image.swapaxes(0, 1) if orientation & 4 else image


def test_hues_wrap_and_zero_is_transparent():
    density = torch.tensor([[[0.0, 1e-6], [0.5, 1.0]]])
    place = torch.tensor([[0, 0, 2]], dtype=torch.int32)
    objects = Objects(density, torch.zeros(1, dtype=torch.uint8), torch.tensor([[200.0, 255.0, 255.0]]), place)
    grounds = torch.full((1, 3, 2, 2), 9, dtype=torch.uint8)
    found = collages(objects, grounds, torch.zeros(1, dtype=torch.int32), hue_unit=UNIT)[0].permute(1, 2, 0).tolist()
    assert found[0][0] == [9, 9, 9]
    for pixel, hue in ((found[0][1], 200), (found[1][0], 327 - 256), (found[1][1], 455 - 256)):
        assert np.abs(np.array(pixel) - plain.hsv_bytes(hue, 255, 255)).max() <= 1


def test_the_blur_s_weights_step_where_opencv_s_kernel_does():
    least, steps = colored.blur_steps(0.5, 1.0)
    assert (np.diff(steps) > 0).all()
    for sigma in np.random.default_rng(1).uniform(0.5, 1, 1000):
        e = np.exp(-1 / (2 * sigma**2))
        weight = round(256 * e / (1 + 2 * e))
        assert least + np.searchsorted(steps, (sigma - 0.5) * 2 * 2**32, side="right") == weight
    assert 0 < least <= least + len(steps) <= MAX_BLUR


BAD = [
    ("densities", torch.zeros(2, 4, 5), "densities must be"),
    ("densities", torch.zeros(2, 4, 4, dtype=torch.float64), "densities must be"),
    ("densities", torch.full((2, 4, 4), 1.5), r"densities must lie in \[0, 1\], got 1.5"),
    ("densities", torch.full((2, 4, 4), float("nan")), r"densities must lie in \[0, 1\]"),
    ("orientations", torch.zeros(3, dtype=torch.uint8), "orientations must be"),
    ("colours", torch.zeros(2, 2), "colours must be"),
    ("colours", torch.full((2, 3), 256.0), r"colours must lie in \[0, 255\]"),
    ("places", torch.zeros(2, 3), "places must be"),
    ("places", torch.full((2, 3), -1, dtype=torch.int32), r"places must have sides in \[0, 8192\]"),
    ("places", torch.tensor([[9000, 0, 1], [0, 0, 1]], dtype=torch.int32), "places must have tops and lefts"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_wrong_objects_are_refused(name, value, message):
    given = {
        "densities": torch.zeros(2, 4, 4), "orientations": torch.zeros(2, dtype=torch.uint8),
        "colours": torch.zeros(2, 3), "places": torch.zeros((2, 3), dtype=torch.int32),
    }  # fmt: skip
    Objects(**given)
    with pytest.raises(ValueError, match=message):
        Objects(**given | {name: value})


def test_wrong_canvases_are_refused():
    good = torch.zeros((2, 3, 8, 8), dtype=torch.uint8), torch.zeros(2, dtype=torch.int32)
    assert collages(nothing(2), *good, hue_unit=UNIT).shape == (2, 3, 8, 8)
    assert collages(nothing(0), good[0][:0], good[1][:0], hue_unit=UNIT).shape == (0, 3, 8, 8)
    for grounds, blurs, message in [
        (good[0][:, :, :7], good[1], "backgrounds must be square"),
        (good[0][:, :2], good[1], "backgrounds must be"),
        (good[0], good[1] + 86, r"blurs must lie in \[0, 85\], got 86 to 86"),
        (good[0], good[1][:1], "blurs must be"),
        (good[0][:1], good[1][:1], None),
    ]:
        objects = nothing(2)
        if message is None:
            assert collages(objects, grounds, blurs, hue_unit=UNIT).shape == (1, 3, 8, 8)  # two objects of one canvas
            continue
        with pytest.raises((TypeError, ValueError), match=message):
            collages(objects, grounds, blurs, hue_unit=UNIT)
    with pytest.raises(ValueError, match="objects must be the same number"):
        collages(nothing(3), *good, hue_unit=UNIT)
