"""Mixing, look-up and erasing on a device: the bytes of the Numba implementation."""

from unittest import mock

import numpy as np
import torch

from gpurender.kernels.mix_erase import ERASING_MODES, Erasing, Mixing, mix_erase
from gpurender.kernels.soft_targets import soft_targets
from tests.support.triton_paths import gpu_path

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
FORMATS = (torch.contiguous_format, torch.channels_last)
# Whole runs of pixels and parts of one, rows that end within one, words shared by four pixels (H W divides by 4) or not
SHAPES = [(3, 1, 16, 64), (4, 3, 19, 37), (5, 3, 1, 1), (2, 1, 700, 1), (1, 3, 1, 602), (4, 1, 36, 17)]


def few_programs(device):
    """Runs of 64 times the pixels where Triton is interpreted, which takes its time for every program."""
    from gpurender.kernels.mix_erase import gpu

    return mock.patch.object(gpu, "WIDTH", 16 * (64 if device.type == "cpu" else 1))


def on(device, *given):
    """Tensors, mixings and erasings on the device."""
    if not isinstance(given[0], tuple):
        return [x.to(device) if isinstance(x, torch.Tensor) else x for x in given]
    return [None if x is None else type(x)(*on(device, *x)) for x in given]


def boxes_of(rng, n, count, height, width):
    """Boxes inside images, some of them empty: int32 [n, count, 4]."""
    h, w = rng.integers(0, height + 1, (n, count)), rng.integers(0, width + 1, (n, count))
    boxes = np.stack([rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w], -1)
    return torch.from_numpy(boxes.astype(np.int32))


def batch(rng, shape, count, mode):
    """Images of all bytes, mixing of every kind, erasing."""
    n, _, height, width = shape
    weights = np.where(rng.random(n) < 0.2, 1.0, rng.random(n))
    cut = torch.from_numpy(rng.random(n) < 0.3)
    mixing = Mixing(torch.from_numpy(weights), cut, boxes_of(rng, n, 1, height, width)[:, 0])
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, n))
    images = torch.from_numpy(rng.integers(0, 256, shape).astype(np.uint8))
    return images, mixing, Erasing(boxes_of(rng, n, count, height, width), keys, mode)


def agree(device, images, lut, mixing, erasing, memory_format=torch.contiguous_format):
    """The device's images are those of the CPU, bit for bit, laid out alike."""
    wanted = mix_erase(images, lut, mixing, erasing, memory_format)
    mixing, erasing = (None if given is None else on(device, given)[0] for given in (mixing, erasing))
    with gpu_path(device):
        found = mix_erase(*on(device, images, lut), mixing, erasing, memory_format)
    assert (found.device, found.dtype, found.stride()) == (device, wanted.dtype, wanted.stride())
    assert torch.equal(found.cpu(), wanted), (images.shape, lut.dtype, erasing and erasing.mode)


def finished(device):
    """Every mode, dtype and memory format; grey and colour."""
    rng = np.random.default_rng(1)
    for i, shape in enumerate(SHAPES):
        for j, dtype in enumerate(DTYPES):
            lut = torch.from_numpy(rng.normal(size=((1, 3)[(i + j) // 2 % 2], 256))).to(dtype)
            images, mixing, erasing = batch(rng, shape, (1, 3, 2)[(i + j) % 3], ERASING_MODES[(i + j) % 3])
            agree(device, images, lut, mixing, erasing, FORMATS[(i + j // 2) % 2])


def parts_of_the_finish(device):
    """Without mixing, without erasing, without boxes, without images."""
    rng = np.random.default_rng(2)
    for mode in ERASING_MODES:
        images, mixing, erasing = batch(rng, (3, 3, 20, 31), 1, mode)
        lut = torch.from_numpy(rng.normal(size=(3, 256)).astype(np.float32))
        none = erasing._replace(boxes=erasing.boxes[:, :0])
        for given in [(None, None), (mixing, None), (None, erasing), (mixing, none)]:
            agree(device, images, lut, *given)
            empty = [each and type(each)(*(x if isinstance(x, str) else x[:0] for x in each)) for each in given]
            agree(device, images[:0], lut, *empty, torch.channels_last)


def mixtures(device):
    """Every pair of bytes, with weights whose halves and sums are near rounding's edges."""
    own = torch.arange(256, dtype=torch.uint8).repeat_interleave(256).view(1, 1, 256, 256)
    images, lut = torch.cat([own, own.transpose(2, 3)]), torch.arange(256.0).expand(3, 256)
    for weights in [(0.5 + 2e-8, 0.5), (1 / 3, 1 - 2**-53), (1e-300, 0.7134), (1 - 2**-24, 0.1)]:
        mixing = Mixing(torch.tensor(weights, dtype=torch.float64), torch.zeros(2).bool(), torch.zeros(2, 4).int())
        with few_programs(device):
            agree(device, images, lut, mixing, None)


def noise_of_every_size(device):
    """Many words, many keys; small variates are subnormal in float16."""
    keys, boxes = torch.tensor([0, -1, 2**63 - 1, 1 << 32]), torch.tensor([[[0, 0, 64, 130]]] * 4).int()
    images = torch.zeros(4, 1, 64, 130, dtype=torch.uint8)
    with few_programs(device):
        for dtype in DTYPES:
            agree(device, images, torch.zeros(3, 256, dtype=dtype), None, Erasing(boxes, keys, "pixel"))


def wrong_values_finish(device):
    """A GPU does not look at values: boxes end at the image's border, and any weight makes bytes."""
    rng, far = np.random.default_rng(3), 2**31 - 1
    images, mixing, erasing = batch(rng, (6, 1, 20, 30), 1, "pixel")
    lut = torch.from_numpy(rng.permutation(768).reshape(3, 256).astype(np.float32))
    wrong = torch.tensor(
        [[-5, 3, 9, 9], [15, 25, 9, 9], [0, 0, 5, -4], [far, far, far, far], [2, 2, 100, 5], [-9, 0, 9, 5]]
    )
    inside = torch.tensor([[0, 3, 4, 9], [15, 25, 5, 5], [0, 0, 0, 0], [0, 0, 0, 0], [2, 2, 18, 5], [0, 0, 0, 0]])
    cut = torch.ones(6, dtype=torch.bool)
    wanted = mix_erase(
        images, lut, mixing._replace(cut=cut, patches=inside.int()), erasing._replace(boxes=inside[:, None].int())
    )
    images, lut, cut, wrong = on(device, images, lut, cut, wrong.int())
    (mixing, erasing), bad = on(device, mixing, erasing), [float("nan"), -1e300, 1e300, float("inf"), -1.0, 300.0]
    with gpu_path(device):
        given = mixing._replace(cut=cut, patches=wrong), erasing._replace(boxes=wrong[:, None])
        assert torch.equal(mix_erase(images, lut, *given).cpu(), wanted)
        bad = torch.tensor(bad, dtype=torch.float64, device=device)
        found = mix_erase(images, lut, mixing._replace(weights=bad, cut=~cut), None)
        for c in range(3):
            assert torch.isin(found[:, c], lut[c]).all()


def targets(device):
    """Soft targets, mixed and not, of fewer and more classes than a program has."""
    rng = np.random.default_rng(4)
    for n, classes, smoothing in [(1, 1, 0.1), (5, 2, 0.0), (7, 1025, 0.1), (4, 3000, 1.0), (0, 9, 0.1)]:
        labels, weights = torch.from_numpy(rng.integers(0, classes, n)), torch.from_numpy(rng.random(n))
        for shares in (weights, None):
            wanted = soft_targets(labels, shares, classes, smoothing)
            given = [None if x is None else x.to(device) for x in (labels, shares)]
            with gpu_path(device):
                found = soft_targets(*given, classes, smoothing)
            assert (found.device, found.dtype) == (device, torch.float32)
            assert torch.equal(found.cpu(), wanted), (n, classes, smoothing)


CHECKS = (finished, parts_of_the_finish, mixtures, noise_of_every_size, wrong_values_finish, targets)
