"""The coefficients of the operations that move pixels, as Pillow computes them.

An output pixel (x, y) shows what lies at (a (x + 1/2) + b (y + 1/2) + c, d (x + 1/2) + e (y + 1/2) + f). A rotation by
an angle about the image's centre has the entries of its matrix rounded to 15 decimals.

Pillow takes sine and cosine from the C library. Here they come from + and × alone, so that they are the same on every
machine and device: from a table of the 4096th parts of a turn, in two float64 each, and three terms of the series of
the rest; the sum is within 0.51 units in the last place, so that rounding to 15 decimals gives Pillow's number but for
one in some thousand angles, where the 15th decimal differs (by a pixel's 10^-12th part).
"""

import functools
from decimal import Decimal, localcontext

import numpy as np
import torch

from gpurender.kernels.image_ops import Operation
from gpurender.runtime import devices

__all__ = ["coefficients"]

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
PARTS = 4096  # of a turn
PARTS_A_RADIAN = PARTS / float(2 * PI)
RADIANS = 0.017453292519943295  # of a degree
DECIMALS = 1e15
SPLITTER = 2.0**27 + 1.0


def coefficients(operations: torch.Tensor, arguments: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """a, b, c, d, e, f of each operation; those that move nothing have the identity's.

    Args:
        operations: int32 ``[N, L]``.
        arguments: float64 ``[N, L]``.
        height, width: of the images in pixels.

    Returns:
        float64 ``[N, L, 6]`` on their device.
    """
    if devices.on_gpu(operations.device):
        from gpurender.kernels.image_ops import gpu_matrices

        return gpu_matrices.coefficients(operations, arguments, height, width)
    zero, one = torch.zeros_like(arguments), torch.ones_like(arguments)
    cosine, sine = turned(torch.where(operations == Operation.ROTATE, arguments, zero))
    x, y = -width / 2, -height / 2
    rotated_c = (cosine * x + sine * y) - x
    rotated_f = (-sine * x + cosine * y) - y
    rotates = operations == Operation.ROTATE

    def entry(rotated: torch.Tensor, otherwise: torch.Tensor, *moves: tuple[Operation, torch.Tensor]) -> torch.Tensor:
        value = torch.where(rotates, rotated, otherwise)
        for operation, moved in moves:
            value = torch.where(operations == operation, moved, value)
        return value

    entries = (
        entry(cosine, one),
        entry(sine, zero, (Operation.SHEAR_X, arguments)),
        entry(
            rotated_c, zero, (Operation.TRANSLATE_X, arguments), (Operation.TRANSLATE_X_REL, arguments * float(width))
        ),
        entry(-sine, zero, (Operation.SHEAR_Y, arguments)),
        entry(cosine, one),
        entry(
            rotated_f, zero, (Operation.TRANSLATE_Y, arguments), (Operation.TRANSLATE_Y_REL, arguments * float(height))
        ),
    )
    return torch.stack(entries, dim=-1)


def turned(degrees: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of the angle that Pillow's matrix has for a rotation, to 15 decimals; float64 as ``degrees``."""
    angle = degrees - 360.0 * torch.floor(degrees / 360.0)  # degrees modulo 360, exactly
    angle = torch.where(angle < 0.0, angle + 360.0, angle)
    angle = -(angle * RADIANS)
    step_high, step_low = step()
    part = torch.round(angle * PARTS_A_RADIAN)
    rest = (angle - part * step_high) - part * step_low  # the first difference is exact
    square = rest * rest
    sine = rest - rest * square * (1.0 / 6.0 - square * (1.0 / 120.0))
    lost = square * (0.5 - square * (1.0 / 24.0))  # 1 - cos
    cos_high, cos_low, sin_high, sin_low = table(angle.device)[part.to(torch.int64) % PARTS].unbind(-1)
    cosines = cos_high + ((cos_low - cos_high * lost) - sin_high * sine)
    sines = sin_high + ((sin_low - sin_high * lost) + cos_high * sine)
    return rounded(cosines), rounded(sines)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """x, of size up to 1, to 15 decimals: Python's ``round(x, 15)``.

    The error of the product with 10^15 is computed, too (Dekker's product), so the nearest integer is the true one;
    and the quotient of an integer below 2^53 by 10^15 is the float64 next to that decimal.
    """
    product = x * DECIMALS
    high, low = _split(x)
    ten_high, ten_low = _split(torch.full_like(x, DECIMALS))
    error = ((high * ten_high - product) + high * ten_low + low * ten_high) + low * ten_low
    nearest = torch.round(product)
    beyond = (product - nearest) + error
    nearest = torch.where(beyond > 0.5, nearest + 1.0, torch.where(beyond < -0.5, nearest - 1.0, nearest))
    return nearest / DECIMALS


def _split(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x as a sum of two numbers of 26 bits each (Veltkamp)."""
    scaled = x * SPLITTER
    high = scaled - (scaled - x)
    return high, x - high


@functools.cache
def step() -> tuple[float, float]:
    """A 4096th of a turn in two parts; the first has 30 bits, so that its product with 0 .. 4096 is exact."""
    step = 2 * PI / PARTS
    high = float(int(step * 2**39)) * 2.0**-39
    return high, float(step - Decimal(high))


@functools.cache
def table(device: torch.device) -> torch.Tensor:
    """cos and sin of the parts of a turn, each in two parts: float64 ``[4096, 4]`` on the device, made in decimals."""
    with localcontext() as context:
        context.prec = 50
        angle = 2 * PI / PARTS
        c1, s1 = _series(angle, 0), _series(angle, 1)
        c, s, rows = Decimal(1), Decimal(0), np.empty((PARTS, 4))
        for row in rows:
            row[:] = float(c), float(c - Decimal(float(c))), float(s), float(s - Decimal(float(s)))
            c, s = c * c1 - s * s1, s * c1 + c * s1
    return torch.from_numpy(rows).to(device)


def _series(x: Decimal, first: int) -> Decimal:
    """x**n/n! - x**(n+2)/(n+2)! + ... from n = first on: the cosine from 0, the sine from 1."""
    term, total = (Decimal(1), Decimal(1)) if first == 0 else (x, x)
    for n in range(first + 2, 40, 2):
        term *= -x * x / (n * (n - 1))
        total += term
    return total
