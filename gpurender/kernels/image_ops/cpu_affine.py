"""Operations that move pixels, in Numba: Pillow's affine transform, byte for byte.

Formula (matrix a .. f; the pixel at column x and row y of the result)::

    x_in = a (x + 1/2) + b (y + 1/2) + c          y_in = d (x + 1/2) + e (y + 1/2) + f,  in float64

    not in [0, width) x [0, height):  the fill
    bilinear    between the four pixels around (x_in - 1/2, y_in - 1/2), rows first, truncated
    bicubic     between the sixteen, by p(t) = v2 + t (v3 - v1 + t (2 (v1 - v2) + v3 - v4 + t (v2 - v1 + v4 - v3))),
                clipped, truncated

where pixels beyond the image's edge repeat the edge. Nearest neighbour adds steps from pixel to pixel, as Pillow does:
in fixed point with 16 fractional bits, or in float64 if the image is too large for that or is neither turned nor
sheared.
"""

import numpy as np
from numba import int32, int64, njit, uint8, uint32, uint64

from gpurender.runtime.numba_jit import kernel

PAD = 2  # edge pixels around a channel: the farthest that 4 x 4 pixels reach
LIMIT = 32768.0  # limit of coordinates in fixed point


@njit(inline="always")
def clipped(i, size):
    """Return row or column i, or that of the edge if i lies beyond."""
    return min(max(i, 0), size - 1)


@njit(inline="always")
def along(constant, across, down, x, y):
    """Return a source coordinate of pixel (x, y), in Pillow's order of operations."""
    return across * (x + 0.5) + down * (y + 0.5) + constant


@kernel
def bounds(matrix, height, width, y, out):
    """Find the columns of row y that show the image: out[0] to out[1] - 1.

    Coordinates are monotonic along a row, so the columns are one range; its ends are found by the same arithmetic that
    places the pixels.
    """
    a, b, c, d, e, f = matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]
    first, last = 0, width
    while first < last and not (0.0 <= along(c, a, b, first, y) < width and 0.0 <= along(f, d, e, first, y) < height):
        first += 1
    while last > first and not (
        0.0 <= along(c, a, b, last - 1, y) < width and 0.0 <= along(f, d, e, last - 1, y) < height
    ):
        last -= 1
    out[0], out[1] = first, last


@kernel
def places(matrix, height, width, y, first, corners, dx, dy):
    """Compute where the 4 x 4 pixels around each pixel of a row begin in a padded channel, and the fractions dx, dy.

    The pixels start at column ``first``.
    """
    a, b, c, d, e, f = matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]
    for i in range(len(dx)):
        x_in, y_in = along(c, a, b, first + i, y) - 0.5, along(f, d, e, first + i, y) - 0.5
        column, row = int32(x_in + 1.0) - 1, int32(y_in + 1.0) - 1  # floor, for numbers above -1
        dx[i], dy[i] = x_in - column, y_in - row
        corners[i] = uint64((row - 1 + PAD) * (width + 2 * PAD) + column - 1 + PAD)


@kernel
def padded(band):
    """Return a channel uint8 [H, W] with its edge repeated PAD times on every side, flat."""
    height, width = band.shape
    wide = np.empty((height + 2 * PAD, width + 2 * PAD), np.uint8)
    for y in range(height + 2 * PAD):
        source, target = band[clipped(y - PAD, height)], wide[y]
        target[PAD : PAD + width] = source
        target[:PAD] = source[0]
        target[PAD + width :] = source[width - 1]
    return wide.reshape(-1)


@njit(inline="always")
def four(flat, i):
    """Return four neighbours as a word, the first lowest: one load. (An unsigned index never counts from the end.)"""
    low = uint32(flat[i]) | uint32(flat[i + uint64(1)]) << uint32(8)
    return low | uint32(flat[i + uint64(2)]) << uint32(16) | uint32(flat[i + uint64(3)]) << uint32(24)


@njit(inline="always")
def byte_of(word, k):
    """Return the k-th byte of a word."""
    return int32((word >> uint32(8 * k)) & uint32(255))


@njit(inline="always")
def between_two(word, t):
    """Return the value at t between the middle two of four pixels: float64."""
    left = byte_of(word, 1)
    return left + (byte_of(word, 2) - left) * t


@njit(inline="always")
def between_four(word, t):
    """Return the cubic through four pixels, at t after the second: its coefficients are integers."""
    v1, v2, v3, v4 = byte_of(word, 0), byte_of(word, 1), byte_of(word, 2), byte_of(word, 3)
    return v2 + t * ((v3 - v1) + t * ((2 * (v1 - v2) + v3 - v4) + t * (v2 - v1 + v4 - v3)))


@njit(inline="always")
def cubic(v1, v2, v3, v4, t):
    """Return the cubic through four values, at t after the second."""
    return v2 + t * (v3 - v1 + t * (2.0 * (v1 - v2) + v3 - v4 + t * (-v1 + v2 - v3 + v4)))


@kernel
def bilinear_row(flat, pitch, corners, dx, dy, words, target):
    """Interpolate bytes between 2 x 2 pixels each. The words are gathered first, so that the arithmetic vectorises."""
    upper, lower = words[0], words[1]
    for i in range(len(target)):
        upper[i] = four(flat, corners[i] + pitch)
        lower[i] = four(flat, corners[i] + pitch + pitch)
    for i in range(len(target)):
        above, below = between_two(upper[i], dx[i]), between_two(lower[i], dx[i])
        target[i] = uint8(int32(above + (below - above) * dy[i]))


@kernel
def bicubic_row(flat, pitch, corners, dx, dy, words, target):
    """Interpolate bytes between 4 x 4 pixels each."""
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(len(target)):
        w0[i] = four(flat, corners[i])
        w1[i] = four(flat, corners[i] + pitch)
        w2[i] = four(flat, corners[i] + pitch + pitch)
        w3[i] = four(flat, corners[i] + pitch + pitch + pitch)
    for i in range(len(target)):
        v1, v2 = between_four(w0[i], dx[i]), between_four(w1[i], dx[i])
        v3, v4 = between_four(w2[i], dx[i]), between_four(w3[i], dx[i])
        target[i] = uint8(int32(min(max(cubic(v1, v2, v3, v4, dy[i]), 0.0), 255.0)))


@kernel
def interpolate(image, matrix, smooth, fill, out):
    """Apply an affine transform to an image uint8 [C, H, W], bilinear or (smooth) bicubic."""
    channels, height, width = image.shape
    corners, words = np.empty(width, np.uint64), np.empty((4, width), np.uint32)
    dx, dy, ends = np.empty(width), np.empty(width), np.empty(2, np.int64)
    flat = np.empty((channels, (height + 2 * PAD) * (width + 2 * PAD)), np.uint8)
    for c in range(channels):
        flat[c] = padded(image[c])
    pitch = uint64(width + 2 * PAD)
    for y in range(height):
        bounds(matrix, height, width, y, ends)
        first, last = ends[0], ends[1]
        count = last - first
        places(matrix, height, width, y, first, corners[:count], dx[:count], dy[:count])
        for c in range(channels):
            target = out[c, y]
            target[:first] = fill[c]
            target[last:] = fill[c]
            if smooth:
                bicubic_row(flat[c], pitch, corners, dx, dy, words, target[first:last])
            else:
                bilinear_row(flat[c], pitch, corners, dx, dy, words, target[first:last])


@njit(inline="always")
def fixed(v):
    """Return v in fixed point of 16.16 bits, rounded."""
    return int64(np.floor(v * 65536.0 + 0.5))


@njit(inline="always")
def is_small(matrix, x, y):
    """Return whether the coordinates at a corner fit the fixed point."""
    across = abs(x * matrix[0] + y * matrix[1] + matrix[2])
    return across < LIMIT and abs(x * matrix[3] + y * matrix[4] + matrix[5]) < LIMIT


@kernel
def nearest(image, matrix, fill, out):
    """Apply an affine transform to an image uint8 [C, H, W], by the nearest pixel."""
    channels, height, width = image.shape
    a, b, c, d, e, f = matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]
    small = is_small(matrix, 0, 0) and is_small(matrix, width, 0)
    small = small and is_small(matrix, 0, height) and is_small(matrix, width, height)
    if small and (b != 0.0 or d != 0.0):
        x_start, y_start = fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)
        for y in range(height):
            for x in range(width):
                column = (x_start + y * fixed(b) + x * fixed(a)) >> 16
                row = (y_start + y * fixed(e) + x * fixed(d)) >> 16
                shown = 0 <= column < width and 0 <= row < height
                for band in range(channels):
                    out[band, y, x] = image[band, row, column] if shown else fill[band]
        return
    x_line, y_line = c + b * 0.5 + a * 0.5, f + e * 0.5 + d * 0.5
    for y in range(height):
        x_in, y_in = x_line, y_line
        for x in range(width):
            shown = 0.0 <= x_in < width and 0.0 <= y_in < height
            for band in range(channels):
                out[band, y, x] = image[band, int(y_in), int(x_in)] if shown else fill[band]
            x_in += a
            y_in += d
        x_line += b
        y_line += e
