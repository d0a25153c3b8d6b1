"""Sines and cosines of the q-th parts of a turn, equal bit for bit on every machine.

With 8 i = o q + r (o the octant, 0 <= r < q, in integers) the angle 2 pi i / q lies r/q of the way through octant o,
and the symmetries of the circle leave only sin and cos on [0, pi/4]::

    sin x = x - x^3/3! + x^5/5! - ...          cos x = 1 - x^2/2! + x^4/4! - ...

Both series are summed by + - * and / alone, which IEEE 754 rounds in the same way everywhere; libm differs between
machines.
"""

import numpy as np
import torch

from gpurender.util import device_tables

QUARTER_PI = 0.7853981633974483
CELLS, CELL_BITS = 256, 24  # cells of a turn, bits of an angle within its cell
BLOCK = 1 << 14  # entries computed together, whose arrays stay in a core's cache
TERMS = 9  # the first omitted term is below (pi/4)^18 / 18! = 2^-59: negligible in float64


def cos_sin_table(q: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cos(2 pi i / q) and sin(2 pi i / q) for i = 0 .. q-1, float64 ``[q]`` each, to within two ulp."""
    cosines, sines = cos_sin_tables(np.array([q]))
    return cosines, sines


def cos_sin_tables(parts: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """Return the tables of several q one after another, rounded to a type, ``[2, T]``: cosines and sines.

    All entries are computed together: table by table the 800 of VisualAtom take six times as long (83 ms, not 14).

    Args:
        parts: integers ``[N]`` from 1, the q of the tables; T is their sum.
        dtype: of the result.
    """
    q = np.repeat(parts.astype(np.int64), parts)
    i = np.arange(len(q), dtype=np.int64) - np.repeat(np.cumsum(parts) - parts, parts)
    found: np.ndarray = np.empty((2, len(q)), dtype)
    for first in range(0, len(q), BLOCK):
        block = slice(first, first + BLOCK)
        found[:, block] = _cos_sin(i[block], q[block])
    return found


def _cos_sin(i: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and sine of i / q of a turn, float64 [N] each; int64 [N] both, 0 <= i < q."""
    octant, r = np.divmod(8 * i, q)
    x = QUARTER_PI * (np.where(octant % 2 == 1, q - r, r) / q)  # odd octants run backwards
    c, s = _cos(x), _sin(x)
    # (cos, sin) of octants 0 .. 7: (c, s) (s, c) (-s, c) (-c, s) (-c, -s) (-s, -c) (s, -c) (c, -s)
    swapped = (octant + 1) & 2
    cosines, sines = np.where(swapped, s, c), np.where(swapped, c, s)
    cosines, sines = np.where((octant + 2) & 4, -cosines, cosines), np.where(octant & 4, -sines, sines)
    return cosines + 0.0, sines + 0.0  # no negative zeros


def cos_sin(turns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine of angles, to within four ulp; float64 of the same shape and device.

    An angle is one of the 256 of a table plus r, 0 <= r < 2 pi / 256::

        cos(a + r) = cos a cos r - sin a sin r          sin(a + r) = sin a cos r + cos a sin r

    Args:
        turns: int64 in [0, 2^32), in units of 2^-32 of a turn.
    """
    table = _table_on_device(turns.device)  # [2, 256]
    cell = turns >> CELL_BITS
    cosine, sine = table[0][cell], table[1][cell]
    r = (turns & ((1 << CELL_BITS) - 1)).to(torch.float64) * (8.0 * QUARTER_PI * 2.0**-32)
    square = r * r
    c = 1.0 - square * (1.0 / 2.0) * (1.0 - square * (1.0 / 12.0) * (1.0 - square * (1.0 / 30.0)))
    s = r - r * square * (1.0 / 6.0) * (1.0 - square * (1.0 / 20.0) * (1.0 - square * (1.0 / 42.0)))
    return cosine * c - sine * s, sine * c + cosine * s


@device_tables.on_device
def _table_on_device(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(cos_sin_table(CELLS))).to(device)


def _sin(x: np.ndarray) -> np.ndarray:
    """Return sin x, x in [0, pi/4]; the small terms are summed first and x is added last."""
    return x + x * _horner(x, 1)


def _cos(x: np.ndarray) -> np.ndarray:
    """Return cos x, x in [0, pi/4]."""
    return 1.0 + _horner(x, -1)


def _horner(x: np.ndarray, beside: int) -> np.ndarray:
    """Return the sum over k = 1 .. 8 of the product over j = 1 .. k of -x^2 / (2 j (2 j + beside)), by Horner."""
    square, total, part = -(x * x), np.zeros_like(x), np.empty_like(x)
    for k in range(TERMS - 1, 0, -1):  # in place: half the time
        total += 1.0
        total *= np.divide(square, 2 * k * (2 * k + beside), out=part)
    return total
