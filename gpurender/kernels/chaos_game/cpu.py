"""The chaos game in Numba: the reference that every other implementation equals byte for byte.

An iterated function system is a set of affine maps, each chosen with a given probability. The game walks::

    x' = a x + b y + e
    y' = c x + d y + f          (a, b, c, d, e, f) = map i with probability p_i

and lights the pixel under every point it visits. The steps of one image: ``walk`` computes the points and their frame
(``cpu_walk.py``); ``splat`` sets their bits in a bitmap of one bit per pixel (``device/cpu_bitmap.py``); ``texture``
widens every point into a 3 x 3 patch and masks it at random (``device/cpu_texture.py``); ``write`` turns bits into
bytes (``device/cpu_bits.py``). Coloured images keep the number of the last point on each pixel instead of one bit.

**What makes it deterministic.** Every random word has an address (draw id of the image, stream, step, walker); min, max
and OR do not depend on the order; the arithmetic is float32 without contraction.
"""

import numpy as np
import torch
from numba import int32, uint32

from gpurender.kernels.chaos_game import tables
from gpurender.kernels.chaos_game.cpu_walk import key_of, split, walker_count, walks
from gpurender.kernels.device.cpu_bitmap import count_bits, locate, splat
from gpurender.kernels.device.cpu_bits import orient, write
from gpurender.kernels.device.cpu_counts import count_points, density
from gpurender.kernels.device.cpu_texture import draw_mask, gap_tables, texture
from gpurender.runtime import host_memory
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

CPU = torch.device("cpu")


@kernel
def render_color(xs, ys, frame, patch, mask, gaps, palette, key, number, image):
    """Render a coloured image, uint8 [3, size, size]: a pixel takes the colour of the last point (or patch) on it.

    The hue advances by one per step of a walk, as in the released sequential walk: point i is step i // W of walker
    i % W, and the walkers' paths are counted one after the other.
    """
    size = image.shape[1]
    walkers = walker_count(xs.shape[0])
    steps = (xs.shape[0] + walkers - 1) // walkers
    # the number of the last point on a pixel, counted from 1; three empty rows and columns come first
    last = np.zeros((size + 3, size + 3), np.int32)
    pixels = np.empty(xs.shape[0], np.int32)
    locate(xs, ys, frame, size, size, pixels)
    for i in range(xs.shape[0]):  # in order, so a later point overwrites an earlier one
        last[3 + pixels[i] // size, 3 + pixels[i] % size] = i + 1
    bits = np.full((size, (size + 31) // 32), uint32(0xFFFFFFFF))
    if patch and mask:
        draw_mask(gaps, key, number, bits)
    for y in range(size):
        for x in range(size):
            newest = last[y + 3, x + 3]
            if patch:
                newest = int32(0)
                for dy in range(3):
                    for dx in range(3):
                        newest = max(newest, last[y + dy, x + dx])
            lit = newest > 0 and (bits[y, x >> 5] >> uint32(x & 31)) & uint32(1)
            along = ((newest - 1) % walkers) * steps + (newest - 1) // walkers
            for c in range(3):
                image[c, y, x] = palette[along % palette.shape[0], c] if lit else np.uint8(0)


def render_cover(xs, ys, frame, cover):
    """Render the bitmap of points; cover  # [size, words] uint32."""
    cover[...] = 0
    splat(xs, ys, frame, len(cover), cover)


def paint(cover, patch, mask, gaps, key, number, orientation, image):
    """Render the grey image of a bitmap; cover  # [size, words] uint32, image  # [size, size] uint8."""
    lit = cover
    if patch:
        lit = np.empty_like(cover)
        texture(cover, mask, gaps, key, number, lit)
    write(lit, orientation, image)
    if orientation & 4:
        orient(image, 4)


# Implementations of the public functions: batches of tensors, one image per iteration of the loop, on all threads.


def render_systems(systems, point_ids, mask_ids, orientations, seed, points, size, color, patch, mask):
    """Render images; uint8 [N, C, size, size]; arguments as in :func:`gpurender.kernels.chaos_game.render_systems`."""
    images = host_memory.empty((len(systems), 3 if color else 1, size, size), np.uint8)
    key, numbers, codes = key_of(seed), split(mask_ids), orientations.numpy()
    gaps, hues, of_thread = gap_tables(size), tables.palette(CPU).numpy(), walks(systems, point_ids, seed, points)

    def work(first, last):
        walk_of, cover = of_thread(), np.empty((size, (size + 31) // 32), np.uint32)
        for n in range(first, last):
            if color:
                render_color(*walk_of(n), patch, mask, gaps, hues, key, numbers[n], images[n])
                for plane in images[n]:
                    orient(plane, int(codes[n]))
            else:
                render_cover(*walk_of(n), cover)
                paint(cover, patch, mask, gaps, key, numbers[n], int(codes[n]), images[n, 0])

    parallel_ranges(len(images), work)
    return torch.from_numpy(images)


def occupancy(systems, draw_ids, seed, points, size):
    """Compute bitmaps; int32 [N, size, words]; arguments as in :func:`gpurender.kernels.chaos_game.occupancy`."""
    covers = np.empty((len(systems), size, (size + 31) // 32), np.uint32)
    of_thread = walks(systems, draw_ids, seed, points)

    def work(first, last):
        walk_of = of_thread()
        for n in range(first, last):
            render_cover(*walk_of(n), covers[n])

    parallel_ranges(len(covers), work)
    return torch.from_numpy(covers.view(np.int32))


def covered_pixels(systems, draw_ids, seed, points, size):
    """Count covered pixels; int64 [N]; arguments as in :func:`gpurender.kernels.chaos_game.covered_pixels`."""
    covered = np.empty(len(systems), np.int64)
    of_thread = walks(systems, draw_ids, seed, points)

    def work(first, last):
        walk_of, cover = of_thread(), np.empty((size, (size + 31) // 32), np.uint32)
        for n in range(first, last):
            render_cover(*walk_of(n), cover)
            covered[n] = count_bits(cover)

    parallel_ranges(len(covered), work)
    return torch.from_numpy(covered)


def masked_occupancy(systems, point_ids, mask_ids, seed, points, size, mask):
    """Compute bitmaps of patches; int32 [N, size, words]; as :func:`gpurender.kernels.chaos_game.masked_occupancy`."""
    lit = np.empty((len(systems), size, (size + 31) // 32), np.uint32)
    key, gaps, numbers = key_of(seed), gap_tables(size), split(mask_ids)
    of_thread = walks(systems, point_ids, seed, points)

    def work(first, last):
        walk_of, cover = of_thread(), np.empty(lit.shape[1:], np.uint32)
        for n in range(first, last):
            render_cover(*walk_of(n), cover)
            texture(cover, mask, gaps, key, numbers[n], lit[n])

    parallel_ranges(len(lit), work)
    return torch.from_numpy(lit.view(np.int32))


def mask_bitmaps(bitmaps, which, mask_ids, seed, mask):
    """Apply patches and masks; int32 [N, size, words]; as :func:`gpurender.kernels.chaos_game.mask_bitmaps`."""
    covers, places, key, words = bitmaps.numpy().view(np.uint32), which.numpy(), key_of(seed), split(mask_ids)
    lit, gaps = np.empty((len(which), *covers.shape[1:]), np.uint32), gap_tables(covers.shape[1])

    def work(first, last):
        for n in range(first, last):
            texture(covers[places[n]], mask, gaps, key, words[n], lit[n])

    parallel_ranges(len(lit), work)
    return torch.from_numpy(lit.view(np.int32))


def render_bitmaps(bitmaps, which, mask_ids, orientations, seed, patch, mask):
    """Render images; uint8 [N, 1, size, size]; arguments as in :func:`gpurender.kernels.chaos_game.render_bitmaps`."""
    size = bitmaps.shape[1]
    images = host_memory.empty((len(which), 1, size, size), np.uint8)
    covers, places, codes = bitmaps.numpy().view(np.uint32), which.numpy(), orientations.numpy()
    gaps, key, words = gap_tables(size), key_of(seed), split(mask_ids)

    def work(first, last):
        for n in range(first, last):
            paint(covers[places[n]], patch, mask, gaps, key, words[n], int(codes[n]), images[n, 0])

    parallel_ranges(len(images), work)
    return torch.from_numpy(images)


def densities(systems, draw_ids, views, patches, seed, points, size):
    """Compute densities; float32 [N, size, size]; arguments as in :func:`gpurender.kernels.chaos_game.densities`."""
    found = host_memory.empty((len(systems), size, size), np.float32)
    of_thread, windows, bits = walks(systems, draw_ids, seed, points), views.numpy(), patches.numpy()

    def work(first, last):
        walk_of, stride = of_thread(), size + 2
        for n in range(first, last):
            if bits[n] == 0:
                found[n] = 0.0
                continue
            xs, ys, frame = walk_of(n)
            counts = np.zeros(stride * stride + 1, np.int32)
            count_points(xs, ys, frame, windows[n], size, counts)
            density(counts[:-1].reshape(stride, stride), bits[n], found[n])

    parallel_ranges(len(found), work)
    return torch.from_numpy(found)
