"""Noise of independent pixels against NumPy at the documented addresses, and the CUDA C against Numba."""

import numpy as np
import pytest
import torch

from gpurender.kernels.philox import philox
from gpurender.kernels.pixel_noise import pixels
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream, halves
from tests.kernels.test_chaos_game_cuda import Emulated, Real
from tests.support.emulation import HOPPER, require_compiler

SEED = 2**63 + 5


def words(draw_id, count):
    counters = np.zeros((count, 4), np.uint32)
    counters[:, 0], counters[:, 1] = np.arange(count), int(Stream.PIXEL_NOISE)
    counters[:, 2], counters[:, 3] = halves(draw_id)
    return philox(counters, halves(SEED))[:, :3].T.astype(np.int64)


def random_laws(rng, n):
    laws = np.concatenate([rng.uniform(60, 200, (n, 3, 1)), rng.uniform(-60, 60, (n, 3, 3))], 2)
    return torch.from_numpy(laws.astype(np.float32))


@pytest.mark.parametrize("normal", [True, False])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_pixels_follow_the_formula(normal, size):
    """In float64; a byte may differ by one where float32 lies on the other side of a half."""
    rng = np.random.default_rng(size)
    laws, ids = random_laws(rng, 4), torch.tensor([9, 9, 2**62 + 1, 0])
    found = pixels(laws, ids, normal=normal, seed=SEED, size=size).numpy()
    for law, draw_id, image in zip(laws.numpy().astype(float), ids.tolist(), found, strict=True):
        u = torch.from_numpy(words(draw_id, size * size))
        z = quantiles.normal(u).numpy() if normal else ((u >> 8) * 2.0**-23 - 1).numpy()
        exact = (law[:, :1] + law[:, 1:] @ z).clip(0, 255).reshape(3, size, size)
        assert np.abs(image - exact).max() < 0.501


@pytest.mark.parametrize("normal", [True, False])
def test_an_image_depends_on_its_own_row_and_draw_id(normal):
    rng = np.random.default_rng(3)
    laws, ids = random_laws(rng, 6), torch.tensor([4, 4, 4, 1, 4, -1])
    laws[4] = laws[0]
    whole = pixels(laws, ids, normal=normal, seed=1, size=120)
    for n in range(6):
        assert torch.equal(whole[n], pixels(laws[n : n + 1], ids[n : n + 1], normal=normal, seed=1, size=120)[0])
    assert torch.equal(whole[0], whole[4])
    assert not torch.equal(whole[0], whole[1])
    assert pixels(laws[:0], ids[:0], normal=normal, seed=1, size=20).shape == (0, 3, 20, 20)


def compare(gpu, normal, size, n):
    rng = np.random.default_rng([size, n])
    laws, ids = random_laws(rng, n), torch.from_numpy(rng.integers(0, 2**63, n))
    expected = pixels(laws, ids, normal=normal, seed=SEED, size=size)
    with gpu as move:
        found = pixels(move(laws), move(ids), normal=normal, seed=SEED, size=size)
    assert torch.equal(expected, found.cpu())


@pytest.mark.parametrize("normal", [True, False])
@pytest.mark.parametrize(("size", "threads"), [(1, 1), (33, 1), (100, 1), (20, 7)])
def test_one_or_several_threads_a_block_draw_the_reference(normal, size, threads):
    require_compiler()
    compare(Emulated(HOPPER, threads), normal, size, 5)


@pytest.mark.gpu
@pytest.mark.parametrize("normal", [True, False])
@pytest.mark.parametrize("size", [1, 33, 512])
def test_the_gpu_draws_the_reference(normal, size):
    compare(Real(), normal, size, 40)


@pytest.mark.parametrize(
    ("laws", "ids", "size", "message"),
    [
        (torch.zeros(2, 3, 3), torch.zeros(2, dtype=torch.int64), 20, "coefficients must be"),
        (torch.zeros(2, 3, 4), torch.zeros(1, dtype=torch.int64), 20, "draw_ids must be"),
        (torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int64), 8193, r"size must be an integer in \[1, 8192\]"),
    ],
)
def test_wrong_arguments_are_refused(laws, ids, size, message):
    with pytest.raises(ValueError, match=message):
        pixels(laws, ids, normal=True, seed=0, size=size)
