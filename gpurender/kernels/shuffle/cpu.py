"""The addresses of a batch in NumPy, the reference: the index at a position, its draw id and its label.

Formula::

    place_i    = floor(((position + i) mod length) / repeats)
    index_i    = permute(place_i), or place_i
    draw_id_i  = index_i + epoch length               label_i  = floor(index_i / instances)

No array has the size of the dataset. The shuffle is a keyed bijection. Write a position as a cell of a table of ``a``
columns and ``b`` rows, the smallest nearly square table that holds the epoch::

    a = max(4, ceil(sqrt(length)))      b = max(4, ceil(length / a))
    x = row * a + column

    even rounds:  column <- (column + F(row)) mod a
    odd rounds:   row    <- (row + F(column)) mod b
    F(half)     = (Philox word at (seed, Stream.ORDER, draw id = epoch * ROUNDS + round, block = half) * side) >> 32

Every round adds to one coordinate a value that depends only on the other coordinate, which stays unchanged. So a round
can be undone, and the rounds together permute the ``a * b`` cells whatever ``F`` is. (A Feistel network over a mixed
radix: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, their generalised Feistel cipher.)

Cells at or beyond ``length`` are walked over: the rounds are applied again until the result is below ``length``.
Walking along the cycles of a permutation from an element of a set to the next element of this set is a permutation of
the set (same paper), and the walk ends, because a cycle returns to its beginning. From length 16 on ``a * b < length +
a``, so walking is rare.

Sides are at least 4 and there are 10 rounds so that tiny epochs are shuffled well, too: in simulations of epochs of 4,
5 and 6 samples the chi-square distance of the frequencies of all orders from uniform frequencies was below 1e-5 (with
exclusive-or instead of the sum, as in the usual balanced network, the distance was 1e-2).
"""

import numpy as np
import torch

from gpurender.kernels.philox import bounded, philox
from gpurender.kernels.shuffle.params import MAX_LENGTH, ROUNDS, grid_shape, last_epoch
from gpurender.numerics.streams import Stream, halves
from gpurender.util import checks


def addresses(cursor, count, length, seed, instances, shuffle, repeats):
    """Return indices, draw ids and labels, int64 ``[count]`` each."""
    epoch, position = cursor.tolist()
    checks.integer("cursor[0]", epoch, 0, last_epoch(length))
    checks.integer("cursor[1]", position, 0, length - 1)
    indices = (position + np.arange(count, dtype=np.int64)) % length // repeats
    if shuffle:
        indices = permute(indices, length, seed, epoch)
    return tuple(torch.from_numpy(x) for x in (indices, indices + epoch * length, indices // instances))


def permute(positions: np.ndarray, length: int, seed: int, epoch: int | np.ndarray) -> np.ndarray:
    """Return the indices at positions of a shuffled epoch: a bijection on ``[0, length)`` for every seed and epoch.

    Args:
        positions: integers ``[n]`` in ``[0, length)``, in any order.
        length: samples per epoch, 1 to 2**62.
        seed: unsigned 64-bit key.
        epoch: 0 to ``last_epoch(length)``: one epoch, or one per position, int64 ``[n]``.

    Returns:
        int64 ``[n]``.

    Raises:
        TypeError, ValueError: a wrong argument; the message has its name, its value and the allowed values.
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

    columns, rows = grid_shape(length)
    outside, epochs = np.arange(len(cells)), np.broadcast_to(epochs, len(cells))
    while outside.size:
        cells[outside] = _rounds(cells[outside], columns, rows, seed, epochs[outside])
        outside = outside[cells[outside] >= length]
    return cells


def _rounds(cells: np.ndarray, columns: int, rows: int, seed: int, epochs: np.ndarray) -> np.ndarray:
    """Apply the rounds to cells of the table; int64 ``[n]`` in and out, both in ``[0, columns * rows)``."""
    row, column = np.divmod(cells, columns)
    for i in range(0, ROUNDS, 2):
        number = epochs * ROUNDS + i
        column = (column + bounded(_words(row, number, seed), columns)) % columns
        row = (row + bounded(_words(column, number + 1, seed), rows)) % rows
    return row * columns + column


def _words(half: np.ndarray, number: np.ndarray, seed: int) -> np.ndarray:
    """Return one word at each address (seed, ORDER, draw id, block = half); uint32 ``[n]``."""
    counters = np.empty((len(half), 4), dtype=np.uint32)
    counters[:, 0] = half
    counters[:, 1] = Stream.ORDER
    counters[:, 2], counters[:, 3] = number & 0xFFFFFFFF, number >> 32
    return philox(counters, halves(seed))[:, 0]
