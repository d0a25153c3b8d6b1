# mypy: disable-error-code="no-untyped-def"
"""Functions of float64 in Triton, from + − × alone, equal to ``gpurender.numerics.portable_math`` bit for bit."""

import triton
import triton.language as tl

from gpurender.numerics import portable_math

ROUNDING = tl.constexpr(1.5 * 2.0**52)  # x + this has no fraction: the sum is rounded, halves to even
LN2_HIGH = tl.constexpr(portable_math.LN2_HIGH)
LN2_LOW = tl.constexpr(portable_math.LN2_LOW)
PER_LN2 = tl.constexpr(1.0 / (portable_math.LN2_HIGH + portable_math.LN2_LOW))
EXP_TERMS = tl.constexpr(portable_math.EXP_TERMS)


@triton.jit
def rint(x):
    """Return the nearest integer of x, halves to even; abs(x) < 2**51."""
    return (x + ROUNDING) - ROUNDING


@triton.jit
def exp(x):
    """Return ``portable_math.exp`` of x in [-700, 700]."""
    k = rint(x * PER_LN2)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    series = tl.full(r.shape, 1.0, tl.float64)
    for i in tl.static_range(EXP_TERMS - 1):
        series = 1.0 + r * (1.0 / (EXP_TERMS - 1 - i)) * series
    power = ((k.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    return series * power
