"""Crops and flips in NumPy, the reference.

Formula (attempt k = 0 .. 9, its words u0 .. u3 as uniforms in [0, 1); canvas of side S)::

    area   = (scale_low + u0 (scale_high - scale_low)) S^2
    ratio  = exp(log(ratio_low) + u1 (log(ratio_high) - log(ratio_low)))
    width  = rint(sqrt(area ratio))      height = rint(sqrt(area / ratio))
    top    = floor(u2 (S - height + 1))  left   = floor(u3 (S - width + 1))

The first attempt whose width and height lie in 1 .. S is taken; if none does, the largest central crop within the range
of ratios. (Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6; the rules are timm's and
torchvision's.)

Addresses: in ``(seed, Stream.CROP, draw_id)``, block k is attempt k, its words are area, aspect ratio, top and left;
the first word of block 10 chooses the interpolation. In ``(seed, Stream.FLIP, draw_id)``, the first two words of block
0 are the horizontal and the vertical flip. So no parameter changes the random numbers of another: with another
``scale``, the same samples are flipped.
"""

import numpy as np
import torch

from gpurender.kernels.augment_params.params import ATTEMPTS, CropParams
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.resized_crop.params import BILINEAR
from gpurender.numerics.portable_math import exp
from gpurender.numerics.streams import Stream


def draw_crops(
    draw_ids: torch.Tensor, seed: int, side: int, params: CropParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw boxes int32 ``[N, 4]``, flips bool ``[N, 2]``, interpolations uint8 ``[N]`` for draw ids int64 ``[N]``."""
    ids = draw_ids.numpy().view(np.uint64)
    blocks = words(seed, Stream.CROP, ids, ATTEMPTS + 1).reshape(-1, ATTEMPTS + 1, 4)
    boxes = _boxes(blocks[:, :ATTEMPTS], side, params)
    flips = uniform(words(seed, Stream.FLIP, ids)[:, :2]) < np.array(params.flips)
    if params.interpolation is None:
        interpolations = BILINEAR + bounded(blocks[:, ATTEMPTS, 0], 2)
    else:
        interpolations = np.full(len(ids), params.interpolation)
    return torch.from_numpy(boxes), torch.from_numpy(flips), torch.from_numpy(interpolations.astype(np.uint8))


def _boxes(attempts: np.ndarray, side: int, params: CropParams) -> np.ndarray:
    """Return boxes int32 [N, 4] computed from words uint32 [N, ATTEMPTS, 4]."""
    (low, high), (log_low, log_span) = params.scale, params.log_ratio
    area = (low + uniform(attempts[..., 0]) * (high - low)) * float(side * side)
    ratio = exp(log_low + uniform(attempts[..., 1]) * log_span)
    w = np.rint(np.sqrt(area * ratio))  # [N, ATTEMPTS]; halves to even, as Python's round
    h = np.rint(np.sqrt(area / ratio))
    fits = (w > 0) & (w <= side) & (h > 0) & (h <= side)

    row, first = np.arange(len(attempts)), fits.argmax(axis=1)
    some = fits.any(axis=1)
    central_h, central_w = params.central(side)
    h = np.where(some, h[row, first], central_h).astype(np.int64)
    w = np.where(some, w[row, first], central_w).astype(np.int64)
    top = np.where(some, bounded(attempts[row, first, 2], side - h + 1), (side - h) // 2)
    left = np.where(some, bounded(attempts[row, first, 3], side - w + 1), (side - w) // 2)
    return np.stack([top, left, h, w], axis=1).astype(np.int32)
