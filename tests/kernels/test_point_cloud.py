"""Point clouds: against their definition, a float64 camera, and the CUDA C against Numba, byte for byte."""

import contextlib

import numpy as np
import pytest
import torch

from gpurender.kernels.philox import philox
from gpurender.kernels.point_cloud import UNITS, SpaceSystems, cpu, moments, render_clouds
from gpurender.numerics.streams import Stream
from gpurender.recipes import ifs
from tests.support.emulation import HOPPER, emulated_gpu, require_compiler
from tests.support.released_space import windows

SEED = 2**63 + 5


def random_systems(rng, n, most, spread=1.0):
    """Systems of 1 to ``most`` maps, some of probability 0, some that contract, some that diverge."""
    maps = rng.uniform(-spread, spread, (n, most, 12))
    maps[:, :, :9] *= rng.choice([0.5, 1.0, 3.0], (n, 1, 1))
    maps[rng.random(n) < 0.1] *= 1e9
    counts = rng.integers(1, most + 1, n)
    shares = np.where(np.arange(most) < counts[:, None], rng.random((n, most)) ** 3 + 1e-3, 0.0)
    none = (rng.random((n, most)) < 0.2) & (np.arange(most) != counts[:, None] - 1)
    shares = np.where(none, 0.0, shares)
    return systems(maps, shares, counts)


def systems(maps, shares, counts):
    shares = np.asarray(shares, float)
    return SpaceSystems(
        torch.from_numpy(np.asarray(maps, np.float32)),
        torch.from_numpy(ifs.thresholds(shares / shares.sum(1, keepdims=True))),
        torch.from_numpy(np.asarray(counts, np.int32)),
    )


def single(*rows):
    """One system of equally probable maps."""
    return systems([rows], [[1] * len(rows)], [len(rows)])


def cameras(azimuths):
    return torch.from_numpy(np.stack([np.cos(azimuths), np.sin(azimuths)], axis=1).astype(np.float32))


def random_images(rng, n):
    return torch.from_numpy(rng.integers(-(2**63), 2**63, n)), cameras(rng.uniform(0, 7, n))


def played(one, number, steps):
    """The points of one system's game, float32 [n, 3]."""
    cloud = np.empty((3, steps), np.float32)
    words = np.array([number & 0xFFFFFFFF, number >> 32], np.uint32)
    return cloud[:, : cpu.play(*cpu.unpadded(one)(0), cpu.key_of(SEED), words, *cloud)].T


def defined(one, number, steps):
    """The same, one point at a time, by the formulas of cpu.py."""
    maps, thresholds = one.maps[0].numpy(), one.thresholds[0, : int(one.counts[0]) - 1].numpy()
    calls = -(-steps // 8)
    counters = np.zeros((calls, 4), np.uint32)
    counters[:, 0], counters[:, 1] = np.arange(calls), int(Stream.POINTS)
    counters[:, 2], counters[:, 3] = number & 0xFFFFFFFF, number >> 32
    picks = philox(counters, (SEED & 0xFFFFFFFF, SEED >> 32)).astype("<u4").view("<u2").ravel().astype(int)
    points, (x, y, z) = [], np.zeros(3, np.float32)
    for pick in picks[:steps]:
        a, b, c, d, e, f, g, h, i, j, k, m = maps[(pick >= thresholds).sum()]
        with np.errstate(over="ignore", invalid="ignore"):
            x, y, z = (
                (a * x + b * y) + (c * z + j),
                (d * x + e * y) + (f * z + k),
                (g * x + h * y) + (i * z + m),
            )
        if not max(abs(x), abs(y), abs(z)) <= 2.0**62 or np.isnan([x, y, z]).any():
            break
        points.append((x, y, z))
    return np.array(points, np.float32).reshape(-1, 3)


@pytest.mark.parametrize("most", [1, 2, 7, 64])
def test_a_game_is_as_defined(most):
    rng = np.random.default_rng(most)
    lengths = []
    for steps in (1, 7, 8, 9, 1023, 1024, 1025, 3001):
        one, number = random_systems(rng, 1, most), int(rng.integers(2**63))
        points = played(one, number, steps)
        assert np.array_equal(points, defined(one, number, steps))
        lengths.append(len(points) == steps)
    assert any(lengths)


def test_a_game_ends_before_the_first_point_out_of_range():
    """x doubles: 1, 3, 7, ..., of which 2^62 - 1 (2^62 in float32) is the last in range."""
    doubling = single([2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0])
    points = played(doubling, 3, 1000)
    assert len(points) == 62
    assert points[-1].tolist() == [2.0**62, 0, 0]
    assert moments(doubling, torch.tensor([3]), seed=SEED, points=1001).tolist() == [[62, 0, 0, 0, 0, 0, 0]]
    assert moments(doubling, torch.tensor([3]), seed=SEED, points=63)[0, 0] == 62
    assert moments(doubling, torch.tensor([3]), seed=SEED, points=63)[0, 1:].any()
    assert 0 < (render_clouds(doubling, torch.tensor([3]), cameras([0.3]), seed=1, points=999, size=64) > 0).sum() < 9


def test_a_cloud_of_no_point_is_black_and_one_of_one_point_is_a_pixel():
    far = single([0] * 9 + [1e19, 0, 0])
    point = single([0] * 9 + [3.0, -2.0, 1.0], [0] * 9 + [3.0, -2.0, 1.0])
    tiny = single(*([*np.eye(3).ravel() * 0.5, *t] for t in 1e-30 * np.eye(3)))
    flat = single(*([*np.diag([0.5, 0, 0]).ravel(), x, 0, 0] for x in (0.0, 0.5)))
    size = 33
    images = [
        render_clouds(one, torch.tensor([9]), cameras([0.0]), seed=SEED, points=500, size=size)[0]
        for one in (far, point, tiny, flat)
    ]
    assert not images[0].any()
    assert images[2].nonzero().tolist() == [[16, 16]]  # narrower than 2^-60
    assert (images[1] > 0).sum() == 1
    assert images[3].any()
    assert set(images[3].unique().tolist()) <= {0, 255}


def test_pixels_are_those_of_a_float64_camera():
    """Our points, normalised and seen by matrices in float64: the same pixels but for rounding at their borders."""
    rng = np.random.default_rng(4)
    size, equal, points_seen = 224, 0, 0
    for trial in range(40):
        one = random_systems(rng, 1, 6, 0.7)
        number, azimuth = int(rng.integers(2**62)), rng.uniform(0, 2 * np.pi)
        points = played(one, number, 3000).astype(np.float64)
        if len(points) < 3000 or np.ptp(points) < 1e-6:
            continue
        scaled = (points - points.min()) / np.ptp(points) * 2 - 1
        scaled -= scaled.sum(0) / (len(points) + 1)
        seen = windows(scaled, azimuth, size)
        image = render_clouds(one, torch.tensor([number]), cameras([azimuth]), seed=SEED, points=3001, size=size)[
            0
        ].numpy()
        column, row = np.floor(seen[:, :2]).astype(int).T
        inside = (column < size) & (row < size)
        wanted = np.zeros_like(image)
        wanted[row[inside], column[inside]] = 255
        off = np.abs(seen[:, :2] - np.rint(seen[:, :2])).min(axis=1) > 1e-3  # no rounding can move these
        assert (image[row[inside & off], column[inside & off]] == 255).all(), trial
        allowed = wanted.copy()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = ~off & inside & (row + dy >= 0) & (row + dy < size) & (column + dx >= 0) & (column + dx < size)
                allowed[row[near] + dy, column[near] + dx] = 255
        assert not image[allowed == 0].any(), trial
        equal += (image == wanted).all()
        points_seen += 1
    assert points_seen >= 20
    assert equal >= points_seen * 0.6


@pytest.mark.parametrize(("azimuth", "lit"), [(0.5 * np.pi, 1), (1.5 * np.pi, 2)])
def test_a_point_outside_the_window_is_clipped(azimuth, lit):
    """99 of 100 points at the lowest corner, where the centroid is, and the others 1 unit above it and 2 units aside.

    From one side these are at depth 2, where the window is 2 tan(22.5 deg) = 0.83 units high above the centroid; from
    the other at depth 6, where it is 2.5. Row 0 is the lowest.
    """
    two = systems([[[0.0] * 12, [*[0.0] * 10, 0.5, 1.0]]], [[0.99, 0.01]], [2])
    image = render_clouds(two, torch.tensor([1]), cameras([azimuth]), seed=2, points=5000, size=200)[0]
    rows, columns = image.nonzero().T.tolist()
    assert len(rows) == lit
    assert 98 <= rows[0] <= 100
    if lit == 2:
        assert abs(rows[1] - (100 + 100 / (6 * np.tan(np.pi / 8)))) < 3
        assert columns == [100, 100]


def test_moments_are_integer_sums():
    rng = np.random.default_rng(8)
    batch, ids = random_systems(rng, 12, 5, 0.6), torch.from_numpy(rng.integers(0, 2**62, 12))
    found = moments(batch, ids, seed=SEED, points=2000).numpy()
    whole = 0
    for n in range(12):
        points = played(batch[n : n + 1], int(ids[n]), 1999)
        assert found[n, 0] == len(points)
        if len(points) < 1999:
            assert not found[n, 1:].any()
            continue
        low, span = points.min(), np.float32(np.ptp(points))
        t = ((points - low) * (np.float32(UNITS) / span) + np.float32(0.5)).astype(np.int64)
        assert np.array_equal(found[n, 1:4], t.sum(0))
        assert np.array_equal(found[n, 4:], (t * t).sum(0))
        whole += 1
    assert 3 <= whole < 12


def compare(rng, n, most, size, points, move, context):
    batch, (ids, directions) = random_systems(rng, n, most), random_images(rng, n)
    common = {"seed": int(rng.integers(2**63)), "points": points}
    wanted = render_clouds(batch, ids, directions, size=size, **common), moments(batch, ids, **common)
    with context():
        moved = [move(thing) for thing in (batch, ids, directions)]
        found = render_clouds(*moved, size=size, **common), moments(*moved[:2], **common)
    for mine, theirs in zip(wanted, found, strict=True):
        assert torch.equal(mine, theirs.cpu()), f"{n} systems of {most} maps, {size} pixels, {points} points"
    return wanted


def same(thing):
    return thing


CASES = [(most, size) for most in (1, 2, 7, 64) for size in (16, 33, 224)]


@pytest.mark.parametrize(("most", "size"), CASES)
def test_one_thread_a_block_draws_the_reference(most, size):
    require_compiler()
    rng = np.random.default_rng([most, size])
    ends = []
    for points in (2, 9, 130, 1025, 1026, 10_000):
        images, found = compare(rng, 6, most, size, points, same, emulated_gpu)
        ends += (found[:, 0] < points - 1).tolist()
        assert points < 130 or images.any()
    assert any(ends)
    assert not all(ends)


@pytest.mark.parametrize("threads", [2, 7, 128])
def test_several_threads_a_block_agree(threads):
    """Barriers that are missing or not reached by all show here."""
    require_compiler()
    rng = np.random.default_rng(threads)
    for most in (2, 7):
        compare(rng, 3, most, 64, 5000, same, lambda: emulated_gpu(HOPPER, threads))


def test_no_images_are_none_and_inputs_need_not_be_contiguous():
    require_compiler()
    rng = np.random.default_rng(6)
    batch, (ids, directions) = random_systems(rng, 3, 4), random_images(rng, 3)
    common = {"seed": 1, "points": 500, "size": 32}
    with emulated_gpu():
        assert render_clouds(batch[:0], ids[:0], directions[:0], **common).shape == (0, 32, 32)
        assert moments(batch[:0], ids[:0], seed=1, points=9).shape == (0, 7)
        spread = ids.repeat_interleave(2)[::2], directions.T.contiguous().T
        assert not any(tensor.is_contiguous() for tensor in spread)
        found = render_clouds(batch, *spread, **common)
    assert torch.equal(found, render_clouds(batch, ids, directions, **common))


@pytest.mark.gpu
@pytest.mark.parametrize(("most", "size"), [*CASES, (7, 1024)])
def test_the_gpu_draws_the_reference(most, size):
    device = torch.device("cuda", 0)
    rng = np.random.default_rng([most, size])
    for points in (2, 130, 10_000):
        compare(rng, 150, most, size, points, lambda thing: thing.to(device), contextlib.nullcontext)
