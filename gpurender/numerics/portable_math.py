"""exp and log from + − × ÷ alone, so that a parameter computed with them has the same bits on every machine.

The C library's functions, and NumPy's, differ between machines in the last bit. The four operations do not: IEEE 754
rounds each of them correctly, and NumPy runs them one array operation at a time, so no two of them are fused.
Everything is float64.
"""

import numpy as np

# ln 2 in two parts: the first has 21 zero bits at its end, so that its products with exponents are exact.
LN2_HIGH = float.fromhex("0x1.62e42feep-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
LARGEST = 700.0  # e**700 is still a normal number, and so is e**-700
EXP_TERMS = 14  # (ln 2 / 2)**14 / 14! < 2**-57
LOG_TERMS = 12  # (3 - sqrt 8)**24 / 25 < 2**-64


def exp(x: np.ndarray | float) -> np.ndarray:
    """Return e to the power x, with a relative error of at most 2e-15.

    Formula: x = k ln 2 + r with |r| <= ln 2 / 2, and e**x = 2**k (1 + r (1 + r/2 (1 + r/3 (...)))).

    Raises:
        ValueError: some x is not in [-700, 700].
    """
    x = np.asarray(x, dtype=np.float64)
    if not (np.abs(x) <= LARGEST).all():
        raise ValueError(f"x must be within [-{LARGEST:g}, {LARGEST:g}], got {x!r}")
    k = np.rint(x * (1.0 / (LN2_HIGH + LN2_LOW)))
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    series = np.ones_like(r)
    for n in range(EXP_TERMS - 1, 0, -1):
        series = 1.0 + r * (1.0 / n) * series
    power = (k.astype(np.int64) + 1023 << 52).view(np.float64)  # 2**k, made from its bits
    return series * power


def log(x: np.ndarray | float) -> np.ndarray:
    """Return the natural logarithm of a positive x, with an error of at most 2e-15 max(abs(log x), 1).

    Formula: x = 2**e m with sqrt(1/2) <= m < sqrt(2), s = (m - 1) / (m + 1), and
    log x = e ln 2 + 2 (s + s**3/3 + s**5/5 + ...).

    Raises:
        ValueError: some x is not a positive normal number.
    """
    x = np.asarray(x, dtype=np.float64)
    if not ((x >= np.finfo(np.float64).tiny) & (x < np.inf)).all():
        raise ValueError(f"x must be positive, got {x!r}")
    m, e = np.frexp(x)  # exact
    small = m < 0.7071067811865476
    m, e = np.where(small, 2.0 * m, m), e - small
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    series = np.zeros_like(s)
    for n in range(LOG_TERMS - 1, -1, -1):
        series = series * square + 1.0 / (2 * n + 1)
    return e * LN2_HIGH + (2.0 * s * series + e * LN2_LOW)
