# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Crops and flips in Triton, with the bits of ``cpu_crop.py``, which has the formula and the addresses.

The float64 arithmetic is + − × ÷ √ only, each rounded separately (no fused multiply-adds), in the order of
``cpu_crop.py`` and of ``portable_math.exp``. All attempts of a sample are computed side by side and the first that fits
is taken.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.augment_params.params import ATTEMPTS, CropParams
from gpurender.kernels.device.triton_math import exp, rint
from gpurender.kernels.philox.gpu import bounded, uniform, words_at
from gpurender.kernels.resized_crop.params import BILINEAR
from gpurender.numerics.streams import Stream

CROP = tl.constexpr(int(Stream.CROP))
FLIP = tl.constexpr(int(Stream.FLIP))
LOWEST = tl.constexpr(BILINEAR)
LANES = triton.next_power_of_2(ATTEMPTS)  # lanes for the attempts of a sample, side by side
BLOCK = 8  # samples per program: 128 lanes with their attempts, so that a batch of 256 occupies 32 multiprocessors


@triton.jit
def attempted(seed, draw_id, side, low, span, area, log_low, log_span, ATTEMPTS: tl.constexpr, LANES: tl.constexpr):
    """Return height, width and the words of top and left of the first attempt that fits, [n]; height 0 if none fits."""
    attempt = tl.arange(0, LANES)[None, :]
    w0, w1, w2, w3 = words_at(seed, CROP, draw_id[:, None], attempt)  # [n, LANES]
    share = (low + uniform(w0) * span) * area
    ratio = exp(log_low + uniform(w1) * log_span)
    w = rint(tl.sqrt(share * ratio))
    h = rint(tl.sqrt(share / ratio))
    limit = side.to(tl.float64)
    fits = (w > 0) & (w <= limit) & (h > 0) & (h <= limit) & (attempt < ATTEMPTS)
    first = tl.min(tl.where(fits, attempt, LANES), 1)
    taken = attempt == first[:, None]  # false everywhere if none fits
    h = tl.sum(tl.where(taken, h, 0.0).to(tl.int64), 1)
    w = tl.sum(tl.where(taken, w, 0.0).to(tl.int64), 1)
    return h, w, tl.sum(tl.where(taken, w2.to(tl.int64), 0), 1), tl.sum(tl.where(taken, w3.to(tl.int64), 0), 1)


@triton.jit(do_not_specialize=["count", "seed", "side", "central_h", "central_w"])
def draw(
    draw_ids,
    boxes,
    flips,
    interpolations,
    count: tl.int32,
    seed: tl.uint64,
    side: tl.int32,
    central_h: tl.int32,
    central_w: tl.int32,
    low: tl.float64,
    span: tl.float64,
    area: tl.float64,
    log_low: tl.float64,
    log_span: tl.float64,
    hflip: tl.float64,
    vflip: tl.float64,
    INTERPOLATION: tl.constexpr,
    ATTEMPTS: tl.constexpr,
    LANES: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Draw boxes int32 [N, 4], flips uint8 [N, 2] and interpolations uint8 [N] for draw ids int64 [N]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = index < count
    draw_id = tl.load(draw_ids + index, mask=used, other=0)
    h, w, top, left = attempted(seed, draw_id, side, low, span, area, log_low, log_span, ATTEMPTS, LANES)
    some = h > 0
    h, w = tl.where(some, h, central_h), tl.where(some, w, central_w)
    top = tl.where(some, bounded(top, side - h + 1), (side - h) // 2)
    left = tl.where(some, bounded(left, side - w + 1), (side - w) // 2)
    tl.store(boxes + 4 * index, top.to(tl.int32), mask=used)
    tl.store(boxes + 4 * index + 1, left.to(tl.int32), mask=used)
    tl.store(boxes + 4 * index + 2, h.to(tl.int32), mask=used)
    tl.store(boxes + 4 * index + 3, w.to(tl.int32), mask=used)

    horizontal, vertical, _, _ = words_at(seed, FLIP, draw_id, index * 0)
    tl.store(flips + 2 * index, (uniform(horizontal) < hflip).to(tl.uint8), mask=used)
    tl.store(flips + 2 * index + 1, (uniform(vertical) < vflip).to(tl.uint8), mask=used)
    if INTERPOLATION is None:
        choice, _, _, _ = words_at(seed, CROP, draw_id, index * 0 + ATTEMPTS)
        tl.store(interpolations + index, ((choice >> 31) + LOWEST).to(tl.uint8), mask=used)  # bounded(choice, 2)
    else:
        tl.store(interpolations + index, tl.full(index.shape, INTERPOLATION, tl.uint8), mask=used)


def draw_crops(
    draw_ids: torch.Tensor, seed: int, side: int, params: CropParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw boxes int32 ``[N, 4]``, flips bool ``[N, 2]``, interpolations uint8 ``[N]`` for draw ids int64 ``[N]``."""
    n, device = draw_ids.shape[0], draw_ids.device
    boxes = torch.empty((n, 4), dtype=torch.int32, device=device)
    flips = torch.empty((n, 2), dtype=torch.bool, device=device)
    interpolations = torch.empty(n, dtype=torch.uint8, device=device)
    low, high = params.scale
    if n:
        with torch.cuda.device_of(draw_ids):
            draw[(-(-n // BLOCK),)](
                draw_ids, boxes, flips.view(torch.uint8), interpolations, n, seed, side, *params.central(side),
                low, high - low, float(side * side), *params.log_ratio, *params.flips, params.interpolation,
                ATTEMPTS, LANES, BLOCK, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return boxes, flips, interpolations
