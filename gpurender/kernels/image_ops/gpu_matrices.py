# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""The coefficients of the operations that move pixels, in Triton: those of ``cpu_matrices.py``, bit for bit.

One launch replaces a hundred. The float64 arithmetic is + − × ÷ only, each rounded separately, in the same order.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.device.triton_math import rint
from gpurender.kernels.image_ops import cpu_matrices, tables
from gpurender.kernels.image_ops.ops import Operation

ROTATE = tl.constexpr(int(Operation.ROTATE))
SHEAR_X, SHEAR_Y = tl.constexpr(int(Operation.SHEAR_X)), tl.constexpr(int(Operation.SHEAR_Y))
TRANSLATE_X, TRANSLATE_Y = tl.constexpr(int(Operation.TRANSLATE_X)), tl.constexpr(int(Operation.TRANSLATE_Y))
TRANSLATE_X_REL = tl.constexpr(int(Operation.TRANSLATE_X_REL))
TRANSLATE_Y_REL = tl.constexpr(int(Operation.TRANSLATE_Y_REL))
RADIANS = tl.constexpr(cpu_matrices.RADIANS)
PARTS = tl.constexpr(tables.PARTS)
PARTS_PER_RADIAN = tl.constexpr(cpu_matrices.PARTS_PER_RADIAN)
STEP_HIGH, STEP_LOW = (tl.constexpr(part) for part in tables.step())
DECIMALS = tl.constexpr(cpu_matrices.DECIMALS)
SPLITTER = tl.constexpr(cpu_matrices.SPLITTER)
PER_6, PER_24, PER_120 = (tl.constexpr(1.0 / factorial) for factorial in (6.0, 24.0, 120.0))
BLOCK = 64  # operations per program


@triton.jit
def split(x):
    """Return x as a sum of two numbers of 26 bits each."""
    scaled = x * SPLITTER
    high = scaled - (scaled - x)
    return high, x - high


@triton.jit
def rounded(x):
    """Return x rounded to 15 decimals."""
    ten = x * 0.0 + DECIMALS
    product = x * ten
    high, low = split(x)
    ten_high, ten_low = split(ten)
    error = ((high * ten_high - product) + high * ten_low + low * ten_high) + low * ten_low
    nearest = rint(product)
    beyond = (product - nearest) + error
    nearest = tl.where(beyond > 0.5, nearest + 1.0, tl.where(beyond < -0.5, nearest - 1.0, nearest))
    return nearest / ten


@triton.jit
def turned(degrees, table):
    """Return cosine and sine to 15 decimals."""
    angle = degrees - 360.0 * tl.floor(degrees / 360.0)
    angle = tl.where(angle < 0.0, angle + 360.0, angle)
    angle = -(angle * RADIANS)
    part = rint(angle * PARTS_PER_RADIAN)
    rest = (angle - part * STEP_HIGH) - part * STEP_LOW
    square = rest * rest
    sine = rest - rest * square * (PER_6 - square * PER_120)
    lost = square * (0.5 - square * PER_24)
    row = table + 4 * ((part.to(tl.int64) % PARTS + PARTS) % PARTS)
    cos_high, cos_low, sin_high, sin_low = tl.load(row), tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)
    cosines = cos_high + ((cos_low - cos_high * lost) - sin_high * sine)
    sines = sin_high + ((sin_low - sin_high * lost) + cos_high * sine)
    return rounded(cosines), rounded(sines)


@triton.jit(do_not_specialize=["count"])
def fill(
    operations,
    arguments,
    table,
    out,
    count: tl.int32,
    height: tl.float64,
    width: tl.float64,
    SIZE: tl.constexpr,
):
    """Write coefficients float64 [count, 6] to ``out`` for operations int32 and arguments float64 [count]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = index < count
    code = tl.load(operations + index, mask=used, other=0)
    argument = tl.load(arguments + index, mask=used, other=0.0)
    zero = tl.zeros((SIZE,), tl.float64)
    rotates = code == ROTATE
    cosine, sine = turned(tl.where(rotates, argument, zero), table)
    x, y = -(width * 0.5), -(height * 0.5)
    c = tl.where(rotates, (cosine * x + sine * y) - x, zero)
    c = tl.where(code == TRANSLATE_X, argument, c)
    c = tl.where(code == TRANSLATE_X_REL, argument * width, c)
    f = tl.where(rotates, (-sine * x + cosine * y) - y, zero)
    f = tl.where(code == TRANSLATE_Y, argument, f)
    f = tl.where(code == TRANSLATE_Y_REL, argument * height, f)
    diagonal = tl.where(rotates, cosine, zero + 1.0)
    out += index.to(tl.int64) * 6
    tl.store(out, diagonal, mask=used)
    tl.store(out + 1, tl.where(code == SHEAR_X, argument, tl.where(rotates, sine, zero)), mask=used)
    tl.store(out + 2, c, mask=used)
    tl.store(out + 3, tl.where(code == SHEAR_Y, argument, tl.where(rotates, -sine, zero)), mask=used)
    tl.store(out + 4, diagonal, mask=used)
    tl.store(out + 5, f, mask=used)


def coefficients(operations: torch.Tensor, arguments: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return coefficients float64 [N, L, 6] for operations int32 and arguments float64 [N, L]."""
    out = torch.empty((*operations.shape, 6), dtype=torch.float64, device=operations.device)
    count = operations.numel()
    if count:
        with torch.cuda.device_of(operations):
            fill[(-(-count // BLOCK),)](
                operations.contiguous(), arguments.contiguous(), tables.turns(operations.device), out, count,
                float(height), float(width), BLOCK, num_warps=2, enable_fp_fusion=False,
            )  # fmt: skip
    return out
