"""Points on a canvas of one bit per pixel, in Numba: the reference of ``bitmap.cuh``."""

import numpy as np
from numba import float32, int32, njit, uint32

from gpurender.runtime.numba_jit import kernel

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


@kernel
def locate(xs, ys, frame, size, stride, pixels):
    """Set pixels[i] = stride * row + column of point i, both in [PAD, size - PAD], truncated as released."""
    scale_x = pixels_per_unit(frame[0], frame[1], size)
    scale_y = pixels_per_unit(frame[2], frame[3], size)
    for i in range(xs.shape[0]):
        column = int32((xs[i] - frame[0]) * scale_x + float32(PAD))
        row = int32((ys[i] - frame[2]) * scale_y + float32(PAD))
        pixels[i] = row * stride + column


@kernel
def splat(xs, ys, frame, size, cover):
    """Set the bit of every point's pixel. cover  # [size, words] uint32; bit k of word j is column 32 j + k."""
    flat = cover.ravel()
    stride = 32 * cover.shape[1]
    pixels = np.empty(1024, np.int32)  # a chunk that stays in the L1 cache: pixels first, then scattered writes
    for first in range(0, xs.shape[0], 1024):
        last = min(first + 1024, xs.shape[0])
        locate(xs[first:last], ys[first:last], frame, size, stride, pixels)
        for i in range(last - first):
            pixel = uint32(pixels[i])  # a signed index may count from the end, which costs half as much again
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
