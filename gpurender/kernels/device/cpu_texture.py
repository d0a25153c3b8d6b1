"""From a bitmap of points to a grey image, in Numba: the reference of ``texture.cuh``.

Every point becomes a 3 x 3 patch, the patches are masked at random, the bits become bytes, and the image is oriented.
"""

import numpy as np
from numba import uint32

from gpurender.kernels.philox.cpu import philox4x32
from gpurender.numerics.streams import Stream
from gpurender.runtime.numba_jit import kernel

GREY = 127  # as released

MASK = np.uint32(Stream.MASK)
MASK_EXCESS = np.uint32(Stream.MASK_EXCESS)


@kernel
def widen(cover, wide):
    """Set wide to the OR of cover moved by one, two and three columns: the columns of the 3 x 3 patches, which are
    pasted at (x + 1, y + 1) as released.
    """
    for y in range(cover.shape[0]):
        carry = uint32(0)
        for j in range(cover.shape[1]):
            word = cover[y, j]
            wide[y, j] = (
                (word << uint32(1)) | (word << uint32(2)) | (word << uint32(3))
                | (carry >> uint32(31)) | (carry >> uint32(30)) | (carry >> uint32(29))
            )  # fmt: skip
            carry = word


@kernel
def mask_row(y, size, survival, key, number, mask):
    """Draw a row of mask bits, each lit with probability 256/511: a fair bit OR a bit lit with probability 1/511.

    1 - (1 - 1/2)(1 - 1/511) = 256/511. Bits of the second kind are rare, so they are drawn by the gaps between
    them: survival[g] = 2^32 (510/511)^g is the probability, in units of 2^-32, that a gap is at least g, and the gap of
    a word u is the largest g with u < survival[g]. mask  # [words] uint32
    """
    calls = (mask.shape[0] + 3) // 4
    for q in range(calls):
        four = philox4x32(uint32(y * calls + q), MASK, number[0], number[1], key[0], key[1])
        for k in range(min(4, mask.shape[0] - 4 * q)):
            mask[4 * q + k] = four[k]
    x, drawn = -1, 0
    while True:
        if drawn % 4 == 0:
            block = uint32((y << 16) | (drawn // 4))
            four = philox4x32(block, MASK_EXCESS, number[0], number[1], key[0], key[1])
        low, high = 0, size  # the gap lies in [low, high]
        while low < high:
            middle = (low + high + 1) // 2
            if four[drawn % 4] < survival[middle]:
                low = middle
            else:
                high = middle - 1
        x += low + 1
        if x >= size:
            return
        mask[x >> 5] |= uint32(uint32(1) << uint32(x & 31))
        drawn += 1


@kernel
def write_row(words, row):
    """Set row[x] to GREY where bit x of the words is set, else 0; row  # [size] uint8."""
    size = row.shape[0]
    for j in range(size // 32):
        word = words[j]
        for k in range(32):
            row[32 * j + k] = np.uint8(GREY) * np.uint8((word >> uint32(k)) & uint32(1))
    for x in range(size // 32 * 32, size):
        row[x] = np.uint8(GREY) * np.uint8((words[x >> 5] >> uint32(x & 31)) & uint32(1))


@kernel
def paint(cover, patch, mask, survival, key, number, image):
    """Render the grey image of a bitmap; cover  # [size, words] uint32, image  # [size, size] uint8, row = y."""
    size, words = cover.shape
    if not patch:
        for y in range(size):
            write_row(cover[y], image[y])
        return
    wide = np.zeros((size + 3, words), np.uint32)  # three empty rows above the first
    widen(cover, wide[3:])
    lit, bits = np.empty(words, np.uint32), np.full(words, uint32(0xFFFFFFFF))
    for y in range(size):
        if mask:
            mask_row(y, size, survival, key, number, bits)
        for j in range(words):
            lit[j] = (wide[y, j] | wide[y + 1, j] | wide[y + 2, j]) & bits[j]
        write_row(lit, image[y])


def orient(plane, orientation):
    """Flip top-bottom (bit 0), left-right (bit 1), then transpose (bit 2), in place. plane  # [size, size] uint8."""
    turned = plane[:: -1 if orientation & 1 else 1, :: -1 if orientation & 2 else 1]
    plane[...] = turned.T if orientation & 4 else turned
