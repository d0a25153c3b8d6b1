# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Centres of atoms in Triton: one launch for seven; ``cpu_centres.py`` has the formula and the address."""

import torch
import triton
import triton.language as tl

from gpurender.kernels.philox.gpu import bounded, uniform, words_at
from gpurender.numerics.streams import Stream

NUCLEUS = tl.constexpr(int(Stream.NUCLEUS))
BLOCK = 128  # atoms per program: one per thread


@triton.jit
def placed(word, size, low, high, count, WHOLE: tl.constexpr):
    """Return a coordinate, float64."""
    if WHOLE:
        centre = 0.5 * (size + low + bounded(word, count).to(tl.float64))
    else:
        centre = 0.5 * size * (low + (high - low) * uniform(word) + 1.0)
    return centre


@triton.jit(do_not_specialize=["count", "seed", "integers"])
def draw_positions(
    draw_ids,
    out,
    count: tl.int32,
    seed: tl.uint64,
    size: tl.float64,
    low: tl.float64,
    high: tl.float64,
    integers: tl.int64,
    WHOLE: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write centres, float32 [count, 2], of draw ids int64 [count]; integers: high - low + 1 if WHOLE."""
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = n < count
    x, y, _, _ = words_at(seed, NUCLEUS, tl.load(draw_ids + n, mask=used, other=0), n * 0)
    bound = n * 0 + integers
    tl.store(out + 2 * n, placed(x, size, low, high, bound, WHOLE).to(tl.float32), mask=used)
    tl.store(out + 2 * n + 1, placed(y, size, low, high, bound, WHOLE).to(tl.float32), mask=used)


def draw_centres(draw_ids: torch.Tensor, seed: int, size: int, low: float, high: float, whole: bool) -> torch.Tensor:
    """Do ``gpurender.kernels.visual_atom.draw_centres`` on a GPU; the arguments are checked."""
    count = len(draw_ids)
    centres = torch.empty((count, 2), dtype=torch.float32, device=draw_ids.device)
    if count:
        with torch.cuda.device_of(draw_ids):
            draw_positions[(-(-count // BLOCK),)](
                draw_ids, centres, count, seed, float(size), float(low), float(high),
                int(high - low) + 1 if whole else 1, whole, BLOCK, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return centres
