"""Memory of batches on a CPU, used again after a batch is gone.

A batch of 256 float32 images takes 154 MB. The system maps such memory page by page and zeroes every page whenever it
is requested anew: 55 us per image (Zen 4), where cropping, resizing and normalising an image take 150 us. So the memory
of the last two results that nobody holds any more is kept for the next results of the same size, at most 1 GiB.
"""

import math
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np

KEPT = 2  # free blocks, the latest: while a batch is computed, a prefetched one and the consumer's are in use
LEAST = 1 << 20  # bytes: smaller blocks cost nothing to speak of
MOST = 1 << 29  # bytes: larger blocks are given back to the system

_free: deque[np.ndarray] = deque(maxlen=KEPT)  # appends and pops are atomic: finalizers run in any thread, at any time


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised array, whose memory is used again once all its views and their tensors are gone."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not LEAST <= size <= MOST:
        return np.empty(shape, dtype)
    block = _taken(size)
    # A view of an array refers to the array that owns the memory. This one is of a buffer, so views refer to itself.
    whole = np.frombuffer(block.data, dtype)
    weakref.finalize(whole, _free.append, block).atexit = False
    return whole.reshape(shape)


def _taken(size: int) -> np.ndarray:
    """Return a free block of this size, or a new one; free blocks of other sizes are let go."""
    while True:
        try:
            block = _free.pop()
        except IndexError:
            return np.empty(size, np.uint8)  # NumPy asks the system for huge pages, and torch does not
        if block.nbytes == size:
            return block
