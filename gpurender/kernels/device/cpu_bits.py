"""From bits to bytes in Numba: whole canvases, as ``texture.cuh`` writes them, and windows for ``resized_crop``."""

import numpy as np
from numba import njit, uint8, uint32, uint64

from gpurender.runtime.numba_jit import kernel

GREY = 127  # as released


@njit(forceinline=True)
def bytes_of(bits):
    """Return eight bytes, GREY where one of the eight bits is set, else 0; bits and result are uint64.

    The product copies the bits into every byte, byte k keeps its bit k, and adding 127 carries that into bit 7.
    """
    own = (bits * uint64(0x0101010101010101)) & uint64(0x8040201008040201)
    top = (own + uint64(0x7F7F7F7F7F7F7F7F)) >> uint64(7)
    return (top & uint64(0x0101010101010101)) * uint64(GREY)


@njit(inline="always")
def expand(words, eights):
    """Set eights (uint64 [4 words]) to the bytes of the bits of words (uint32)."""
    for j in range(words.shape[0]):
        for k in range(4):
            eights[4 * j + k] = bytes_of(uint64((words[j] >> uint32(8 * k)) & uint32(0xFF)))


@kernel
def write(lit, orientation, image):
    """Set image[y, x] to GREY where bit x of row y of lit is set, else 0, flipped as bits 0 and 1 of orientation say.

    The image is written from its first row to its last: backwards, the processor fetches no line ahead, and an image
    that is not in the cache takes 35 us in place of 15 (Zen 4).

    lit  # [size, words] uint32; image  # [size, size] uint8
    """
    size, words = image.shape[0], lit.shape[1]
    eights = np.empty(4 * words, np.uint64)  # a row; its length is a multiple of 8, which that of the image need not be
    row = eights.view(np.uint8)
    for y in range(size):
        expand(lit[size - 1 - y if orientation & 1 else y], eights)
        target = image[y]
        if orientation & 2:
            for x in range(size):
                target[x] = row[size - 1 - x]
        else:
            for x in range(size):
                target[x] = row[x]


def orient(plane, orientation):
    """Flip top-bottom (bit 0), left-right (bit 1), then transpose (bit 2), in place. plane  # [size, size] uint8."""
    turned = plane[:: -1 if orientation & 1 else 1, :: -1 if orientation & 2 else 1]
    plane[...] = turned.T if orientation & 4 else turned


@kernel
def unpack_rows(lit, orientation, top, left, h, w):
    """Return a window of the canvas of lit, flipped as bits 0 and 1 of orientation say: uint8 [h, w, padded]."""
    size, words = lit.shape
    window = np.empty((h, (w + 7) // 8 * 8), np.uint8)
    eights = np.empty(4 * words, np.uint64)
    row = eights.view(np.uint8)
    for i in range(h):
        y = size - 1 - (top + i) if orientation & 1 else top + i
        expand(lit[y], eights)
        if orientation & 2:
            for j in range(w):
                window[i, j] = row[uint64(size - 1 - left - j)]
        else:
            for j in range(w):
                window[i, j] = row[uint64(left + j)]
    return window


@kernel
def unpack_columns(lit, orientation, top, left, h, w):
    """Return the same window transposed: uint8 [w, h, padded].

    A column of words is copied to a row first, so that the loop over the rows of the canvas vectorises.
    """
    size = lit.shape[0]
    window = np.empty((w, (h + 7) // 8 * 8), np.uint8)
    column, copied = np.empty(h, np.uint32), -1
    for j in range(w):
        x = size - 1 - (left + j) if orientation & 2 else left + j
        if x >> 5 != copied:
            copied = x >> 5
            for i in range(h):
                column[i] = lit[size - 1 - (top + i) if orientation & 1 else top + i, copied]
        shift = uint32(x & 31)
        for i in range(h):
            window[j, i] = uint8(((column[i] >> shift) & uint32(1)) * uint32(GREY))
    return window


@kernel
def unpacked(lit, orientation, top, left, h, w, turned):
    """Return a window of the oriented canvas of lit, uint8 [h, w, padded], or transposed if ``turned``, [w, h, padded].

    lit  # [size, words] uint32
    """
    if orientation & 4:  # the canvas is a transposed one, whose window has rows for columns
        top, left, h, w, turned = left, top, w, h, not turned
    if turned:
        return unpack_columns(lit, orientation, top, left, h, w)
    return unpack_rows(lit, orientation, top, left, h, w)
