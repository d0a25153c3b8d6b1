"""Memory of a block of the kernels in ``gpu.cu``, for any sizes of canvases and images."""

import math
from typing import NamedTuple

from gpurender.runtime import cuda

LINES = 8  # lines per thread in the first sum
BATCH = 16  # lines that are loaded at a time, if memory allows
STRIP = 64  # outputs along the second axis whose taps are in memory at a time
BLOCKS = (4, 3, 2, 1)  # blocks per multiprocessor, the most first: 1,024 threads of at most 64 registers
STATIC_SHARED = 256  # bytes: the plan
RESERVED = 1 << 10  # bytes that a multiprocessor takes for each block
UNIT = 16  # bytes: the taps of a word, or a quad


class Room(NamedTuple):
    """Memory of a block, as ``gpu.cu`` divides it, in units of 16 bytes: tables of ``table`` taps, and of ``words``
    taps for each of ``strip`` outputs; then ``source`` and ``between`` quads of four pixels of four lines.
    """

    table: int
    words: int
    strip: int
    source: int
    between: int

    @property
    def units(self) -> int:
        """Units of a block."""
        return self.table + self.words * self.strip + self.source + self.between + 2 * self.words


class Needs(NamedTuple):
    """What all boxes of a canvas need: taps of an axis, words of four taps per output, outputs of a strip, quads of a
    line of the window, and quads of a line between the sums.
    """

    table: int
    words: int
    strip: int
    stride: int
    between: int

    def room(self, batch: int, column: int) -> Room:
        """Return the room for batches of so many lines, and for ``column`` quads of lines between the sums."""
        return Room(self.table, self.words, self.strip, batch // 4 * self.stride, column * self.between)


def needs(rows: int, columns: int, height: int, width: int) -> Needs:
    """Return what crops of canvases of ``rows`` x ``columns`` pixels to ``height`` x ``width`` need.

    The boxes are on the device and the host does not read them, so it is enough for every box.
    """
    along_y, along_x = words_of(rows, height), words_of(columns, width)
    stride = (max(rows, columns) + 31) // 32 * 8 + 1
    longest = max(height, width)
    between = -(-longest // LINES) * LINES // 4
    return Needs(max(along_y * height, along_x * width), max(along_y, along_x), min(STRIP, longest), stride, between)


def shared_room(rows: int, columns: int, height: int, width: int, limits: cuda.Limits) -> Room | None:
    """Return the shared memory of a block, or ``None`` if a block cannot have enough.

    The more blocks share a multiprocessor the better, unless a strip has fewer than four times as many lines as an
    output has taps: then too many lines would be summed twice.
    """
    all_boxes = needs(rows, columns, height, width)
    words = all_boxes.words
    for blocks in BLOCKS:
        share = min(limits.shared_a_multiprocessor // blocks - RESERVED, limits.shared_a_block) - STATIC_SHARED
        for batch in (BATCH, LINES):
            rest = share // UNIT - all_boxes.room(batch, 0).units
            column = rest // all_boxes.between
            if column > (4 * words if blocks > 1 else words + 1):
                return all_boxes.room(batch, column)
    return None


def device_room(rows: int, columns: int, height: int, width: int) -> Room:
    """Return the memory of a block whose shared memory is too small: a strip of twice the lines that an output has.

    Eight lines and 32 outputs at a time keep the numbers of the threads' items in the range of ``Divisor``, for the
    largest images, too.
    """
    all_boxes = needs(rows, columns, height, width)
    few = all_boxes._replace(strip=min(all_boxes.strip, 32))
    return few.room(LINES, 2 * few.words + 2)


def words_of(n_in: int, n_out: int) -> int:
    """Return the maximum number of words that the taps of an output lie in, from up to n_in pixels to n_out: those of
    the bicubic filter, support 2.
    """
    return (2 * math.ceil(2.0 * max(n_in / n_out, 1.0)) + 1 + 6) // 4
