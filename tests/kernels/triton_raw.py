"""Triton kernels of the tests' own: device functions on plain arrays."""

import triton
import triton.language as tl

from gpurender.kernels.device.triton_math import exp
from gpurender.kernels.image_ops.gpu_affine import cubic_weights, estimated
from gpurender.kernels.philox.gpu import philox4x32


@triton.jit(do_not_specialize=["count", "k0", "k1"])
def philox_of(counters, out, count, k0: tl.int64, k1: tl.int64, SIZE: tl.constexpr):  # noqa: N803
    """out[i] = philox4x32(counters[i]), both int64 [count, 4]."""
    i = tl.arange(0, SIZE)
    used = i < count
    c0 = tl.load(counters + 4 * i, mask=used, other=0).to(tl.uint32)
    c1 = tl.load(counters + 4 * i + 1, mask=used, other=0).to(tl.uint32)
    c2 = tl.load(counters + 4 * i + 2, mask=used, other=0).to(tl.uint32)
    c3 = tl.load(counters + 4 * i + 3, mask=used, other=0).to(tl.uint32)
    w0, w1, w2, w3 = philox4x32(c0, c1, c2, c3, k0.to(tl.uint32), k1.to(tl.uint32))
    tl.store(out + 4 * i, w0.to(tl.int64), mask=used)
    tl.store(out + 4 * i + 1, w1.to(tl.int64), mask=used)
    tl.store(out + 4 * i + 2, w2.to(tl.int64), mask=used)
    tl.store(out + 4 * i + 3, w3.to(tl.int64), mask=used)


@triton.jit(do_not_specialize=["count"])
def exp_of(x, out, count, SIZE: tl.constexpr):  # noqa: N803
    """out[i] = exp(x[i]), both float64 [count]."""
    i = tl.arange(0, SIZE)
    tl.store(out + i, exp(tl.load(x + i, mask=i < count, other=0.0)), mask=i < count)


@triton.jit(do_not_specialize=["count", "bicubic"])
def estimate_of(rows, fractions, out, count, bicubic, SIZE: tl.constexpr):  # noqa: N803
    """out[i] = the estimate between rows[:, i] of four bytes, int32 [4, count]; fractions float64 [2, count]."""
    i = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = i < count
    w0, w1 = tl.load(rows + i, mask=used, other=0), tl.load(rows + count + i, mask=used, other=0)
    w2, w3 = tl.load(rows + 2 * count + i, mask=used, other=0), tl.load(rows + 3 * count + i, mask=used, other=0)
    down = cubic_weights(tl.load(fractions + i, mask=used, other=0.0), bicubic != 0)
    across = cubic_weights(tl.load(fractions + count + i, mask=used, other=0.0), bicubic != 0)
    tl.store(out + i, estimated(w0, w1, w2, w3, (0, 8, 16, 24), down, across), mask=used)


@triton.jit
def add_and_shift(values, out, stride, SIZE: tl.constexpr, BARRIER: tl.constexpr):  # noqa: N803
    """values[i] += 1, then out[i] = values[i + 1]; a program has SIZE places from a multiple of the stride on."""
    i = tl.program_id(0) * stride + tl.arange(0, SIZE)
    tl.store(values + i, tl.load(values + i) + 1)
    if BARRIER:
        tl.debug_barrier()
    tl.store(out + i, tl.load(values + i + 1))


@triton.jit
def halve(values, out, SIZE: tl.constexpr):  # noqa: N803
    """out[i // 2] = values[i]: of two lanes, either may be the last."""
    i = tl.arange(0, SIZE)
    tl.store(out + i // 2, tl.load(values + i))
