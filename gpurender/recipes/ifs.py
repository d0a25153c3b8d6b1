"""Iterated function systems, shared by 1p-frac and FractalDB: probabilities, thresholds, rendering.

Host arithmetic is float64 and uses only NumPy's + - * / and comparisons, so that the float32 values passed to a kernel
are the same on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from gpurender.kernels.chaos_game import MAX_MAPS, Systems, occupancy, render_bitmaps, render_systems
from gpurender.runtime import cuda_streams
from gpurender.util import checks

DRAW_TYPES = ("patch_gray", "patch_color", "point_gray", "point_color")
MASK_MODES = ("random", "fill")
# Sierpinski's triangle, for testing kernels
TRIANGLE = tuple((0.5, 0.0, 0.0, 0.5, x, y) for x, y in ((0.0, 0.0), (0.5, 0.0), (0.25, 0.5)))
MAX_PARAMETER = 1e6  # bound of a map's parameter; below it the kernel's range check keeps every orbit finite

# The released programs store every image upside down (row 0 at the top, y upwards); code of kernels.chaos_game.
UPSIDE_DOWN = 1

COVER_BATCH = 4096  # bitmaps computed per call: 128 MiB at 512 x 512


def system(name: str, value: object) -> tuple[tuple[float, ...], ...]:
    """Validate one system: 1 to 64 maps of a, b, c, d, e, f and optionally a probability p."""
    rows = checks.table(name, value, (6, 7), MAX_MAPS, -MAX_PARAMETER, MAX_PARAMETER)
    map_probabilities(np.array([rows]), name)
    return rows


def map_probabilities(maps: np.ndarray, name: str = "base") -> np.ndarray:
    """Return the probabilities of the maps, [N, M]: column 7 if present, else |det| = |a d - b c|, normalised (released
    rule).

    maps  # [N, M, 6 or 7] float64, rows of zeros as padding
    """
    if maps.shape[-1] == 7:
        weights = maps[..., 6]
        if (weights < 0).any():
            raise ValueError(f"{name}: a probability p must be >= 0, got {weights.min():g}")
    else:
        weights = np.abs(maps[..., 0] * maps[..., 3] - maps[..., 1] * maps[..., 2])
    total = np.zeros(len(weights))
    for column in range(weights.shape[1]):  # in order: np.sum may pair differently on another machine
        total = total + weights[:, column]
    if not (total > 0).all():
        raise ValueError(f"{name}: the maps' probabilities must not all be 0 (without a column p they are |a d - b c|)")
    return weights / total[:, None]


def canonical(system: tuple[tuple[float, ...], ...]) -> list[list[float]]:
    r"""Return a system as rows of a, b, c, d, e, f, p, the same whether p is given as \|det\| or left out."""
    probabilities = map_probabilities(np.array([system]))[0].tolist()
    return [[*row[:6], p] for row, p in zip(system, probabilities, strict=True)]


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


@dataclass
class Bitmaps:
    """The occupancy bitmaps of a recipe's point sets, if these are finitely many; one bit per pixel, on the device.

    With kept bitmaps only the masks are drawn per image. A catalog has one ``Bitmaps``, filled at first use.

    Attributes:
        budget: maximum bytes of all bitmaps; if they take more, none is kept.
        kept: int32 ``[systems, size, words]``, or ``None`` before first use.
    """

    budget: int
    kept: torch.Tensor | None = None

    def fit(self, count: int, size: int) -> bool:
        """Return whether ``count`` bitmaps are within the budget."""
        return count * size * ((size + 31) // 32) * 4 <= self.budget


def render(
    recipe: PointRecipe,
    systems_of: Callable[[torch.Tensor], Systems],
    system_ids: torch.Tensor,
    point_ids: torch.Tensor | None,
    mask_ids: torch.Tensor,
    orientations: torch.Tensor,
    count: int,
    bitmaps: Bitmaps,
) -> torch.Tensor:
    """Render canvases uint8 ``[N, C, S, S]`` of the systems ``system_ids``, int64 ``[N]`` in ``[0, count)``.

    ``point_ids``: int64 ``[N]``, or ``None`` if all images share draw id 0, so that a system has one point set.
    """
    how = style(recipe.draw_type, recipe.mask_mode)
    if point_ids is None and not how["color"] and bitmaps.fit(count, recipe.image_size):
        if bitmaps.kept is None:
            bitmaps.kept = _cover(recipe, systems_of, count, system_ids.device)
        return render_bitmaps(
            bitmaps.kept, system_ids, mask_ids, orientations, seed=recipe.seed, patch=how["patch"], mask=how["mask"]
        )
    if point_ids is None:
        point_ids = torch.zeros_like(mask_ids)
    return render_systems(
        systems_of(system_ids), point_ids, mask_ids, orientations,
        seed=recipe.seed, points=recipe.points, size=recipe.image_size, **how,
    )  # fmt: skip


def _cover(
    recipe: PointRecipe, systems_of: Callable[[torch.Tensor], Systems], count: int, device: torch.device
) -> torch.Tensor:
    """Compute the bitmaps of systems 0 to ``count - 1``."""
    size = recipe.image_size
    kept = torch.empty((count, size, (size + 31) // 32), dtype=torch.int32, device=device)
    for first in range(0, count, COVER_BATCH):
        system_ids = torch.arange(first, min(first + COVER_BATCH, count), device=device)
        kept[first : first + COVER_BATCH] = occupancy(
            systems_of(system_ids), torch.zeros_like(system_ids), seed=recipe.seed, points=recipe.points, size=size
        )
    cuda_streams.settle(device)  # another CUDA stream must not read bitmaps that are still being computed
    return kept
