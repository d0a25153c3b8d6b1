"""Files of categories and instance weights, as the authors of FractalDB, OFDB and ExFractalDB publish them.

One category per file: one map per line, its 6 or 12 parameters and its probability. Weights: one row of factors of the
parameters per line.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpurender.recipes import ifs, published
from gpurender.recipes.ifs import PLANE, Rows
from gpurender.util import atomic_files, checks


def read_categories(
    folder: Any, given: Mapping[str, Any], least: str = "fill_rate", parameters: int = PLANE
) -> tuple[Rows, ...]:
    """Return the systems of a folder of category files, which take the place of a search.

    Args:
        folder: as for :func:`gpurender.recipes.published.categories`.
        given: the other arguments of a ``from_csv``.
        least: name of the search's threshold.
        parameters: of a map.

    Raises:
        TypeError: an argument says where other categories come from.
        ValueError: as for :func:`gpurender.recipes.published.categories`.
    """
    for name in ("categories", least):
        if name in given:
            raise TypeError(f"{name} must be left out: the files in folder are the categories")

    def read(path: Path) -> Rows:
        return ifs.system(os.fspath(path), published.system(path, parameters), parameters)

    return published.categories(folder, read)


def write_categories(folder: Any, systems: Iterable[tuple[str, Rows]], weights: Any = None, factors: Rows = ()) -> None:
    """Write categories into a new or empty folder and, if ``weights`` is a path, their instance weights to this file.

    Args:
        folder: it gets all files or none.
        systems: pairs of a class's name and its system, with or without probabilities.
        weights: a file outside ``folder``, or ``None``.
        factors: the instance weights.

    Raises:
        ValueError: a folder or file cannot be written, or ``folder`` is not empty.
    """
    if weights is not None:
        file = checks.path("weights", weights).resolve()
        if checks.path("folder", folder).resolve() in file.parents:
            shown = checks.shown_path(weights)
            raise ValueError(f"weights must be a file outside folder, whose files are categories, got {shown}")
        atomic_files.check_writable(weights)
    published.write(folder, ((f"{name}.csv", _text(_with_probabilities(rows))) for name, rows in systems))
    if weights is not None:
        with atomic_files.replacing(weights) as temporary:
            Path(temporary).write_text(_text(factors), encoding="utf-8")


def _text(rows: Iterable[Iterable[float]]) -> str:
    """Return a table as comma-separated numbers with all of their digits, so that the same numbers are read back."""
    return "".join(",".join(map(repr, row)) + "\n" for row in rows)


def _with_probabilities(rows: Rows) -> Iterable[Iterable[float]]:
    """Return rows with probabilities, unchanged if these are there and sum to 1 already."""
    complete = len(rows[0]) % PLANE == 1 and abs(sum(row[-1] for row in rows) - 1.0) <= published.ROUNDING
    return rows if complete else ifs.canonical(rows)
