"""The addresses of a batch in NumPy, the reference; the shuffle is ``gpurender.kernels.shuffle.order.permuted``.

Formula::

    place_i    = floor(((position + i) mod length) / repeats)
    sample_i   = permuted(place_i), or place_i
    number_i   = sample_i + epoch length               label_i  = floor(sample_i / instances)
"""

import numpy as np
import torch

from gpurender.kernels.shuffle.order import last_epoch, permuted
from gpurender.util import checks


def addresses(cursor, count, length, seed, instances, shuffle, repeats):
    """Samples, numbers and labels, int64 [count] each."""
    epoch, position = cursor.tolist()
    checks.integer("cursor[0]", epoch, 0, last_epoch(length))
    checks.integer("cursor[1]", position, 0, length - 1)
    samples = (position + np.arange(count, dtype=np.int64)) % length // repeats
    if shuffle:
        samples = permuted(samples, length, seed, epoch)
    return tuple(torch.from_numpy(x) for x in (samples, samples + epoch * length, samples // instances))
