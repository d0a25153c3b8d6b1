"""The order of samples: a bijection that is uniform, seekable and well split among ranks."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpurender.kernels.shuffle import MAX_LENGTH, addresses, last_epoch, permute
from gpurender.kernels.shuffle.params import ROUNDS
from gpurender.loading.ranks import Ranks, rank_slice, steps
from tests.support.optional import optional

stats = optional("scipy.stats")

BIG = 2**40
SEEDS = st.integers(0, 2**64 - 1)
GOLDEN_10 = [9, 0, 3, 8, 4, 2, 5, 7, 6, 1]
GOLDEN_21M = [6406405, 17399379, 4516756]


def whole(length, seed, epoch):
    return permute(np.arange(length), length, seed, epoch)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 255, 257, 1000, 4095, 4097])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_epoch_is_a_permutation(length, epoch):
    assert sorted(whole(length, 3, epoch)) == list(range(length))


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 2**40))
def test_any_length_seed_and_epoch_is_a_permutation(length, seed, epoch):
    assert sorted(whole(length, seed, epoch)) == list(range(length))


def test_a_prime_of_a_million_is_permuted_whole():
    order = whole(1_000_003, 11, 2)
    assert np.array_equal(np.bincount(order, minlength=1_000_003), np.ones(1_000_003, dtype=int))


@pytest.mark.parametrize("length", [BIG - 1, BIG, BIG + 1, MAX_LENGTH])
def test_huge_epochs_are_injective_where_looked_at(length):
    spots = np.unique(
        np.concatenate([np.arange(50_000), length - 1 - np.arange(50_000), np.arange(50_000) * (length // 50_000)])
    )
    samples = permute(spots, length, 5, 1)
    assert samples.dtype == np.int64
    assert samples.min() >= 0
    assert samples.max() < length
    assert len(np.unique(samples)) == len(spots)
    # uniform over the whole range, too: sixteen equal parts get equal shares
    counts = np.bincount(samples // -(-length // 16), minlength=16)
    assert stats.chisquare(counts).pvalue > 1e-4


def positions(*arguments):
    """What a rank is given in a step, int64 [b]."""
    first, count = rank_slice(*arguments)
    return np.arange(first, first + count)


@settings(max_examples=50, deadline=None)
@given(length=st.integers(1, BIG), seed=SEEDS, data=st.data())
def test_a_position_means_the_same_alone_and_in_any_batch(length, seed, data):
    spots = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=20))
    together = permute(np.array(spots), length, seed, 1)
    assert together.tolist() == [permute(np.array([spot]), length, seed, 1)[0] for spot in spots]


def test_the_rounds_are_the_formula_of_the_docstring():
    """A slow transcription with Python integers, Philox written out from the paper's round function."""
    m32 = 2**32 - 1

    def philox(c, k):
        for _ in range(10):
            p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = (p1 >> 32 ^ c[1] ^ k[0], p1 & m32, p0 >> 32 ^ c[3] ^ k[1], p0 & m32)
            k = (k[0] + 0x9E3779B9 & m32, k[1] + 0xBB67AE85 & m32)
        return c[0]

    def slow(x, n, seed, epoch):
        a = max(4, math.ceil(math.sqrt(n)))
        b = max(4, math.ceil(Fraction(n, a)))
        while True:
            row, column = divmod(x, a)
            for r in range(ROUNDS):
                number, half = epoch * ROUNDS + r, column if r % 2 else row
                word = philox((half, 11, number & m32, number >> 32), (seed & m32, seed >> 32))
                if r % 2:
                    row = (row + (word * b >> 32)) % b
                else:
                    column = (column + (word * a >> 32)) % a
            x = row * a + column
            if x < n:
                return x

    for n, seed, epoch in [(1, 0, 0), (3, 2**64 - 1, 1), (17, 5, 2**35), (1000, 2**33 + 1, 9), (10**6 + 3, 1, 4)]:
        spots = np.unique(np.linspace(0, n - 1, 25).astype(np.int64))
        assert permute(spots, n, seed, epoch).tolist() == [slow(int(x), n, seed, epoch) for x in spots]


@pytest.mark.parametrize("length", [2, 3, 5, 8, 17, 23])
def test_an_element_is_everywhere_equally_often(length):
    """Positions of every element over 1,000 epochs against the uniform distribution."""
    orders = np.array([whole(length, 17, epoch) for epoch in range(1000)])  # [epochs, length]
    smallest = min(stats.chisquare(np.bincount(orders[:, i], minlength=length)).pvalue for i in range(length))
    assert smallest > 1e-4 / length


@pytest.mark.parametrize("length", [3, 4, 5])
def test_all_orders_of_a_tiny_epoch_come_equally_often(length):
    trials = 3000
    index = {order: i for i, order in enumerate(itertools.permutations(range(length)))}
    counts = np.zeros(len(index))
    for epoch in range(trials):
        counts[index[tuple(whole(length, 99, epoch).tolist())]] += 1
    assert stats.chisquare(counts).pvalue > 1e-4


def test_neighbours_part():
    """Differences of neighbours are distributed as those of NumPy's shuffle (Kolmogorov-Smirnov)."""
    n = 20_000
    ours, theirs = np.diff(whole(n, 1, 0)), np.diff(np.random.default_rng(0).permutation(n))
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-4


def test_seed_and_epoch_are_not_summed():
    orders = {(seed, epoch): tuple(whole(100, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(set(orders.values())) == 16
    fixed = sum(np.mean(np.array(x) == np.array(y)) for x, y in itertools.combinations(orders.values(), 2)) / 120
    assert fixed == pytest.approx(0.01, abs=0.004)  # two random permutations of 100 agree at 1 position in the mean


def test_the_order_is_golden():
    """A change here is a change of every shuffled run: it needs a new LAYOUT and a line in the CHANGELOG."""
    assert whole(10, 0, 0).tolist() == GOLDEN_10
    assert permute(np.array([0, 1, 20_999_999]), 21_000_000, 42, 7).tolist() == GOLDEN_21M


def test_positions_outside_are_refused():
    for wrong in ([-1], [10], [0, 10**12]):
        with pytest.raises(ValueError, match=r"positions must lie in \[0, 9\]"):
            permute(np.array(wrong), 10, 0, 0)
    assert permute(np.array([], dtype=np.int64), 10, 0, 0).tolist() == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("length", (0, 0, 0)),
        ("length", (2**62 + 1, 0, 0)),
        ("seed", (10, -1, 0)),
        ("seed", (10, 2**64, 0)),
        ("epoch", (10, 0, -1)),
        ("epoch", (10, 0, last_epoch(10) + 1)),
    ],
)
def test_arguments_out_of_range_are_named(name, arguments):
    with pytest.raises(ValueError, match=name):
        permute(np.array([0]), *arguments)


def test_the_last_epoch_still_has_addresses():
    for length in (1, 10, 1000, 21_000_000, MAX_LENGTH):
        epoch = last_epoch(length)
        assert epoch * length + length - 1 < 2**63  # draw numbers are int64
        assert epoch * ROUNDS + ROUNDS - 1 < 2**63
        assert (epoch + 2) * max(length, ROUNDS) > 2**63  # and it is the last epoch
        assert 0 <= permute(np.array([0]), length, 1, epoch)[0] < length


# ------------------------------------------------------------------------------------------------ shares of ranks


@given(
    length=st.integers(1, 400),
    batch=st.integers(1, 20),
    size=st.integers(1, 9),
    drop=st.booleans(),
    start=st.integers(0, 399),
)
def test_the_ranks_share_every_step(length, batch, size, drop, start):
    """In rank order the shares are the step of one process; the tail is split evenly; every rank has as many steps."""
    position, count = start % length, 0
    first = position
    drawn: list[int] = []
    while len((shares := [positions(position, length, batch, Ranks(rank, size), drop) for rank in range(size)])[0]):
        joined = np.concatenate(shares).tolist()
        left, step = length - position, size * batch
        sizes = [len(part) for part in shares]
        assert all(sizes)
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch
        if left >= step:
            assert sizes == [batch] * size
        if left >= size:
            assert joined == list(range(position, position + min(step, left)))
        else:  # fewer samples than ranks: the epoch's first ones fill up
            assert joined == list(range(position, length)) + [i % length for i in range(size - left)]
        drawn += joined[: min(step, left)]
        position += step
        count += 1
    assert all(len(part) == 0 for part in shares)
    assert count == steps(length - first, batch, size, drop)
    assert drawn == list(
        range(first, length if not drop else first + (length - first) // (size * batch) * size * batch)
    )


@pytest.mark.parametrize(
    ("cursor", "got"),
    [
        ([0, 0], "list"),
        (None, "NoneType"),
        (torch.tensor([0, 0], dtype=torch.int32), r"torch.int32 \[2\]"),
        (torch.tensor([0, 0, 0]), r"torch.int64 \[3\]"),
        (torch.tensor(0), r"torch.int64 \[\]"),
    ],
)
def test_a_cursor_of_another_kind_is_refused(cursor, got):
    with pytest.raises(TypeError, match=rf"^cursor must be an int64 tensor \[2\], got {got}$"):
        addresses(cursor, 4, length=10, seed=0, instances=1, shuffle=True)


@pytest.mark.parametrize(
    ("cursor", "named"),
    [
        ((-1, 0), "cursor\\[0\\]"),
        ((last_epoch(10) + 1, 0), "cursor\\[0\\]"),
        ((0, -1), "cursor\\[1\\]"),
        ((0, 10), "cursor\\[1\\]"),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_cursor_out_of_range_is_refused_on_a_cpu(cursor, named, shuffle):
    with pytest.raises(ValueError, match=rf"^{named} must be an integer in \[0, "):
        addresses(torch.tensor(cursor), 4, length=10, seed=0, instances=1, shuffle=shuffle)
    for fine in ((0, 0), (last_epoch(10), 9)):
        addresses(torch.tensor(fine), 4, length=10, seed=0, instances=1, shuffle=shuffle)
