"""Boxes and noise keys of random erasing in torch, the reference.

Formula (attempt a = 0 .. 9 at box k of n, its words u0 .. u3 as uniforms in [0, 1); image of side S)::

    area   = (area_low + (area_high - area_low) u0) S^2 / n        aspect: log-uniform, by u1
    height = rint(sqrt(area aspect))      width = rint(sqrt(area / aspect))
    top    = floor(u2 (S - height + 1))   left  = floor(u3 (S - width + 1))

The first attempt whose sides are both smaller than the image's is taken; if none is, there is no box.

Addresses: in ``(seed, Stream.ERASING, draw_id)``, the words of block 0 are whether to erase, the number of boxes, and
the key of the noise (low, high); block 1 + 10 k + a is attempt a at box k: area, aspect ratio, top, left.

Source: Zhong et al., "Random Erasing Data Augmentation" (AAAI 2020); the rules are those of timm 1.0.31.
"""

import torch

from gpurender.kernels.augment_params.params import ATTEMPTS, ErasingParams
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream


def draw_erasing(
    draw_ids: torch.Tensor, seed: int, size: int, params: ErasingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw boxes int32 ``[N, K, 4]``, 0 where there is no box, and keys int64 ``[N]``, for draw ids int64 ``[N]``."""
    least, most = params.boxes
    drawn = words(seed, Stream.ERASING, draw_ids, 1 + ATTEMPTS * most)  # [N, 4 (1 + 10 K)]
    count = least + bounded(drawn[:, 1], most - least + 1)  # [N]
    count = torch.where(uniform(drawn[:, 0]) < params.probability, count, 0)
    keys = drawn[:, 3] << 32 | drawn[:, 2]

    area, ratio, top, left = drawn[:, 4:].reshape(-1, most, ATTEMPTS, 4).unbind(-1)  # [N, K, 10] each
    low, high = params.area
    share = (low + (high - low) * uniform(area)) * float(size * size) / count.clamp(min=1)[:, None, None]
    aspect = quantiles.log_uniform(ratio, *params.aspect)
    h = torch.round(torch.sqrt(share * aspect)).to(torch.int64)  # halves to even, as Python's round
    w = torch.round(torch.sqrt(share / aspect)).to(torch.int64)
    fits = (w < size) & (h < size)
    first = fits.to(torch.int64).argmax(2, keepdim=True)  # [N, K, 1]
    h, w, top, left = (x.gather(2, first).squeeze(2) for x in (h, w, top, left))
    boxes = torch.stack([bounded(top, size - h + 1), bounded(left, size - w + 1), h, w], 2)
    wanted = torch.arange(most, device=draw_ids.device) < count[:, None]
    return torch.where((fits.any(2) & wanted)[:, :, None], boxes, 0).to(torch.int32), keys
