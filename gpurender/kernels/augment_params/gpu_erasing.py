# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Boxes of random erasing in Triton, with the bits of ``cpu_erasing.py``, which has the formula and the addresses.

All attempts at a box are computed side by side and the first that fits is taken, as in ``gpu_crop.py``.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.augment_params.params import ATTEMPTS, ErasingParams
from gpurender.kernels.device.triton_math import rint
from gpurender.kernels.device.triton_quantiles import log_uniform
from gpurender.kernels.philox.gpu import bounded, uniform, words_at
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream

ERASING = tl.constexpr(int(Stream.ERASING))
LANES = triton.next_power_of_2(ATTEMPTS)  # lanes for the attempts at a box, side by side
BLOCK = 8  # samples per program


@triton.jit(do_not_specialize=["count", "seed", "size", "least", "most"])
def draw(
    draw_ids,
    ratios,
    boxes,
    keys,
    count: tl.int32,
    seed: tl.uint64,
    size: tl.int32,
    least: tl.int32,
    most: tl.int32,
    probability: tl.float64,
    low: tl.float64,
    span: tl.float64,
    whole: tl.float64,
    ATTEMPTS: tl.constexpr,
    LANES: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Draw box k (the second program id) of boxes int32 [N, most, 4], and keys int64 [N], for draw ids int64 [N]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    k = tl.program_id(1)
    used = index < count
    draw_id = tl.load(draw_ids + index, mask=used, other=0)
    chance, many, key_low, key_high = words_at(seed, ERASING, draw_id, index * 0)
    n_boxes = least + bounded(many, index * 0 + (most - least + 1))
    n_boxes = tl.where(uniform(chance) < probability, n_boxes, 0)
    if k == 0:
        tl.store(keys + index, (key_high.to(tl.int64) << 32) | key_low.to(tl.int64), mask=used)

    attempt = tl.arange(0, LANES)[None, :]
    area, ratio, top, left = words_at(seed, ERASING, draw_id[:, None], attempt + (1 + k * ATTEMPTS))  # [n, LANES]
    share = (low + span * uniform(area)) * whole / tl.maximum(n_boxes, 1).to(tl.float64)[:, None]
    aspect = log_uniform(ratios, ratio)
    h, w = rint(tl.sqrt(share * aspect)).to(tl.int64), rint(tl.sqrt(share / aspect)).to(tl.int64)
    fits = (w < size) & (h < size) & (attempt < ATTEMPTS)
    first = tl.min(tl.where(fits, attempt, LANES), 1)
    taken = (attempt == first[:, None]) & (k < n_boxes)[:, None]  # false everywhere if none fits
    h, w = tl.sum(tl.where(taken, h, 0), 1), tl.sum(tl.where(taken, w, 0), 1)
    top, left = tl.sum(tl.where(taken, top.to(tl.int64), 0), 1), tl.sum(tl.where(taken, left.to(tl.int64), 0), 1)
    some = tl.max(taken.to(tl.int32), 1) > 0
    target = boxes + (index.to(tl.int64) * most + k) * 4
    tl.store(target, tl.where(some, bounded(top, size - h + 1), 0).to(tl.int32), mask=used)
    tl.store(target + 1, tl.where(some, bounded(left, size - w + 1), 0).to(tl.int32), mask=used)
    tl.store(target + 2, h.to(tl.int32), mask=used)
    tl.store(target + 3, w.to(tl.int32), mask=used)


def draw_erasing(
    draw_ids: torch.Tensor, seed: int, size: int, params: ErasingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw boxes int32 ``[N, K, 4]``, 0 where there is no box, and keys int64 ``[N]``, for draw ids int64 ``[N]``."""
    n, device = draw_ids.shape[0], draw_ids.device
    (least, most), (low, high) = params.boxes, params.area
    ratios = quantiles.table_on_device(device, "ratio", *params.aspect)
    boxes = torch.empty((n, most, 4), dtype=torch.int32, device=device)
    keys = torch.empty(n, dtype=torch.int64, device=device)
    if n:
        with torch.cuda.device_of(draw_ids):
            draw[(-(-n // BLOCK), most)](
                draw_ids, ratios, boxes, keys, n, seed, size, least, most, params.probability, low, high - low,
                float(size * size), ATTEMPTS, LANES, BLOCK, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return boxes, keys
