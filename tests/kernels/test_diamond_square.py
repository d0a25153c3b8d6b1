"""Diamond-square textures against whole-array NumPy in float64, with the same noise and with another."""

import math

import numpy as np
import pytest
import torch

from gpurender.kernels.diamond_square import cpu, textures
from gpurender.kernels.diamond_square.params import levels
from gpurender.kernels.philox import philox
from gpurender.numerics.streams import Stream, halves
from tests.support import colored as plain
from tests.support.two_sample import same_law

SEED = 2**63 + 11


class Addressed:
    """Stands in for NumPy's generator in the plain rules: noise at the addresses that the reference documents."""

    def __init__(self, draw_id):
        self.draw_id, self.step = draw_id, -1

    def words(self, step, count):
        blocks = (step << 27) + np.arange(-(-count // 4))
        counters = np.zeros((len(blocks), 4), np.uint32)
        counters[:, 0], counters[:, 1] = blocks, int(Stream.BACKGROUND)
        counters[:, 2], counters[:, 3] = halves(self.draw_id)
        return philox(counters, halves(SEED)).reshape(-1)[:count]

    def uniform(self, low, high, shape):
        """Corners, diamonds, and squares as a whole array of which every second entry is used."""
        if self.step < 0:
            unit = self.words(31, 4).reshape(2, 2)
        elif self.step % 2 == 0:
            unit = self.words(self.step, shape[0] * shape[1]).reshape(shape)
        else:
            width = shape[1] // 2 + 1
            rows, columns = np.indices(shape)
            unit = self.words(self.step, shape[0] * width)[rows * width + columns // 2]
        self.step += 1
        return low + (high - low) * (unit >> 8) * 2.0**-24


def heights_of(draw_id, decay, size):
    side = 2 ** levels(size) + 1
    heights, words = np.zeros((side, side), np.float32), np.empty(side * (side // 2 + 1) + 4, np.uint32)
    number, key = (np.array(halves(x), np.uint32) for x in (draw_id, SEED))
    cpu.fill_heights(np.float32(decay), size, number, key, words, heights)
    return heights[:size, :size]


@pytest.mark.parametrize("size", [2, 3, 5, 16, 17, 32, 33, 100, 224])
def test_heights_follow_the_plain_rules(size):
    draw_id, decay = 2**40 + size, 0.55
    exact = plain.heights(math.ceil(math.log2(size)), decay, Addressed(draw_id))[:size, :size]
    found = heights_of(draw_id, math.exp(-decay), size)
    assert np.abs(found - exact).max() < 3e-6


def test_colours_follow_the_plain_rules():
    """Bytes of hue, saturation and value may differ by one where float32 and float64 lie on either side of a byte."""
    law = [math.exp(-0.6), 200.0, 60.0, 70.0, 130.0, 120.0, 140.0]
    image = textures(torch.tensor([law]), torch.tensor([5]), seed=SEED, size=40, hue_unit=6 / 180)[0].numpy()
    x = plain.heights(6, 0.6, Addressed(5))[:40, :40]
    hue, saturation, value = (np.trunc(np.minimum(a * x + b, m)).astype(int) % 256 for a, b, m in (
        (200, 60, np.inf), (70, 130, 255), (120, 140, 255)))  # fmt: skip
    flat = [plain.hsv_bytes(*each) for each in zip(hue.flat, saturation.flat, value.flat, strict=True)]
    exact = np.array(flat).reshape(40, 40, 3).transpose(2, 0, 1)
    assert (np.abs(image - exact) <= 1).mean() > 0.995
    assert (image == exact).mean() > 0.9


def test_heights_have_the_law_of_the_plain_rules():
    """With NumPy's noise: levels, their spread, and how rough they are at two distances."""
    rng = np.random.default_rng(4)
    decays = rng.uniform(0.4, 0.8, 400)
    ours = [heights_of(n, math.exp(-decay), 32) for n, decay in enumerate(decays)]
    theirs = [plain.heights(5, decay, rng)[:32, :32] for decay in decays]
    for name, measure in {
        "mean": np.mean, "spread": np.std, "rough": lambda x: np.abs(np.diff(x)).mean(),
        "coarse": lambda x: np.abs(x[:, 8:] - x[:, :-8]).mean(), "edge": lambda x: x[0, 9], "largest": np.max,
    }.items():  # fmt: skip
        same_law([measure(x) for x in ours], [measure(x) for x in theirs], name)


def test_a_texture_depends_on_its_own_row_and_draw_id():
    rng = np.random.default_rng(1)
    laws = torch.from_numpy(rng.uniform(0.3, 1, (5, 7)).astype(np.float32)) * torch.tensor(
        [1, 255, 255, 99, 99, 99, 99]
    )
    ids = torch.tensor([3, 2**62, -1, 0, 3])
    whole = textures(laws, ids, seed=1, size=20, hue_unit=1 / 30)
    for n in range(5):
        assert torch.equal(whole[n], textures(laws[n : n + 1], ids[n : n + 1], seed=1, size=20, hue_unit=1 / 30)[0])
    assert not torch.equal(whole[0], whole[4])  # another law at the same draw id
    assert textures(laws[:0], ids[:0], seed=1, size=20, hue_unit=1 / 30).shape == (0, 3, 20, 20)


@pytest.mark.parametrize(
    ("laws", "ids", "size", "message"),
    [
        (torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64), 20, "parameters must be"),
        (torch.zeros(2, 7), torch.zeros(1, dtype=torch.int64), 20, "draw_ids must be"),
        (torch.zeros(2, 7), torch.zeros(2), 20, "draw_ids must be"),
        (torch.zeros(2, 7), torch.zeros(2, dtype=torch.int64), 1, r"size must be an integer in \[2, 8192\], got 1"),
        (torch.zeros(2, 7), torch.zeros(2, dtype=torch.int64), 8193, "size must be"),
    ],
)
def test_wrong_arguments_are_refused(laws, ids, size, message):
    with pytest.raises((TypeError, ValueError), match=message):
        textures(laws, ids, seed=0, size=size, hue_unit=1 / 30)
