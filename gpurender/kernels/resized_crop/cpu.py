"""Crop, resize, flip and normalise in Numba: Pillow's resampling, byte for byte.

Formula (one axis of Pillow's ``Resample.c``: n_in pixels become n_out, scale = n_in / n_out, stretch = max(scale, 1))::

    centre_i = (i + 1/2) scale                         radius = support stretch
    first_i  = floor(centre_i - radius + 1/2), 0 or more
    last_i   = floor(centre_i + radius + 1/2), n_in or less
    w_ik     = filter((first_i + k - centre_i + 1/2) / stretch),  k = 0 .. last_i - first_i - 1,  divided by their sum
    out_i    = clip((2^21 + sum_k round(2^22 w_ik) in_(first_i + k)) >> 22, 0, 255)

with the weights in float64, the sum in int32 and a uint8 image between the two axes. The crop comes before the resize,
so no tap sees a pixel outside the box. Nearest neighbour is treated as one more filter, a single tap of weight 1, which
the rounding does not change.

The axes do not commute, because the image between them is rounded. Pillow 13 resizes along x first, unless the height
shrinks by more than twice as many pixels as the width; earlier versions always resize along x first.

Along either axis the code sums whole rows, which vectorises, while a sum along a row does not; for the x axis the image
is turned (transposed) before and after. A flip costs nothing: the sum of a row is stored at the mirrored place.
"""

import numpy as np
import torch
from numba import int32, njit, uint8, uint64

from gpurender.kernels.resized_crop.params import BICUBIC, BITS, NEAREST
from gpurender.runtime.image_formats import INTEGERS
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

HALF = np.int32(1 << (BITS - 1))
GROUP = 4  # rows summed at once
CHUNK = 8  # images resized before they are normalised: few enough to stay in cache


@njit(inline="always")
def triangle(x):
    """Return the bilinear filter at x, support 1."""
    return max(1.0 - abs(x), 0.0)


@njit(inline="always")
def cubic(x):
    """Return the bicubic convolution filter with a = -1/2 (Keys 1981) at x, support 2."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return 0.0


@kernel
def nearest_taps(n_in, n_out):
    """Return the tables of :func:`filter_taps` for nearest neighbour: one tap of weight 1.

    As in Pillow, each coordinate is the one before plus a step, in float64: a product would round differently.
    """
    bounds = np.empty((n_out, 2), np.int32)
    weights = np.zeros((n_out, GROUP), np.int32)
    step = n_in / n_out
    position = 0.5 * step
    for i in range(n_out):
        bounds[i, 0] = min(int(position), n_in - 1)
        bounds[i, 1] = bounds[i, 0] + 1
        weights[i, 0] = 1 << BITS
        position += step
    return bounds, weights


@kernel
def filter_taps(n_in, n_out, interpolation):
    """Return the taps per output pixel: bounds int32 [n_out, 2] (first, last + 1), weights int32 [n_out, taps or more].

    Zeros follow the weights of a pixel.
    """
    if interpolation == NEAREST:
        return nearest_taps(n_in, n_out)
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    shrink = 1.0 / stretch
    radius = (2.0 if interpolation == BICUBIC else 1.0) * stretch
    taps = 2 * int(np.ceil(radius)) + 1
    exact = np.empty(taps, np.float64)
    bounds = np.empty((n_out, 2), np.int32)
    weights = np.zeros((n_out, (taps + GROUP - 1) // GROUP * GROUP), np.int32)
    for i in range(n_out):
        centre = (i + 0.5) * scale
        first = max(int(centre - radius + 0.5), 0)
        count = min(int(centre + radius + 0.5), n_in) - first
        total = 0.0
        for k in range(count):
            x = (k + first - centre + 0.5) * shrink
            exact[k] = cubic(x) if interpolation == BICUBIC else triangle(x)
            total += exact[k]
        for k in range(count):
            fixed = exact[k] / total * (1 << BITS)
            weights[i, k] = int(fixed - 0.5) if fixed < 0.0 else int(fixed + 0.5)
        bounds[i, 0], bounds[i, 1] = first, first + count
    return bounds, weights


@njit(inline="always")
def pack_rows(source, y, words):
    """Set words[x] to the bytes source[y .. y + 7, x], lowest byte first (the last row stands for rows below it)."""
    last = source.shape[0] - 1
    r0, r1, r2, r3 = source[y], source[min(y + 1, last)], source[min(y + 2, last)], source[min(y + 3, last)]
    y = min(y + 4, last)
    r4, r5, r6, r7 = source[y], source[min(y + 1, last)], source[min(y + 2, last)], source[min(y + 3, last)]
    for x in range(words.shape[0]):
        low = r0[x] | uint64(r1[x]) << 8 | uint64(r2[x]) << 16 | uint64(r3[x]) << 24
        high = r4[x] | uint64(r5[x]) << 8 | uint64(r6[x]) << 16 | uint64(r7[x]) << 24
        words[x] = low | high << 32


@kernel
def turned(source):
    """Return source uint8 [h, w] transposed: uint8 [w, h].

    Words of eight bytes make this ten times as fast as single bytes: the words are filled along x, which vectorises,
    and stored along y, 64 rows at a time, so that a cache line is written once.
    """
    h, w = source.shape
    words = np.empty((8, w), np.uint64)
    target = np.empty((w, (h + 7) // 8), np.uint64)
    for y in range(0, h, 64):
        used = min((h - y + 7) // 8, 8)
        for i in range(used):
            pack_rows(source, y + 8 * i, words[i])
        for x in range(w):
            for i in range(used):
                target[x, y // 8 + i] = words[i, x]
    return target.view(np.uint8)[:, :h]


@njit(inline="always")
def add_rows(source, row, w, total):
    """Add w[0] source[row] + ... + w[3] source[row + 3] to total, in int32 (the last row stands for rows below it)."""
    last = source.shape[0] - 1
    r0, r1, r2, r3 = source[row], source[min(row + 1, last)], source[min(row + 2, last)], source[min(row + 3, last)]
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    for j in range(total.shape[0]):
        total[j] = int32(total[j] + int32(w0 * r0[j]) + int32(w1 * r1[j]) + int32(w2 * r2[j]) + int32(w3 * r3[j]))


@kernel
def resized_rows(source, bounds, weights, mirrored):
    """Return rows sum_k weights[i, k] source[first_i + k], last first if mirrored: uint8 [n_in, m] to [n_out, m]."""
    m, n_out = source.shape[1], len(bounds)
    result = np.empty((n_out, m), np.uint8)
    total = np.empty(m, np.int32)
    for i in range(n_out):
        total[:] = HALF
        first = bounds[i, 0]
        for k in range(0, bounds[i, 1] - first, GROUP):
            add_rows(source, first + k, weights[i, k : k + GROUP], total)
        row = result[n_out - 1 - i if mirrored else i]
        for j in range(m):
            row[j] = uint8(min(max(total[j] >> BITS, 0), 255))
    return result[:, :m]  # a slice, as turned() returns: Numba sees one type, whether an image is turned or not


@kernel
def resized(image, height, width, interpolation, flips):
    """Return image uint8 [h, w] resized along both axes, then flipped: uint8 [height, width]."""
    h, w = image.shape
    y_first = h > height and h - height > 2 * (w - width)
    for y_axis in (y_first, not y_first):
        if not y_axis:
            image = turned(image)
        bounds, weights = filter_taps(image.shape[0], height if y_axis else width, interpolation)
        image = resized_rows(image, bounds, weights, flips[1 if y_axis else 0])
        if not y_axis:
            image = turned(image)
    return image


@kernel
def resample(canvases, boxes, flips, interpolations, out):
    """Set out[n, c] to flipped(resized(canvases[n, c] cropped to boxes[n])).

    canvases uint8 [N, C, S, S'], boxes int32 [N, 4] top, left, height, width, flips bool [N, 2] horizontal, vertical,
    interpolations uint8 [N], out uint8 [N, C, H, W].
    """
    n_images, channels, height, width = out.shape
    for n in range(n_images):
        top, left, h, w = boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3]
        for c in range(channels):
            crop = canvases[n, c, top : top + h, left : left + w]
            image = resized(crop, height, width, interpolations[n], flips[n])
            for y in range(height):
                for x in range(width):
                    out[n, c, y, x] = image[y, x]


@kernel
def look_up(images, lut, out):
    """Set out[n, c] to lut[c][images[n, c]], images uint8 [N, 1 or 3, H, W], lut [3, 256], out [N, 3, H, W].

    The entries are copied as bit patterns in integers, so one compiled kernel serves all dtypes of the same size.
    """
    n_images, channels, height, width = images.shape
    for n in range(n_images):
        for c in range(3):
            table = lut[c]
            for y in range(height):
                source = images[n, min(c, channels - 1), y]
                target = out[n, c, y]
                for x in range(width):
                    target[x] = table[source[x]]


def crop_resize(canvases, boxes, flips, interpolations, size):
    """Do ``gpurender.kernels.resized_crop.crop_resize`` on the CPU; the arguments are checked."""
    arrays = [tensor.numpy() for tensor in (canvases, boxes, flips, interpolations)]
    out = np.empty((*canvases.shape[:2], *size), np.uint8)

    def work(start, stop):
        resample(*(array[start:stop] for array in arrays), out[start:stop])

    parallel_ranges(len(out), work)
    return torch.from_numpy(out)


def crop_resize_normalise(canvases, boxes, flips, interpolations, lut, size, memory_format):
    """Do ``gpurender.kernels.resized_crop.crop_resize_normalise`` on the CPU; the arguments are checked."""
    arrays = [tensor.numpy() for tensor in (canvases, boxes, flips, interpolations)]
    entries = lut.view(INTEGERS[lut.element_size()]).numpy()
    # NumPy asks the system for huge pages and torch does not: page faults of a new batch take a fifth of the time.
    out = np.empty((len(canvases), 3, *size), entries.dtype)

    def work(start, stop):
        resized = np.empty((CHUNK, canvases.shape[1], *size), np.uint8)
        for a in range(start, stop, CHUNK):
            b = min(a + CHUNK, stop)
            resample(*(array[a:b] for array in arrays), resized[: b - a])
            look_up(resized[: b - a], entries, out[a:b])

    parallel_ranges(len(out), work)
    return torch.from_numpy(out).view(lut.dtype).contiguous(memory_format=memory_format)
