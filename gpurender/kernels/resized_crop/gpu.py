# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Crop, resize, flip and normalise in Triton, with the bytes of ``cpu.py``, which has the formula. Canvases of one bit
per pixel take another way, the kernel in ``gpu.cu``.

Three launches per batch. The first writes the taps of all samples along both axes: float64 work that is the same for
every row of an image, so it is done once. Then each axis is summed in a separate pass, with a uint8 image between the
passes as in Pillow; the second pass also looks the bytes up and writes the images. The order of the axes differs from
image to image, so either pass can sum along either axis and each program decides by its image's box.

The tables include the flips: the taps of pixel i are stored at the place that pixel i moves to.
"""

import functools
from collections.abc import Callable

import torch
import triton
import triton.language as tl

from gpurender.kernels.chaos_game import render_bitmaps
from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.kernels.resized_crop import gpu_bits, params
from gpurender.runtime import cuda
from gpurender.runtime.image_formats import INTEGERS

NEAREST = tl.constexpr(params.NEAREST)
BICUBIC = tl.constexpr(params.BICUBIC)
BITS = tl.constexpr(params.BITS)
ONE = tl.constexpr(1 << params.BITS)
HALF = tl.constexpr(1 << (params.BITS - 1))
GROUP = tl.constexpr(4)  # taps whose loads are in flight together, in the common order of axes: x first, then y

PIXELS = 64  # pixels per program of two warps that computes their taps: one per thread, few threads idle for 224
# Side of a pass's tile, for four warps. A pass consists mainly of loads. Along x, first, a warp has one row of 32
# pixels, whose taps lie within one or two cache lines, and each thread has the same column in eight rows, so one load
# of a weight serves eight pixels. Along y, second, a thread has eight neighbours of a row, whose bytes are one load.
# And 32 divides the usual sizes of images (192, 224, 256, 384).
#
# Triton chooses how threads share a tile, by what it knows of the addresses. Three things lead to this layout: the
# pixels along x are a flat list (with two axes without neighbours, Triton 3.6 would give a warp the first axis), the
# tile is written as a flat list, and the first pass writes with a stride that Triton does not know to be 1 (otherwise a
# thread would get eight neighbours, to store them at once, and a warp would load from eight rows).
TILE = 32


@triton.jit
def box_of(boxes, n, rows, columns):
    """Return box n as int32 (top, left, height, width), fitted into an image of rows x columns: no load leaves it."""
    h = tl.minimum(tl.maximum(tl.load(boxes + 4 * n + 2), 1), rows)
    w = tl.minimum(tl.maximum(tl.load(boxes + 4 * n + 3), 1), columns)
    top = tl.minimum(tl.maximum(tl.load(boxes + 4 * n), 0), rows - h)
    left = tl.minimum(tl.maximum(tl.load(boxes + 4 * n + 1), 0), columns - w)
    return top.to(tl.int32), left.to(tl.int32), h.to(tl.int32), w.to(tl.int32)


@triton.jit
def filtered(x, bicubic):
    """Return the bicubic (a = -1/2) or the bilinear filter at x, float64."""
    x = tl.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    cubic = tl.where(x < 1.0, near, tl.where(x < 2.0, far, 0.0))
    return tl.where(bicubic, cubic, tl.maximum(1.0 - x, 0.0))


@triton.jit
def nearest_taps(i, n_in, n_out, firsts, counts, weights):
    """Write one tap of weight 1, at coordinates summed step by step as in Pillow: a product would round differently."""
    step = n_in.to(tl.float64) / n_out.to(tl.float64)
    position = tl.where(i >= 0, 0.5 * step, 0.0)
    for k in range(tl.max(tl.minimum(i, n_out - 1), 0)):
        position = tl.where(i > k, position + step, position)
    first = tl.minimum(position.to(tl.int32), n_in - 1)
    used = i < n_out
    tl.store(firsts, first, mask=used)
    tl.store(counts, tl.full(i.shape, 1, tl.int32), mask=used)
    tl.store(weights, tl.full(i.shape, ONE, tl.int32), mask=used)


@triton.jit
def filter_taps(i, n_in, n_out, bicubic, firsts, counts, weights, length):
    """Write the first pixel, the number of pixels and their weights, for the filters with more than one tap."""
    scale = n_in.to(tl.float64) / n_out.to(tl.float64)
    stretch = tl.maximum(scale, 1.0)
    shrink = 1.0 / stretch
    radius = tl.where(bicubic, 2.0 * stretch, stretch)
    centre = (i.to(tl.float64) + 0.5) * scale
    first = tl.maximum((centre - radius + 0.5).to(tl.int32), 0)
    count = tl.minimum((centre + radius + 0.5).to(tl.int32), n_in) - first
    used = i < n_out
    count = tl.where(used, count, 0)
    most = tl.max(count, 0)
    total = tl.where(used, 0.0, 1.0).to(tl.float64)
    for k in range(most):
        weight = filtered(((k + first).to(tl.float64) - centre + 0.5) * shrink, bicubic)
        total = tl.where(k < count, total + weight, total)
    for k in range(most):
        weight = filtered(((k + first).to(tl.float64) - centre + 0.5) * shrink, bicubic)
        fixed = weight / total * ONE
        rounded = tl.where(fixed < 0.0, fixed - 0.5, fixed + 0.5).to(tl.int32)  # truncated towards zero
        tl.store(weights + k * length, rounded, mask=k < count)
    tl.store(firsts, first, mask=used)
    tl.store(counts, count, mask=used)


@triton.jit(do_not_specialize=["rows", "columns", "height", "width", "length", "taps"])
def tap_tables(
    boxes,
    flips,
    interpolations,
    bounds,
    weights,
    rows: tl.int32,
    columns: tl.int32,
    height: tl.int32,
    width: tl.int32,
    length: tl.int64,
    taps: tl.int64,
    SIZE: tl.constexpr,
):
    """Write a batch's bounds int32 [N, 2, 2, length] (axis y, x; first, count), weights int32 [N, 2, taps, length]."""
    n, axis = tl.program_id(0).to(tl.int64), tl.program_id(1)
    _, _, h, w = box_of(boxes, n, rows, columns)
    n_in, n_out = tl.where(axis == 0, h, w), tl.where(axis == 0, height, width)
    i = tl.program_id(2) * SIZE + tl.arange(0, SIZE)
    place = tl.where(tl.load(flips + 2 * n + 1 - axis) != 0, n_out - 1 - i, i)
    firsts = bounds + (4 * n + 2 * axis) * length + place
    weights += (2 * n + axis) * taps * length + place
    interpolation = tl.load(interpolations + n)
    if interpolation == NEAREST:
        nearest_taps(i, n_in, n_out, firsts, firsts + length, weights)
    else:
        filter_taps(i, n_in, n_out, interpolation >= BICUBIC, firsts, firsts + length, weights, length)


@triton.jit
def flat(row):
    """Return a row [x], repeated for every row of a square tile, as a flat list [y x]."""
    side: tl.constexpr = row.shape[0]
    return tl.reshape(tl.broadcast_to(row[None, :], (side, side)), (side * side,))


@triton.jit
def sum_along_x(image, stride, n_y, n_x, y, x, firsts, weights, length, COMMON: tl.constexpr):
    """Return sums of taps along the rows of an image, for the tile with first row y and columns x: [y x]."""
    first = tl.load(firsts + x, mask=x < n_x, other=0)  # [x]
    count = tl.load(firsts + length + x, mask=x < n_x, other=0)
    i = tl.arange(0, x.shape[0] * x.shape[0])
    row = tl.minimum(y + i // x.shape[0], n_y - 1).to(tl.int64) * stride  # below the image: its last row
    pixels = image + row + flat(first)
    weights += x
    total = tl.full(i.shape, HALF, tl.int32)
    unroll: tl.constexpr = GROUP if COMMON else 1
    for group in range(0, tl.max(count, 0), unroll):
        for j in tl.static_range(unroll):
            used = group + j < count
            weight = tl.load(weights, mask=used, other=0)
            pixel = tl.load(pixels + (group + j), mask=flat(used))  # any value where the weight is 0
            total += flat(weight) * pixel.to(tl.int32)
            weights += length
    return total


@triton.jit
def sum_along_y(image, stride, n_y, n_x, y, x, firsts, weights, length, COMMON: tl.constexpr):
    """Return sums of taps along the columns of an image, for the rows y and the columns x: [y x].

    COMMON: the memory to the right of the image may be read.
    """
    first = tl.load(firsts + y, mask=y < n_y, other=0)  # [y]
    count = tl.load(firsts + length + y, mask=y < n_y, other=0)
    weights += y
    total = tl.full((y.shape[0], x.shape[0]), HALF, tl.int32)
    unroll: tl.constexpr = GROUP if COMMON else 1
    for group in range(0, tl.max(count, 0), unroll):
        for j in tl.static_range(unroll):
            used = group + j < count
            weight = tl.load(weights, mask=used, other=0)
            row = (first + (group + j)).to(tl.int64) * stride  # [y]
            inside = used[:, None] if COMMON else used[:, None] & (x < n_x)[None, :]
            pixel = tl.load(image + row[:, None] + x[None, :], mask=inside)
            total += weight[:, None] * pixel.to(tl.int32)
            weights += length
    return tl.reshape(total, (y.shape[0] * x.shape[0],))


@triton.jit(do_not_specialize=["rows", "height", "length", "taps", "tiles", "channels", "one"])
def resample(
    source,
    result,
    boxes,
    bounds,
    weights,
    lut,
    rows: tl.int32,
    columns,
    height: tl.int32,
    width,
    length: tl.int64,
    taps: tl.int64,
    tiles: tl.int32,
    channels: tl.int32,
    area,
    image_stride,
    channel_stride,
    row_stride,
    column_stride,
    one,
    FIRST: tl.constexpr,
    LOOK_UP: tl.constexpr,
    COPIES: tl.constexpr,
    TABLES: tl.constexpr,
    TILE: tl.constexpr,
):
    """Run one pass over one tile of one channel, along the axis of this pass.

    First pass: from canvases uint8 [N, C, rows, columns] to scratch, whose images lie ``area`` bytes apart and have h
    rows of ``width`` or ``height`` rows of ``columns`` bytes. Second pass: from scratch to the result by its strides,
    as bytes or (LOOK_UP) as entries of lut [TABLES, 256], one channel of bytes for COPIES channels of the result.
    """
    program = tl.program_id(0)
    image, tile = (program // tiles).to(tl.int64), program % tiles
    n, channel = image // channels, image % channels
    top, left, h, w = box_of(boxes, n, rows, columns)
    y_first = (h > height) & (h - height > 2 * (w - width))
    n_y = tl.where((y_first == 0) & FIRST, h, height)
    n_x = tl.where(y_first & FIRST, w, width)

    across = tl.cdiv(n_x, TILE)
    top_row, left_column = tile // across * TILE, tile % across * TILE
    if top_row < n_y:
        if FIRST:
            pixels = source + (image * rows + top) * columns + left
            target, row_stride = result + image * area, tl.where(y_first, columns, width)
        else:
            pixels, target = source + image * area, result + n * image_stride + channel * channel_stride
        x = left_column + tl.arange(0, TILE)
        if y_first == FIRST:
            y = top_row + tl.arange(0, TILE)
            firsts, shares = bounds + 4 * n * length, weights + 2 * n * taps * length
            total = sum_along_y(pixels, columns if FIRST else width, n_y, n_x, y, x, firsts, shares, length, not FIRST)
        else:
            firsts, shares = bounds + (4 * n + 2) * length, weights + (2 * n + 1) * taps * length
            total = sum_along_x(pixels, columns, n_y, n_x, top_row, x, firsts, shares, length, FIRST)
        byte = tl.minimum(tl.maximum(total >> BITS, 0), 255)  # [TILE TILE]

        i = tl.arange(0, TILE * TILE)
        row, column = top_row + i // TILE, left_column + i % TILE
        used = (row < n_y) & (column < n_x)
        place = target + row.to(tl.int64) * row_stride + column * (one if FIRST else column_stride)
        value = byte.to(tl.uint8)
        for c in tl.static_range(COPIES):
            if LOOK_UP and (c == 0 or TABLES == 3):
                value = tl.load(lut + ((channel + c) * 256 if TABLES == 3 else 0) + byte)
            tl.store(place + c * channel_stride, value, mask=used)


def crop_resize(canvases, boxes, flips, interpolations, size: tuple[int, int]) -> torch.Tensor:
    """Do ``gpurender.kernels.resized_crop.crop_resize`` on a GPU; the arguments are checked."""
    out = torch.empty((*canvases.shape[:2], *size), dtype=torch.uint8, device=canvases.device)
    begin(canvases, boxes, flips, interpolations, size)(None, out)
    return out


def begin_crop_resize_normalise(
    canvases, boxes, flips, interpolations, lut: torch.Tensor, size: tuple[int, int], memory_format: torch.memory_format
) -> Callable[[], torch.Tensor]:
    """Do ``gpurender.kernels.resized_crop.begin_crop_resize_normalise`` on a GPU; the arguments are checked.

    The entries of the table are copied as integers, unchanged.
    """
    second_pass = begin(canvases, boxes, flips, interpolations, size)
    shape, integer = (len(canvases), 3, *size), INTEGERS[lut.element_size()]

    def last() -> torch.Tensor:
        out = torch.empty(shape, dtype=lut.dtype, device=lut.device, memory_format=memory_format)
        second_pass(lut.view(integer), out.view(integer))
        return out

    return last


def begin(
    canvases: torch.Tensor | BitCanvases,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    size: tuple[int, int],
) -> Callable[[torch.Tensor | None, torch.Tensor], None]:
    """Compute the taps and sum along the first axis of each image; return the second pass.

    canvases uint8 [N, C, S, S'], boxes int32 or int64 [N, 4], flips bool [N, 2], interpolations uint8 [N], contiguous.
    The second pass writes the crops, resized, flipped and, if there is a table, looked up: lut integers [1 or 3, 256]
    or ``None``, out [N, C or 3, H, W] of the table's dtype or uint8, with any strides. For BitCanvases it is the whole
    work, one launch, if a block's shared memory is large enough.
    """
    (n, channels, rows, columns), (height, width) = canvases.shape, size
    if n * channels == 0:
        return lambda _lut, _out: None
    if isinstance(canvases, BitCanvases):
        if room := gpu_bits.room_for(rows, height, width, cuda.limits(canvases.device)):
            return functools.partial(gpu_bits.launch, canvases, boxes, flips, interpolations, room)
        canvases = painted(canvases)
    # The boxes are on the device and the host does not read them, so buffers fit the largest box: the whole canvas.
    length = max(height, width)
    taps = max(gpu_bits.most_taps(rows, height), gpu_bits.most_taps(columns, width))
    area = rows * width if rows <= height else max(rows * width, height * columns)
    area = -(-area // 16) * 16  # scratch images stay aligned, and so do their rows if the width is aligned
    bounds = torch.empty((n, 2, 2, length), dtype=torch.int32, device=canvases.device)
    weights = torch.empty((n, 2, taps, length), dtype=torch.int32, device=canvases.device)
    # TILE more bytes, because the last tile reads past the end
    scratch = torch.empty(n * channels * area + TILE, dtype=torch.uint8, device=canvases.device)
    sizes = (rows, columns, height, width, length, taps)
    first, second = max(tiles(rows, width), tiles(height, columns)), tiles(height, width)
    with torch.cuda.device_of(canvases):
        tap_tables[(n, 2, triton.cdiv(length, PIXELS))](
            boxes, flips.view(torch.uint8), interpolations, bounds, weights, *sizes, PIXELS,
            num_warps=2, enable_fp_fusion=False,
        )  # fmt: skip
        resample[(n * channels * first,)](
            canvases, scratch, boxes, bounds, weights, None, *sizes, first, channels, area, 0, 0, 0, 1, 1,
            True, False, 1, 1, TILE, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip

    def second_pass(lut: torch.Tensor | None, out: torch.Tensor) -> None:
        copies = out.shape[1] // channels
        with torch.cuda.device_of(out):
            resample[(n * channels * second,)](
                scratch, out, boxes, bounds, weights, lut, *sizes, second, channels, area, *out.stride(), 1,
                False, lut is not None, copies, 1 if lut is None else len(lut), TILE,
                num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip

    return second_pass


def painted(canvases: BitCanvases) -> torch.Tensor:
    """Return the canvases as bytes, uint8 [N, 1, S, S]: for sizes whose crops from bits need too much shared memory."""
    none = torch.zeros_like(canvases.which)
    rows, which, codes = canvases.rows, canvases.which, canvases.orientations
    return render_bitmaps(rows, which, none, codes, seed=0, patch=False, mask=False)


def tiles(height: int, width: int) -> int:
    """Return the number of tiles of an image."""
    return triton.cdiv(height, TILE) * triton.cdiv(width, TILE)
