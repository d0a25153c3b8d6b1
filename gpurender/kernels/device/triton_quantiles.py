# mypy: disable-error-code="no-untyped-def"
"""Variates by look-up in quantile tables, in Triton, equal to ``gpurender.numerics.quantiles`` bit for bit."""

import triton
import triton.language as tl

from gpurender.numerics import quantiles

ONE = tl.constexpr(quantiles.ONE)


@triton.jit
def between(table, cell, share):
    """Return the value at the fraction ``share`` of the way from a table's entry to the next; float64."""
    low = tl.load(table + cell)
    return low + (tl.load(table + cell + 1) - low) * share


@triton.jit
def symmetric(table, word):
    """Return variates of a symmetric distribution, relative to its centre, from words uint32."""
    bits = ((word & 0x7FFFFFFF).to(tl.int64) + 1).to(tl.float32).to(tl.int32, bitcast=True)
    size = between(table, (bits >> 16) - ONE, (bits & 0xFFFF).to(tl.float64) * 1.52587890625e-5)  # 2^-16
    return tl.where((word >> 31) != 0, -size, size)


@triton.jit
def log_uniform(table, word):
    """Return log-uniform variates from words uint32."""
    return between(table, (word >> 20).to(tl.int32), (word & 0xFFFFF).to(tl.float64) * 9.5367431640625e-7)  # 2^-20
