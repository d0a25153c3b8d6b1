"""Mixing against timm's bytes, look-up against indexing, erasing against its formula and the normal law."""

import hashlib
import re

import numpy as np
import pytest
import torch

from gpurender.kernels.mix_erase import ERASING_MODES, Erasing, Mixing, cpu, mix_erase
from gpurender.kernels.philox import words
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream
from tests.support.optional import optional

stats = optional("scipy.stats")

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
FORMATS = (torch.contiguous_format, torch.channels_last)
KEYS = (0, 1, -1, 2**63 - 1, 0x0123456789ABCDEF)


def bytes_of(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8))


def table(dtype=torch.float32, seed=0):
    """Entries that tell channels and bytes apart, in any dtype but bfloat16 (which has 8 bits)."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(768).reshape(3, 256) - 300.0).to(dtype)


def looked_up(images, lut):
    """lut[c][byte], by indexing."""
    images = images.expand(-1, 3, -1, -1).long()
    return torch.stack([lut[c][images[:, c]] for c in range(3)], 1)


BYTES = torch.arange(256.0).expand(3, 256)  # the table that shows bytes as they are


def boxes_of(*boxes):
    return torch.tensor(boxes, dtype=torch.int32)


def no_mixing(n):
    return Mixing(torch.ones(n, dtype=torch.float64), torch.zeros(n, dtype=torch.bool), torch.zeros(n, 4).int())


# ------------------------------------------------------------------------------------------------------------ look-up


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_looks_bytes_up(dtype, memory_format):
    for channels in (1, 3):
        images, lut = bytes_of((5, channels, 13, 18)), table(dtype)
        found = mix_erase(images, lut, memory_format=memory_format)
        assert found.dtype == dtype
        assert found.is_contiguous(memory_format=memory_format)
        assert torch.equal(found, looked_up(images, lut))


def test_entries_are_copied_as_they_are():
    lut = torch.tensor([float("nan"), -0.0, float("inf"), 1e-45]).repeat(3, 64)
    found = mix_erase(bytes_of((2, 3, 9, 9)), lut)
    assert torch.equal(found.view(torch.int32), looked_up(bytes_of((2, 3, 9, 9)), lut).view(torch.int32))


# ------------------------------------------------------------------------------------------------------------- mixing


def timm_batch(images, mode, seed, monkeypatch, **settings):
    """timm's bytes of a batch, and what it drew: (weights, cuts, boxes), of the batch, the pairs or the images."""
    mixup = pytest.importorskip("timm.data.mixup")
    drawn, boxes = [], []

    def recorded(function, seen):
        def call(*arguments, **keywords):
            result = function(*arguments, **keywords)
            seen.append((np.array(result[0]), np.array(result[1])))
            return result

        return call

    collate = mixup.FastCollateMixup(mode=mode, num_classes=10, **settings)
    monkeypatch.setattr(collate, "_params_per_batch", recorded(collate._params_per_batch, drawn))
    monkeypatch.setattr(collate, "_params_per_elem", recorded(collate._params_per_elem, drawn))
    with monkeypatch.context() as patch:
        patch.setattr(mixup, "cutmix_bbox_and_lam", recorded(mixup.cutmix_bbox_and_lam, boxes))
        np.random.seed(seed)
        mixed, _ = collate([(image, 0) for image in images])
    lam, cut = (np.atleast_1d(x) for x in drawn[0])
    cut = cut & ((lam != 1.0) | (mode == "batch"))
    patches = np.zeros((len(lam), 4), np.int32)
    for i, ((top, bottom, left, right), _) in zip(np.flatnonzero(cut), boxes, strict=True):
        patches[i] = top, left, bottom - top, right - left
    return mixed, lam.astype(np.float64), cut, patches


def mixing_of(mode, n, weights, cut, patches):
    """The mixing of a batch of n images from what timm drew for it, for its pairs or for its images."""
    place = {"batch": np.zeros(n, int), "pair": np.minimum(np.arange(n), n - 1 - np.arange(n)), "elem": np.arange(n)}
    return Mixing(*(torch.from_numpy(x[place[mode]]) for x in (weights, cut, patches)))


@pytest.mark.parametrize("arrays", [True, False], ids=["arrays", "tensors"])
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_mixes_as_timm(mode, arrays, monkeypatch):
    settings = [
        {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.8},
        {"mixup_alpha": 1.0},
        {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
        {"mixup_alpha": 0.1, "cutmix_minmax": (0.2, 0.9), "prob": 0.9},
    ]
    seen = set()
    for seed in range(40):
        images = bytes_of((6, 1 + 2 * (seed % 2), 17, 23), seed)
        given = images.numpy().copy() if arrays else images.clone()
        expected, *drawn = timm_batch(list(given), mode, seed, monkeypatch, **settings[seed % 4])
        mixing = mixing_of(mode, 6, *drawn)
        found = mix_erase(images, BYTES, mixing)
        assert torch.equal(found, expected.expand(-1, 3, -1, -1).float()), seed
        seen |= set(zip((mixing.weights < 1.0).tolist(), mixing.cut.tolist(), strict=True))
    assert {(True, False), (True, True), (False, False)} <= seen


def test_every_pair_of_bytes_rounds_as_in_float32():
    own = torch.arange(256, dtype=torch.uint8).repeat_interleave(256).view(1, 1, 256, 256)
    partner = torch.arange(256, dtype=torch.uint8).repeat(256).view(1, 1, 256, 256)
    rng = np.random.default_rng(3)
    for weight in [0.0, 0.5, 0.5 + 2e-8, 0.25, 1 / 3, 1e-300, 1 - 2**-53, 1 - 2**-24, 0.1, *rng.random(8)]:
        mixing = no_mixing(2)._replace(weights=torch.tensor([weight, 1.0], dtype=torch.float64))
        a, b = own.numpy().astype(np.float32), partner.numpy().astype(np.float32)
        expected = np.rint(a * np.float32(weight) + b * np.float32(1.0 - weight))
        found = mix_erase(torch.cat([own, partner]), BYTES, mixing)
        assert (found[0, 0].numpy() == expected[0, 0]).all(), weight
        assert torch.equal(found[1, 0], partner[0, 0].float())


def test_a_patch_is_the_partners_whatever_the_weight():
    images = bytes_of((4, 3, 8, 9))
    patches = boxes_of((2, 3, 4, 5), (0, 0, 8, 9), (8, 9, 0, 0), (0, 0, 0, 9))
    for weight in (0.3, 1.0):
        mixing = Mixing(torch.full((4,), weight, dtype=torch.float64), torch.ones(4, dtype=torch.bool), patches)
        found = mix_erase(images, BYTES, mixing)
        expected = images.clone()
        expected[0, :, 2:6, 3:8] = images[3, :, 2:6, 3:8]
        expected[1] = images[2]
        assert torch.equal(found, expected.float())


def test_the_middle_of_an_odd_batch_is_its_own_partner():
    for n in (1, 3, 5):
        images, rng = bytes_of((n, 3, 16, 16)), np.random.default_rng(n)
        cut = torch.zeros(n, dtype=torch.bool)
        for weights in rng.random((20, n)):
            mixing = Mixing(torch.from_numpy(weights), cut, boxes_of(*[(2, 2, 9, 9)] * n))
            for each in (mixing, mixing._replace(cut=~cut)):
                assert torch.equal(mix_erase(images, BYTES, each)[n // 2], images[n // 2].float())


# ------------------------------------------------------------------------------------------------------------ erasing


def variates(drawn):
    """Standard normal variates of words uint32, float32: the formula, in NumPy."""
    quantile = quantiles.normal_quantiles().astype(np.float32)
    bits = ((drawn & 0x7FFFFFFF).astype(np.int64) + 1).astype(np.float32).view(np.int32)
    cell, share = (bits >> 16) - 16256, (bits & 0xFFFF).astype(np.float32) * np.float32(2.0**-16)
    size = quantile[cell] + (quantile[cell + 1] - quantile[cell]) * share
    return np.where(drawn >> 31 != 0, -size, size)


def pixel_noise(key, height, width):
    """Noise of all pixels of an image, float32 [3, H, W]."""
    blocks = -(-3 * height * width // 4)
    drawn = words(key % 2**64, Stream.ERASED, np.array([0], np.uint64), blocks).ravel()
    return torch.from_numpy(variates(drawn)[: 3 * height * width].reshape(3, height, width))


def box_noise(key, k):
    """Noise of box k, float32 [3]."""
    drawn = words(key % 2**64, Stream.ERASED, np.array([1], np.uint64), k + 1).ravel()
    return torch.from_numpy(variates(drawn[4 * k : 4 * k + 3]))


def erased(images, boxes, keys, mode, dtype):
    """Boxes filled one after the other, after look-up."""
    expected = looked_up(images, table(dtype))
    height, width = images.shape[2:]
    for image, own, key in zip(expected, boxes, keys, strict=True):
        noise = pixel_noise(key, height, width)
        for k, (top, left, h, w) in enumerate(own.tolist()):
            part = slice(top, top + h), slice(left, left + w)
            value = {"const": noise * 0, "rand": box_noise(key, k)[:, None, None].expand_as(noise), "pixel": noise}
            image[(slice(None), *part)] = value[mode][(slice(None), *part)].to(dtype)
    return expected


def random_boxes(n, count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    h, w = rng.integers(0, height + 1, (n, count)), rng.integers(0, width + 1, (n, count))
    boxes = np.stack([rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w], -1)
    return torch.from_numpy(boxes.astype(np.int32))


@pytest.mark.parametrize("mode", ERASING_MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_erases_boxes_one_over_the_other(dtype, mode):
    for seed, (count, height, width) in enumerate([(1, 12, 16), (4, 17, 15), (2, 7, 1), (9, 1, 3), (0, 5, 5)]):
        images, boxes = bytes_of((5, 1 + 2 * (seed % 2), height, width)), random_boxes(5, count, height, width, seed)
        expected = erased(images, boxes, KEYS, mode, dtype)
        for memory_format in FORMATS:
            found = mix_erase(images, table(dtype), None, Erasing(boxes, torch.tensor(KEYS), mode), memory_format)
            assert found.is_contiguous(memory_format=memory_format)
            assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", ["rand", "pixel"])
def test_noise_is_standard_normal(mode):
    n, side = (6, 120) if mode == "pixel" else (2500, 6)
    count = 1 if mode == "pixel" else 9
    grid = [(2 * (k // 3), 2 * (k % 3), 2, 2) for k in range(9)] if count == 9 else [(0, 0, side, side)]
    keys = torch.arange(n) * 0x9E3779B97F4A7C1
    images = torch.zeros(n, 1, side, side, dtype=torch.uint8)
    noise = mix_erase(images, BYTES, None, Erasing(boxes_of(grid).expand(n, -1, -1), keys, mode)).double()
    step = 1 if mode == "pixel" else 2  # a box is 2 x 2 pixels of one value
    assert torch.equal(noise[:, :, ::step, ::step], noise[:, :, step - 1 :: step, step - 1 :: step])
    z = noise[:, :, ::step, ::step].numpy()
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    bound = 4.0 / np.sqrt(z.size)
    assert abs(z.mean()) < bound
    assert abs(z.var() - 1.0) < bound * np.sqrt(2.0)
    assert abs((z**4).mean() - 3.0) < bound * np.sqrt(96.0)
    for a, b in [(z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z[..., 1:, :], z[..., :-1, :]), (z[..., 1:], z[..., :-1])]:
        assert abs((a * b).mean()) < 4.0 / np.sqrt(a.size)


def test_variates_are_those_of_the_float64_formula():
    drawn = np.concatenate(
        [np.random.default_rng(0).integers(0, 2**32, 5000), 2 ** np.arange(32), 2**32 - 1 - np.arange(300)]
    )
    found = np.empty(len(drawn), np.float32)
    cpu.normals(drawn.astype(np.uint32), quantiles.normal_quantiles().astype(np.float32), found)
    exact = quantiles.normal(torch.from_numpy(drawn)).numpy()
    assert np.abs(found - exact).max() < 2e-6
    assert (found == variates(drawn.astype(np.uint32))).all()


def test_noise_is_cast_as_torch_casts():
    rng = np.random.default_rng(1)
    halves = torch.arange(0x4800, dtype=torch.int16).view(torch.float16).float().numpy()  # every float16 up to 8
    midway = (halves[1:] + halves[:-1]) / 2
    values = np.concatenate([halves, midway, np.nextafter(midway, 9), np.nextafter(midway, -9), rng.normal(size=5000)])
    brains = torch.from_numpy(rng.normal(size=3000)).to(torch.bfloat16).float().view(torch.int32)
    ties = ((brains & ~0xFFFF) + 0x8000).view(torch.float32).numpy()
    values = np.concatenate([values, ties, np.nextafter(ties, 9), np.nextafter(ties, -9)]).astype(np.float32)
    values = np.concatenate([values, -values])
    for dtype, integer in zip(DTYPES, (np.int32, np.int16, np.int16, np.int64), strict=True):
        found = np.empty(len(values), integer)
        cpu.store(values, dtype == torch.bfloat16, found)
        assert (torch.from_numpy(values).to(dtype).view(torch.from_numpy(found).dtype).numpy() == found).all(), dtype


@pytest.mark.parametrize("mode", ERASING_MODES)
def test_an_images_noise_does_not_depend_on_its_batch(mode):
    images, boxes, keys = bytes_of((7, 3, 20, 18)), random_boxes(7, 3, 20, 18), torch.arange(7) * 2**40 + 5
    together = mix_erase(images, table(), None, Erasing(boxes, keys, mode))
    order = torch.tensor([6, 2, 2, 0])
    some = mix_erase(images[order], table(), None, Erasing(boxes[order], keys[order], mode))
    assert torch.equal(some, together[order])
    if mode != "const":
        other = mix_erase(images, table(), None, Erasing(boxes, keys ^ 2**50, mode))
        assert not torch.equal(other, together)


def test_noise_of_a_pixel_does_not_depend_on_the_box():
    images = bytes_of((1, 1, 30, 31))
    keys = torch.tensor([77])
    whole = mix_erase(images, table(), None, Erasing(boxes_of([(0, 0, 30, 31)]), keys, "pixel"))
    part = mix_erase(images, table(), None, Erasing(boxes_of([(5, 0, 9, 31), (3, 11, 20, 6)]), keys, "pixel"))
    assert torch.equal(part[..., 5:14, :], whole[..., 5:14, :])
    assert torch.equal(part[..., 3:23, 11:17], whole[..., 3:23, 11:17])
    part[..., 5:14, :] = part[..., 3:23, 11:17] = 0
    rest = looked_up(images, table())
    rest[..., 5:14, :] = rest[..., 3:23, 11:17] = 0
    assert torch.equal(part, rest)


# ----------------------------------------------------------------------------------------------------------- together


def everything(n, channels=3, height=21, width=19, mode="pixel"):
    """Images, mixing and erasing of a batch."""
    rng = np.random.default_rng(n)
    mixing = Mixing(
        torch.from_numpy(rng.random(n)), torch.from_numpy(rng.random(n) < 0.4), random_boxes(n, 1, height, width)[:, 0]
    )
    erasing = Erasing(random_boxes(n, 3, height, width, 1), torch.from_numpy(rng.integers(-(2**63), 2**63, n)), mode)
    return bytes_of((n, channels, height, width)), mixing, erasing


def test_boxes_are_erased_after_mixing():
    images, mixing, erasing = everything(6)
    mixed = mix_erase(images, BYTES, mixing).to(torch.uint8)
    assert torch.equal(mix_erase(images, table(), mixing, erasing), mix_erase(mixed, table(), None, erasing))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_depends_on_the_number_of_threads(dtype):
    images, mixing, erasing = everything(23, 1)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(mix_erase(images, table(dtype), mixing, erasing))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found)


def test_arguments_are_left_as_they_are_and_may_be_strided():
    images, mixing, erasing = everything(4)
    given = [images, *mixing, *erasing[:2]]
    before = [each.clone() for each in given]
    expected = mix_erase(images, table(), mixing, erasing)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))

    def strided(tensor):
        return torch.stack([tensor, tensor], -1)[..., 0]

    mixing, erasing = Mixing(*map(strided, mixing)), Erasing(*map(strided, erasing[:2]), erasing.mode)
    found = mix_erase(strided(images), strided(table()), mixing, erasing)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_empty_batches_and_images(memory_format):
    for shape in [(0, 3, 8, 8), (0, 1, 8, 8), (2, 1, 0, 8), (2, 3, 8, 0)]:
        n = shape[0]
        erasing = Erasing(torch.zeros(n, 2, 4).int(), torch.zeros(n).long(), "pixel")
        found = mix_erase(bytes_of(shape), table(torch.float16), no_mixing(n), erasing, memory_format)
        assert (found.shape, found.dtype) == ((n, 3, *shape[2:]), torch.float16)


# ------------------------------------------------------------------------------------------------------------- errors


def test_refuses_what_does_not_fit():
    images, mixing, erasing = everything(4)
    refusals = [
        (TypeError, "images", lambda: mix_erase(images.int(), table())),
        (TypeError, "images", lambda: mix_erase(images.numpy(), table())),
        (ValueError, "images", lambda: mix_erase(images[0], table())),
        (ValueError, "images", lambda: mix_erase(images[:, :2], table())),
        (ValueError, "lut", lambda: mix_erase(images, table()[:2])),
        (TypeError, "lut", lambda: mix_erase(images, table().long())),
        (ValueError, "lut", lambda: mix_erase(images, table().to("meta"))),
        (ValueError, "memory_format", lambda: mix_erase(images, table(), memory_format=torch.preserve_format)),
        (
            TypeError,
            "mixing.weights",
            lambda: mix_erase(images, table(), mixing._replace(weights=mixing.weights.float())),
        ),
        (ValueError, "mixing.cut", lambda: mix_erase(images, table(), mixing._replace(cut=mixing.cut[:3]))),
        (
            TypeError,
            "mixing.patches",
            lambda: mix_erase(images, table(), mixing._replace(patches=mixing.patches.long())),
        ),
        (
            ValueError,
            "erasing.boxes",
            lambda: mix_erase(images, table(), None, erasing._replace(boxes=erasing.boxes[0])),
        ),
        (
            TypeError,
            "erasing.keys",
            lambda: mix_erase(images, table(), None, erasing._replace(keys=erasing.keys.int())),
        ),
        (ValueError, "erasing.mode", lambda: mix_erase(images, table(), None, erasing._replace(mode="Pixel"))),
    ]
    for error, name, call in refusals:
        with pytest.raises(error, match=re.escape(name)):
            call()


@pytest.mark.parametrize("weight", [-1e-9, 1.0000001, float("nan"), float("inf")])
def test_refuses_weights_outside_0_to_1(weight):
    images, mixing, _ = everything(4)
    mixing.weights[2] = weight
    with pytest.raises(ValueError, match=r"mixing\.weights must lie in \[0, 1\]"):
        mix_erase(images, table(), mixing)


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 18, 1, 2), (20, 0, 2, 1), (0, 0, -1, 1), (2**31 - 1, 0, 9, 0)])
def test_refuses_boxes_that_leave_the_image(box):
    images, mixing, erasing = everything(4)
    mixing.patches[1] = erasing.boxes[3, 1] = torch.tensor(box)
    with pytest.raises(
        ValueError, match=r"mixing\.patches must be .* inside an image of 21 x 19, got " + re.escape(str(box))
    ):
        mix_erase(images, table(), mixing)
    with pytest.raises(ValueError, match=r"erasing\.boxes must be .* got " + re.escape(str(box))):
        mix_erase(images, table(), None, erasing)


def test_the_noise_is_the_same_everywhere():
    """Golden: it is part of what a layout of the random numbers promises."""
    digest = hashlib.sha256()
    for mode in ("rand", "pixel"):
        erasing = Erasing(boxes_of([(0, 0, 16, 16), (3, 4, 5, 6)]).expand(5, -1, -1), torch.tensor(KEYS), mode)
        digest.update(mix_erase(torch.zeros(5, 1, 16, 16, dtype=torch.uint8), BYTES, None, erasing).numpy().tobytes())
    assert digest.hexdigest() == GOLDEN


GOLDEN = "d1d24ae531df8bd9e529b5eac5753c6dc58dfbc3d622f2bfa42db34a4a95116b"
