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
is turned (transposed) before and after. A canvas of one bit per pixel needs no turn before: its crop is unpacked into
bytes by rows or by columns, as the first axis wants it. A flip costs nothing: the sum of a row is stored at the
mirrored place. Rows of the images between the steps are padded to a multiple of 8 bytes; no result depends on the
padding.
"""

import functools

import numpy as np
import torch
from numba import int32, njit, uint8, uint64

from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.kernels.device.cpu_bits import unpacked
from gpurender.kernels.resized_crop.params import BICUBIC, BITS, NEAREST
from gpurender.runtime import host_memory
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
    near, far = (1.5 * x - 2.5) * x * x + 1.0, (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return near if x < 1.0 else (far if x < 2.0 else 0.0)


@kernel
def nearest_taps(n_in, n_out, first, counts):
    """Fill first and counts as :func:`filter_taps` does and return the weights, for nearest neighbour: one tap of 1.

    As in Pillow, each coordinate is the one before plus a step, in float64: a product would round differently.
    """
    weights = np.zeros((GROUP, n_out), np.int32)
    step = n_in / n_out
    position = 0.5 * step
    for i in range(n_out):
        first[i], counts[i] = min(int(position), n_in - 1), 1
        weights[0, i] = 1 << BITS
        position += step
    return weights


@kernel
def place_taps(n_in, scale, radius, first, counts, centres):
    """Set first, counts (int32) and centres (float64) of output pixels, all [n_out]."""
    for i in range(first.shape[0]):
        centre = (i + 0.5) * scale
        centres[i] = centre
        first[i] = max(int(centre - radius + 0.5), 0)
        counts[i] = min(int(centre + radius + 0.5), n_in) - first[i]


@kernel
def weigh(tap, shrink, interpolation, first, counts, centres, exact, totals):
    """Set exact to the filter at a tap of every output pixel, 0 beyond its last, and add it to totals; all [n_out]."""
    for i in range(exact.shape[0]):
        x = (tap + first[i] - centres[i] + 0.5) * shrink
        weight = cubic(x) if interpolation == BICUBIC else triangle(x)
        exact[i] = weight if tap < counts[i] else 0.0
        totals[i] += exact[i]


@kernel
def fix_weights(exact, totals, weights):
    """Set weights (int32) to exact / totals in units of 2^-22, rounded away from zero at halves; all [n_out]."""
    for i in range(exact.shape[0]):
        fixed = exact[i] / totals[i] * (1 << BITS)
        weights[i] = int32(fixed - 0.5 if fixed < 0.0 else fixed + 0.5)


@kernel
def filter_taps(n_in, n_out, interpolation):
    """Return the taps of the output pixels: first, counts int32 [n_out], weights int32 [taps or more, n_out].

    Zeros follow the weights of a pixel. Loops over pixels, one tap at a time, vectorise.
    """
    first, counts = np.empty(n_out, np.int32), np.empty(n_out, np.int32)
    if interpolation == NEAREST:
        return first, counts, nearest_taps(n_in, n_out, first, counts)
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    radius = (2.0 if interpolation == BICUBIC else 1.0) * stretch
    taps = 2 * int(np.ceil(radius)) + 1
    centres, totals = np.empty(n_out, np.float64), np.zeros(n_out, np.float64)
    exact = np.empty((taps, n_out), np.float64)
    weights = np.zeros(((taps + GROUP - 1) // GROUP * GROUP, n_out), np.int32)
    place_taps(n_in, scale, radius, first, counts, centres)
    for tap in range(taps):
        weigh(tap, 1.0 / stretch, interpolation, first, counts, centres, exact[tap], totals)
    for tap in range(taps):
        fix_weights(exact[tap], totals, weights[tap])
    return first, counts, weights


@njit(inline="always")
def pack_rows(source, y, last, left, words):
    """Set words[x] to the bytes source[y .. y + 7, left + x], lowest first; row ``last`` stands for later rows."""
    r0, r1, r2, r3 = source[y], source[min(y + 1, last)], source[min(y + 2, last)], source[min(y + 3, last)]
    y = min(y + 4, last)
    r4, r5, r6, r7 = source[y], source[min(y + 1, last)], source[min(y + 2, last)], source[min(y + 3, last)]
    for x in range(words.shape[0]):
        i = uint64(left + x)
        low = r0[i] | uint64(r1[i]) << 8 | uint64(r2[i]) << 16 | uint64(r3[i]) << 24
        high = r4[i] | uint64(r5[i]) << 8 | uint64(r6[i]) << 16 | uint64(r7[i]) << 24
        words[x] = low | high << 32


@kernel
def turned(source, top, left, h, w):
    """Return a window of source (uint8, 2-D) transposed: uint8 [w, h, padded].

    Words of eight bytes make this ten times as fast as single bytes: the words are filled along x, which vectorises,
    and stored along y, 64 rows at a time, so that a cache line is written once.
    """
    words = np.empty((8, w), np.uint64)
    target = np.empty((w, (h + 7) // 8), np.uint64)
    for y in range(0, h, 64):
        used = min((h - y + 7) // 8, 8)
        for i in range(used):
            pack_rows(source, top + y + 8 * i, top + h - 1, left, words[i])
        for x in range(w):
            for i in range(used):
                target[x, y // 8 + i] = words[i, x]
    return target.view(np.uint8)


@kernel
def copied(source, top, left, h, w):
    """Return a copy of a window of source (uint8, 2-D): uint8 [h, w, padded]."""
    target = np.empty((h, (w + 7) // 8 * 8), np.uint8)
    for y in range(h):
        for x in range(w):
            target[y, x] = source[top + y, left + x]
    return target


@njit(inline="always")
def add_rows(source, row, weights, i, total):
    """Add weights[0, i] source[row] + ... + weights[3, i] source[row + 3] to total, in int32.

    The last row stands for rows below it.
    """
    last = source.shape[0] - 1
    r0, r1, r2, r3 = source[row], source[min(row + 1, last)], source[min(row + 2, last)], source[min(row + 3, last)]
    w0, w1, w2, w3 = weights[0, i], weights[1, i], weights[2, i], weights[3, i]
    for j in range(total.shape[0]):
        total[j] = int32(total[j] + int32(w0 * r0[j]) + int32(w1 * r1[j]) + int32(w2 * r2[j]) + int32(w3 * r3[j]))


@kernel
def resized_rows(source, first, counts, weights, mirrored):
    """Return rows sum_k weights[k, i] source[first_i + k], uint8 [n_out, m], the last first if mirrored.

    source  # uint8 [n_in or more, m], m a multiple of 8
    """
    m, n_out = source.shape[1], len(first)
    result = np.empty((n_out, m), np.uint8)
    total = np.empty(m, np.int32)
    for i in range(n_out):
        total[:] = HALF
        for k in range(0, counts[i], GROUP):
            add_rows(source, first[i] + k, weights[k : k + GROUP], i, total)
        row = result[n_out - 1 - i if mirrored else i]
        for j in range(m):
            row[j] = uint8(min(max(total[j] >> BITS, 0), 255))
    return result


@njit(inline="always")
def shrinks_y_first(h, w, height, width):
    """Return whether Pillow resizes along y first."""
    return h > height and h - height > 2 * (w - width)


@kernel
def resized(image, y_first, h, w, interpolation, flips, out):
    """Set out (uint8 [height, width]) to an image of h x w pixels, resized along both axes, then flipped.

    image  # uint8 [h, w, padded], or turned, [w, h, padded], unless y_first
    """
    height, width = out.shape
    n_in, n_out = (h, height) if y_first else (w, width)
    first, counts, weights = filter_taps(n_in, n_out, interpolation)
    image = resized_rows(image, first, counts, weights, flips[1 if y_first else 0])
    image = turned(image, 0, 0, n_out, w if y_first else h)
    n_in, n_out = (w, width) if y_first else (h, height)
    first, counts, weights = filter_taps(n_in, n_out, interpolation)
    image = resized_rows(image, first, counts, weights, flips[0 if y_first else 1])
    if y_first:
        image = turned(image, 0, 0, width, height)
    for y in range(height):
        for x in range(width):
            out[y, x] = image[y, x]


@kernel
def resample(canvases, boxes, flips, interpolations, out):
    """Set out[n, c] to flipped(resized(canvases[n, c] cropped to boxes[n])).

    canvases uint8 [N, C, S, S'], boxes int32 [N, 4] top, left, height, width, flips bool [N, 2] horizontal, vertical,
    interpolations uint8 [N], out uint8 [N, C, H, W].
    """
    n_images, channels, height, width = out.shape
    for n in range(n_images):
        top, left, h, w = boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3]
        y_first = shrinks_y_first(h, w, height, width)
        for c in range(channels):
            crop = copied(canvases[n, c], top, left, h, w) if y_first else turned(canvases[n, c], top, left, h, w)
            resized(crop, y_first, h, w, interpolations[n], flips[n], out[n, c])


@kernel
def resample_bits(rows, which, orientations, boxes, flips, interpolations, out):
    """Set out[n, 0] as :func:`resample` does for the canvas that rows[which[n]] stands for (:class:`BitCanvases`).

    rows uint32 [K, S, words], which int64 [N], orientations uint8 [N].
    """
    n_images, _, height, width = out.shape
    for n in range(n_images):
        top, left, h, w = boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3]
        y_first = shrinks_y_first(h, w, height, width)
        crop = unpacked(rows[which[n]], orientations[n], top, left, h, w, not y_first)
        resized(crop, y_first, h, w, interpolations[n], flips[n], out[n, 0])


@kernel
def look_up(images, lut, same, out):
    """Set out[n, c] to lut[c][images[n, c]], images uint8 [N, 1 or 3, H, W], lut [3, 256], out [N, 3, H, W].

    The entries are copied as bit patterns in integers, so one compiled kernel serves all dtypes of the same size.
    ``same``: whether the three tables of a grey image are equal, so that it is looked up once.
    """
    n_images, channels, height, _ = images.shape
    for n in range(n_images):
        for y in range(height):
            for c in range(3):
                source, target, table = images[n, min(c, channels - 1), y], out[n, c, y], lut[c]
                if same and c > 0:
                    target[:] = out[n, 0, y]
                else:
                    for x in range(target.shape[0]):
                        target[x] = table[source[x]]


def resampler(canvases, boxes, flips, interpolations):
    """Return a function of start, stop and out that resamples these images into out; the arguments are checked."""
    arrays = [tensor.numpy() for tensor in (boxes, flips, interpolations)]
    if isinstance(canvases, BitCanvases):
        rows = canvases.rows.numpy().view(np.uint32)
        arrays = [canvases.which.numpy(), canvases.orientations.numpy(), *arrays]
        return lambda start, stop, out: resample_bits(rows, *(array[start:stop] for array in arrays), out)
    arrays = [canvases.numpy(), *arrays]
    return lambda start, stop, out: resample(*(array[start:stop] for array in arrays), out)


def crop_resize(canvases, boxes, flips, interpolations, size):
    """Do ``gpurender.kernels.resized_crop.crop_resize`` on the CPU; the arguments are checked."""
    resample_range = resampler(canvases, boxes, flips, interpolations)
    out = host_memory.empty((*canvases.shape[:2], *size), np.uint8)
    parallel_ranges(len(out), lambda start, stop: resample_range(start, stop, out[start:stop]))
    return torch.from_numpy(out)


def begin_crop_resize_normalise(*arguments):
    """Return :func:`crop_resize_normalise` of the arguments as a function: a CPU launches nothing."""
    return functools.partial(crop_resize_normalise, *arguments)


def crop_resize_normalise(canvases, boxes, flips, interpolations, lut, size, memory_format):
    """Do ``gpurender.kernels.resized_crop.crop_resize_normalise`` on the CPU; the arguments are checked."""
    resample_range = resampler(canvases, boxes, flips, interpolations)
    entries = np.repeat(lut.view(INTEGERS[lut.element_size()]).numpy(), 3 // len(lut), axis=0)
    n, channels = canvases.shape[:2]
    same = channels == 1 and bool((entries == entries[0]).all())
    out = host_memory.empty((n, 3, *size), entries.dtype)

    def work(start, stop):
        resized = np.empty((CHUNK, channels, *size), np.uint8)
        for a in range(start, stop, CHUNK):
            b = min(a + CHUNK, stop)
            resample_range(a, b, resized[: b - a])
            look_up(resized[: b - a], entries, same, out[a:b])

    parallel_ranges(n, work)
    return torch.from_numpy(out).view(lut.dtype).contiguous(memory_format=memory_format)
