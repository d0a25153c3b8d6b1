"""Points counted on the pixels of a view, and the density under a patch, in Numba: the reference of ``counts.cuh``.

A view shows a window onto the points. For each axis, of coordinates from ``low`` to ``high``, with a shift s and a zoom
z, in float32::

    e = high - low,  c = (low + high) / 2 + s e,  begin = c - z e,  span = (c + z e) - begin
    pixel = trunc((x - begin) ((S - 1) / span)),  with span = 1 where it is below 2^-60

Truncation is towards zero: of the points just outside the window, those less than a pixel below it fall in pixel 0. The
row is the pixel of x, the column that of y. Other points outside are dropped, but a patch at distance 1 reaches into
the canvas, so counts have a border of one pixel.

The density of a pixel is the number of patches that cover it, divided by the largest number of the canvas. Every point
has one and the same patch of 3 x 3 bits: bit 3 i + j covers the pixel i - 1 rows below and j - 1 columns right of it.
The numbers are sums of integers, which do not depend on any order.
"""

import numpy as np
from numba import float32, int32, njit, uint32

from gpurender.kernels.device.cpu_bitmap import MIN_SPAN
from gpurender.runtime.numba_jit import kernel

CHUNK = 1024  # points: their places stay in the L1 cache


@njit(inline="always")
def axis_of_view(low, high, shift, zoom, size):
    """Return where an axis of the view begins, and its pixels per unit, float32 both."""
    extent = float32(high - low)
    centre = float32(float32(float32(low + high) * float32(0.5)) + float32(extent * shift))
    half = float32(extent * zoom)
    begin = float32(centre - half)
    span = float32(float32(centre + half) - begin)
    return begin, float32(float32(size - 1) / (span if span >= MIN_SPAN else float32(1)))


@kernel
def count_points(xs, ys, frame, view, size, counts):
    """Count points on pixels. counts  # [(size + 2)^2 + 1] int32 zeros: border included, and last the points dropped.

    A coordinate within the frame lies at most (1/2 + abs(shift) + zoom) / (2 zoom) canvases from the view's begin, so
    that its pixel fits an int32 for the zooms and shifts that the operation takes.
    """
    begin_x, scale_x = axis_of_view(frame[0], frame[1], view[0], view[2], size)
    begin_y, scale_y = axis_of_view(frame[2], frame[3], view[1], view[3], size)
    places, stride = np.empty(CHUNK, np.int32), int32(size + 2)
    side, dropped = uint32(stride), int32(stride * stride)
    for first in range(0, xs.shape[0], CHUNK):
        last = min(first + CHUNK, xs.shape[0])
        x, y = xs[first:last], ys[first:last]
        for i in range(last - first):
            row = int32(float32(x[i] - begin_x) * scale_x) + int32(1)
            column = int32(float32(y[i] - begin_y) * scale_y) + int32(1)
            inside = (uint32(row) < side) & (uint32(column) < side)
            places[i] = int32(row * stride + column) if inside else dropped
        for i in range(last - first):
            counts[uint32(places[i])] += int32(1)


@kernel
def density(counts, patch, out):
    """Set out (float32 [size, size]) to the density. counts  # [size + 2, size + 2] int32; patch: 9 bits."""
    size = out.shape[0]
    covered = np.zeros((size, size), np.int32)
    for i in range(3):
        for j in range(3):
            if (patch >> (3 * i + j)) & 1:
                for row in range(size):
                    source, target = counts[row + 2 - i, 2 - j :], covered[row]
                    for column in range(size):
                        target[column] += source[column]
    most = int32(0)
    for row in range(size):
        for column in range(size):
            most = max(most, covered[row, column])
    largest = float32(max(most, int32(1)))
    for row in range(size):
        for column in range(size):
            out[row, column] = float32(covered[row, column]) / largest
