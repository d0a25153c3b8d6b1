"""Points on a canvas of one bit per pixel, in Numba: the reference of ``bitmap.cuh``."""

import numpy as np
from numba import float32, int32, njit, uint32, uint64

from gpurender.runtime.numba_jit import kernel

POINTS_A_CHUNK = 256
PAD = 6  # pixels between the extreme points and the edge, as released
MIN_SPAN = np.float32(2.0**-60)  # a narrower frame is treated as one point, so that denormals affect no pixel


@njit(forceinline=True)
def pixels_per_unit(low, high, size):
    """Return the scale from an axis to size - 2 * PAD pixels, so that ``high`` lands exactly on the last pixel."""
    span = high - low
    if not span >= MIN_SPAN:
        return float32(0)
    room = float32(size - 2 * PAD)
    scale = room / span
    if span * scale < room:  # the quotient was rounded down: one unit in the last place up
        scale = scale * float32(1.0 + 2.0**-23)
    return scale


@njit(forceinline=True)
def pixel_of(x, y, left, top, scale_x, scale_y, stride):
    """Return stride * row + column of a point, both in [PAD, size - PAD], truncated as released."""
    return int32((y - top) * scale_y + float32(PAD)) * stride + int32((x - left) * scale_x + float32(PAD))


@kernel
def locate(xs, ys, frame, size, stride, pixels):
    """Set pixels[i] to the pixel of point i on a canvas of ``stride`` pixels a row."""
    scale_x = pixels_per_unit(frame[0], frame[1], size)
    scale_y = pixels_per_unit(frame[2], frame[3], size)
    for i in range(xs.shape[0]):
        pixels[i] = pixel_of(xs[i], ys[i], frame[0], frame[2], scale_x, scale_y, int32(stride))


@kernel
def splat(xs, ys, frame, size, cover):
    """Set the bit of every point's pixel. cover  # [size, words] uint32; bit k of word j is column 32 j + k.

    The pixels of a chunk are computed first, in a vector loop of 14 us per 100,000 points; their bits are set next, in
    40 us alone (Zen 4). A chunk is so short that the processor does both at once: 49 us with 256 points, 53 with 1,024.
    """
    flat, stride = cover.ravel(), int32(32 * cover.shape[1])
    scale_x = pixels_per_unit(frame[0], frame[1], size)
    scale_y = pixels_per_unit(frame[2], frame[3], size)
    left, top = frame[0], frame[2]
    pixels = np.empty(POINTS_A_CHUNK, np.uint32)
    for begin in range(0, xs.shape[0], POINTS_A_CHUNK):
        first, count = uint64(begin), uint64(min(POINTS_A_CHUNK, xs.shape[0] - begin))
        for i in range(count):  # unsigned: a signed index may count from the end, which costs half as much again
            x, y = xs[first + uint64(i)], ys[first + uint64(i)]
            pixels[uint64(i)] = uint32(pixel_of(x, y, left, top, scale_x, scale_y, stride))
        for i in range(count):
            pixel = pixels[uint64(i)]
            flat[pixel >> uint32(5)] |= uint32(uint32(1) << (pixel & uint32(31)))


@kernel
def count_bits(cover):
    """Count the bits set in a bitmap of uint32 words: sums of pairs, of fours, of bytes, side by side in a word."""
    total = 0
    for word in cover.ravel():
        pairs = uint32(word - ((word >> uint32(1)) & uint32(0x55555555)))
        fours = uint32((pairs & uint32(0x33333333)) + ((pairs >> uint32(2)) & uint32(0x33333333)))
        bytes_ = uint32((fours + (fours >> uint32(4))) & uint32(0x0F0F0F0F))
        total += uint32(bytes_ * uint32(0x01010101)) >> uint32(24)
    return total
