"""One-pixel lines in Numba: the reference of ``lines.cuh``.

The lines are Pillow's: end points truncated toward zero, then Bresenham. A segment goes ``long`` pixels along its
longer axis and ``short`` pixels along the other. Its pixel i = 0 .. long lies m(i) pixels across, as Bresenham's error
term counts::

    m(i) = floor((2 short i + long) / (2 long))

Only the part of a line inside a window of the canvas is rendered; the whole canvas is one window. A segment within the
window is rendered by m in fixed point (:func:`plan`), without its last pixel, which is the first of the next segment. A
segment that crosses the edge is rendered by Bresenham's remainder from its first visible pixel to its last; both pixels
are computed in closed form (:func:`render_crossing`). So a window has the pixels that the whole canvas has there.

Functions of single segments count pixels from the corner of the window. Their ``extent`` is the window's width and
height and the distance from row to row, in pixels, and their ``pixels`` begin at that corner.
"""

import numpy as np
from numba import float64, int32, int64, njit, uint64

from gpurender.runtime.numba_jit import kernel

MAX_COORDINATE = np.float32(2.0**20)  # pixels; no valid recipe reaches this coordinate
FRACTION_BITS = 30  # fraction bits of a slope


@njit(inline="always")
def truncate(coordinate):
    """Truncate toward zero, as a C cast does, after clamping the coordinate to +-2^20."""
    return int32(min(max(coordinate, -MAX_COORDINATE), MAX_COORDINATE))


@kernel
def gather(x, y, top, left, width, height, lines):
    """Collect the segments of a closed polygon whose bounding boxes meet the window, in order; return their number.

    x, y  # float32 [q]; lines  # int32 [9, q + 1], whose rows 2 to 5 are set to x and y of both ends, from the window's
    corner. Most segments of an atom lie outside a crop, and the others take most of the time.
    """
    xs, ys, x0, y0, x1, y1 = lines[:6]
    last_x, last_y, q = int32(width - 1), int32(height - 1), x.shape[0]
    for j in range(q):
        xs[j + 1], ys[j + 1] = truncate(x[j]) - left, truncate(y[j]) - top
    xs[0], ys[0] = xs[q], ys[q]
    count = 0
    for j in range(q):
        a, b, c, d = xs[j], ys[j], xs[j + 1], ys[j + 1]
        x0[count], y0[count], x1[count], y1[count] = a, b, c, d
        # The signs: both ends lie beyond the same edge. Without a branch, which would often be mispredicted
        hidden = ((a & c) | (b & d) | ((last_x - a) & (last_x - c)) | ((last_y - b) & (last_y - d))) < 0
        count += 0 if hidden else 1
    return count


@kernel
def plan(count, extent, lines):
    """Prepare gathered segments: the rows 6 to 8 of lines are set to the steps along and across and to the slope.

    The step along is 0 if the segment leaves the window.

    The slope is short / long in units of 2^-30, rounded up by more than 0 and at most 2. Pixel i < long lies m(i)
    = floor(short i / long + 1/2) across, and short i / long + 1/2 stays 1 / (2 long) or more below the next integer.
    The excess of i slopes is below 2 long 2^-30, so it never carries if 4 long^2 < 2^30: within the window long is
    below 2^13.
    """
    x0, y0, x1, y1, along, across, slope = lines[2:]
    width, height, pitch = extent
    last_x, last_y = int32(width - 1), int32(height - 1)
    for i in range(count):
        dx, dy = x1[i] - x0[i], y1[i] - y0[i]
        step_x, step_y = int32(1) if dx >= 0 else int32(-1), int32(pitch) if dy >= 0 else int32(-pitch)
        dx, dy = abs(dx), abs(dy)
        flat = dx > dy
        long, short = max(dx, dy, 1), min(dx, dy)
        beyond = (last_x - x0[i]) | (last_y - y0[i]) | (last_x - x1[i]) | (last_y - y1[i])  # the signs
        leaves = (x0[i] | y0[i] | x1[i] | y1[i] | beyond) < 0
        along[i] = int32(0) if leaves else (step_x if flat else step_y)
        across[i] = step_y if flat else step_x
        slope[i] = int32(float64(short) / float64(long) * float64(1 << FRACTION_BITS)) + 1


@kernel
def render_polygon(x, y, grey, window, canvas, lines):
    """Render the part inside a window of the closed polygon x, y (float32 [q]); lines int32 [9, q + 1] is scratch.

    window  # top, left, height, width, inside the canvas; canvas  # [S, S] uint8, contiguous
    """
    top, left, height, width = window
    pitch = canvas.shape[1]
    extent = (width, height, pitch)
    pixels = canvas.ravel()[top * pitch + left :]
    count = gather(x, y, top, left, width, height, lines)
    plan(count, extent, lines)
    x0, y0, x1, y1, along, across, slope = lines[2:]
    for i in range(count):
        if along[i] == 0:
            render_crossing(x0[i], y0[i], x1[i], y1[i], grey, extent, pixels)
            continue
        position, moved = int64(y0[i]) * pitch + x0[i], int64(1) << (FRACTION_BITS - 1)
        for _ in range(max(abs(x1[i] - x0[i]), abs(y1[i] - y0[i]), 1)):
            pixels[uint64(position + (moved >> FRACTION_BITS) * across[i])] = grey
            position += along[i]
            moved += slope[i]


@kernel
def render_crossing(x0, y0, x1, y1, grey, extent, pixels):
    """Render the visible pixels of a segment, the last one included; its ends lie anywhere within +-2^20."""
    width, height, pitch = extent
    if max(x0, x1) < 0 or max(y0, y1) < 0 or min(x0, x1) >= width or min(y0, y1) >= height:
        return
    flat = abs(x1 - x0) > abs(y1 - y0)
    u0, v0, u1, v1 = (x0, y0, x1, y1) if flat else (y0, x0, y1, x1)  # u along, v across
    u_size, v_size = (width, height) if flat else (height, width)
    along, across = (1, pitch) if flat else (pitch, 1)
    long, short = max(int64(abs(u1 - u0)), 1), int64(abs(v1 - v0))
    u_step, v_step = 1 if u1 >= u0 else -1, 1 if v1 >= v0 else -1
    first, last = visible(u0, u_step, u_size)
    low, high = visible(v0, v_step, v_size)
    # m(i) >= low from some pixel on, m(i) >= high + 1 from another: both bound the visible part of the shorter axis
    first, last = max(first, reach(low, long, short)), min(last, abs(u1 - u0))
    if high < short:
        last = min(last, reach(high + 1, long, short) - 1)
    m, rest = divmod(2 * short * first + long, 2 * long)
    pixel = (u0 + u_step * first) * along + (v0 + v_step * m) * across
    for _ in range(first, last + 1):
        pixels[uint64(pixel)] = grey
        pixel += u_step * along
        rest += 2 * short
        if rest >= 2 * long:
            rest -= 2 * long
            pixel += v_step * across


@njit(inline="always")
def visible(start, step, size):
    """Return the first and last i with 0 <= start + step i < size, step 1 or -1; the first is at least 0."""
    before, after = (-start, size - 1 - start) if step > 0 else (start - size + 1, start)
    return max(int64(before), 0), int64(after)


@njit(inline="always")
def reach(m, long, short):
    """Return the first i with m(i) >= m, for 0 <= m <= short: 2 short i + long >= 2 long m."""
    return (long * (2 * m - 1) + 2 * short - 1) // (2 * short) if m > 0 else int64(0)


@kernel
def render_polygons(x, y, greys, canvas):
    """Render closed polygons, each over the earlier ones.

    x, y  # [K, q] float32; greys  # [K] uint8; canvas  # [size, size] uint8
    """
    lines = np.empty((9, x.shape[1] + 1), np.int32)
    window = (0, 0, canvas.shape[0], canvas.shape[1])
    for k in range(x.shape[0]):
        render_polygon(x[k], y[k], greys[k], window, canvas, lines)
