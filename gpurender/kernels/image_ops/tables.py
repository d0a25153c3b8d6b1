"""Look-up tables: the table of operations on a device, and sines and cosines."""

import functools
from decimal import Decimal, localcontext

import numpy as np
import torch

from gpurender.kernels.image_ops.ops import Operation

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
PARTS = 4096  # parts of a turn


@functools.cache
def specs(device: torch.device) -> torch.Tensor:
    """Return kind, lowest and highest argument of each operation, by code: float64 ``[operations, 3]``."""
    rows = [(operation.spec.kind, *(operation.spec.limits or (0.0, 0.0))) for operation in Operation]
    return torch.tensor(rows, dtype=torch.float64, device=device)


@functools.cache
def step() -> tuple[float, float]:
    """Return a 4096th of a turn as a sum of two: the first has 30 bits, so its product with 0 .. 4096 is exact."""
    step = 2 * PI / PARTS
    high = float(int(step * 2**39)) * 2.0**-39
    return high, float(step - Decimal(high))


@functools.cache
def turns(device: torch.device) -> torch.Tensor:
    """Return cos and sin of the multiples of a 4096th of a turn, each as a sum of two: float64 ``[4096, 4]``.

    They are computed in decimals.
    """
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
    """Return x**n/n! - x**(n+2)/(n+2)! + ... from n = ``first`` on: the cosine from 0, the sine from 1."""
    term, total = (Decimal(1), Decimal(1)) if first == 0 else (x, x)
    for n in range(first + 2, 40, 2):
        term *= -x * x / (n * (n - 1))
        total += term
    return total
