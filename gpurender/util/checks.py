"""Argument checks: every error names the parameter, the value and the allowed values."""

import math
import operator
import os
import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

UINT64_MAX = 2**64 - 1
TEXT = (str, bytes, bytearray, memoryview, np.void)  # types from which float() would parse a number
LIKENESS = 0.7  # of a wrong text and a word that is suggested, at least; 1: equal
LONGEST = 100  # characters of a text that may be a word with a typing error


def shown(value: Any) -> str:
    """Return ``repr`` of a value, shortened so that an error stays one readable line; the type if ``repr`` fails."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of 5,000 digits, a list that holds itself
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def shown_path(path: Any) -> str:
    """Return a path in quotes, in full up to 500 characters; a longer path is shortened as in :func:`shown`."""
    text = repr(os.fspath(path))
    return text if len(text) <= 500 else shown(path)


def is_boolean(value: Any) -> bool:
    """Return whether a value is a boolean of Python, NumPy or torch: each of these would pass for a number."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Return ``value`` as an ``int`` in ``[low, high]``; booleans and fractions are refused."""
    if type(value) is int and low <= value <= high:  # as nearly always: a batch checks twenty
        return value
    allowed = f"an integer in [{low}, {high}]"
    if is_boolean(value):
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}")
    try:
        number = operator.index(value)
    except Exception:  # TypeError; RuntimeError of a tensor without values; any error of a foreign __index__
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} must be {allowed}, got {shown(value)}")
    return number


def integers(name: str, values: Any, high: int) -> np.ndarray:
    """Return integers in ``[0, high]`` (an int, a list, a NumPy array or a torch tensor) as uint64 ``[N]``."""
    if hasattr(values, "cpu"):  # a tensor
        values = values.cpu().numpy()
    if not isinstance(values, (np.ndarray, np.generic)):
        values = [values] if not isinstance(values, (list, tuple, range)) else values
        return np.array([integer(name, value, 0, high) for value in values], np.uint64)
    allowed = f"integers in [0, {high}], one or a list"
    if values.ndim > 1 or (values.dtype.kind not in "iu" and values.size > 0):  # np.array([]) has a float dtype
        raise TypeError(f"{name} must be {allowed}, got {shown(values)} of {values.dtype}")
    if values.size and not 0 <= values.min() <= values.max() <= high:
        integer(name, values.min(), 0, high)
        integer(name, values.max(), 0, high)
    return np.atleast_1d(values).astype(np.uint64)


def real(name: str, value: Any, low: float, high: float) -> float:
    """Return ``value`` as a finite ``float`` in ``[low, high]`` (and ``-0.0`` as ``0.0``)."""
    allowed = f"a finite number in [{low:g}, {high:g}]"
    if is_boolean(value) or isinstance(value, TEXT) or "complex" in str(getattr(value, "dtype", "")):
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}")
    try:
        number = float(value)
    except Exception:
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}") from None
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be {allowed}, got {shown(value)}")
    return number + 0.0


def boolean(name: str, value: Any) -> bool:
    """Return ``value`` if it is ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return value


def path(name: str, value: Any) -> Path:
    """Return ``value``, a text or a path object, as a path; nothing need be there."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(text := os.fspath(value), str):
        raise TypeError(f"{name} must be a path, got {shown(value)}")
    if not text or "\0" in text:
        raise ValueError(f"{name} must be a path, neither empty nor with a null character, got {shown(value)}")
    return Path(text)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of the ``allowed`` words."""
    words = ", ".join(repr(word) for word in allowed)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {words}, got {shown(value)}")
    if value not in allowed:
        raise ValueError(f"{name} must be one of {words}, got {shown(value)}{did_you_mean(value, allowed)}")
    return str(value)


def did_you_mean(text: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'word'?"`` with the allowed word that is most like a wrong text, or an empty string.

    Capitals and separators do not count. A text may be like a whole word, or like its first parts: ``vit_tinny`` is
    like ``vit_tiny_patch16_224``, and ``fractaldb`` like ``fractaldb-1k``. Of equally like words the first is taken.
    """
    if len(text) > LONGEST:
        return ""
    compare = SequenceMatcher(None, b="".join(_parts(text)), autojunk=False)
    likeness = {word: _likeness(compare, _parts(word)) for word in allowed}
    word = max(likeness, key=likeness.__getitem__, default="")
    return f"; did you mean {word!r}?" if likeness.get(word, 0.0) >= LIKENESS else ""


def _likeness(compare: SequenceMatcher[str], parts: list[str]) -> float:
    """Return how like a text and a word, or some of the first parts of the word, are: 0 to 1."""
    ratios = []
    for count in range(1, len(parts) + 1):
        compare.set_seq1("".join(parts[:count]))
        ratios.append(compare.ratio())
    return max(ratios)


def _parts(word: str) -> list[str]:
    """Return the parts of a word between separators, in small letters."""
    return re.split(r"[-_./\s]+", word.lower())


def is_sequence(value: Any, length: int) -> bool:
    """Return whether a value is a list, tuple, array or tensor of ``length`` values; sets and dicts have no order."""
    if isinstance(value, TEXT):
        return False
    return (isinstance(value, Sequence) or getattr(value, "ndim", None) == 1) and len(value) == length


def _pair(name: str, value: Any, kind: str) -> tuple[Any, Any]:
    if not is_sequence(value, 2):
        raise TypeError(f"{name} must be a pair (low, high) of {kind}, got {shown(value)}")
    return value[0], value[1]


def integer_range(name: str, value: Any, low: int, high: int) -> tuple[int, int]:
    """Return ``value`` as an inclusive pair of integers, ordered and within ``[low, high]``."""
    first, last = _pair(name, value, "integers")
    pair = integer(f"{name}[0]", first, low, high), integer(f"{name}[1]", last, low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{name} must be a pair (low, high) with low <= high, got {shown(value)}")
    return pair


def real_range(name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """Return ``value`` as an ordered pair of finite numbers within ``[low, high]``."""
    first, last = _pair(name, value, "numbers")
    pair = real(f"{name}[0]", first, low, high), real(f"{name}[1]", last, low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{name} must be a pair (low, high) with low <= high, got {shown(value)}")
    return pair


def table(
    name: str, value: Any, columns: Sequence[int], max_rows: int, low: float, high: float
) -> tuple[tuple[float, ...], ...]:
    """Return a non-empty table of finite numbers as nested tuples, its width one of ``columns``."""
    widths = " or ".join(str(width) for width in columns)
    shape = f"a table of 1 to {max_rows} rows of {widths} numbers"
    try:
        if isinstance(value, (set, frozenset, dict, str)):
            raise TypeError
        rows = [list(islice(row, max(columns) + 1)) for row in islice(iter(value), max_rows + 1)]
    except Exception:
        raise TypeError(f"{name} must be {shape}, got {shown(value)}") from None
    if not 1 <= len(rows) <= max_rows or len({len(row) for row in rows}) != 1:
        raise ValueError(f"{name} must be {shape}, got {shown(value)}")
    if len(rows[0]) not in columns:
        raise ValueError(f"{name} must be {shape}, got {len(rows[0])} columns")
    return tuple(
        tuple(real(f"{name}[{i}][{j}]", x, low, high) for j, x in enumerate(row)) for i, row in enumerate(rows)
    )
