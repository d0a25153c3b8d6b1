"""Colour jitter, grayscale and blur: torchvision's transforms as timm chains them, as image operations.

Formula (component i of strength s, u uniform)::

    factor = max(0, 1 - s) + (1 + s - max(0, 1 - s)) u       of hue: -s + 2 s u turns

The file name has no prefix ``cpu_`` or ``gpu_``, because torch computes this on every device. A policy with RandAugment
does not jitter unless it is forced to (timm's rule), so a separate kernel would save a few launches in a few policies.

Addresses: in ``(seed, Stream.JITTER, draw_id)``, the words of block 0 decide the order, whether to jitter, whether to
convert to grey and whether to blur; the words of block 1 are the four factors; the first word of block 2 is the blur's
standard deviation.
"""

import torch

from gpurender.kernels.augment_params import tables
from gpurender.kernels.augment_params.params import BLUR_SIGMAS, JitterParams
from gpurender.kernels.image_ops.ops import Operation
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.streams import Stream


def draw_jitter(draw_ids: torch.Tensor, seed: int, params: JitterParams) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw operations int32 and arguments float64, ``[N, params.layers]`` each, for draw ids int64 ``[N]``."""
    drawn = words(seed, Stream.JITTER, draw_ids, 3)  # [N, 12]
    operations, arguments = [], []
    if params.components:
        orders, lows, spans, codes = tables.jitter(params, draw_ids.device)
        order = orders[bounded(drawn[:, 0], len(orders))]  # [N, k]
        chosen = torch.stack([drawn[:, 4 + i] for i in params.components], 1)  # indexing by a list would wait for a GPU
        factors = lows + spans * uniform(chosen)  # [N, k]
        jittered = (uniform(drawn[:, 1]) < params.probability)[:, None]
        operations.append(torch.where(jittered, codes[order], Operation.IDENTITY))
        arguments.append(factors.gather(1, order))
    if params.grayscale:
        operations.append(_either(uniform(drawn[:, 2]) < params.grayscale, Operation.COLOR))
        arguments.append(torch.zeros_like(operations[-1], dtype=torch.float64))
    if params.blur:
        low, high = BLUR_SIGMAS
        operations.append(_either(uniform(drawn[:, 3]) < params.blur, Operation.GAUSSIAN_KERNEL))
        arguments.append((low + (high - low) * uniform(drawn[:, 8]))[:, None])
    return torch.cat(operations, 1).to(torch.int32), torch.cat(arguments, 1)


def _either(applied: torch.Tensor, operation: Operation) -> torch.Tensor:
    """Return the operation's code where it is applied, else 0: int64 [N, 1]."""
    return (applied * int(operation))[:, None]
