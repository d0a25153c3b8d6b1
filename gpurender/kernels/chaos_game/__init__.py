"""The chaos game of iterated function systems: affine maps in, uint8 canvases out."""

import torch

from gpurender.kernels.chaos_game.params import MAX_MAPS, MAX_POINTS, Instances, Parts, Systems, check_views
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor

__all__ = [
    "MAX_MAPS",
    "MAX_POINTS",
    "Instances",
    "Parts",
    "Systems",
    "covered_pixels",
    "densities",
    "mask_bitmaps",
    "masked_occupancy",
    "occupancy",
    "parts_of",
    "render_bitmaps",
    "render_systems",
]


def parts_of(indices: torch.Tensor, draw_ids: torch.Tensor, orientations: torch.Tensor, law: Instances) -> Parts:
    """Return what the images of samples are made of.

    Instance i of a category is ``(weight * patches + patch) * flips + flip``.

    Args:
        indices, draw_ids: int64 ``[N]``.
        orientations: uint8 ``[flips]``, the orientation of each flip.
        law: how many of what there are.
    """
    n, device = indices.shape[0], indices.device
    indices = checked_tensor("indices", indices, (torch.int64,), (n,))
    draw_ids = checked_tensor("draw_ids", draw_ids, (torch.int64,), (n,), device)
    implementation = dispatch.implementation("chaos_game", device, "instances")
    return implementation.parts_of(indices, draw_ids, orientations, law)


def render_systems(
    systems: Systems,
    point_ids: torch.Tensor,
    mask_ids: torch.Tensor,
    orientations: torch.Tensor,
    *,
    seed: int,
    points: int,
    size: int,
    color: bool,
    patch: bool,
    mask: bool,
) -> torch.Tensor:
    """Render one image of each system, on the systems' device.

    Args:
        systems: the N systems.
        point_ids: int64 ``[N]`` (the bits of uint64), draw ids of the points.
        mask_ids: int64 ``[N]``, draw ids of the masks.
        orientations: uint8 ``[N]``, 0 to 7: flip top-bottom (1), then left-right (2), then transpose (4).
        seed: unsigned 64-bit key.
        points: points per image, 1 to ``MAX_POINTS``.
        size: side of the canvas in pixels.
        color: three channels, the hue cycling with the number of the point; else one channel, grey 127.
        patch: render every point as a 3 x 3 patch; else as one pixel.
        mask: light every pixel that patches cover with probability 256/511; else light all of them.

    Returns:
        uint8 ``[N, 3 if color else 1, size, size]`` on the device.

    Source: FractalDB (Kataoka et al., ACCV 2020) and its released renderer. The released program pastes, for every
    point in order, an opaque 3 x 3 patch whose nine bits are uniform over 1 .. 511. In distribution this is one bit per
    pixel: the last patch over a pixel decides the pixel, the patch's bit is 1 with probability 256/511, and pixels
    decided by different patches are independent (pixels decided by the same patch: up to the missing all-zero mask).
    So the kernels dilate the occupancy by the patch and AND it with independent bits of probability 256/511.
    """
    implementation = dispatch.implementation("chaos_game", systems.maps.device)
    return implementation.render_systems(
        systems, point_ids, mask_ids, orientations, seed, points, size, color, patch, mask
    )


def occupancy(systems: Systems, draw_ids: torch.Tensor, *, seed: int, points: int, size: int) -> torch.Tensor:
    """Compute bitmaps of the pixels that each system's points fall on; :func:`render_bitmaps` renders them.

    Returns:
        int32 ``[N, size, ceil(size / 32)]``, bitmaps: bit k of word j is column 32 j + k.
    """
    return dispatch.implementation("chaos_game", systems.maps.device).occupancy(systems, draw_ids, seed, points, size)


def masked_occupancy(
    systems: Systems,
    point_ids: torch.Tensor,
    mask_ids: torch.Tensor,
    *,
    seed: int,
    points: int,
    size: int,
    mask: bool,
) -> torch.Tensor:
    """Do :func:`occupancy`, then :func:`mask_bitmaps`: bitmaps of the images of :func:`render_systems` with patches.

    Arguments as in :func:`render_systems`.

    Returns:
        int32 ``[N, size, ceil(size / 32)]``; bits beyond the last column are of no meaning.
    """
    implementation = dispatch.implementation("chaos_game", systems.maps.device)
    return implementation.masked_occupancy(systems, point_ids, mask_ids, seed, points, size, mask)


def render_bitmaps(
    bitmaps: torch.Tensor,
    which: torch.Tensor,
    mask_ids: torch.Tensor,
    orientations: torch.Tensor,
    *,
    seed: int,
    patch: bool,
    mask: bool,
) -> torch.Tensor:
    """Render grey images from bitmaps of :func:`occupancy`; the bytes equal those of :func:`render_systems`.

    Args:
        bitmaps: int32 ``[K, size, ceil(size / 32)]``.
        which: int64 ``[N]`` in ``[0, K)``, the bitmap of each image.
        mask_ids, orientations, seed, patch, mask: as for :func:`render_systems`.

    Returns:
        uint8 ``[N, 1, size, size]`` on the bitmaps' device.
    """
    implementation = dispatch.implementation("chaos_game", bitmaps.device)
    return implementation.render_bitmaps(bitmaps, which, mask_ids, orientations, seed, patch, mask)


def mask_bitmaps(
    bitmaps: torch.Tensor, which: torch.Tensor, mask_ids: torch.Tensor, *, seed: int, mask: bool
) -> torch.Tensor:
    """Widen every point of bitmaps into a patch and mask the patches.

    :func:`render_bitmaps` without patch and mask renders the result as it renders ``bitmaps`` with them.

    Args:
        bitmaps: int32 ``[K, size, ceil(size / 32)]``, as from :func:`occupancy`.
        which: int64 ``[N]`` in ``[0, K)``, the bitmap of each image.
        mask_ids: int64 ``[N]``; seed, mask: as for :func:`render_systems`.

    Returns:
        int32 ``[N, size, ceil(size / 32)]``; bits beyond the last column are of no meaning.
    """
    return dispatch.implementation("chaos_game", bitmaps.device).mask_bitmaps(bitmaps, which, mask_ids, seed, mask)


def covered_pixels(systems: Systems, draw_ids: torch.Tensor, *, seed: int, points: int, size: int) -> torch.Tensor:
    """Count the pixels of a ``size x size`` canvas that each system's points cover as single pixels; int64 ``[N]``.

    Arguments as in :func:`render_systems`, with its ``point_ids`` as ``draw_ids``.
    """
    return dispatch.implementation("chaos_game", systems.maps.device).covered_pixels(
        systems, draw_ids, seed, points, size
    )


def densities(
    systems: Systems,
    draw_ids: torch.Tensor,
    views: torch.Tensor,
    patches: torch.Tensor,
    *,
    seed: int,
    points: int,
    size: int,
) -> torch.Tensor:
    """Compute how densely the points of each system cover the pixels of a view, relative to the densest pixel.

    Args:
        systems: the N systems.
        draw_ids: int64 ``[N]`` (the bits of uint64), draw ids of the points.
        views: float32 ``[N, 4]``: the shift of the view's centre along x and y, and the view's half side along x and y,
            both in units of the points' extent along that axis. Half sides: 0.05 to 16; shifts: -16 to 16. A view of
            ``(0, 0, 1/2, 1/2)`` shows all points.
        patches: int32 ``[N]``, 0 to 511: the patch that every point covers, bit 3 i + j the pixel in row i - 1 and
            column j - 1 from the point's. With 0 nothing is covered, and no point is computed.
        seed: unsigned 64-bit key.
        points: points per image, 1 to ``MAX_POINTS``.
        size: side of the view in pixels, at least 2.

    Returns:
        float32 ``[N, size, size]`` on the device, 0 to 1: the number of points whose patch covers the pixel, divided by
        the largest of these numbers; all 0 if no pixel is covered. The row is the pixel of x, the column that of y.

    Raises:
        ValueError: views or patches have another shape or dtype, or (checked on a CPU only) are out of range.

    Source: Anderson & Farrell, "Improving Fractal Pre-training" (WACV 2022), and its released renderer.
    """
    check_views(views, patches, len(systems), systems.maps.device)
    draw_ids = checked_tensor("draw_ids", draw_ids, (torch.int64,), (len(systems),), systems.maps.device)
    implementation = dispatch.implementation("chaos_game", systems.maps.device)
    return implementation.densities(systems, draw_ids, views, patches, seed, points, size)
