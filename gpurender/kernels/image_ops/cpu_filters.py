"""Operations on a pixel and its neighbours, in Numba: SHARPNESS and the two blurs.

Formulas::

    SHARPNESS         blend(s, v, factor), s the mean of 3 x 3 pixels, the middle one five times, rounded; at the
                      image's edge s = v
    GAUSSIAN_BLUR     three box blurs along the rows, then three along the columns, rounded to bytes after each. For a
                      standard deviation r, in float32 except the square root:
                      L = sqrt(4 r^2 + 1),  l = floor((L - 1) / 2),
                      R = l + (2 l + 1) (l (l + 1) - r^2) / (2 (r^2 - (l + 1)^2)),
                      a box of 2 trunc(R) + 1 pixels of weight 1 / (2 R + 1) and two ends that share the rest, in 2^-24;
                      beyond its ends a line repeats its end pixels
    GAUSSIAN_KERNEL   w_k = E^(k^2), E = exp(-1 / (2 sigma^2)), |k| <= 11, divided by their sum in float64; float32 sums
                      along the row from left to right, then along the column from top to bottom, rounded, halves to
                      even; beyond the image's edge the image is mirrored
"""

import numpy as np
from numba import float32, int32, int64, njit, uint8, uint32

from gpurender.kernels.image_ops.cpu_pointwise import blended
from gpurender.numerics.portable_math import exp
from gpurender.runtime.numba_jit import kernel

REACH = 11  # pixels to either side, in the kernel of 23 pixels


@kernel
def sharpness(image, argument, out):
    """Apply SHARPNESS to an image uint8 [C, H, W]."""
    factor = float32(argument)
    channels, height, width = image.shape
    column = np.empty(width, np.int32)
    for c in range(channels):
        band, result = image[c], out[c]
        for y in range(height):
            if y == 0 or y == height - 1 or width < 3:
                for x in range(width):
                    result[y, x] = blended(band[y, x], band[y, x], factor)
                continue
            above, here, below, target = band[y - 1], band[y], band[y + 1], result[y]
            for x in range(width):
                column[x] = int32(above[x]) + int32(here[x]) + int32(below[x])
            target[0] = blended(here[0], here[0], factor)
            target[width - 1] = blended(here[width - 1], here[width - 1], factor)
            for x in range(1, width - 1):
                total = column[x - 1] + column[x] + column[x + 1] + int32(4) * int32(here[x])
                smooth = uint32(2 * total + 13) // uint32(26)
                target[x] = blended(uint8(smooth), here[x], factor)


@njit(inline="always")
def box_of(radius):
    """Return the box for a standard deviation: whole radius, weights of its pixels and of its ends in 2^-24."""
    radius = float32(radius)
    variance = float32(float32(radius * radius) / float32(3.0))
    length = float32(np.sqrt(12.0 * variance + 1.0))
    whole = float32(np.floor((length - 1.0) / 2.0))
    one, two, three, six = float32(1.0), float32(2.0), float32(3.0), float32(6.0)
    beyond = float32(
        float32(float32(two * whole) + one) * float32(float32(whole * float32(whole + one)) - float32(three * variance))
    )
    beyond = float32(beyond / float32(six * float32(variance - float32(float32(whole + one) * float32(whole + one)))))
    exact = float32(whole + beyond)
    inner = uint32(float32(float32(16777216.0) / float32(float32(exact * two) + one)))
    reach = int64(exact)
    outer = uint32(uint32(16777216) - uint32(uint32(reach * 2 + 1) * inner)) >> uint32(1)
    return reach, inner, outer


@kernel
def box_rows(source, reach, inner, outer, target):
    """Blur across rows with a box: target[y] from source[y - reach - 1 .. y + reach + 1], uint8 [h, w]."""
    height, width = source.shape
    total = np.zeros(width, np.uint32)
    for k in range(-reach, reach + 1):
        line = source[min(max(k, 0), height - 1)]
        for x in range(width):
            total[x] += uint32(line[x])
    for y in range(height):
        before, after = source[max(y - reach - 1, 0)], source[min(y + reach + 1, height - 1)]
        leaves, result = source[max(y - reach, 0)], target[y]
        for x in range(width):
            ends = uint32(uint32(before[x]) + uint32(after[x]))
            mean = uint32(uint32(total[x] * inner) + uint32(ends * outer))
            result[x] = uint8(uint32(mean + uint32(8388608)) >> uint32(24))
            total[x] = uint32(total[x] + uint32(after[x])) - uint32(leaves[x])


@kernel
def gaussian_blur(image, argument, out):
    """Apply GAUSSIAN_BLUR to an image uint8 [C, H, W]; the blur along rows runs across the rows of the turned image."""
    channels, height, width = image.shape
    reach, inner, outer = box_of(argument)
    flat, other_flat = np.empty((width, height), np.uint8), np.empty((width, height), np.uint8)
    upright = np.empty((height, width), np.uint8)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                flat[x, y] = image[c, y, x]
        box_rows(flat, reach, inner, outer, other_flat)
        box_rows(other_flat, reach, inner, outer, flat)
        box_rows(flat, reach, inner, outer, other_flat)
        for y in range(height):
            for x in range(width):
                out[c, y, x] = other_flat[x, y]
        box_rows(out[c], reach, inner, outer, upright)
        box_rows(upright, reach, inner, outer, out[c])
        box_rows(out[c], reach, inner, outer, upright)
        out[c] = upright


@njit(inline="always")
def mirrored(i, size):
    """Return row or column i, mirrored if it lies beyond the edge; in tiny images then clipped to the edge."""
    i = abs(i)
    return min(max(i if i < size else 2 * (size - 1) - i, 0), size - 1)


@kernel
def kernel_weights(base):
    """Return the weights float32 [12], from the middle outwards, for E = ``base``."""
    exact = np.empty(REACH + 1)
    weight, factor, square = 1.0, base, base * base
    exact[0] = total = 1.0
    for k in range(1, REACH + 1):
        weight = weight * factor
        factor = factor * square
        exact[k] = weight
        total += 2.0 * weight
    weights = np.empty(REACH + 1, np.float32)
    for k in range(REACH + 1):
        weights[k] = float32(exact[k] / total)
    return weights


def gaussian_kernel(image, argument, out):
    """Apply GAUSSIAN_KERNEL to an image uint8 [C, H, W]."""
    weigh(image, float(exp(-1.0 / (2.0 * argument * argument))), out)


@kernel
def weigh(image, base, out):
    """Blur an image uint8 [C, H, W] by the kernel with E = ``base``."""
    channels, height, width = image.shape
    weights = kernel_weights(base)
    sums, total = np.empty((height, width), np.float32), np.empty(width, np.float32)
    line = np.empty(width + 2 * REACH, np.float32)
    for c in range(channels):
        for y in range(height):
            for x in range(width + 2 * REACH):
                line[x] = float32(image[c, y, mirrored(x - REACH, width)])
            total[:] = float32(0.0)
            for k in range(2 * REACH + 1):
                weight, shifted = weights[abs(k - REACH)], line[k:]
                for x in range(width):
                    total[x] = float32(total[x] + float32(weight * shifted[x]))
            sums[y] = total
        for y in range(height):
            total[:] = float32(0.0)
            for k in range(2 * REACH + 1):
                weight, row = weights[abs(k - REACH)], sums[mirrored(y + k - REACH, height)]
                for x in range(width):
                    total[x] = float32(total[x] + float32(weight * row[x]))
            for x in range(width):
                out[c, y, x] = uint8(np.rint(min(max(total[x], float32(0.0)), float32(255.0))))
