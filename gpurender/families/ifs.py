"""Iterated function systems, as 1p-frac and FractalDB share them: probabilities, thresholds, how points are drawn.

Host arithmetic is float64 by NumPy's + - * / and comparisons alone, so that the float32 a kernel gets is the same on
every machine.
"""

import numpy as np

from gpurender import checks
from gpurender.kernels.chaos_game import MAX_MAPS, Systems

DRAW_TYPES = ("patch_gray", "patch_color", "point_gray", "point_color")
MASK_MODES = ("random", "fill")
MAX_PARAMETER = 1e6  # of a map; the kernel's range check keeps every orbit finite below it

# The released programs store every image upside down (row 0 at the top, y upwards); codes as in kernels.chaos_game.
UPSIDE_DOWN = 1


def system(name: str, value: object) -> tuple[tuple[float, ...], ...]:
    """Validate one system: 1 to 64 maps of a, b, c, d, e, f and perhaps a probability p."""
    rows = checks.table(name, value, (6, 7), MAX_MAPS, -MAX_PARAMETER, MAX_PARAMETER)
    shares(np.array([rows]), name)
    return rows


def shares(maps: np.ndarray, name: str = "base") -> np.ndarray:
    """Probabilities of the maps, [N, M]: column 7 where there is one, else |det| = |a d - b c|, normalised (released
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
    r"""A system as rows of a, b, c, d, e, f, p: the same with and without its own \|det\|."""
    probabilities = shares(np.array([system]))[0].tolist()
    return [[*row[:6], p] for row, p in zip(system, probabilities, strict=True)]


def systems(maps: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> Systems:
    """The kernel's arrays of maps float64 [N, M, 6], their probabilities [N, M] and counts [N]."""
    cumulative, total = np.empty(probabilities.shape), np.zeros(len(probabilities))
    for column in range(probabilities.shape[1]):
        total = total + probabilities[:, column]
        cumulative[:, column] = total
    return Systems(
        maps=np.ascontiguousarray(maps, dtype=np.float32),
        thresholds=np.floor(cumulative * 65536.0 + 0.5).astype(np.uint32),
        counts=np.asarray(counts, dtype=np.int64),
    )


def style(draw_type: str, mask_mode: str) -> dict[str, bool]:
    """The kernel's switches for the released names of a drawing style."""
    return {
        "color": draw_type.endswith("_color"),
        "patch": draw_type.startswith("patch_"),
        "mask": mask_mode == "random",
    }
