"""Numbers below a limit, as users choose them: one text with ranges, such as ``0-9,42``, an integer, or a list."""

import re
from collections.abc import Sequence
from typing import SupportsIndex, TypeAlias

import numpy as np

from gpurender.util import checks

Numbers: TypeAlias = str | SupportsIndex | Sequence[SupportsIndex] | np.ndarray  # what :func:`numbers` takes

PART = re.compile(r"\s*([0-9]{1,18})\s*(?:-\s*([0-9]{1,18})\s*)?")


def numbers(value: Numbers, limit: int, name: str) -> np.ndarray:
    """Return the numbers that a value chooses, in its order, int64 ``[N]``.

    Args:
        value: a text of :func:`parse_ranges`, an integer, or a list, range, array or tensor of integers.
        limit: all numbers must be below it.
        name: of the parameter, for errors.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed; or there is no number.
    """
    if isinstance(value, str):
        return np.array(parse_ranges(value, limit, name), np.int64)
    if not (hasattr(value, "__index__") or isinstance(value, (list, tuple, range))):  # arrays and tensors have one
        raise TypeError(
            f"{name} must be a text such as '0-9,42', an integer or a list of integers, in [0, {limit - 1}], "
            f"got {checks.shown(value)}"
        )
    found = checks.integers(name, value, limit - 1).astype(np.int64)
    if not len(found):
        raise ValueError(f"{name} must be one or more integers in [0, {limit - 1}], got {checks.shown(value)}")
    return found


def parse_ranges(text: str, limit: int, name: str) -> list[int]:
    """Return the numbers of a text, in its order and each once: ``"0-2,7"`` is ``[0, 1, 2, 7]``.

    Args:
        text: numbers and inclusive ranges ``first-last``, separated by commas.
        limit: all numbers must be below it.
        name: of the parameter, for errors.

    Raises:
        TypeError: this is not a text.
        ValueError: naming the parameter, its value and what is allowed.
    """
    allowed = f"numbers and ranges in [0, {limit - 1}] such as 0-9,42"
    if not isinstance(text, str):
        raise TypeError(f"{name} must be {allowed}, got {checks.shown(text)}")
    found: dict[int, None] = {}
    for part in text.split(","):
        match = PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < limit:
            raise ValueError(f"{name} must be {allowed}, got {checks.shown(text)}")
        found |= dict.fromkeys(range(first, last + 1))
    return list(found)
