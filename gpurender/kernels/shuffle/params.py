"""The size of a shuffle's table and the limits of an epoch, for both implementations."""

import math

ROUNDS = 10
MIN_SIDE = 4
MAX_LENGTH = 2**62  # coordinates then fit 31 bits and cells 63


def last_epoch(length: int) -> int:
    """Return the last epoch whose draw ids, ``epoch * length + index``, and rounds stay below 2^63."""
    return 2**63 // max(length, ROUNDS) - 1


def grid_shape(length: int) -> tuple[int, int]:
    """Return columns and rows of the table of an epoch."""
    columns = max(MIN_SIDE, math.isqrt(length - 1) + 1)
    return columns, max(MIN_SIDE, -(-length // columns))
