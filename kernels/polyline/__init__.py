"""Polylines: the closed, one-pixel-wide, nested polygons of visual atoms; parameters in, uint8 canvases out."""

from dataclasses import dataclass, fields

import numpy as np
import torch

from gpurender.randomness import halves
from gpurender.threads import parallel_ranges

__all__ = ["MAX_RINGS", "MAX_VERTICES", "Atoms", "polyline"]

MAX_RINGS = 2048
MAX_VERTICES = 4096  # twelve bits of a noise address
MAX_SIZE = 8192


@dataclass(frozen=True)
class Atoms:
    """A batch of atoms, and the sines and cosines they look up.

    Attributes:
        rings: int32 ``[N]``: K, polygons of an atom, 1 to ``MAX_RINGS``.
        vertices: int32 ``[N]``: q, vertices of a polygon, 3 to ``MAX_VERTICES``.
        frequencies: int32 ``[N, 2]``: n1, n2 of the two waves, at least 0.
        axes: float32 ``[N, 2]``: half axes in pixels, of the ellipse the walk starts from or of the first orbit.
        growth: float32 ``[N]``: w added to every step of the walk, or c from orbit to orbit, in pixels.
        amplitudes: float32 ``[N, 2]``: lambda1, lambda2.
        noise_levels: float32 ``[N]``: eta.
        offsets: int64 ``[N]``: where the atom's table begins in the two below.
        cosines, sines: float32 ``[T]``: cos and sin of 2 pi j / q, tables of q entries one after another, shared by
            all atoms.
    """

    rings: np.ndarray
    vertices: np.ndarray
    frequencies: np.ndarray
    axes: np.ndarray
    growth: np.ndarray
    amplitudes: np.ndarray
    noise_levels: np.ndarray
    offsets: np.ndarray
    cosines: np.ndarray
    sines: np.ndarray

    def __post_init__(self) -> None:
        n, t = len(self.rings), len(self.cosines)
        sizes = {"N": n, "T": t}
        for field in fields(self):
            dtype, shape = _LAYOUT[field.name]
            _check(
                field.name,
                getattr(self, field.name),
                dtype,
                tuple(d if isinstance(d, int) else sizes[d] for d in shape),
            )
        if not (_within(self.rings, 1, MAX_RINGS) and _within(self.vertices, 3, MAX_VERTICES)):
            raise ValueError(f"rings must lie in [1, {MAX_RINGS}] and vertices in [3, {MAX_VERTICES}]")
        if not (_within(self.frequencies, 0, 2**31) and _within(self.offsets, 0, t - self.vertices.astype(np.int64))):
            raise ValueError("frequencies must be at least 0, and offsets leave room for a table of q entries")

    def __len__(self) -> int:
        return len(self.rings)

    def __getitem__(self, which: np.ndarray) -> "Atoms":
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return Atoms(**{name: a if _LAYOUT[name][1] == ("T",) else a[which] for name, a in own.items()})


_LAYOUT: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "rings": ("int32", ("N",)),
    "vertices": ("int32", ("N",)),
    "frequencies": ("int32", ("N", 2)),
    "axes": ("float32", ("N", 2)),
    "growth": ("float32", ("N",)),
    "amplitudes": ("float32", ("N", 2)),
    "noise_levels": ("float32", ("N",)),
    "offsets": ("int64", ("N",)),
    "cosines": ("float32", ("T",)),
    "sines": ("float32", ("T",)),
}


def polyline(
    atoms: Atoms,
    *,
    centres: np.ndarray,
    numbers: np.ndarray,
    greys: tuple[int, int],
    seed: int,
    size: int,
    rule: str,
    device: torch.device,
) -> torch.Tensor:
    """Draw one image of each atom: grey rings over black, every ring over those before.

    Args:
        atoms: the N atoms.
        centres: float32 ``[N, 2]``, x and y in pixels.
        numbers: uint64 ``[N]``, draw numbers: the addresses of an image's noise and greys.
        greys: darkest and lightest grey of a ring, 0 to 255, both included.
        seed: unsigned 64-bit key.
        size: side of the canvas in pixels, 1 to 8192.
        rule: ``"walk"``, the released generator's (radial random walks), or ``"orbits"``, the paper's (equations 3 to
            7); the formulas of both stand in ``cpu.py``.
        device: where to draw.

    Returns:
        uint8 ``[N, size, size]`` on the device.

    Raises:
        ValueError: an argument of the wrong shape, type or range.
        RuntimeError: no implementation for the device.

    Source: VisualAtom (Takashima et al., "Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves", CVPR
    2023) and the generator its authors released.
    """
    if device.type != "cpu":
        raise RuntimeError(f"polyline has no implementation for device {str(device)!r}; use device='cpu'")
    from gpurender.kernels.polyline import cpu

    _check("centres", centres, "float32", (len(atoms), 2))
    _check("numbers", numbers, "uint64", (len(atoms),))
    if not 0 <= greys[0] <= greys[1] <= 255:
        raise ValueError(f"greys must be (darkest, lightest) within 0 to 255, got {greys}")
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be 1 to {MAX_SIZE} pixels, got {size}")
    if rule not in ("walk", "orbits"):
        raise ValueError(f"rule must be 'walk' or 'orbits', got {rule!r}")
    canvases = torch.zeros((len(atoms), size, size), dtype=torch.uint8)
    pixels, key = canvases.numpy(), np.array(halves(seed), dtype=np.uint32)
    split = np.stack([numbers & np.uint64(0xFFFFFFFF), numbers >> np.uint64(32)], axis=1).astype(np.uint32)  # [N, 2]
    own = [np.ascontiguousarray(getattr(atoms, field.name)) for field in fields(atoms)]
    centres = np.ascontiguousarray(centres)

    def work(first: int, last: int) -> None:
        cpu.draw_images(
            first, last, rule == "walk", *own, centres, split, key, greys[0], greys[1] - greys[0] + 1, pixels
        )  # fmt: skip

    parallel_ranges(len(atoms), work)
    return canvases


def _check(name: str, array: np.ndarray, dtype: str, shape: tuple[str | int, ...]) -> None:
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise ValueError(f"{name} must be {dtype} {list(shape)}, got {array.dtype} {list(array.shape)}")


def _within(array: np.ndarray, low: int, high: int | np.ndarray) -> bool:
    return bool(((array >= low) & (array <= high)).all())
