"""Atoms: the parameters of both implementations, and their limits."""

from dataclasses import dataclass

import torch

MAX_RINGS = 2048
MAX_VERTICES = 4096  # twelve bits of a noise address
MAX_COORDINATE = 2.0**20  # pixels; the kernels clamp coordinates to this range


@dataclass(frozen=True)
class Atoms:
    """A table of atoms on one device, and the sines and cosines they look up.

    Attributes:
        rings: int32 ``[K]``: polygons per atom, 1 to ``MAX_RINGS``.
        vertices: int32 ``[K]``: q, vertices per polygon, 3 to ``MAX_VERTICES``.
        frequencies: int32 ``[K, 2]``: n1, n2 of the two waves, 0 to 2^16.
        axes: float32 ``[K, 2]``: half axes in pixels of the ellipse where the walk starts, or of the first orbit.
        growth: float32 ``[K]``: w, added per step of the walk (negative for most of RCDB's polygons), or c, added from
            orbit to orbit, in pixels.
        amplitudes: float32 ``[K, 2]``: lambda1, lambda2.
        noise_levels: float32 ``[K]``: eta.
        offsets: int64 ``[K]``: start of the atom's table in ``cosines`` and ``sines``.
        cosines, sines: float32 ``[T]``: cos and sin of 2 pi j / q, tables of q entries one after another, shared by
            all atoms.
        most_vertices: maximum of ``vertices``, for which the kernels allocate memory.
        reach: bound of the absolute coordinates of all vertices, in pixels, for every centre that an image may have;
            ``MAX_COORDINATE`` if none is known. Below 8192 a GPU stores coordinates in 16 bits; it clamps them to
            the bound.

    Raises:
        ValueError: a tensor has another shape, dtype or device, or (checked on a CPU only) values out of range.
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
    most_vertices: int = MAX_VERTICES
    reach: float = MAX_COORDINATE

    def __post_init__(self) -> None:
        sizes = {"K": len(self.rings), "T": len(self.cosines)}
        for name, (dtype, shape) in _LAYOUT.items():
            lengths = tuple(d if isinstance(d, int) else sizes[d] for d in shape)
            check_tensor(name, getattr(self, name), dtype, lengths, self.rings.device)
        if self.rings.device.type == "cpu":
            self._check_values()

    def _check_values(self) -> None:
        if not (within(self.rings, 1, MAX_RINGS) and within(self.vertices, 3, min(MAX_VERTICES, self.most_vertices))):
            raise ValueError(
                f"rings must lie in [1, {MAX_RINGS}] and vertices in [3, {MAX_VERTICES}], at most most_vertices"
            )
        room = len(self.cosines) - self.vertices.long()
        if not (within(self.frequencies, 0, 2**16) and within(self.offsets, 0, room)):
            raise ValueError("frequencies must lie in [0, 65536], and offsets leave room for a table of q entries")

    def __len__(self) -> int:
        return len(self.rings)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return all tensors, in the order of the attributes."""
        return tuple(getattr(self, name) for name in _LAYOUT)

    def to(self, device: torch.device) -> "Atoms":
        """Return the same atoms on a device."""
        moved = {name: getattr(self, name).to(device) for name in _LAYOUT}
        return Atoms(**moved, most_vertices=self.most_vertices, reach=self.reach)


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


def check_tensor(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device
) -> None:
    """Refuse a tensor of another device, dtype or shape."""
    if tensor.device != device:  # a kernel would treat the address as one of its own memory
        raise ValueError(f"{name} must be on {device}, as the atoms are, got {tensor.device}")
    if tensor.dtype != dtype or tensor.shape != shape:
        raise ValueError(f"{name} must be {dtype} {list(shape)}, got {tensor.dtype} {list(tensor.shape)}")


def within(tensor: torch.Tensor, low: int, high: int | torch.Tensor) -> bool:
    """Return whether all values lie in ``[low, high]``."""
    return bool(((tensor >= low) & (tensor <= high)).all())
