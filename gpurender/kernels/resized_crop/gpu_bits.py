"""Crops of one-bit canvases on a GPU: grid, shared memory and arguments of the kernel in ``gpu.cu``."""

import math
from typing import NamedTuple

import numpy as np
import torch

from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.runtime import cuda

THREADS = 256
LINES = 8  # lines per thread in the first sum
BATCH = 16  # lines that are unpacked at a time, if memory allows
STRIP = 64  # outputs along the second axis whose taps are in shared memory at a time
BLOCKS = (4, 3, 2, 1)  # blocks per multiprocessor, the most first: 1,024 threads of at most 64 registers
STATIC_SHARED = 256  # bytes: the plan
RESERVED = 1 << 10  # bytes that a multiprocessor takes for each block
UNIT = 16  # bytes: the taps of a word, or a quad
INT32 = 2**31 - 1


class Room(NamedTuple):
    """Shared memory of a block, as ``gpu.cu`` divides it, in units of 16 bytes: tables of ``table`` taps, and of
    ``words`` taps for each of ``strip`` outputs; then ``source`` and ``between`` quads of four pixels of four lines.
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


def room_for(size: int, height: int, width: int, limits: cuda.Limits) -> Room | None:
    """Return the shared memory for crops of ``size`` x ``size`` pixels, or ``None`` if a block cannot have enough.

    The boxes are on the device and the host does not read them, so the memory fits every box. The more blocks share a
    multiprocessor the better, unless a strip has fewer than four times as many lines as an output has taps: then too
    many lines would be summed twice.
    """
    along_y, along_x = ((most_taps(size, side) + 6) // 4 for side in (height, width))  # words of four taps
    table, words = max(along_y * height, along_x * width), max(along_y, along_x)
    longest = -(-max(height, width) // LINES) * LINES
    for blocks in BLOCKS:
        share = min(limits.shared_a_multiprocessor // blocks - RESERVED, limits.shared_a_block) - STATIC_SHARED
        most = share // UNIT
        for batch in (BATCH, LINES):
            without = Room(table, words, min(STRIP, longest), batch // 4 * ((size + 31) // 32 * 8 + 1), 0)
            column = (most - without.units) // (longest // 4)  # words of a line between the sums
            if column > (4 * words if blocks > 1 else words + 1):
                return without._replace(between=column * (longest // 4))
    return None


def most_taps(n_in: int, n_out: int) -> int:
    """Return the maximum number of taps per pixel from up to n_in pixels to n_out: the bicubic filter's, support 2."""
    return 2 * math.ceil(2.0 * max(n_in / n_out, 1.0)) + 1


def launch(
    canvases: BitCanvases,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    room: Room,
    lut: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """Write the crops into ``out``: resized, flipped and, if there is a table, looked up.

    Arguments as of :func:`gpurender.kernels.resized_crop.gpu.begin` and its second pass; ``out`` is uint8
    ``[N, 1, H, W]`` without a table.
    """
    size, (height, width) = canvases.shape[-1], out.shape[2:]
    if boxes.dtype != torch.int32:
        boxes = boxes.clamp(-INT32, INT32).to(torch.int32)  # the kernel moves them into the canvas, as the others
    image_stride, *strides = out.stride()  # an image has less than 2^31 entries: each side is limited by shared memory
    table_stride = 0 if lut is None or len(lut) == 1 else 256
    memory = out.as_strided((out.numel(),), (1,))  # as it lies there, whatever the order of its axes
    cuda.launch(
        "resized_crop", "resized_crop_bits", device=out.device, blocks=len(out), threads=THREADS,
        shared=UNIT * room.units,
        arguments=(
            canvases.rows, canvases.which, canvases.orientations, boxes, flips, interpolations, np.int32(size),
            np.int32(height), np.int32(width), *map(np.int32, room), lut, np.int32(table_stride),
            np.int32(out.element_size()), memory, np.int64(image_stride), *map(np.int32, strides),
        ),
    )  # fmt: skip
