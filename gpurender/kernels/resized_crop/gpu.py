"""Crop, resize, flip and normalise on a GPU: grid, memory and arguments of the kernels in ``gpu.cu``."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from gpurender.kernels.chaos_game import render_bitmaps
from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.kernels.resized_crop import gpu_room
from gpurender.runtime import cuda

THREADS = 256
INT32 = 2**31 - 1


class Kernel(NamedTuple):
    """A kernel for canvases: its name, the memory of a block, bytes of it that are shared, and its first arguments."""

    name: str
    room: gpu_room.Room
    shared: int
    canvases: tuple[torch.Tensor | np.generic, ...]


def crop_resize(
    canvases: torch.Tensor | BitCanvases,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    size: tuple[int, int],
) -> torch.Tensor:
    """Do ``gpurender.kernels.resized_crop.crop_resize`` on a GPU; the arguments are checked."""
    out = torch.empty((*canvases.shape[:2], *size), dtype=torch.uint8, device=canvases.device)
    if out.numel():
        launch(kernel_for(canvases, size), int32_boxes(boxes), flips, interpolations, None, out, copies=1)
    return out


def begin_crop_resize_normalise(
    canvases: torch.Tensor | BitCanvases,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    lut: torch.Tensor,
    size: tuple[int, int],
    memory_format: torch.memory_format,
) -> Callable[[], torch.Tensor]:
    """Do ``gpurender.kernels.resized_crop.begin_crop_resize_normalise`` on a GPU; the arguments are checked.

    Crop, resize and look-up are one launch, which is the last.
    """
    boxes, kernel = int32_boxes(boxes), kernel_for(canvases, size)
    shape, copies = (len(canvases), 3, *size), 3 // canvases.shape[1]

    def last() -> torch.Tensor:
        out = torch.empty(shape, dtype=lut.dtype, device=lut.device, memory_format=memory_format)
        if out.numel():
            launch(kernel, boxes, flips, interpolations, lut, out, copies)
        return out

    return last


def int32_boxes(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes as int32, with numbers that are too large cut: the kernel moves any box into the canvas."""
    return boxes if boxes.dtype == torch.int32 else boxes.clamp(-INT32, INT32).to(torch.int32)


def kernel_for(canvases: torch.Tensor | BitCanvases, size: tuple[int, int]) -> Kernel:
    """Return the kernel for canvases uint8 [N, C, S, S'], contiguous, or of bits.

    If the shared memory of a block is too small for the sizes, the kernel gets device memory, and bits become bytes.
    """
    n, channels, rows, columns = canvases.shape
    room = gpu_room.shared_room(rows, columns, *size, cuda.limits(canvases.device))
    if isinstance(canvases, BitCanvases):
        if room is not None:
            bits = canvases.rows, canvases.which, canvases.orientations, np.int32(rows)
            return Kernel("resized_crop_bits", room, gpu_room.UNIT * room.units, bits)
        canvases = painted(canvases)
    given = canvases, np.int32(channels), np.int32(rows), np.int32(columns)
    if room is not None:
        return Kernel("resized_crop_bytes", room, gpu_room.UNIT * room.units, given)
    room = gpu_room.device_room(rows, columns, *size)
    memory = torch.empty(n * gpu_room.UNIT * room.units, dtype=torch.uint8, device=canvases.device)
    return Kernel("resized_crop_large", room, 0, (memory, *given))


def painted(canvases: BitCanvases) -> torch.Tensor:
    """Return the canvases as bytes, uint8 [N, 1, S, S]."""
    none = torch.zeros_like(canvases.which)
    rows, which, codes = canvases.rows, canvases.which, canvases.orientations
    return render_bitmaps(rows, which, none, codes, seed=0, patch=False, mask=False)


def launch(
    kernel: Kernel,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    lut: torch.Tensor | None,
    out: torch.Tensor,
    copies: int,
) -> None:
    """Write the crops into ``out``: resized, flipped and, if there is a table, looked up, ``copies`` of each channel.

    boxes int32 [N, 4], flips bool [N, 2], interpolations uint8 [N], contiguous; lut [1 or 3, 256] or ``None``, out
    [N, C copies, H, W] of the table's dtype or uint8, new, contiguous or channels last. Entries are copied unchanged.
    """
    height, width = out.shape[2:]
    table_stride = 0 if lut is None or len(lut) == 1 else 256
    image, channel, row, column = out.stride()
    flat = out.as_strided((out.numel(),), (1,))  # as it lies there, whatever the order of its axes
    cuda.launch(
        "resized_crop", kernel.name, device=out.device, blocks=len(out), threads=THREADS, shared=kernel.shared,
        arguments=(
            *kernel.canvases, boxes, flips, interpolations, np.int32(height), np.int32(width),
            *map(np.int32, kernel.room), lut, np.int32(table_stride), np.int32(out.element_size()), np.int32(copies),
            flat, np.int64(image), np.int64(channel), np.int32(row), np.int32(column),
        ),
    )  # fmt: skip
