"""Which sample comes when: pure functions of seed, epoch and position, with nothing of the dataset's size in memory.

Two questions, two functions. :func:`permuted`: which sample stands at position p of an epoch? :func:`share`: which
positions does rank r draw in the step that begins at position p?

The shuffle is a keyed bijection. Write a position as a cell of a table of ``a`` columns and ``b`` rows, the
smallest nearly square one that holds the epoch::

    a = max(4, ceil(sqrt(length)))      b = max(4, ceil(length / a))
    x = row * a + column

    even rounds:  column <- (column + F(row)) mod a
    odd rounds:   row    <- (row + F(column)) mod b
    F(half)     = (Philox word at (seed, Stream.ORDER, number = epoch * ROUNDS + round, block = half) * side) >> 32

Every round adds to one coordinate what depends only on the other, which it leaves as it is; so it can be undone,
and the rounds together permute the ``a * b`` cells whatever ``F`` is. (A Feistel network over a mixed radix: Black
and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, their generalised Feistel cipher.)

Cells at or beyond ``length`` are walked over: apply the rounds again until the result is below ``length``. Walking
along the cycles of a permutation from inside a set to the next element inside it is a permutation of that set (same
paper), and it ends, because a cycle comes back to where it began. Since ``a * b < length + a`` from 16 on, walking
is rare.

Sides are at least 4 and rounds are 10 so that tiny epochs are shuffled well, too: in simulations of epochs of 4, 5 and
6 samples the chi-square distance of the frequencies of all orders from uniform ones was below 1e-5 (with exclusive-or
in the place of the sum, as in the usual balanced network, it was 1e-2).
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from gpurender.kernels.philox import philox
from gpurender.loading.ranks import World
from gpurender.numerics.streams import Stream, bounded, halves
from gpurender.util import checks

if TYPE_CHECKING:
    from gpurender.recipes.base import Recipe

ROUNDS = 10
MIN_SIDE = 4
MAX_LENGTH = 2**62  # sides then fit 31 bits and cells 63


def last_epoch(length: int) -> int:
    """The last epoch whose draw numbers, ``epoch * length + sample``, and rounds stay below 2^63 (searches: above)."""
    return 2**63 // max(length, ROUNDS) - 1


def sides(length: int) -> tuple[int, int]:
    """Columns and rows of the table of an epoch."""
    columns = max(MIN_SIDE, math.isqrt(length - 1) + 1)
    return columns, max(MIN_SIDE, -(-length // columns))


def permuted(positions: np.ndarray, length: int, seed: int, epoch: int | np.ndarray) -> np.ndarray:
    """The samples at the given positions of a shuffled epoch: a bijection on ``[0, length)`` for every seed and epoch.

    Args:
        positions: integers ``[n]`` in ``[0, length)``, in any order.
        length: samples of an epoch, 1 to 2**62.
        seed: unsigned 64-bit key.
        epoch: 0 to ``last_epoch(length)``: one, or one for each position, int64 ``[n]``.

    Returns:
        int64 ``[n]``.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    length = checks.integer("length", length, 1, MAX_LENGTH)
    seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
    if isinstance(epoch, np.ndarray):
        epochs = checks.integers("epoch", epoch, last_epoch(length)).astype(np.int64)
    else:
        epochs = np.array([checks.integer("epoch", epoch, 0, last_epoch(length))])
    cells = np.array(positions, dtype=np.int64)  # [n], a copy: the walk below writes into it
    if cells.size and (cells.min() < 0 or cells.max() >= length):
        raise ValueError(f"positions must lie in [0, {length - 1}], got [{cells.min()}, {cells.max()}]")

    columns, rows = sides(length)
    outside, epochs = np.arange(len(cells)), np.broadcast_to(epochs, len(cells))
    while outside.size:
        cells[outside] = _rounds(cells[outside], columns, rows, seed, epochs[outside])
        outside = outside[cells[outside] >= length]
    return cells


def placed(
    recipe: "Recipe", positions: np.ndarray, epoch: int, seed: int, shuffle: bool, repeats: int = 1
) -> np.ndarray:
    """Sample numbers at positions of a recipe's epoch, int64 ``[n]`` both; ``repeats`` positions share a sample."""
    places = positions // repeats
    if recipe.shares is not None:
        return recipe.shares.samples(places, -(-len(recipe) // repeats), epoch, seed, shuffle)
    return permuted(places, len(recipe), seed, epoch) if shuffle else places


def _rounds(cells: np.ndarray, columns: int, rows: int, seed: int, epochs: np.ndarray) -> np.ndarray:
    """The network on cells of the table; int64 ``[n]`` in and out, both in ``[0, columns * rows)``."""
    row, column = np.divmod(cells, columns)
    for i in range(0, ROUNDS, 2):
        number = epochs * ROUNDS + i
        column = (column + bounded(_words(row, number, seed), columns)) % columns
        row = (row + bounded(_words(column, number + 1, seed), rows)) % rows
    return row * columns + column


def _words(half: np.ndarray, number: np.ndarray, seed: int) -> np.ndarray:
    """One word at each address (seed, ORDER, number, block = half); uint32 ``[n]``."""
    counters = np.empty((len(half), 4), dtype=np.uint32)
    counters[:, 0] = half
    counters[:, 1] = Stream.ORDER
    counters[:, 2], counters[:, 3] = number & 0xFFFFFFFF, number >> 32
    return philox(counters, halves(seed))[:, 0]


def steps(length: int, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Batches of an epoch, the same on every rank: a step takes ``world_size * batch_size`` positions."""
    step = world_size * batch_size
    return length // step if drop_last else -(-length // step)


def share(position: int, length: int, batch_size: int, world: World, drop_last: bool) -> np.ndarray:
    """The positions that one rank draws in the step beginning at global ``position``.

    A full step takes the next ``world_size * batch_size`` positions and gives every rank a contiguous run of
    ``batch_size`` of them, so the ranks' batches, concatenated in rank order, are the batch of a single process
    with that batch size. What is left at the end of an epoch is dropped (``drop_last``) or split into contiguous
    runs whose sizes differ by at most one. When fewer samples are left than there are ranks, the ranks without one
    take the first positions of the same epoch once more, one each: every rank has the same number of batches and
    none is empty.

    Returns:
        int64 ``[b]`` with ``b <= batch_size``; empty when the epoch has no (further) step.
    """
    rank, size = world
    left = length - position
    if left >= size * batch_size:
        return np.arange(position + rank * batch_size, position + (rank + 1) * batch_size)
    if drop_last or left <= 0:
        return np.empty(0, dtype=np.int64)
    if left >= size:
        return np.arange(position + left * rank // size, position + left * (rank + 1) // size)
    return np.array([position + rank if rank < left else (rank - left) % length])
