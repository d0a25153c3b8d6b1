"""The operations of RandAugment, AutoAugment and 3-Augment in torch, the reference.

Formula (a sample gets ``layers`` alternatives of D operations each; for each operation, with its rule of levels)::

    level    = clip(level + std z, 0, highest)          (level u if std is infinite)
    v        = min(level / 10 gain, cap),  truncated if whole,  negated with probability 1/2 if signed
    argument = max(offset + v, least)                   (offset - v if falling)
    argument = 0.1 + (2 argument - 0.1) u               (for a random radius)

Addresses: in ``(seed, Stream.LAYER, draw_id)``, block l D + d is operation d of layer l. Its words are the layer's
choice of an alternative (used if d = 0), whether the operation is applied, its level, and three fields: sign (the
highest bit), interpolation (the next bit) and radius (the lowest 24 bits).
"""

import math

import torch

from gpurender.kernels.augment_params import tables
from gpurender.kernels.augment_params.params import BLUR_RADII, LEVEL_FIELDS, LEVEL_SCALE, LayerParams
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.resized_crop.params import BILINEAR
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream


def draw_layers(
    draw_ids: torch.Tensor, seed: int, params: LayerParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw operations int32, arguments float64, interpolations uint8, ``[N, layers D]`` each, for ids int64 ``[N]``."""
    depth = len(params.alternatives[0])
    drawn = words(seed, Stream.LAYER, draw_ids, params.layers * depth).view(-1, params.layers, depth, 4)
    choice = _choices(params, drawn[:, :, 0, 0])  # [N, layers]
    table, codes = tables.levels(params.alternatives, draw_ids.device)
    column = dict(zip(LEVEL_FIELDS, table[choice].unbind(-1), strict=True))  # [N, layers, D] each
    applied = uniform(drawn[..., 1]) < column["probability"]
    last = drawn[..., 3]

    operations = torch.where(applied, codes[choice], 0)
    arguments = _arguments(column, _levels(params, column["level"], drawn[..., 2]), last)
    either = BILINEAR + ((last >> 30) & 1)
    interpolations = either if params.interpolation is None else torch.full_like(last, params.interpolation)
    shape = (len(draw_ids), params.layers * depth)
    return (
        operations.view(shape).to(torch.int32),
        arguments.view(shape),
        interpolations.view(shape).to(torch.uint8),
    )


def _choices(params: LayerParams, drawn: torch.Tensor) -> torch.Tensor:
    """Return the alternatives chosen by words [N, layers]: int64 [N, layers]."""
    if params.weights is None:
        return bounded(drawn, len(params.alternatives))
    left = tables.weights(params.weights, drawn.device).repeat(len(drawn), 1)  # [N, A]
    chosen = []
    for layer in range(params.layers):
        ends = left.cumsum(1)  # integers: the same sums in any order
        point = bounded(drawn[:, layer], ends[:, -1])
        choice = (ends <= point[:, None]).sum(1)
        left = left.scatter(1, choice[:, None], 0)
        chosen.append(choice)
    return torch.stack(chosen, 1)


def _levels(params: LayerParams, level: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Return levels, spread by the words ``drawn`` and clipped."""
    if params.std == math.inf:
        level = level * uniform(drawn)
    elif params.std > 0.0:
        level = level + params.std * quantiles.normal(drawn)
    return level.clamp(0.0, params.highest)


def _arguments(column: dict[str, torch.Tensor], level: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Return the arguments for levels, float64 of the same shape; ``last``: the word of sign and radius."""
    v = torch.minimum(level / LEVEL_SCALE * column["gain"], column["cap"])
    v = torch.where(column["whole"] != 0.0, torch.trunc(v), v)
    v = torch.where((column["signed"] != 0.0) & (last >> 31 != 0), -v, v)
    offset = column["offset"]
    argument = torch.maximum(torch.where(column["falling"] != 0.0, offset - v, offset + v), column["least"])
    low, high = BLUR_RADII
    radius = low + (high * argument - low) * ((last & 0xFFFFFF).to(torch.float64) * 2.0**-24)
    return torch.where(column["random_radius"] != 0.0, radius, argument)
