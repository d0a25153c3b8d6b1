"""Iterated function systems in the plane and in space: probabilities, thresholds, rendering.

A map of the plane has 6 parameters, a to f, and a map of space 12, a to l; a probability p may follow.

Host arithmetic is float64 and uses only NumPy's + - * / and comparisons, so that the float32 values passed to a kernel
are the same on every machine.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch.utils.data import get_worker_info

from gpurender.kernels.chaos_game import (
    MAX_MAPS,
    Systems,
    mask_bitmaps,
    masked_occupancy,
    occupancy,
    render_bitmaps,
    render_systems,
)
from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.runtime import cuda_streams, dispatch
from gpurender.util import checks

log = logging.getLogger("gpurender")

Rows: TypeAlias = tuple[tuple[float, ...], ...]  # one row per map

DRAW_TYPES = ("patch_gray", "patch_color", "point_gray", "point_color")
MASK_MODES = ("random", "fill")
PLANE, SPACE = 6, 12  # parameters of a map
# Sierpinski's triangle, for testing kernels
TRIANGLE = tuple((0.5, 0.0, 0.0, 0.5, x, y) for x, y in ((0.0, 0.0), (0.5, 0.0), (0.25, 0.5)))
MAX_PARAMETER = 1e6  # bound of a map's parameter; below it the kernel's range check keeps every orbit finite

# The released programs store every image upside down (row 0 at the top, y upwards); code of kernels.chaos_game.
UPSIDE_DOWN = 1

COVER_BATCH = 4096  # bitmaps computed per call on a GPU: 128 MiB at 512 x 512, three times that with masks
HOST_BATCH = 64  # on a CPU: 2 MiB, so that little is lost when an interrupt ends the call


def system(name: str, value: object, parameters: int = PLANE) -> Rows:
    """Validate one system: 1 to 64 maps of 6 or 12 ``parameters`` and optionally a probability p."""
    rows = checks.table(name, value, (parameters, parameters + 1), MAX_MAPS, -MAX_PARAMETER, MAX_PARAMETER)
    map_probabilities(np.array([rows]), name)
    return rows


def given_systems(value: Any, parameters: int = PLANE) -> tuple[Rows, ...]:
    """Validate the parameter ``categories``, a sequence of systems; systems that are not used, too."""
    try:
        given = iter(value)
    except Exception:
        raise TypeError(f"categories must be a sequence of systems, got {checks.shown(value)}") from None
    systems = tuple(system(f"categories[{i}]", rows, parameters) for i, rows in enumerate(given))
    if not systems:
        raise ValueError("categories must hold at least one system, got none")
    return systems


def map_probabilities(maps: np.ndarray, name: str = "base") -> np.ndarray:
    """Return the probabilities of the maps, [N, M]: p if present, else |det|, normalised (released rule).

    maps  # [N, M, 6, 7, 12 or 13] float64, rows of zeros as padding
    """
    rule = "|a d - b c|" if maps.shape[-1] < SPACE else "|det| of the 3 x 3 matrix"
    if maps.shape[-1] in (PLANE + 1, SPACE + 1):
        return _shares(maps[..., -1], name, rule)
    if maps.shape[-1] == PLANE:
        return _shares(np.abs(maps[..., 0] * maps[..., 3] - maps[..., 1] * maps[..., 2]), name, rule)
    a, b, c, d, e, f, g, h, i = np.moveaxis(maps[..., :9], -1, 0)
    return _shares(np.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)), name, rule)


def _shares(weights: np.ndarray, name: str, rule: str) -> np.ndarray:
    """Return weights of maps, float64 [N, M], divided by the sum of their system's.

    Raises:
        ValueError: a weight is negative, or all are 0; ``rule`` says what they are where none are given.
    """
    if (weights < 0).any():
        raise ValueError(f"{name}: a probability p must be >= 0, got {weights.min():g}")
    total = np.zeros(len(weights))
    for column in range(weights.shape[1]):  # in order: np.sum may pair differently on another machine
        total = total + weights[:, column]
    if not (total > 0).all():
        raise ValueError(f"{name}: the maps' probabilities must not all be 0 (without a column p they are {rule})")
    return weights / total[:, None]


def canonical(system: Rows) -> list[list[float]]:
    r"""Return a system as rows of parameters and p, the same whether p is given as \|det\| or left out."""
    probabilities = map_probabilities(np.array([system]))[0].tolist()
    return [[*_without_p(row), p] for row, p in zip(system, probabilities, strict=True)]


def used_maps(system: Rows) -> list[list[float]]:
    """Return :func:`canonical` without the maps that are never chosen."""
    return [row for row in canonical(system) if row[-1] > 0]


def padded(systems: Sequence[Rows]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return maps float64 [K, M, 6 or 12], probabilities [K, M] and counts [K] of systems, rows of zeros as padding."""
    tables = [np.array([canonical(rows)]) for rows in systems]  # [1, maps, 7 or 13]
    counts = np.array([table.shape[1] for table in tables])
    whole = np.zeros((len(tables), counts.max(), tables[0].shape[2]))
    for row, table in zip(whole, tables, strict=True):
        row[: table.shape[1]] = table[0]
    return whole[..., :-1], whole[..., -1], counts


def rows_of(maps: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> Iterator[Rows]:
    """Yield systems as rows of parameters and p; arguments as :func:`padded` returns them."""
    for table, count in zip(np.concatenate([maps, probabilities[..., None]], axis=2), counts, strict=True):
        yield tuple(map(tuple, table[:count].tolist()))


def stated(maps: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> list[dict[str, Any]]:
    """Return systems as JSON values: ``maps``, rows of parameters and p, as ``base`` and ``categories`` take them.

    Arguments as :func:`padded` returns them.
    """
    return [{"maps": [list(row) for row in rows]} for rows in rows_of(maps, probabilities, counts)]


def _without_p(row: Sequence[float]) -> Sequence[float]:
    return row[: len(row) // PLANE * PLANE]


def thresholds(probabilities: np.ndarray) -> np.ndarray:
    """Return the kernel's cumulative probabilities in units of 2^-16, int32 [N, M]; probabilities: float64 [N, M]."""
    cumulative, total = np.empty(probabilities.shape), np.zeros(len(probabilities))
    for column in range(probabilities.shape[1]):
        total = total + probabilities[:, column]
        cumulative[:, column] = total
    return np.floor(cumulative * 65536.0 + 0.5).astype(np.int32)


def systems(maps: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> Systems:
    """Return the kernel's systems, on the CPU; maps: float64 [N, M, 6], probabilities: [N, M], counts: [N]."""
    return Systems(
        maps=torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32)),
        thresholds=torch.from_numpy(thresholds(probabilities)),
        counts=torch.from_numpy(np.asarray(counts, dtype=np.int32)),
    )


def style(draw_type: str, mask_mode: str) -> dict[str, bool]:
    """Return the kernel's switches for the released names of a drawing style."""
    return {
        "color": draw_type.endswith("_color"),
        "patch": draw_type.startswith("patch_"),
        "mask": mask_mode == "random",
    }


class PointRecipe(Protocol):
    """The fields of 1p-frac and FractalDB that :func:`render` reads."""

    @property
    def seed(self) -> int: ...
    @property
    def points(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def draw_type(self) -> str: ...
    @property
    def mask_mode(self) -> str: ...


class Images(NamedTuple):
    """Images of a dataset that repeat: the same sample has the same points and the same mask in every epoch.

    Attributes:
        ids: int64 ``[N]``, the images of a batch, in ``[0, total)``; flips of one image are one image.
        total: number of images.
        system_of, mask_of: the system and the draw id of the mask of images, from int64 to int64 ``[n]``.
    """

    ids: torch.Tensor
    total: int
    system_of: Callable[[torch.Tensor], torch.Tensor]
    mask_of: Callable[[torch.Tensor], torch.Tensor]


def bytes_of(count: int, size: int) -> int:
    """Return the bytes of ``count`` bitmaps: rows of ``size`` pixels in words of 32 bits."""
    return count * size * ((size + 31) // 32) * 4


def kept_bytes(recipe: PointRecipe, systems: int, images: int, cache_bytes: int) -> int:
    """Return the bytes that :func:`render` keeps within ``cache_bytes`` of a dataset whose point sets repeat.

    ``systems``: number of point sets; ``images``: total of :class:`Images`, 0 if these do not repeat.
    """
    how = style(recipe.draw_type, recipe.mask_mode)
    counts = [] if how["color"] else [images if how["patch"] else 0, systems]
    needed = (bytes_of(count, recipe.image_size) for count in counts if count)
    return next((bytes for bytes in needed if bytes <= cache_bytes), 0)


@dataclass(frozen=True)
class BitmapTable:
    """Bitmaps by number: on a GPU all are computed at first use, on a CPU each one when it is first wanted.

    Attributes:
        rows: int32 ``[count, size, words]`` on the device; memory of rows that are not computed is not touched.
        known: bool ``[count]``, on the host: which are computed.
    """

    rows: torch.Tensor
    known: np.ndarray

    @classmethod
    def empty(cls, count: int, size: int, device: torch.device) -> "BitmapTable":
        """Return a table of which nothing is computed."""
        shape = (count, size, (size + 31) // 32)
        if dispatch.on_host(device):  # NumPy's memory is not touched; torch fills its own in deterministic mode
            return cls(torch.from_numpy(np.empty(shape, np.int32)), np.zeros(count, bool))
        return cls(torch.empty(shape, dtype=torch.int32, device=device), np.zeros(count, bool))

    @property
    def complete(self) -> bool:
        """Whether all bitmaps are computed."""
        return bool(self.known.all())

    @property
    def kept_bytes(self) -> int:
        """Bytes of the bitmaps that are computed."""
        return bytes_of(int(self.known.sum()), self.rows.shape[1])

    def filled(self, ids: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return the rows, of which those of ``ids`` (int64 ``[N]``) are computed.

        ``compute``: from numbers int64 ``[n]`` on the device to bitmaps int32 ``[n, size, words]``.
        """
        host = dispatch.on_host(self.rows.device)
        if not host and self.complete:
            return self.rows
        missing = np.unique(ids.numpy()) if host else np.arange(len(self.known))
        missing = missing[~self.known[missing]]
        most = HOST_BATCH if host else COVER_BATCH
        for first in range(0, len(missing), most):
            numbers = missing[first : first + most]
            places = torch.from_numpy(numbers).to(self.rows.device)
            self.rows[places] = compute(places)
            if host:
                self.known[numbers] = True  # afterwards: another thread may read what is known
        if not host:
            cuda_streams.settle(self.rows.device)  # another CUDA stream must not read what is still being computed
            self.known[:] = True
        return self.rows


@dataclass
class Bitmaps:
    """Bitmaps that repeat, one bit per pixel, kept on the device within a budget. A catalog has one ``Bitmaps``.

    Attributes:
        budget: maximum bytes of all bitmaps; a worker of torch's ``DataLoader`` has its share of them.
        images: with patches and mask, where these repeat as well; an image then costs no more than its bytes.
        points: the points of each system, which leaves the mask to be drawn per image.
    """

    budget: int
    images: BitmapTable | None = None
    points: BitmapTable | None = None

    def table(self, kind: str, count: int, size: int, device: torch.device) -> BitmapTable | None:
        """Return the table ``kind`` of ``count`` bitmaps, or ``None`` if budget or memory do not hold all of them.

        Two threads may make a table at the same time. Both tables are right, and the later one is kept.
        """
        worker = get_worker_info()  # of those that torch starts, each with its own memory
        budget = self.budget // worker.num_workers if worker else self.budget
        found: BitmapTable | None = getattr(self, kind)
        if found is not None and found.complete:
            return found  # a worker shares its pages with the process that it was forked from
        needed = 0 if found is not None else bytes_of(count, size)
        if needed + self.nbytes > budget:
            return None
        if found is None:
            try:
                found = BitmapTable.empty(count, size, device)
            except (MemoryError, RuntimeError) as error:  # RuntimeError: torch's, on a GPU
                log.info("%s bitmaps of %d x %d are not kept: %s", f"{count:,}", size, size, error)
                self.budget = 0
                return None
            setattr(self, kind, found)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""
        return sum(table.rows.nbytes for table in (self.images, self.points) if table is not None)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the bitmaps that are computed: a CPU has no memory for the others yet."""
        return sum(table.kept_bytes for table in (self.images, self.points) if table is not None)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the tables: a copy, in another process for instance, computes what it wants."""
        return {"budget": self.budget, "images": None, "points": None}


def render(
    recipe: PointRecipe,
    systems_of: Callable[[torch.Tensor], Systems],
    system_ids: torch.Tensor,
    point_ids: torch.Tensor | None,
    mask_ids: torch.Tensor,
    orientations: torch.Tensor,
    count: int,
    bitmaps: Bitmaps,
    images: Images | None = None,
    bits: bool = False,
) -> torch.Tensor | BitCanvases:
    """Render canvases uint8 ``[N, C, S, S]`` of the systems ``system_ids``, int64 ``[N]`` in ``[0, count)``.

    ``point_ids``: int64 ``[N]``, or ``None`` if all images share draw id 0, so that a system has one point set.
    ``images``: if the masks repeat as well; ``mask_ids`` are then those of ``images.ids``.
    ``bits``: whether grey canvases are returned as :class:`BitCanvases`.
    """
    how = style(recipe.draw_type, recipe.mask_mode)
    size, seed, device = recipe.image_size, recipe.seed, system_ids.device

    def points_of(system_ids: torch.Tensor) -> torch.Tensor:
        none = torch.zeros_like(system_ids)
        return occupancy(systems_of(system_ids), none, seed=seed, points=recipe.points, size=size)

    def own_points() -> torch.Tensor:
        return torch.zeros_like(mask_ids) if point_ids is None else point_ids

    def images_of(ids: torch.Tensor) -> torch.Tensor:
        assert images is not None
        systems, own = torch.unique(images.system_of(ids), return_inverse=True)  # images share points
        return mask_bitmaps(points_of(systems), own, images.mask_of(ids), seed=seed, mask=how["mask"])

    rows, which = None, system_ids
    if point_ids is None and not how["color"]:
        if images is not None and how["patch"] and (kept := bitmaps.table("images", images.total, size, device)):
            rows, which = kept.filled(images.ids, images_of), images.ids
            how |= {"patch": False, "mask": False}  # these bitmaps have both
        elif kept := bitmaps.table("points", count, size, device):
            rows = kept.filled(system_ids, points_of)
    drawing: dict[str, Any] = {"seed": seed, "points": recipe.points, "size": size}
    if bits and not how["color"]:
        if rows is not None and not how["patch"]:
            return BitCanvases(rows, which, orientations)
        if rows is not None:
            rows = mask_bitmaps(rows, which, mask_ids, seed=seed, mask=how["mask"])
        elif how["patch"]:
            rows = masked_occupancy(systems_of(system_ids), own_points(), mask_ids, mask=how["mask"], **drawing)
        else:
            rows = occupancy(systems_of(system_ids), own_points(), **drawing)
        return BitCanvases(rows, torch.arange(len(rows), device=device), orientations)
    if rows is not None:
        return render_bitmaps(rows, which, mask_ids, orientations, seed=seed, patch=how["patch"], mask=how["mask"])
    return render_systems(systems_of(system_ids), own_points(), mask_ids, orientations, **drawing, **how)
