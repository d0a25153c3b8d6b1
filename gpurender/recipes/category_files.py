"""Files of FractalDB's categories and instance weights, as its authors publish them; OFDB's are the same.

One category per file: one map per line, a, b, c, d, e, f, p. Weights: one row of factors of a to f per line.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from gpurender.recipes import ifs, published

Rows: TypeAlias = tuple[tuple[float, ...], ...]


def read_categories(folder: Any, parameters: Mapping[str, Any]) -> tuple[Rows, ...]:
    """Return the systems of a folder of category files, which take the place of a search's ``parameters``.

    Raises:
        TypeError: a parameter says where other categories come from.
        ValueError: as for :func:`gpurender.recipes.published.categories`.
    """
    for name in ("categories", "fill_rate"):
        if name in parameters:
            raise TypeError(f"{name} must be left out: the files in folder are the categories")
    return published.categories(folder, _read_category)


def write_categories(folder: Any, systems: Iterable[tuple[str, Rows]]) -> None:
    """Write pairs of a class's name and its system, rows of a to f or a to p, into a new or empty folder."""
    published.write(folder, ((f"{name}.csv", table_text(_with_probabilities(rows))) for name, rows in systems))


def table_text(rows: Iterable[Iterable[float]]) -> str:
    """Return a table as comma-separated numbers with all of their digits, so that the same numbers are read back."""
    return "".join(",".join(map(repr, row)) + "\n" for row in rows)


def _read_category(path: Path) -> Rows:
    return ifs.system(os.fspath(path), published.system(path, 6))


def _is_complete(rows: Rows) -> bool:
    """Return whether the probabilities sum to 1."""
    return abs(sum(row[6] for row in rows) - 1.0) <= published.ROUNDING


def _with_probabilities(rows: Rows) -> Iterable[Iterable[float]]:
    """Return rows of 7 numbers, unchanged if their probabilities sum to 1 already."""
    return rows if len(rows[0]) == 7 and _is_complete(rows) else ifs.canonical(rows)
