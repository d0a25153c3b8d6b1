"""Iterated function systems: the parameters of both implementations, and their limits."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

import torch

MAX_MAPS = 64
MAX_POINTS = 10_000_000
MAX_SHIFT = 16.0  # of a view, in extents of the points
ZOOMS = (0.05, 16.0)  # half sides of a view, in extents of the points

SomeSystems = TypeVar("SomeSystems", bound="Systems")


@dataclass(frozen=True)
class Systems:
    """A batch of iterated function systems on one device, padded to the largest number of maps.

    Attributes:
        maps: float32 ``[N, M, 6]``: a, b, c, d, e, f of x' = a x + b y + e, y' = c x + d y + f.
        thresholds: int32 ``[N, M]``: cumulative probabilities in units of 2^-16.
        counts: int32 ``[N]``: number of maps of each system, 1 to M.
    """

    columns: ClassVar[int] = 6  # parameters of a map

    maps: torch.Tensor
    thresholds: torch.Tensor
    counts: torch.Tensor

    def __post_init__(self) -> None:
        n, m = self.counts.shape[0], self.maps.shape[1]
        shapes = {"maps": (n, m, self.columns), "thresholds": (n, m), "counts": (n,)}
        dtypes = {"maps": torch.float32, "thresholds": torch.int32, "counts": torch.int32}
        for name, shape in shapes.items():
            found = getattr(self, name)
            if found.shape != shape or found.dtype != dtypes[name]:
                raise ValueError(f"{name} must be {dtypes[name]} {shape}, got {found.dtype} {tuple(found.shape)}")
        if not 1 <= m <= MAX_MAPS:
            raise ValueError(f"maps must be 1 to {MAX_MAPS} a system, got {m}")

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self: SomeSystems, which: torch.Tensor | slice) -> SomeSystems:
        return type(self)(self.maps[which], self.thresholds[which], self.counts[which])

    def to(self: SomeSystems, device: torch.device) -> SomeSystems:
        """Return the same systems on a device."""
        return type(self)(self.maps.to(device), self.thresholds.to(device), self.counts.to(device))


class Instances(NamedTuple):
    """How the instances of a category are made of its systems, their masks and flips.

    Attributes:
        instances: images per category: the first of weights x patches x flips.
        flips, patches: flips per mask, and masks per system.
        weights: systems per category.
        shares_masks: whether the flips of an image share its mask.
    """

    instances: int
    flips: int
    patches: int
    weights: int
    shares_masks: bool

    @property
    def groups(self) -> int:
        """Images of a category that are not flips of each other."""
        return -(-self.instances // self.flips)


class Parts(NamedTuple):
    """What the images of a batch are made of.

    Attributes:
        systems: int64 ``[N]``: category x weights + weight.
        images: int64 ``[N]``: the image, of which the canvas is a flip: category x groups + number in the category.
        masks: int64 ``[N]``: draw ids of the masks.
        orientations: uint8 ``[N]``.
    """

    systems: torch.Tensor
    images: torch.Tensor
    masks: torch.Tensor
    orientations: torch.Tensor


def check_views(views: torch.Tensor, patches: torch.Tensor, count: int, device: torch.device) -> None:
    """Refuse views that are not float32 ``[count, 4]``, patches that are not int32 ``[count]``, and values out of range
    where they can be read.
    """
    wanted = {"views": (views, torch.float32, (count, 4)), "patches": (patches, torch.int32, (count,))}
    for name, (given, dtype, shape) in wanted.items():
        if given.shape != shape or given.dtype != dtype or given.device != device:
            got = f"{given.dtype} {tuple(given.shape)} on {given.device}"
            raise ValueError(f"{name} must be {dtype} {shape} on {device}, got {got}")
    if device.type != "cpu" or not count:
        return
    shifts, zooms = views[:, :2], views[:, 2:]
    if not ((shifts.abs() <= MAX_SHIFT).all() and ((zooms >= ZOOMS[0]) & (zooms <= ZOOMS[1])).all()):  # NaN, too
        raise ValueError(
            f"views must have shifts in [{-MAX_SHIFT:g}, {MAX_SHIFT:g}] and half sides in [{ZOOMS[0]:g}, {ZOOMS[1]:g}]"
        )
    if not ((patches >= 0) & (patches < 512)).all():
        raise ValueError(f"patches must lie in [0, 511], got {int(patches.min())} to {int(patches.max())}")
