"""Numbers and ranges of numbers in one text, such as ``0-9,42``."""

import re

from gpurender.util import checks

PART = re.compile(r"\s*([0-9]{1,18})\s*(?:-\s*([0-9]{1,18})\s*)?")


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
