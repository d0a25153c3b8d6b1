"""The coefficients of the operations that move pixels, as Pillow computes them.

An output pixel (x, y) shows the input at (a (x + 1/2) + b (y + 1/2) + c, d (x + 1/2) + e (y + 1/2) + f). The matrix of
a rotation by an angle about the image's centre has its entries rounded to 15 decimals.

Pillow takes sine and cosine from the C library. This module computes them by + and × alone, so that they are the same
on every machine and device: from a table of the multiples of a 4096th of a turn, in two float64 each, and three terms
of the series of the rest. The sum is within 0.51 units in the last place, so rounding to 15 decimals gives Pillow's
number except for one in some thousand angles, where the 15th decimal differs (by 10^-12 of a pixel).
"""

import torch

from gpurender.kernels.image_ops.ops import Operation
from gpurender.kernels.image_ops.tables import PARTS, PI, step, turns

PARTS_PER_RADIAN = PARTS / float(2 * PI)
RADIANS = 0.017453292519943295  # radians per degree
DECIMALS = 1e15
SPLITTER = 2.0**27 + 1.0


def coefficients(operations: torch.Tensor, arguments: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return a, b, c, d, e, f of each operation; operations that do not move pixels have the identity's.

    Args:
        operations: int32 ``[N, L]``.
        arguments: float64 ``[N, L]``.
        height, width: sides of the images in pixels.

    Returns:
        float64 ``[N, L, 6]`` on the device of the arguments.
    """
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
    """Return the cosine and sine of Pillow's matrix for a rotation by ``degrees``: float64, to 15 decimals."""
    angle = degrees - 360.0 * torch.floor(degrees / 360.0)  # degrees modulo 360, exactly
    angle = torch.where(angle < 0.0, angle + 360.0, angle)
    angle = -(angle * RADIANS)
    step_high, step_low = step()
    part = torch.round(angle * PARTS_PER_RADIAN)
    rest = (angle - part * step_high) - part * step_low  # the first difference is exact
    square = rest * rest
    sine = rest - rest * square * (1.0 / 6.0 - square * (1.0 / 120.0))
    lost = square * (0.5 - square * (1.0 / 24.0))  # 1 - cos
    cos_high, cos_low, sin_high, sin_low = turns(angle.device)[part.to(torch.int64) % PARTS].unbind(-1)
    cosines = cos_high + ((cos_low - cos_high * lost) - sin_high * sine)
    sines = sin_high + ((sin_low - sin_high * lost) + cos_high * sine)
    return rounded(cosines), rounded(sines)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Return x, at most 1 in size, rounded to 15 decimals: Python's ``round(x, 15)``.

    The error of the product with 10^15 is also computed (Dekker's product), so the nearest integer is the true one; and
    the quotient of an integer below 2^53 by 10^15 is the float64 nearest to that decimal.
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
    """Return x as a sum of two numbers of 26 bits each (Veltkamp)."""
    scaled = x * SPLITTER
    high = scaled - (scaled - x)
    return high, x - high
