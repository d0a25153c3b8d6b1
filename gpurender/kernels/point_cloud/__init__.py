"""Point clouds of iterated function systems in space, seen by a camera: affine maps in, uint8 canvases out."""

import torch

from gpurender.kernels.point_cloud.params import MAX_POINTS, UNITS, SpaceSystems
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor
from gpurender.util import checks

MAX_SIZE = 8192

__all__ = ["MAX_POINTS", "UNITS", "SpaceSystems", "moments", "render_clouds"]


def render_clouds(
    systems: SpaceSystems, draw_ids: torch.Tensor, cameras: torch.Tensor, *, seed: int, points: int, size: int
) -> torch.Tensor:
    """Render one image of each system, on the systems' device: white points over black, upside down as released.

    Args:
        systems: the N systems.
        draw_ids: int64 ``[N]`` (the bits of uint64), draw ids of the points.
        cameras: float32 ``[N, 2]``, cosine and sine of the azimuth of each image's camera.
        seed: unsigned 64-bit key.
        points: steps of the game, the origin included: one more than the points of an image, 2 to ``MAX_POINTS``.
        size: side of the canvas in pixels.

    Returns:
        uint8 ``[N, size, size]`` on the device, 0 or 255.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.

    Source: the renderer of MV-FractalDB and ExFractalDB (Kataoka et al., "Replacing Labeled Real-image Datasets with
    Auto-generated Contours", CVPR 2022) that the authors released; the formulas are in ``cpu.py``.
    """
    count, device = len(systems), systems.maps.device
    draw_ids = checked_tensor("draw_ids", draw_ids, (torch.int64,), (count,), device)
    cameras = checked_tensor("cameras", cameras, (torch.float32,), (count, 2), device)
    checks.integer("points", points, 2, MAX_POINTS)
    checks.integer("size", size, 1, MAX_SIZE)
    implementation = dispatch.implementation("point_cloud", device)
    return implementation.render_clouds(systems, draw_ids, cameras, seed, points, size)


def moments(systems: SpaceSystems, draw_ids: torch.Tensor, *, seed: int, points: int) -> torch.Tensor:
    """Measure the normalised cloud of each system, on the systems' device.

    Arguments as in :func:`render_clouds`.

    Returns:
        int64 ``[N, 7]``: the number of points; the sums over the points of x, y, z; and the sums of their squares. A
        coordinate is an integer from 0, the lowest of all, to ``UNITS``, the highest of all. The sums are 0 if the game
        ends early, which the number of points shows.
    """
    draw_ids = checked_tensor("draw_ids", draw_ids, (torch.int64,), (len(systems),), systems.maps.device)
    checks.integer("points", points, 2, MAX_POINTS)
    return dispatch.implementation("point_cloud", systems.maps.device).moments(systems, draw_ids, seed, points)
