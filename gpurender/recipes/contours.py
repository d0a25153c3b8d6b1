"""Contours: what VisualAtom and RCDB share, whose images are nested closed lines around a centre."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from gpurender.kernels.philox import bounded, uniform
from gpurender.kernels.visual_atom import Atoms
from gpurender.numerics.unit_circle import cos_sin_tables
from gpurender.recipes import published
from gpurender.util import checks


def integers(u: Any, pair: tuple[int, int] | None) -> Any:
    """Return uniform integers in [low, high] from words."""
    low, high = pair  # type: ignore[misc]
    return low + bounded(u, high - low + 1)


def reals(u: Any, pair: tuple[float, float] | None) -> Any:
    """Return uniform numbers in [low, high) from words; low if the two are equal."""
    low, high = pair  # type: ignore[misc]
    return low + (high - low) * uniform(u)


def half_pixels(pair: tuple[float, float], size: int) -> tuple[int, int]:
    """Return the range of the integer ``2 centre - size`` for centres at (p + 1) / 2 of a canvas."""
    return round(pair[0] * size), round(pair[1] * size)


def reach(centre: tuple[float, float], size: int, radii: np.ndarray) -> float:
    """Return a bound of the coordinates of all vertices, in pixels.

    Args:
        centre: range of a centre, from -1 to 1 between the edges of the canvas.
        size: side of the canvas in pixels.
        radii: bounds of the distances from the centre, in pixels.
    """
    return 0.5 * size * max(abs(1.0 + side) for side in centre) + float(radii.max()) + 1.0  # 1: roundings of float32


def atoms(vertices: np.ndarray, reach: float, **columns: np.ndarray) -> Atoms:
    """Return a table of atoms on the host and the sines and cosines that they share.

    Args:
        vertices: integers ``[K]``.
        reach: of :class:`Atoms`.
        columns: the attributes ``rings``, ``frequencies``, ``axes``, ``growth``, ``amplitudes`` and ``noise_levels`` of
            :class:`Atoms`, as arrays of any type.
    """
    quantizations, which = np.unique(vertices, return_inverse=True)
    cosines, sines = cos_sin_tables(quantizations, np.float32)
    begins = np.cumsum(quantizations) - quantizations
    integral = {"rings", "frequencies"}
    host = {name: column.astype(np.int32 if name in integral else np.float32) for name, column in columns.items()}
    host |= {"vertices": vertices.astype(np.int32), "offsets": begins[which], "cosines": cosines, "sines": sines}
    tensors = {name: torch.from_numpy(array) for name, array in host.items()}
    return Atoms(**tensors, most_vertices=int(quantizations[-1]), reach=reach)


def repeated(atom: Atoms, count: int, **changes: torch.Tensor) -> Atoms:
    """Return ``count`` rows that equal the one row of a table but for some attributes; on the table's device."""
    rows = {
        name: getattr(atom, name).expand(count, *getattr(atom, name).shape[1:])
        for name in ("rings", "vertices", "frequencies", "axes", "growth", "amplitudes", "noise_levels", "offsets")
    }
    shared = {name: getattr(atom, name) for name in ("cosines", "sines", "most_vertices", "reach")}
    return Atoms(**rows | changes | shared)


# ------------------------------------------------------------------------------------------------------ given classes

Bounds = dict[str, tuple[float, float]]  # of the parameters of a class; one is an integer if both of its bounds are
Rows: TypeAlias = tuple[tuple[float, ...], ...]  # one row per class


def is_integer(bounds: Bounds, name: str) -> bool:
    """Return whether a parameter is an integer."""
    return isinstance(bounds[name][1], int)


def given_classes(
    categories: Any, classes: int | None, columns: tuple[str, ...], bounds: Bounds, perturbed: bool
) -> tuple[Rows, int | None]:
    """Return the rows of the parameter ``categories`` that are used, and the number of classes.

    Args:
        categories: all of it is checked, also rows that are not used.
        classes: number of classes; ``None``: as many as there are rows.
        columns: names of a row's parameters.
        bounds: of the parameters.
        perturbed: whether all classes are perturbations of one row; ``classes`` is then returned unchanged.

    Raises:
        TypeError, ValueError: naming the row and the parameter.
    """
    try:
        given = iter(categories)
    except Exception:
        raise TypeError(f"categories must be a sequence of rows, got {checks.shown(categories)}") from None
    rows = tuple(_row(f"categories[{i}]", row, columns, bounds) for i, row in enumerate(given))
    if not rows:
        raise ValueError("categories must hold at least one row, got none")
    if perturbed:
        if len(rows) > 1:
            raise ValueError(f"categories must hold one row with perturb, the one to perturb, got {len(rows)}")
        return rows, classes
    count = len(rows) if classes is None else checks.integer("classes", classes, 1, len(rows))
    return rows[:count], count


def refuse_laws(recipe: Any, names: Iterable[str], usual: Mapping[str, Any]) -> None:
    """Refuse ranges that have no effect because the classes are given.

    ``usual``: defaults that are not those of the recipe's fields.
    """
    defaults = {field.name: field.default for field in fields(recipe)} | dict(usual)
    for name in names:
        if (value := getattr(recipe, name)) != defaults[name]:
            raise ValueError(f"{name} must be left out when categories are given, got {checks.shown(value)}")


def by_name(rows: Any, columns: tuple[str, ...], bounds: Bounds) -> dict[str, np.ndarray]:
    """Return the columns of rows of parameters: int64 or float64 ``[N]``."""
    table = np.array(rows)  # [N, columns] float64, exact for these integers
    found = dict(zip(columns, table.T, strict=True))
    return {name: x.astype(np.int64) if is_integer(bounds, name) else x for name, x in found.items()}


def stated(values: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return columns of parameters, ``[N]`` each, as N rows of JSON values by name."""
    return [dict(zip(values, row, strict=True)) for row in zip(*(x.tolist() for x in values.values()), strict=True)]


def _row(shown: str, row: Any, columns: tuple[str, ...], bounds: Bounds) -> tuple[float, ...]:
    if not checks.is_sequence(row, len(columns)):
        raise TypeError(f"{shown} must be {len(columns)} numbers, {', '.join(columns)}; got {checks.shown(row)}")
    return tuple(_parameter(f"{shown}: {name}", name, x, bounds) for name, x in zip(columns, row, strict=True))


def _parameter(shown: str, name: str, value: Any, bounds: Bounds) -> float:
    """Check a class parameter; whole numbers may be floats such as 500.0, as in an array of floats or a file."""
    low, high = bounds[name]
    if not is_integer(bounds, name):
        return checks.real(shown, value, low, high)
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return checks.integer(shown, whole, int(low), int(high))


def read_classes(
    folder: Any,
    given: Mapping[str, Any],
    labels: Mapping[str, str],
    columns: tuple[str, ...],
    bounds: Bounds,
    usual: Mapping[str, float],
) -> Rows:
    """Return the classes of a folder of published files, one parameter per line, ``name,value``.

    Args:
        folder: as for :func:`gpurender.recipes.published.categories`.
        given: the other arguments of a ``from_csv``.
        labels: the parameters by their names in the files; other names are ignored.
        columns: names of a row's parameters.
        bounds: of the parameters.
        usual: parameters that no file has.

    Raises:
        TypeError: an argument gives other categories.
        ValueError: as for :func:`gpurender.recipes.published.categories`.
    """
    if "categories" in given:
        raise TypeError("categories must be left out: the files in folder are the categories")
    return published.categories(folder, _reader(labels, columns, bounds, usual))


def write_classes(
    folder: Any, names: Iterable[str], labels: Mapping[str, str], values: Mapping[str, np.ndarray]
) -> None:
    """Write classes in this layout into a new or empty folder.

    Args:
        folder: it gets all files or none.
        names: of the classes.
        labels: the parameters by their names in the files.
        values: the parameters, ``[classes]`` each.

    Raises:
        ValueError: ``folder`` is not empty, or cannot be written.
    """
    columns = [values[name].tolist() for name in labels.values()]
    published.write(
        folder,
        (
            (f"{name}.csv", "".join(f"{label},{value!r}\n" for label, value in zip(labels, row, strict=True)))
            for name, row in zip(names, zip(*columns, strict=True), strict=True)
        ),
    )


def _reader(
    labels: Mapping[str, str], columns: tuple[str, ...], bounds: Bounds, usual: Mapping[str, float]
) -> Callable[[Path], tuple[float, ...]]:
    """Return a function that reads a published class; arguments as for :func:`read_classes`."""
    names = {_plain(label): name for label, name in labels.items()}

    def read(path: Path) -> tuple[float, ...]:
        found = dict(usual)
        for number, line in published.lines(path):
            label, *cells = line.split(",")
            shown = f"{path}, line {number}: {label.strip()}"
            if len(cells) != 1:
                raise ValueError(f"{path}, line {number}: expected a name, a comma and a number, got {line[:60]!r}")
            name = names.get(_plain(label))
            if name is None:  # the centre of one image, or a note
                continue
            if name in found:
                raise ValueError(f"{shown} is there twice")
            found[name] = _value(shown, name, cells[0], bounds)
        _refuse_missing(path, labels, found)
        return tuple(found[name] for name in columns)

    return read


def _value(shown: str, name: str, cell: str, bounds: Bounds) -> float:
    value = published.number(cell)
    if value is None:
        raise ValueError(f"{shown} must be a number, got {cell[:60]!r}")
    try:
        return _parameter(shown, name, value, bounds)
    except TypeError as error:  # for example 300.5 vertices
        raise ValueError(str(error)) from None


def _refuse_missing(path: Path, labels: Mapping[str, str], found: Iterable[str]) -> None:
    if missing := [label for label, name in labels.items() if name not in found]:
        raise ValueError(f"{path}: a line is missing for {', '.join(missing)}; is the file cut off?")


def _plain(label: str) -> str:
    """Return a name's letters and digits in lower case: "nami 1", "nami_1" and "Nami1" are the same name."""
    return "".join(filter(str.isalnum, label)).lower()
