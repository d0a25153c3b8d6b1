"""Sines and cosines of the q-th parts of a turn, equal bit for bit on every machine.

With 8 i = o q + r (o the octant, 0 <= r < q, in integers) the angle 2 pi i / q lies r/q of the way through octant o,
and the symmetries of the circle leave only sin and cos on [0, pi/4]::

    sin x = x - x^3/3! + x^5/5! - ...          cos x = 1 - x^2/2! + x^4/4! - ...

Both series are summed by + - * and / alone, which IEEE 754 rounds in the same way everywhere; libm differs between
machines.
"""

import numpy as np

QUARTER_PI = 0.7853981633974483
TERMS = 9  # the first omitted term is below (pi/4)^18 / 18! = 2^-59: negligible in float64


def cos_sin_table(q: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cos(2 pi i / q) and sin(2 pi i / q) for i = 0 .. q-1, float64 ``[q]`` each, to within two ulp."""
    octant, r = np.divmod(8 * np.arange(q, dtype=np.int64), q)
    odd = octant % 2 == 1
    x = QUARTER_PI * (np.where(odd, q - r, r) / q)  # odd octants run backwards
    c, s = _cos(x), _sin(x)
    # (cos, sin) of the octants 0 .. 7, from the octant's own angle x
    cosines = np.choose(octant, [c, s, -s, -c, -c, -s, s, c])
    sines = np.choose(octant, [s, c, c, s, -s, -c, -c, -s])
    return cosines + 0.0, sines + 0.0  # no negative zeros


def _sin(x: np.ndarray) -> np.ndarray:
    """Return sin x by Horner's rule, x in [0, pi/4]; the small terms are summed first and x is added last."""
    total = np.zeros_like(x)
    for k in range(TERMS - 1, 0, -1):
        total = (1.0 + total) * (-(x * x) / ((2 * k) * (2 * k + 1)))
    return x + x * total


def _cos(x: np.ndarray) -> np.ndarray:
    """Return cos x by Horner's rule, x in [0, pi/4]."""
    total = np.zeros_like(x)
    for k in range(TERMS - 1, 0, -1):
        total = (1.0 + total) * (-(x * x) / ((2 * k - 1) * (2 * k)))
    return 1.0 + total
