"""The chaos game on a GPU: grids, shared memory and arguments of the kernels in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.chaos_game import tables
from gpurender.kernels.chaos_game.params import MAX_MAPS, Systems
from gpurender.kernels.device.tables import survival_table
from gpurender.numerics.streams import halves
from gpurender.runtime import cuda

THREADS = 128  # threads per block, one per walker
STATIC_SHARED = 4 << 10  # bytes: the system, the walkers' starts, the frame
LEAST_SHARED = 2 << 10  # bytes: the pilot's maps, which the bitmap overwrites later
ROWS_ABOVE = 3  # rows above a band, which the patches of its first rows need; as in device/bitmap.cuh
COLOR_BLOCKS = 2  # blocks per multiprocessor; each has a canvas of four bytes per pixel in global memory
DENSITY_BLOCKS = 6  # blocks per multiprocessor, each with counts of four bytes per pixel in global memory
MASK_ROWS = 64  # mask rows of a coloured image that are in shared memory at a time


def bands(size: int, limits: cuda.Limits) -> tuple[int, int, int]:
    """Return the rows of a band, the number of bands, and the bytes of shared memory per band.

    A canvas is one band if its bitmap fits a block's shared memory: up to 1,344 pixels on Hopper, 864 on Ada. The
    bitmap is a square then, as many words of 32 rows as of 32 columns, which the kernel transposes in place.
    """
    words, most = (size + 31) // 32, limits.shared_a_block - STATIC_SHARED
    whole = 4 * words * (32 * words + ROWS_ABOVE)
    if whole <= most:
        return size, 1, max(whole, LEAST_SHARED)
    count = max(2, -(-size // (most // (4 * words) - ROWS_ABOVE)))
    rows = -(-size // count)
    return rows, -(-size // rows), max(4 * words * (rows + ROWS_ABOVE), LEAST_SHARED)


def render_systems(
    systems: Systems,
    point_ids: torch.Tensor,
    mask_ids: torch.Tensor,
    orientations: torch.Tensor,
    seed: int,
    points: int,
    size: int,
    color: bool,
    patch: bool,
    mask: bool,
) -> torch.Tensor:
    """Render images, uint8 ``[N, C, size, size]``; arguments as :func:`gpurender.kernels.chaos_game.render_systems`."""
    device, count = systems.maps.device, len(systems)
    images = torch.empty((count, 3 if color else 1, size, size), dtype=torch.uint8, device=device)
    common = (
        *_game(systems, point_ids),
        mask_ids,
        orientations,
        *_scalars(seed, points, size),
        np.int32(patch),
        np.int32(mask),
        survival_table(size, device),
    )
    if color:
        _color(common, count, size, images)
        return images
    rows, parts, shared = bands(size, cuda.limits(device))
    cuda.launch(
        "chaos_game", "chaos_game_grey", device=device, blocks=count * parts, threads=THREADS, shared=shared,
        arguments=(*common, np.int32(rows), np.int32(parts), images),
    )  # fmt: skip
    return images


def _color(common: tuple[cuda.Argument, ...], count: int, size: int, images: torch.Tensor) -> None:
    device = images.device
    words, blocks = (size + 31) // 32, min(count, COLOR_BLOCKS * cuda.limits(device).multiprocessors)
    scratch = torch.empty((blocks, size + ROWS_ABOVE, size + ROWS_ABOVE), dtype=torch.int32, device=device)
    rows = min(size, MASK_ROWS, (cuda.limits(device).shared_a_block - STATIC_SHARED) // (4 * words))
    palette = tables.palette(device)
    cuda.launch(
        "chaos_game", "chaos_game_color", device=device, blocks=blocks, threads=THREADS,
        shared=max(4 * words * rows, LEAST_SHARED),
        arguments=(
            *common, palette, np.int32(len(palette)), np.int32(rows), np.int64(count), scratch, images,
        ),
    )  # fmt: skip


def occupancy(systems: Systems, draw_ids: torch.Tensor, seed: int, points: int, size: int) -> torch.Tensor:
    """Compute bitmaps; int32 ``[N, size, words]``; arguments as in :func:`gpurender.kernels.chaos_game.occupancy`."""
    shape = (len(systems), size, (size + 31) // 32)
    bitmaps = torch.empty(shape, dtype=torch.int32, device=systems.maps.device)
    _cover(systems, draw_ids, None, seed, points, size, False, bitmaps, None)
    return bitmaps


def masked_occupancy(
    systems: Systems,
    point_ids: torch.Tensor,
    mask_ids: torch.Tensor,
    seed: int,
    points: int,
    size: int,
    mask: bool,
) -> torch.Tensor:
    """Compute bitmaps of patches; int32 ``[N, size, words]``; as
    :func:`gpurender.kernels.chaos_game.masked_occupancy`.
    """
    shape = (len(systems), size, (size + 31) // 32)
    bitmaps = torch.empty(shape, dtype=torch.int32, device=systems.maps.device)
    _cover(systems, point_ids, mask_ids, seed, points, size, mask, bitmaps, None)
    return bitmaps


def covered_pixels(systems: Systems, draw_ids: torch.Tensor, seed: int, points: int, size: int) -> torch.Tensor:
    """Count covered pixels; int64 ``[N]``; arguments as in :func:`gpurender.kernels.chaos_game.covered_pixels`."""
    covered = torch.zeros(len(systems), dtype=torch.int32, device=systems.maps.device)
    _cover(systems, draw_ids, None, seed, points, size, False, None, covered)
    return covered.long()


def _cover(
    systems: Systems,
    point_ids: torch.Tensor,
    mask_ids: torch.Tensor | None,
    seed: int,
    points: int,
    size: int,
    mask: bool,
    bitmaps: torch.Tensor | None,
    covered: torch.Tensor | None,
) -> None:
    device = systems.maps.device
    rows, parts, shared = bands(size, cuda.limits(device))
    cuda.launch(
        "chaos_game", "chaos_game_cover", device=device, blocks=len(systems) * parts, threads=THREADS, shared=shared,
        arguments=(
            *_game(systems, point_ids), mask_ids, *_scalars(seed, points, size), np.int32(mask),
            survival_table(size, device), np.int32(rows), np.int32(parts), bitmaps, covered,
        ),
    )  # fmt: skip


def mask_bitmaps(
    bitmaps: torch.Tensor, which: torch.Tensor, mask_ids: torch.Tensor, seed: int, mask: bool
) -> torch.Tensor:
    """Apply patches and masks; int32 ``[N, size, words]``; as :func:`gpurender.kernels.chaos_game.mask_bitmaps`."""
    device, count, (size, words) = bitmaps.device, len(which), bitmaps.shape[1:]
    lit = torch.empty((count, size, words), dtype=torch.int32, device=device)
    rows, parts, shared = bands(size, cuda.limits(device))
    low, high = halves(seed)
    cuda.launch(
        "chaos_game", "chaos_game_mask", device=device, blocks=count * parts, threads=THREADS, shared=shared,
        arguments=(
            bitmaps, which, mask_ids, np.uint32(low), np.uint32(high), np.int32(size), np.int32(mask),
            survival_table(size, device), np.int32(rows), np.int32(parts), lit,
        ),
    )  # fmt: skip
    return lit


def render_bitmaps(
    bitmaps: torch.Tensor,
    which: torch.Tensor,
    mask_ids: torch.Tensor,
    orientations: torch.Tensor,
    seed: int,
    patch: bool,
    mask: bool,
) -> torch.Tensor:
    """Render images, uint8 ``[N, 1, size, size]``; arguments as :func:`gpurender.kernels.chaos_game.render_bitmaps`."""
    device, count, size = bitmaps.device, len(which), bitmaps.shape[1]
    images = torch.empty((count, 1, size, size), dtype=torch.uint8, device=device)
    rows, parts, shared = bands(size, cuda.limits(device))
    low, high = halves(seed)
    cuda.launch(
        "chaos_game", "chaos_game_paint", device=device, blocks=count * parts, threads=THREADS, shared=shared,
        arguments=(
            bitmaps, which, mask_ids, orientations, np.uint32(low), np.uint32(high), np.int32(size),
            np.int32(patch), np.int32(mask), survival_table(size, device), np.int32(rows), np.int32(parts), images,
        ),
    )  # fmt: skip
    return images


def densities(
    systems: Systems,
    draw_ids: torch.Tensor,
    views: torch.Tensor,
    patches: torch.Tensor,
    seed: int,
    points: int,
    size: int,
) -> torch.Tensor:
    """Compute densities; float32 ``[N, size, size]``; as :func:`gpurender.kernels.chaos_game.densities`."""
    device, count = systems.maps.device, len(systems)
    found = torch.empty((count, size, size), dtype=torch.float32, device=device)
    blocks = min(count, DENSITY_BLOCKS * cuda.limits(device).multiprocessors)
    scratch = torch.empty((blocks, size + 2, size + 2), dtype=torch.int32, device=device)
    cuda.launch(
        "chaos_game", "chaos_game_density", device=device, blocks=blocks, threads=THREADS, shared=LEAST_SHARED,
        arguments=(
            *_game(systems, draw_ids), *_scalars(seed, points, size), views.contiguous(), patches.contiguous(),
            np.int64(count), scratch, found,
        ),
    )  # fmt: skip
    return found


def _game(systems: Systems, draw_ids: torch.Tensor) -> tuple[cuda.Argument, ...]:
    most = systems.maps.shape[1]
    assert most <= MAX_MAPS
    return systems.maps, systems.thresholds, systems.counts, np.int32(most), draw_ids


def _scalars(seed: int, points: int, size: int) -> tuple[np.generic, ...]:
    low, high = halves(seed)
    return np.uint32(low), np.uint32(high), np.int32(points), np.int32(size)
