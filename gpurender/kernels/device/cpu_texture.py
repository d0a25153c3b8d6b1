"""From a bitmap of points to the bitmap of an image, in Numba: the reference of ``texture.cuh``.

Every point becomes a 3 x 3 patch, and the patches are masked at random. ``cpu_bits.py`` turns bits into bytes.
"""

from functools import cache

import numpy as np
import torch
from numba import int32, njit, uint32

from gpurender.kernels.device.tables import survival_table
from gpurender.kernels.philox.cpu import philox4x32
from gpurender.numerics.streams import Stream
from gpurender.runtime.numba_jit import kernel

GUIDE_BITS = 10  # 4 KB beside the 2 KB of a row of 512 pixels
GUIDES = 1 << GUIDE_BITS

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


@cache
def gap_tables(size):
    """Return the tables by which the gaps between rare bits are drawn: survival uint32 [size + 2], guide int32 [1024].

    survival[g] = 2^32 (510/511)^g is the probability, in units of 2^-32, that a gap is at least g; a row has no gap
    above ``size``. guide[u >> 22] is the gap of the largest word with these upper ten bits, so the least of all these.
    """
    survival = np.append(survival_table(size, torch.device("cpu")).numpy().view(np.uint32), np.uint32(0))
    largest = (np.arange(GUIDES, dtype=np.int64) + 1) * (2**32 // GUIDES) - 1
    guide = np.searchsorted(-survival[1:-1].astype(np.int64), -largest)  # how many survival[g] are above
    return survival, guide.astype(np.int32)


@njit(forceinline=True)
def gap_of(word, gaps):
    """Return the largest g with word < survival[g], or 0.

    A guide is at most 2 too small up to gap 500, so two sums without a branch do, and the loop is for long rows.
    """
    survival, guide = gaps
    gap = guide[word >> uint32(32 - GUIDE_BITS)]
    gap += int32(word < survival[gap + 1])
    gap += int32(word < survival[gap + 1])
    while word < survival[gap + 1]:
        gap += 1
    return gap


@kernel
def draw_mask(gaps, key, number, mask):
    """Draw mask bits, each lit with probability 256/511: a fair bit OR a bit lit with probability 1/511.

    1 - (1 - 1/2)(1 - 1/511) = 256/511. Bits of the second kind are rare, so they are drawn by the gaps between them
    (:func:`gap_tables`). mask  # [size, words] uint32
    """
    size, words = mask.shape
    calls = (words + 3) // 4
    fair, rare = np.empty((4, size * calls), np.uint32), np.empty((4, size), np.uint32)
    for i in range(size * calls):  # loops over Philox calls alone vectorise
        fair[0, i], fair[1, i], fair[2, i], fair[3, i] = philox4x32(
            uint32(i), MASK, number[0], number[1], key[0], key[1]
        )
    for y in range(size):
        rare[0, y], rare[1, y], rare[2, y], rare[3, y] = philox4x32(
            uint32(uint32(y) << uint32(16)), MASK_EXCESS, number[0], number[1], key[0], key[1]
        )
    for y in range(size):
        for j in range(words):
            mask[y, j] = fair[j % 4, y * calls + j // 4]
        x = -1
        for k in range(4):  # without branches: a processor would guess every second one wrong
            x += gap_of(rare[k, y], gaps) + 1
            mask[y, min(x, size - 1) >> 5] |= uint32(uint32(x < size) << uint32(x & 31))
        if x < size:
            draw_rest(y, x, gaps, key, number, mask)


@kernel
def draw_rest(y, x, gaps, key, number, mask):
    """Draw the rare bits of row y behind column x, where its fourth is: one row of 512 pixels in 50 needs it."""
    size, block = mask.shape[0], 1
    while True:
        words = philox4x32(uint32((y << 16) | block), MASK_EXCESS, number[0], number[1], key[0], key[1])
        for word in words:
            x += gap_of(word, gaps) + 1
            if x >= size:
                return
            mask[y, x >> 5] |= uint32(uint32(1) << uint32(x & 31))
        block += 1


@kernel
def texture(cover, mask, gaps, key, number, lit):
    """Set lit to the patches of the points of cover, masked at random if ``mask``; both uint32 [size, words].

    Patches are pasted at (x + 1, y + 1) .. (x + 3, y + 3), as released.
    """
    size, words = cover.shape
    wide, bits = np.empty((size, words), np.uint32), np.empty((size, words), np.uint32)
    widen(cover, wide)
    if mask:
        draw_mask(gaps, key, number, bits)
    else:
        bits[:] = uint32(0xFFFFFFFF)
    lit[:1] = 0
    for y in range(1, size):
        above, next_above = max(y - 2, 0), max(y - 3, 0)  # a row that counts twice changes nothing
        for j in range(words):
            lit[y, j] = (wide[y - 1, j] | wide[above, j] | wide[next_above, j]) & bits[y, j]
