# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: what is known when the kernel is compiled)
"""The weights of the blur by a kernel, in Triton, once a batch; the formula is in cpu.py."""

import triton
import triton.language as tl

from gpurender.kernels.augment_params.gpu_crop import exp
from gpurender.kernels.image_ops.gpu_plan import GAUSSIAN_KERNEL, argument_of

REACH = tl.constexpr(11)  # of the kernel of 23 pixels, to either side
WEIGHTS = tl.constexpr(16)  # a blur's, 12 of them used


@triton.jit(do_not_specialize=["count"])
def weigh(operations, arguments, weights, count: tl.int32, SIZE: tl.constexpr):
    """weights float32 [N L, 16]: from the middle outwards, of the operations that are GAUSSIAN_KERNEL."""
    i = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = i < count
    used = used & (tl.load(operations + i, mask=used, other=0) == GAUSSIAN_KERNEL)
    code = tl.full(i.shape, GAUSSIAN_KERNEL, tl.int32)
    sigma = tl.where(used, argument_of(arguments, code, i, used), 1.0)
    base = exp(-1.0 / (2.0 * sigma * sigma))
    square = base * base
    weight, factor = tl.full(i.shape, 1.0, tl.float64), base
    total = weight
    for _ in tl.static_range(REACH):
        weight = weight * factor
        factor = factor * square
        total += 2.0 * weight
    weight, factor = tl.full(i.shape, 1.0, tl.float64), base
    place = weights + i.to(tl.int64) * WEIGHTS
    for k in tl.static_range(REACH + 1):
        tl.store(place + k, (weight / total).to(tl.float32), mask=used)
        weight = weight * factor
        factor = factor * square
