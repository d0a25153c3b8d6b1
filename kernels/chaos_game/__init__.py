"""The chaos game of iterated function systems: affine maps in, uint8 canvases out."""

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import torch

from gpurender.randomness import halves
from gpurender.threads import parallel_ranges

__all__ = ["MAX_MAPS", "MAX_POINTS", "Systems", "chaos_game", "covered_pixels"]

MAX_MAPS = 64
MAX_POINTS = 10_000_000


@dataclass(frozen=True)
class Systems:
    """A batch of iterated function systems, padded to the widest of them.

    Attributes:
        maps: float32 ``[N, M, 6]``: a, b, c, d, e, f of x' = a x + b y + e, y' = c x + d y + f.
        thresholds: uint32 ``[N, M]``: cumulative probabilities in units of 2^-16.
        counts: int64 ``[N]``: maps of each system, 1 to M.
    """

    maps: np.ndarray
    thresholds: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        n, m = self.counts.shape[0], self.maps.shape[1]
        shapes = {"maps": (n, m, 6), "thresholds": (n, m), "counts": (n,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, which: np.ndarray) -> "Systems":
        return Systems(self.maps[which], self.thresholds[which], self.counts[which])


def chaos_game(
    systems: Systems,
    point_numbers: np.ndarray,
    mask_numbers: np.ndarray,
    orientations: np.ndarray,
    *,
    seed: int,
    points: int,
    size: int,
    color: bool,
    patch: bool,
    mask: bool,
    device: torch.device,
) -> torch.Tensor:
    """Draw one image of each system.

    Args:
        systems: the N systems.
        point_numbers: uint64 ``[N]``, addresses of the points' randomness.
        mask_numbers: uint64 ``[N]``, addresses of the masks' randomness.
        orientations: uint8 ``[N]``, 0 to 7: flip top-bottom (1), then left-right (2), then transpose (4).
        seed: unsigned 64-bit key.
        points: points of an image, 1 to ``MAX_POINTS``.
        size: side of the canvas in pixels.
        color: three channels, the hue cycling with the number of the point; else one channel, grey 127.
        patch: every point is a 3 x 3 patch; else one pixel.
        mask: covered pixels of patches are lit with probability 256/511; else all of them.
        device: where to draw.

    Returns:
        uint8 ``[N, 3 if color else 1, size, size]`` on the device.

    Raises:
        RuntimeError: no implementation for the device.

    Source: FractalDB (Kataoka et al., ACCV 2020) and its released renderer. The released program pastes, for every
    point in order, an opaque 3 x 3 patch whose nine bits are uniform over 1 .. 511. In distribution that is one bit a
    pixel: the last patch over a pixel decides it, its bit is 1 with probability 256/511, and pixels decided by
    different patches are independent (by the same patch, up to the missing all-zero mask). So: dilate the occupancy by
    the patch, AND it with independent bits of probability 256/511.
    """
    cpu = _implementation(device)
    images = np.empty((len(systems), 3 if color else 1, size, size), np.uint8)  # NumPy asks for huge pages
    key, point_words, mask_words = _key(seed), _split(point_numbers), _split(mask_numbers)
    orientations = np.ascontiguousarray(orientations, dtype=np.uint8)

    survival, palette = _survival(size), _palette()

    def work(first: int, last: int) -> None:
        for n in range(first, last):
            m = systems.counts[n]
            cpu.draw_image(
                systems.maps[n, :m], systems.thresholds[n, :m], key, point_words[n], mask_words[n],
                points, patch, mask, survival, palette, images[n],
            )  # fmt: skip
            for plane in images[n]:
                cpu.orient(plane, orientations[n])

    parallel_ranges(len(systems), work)
    return torch.from_numpy(images)


def covered_pixels(
    systems: Systems, numbers: np.ndarray, *, seed: int, points: int, size: int, device: torch.device
) -> np.ndarray:
    """Pixels of a ``size x size`` canvas that single points of each system cover, int64 ``[N]``; arguments as
    :func:`chaos_game`.
    """
    cpu = _implementation(device)
    covered = np.empty(len(systems), np.int64)
    key, words = _key(seed), _split(numbers)

    def work(first: int, last: int) -> None:
        for n in range(first, last):
            m = systems.counts[n]
            covered[n] = cpu.count_pixels(systems.maps[n, :m], systems.thresholds[n, :m], key, words[n], points, size)

    parallel_ranges(len(systems), work)
    return covered


def _implementation(device: torch.device) -> ModuleType:
    if device.type != "cpu":
        raise RuntimeError(f"chaos_game has no implementation for device {str(device)!r}; use device='cpu'")
    from gpurender.kernels.chaos_game import cpu

    return cpu


def _key(seed: int) -> np.ndarray:
    return np.array(halves(seed), dtype=np.uint32)


def _split(numbers: np.ndarray) -> np.ndarray:
    """uint64 [N] -> uint32 [N, 2], low word first."""
    numbers = np.asarray(numbers, dtype=np.uint64)
    return np.stack([numbers & np.uint64(0xFFFFFFFF), numbers >> np.uint64(32)], axis=1).astype(np.uint32)


@cache
def _survival(size: int) -> np.ndarray:
    """uint32 [size + 1]: floor(2^32 (510/511)^g), the chance that g pixels in a row are all spared by an event of
    chance 1/511.
    """
    chance, table = 1.0, np.zeros(size + 1, np.uint32)
    for gap in range(1, size + 1):
        chance = chance * 510.0 / 511.0
        table[gap] = int(chance * 2.0**32)
    return table


@cache
def _palette(hues: int = 128, saturation: float = 0.75, intensity: float = 0.75) -> np.ndarray:
    """uint8 [hues, 3]: the released colour wheel (HSI-like, in the released order of channels, truncated to bytes)."""
    table = np.zeros((hues, 3), np.uint8)
    pi = 3.141592653589793
    for i in range(hues):
        angle = (3.0 / pi) * (2.0 * pi * (float(i) / float(hues)))  # sixths of a turn
        sector = int(angle)
        p = int(intensity * (1.0 - saturation) * 255.0)
        q = int(intensity * (1.0 - saturation * (angle - sector)) * 255.0)
        t = int(intensity * (1.0 - saturation * ((1.0 - angle) + sector)) * 255.0)
        v = int(intensity * 255.0)
        table[i] = [(p, t, v), (p, v, q), (t, v, p), (v, q, p), (v, p, t), (q, p, v)][sector]
    return table
