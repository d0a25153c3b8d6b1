# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""The operations of RandAugment, AutoAugment and 3-Augment in Triton; the formula is in ``cpu_layers.py``.

One launch replaces about sixty. The float64 arithmetic is + − × ÷ only, each rounded separately, in the same order.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.augment_params import tables
from gpurender.kernels.augment_params.params import BLUR_RADII, LEVEL_FIELDS, LEVEL_SCALE, LayerParams
from gpurender.kernels.device.triton_quantiles import symmetric
from gpurender.kernels.philox.gpu import bounded, uniform, words_at
from gpurender.kernels.resized_crop.params import BILINEAR
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream

LAYER = tl.constexpr(int(Stream.LAYER))
LOWEST = tl.constexpr(BILINEAR)
COLUMNS = tl.constexpr(len(LEVEL_FIELDS))  # columns of the table of levels
PROBABILITY = tl.constexpr(LEVEL_FIELDS.index("probability"))
LEVEL = tl.constexpr(LEVEL_FIELDS.index("level"))
GAIN = tl.constexpr(LEVEL_FIELDS.index("gain"))
WHOLE = tl.constexpr(LEVEL_FIELDS.index("whole"))
SIGNED = tl.constexpr(LEVEL_FIELDS.index("signed"))
FALLING = tl.constexpr(LEVEL_FIELDS.index("falling"))
OFFSET = tl.constexpr(LEVEL_FIELDS.index("offset"))
CAP = tl.constexpr(LEVEL_FIELDS.index("cap"))
LEAST = tl.constexpr(LEVEL_FIELDS.index("least"))
RANDOM_RADIUS = tl.constexpr(LEVEL_FIELDS.index("random_radius"))
SCALE = tl.constexpr(LEVEL_SCALE)
NO_SPREAD, NORMAL, UNIFORM = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
BLOCK = 32  # samples per program: a batch of 256 occupies eight multiprocessors for a few microseconds


@triton.jit
def argument_of(row, spread, last, std, highest, normals, low, high, SPREAD: tl.constexpr):
    """Return the operation's argument for the level in a row of the table of levels."""
    level = tl.load(row + LEVEL)
    if SPREAD == UNIFORM:
        level = level * uniform(spread)
    elif SPREAD == NORMAL:
        level = level + std * symmetric(normals, spread)
    level = tl.minimum(tl.maximum(level, 0.0), highest)
    v = tl.minimum(level / SCALE * tl.load(row + GAIN), tl.load(row + CAP))
    v = tl.where(tl.load(row + WHOLE) != 0.0, v.to(tl.int64).to(tl.float64), v)
    v = tl.where((tl.load(row + SIGNED) != 0.0) & ((last >> 31) != 0), -v, v)
    offset = tl.load(row + OFFSET)
    argument = tl.maximum(tl.where(tl.load(row + FALLING) != 0.0, offset - v, offset + v), tl.load(row + LEAST))
    radius = low + (high * argument - low) * ((last & 0xFFFFFF).to(tl.float64) * 5.9604644775390625e-8)  # 2^-24
    return tl.where(tl.load(row + RANDOM_RADIUS) != 0.0, radius, argument)


@triton.jit(do_not_specialize=["count", "seed"])
def draw(
    draw_ids,
    levels,
    codes,
    weights,
    normals,
    operations,
    arguments,
    interpolations,
    count: tl.int32,
    seed: tl.uint64,
    std: tl.float64,
    highest: tl.float64,
    low: tl.float64,
    high: tl.float64,
    ALTERNATIVES: tl.constexpr,
    LANES: tl.constexpr,
    LAYERS: tl.constexpr,
    DEPTH: tl.constexpr,
    SPREAD: tl.constexpr,
    INTERPOLATION: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Draw operations int32, arguments float64, interpolations uint8, [N, LAYERS * DEPTH] each, for ids int64 [N]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = index < count
    draw_id = tl.load(draw_ids + index, mask=used, other=0)
    lane = tl.arange(0, LANES)[None, :]
    left = tl.zeros((SIZE, LANES), tl.int64)
    if weights is not None:
        left += tl.load(weights + lane, mask=lane < ALTERNATIVES, other=0)
    for layer in tl.static_range(LAYERS):
        choice = tl.zeros((SIZE,), tl.int64)
        for d in tl.static_range(DEPTH):
            place = layer * DEPTH + d
            chosen, chance, spread, last = words_at(seed, LAYER, draw_id, index * 0 + place)
            if d == 0:
                if weights is None:
                    choice = bounded(chosen, index * 0 + ALTERNATIVES)
                else:
                    ends = tl.cumsum(left, 1)
                    point = bounded(chosen, tl.sum(left, 1))
                    beyond = (ends <= point[:, None]) & (lane < ALTERNATIVES)
                    choice = tl.sum(beyond.to(tl.int64), 1)
                    left = tl.where(lane == choice[:, None], 0, left)
            row = levels + (choice * DEPTH + d) * COLUMNS
            code = tl.load(codes + choice * DEPTH + d)
            applied = uniform(chance) < tl.load(row + PROBABILITY)
            argument = argument_of(row, spread, last, std, highest, normals, low, high, SPREAD)
            target = index.to(tl.int64) * (LAYERS * DEPTH) + place
            tl.store(operations + target, tl.where(applied, code, 0).to(tl.int32), mask=used)
            tl.store(arguments + target, argument, mask=used)
            if INTERPOLATION is None:
                tl.store(interpolations + target, (((last >> 30) & 1) + LOWEST).to(tl.uint8), mask=used)
            else:
                tl.store(interpolations + target, tl.full((SIZE,), INTERPOLATION, tl.uint8), mask=used)


def draw_layers(
    draw_ids: torch.Tensor, seed: int, params: LayerParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw operations int32, arguments float64, interpolations uint8, ``[N, layers D]`` each, for ids int64 ``[N]``."""
    n, device = draw_ids.shape[0], draw_ids.device
    levels, codes = tables.levels(params.alternatives, device)
    weights = None if params.weights is None else tables.weights(params.weights, device)
    normals = quantiles.table_on_device(device, "normal")
    alternatives, depth = codes.shape
    shape = (n, params.layers * depth)
    operations = torch.empty(shape, dtype=torch.int32, device=device)
    arguments = torch.empty(shape, dtype=torch.float64, device=device)
    interpolations = torch.empty(shape, dtype=torch.uint8, device=device)
    spread = NO_SPREAD if params.std == 0.0 else UNIFORM if params.std == float("inf") else NORMAL
    if n:
        with torch.cuda.device_of(draw_ids):
            draw[(-(-n // BLOCK),)](
                draw_ids, levels, codes, weights, normals, operations, arguments, interpolations, n, seed,
                0.0 if spread is UNIFORM else params.std, params.highest, *BLUR_RADII, alternatives,
                1 << (alternatives - 1).bit_length(), params.layers, depth, spread.value, params.interpolation, BLOCK,
                num_warps=1, enable_fp_fusion=False,
            )  # fmt: skip
    return operations, arguments, interpolations
