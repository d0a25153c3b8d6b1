"""The chaos game's vector loops in Numba against their definitions: a walk with a check per step, a mask by bits."""

import numpy as np
import pytest
import torch

from gpurender.kernels.chaos_game import Systems, cpu, cpu_walk
from gpurender.kernels.device import cpu_bitmap, cpu_texture
from gpurender.kernels.philox import philox

KEY = (0x9E3779B9, 0x1234)
SURVIVAL = [(510 / 511) ** gap * 2.0**32 for gap in range(9000)]


def random_system(rng, count, spread):
    """Maps float32 [count, 6] with coefficients within ``spread``, and thresholds of random probabilities."""
    maps = rng.uniform(-spread, spread, (count, 6)).astype(np.float32)
    shares = np.cumsum(rng.dirichlet(np.ones(count)))
    return maps, np.minimum(np.floor(shares * 65536 + 0.5), 65536).astype(np.uint32)


def walked(system, number, points):
    maps, thresholds = torch.from_numpy(system[0]), torch.from_numpy(system[1].view(np.int32))
    systems = Systems(maps[None], thresholds[None], torch.tensor([len(system[0])], dtype=torch.int32, device="cpu"))
    draw_ids = torch.tensor([number | 7 << 32], dtype=torch.int64, device="cpu")
    return cpu_walk.walks(systems, draw_ids, KEY[0] | KEY[1] << 32, points)()(0)


def step(maps, which, x, y):
    """One step of many walkers, with the range looked at: float32 [W] each, rounded after every operation."""
    a, b, c, d, e, f = maps[which].T
    with np.errstate(over="ignore", invalid="ignore"):
        x, y = a * x + b * y + e, c * x + d * y + f
        inside = (np.abs(x) <= 2.0**62) & (np.abs(y) <= 2.0**62)
    return np.where(inside, x, np.float32(0)), np.where(inside, y, np.float32(0))


def chosen(thresholds, bits):
    return (bits[:, None] >= thresholds[:-1].astype(np.int64)).sum(1)


def drawn(blocks, number):
    """The sixteen-bit picks of Philox blocks, int64 [blocks, 8], in the order of their use."""
    counters = np.zeros((len(blocks), 4), np.uint32)
    counters[:, 0], counters[:, 1], counters[:, 2:] = blocks, int(cpu_walk.POINTS), (number, 7)
    return philox(counters, KEY).astype("<u4").view("<u2").reshape(len(blocks), 8).astype(np.int64)


def walked_by_definition(system, number, points):
    """The points, float32 [points] twice: a pilot gives the starts, then all walkers take step after step."""
    maps, thresholds = system
    walkers = cpu_walk.walker_count(points)
    picks = drawn(2**31 + np.arange(2 * walkers), number).ravel()
    which, x, y = chosen(thresholds, picks), np.zeros(1, np.float32), np.zeros(1, np.float32)
    starts = []
    for turn in range(16 * walkers):
        if turn % 16 == 0:
            starts.append((x[0], y[0]))
        x, y = step(maps, which[turn : turn + 1], x, y)
    x, y = np.array(starts, np.float32).T
    xs, ys = [x], [y]
    for turn in range((points - 1) // walkers):
        if turn % 8 == 0:
            picks = drawn(turn // 8 * walkers + np.arange(walkers), number)
        x, y = step(maps, chosen(thresholds, picks[:, turn % 8]), x, y)
        xs.append(x)
        ys.append(y)
    return np.concatenate(xs)[:points], np.concatenate(ys)[:points]


@pytest.mark.parametrize("count", [1, 2, 3, 5, cpu_walk.FEW, cpu_walk.FEW + 1, 20])
@pytest.mark.parametrize("points", [1, 63, 128, 1000, 8191, 8192, 8193, 10_007])
def test_a_walk_is_as_defined(count, points):
    rng = np.random.default_rng(100 * count + points)
    for spread in (0.5, 0.9):
        system = random_system(rng, count, spread)
        xs, ys, frame = walked(system, points, points)
        expected = walked_by_definition(system, points, points)
        assert np.array_equal(xs, expected[0])
        assert np.array_equal(ys, expected[1])
        assert np.array_equal(frame, np.array([xs.min(), xs.max(), ys.min(), ys.max()]))


@pytest.mark.parametrize("count", [2, cpu_walk.FEW, cpu_walk.FEW + 1])
@pytest.mark.parametrize("growth", [1.5, 10.0, 1e3, 1e6, 3e38])
@pytest.mark.parametrize("columns", [[0], [3], [1, 2]], ids=["along x", "along y", "turning"])
def test_a_walker_out_of_range_begins_again_at_the_origin(growth, columns, count):
    maps = np.array([[0.0, 0.0, 0.0, 0.0, 0.3, -0.1]] * count, np.float32)
    maps[0::2, columns], maps[1::2, columns] = growth, -growth
    system = maps, np.arange(1, count + 1, dtype=np.uint32) * np.uint32(65536 // count)
    xs, ys, frame = walked(system, 1, 20_000)
    if growth < 1e6:
        assert 2.0**50 < np.abs(frame).max() <= 2.0**62
    expected = walked_by_definition(system, 1, 20_000)
    assert np.array_equal(xs, expected[0])
    assert np.array_equal(ys, expected[1])
    assert np.array_equal(frame, np.array([xs.min(), xs.max(), ys.min(), ys.max()]))


@pytest.mark.parametrize("numbers", [[5, 5, 5], [5, 5, 6], [6, 5, 5], [5]])
def test_images_of_one_number_share_their_picks_and_those_of_several_do_not(numbers, monkeypatch):
    rng = np.random.default_rng(3)
    pairs = [random_system(rng, 2, 0.7) for _ in numbers]
    systems = Systems(
        torch.from_numpy(np.stack([maps for maps, _ in pairs])),
        torch.from_numpy(np.stack([thresholds for _, thresholds in pairs]).view(np.int32)),
        torch.full((len(pairs),), 2, dtype=torch.int32, device="cpu"),
    )
    drawn, draw = [], cpu_walk.draw_picks
    monkeypatch.setattr(cpu_walk, "draw_picks", lambda *arguments: (drawn.append(1), draw(*arguments)))
    draw_ids = torch.tensor(numbers, dtype=torch.int64, device="cpu") | 7 << 32
    walk = cpu_walk.walks(systems, draw_ids, KEY[0] | KEY[1] << 32, 9000)()
    for n in reversed(range(len(numbers))):
        xs, ys, _ = walk(n)
        expected = walked_by_definition(pairs[n], numbers[n], 9000)
        assert np.array_equal(xs, expected[0])
        assert np.array_equal(ys, expected[1])
    assert len(drawn) == (1 if len(set(numbers)) == 1 else len(numbers))


def walk_of_many(pairs, numbers, points):
    """The walk of systems of up to three maps, and of its own number each."""
    maps, thresholds = np.zeros((len(pairs), 3, 6), np.float32), np.full((len(pairs), 3), 65536, np.uint32)
    for n, (some, limits) in enumerate(pairs):
        maps[n, : len(some)], thresholds[n, : len(limits)] = some, limits
    counts = torch.tensor([len(some) for some, _ in pairs], dtype=torch.int32, device="cpu")
    systems = Systems(torch.from_numpy(maps), torch.from_numpy(thresholds.view(np.int32)), counts)
    draw_ids = torch.tensor(numbers, dtype=torch.int64, device="cpu") | 7 << 32
    return cpu_walk.walks(systems, draw_ids, KEY[0] | KEY[1] << 32, points)()


WIDE = np.array([[1e3, 0, 0, 0, 1, 0], [-1e3, 0, 0, 0, 1, 0]], np.float32), np.array([32768, 65536], np.uint32)
BRIEFLY = (  # one step of map 0 leaves the range of |x| <= 2^62, one of map 1 would lead back into it
    np.array([[2.0**80, 0, 0, 0, 1, 0], [2.0**-100, 0, 0, 0, 1, 0]], np.float32),
    np.array([20_000, 65536], np.uint32),
)


@pytest.mark.parametrize("images", [1, 3, 4, 16, 17, 21, 40])
@pytest.mark.parametrize("other", [None, "three maps", "its own picks", "leaves the range", "leaves it for one step"])
@pytest.mark.parametrize(("points", "threads"), [(700, 1), (9000, 2)])
def test_pilots_side_by_side_are_those_of_each_image_alone(images, other, points, threads, monkeypatch):
    """Groups of sixteen, of which the last has at least four; not the group of an image that is unlike the others."""
    rng = np.random.default_rng(images)
    pairs, numbers, place = [random_system(rng, 2, 0.8) for _ in range(images)], [5] * images, images * 2 // 3
    if other == "three maps":
        pairs[place] = random_system(rng, 3, 0.6)
    elif other == "its own picks":
        numbers[place] = 6
    elif other is not None:
        pairs[place] = WIDE if other == "leaves the range" else BRIEFLY
    played, play = [], cpu_walk.pilots_of_two
    monkeypatch.setattr(cpu_walk, "pilots_of_two", lambda *arguments: (played.append(1), play(*arguments))[1])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    walk = walk_of_many(pairs, numbers, points)
    torch.set_num_threads(before)
    groups = [range(begin, min(begin + 16, images)) for begin in range(0, images, 16)]
    unlike = place if other in ("three maps", "its own picks") else None
    assert len(played) == sum(len(group) >= 4 and unlike not in group for group in groups)
    for n in range(images):
        xs, ys, _ = walk(n)
        expected = walked_by_definition(pairs[n], numbers[n], points)
        assert np.array_equal(xs, expected[0])
        assert np.array_equal(ys, expected[1])


def mask_by_definition(size, number):
    """The mask of an image, bit by bit: bool [size, size]."""
    calls = ((size + 31) // 32 + 3) // 4
    counters = np.zeros((size * calls, 4), np.uint32)
    counters[:, 0], counters[:, 1:] = np.arange(size * calls), (int(cpu_texture.MASK), number, 0)
    words = philox(counters, KEY).reshape(size, -1)
    lit = (words[:, :, None] >> np.arange(32, dtype=np.uint32) & 1).reshape(size, -1)[:, :size].astype(bool)
    for y in range(size):
        x, drawn = -1, 0
        while True:
            counter = np.array([[(y << 16) | drawn // 4, int(cpu_texture.MASK_EXCESS), number, 0]], np.uint32)
            word = int(philox(counter, KEY)[0, drawn % 4])
            x += 1 + max((gap for gap in range(1, size + 1) if word < int(SURVIVAL[gap])), default=0)
            if x >= size:
                break
            lit[y, x], drawn = True, drawn + 1
    return lit


@pytest.mark.parametrize("size", [16, 31, 33, 130, 224, 362, 512, 1000])
def test_a_mask_is_drawn_as_defined(size):
    rows = [y for y in range(size) if y < 100]  # the definition takes a millisecond per bit
    mask = np.empty((size, (size + 31) // 32), np.uint32)
    cpu_texture.draw_mask(cpu_texture.gap_tables(size), np.array(KEY, np.uint32), np.array([5, 0], np.uint32), mask)
    found = (mask[:, :, None] >> np.arange(32, dtype=np.uint32) & 1).reshape(size, -1)[:, :size].astype(bool)
    assert np.array_equal(found[rows], mask_by_definition(size, 5)[rows])


@pytest.mark.parametrize("size", [1, 16, 512, cpu_texture.NEAR, cpu_texture.NEAR + 1, 4000, 8192])
def test_gaps_are_those_of_a_search(size):
    """At every border between two gaps and beside it, and at random words."""
    tables = cpu_texture.gap_tables(size)
    survival = tables[0].astype(np.int64)
    assert len(survival) == size + 2
    borders = survival[1 : size + 1]
    words = np.concatenate([borders - 1, borders, borders + 1, np.random.default_rng(0).integers(0, 2**32, 2000)])
    words = np.unique(np.clip(words, 0, 2**32 - 1))
    expected = (words[:, None] < borders).sum(1)
    assert [int(cpu_texture.gap_of(np.uint32(word), tables)) for word in words] == expected.tolist()
    drawn = np.empty(len(words), np.int32)
    cpu_texture.draw_gaps(words.astype(np.uint32), tables, drawn)
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize("size", [16, 37, 64, 130, 362])
@pytest.mark.parametrize("orientation", range(8))
def test_bits_become_bytes_and_are_oriented(size, orientation):
    rng = np.random.default_rng(size)
    bits = rng.random((size, size)) < 0.4
    padded = np.zeros((size, (size + 31) // 32 * 32), bool)
    padded[:, :size] = bits
    lit = np.packbits(padded, axis=1, bitorder="little").view(np.uint32)
    image = np.empty((size, size), np.uint8)
    cpu.paint(
        lit,
        False,
        False,
        cpu_texture.gap_tables(size),
        np.zeros(2, np.uint32),
        np.zeros(2, np.uint32),
        orientation,
        image,
    )
    expected = bits[:: -1 if orientation & 1 else 1, :: -1 if orientation & 2 else 1]
    assert np.array_equal(image, 127 * (expected.T if orientation & 4 else expected))


@pytest.mark.parametrize("size", [16, 33, 100])
def test_a_patch_lies_right_of_and_below_its_point(size):
    rng = np.random.default_rng(size)
    points = rng.random((size, size)) < 0.02
    padded = np.zeros((size, (size + 31) // 32 * 32), bool)
    padded[:, :size] = points
    lit = np.empty((size, padded.shape[1] // 32), np.uint32)
    cover = np.packbits(padded, axis=1, bitorder="little").view(np.uint32)
    cpu_texture.texture(cover, False, cpu_texture.gap_tables(size), np.zeros(2, np.uint32), np.zeros(2, np.uint32), lit)
    found = np.unpackbits(lit.view(np.uint8), axis=1, bitorder="little")[:, :size].astype(bool)
    expected = np.zeros((size + 3, size + 3), bool)
    for y, x in np.argwhere(points):
        expected[y + 1 : y + 4, x + 1 : x + 4] = True
    assert np.array_equal(found, expected[:size, :size])


def test_bits_are_counted():
    cover = np.random.default_rng(0).integers(0, 2**32, (20, 3), dtype=np.uint32)
    assert cpu_bitmap.count_bits(cover) == np.unpackbits(cover.view(np.uint8)).sum()
