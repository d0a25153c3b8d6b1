"""Polylines: the closed, one-pixel-wide, nested polygons of visual atoms; parameters in, uint8 canvases out."""

from dataclasses import dataclass

import torch

from gpurender.runtime import devices, forks
from gpurender.util import checks

__all__ = ["MAX_RINGS", "MAX_VERTICES", "Atoms", "visual_atom"]

MAX_RINGS = 2048
MAX_VERTICES = 4096  # twelve bits of a noise address
MAX_SIZE = 8192


@dataclass(frozen=True)
class Atoms:
    """A table of atoms on one device, and the sines and cosines they look up.

    Attributes:
        rings: int32 ``[K]``: K, polygons of an atom, 1 to ``MAX_RINGS``.
        vertices: int32 ``[K]``: q, vertices of a polygon, 3 to ``MAX_VERTICES``.
        frequencies: int32 ``[K, 2]``: n1, n2 of the two waves, 0 to 2^16.
        axes: float32 ``[K, 2]``: half axes in pixels, of the ellipse the walk starts from or of the first orbit.
        growth: float32 ``[K]``: w added to every step of the walk, or c from orbit to orbit, in pixels.
        amplitudes: float32 ``[K, 2]``: lambda1, lambda2.
        noise_levels: float32 ``[K]``: eta.
        offsets: int64 ``[K]``: where the atom's table begins in the two below.
        cosines, sines: float32 ``[T]``: cos and sin of 2 pi j / q, tables of q entries one after another, shared by
            all atoms.

    Raises:
        ValueError: a tensor of another shape, type or device, or (looked at on a CPU only) values out of range.
    """

    rings: torch.Tensor
    vertices: torch.Tensor
    frequencies: torch.Tensor
    axes: torch.Tensor
    growth: torch.Tensor
    amplitudes: torch.Tensor
    noise_levels: torch.Tensor
    offsets: torch.Tensor
    cosines: torch.Tensor
    sines: torch.Tensor
    most_vertices: int = MAX_VERTICES  # of any atom: what a kernel makes room for

    def __post_init__(self) -> None:
        sizes = {"K": len(self.rings), "T": len(self.cosines)}
        for name, (dtype, shape) in _LAYOUT.items():
            lengths = tuple(d if isinstance(d, int) else sizes[d] for d in shape)
            _check(name, getattr(self, name), dtype, lengths, self.rings.device)
        if self.rings.device.type == "cpu":
            self._check_values()

    def _check_values(self) -> None:
        if not (_within(self.rings, 1, MAX_RINGS) and _within(self.vertices, 3, min(MAX_VERTICES, self.most_vertices))):
            raise ValueError(
                f"rings must lie in [1, {MAX_RINGS}] and vertices in [3, {MAX_VERTICES}], at most most_vertices"
            )
        room = len(self.cosines) - self.vertices.long()
        if not (_within(self.frequencies, 0, 2**16) and _within(self.offsets, 0, room)):
            raise ValueError("frequencies must lie in [0, 65536], and offsets leave room for a table of q entries")

    def __len__(self) -> int:
        return len(self.rings)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All of them, in the order of the attributes."""
        return tuple(getattr(self, name) for name in _LAYOUT)

    def to(self, device: torch.device) -> "Atoms":
        """The same atoms on a device."""
        moved = {name: getattr(self, name).to(device) for name in _LAYOUT}
        return Atoms(**moved, most_vertices=self.most_vertices)


_LAYOUT: dict[str, tuple[torch.dtype, tuple[str | int, ...]]] = {
    "rings": (torch.int32, ("K",)),
    "vertices": (torch.int32, ("K",)),
    "frequencies": (torch.int32, ("K", 2)),
    "axes": (torch.float32, ("K", 2)),
    "growth": (torch.float32, ("K",)),
    "amplitudes": (torch.float32, ("K", 2)),
    "noise_levels": (torch.float32, ("K",)),
    "offsets": (torch.int64, ("K",)),
    "cosines": (torch.float32, ("T",)),
    "sines": (torch.float32, ("T",)),
}


def polyline(
    atoms: Atoms,
    which: torch.Tensor,
    *,
    centres: torch.Tensor,
    numbers: torch.Tensor,
    greys: tuple[int, int],
    seed: int,
    size: int,
    rule: str,
) -> torch.Tensor:
    """Draw one image of each of some atoms, on the atoms' device: grey rings over black, every ring over those before.

    Args:
        atoms: the table.
        which: int64 ``[N]``, the atom of each image (looked at on a CPU only; a GPU takes the nearest there is).
        centres: float32 ``[N, 2]``, x and y in pixels.
        numbers: int64 ``[N]`` (the bits of uint64), draw numbers: the addresses of an image's noise and greys.
        greys: darkest and lightest grey of a ring, 0 to 255, both included.
        seed: unsigned 64-bit key.
        size: side of the canvas in pixels, 1 to 8192.
        rule: ``"walk"``, the released generator's (radial random walks), or ``"orbits"``, the paper's (equations 3 to
            7); the formulas of both stand in ``cpu.py``.

    Returns:
        uint8 ``[N, size, size]`` on the device.

    Raises:
        ValueError: an argument of the wrong shape, type, device or range.

    Source: VisualAtom (Takashima et al., "Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves", CVPR
    2023) and the generator its authors released.
    """
    n = len(which)
    device = atoms.rings.device
    _check("which", which, torch.int64, (n,), device)
    _check("centres", centres, torch.float32, (n, 2), device)
    _check("numbers", numbers, torch.int64, (n,), device)
    if which.device.type == "cpu" and not _within(which, 0, len(atoms) - 1):
        raise ValueError(f"which must lie in [0, {len(atoms) - 1}]")
    if not 0 <= greys[0] <= greys[1] <= 255:
        raise ValueError(f"greys must be (darkest, lightest) within 0 to 255, got {greys}")
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be 1 to {MAX_SIZE} pixels, got {size}")
    if rule not in ("walk", "orbits"):
        raise ValueError(f"rule must be 'walk' or 'orbits', got {checks.shown(rule)}")
    if devices.on_gpu(device):
        from gpurender.kernels.visual_atom import gpu as drawer
    else:
        with forks.IMPORTS:
            from gpurender.kernels.visual_atom import cpu as drawer  # type: ignore[no-redef]
    return drawer.draw_images(atoms, which, centres, numbers, greys, seed, size, rule == "walk")


def _check(name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> None:
    if tensor.device != device:  # a kernel would take the address for one of its own memory
        raise ValueError(f"{name} must be on {device}, as the atoms are, got {tensor.device}")
    if tensor.dtype != dtype or tensor.shape != shape:
        raise ValueError(f"{name} must be {dtype} {list(shape)}, got {tensor.dtype} {list(tensor.shape)}")


def _within(tensor: torch.Tensor, low: int, high: int | torch.Tensor) -> bool:
    return bool(((tensor >= low) & (tensor <= high)).all())
