"""The chaos game's CUDA C against Numba, byte for byte: built by g++ everywhere, on the GPU where there is one."""

import numpy as np
import pytest
import torch

from gpurender.kernels.chaos_game import (
    Systems,
    covered_pixels,
    gpu,
    mask_bitmaps,
    masked_occupancy,
    occupancy,
    render_bitmaps,
    render_systems,
)
from gpurender.recipes import ifs
from tests.support.emulation import ADA, HOPPER, TINY, emulated_gpu, require_compiler

STYLES = {
    "masked": {"patch": True, "mask": True},
    "filled": {"patch": True, "mask": False},
    "points": {"patch": False, "mask": False},
}


def random_systems(rng, n, most):
    """Systems of 1 to ``most`` maps: some of probability 0 (at the beginning, too), some divergent."""
    maps = rng.uniform(-1.05, 1.05, (n, most, 6))
    counts = rng.integers(1, most + 1, n)
    share = np.where(np.arange(most) < counts[:, None], rng.random((n, most)) ** 3 + 1e-3, 0.0)
    none = (rng.random((n, most)) < 0.2) & (np.arange(most) != counts[:, None] - 1)
    share = np.where(none, 0.0, share)
    divergent = rng.random(n) < 0.25
    maps[divergent] *= rng.uniform(1.0, 40.0, (divergent.sum(), 1, 1))
    return ifs.systems(maps, share / share.sum(1, keepdims=True), counts)


def random_numbers(rng, n):
    """Draw numbers and orientations of n images."""
    numbers = torch.from_numpy(rng.integers(0, 2**63, (2, n)))
    return numbers[0], numbers[1], torch.from_numpy(rng.integers(0, 8, n).astype(np.uint8))


def compare(gpu, rng, n, most, size, points):
    """Every kernel on ``n`` random systems, by the reference and by what the context manager ``gpu`` sets up."""
    systems, (numbers, masks, orientations) = random_systems(rng, n, most), random_numbers(rng, n)
    seed = int(rng.integers(2**63))
    which = torch.from_numpy(rng.integers(0, n, n + 3))
    _, later, turned = random_numbers(rng, n + 3)

    def everything(systems, numbers, masks, orientations, which, later, turned):
        common = {"seed": seed, "points": points, "size": size}
        bitmaps = occupancy(systems, numbers, **common)
        yield "occupancy", bitmaps
        for mask in (False, True):
            lit = mask_bitmaps(bitmaps, which, later, seed=seed, mask=mask)
            drawn = masked_occupancy(systems, numbers, masks, mask=mask, **common)
            for name, found in (("masked bitmaps", lit), ("masked occupancy", drawn)):
                places = torch.arange(len(found)).to(which)
                shown = render_bitmaps(found, places, places, turned[: len(found)], seed=seed, **STYLES["points"])
                yield f"{name}, mask={mask}", shown
        yield "covered_pixels", covered_pixels(systems, numbers, **common)
        for name, style in STYLES.items():
            for color in (False, True):
                yield (
                    f"{name}, color={color}",
                    render_systems(systems, numbers, masks, orientations, color=color, **common, **style),
                )
            yield f"{name}, kept", render_bitmaps(bitmaps, which, later, turned, seed=seed, **style)

    inputs = (systems, numbers, masks, orientations, which, later, turned)
    expected = list(everything(*inputs))
    with gpu as move:
        found = list(everything(*(move(thing) for thing in inputs)))
    for (name, wanted), (_, image) in zip(expected, found, strict=True):
        assert torch.equal(wanted, image.cpu()), f"{name}: {n} systems of {most} maps, {size} pixels, {points} points"
    return sum(len(wanted) for _, wanted in expected)


class Emulated:
    """The emulated GPU, as :func:`compare` enters it."""

    def __init__(self, *arguments, **keywords):
        self.context = emulated_gpu(*arguments, **keywords)

    def __enter__(self):
        self.context.__enter__()
        return lambda thing: thing

    def __exit__(self, *error):
        return self.context.__exit__(*error)


class Real:
    """The real GPU."""

    def __enter__(self):
        return lambda thing: thing.to(torch.device("cuda", 0))

    def __exit__(self, *error):
        return None


CASES = [(most, size) for most in (1, 2, 3, 4, 5, 8, 9, 64) for size in (16, 33, 224, 362, 512)]


@pytest.mark.parametrize(("most", "size"), CASES)
def test_one_thread_a_block_draws_the_reference(most, size):
    require_compiler()
    rng = np.random.default_rng([most, size])
    for limits in (HOPPER, TINY):
        compare(Emulated(limits), rng, 5, most, size, int(rng.choice([1, 50, 127, 130, 1000, 8192, 20_000])))


def test_a_thousand_pixels_and_a_hundred_thousand_points():
    require_compiler()
    compare(Emulated(ADA), np.random.default_rng(3), 3, 6, 1000, 100_000)


@pytest.mark.parametrize("threads", [2, 7, 128])
def test_several_threads_a_block_agree(threads):
    """Barriers that are missing or not reached by all show here."""
    require_compiler()
    rng = np.random.default_rng(threads)
    for most, size in ((2, 64), (7, 33)):
        compare(Emulated(HOPPER, threads), rng, 2, most, size, 9000)


def test_no_images_are_none():
    require_compiler()
    systems, numbers = random_systems(np.random.default_rng(0), 1, 2), torch.zeros(0, dtype=torch.int64)
    none = Systems(systems.maps[:0], systems.thresholds[:0], systems.counts[:0])
    arguments = {"seed": 0, "points": 100, "size": 32, "color": False, "patch": True, "mask": True}
    with emulated_gpu():
        images = render_systems(none, numbers, numbers, numbers.to(torch.uint8), **arguments)
    assert images.shape == (0, 1, 32, 32)


@pytest.mark.parametrize("limits", [HOPPER, ADA, TINY])
@pytest.mark.parametrize("size", [16, 33, 362, 512, 1000, 1024, 2048, 8192])
def test_bands_cover_the_canvas_and_fit(size, limits):
    words = (size + 31) // 32
    if limits is TINY and size > 2048:
        pytest.skip("no GPU has so little")
    rows, count, shared = gpu.bands(size, limits)
    assert rows * (count - 1) < size <= rows * count
    assert 4 * words * (rows + 3) <= shared <= limits.shared_a_block - gpu.STATIC_SHARED
    if size <= 864:
        assert limits is TINY or count == 1


@pytest.mark.gpu
@pytest.mark.parametrize(("most", "size"), [*CASES, (2, 1024), (7, 2048)])
def test_the_gpu_draws_the_reference(most, size):
    rng = np.random.default_rng([most, size])
    for points in (1, 127, 20_000):
        compare(Real(), rng, 150, most, size, points)
