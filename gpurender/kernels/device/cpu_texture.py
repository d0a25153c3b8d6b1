"""From a bitmap of points to the bitmap of an image, in Numba: the reference of ``texture.cuh``.

Every point becomes a 3 x 3 patch, and the patches are masked at random. ``cpu_bits.py`` turns bits into bytes.
"""

from functools import cache

import numpy as np
import torch
from numba import int32, njit, uint32, uint64

from gpurender.kernels.device.tables import survival_table
from gpurender.kernels.philox.cpu import philox4x32
from gpurender.numerics.streams import Stream
from gpurender.runtime.numba_jit import kernel

GUIDE_BITS = 10  # 4 KB beside the 2 KB of a row of 512 pixels
GUIDES = 1 << GUIDE_BITS
NEAR = 720  # pixels: the largest gap that two sums reach from every guide, see near_gap

MASK = np.uint32(Stream.MASK)
MASK_EXCESS = np.uint32(Stream.MASK_EXCESS)


@njit(forceinline=True)
def moved(word, before):
    """Return the OR of a word of a row moved by one, two and three columns; ``before``: the word on its left."""
    return (
        (word << uint32(1)) | (word << uint32(2)) | (word << uint32(3))
        | (before >> uint32(31)) | (before >> uint32(30)) | (before >> uint32(29))
    )  # fmt: skip


@kernel
def widen(cover, wide):
    """Set wide to the OR of cover moved by one, two and three columns: the columns of the 3 x 3 patches, which are
    pasted at (x + 1, y + 1) as released. Both are C-contiguous: Numba would flatten a copy of other arrays.

    One vector loop over all words, of which the first of each row is then mended: 2 us, row by row 8 us (Zen 4).
    """
    words, widened = cover.ravel(), wide.ravel()
    for i in range(1, words.shape[0]):
        widened[uint64(i)] = moved(words[uint64(i)], words[uint64(i - 1)])
    for y in range(cover.shape[0]):
        wide[y, 0] = moved(cover[y, 0], uint32(0))


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
def near_gap(word, gaps):
    """Return the gap of a word if it is at most :data:`NEAR`, else a lower bound of it.

    Up to there a guide is at most 2 too small. Two sums and no branch, so that a loop over words is a vector loop.
    """
    survival, guide = gaps
    gap = guide[word >> uint32(32 - GUIDE_BITS)]
    gap += int32(word < survival[uint32(gap) + uint32(1)])
    return gap + int32(word < survival[uint32(gap) + uint32(1)])


@njit(forceinline=True)
def gap_of(word, gaps):
    """Return the largest g with word < survival[g], or 0."""
    gap = near_gap(word, gaps)
    while word < gaps[0][gap + 1]:
        gap += 1
    return gap


@kernel
def draw_gaps(words, gaps, drawn):
    """Set drawn (int32 [n]) to the gap of every word; words  # [n] uint32."""
    if gaps[0].shape[0] - 2 > NEAR:
        for i in range(words.shape[0]):
            drawn[i] = gap_of(words[i], gaps)
    else:
        for place in range(words.shape[0]):
            drawn[uint64(place)] = near_gap(words[uint64(place)], gaps)


@kernel
def draw_fair(key, number, fair):
    """Set fair  # [4 n] uint32 to the words of n Philox blocks: one vector loop."""
    for block in range(fair.shape[0] // 4):
        i = uint64(4 * block)
        fair[i], fair[i + uint64(1)], fair[i + uint64(2)], fair[i + uint64(3)] = philox4x32(
            uint32(block), MASK, number[0], number[1], key[0], key[1]
        )


@kernel
def draw_mask(gaps, key, number, mask):
    """Draw mask bits, each lit with probability 256/511: a fair bit OR a bit lit with probability 1/511.

    1 - (1 - 1/2)(1 - 1/511) = 256/511. Bits of the second kind are rare, so they are drawn by the gaps between them
    (:func:`gap_tables`): 6 us of 15 for 512 x 512 pixels (Zen 4). mask  # [size, words] uint32, C-contiguous
    """
    size, words = mask.shape
    padded = (words + 3) // 4 * 4  # a row begins a block
    fair = mask if words == padded else np.empty((size, padded), np.uint32)
    draw_fair(key, number, fair.ravel())
    if words != padded:
        for y in range(size):
            for j in range(words):
                mask[y, j] = fair[y, j]
    rare = np.empty((4, size), np.uint32)
    for y in range(size):  # a loop over Philox calls alone is a vector loop
        rare[0, y], rare[1, y], rare[2, y], rare[3, y] = philox4x32(
            uint32(uint32(y) << uint32(16)), MASK_EXCESS, number[0], number[1], key[0], key[1]
        )
    between, flat = np.empty(4 * size, np.int32), mask.ravel()
    draw_gaps(rare.ravel(), gaps, between)
    for y in range(size):
        x, row = int32(-1), uint64(y)
        for k in range(4):  # without branches: a processor would guess every second one wrong
            x += between[uint64(size * k) + row] + int32(1)
            place = row * uint64(words) + uint64(min(x, int32(size - 1)) >> int32(5))
            flat[place] |= uint32(uint32(x < size) << uint32(x & 31))
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
    """Set lit to the patches of the points of cover, masked at random if ``mask``; both uint32 [size, words],
    C-contiguous.

    Patches are pasted at (x + 1, y + 1) .. (x + 3, y + 3), as released.
    """
    size, words = cover.shape
    wide = np.empty((size, words), np.uint32)
    widen(cover, wide)
    if mask:
        draw_mask(gaps, key, number, lit)
    else:
        lit[:] = uint32(0xFFFFFFFF)
    stack(wide.ravel(), words, lit.ravel())


@kernel
def stack(wide, words, lit):
    """Keep those bits of lit that are set in one of the three rows above; flat arrays of rows of ``words`` uint32.

    All but the first three rows are one vector loop: 2 us, row by row 5 us (Zen 4).
    """
    one, two, three = uint64(words), uint64(2 * words), uint64(3 * words)
    for i in range(min(3 * words, lit.shape[0])):
        above = uint32(0)
        for there in range(i % words, i, words):
            above |= wide[there]
        lit[i] &= above
    for place in range(3 * words, lit.shape[0]):
        i = uint64(place)
        lit[i] &= wide[i - one] | wide[i - two] | wide[i - three]
