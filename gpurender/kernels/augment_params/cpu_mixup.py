"""Weights and patches of mixup and CutMix in torch, the reference.

Formula (image of side S, mixed with image N - 1 - n of its batch)::

    weight ~ Beta(alpha, alpha), mixup's or CutMix's
    patch: side floor(S sqrt(1 - weight)) around a uniform centre, clipped by the image;
           or (cutmix_minmax) height and width uniform in the range of sides, at a uniform position inside
    weight = 1 - height width / S^2, if it is recomputed from the pixels of the patch

Addresses: in ``(seed, Stream.MIX, draw_id)``, the words of block 0 are whether to mix, whether to use CutMix, CutMix's
weight and mixup's weight; the words of block 1 are the patch: the row and column of its centre, or (``cutmix_minmax``)
its height, width, top and left. The draw id is that of the batch's first image, the pair's first image, or the image.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018); Yun et al., "CutMix" (ICCV 2019); the
rules are those of timm 1.0.31's ``Mixup`` and ``FastCollateMixup``.
"""

import torch

from gpurender.kernels.augment_params.params import MixParams
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream


def draw_mixing(
    draw_ids: torch.Tensor, seed: int, size: int, params: MixParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw weights float64 ``[N]``, cut bool ``[N]``, patches int32 ``[N, 4]`` for a batch's draw ids int64 ``[N]``."""
    owner = torch.arange(len(draw_ids), device=draw_ids.device)
    if params.mode == "batch":
        owner = owner * 0
    elif params.mode == "pair":
        owner = torch.minimum(owner, owner.flip(0))
    drawn = words(seed, Stream.MIX, draw_ids[owner], 2)  # [N, 8]
    mixed = uniform(drawn[:, 0]) < params.prob
    cut = mixed & (uniform(drawn[:, 1]) < params.cutmix_prob)
    mixup_alpha, cutmix_alpha = params.alphas
    weights = torch.where(cut, _beta(drawn[:, 2], cutmix_alpha), _beta(drawn[:, 3], mixup_alpha))
    if params.mode != "batch":  # in these modes timm's weights are float32, and so is the square root below
        weights = weights.to(torch.float32)
    patches = _patches(params, weights, drawn[:, 4:], size)
    if params.corrected:
        own = 1.0 - (patches[:, 2] * patches[:, 3]).to(torch.float64) / float(size * size)
        weights = torch.where(cut, own.to(weights.dtype), weights)
    weights = torch.where(mixed, weights.to(torch.float64), 1.0)
    return weights, cut, torch.where(cut[:, None], patches, 0).to(torch.int32)


def _beta(drawn: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return the Beta variates of words, float64 of the same shape; 1 if alpha is 0."""
    return quantiles.beta(drawn, alpha) if alpha else torch.ones_like(drawn, dtype=torch.float64)


def _patches(params: MixParams, weights: torch.Tensor, drawn: torch.Tensor, size: int) -> torch.Tensor:
    """Return patches int64 [N, 4] for CutMix, computed from words [N, 4]."""
    if (sides := params.sides(size)) is not None:
        low, high = sides
        drawn_sides = low + bounded(drawn[:, :2], high - low)
        return torch.cat([bounded(drawn[:, 2:], size - drawn_sides + 1), drawn_sides], 1)
    side = (size * torch.sqrt(1.0 - weights)).to(torch.int64)[:, None]  # truncated
    centre = bounded(drawn[:, :2], size)  # [N, 2]
    first = (centre - side // 2).clamp(0, size)
    last = (centre + (side + 1) // 2).clamp(0, size)
    return torch.cat([first, last - first], 1)
