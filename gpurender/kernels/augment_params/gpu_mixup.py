# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Mixup and CutMix in Triton, with the bits of ``cpu_mixup.py``, which has the formula and the addresses.

If a batch has one weight, every sample computes it from the first image's draw id, so no program waits for another.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.augment_params.params import MIXUP_MODES, MixParams
from gpurender.kernels.device.triton_quantiles import symmetric
from gpurender.kernels.philox.gpu import bounded, uniform, words_at
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream

MIX = tl.constexpr(int(Stream.MIX))
BATCH = tl.constexpr(MIXUP_MODES.index("batch"))
PAIR = tl.constexpr(MIXUP_MODES.index("pair"))
BLOCK = 32  # samples per program


@triton.jit
def beta(table, word):
    """Return the variate of a word in the table's distribution; 1 if there is no table."""
    if table is None:
        return word.to(tl.float64) * 0.0 + 1.0
    else:  # noqa: RET505  (Triton compiles only one of two branches whose condition is a constant)
        return 0.5 + symmetric(table, word)


@triton.jit
def own_share(h, w, size):
    """Return the fraction of an image outside a patch of h x w pixels, float64."""
    return 1.0 - (h * w).to(tl.float64) / (size.to(tl.int64) * size).to(tl.float64)


@triton.jit(do_not_specialize=["count", "seed", "size", "low", "high"])
def draw(
    draw_ids,
    mixup_table,
    cutmix_table,
    weights,
    cuts,
    patches,
    count: tl.int32,
    seed: tl.uint64,
    size: tl.int32,
    low: tl.int32,
    high: tl.int32,
    prob: tl.float64,
    cutmix_prob: tl.float64,
    MODE: tl.constexpr,
    MINMAX: tl.constexpr,
    CORRECTED: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Draw weights float64 [N], cuts uint8 [N] and patches int32 [N, 4] for a batch's draw ids int64 [N]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = index < count
    owner = index
    if MODE == BATCH:
        owner = index * 0
    elif MODE == PAIR:
        owner = tl.minimum(index, count - 1 - index)
    draw_id = tl.load(draw_ids + owner, mask=used, other=0)
    chance, switch, word_cutmix, word_mixup = words_at(seed, MIX, draw_id, index * 0)
    w0, w1, w2, w3 = words_at(seed, MIX, draw_id, index * 0 + 1)
    mixed = uniform(chance) < prob
    cut = mixed & (uniform(switch) < cutmix_prob)  # the probability is 0 if CutMix is off
    weight = tl.where(cut, beta(cutmix_table, word_cutmix), beta(mixup_table, word_mixup))
    if MODE != BATCH:
        weight = weight.to(tl.float32).to(tl.float64)

    wide = index.to(tl.int64) * 0 + size
    if MINMAX:
        h, w = low + bounded(w0, wide * 0 + (high - low)), low + bounded(w1, wide * 0 + (high - low))
        top, left = bounded(w2, wide - h + 1), bounded(w3, wide - w + 1)
    else:
        if MODE == BATCH:
            side = (wide.to(tl.float64) * tl.sqrt(1.0 - weight)).to(tl.int64)
        else:
            narrow = weight.to(tl.float32)
            side = (wide.to(tl.float32) * tl.sqrt_rn(1.0 - narrow)).to(tl.int64)
        y, x = bounded(w0, wide), bounded(w1, wide)
        top, left = tl.maximum(y - side // 2, 0), tl.maximum(x - side // 2, 0)
        h, w = tl.minimum(y + (side + 1) // 2, wide) - top, tl.minimum(x + (side + 1) // 2, wide) - left
    if CORRECTED:
        own = own_share(h, w, size)
        if MODE != BATCH:
            own = own.to(tl.float32).to(tl.float64)
        weight = tl.where(cut, own, weight)
    tl.store(weights + index, tl.where(mixed, weight, 1.0), mask=used)
    tl.store(cuts + index, cut.to(tl.uint8), mask=used)
    tl.store(patches + 4 * index, tl.where(cut, top, 0).to(tl.int32), mask=used)
    tl.store(patches + 4 * index + 1, tl.where(cut, left, 0).to(tl.int32), mask=used)
    tl.store(patches + 4 * index + 2, tl.where(cut, h, 0).to(tl.int32), mask=used)
    tl.store(patches + 4 * index + 3, tl.where(cut, w, 0).to(tl.int32), mask=used)


def draw_mixing(
    draw_ids: torch.Tensor, seed: int, size: int, params: MixParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw weights float64 ``[N]``, cut bool ``[N]``, patches int32 ``[N, 4]`` for a batch's draw ids int64 ``[N]``."""
    n, device = draw_ids.shape[0], draw_ids.device
    weights = torch.empty(n, dtype=torch.float64, device=device)
    cut = torch.empty(n, dtype=torch.bool, device=device)
    patches = torch.empty((n, 4), dtype=torch.int32, device=device)
    mixup, cutmix = (quantiles.table_on_device(device, "beta", alpha) if alpha else None for alpha in params.alphas)
    sides = params.sides(size)
    if n:
        with torch.cuda.device_of(draw_ids):
            draw[(-(-n // BLOCK),)](
                draw_ids, mixup, cutmix, weights, cut.view(torch.uint8), patches, n, seed, size, *(sides or (0, 0)),
                params.prob, params.cutmix_prob, MIXUP_MODES.index(params.mode), sides is not None, params.corrected,
                BLOCK, num_warps=1, enable_fp_fusion=False,
            )  # fmt: skip
    return weights, cut, patches
