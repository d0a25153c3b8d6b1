"""The CUDA C of densities, textures and collages against Numba, byte for byte: by g++ everywhere, on a GPU if
present."""

import numpy as np
import pytest
import torch

from gpurender.kernels.chaos_game import densities
from gpurender.kernels.collage import Objects, collages
from gpurender.kernels.diamond_square import textures
from tests.kernels.test_chaos_game_cuda import Emulated, Real, random_systems
from tests.support.emulation import HOPPER, TINY, require_compiler


def random_densities(rng, n, size):
    """Arguments of densities: systems of up to seven maps, some divergent, views, patches, some of them empty."""
    views = np.concatenate([rng.uniform(-0.3, 0.3, (n, 2)), rng.uniform(0.1, 1.2, (n, 2))], 1).astype(np.float32)
    patches = rng.integers(0, 512, n).astype(np.int32)
    patches[0] = 0
    given = random_systems(rng, n, 7), *map(torch.from_numpy, (rng.integers(0, 2**63, n), views, patches))
    return given, {"seed": int(rng.integers(2**63)), "points": int(rng.choice([1, 130, 5000])), "size": size}


def random_textures(rng, n, size):
    laws = np.concatenate([rng.uniform(0.3, 0.9, (n, 1)), rng.uniform(0, 255, (n, 6))], 1).astype(np.float32)
    given = tuple(map(torch.from_numpy, (laws, rng.integers(0, 2**63, n))))
    return given, {"seed": int(rng.integers(2**63)), "size": size, "hue_unit": float(rng.choice([6 / 180, 6 / 256]))}


def random_collages(rng, n, size):
    """Arguments of collages: three objects for each canvas, of their own size, smaller and larger, partly outside."""
    count, height = 3 * n, int(rng.integers(2, size + 1))
    drawn = rng.random((count, height, height)) * (rng.random((count, height, height)) < 0.7)
    colours = np.floor(rng.uniform(0, 256, (count, 3))).clip(0, 255)
    sides = rng.choice([0, 1, height, height, size, size // 2], count)
    places = np.stack([rng.integers(-size // 2, size, count), rng.integers(-size // 2, size, count), sides], 1)
    objects = Objects(
        torch.from_numpy(drawn.astype(np.float32)),
        torch.from_numpy(rng.integers(0, 8, count).astype(np.uint8)),
        torch.from_numpy(colours.astype(np.float32)),
        torch.from_numpy(places.astype(np.int32)),
    )
    grounds = torch.from_numpy(rng.integers(0, 256, (n, 3, size, size)).astype(np.uint8))
    blurs = torch.from_numpy((rng.integers(0, 86, n) * (np.arange(n) % 2)).astype(np.int32))
    return (objects, grounds, blurs), {"hue_unit": 6 / 180}


OPERATIONS = {
    "densities": (densities, random_densities),
    "textures": (textures, random_textures),
    "collages": (collages, random_collages),
}


def moved(move, thing):
    if isinstance(thing, Objects):
        return Objects(*(move(x) for x in (thing.densities, thing.orientations, thing.colours, thing.places)))
    return move(thing)


def compare(gpu, name, rng, n, size):
    work, drawn = OPERATIONS[name]
    given, keywords = drawn(rng, n, size)
    expected = work(*given, **keywords)
    with gpu as move:
        found = work(*(moved(move, thing) for thing in given), **keywords)
    assert torch.equal(expected, found.cpu()), (name, size, keywords)
    assert expected.max() > 0


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("size", [2, 16, 33, 100])
def test_one_thread_a_block_draws_the_reference(name, size):
    require_compiler()
    for limits in (HOPPER, TINY):
        compare(Emulated(limits), name, np.random.default_rng([size, len(name)]), 5, size)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("threads", [2, 7])
def test_several_threads_a_block_agree(name, threads):
    """Barriers that are missing or not reached by all show here."""
    require_compiler()
    compare(Emulated(HOPPER, threads), name, np.random.default_rng(threads), 2, 20)


def test_a_block_renders_texture_after_texture_and_view_after_view():
    """More images than blocks: nothing of the one before may be left in the memory that a block uses again."""
    require_compiler()
    for name in ("densities", "textures"):
        compare(Emulated(TINY), name, np.random.default_rng(9), 30, 18)


@pytest.mark.gpu
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("size", [2, 16, 33, 100, 224])
def test_the_gpu_draws_the_reference(name, size):
    compare(Real(), name, np.random.default_rng([size, len(name)]), 300, size)
