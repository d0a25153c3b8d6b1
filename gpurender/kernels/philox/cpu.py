"""Philox4x32-10, the only generator of the library, in Numba.

Formula (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011), ten times, with the key
bumped between rounds::

    (c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0))
    (k0, k1)         <- (k0 + W0, k1 + W1)

Products are computed in 64 bits and all other results are cast back to 32, because Numba would widen them silently.
"""

import numpy as np
import torch
from numba import njit, uint32, uint64

from gpurender.kernels.philox.params import counters
from gpurender.numerics.streams import halves
from gpurender.runtime.numba_jit import kernel

M0 = np.uint32(0xD2511F53)
M1 = np.uint32(0xCD9E8D57)
W0 = np.uint32(0x9E3779B9)
W1 = np.uint32(0xBB67AE85)
ROUNDS = 10


@njit(forceinline=True)
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Return four uint32 from a counter of four uint32 and a key of two."""
    for _ in range(ROUNDS):
        product0 = uint64(M0) * uint64(c0)
        product1 = uint64(M1) * uint64(c2)
        c0 = uint32(uint32(product1 >> uint64(32)) ^ c1 ^ k0)
        c1 = uint32(product1)
        c2 = uint32(uint32(product0 >> uint64(32)) ^ c3 ^ k1)
        c3 = uint32(product0)
        k0 = uint32(k0 + W0)
        k1 = uint32(k1 + W1)
    return c0, c1, c2, c3


@kernel
def fill(counters, key0, key1, out):
    """Set out[i] = philox4x32(counters[i]); both uint32 [n, 4]."""
    for i in range(counters.shape[0]):
        words = philox4x32(counters[i, 0], counters[i, 1], counters[i, 2], counters[i, 3], key0, key1)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = words


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the random words of counters, uint32 [n, 4] both."""
    out = np.empty_like(counters)
    fill(np.ascontiguousarray(counters), np.uint32(key[0]), np.uint32(key[1]), out)
    return out


def words(draw_ids: torch.Tensor, seed: int, stream: int, blocks: int) -> torch.Tensor:
    """Return the words of draw ids int64 [n]: int64 [n, 4 * blocks]."""
    drawn = philox(counters(draw_ids.numpy().view(np.uint64), stream, blocks), halves(seed))
    return torch.from_numpy(drawn.astype(np.int64)).reshape(len(draw_ids), 4 * blocks)
