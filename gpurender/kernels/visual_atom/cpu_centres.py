"""Centres of atoms on the CPU, by torch's operators: the reference.

Formula (S the size, u uniform, i a bounded integer, each of one word; x has word 0, y word 1)::

    whole    (S + low + i) / 2,  i in [0, high - low]
    else     S / 2 (low + (high - low) u + 1)

in float64, rounded to float32. Address: block 0 at ``(seed, Stream.NUCLEUS, draw_id)``.
"""

import torch

from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.streams import Stream


def draw_centres(draw_ids: torch.Tensor, seed: int, size: int, low: float, high: float, whole: bool) -> torch.Tensor:
    """Do ``gpurender.kernels.visual_atom.draw_centres`` on the CPU; the arguments are checked."""
    u = words(seed, Stream.NUCLEUS, draw_ids)[:, :2]
    if whole:
        return (0.5 * (size + low + bounded(u, int(high - low) + 1)).double()).float()
    return (0.5 * size * (low + (high - low) * uniform(u) + 1.0)).float()
