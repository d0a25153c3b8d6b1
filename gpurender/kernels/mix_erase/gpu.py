# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Mixing, look-up and erasing in Triton, with the values of ``cpu.py``, which has the formulas.

One launch per batch: a program has a run of pixels of one image, in all channels. It reads each byte and, if the image
is mixed, the partner's byte, and writes each entry once. Each program decides before its pixels which work to skip: an
image that is not mixed costs no second read, and a run of rows that no box meets costs no noise.

No input value is trusted: a mixed byte is 8 bits of a sum for any weight; a box or a patch is only compared with the
image's own pixels; and every word has a cell in the table.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.mix_erase import tables
from gpurender.kernels.mix_erase.params import Erasing, Mixing
from gpurender.kernels.philox.gpu import philox4x32
from gpurender.numerics.streams import Stream
from gpurender.runtime.image_formats import INTEGERS

ERASED = tl.constexpr(int(Stream.ERASED))
ROUND = tl.constexpr(2.0**23)
FRACTION = tl.constexpr(2.0**-16)
FIRST_CELL = tl.constexpr(127 * 128)  # the high 16 bits of 1.0 as a float32
FORMATS = {torch.float16: "half", torch.bfloat16: "brain", torch.float32: "single", torch.float64: "double"}
WARPS = 4
WIDTH = 16  # bytes that a thread writes at once: a program's run is sized for one write per thread and channel


@triton.jit
def inside(boxes, y, x):
    """Return whether the pixels (y, x) lie in the box at the address ``boxes``: top, left, height, width."""
    top, left = tl.load(boxes), tl.load(boxes + 1)
    h, w = tl.load(boxes + 2), tl.load(boxes + 3)
    return (y >= top) & (y - top < h) & (x >= left) & (x - left < w)


@triton.jit
def mixed(own, partner, weight, used):
    """Return bytes mixed with the bytes at the partner's address; the weight is float64, the arithmetic float32."""
    share, rest = weight.to(tl.float32), (1.0 - weight).to(tl.float32)
    other = tl.load(partner, mask=used, other=0)
    total = own.to(tl.float32) * share + other.to(tl.float32) * rest
    return ((total + ROUND).to(tl.int32, bitcast=True) & 0xFF).to(tl.uint8)


@triton.jit
def last_box(boxes, y, x, BOXES: tl.constexpr):
    """Return the number of the last box that covers each pixel, -1 if no box does."""
    last = tl.full(y.shape, -1, tl.int32)
    for k in tl.static_range(BOXES):
        last = tl.where(inside(boxes + 4 * k, y, x), k, last)
    return last


@triton.jit
def meets(boxes, first_row, last_row, BOXES: tl.constexpr):
    """Return whether any box meets the rows from ``first_row`` to ``last_row``."""
    met = first_row != first_row
    for k in tl.static_range(BOXES):
        top, h = tl.load(boxes + 4 * k), tl.load(boxes + 4 * k + 2)
        met = met | ((top <= last_row) & (first_row - top < h))
    return met


@triton.jit
def pixel_words(element, low, high, i, ALIGNED: tl.constexpr):
    """Return the words of the elements element + i, from which the pixels' noise is computed.

    ALIGNED: element is a multiple of 4, so four neighbours share a block of words; otherwise each draws its own block.
    """
    if ALIGNED:
        block = (element // 4).to(tl.uint32) + tl.arange(0, i.shape[0] // 4).to(tl.uint32)
    else:
        block = ((element + i) // 4).to(tl.uint32)
    none = tl.full(block.shape, 0, tl.uint32)
    w0, w1, w2, w3 = philox4x32(block, none + ERASED, none, none, low, high)
    if ALIGNED:
        word = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    else:
        place = (element + i) % 4
        word = tl.where(place < 2, tl.where(place == 0, w0, w1), tl.where(place == 2, w2, w3))
    return word


@triton.jit
def box_word(k, channel: tl.constexpr, low, high):
    """Return the word of box k and a channel, a scalar."""
    none = low ^ low
    return philox4x32(tl.cast(k, tl.uint32), none + ERASED, none + 1, none, low, high)[channel]


@triton.jit
def normal(word, table, used):
    """Return the standard normal variates of words, float32."""
    bits = ((word & 0x7FFFFFFF) + 1).to(tl.float32).to(tl.int32, bitcast=True)
    cell = (bits >> 16) - FIRST_CELL
    begin = tl.load(table + cell, mask=used, other=0.0)
    end = tl.load(table + cell + 1, mask=used, other=0.0)
    size = begin + (end - begin) * ((bits & 0xFFFF).to(tl.float32) * FRACTION)
    return tl.where(word > 0x7FFFFFFF, -size, size)


@triton.jit
def entries(value, FORMAT: tl.constexpr):
    """Return the bits of float32 values in a floating dtype, rounded to nearest, to even."""
    bits = value.to(tl.int32, bitcast=True)
    if FORMAT == "double":
        entry = value.to(tl.float64).to(tl.int64, bitcast=True)
    elif FORMAT == "half":
        entry = value.to(tl.float16).to(tl.int16, bitcast=True)
    elif FORMAT == "brain":
        entry = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).to(tl.int16)
    else:
        entry = bits
    return entry


@triton.jit(do_not_specialize=["tiles", "images_count", "width"])
def mix_erase_pixels(
    images,
    lut,
    weights,
    cut,
    patches,
    boxes,
    keys,
    table,
    out,
    images_count: tl.int64,
    tiles: tl.int64,
    width: tl.int32,
    area,
    image_stride,
    channel_stride,
    pixel_stride,
    CHANNELS: tl.constexpr,
    TABLES: tl.constexpr,
    BOXES: tl.constexpr,
    MODE: tl.constexpr,
    FORMAT: tl.constexpr,
    ALIGNED: tl.constexpr,
    RUN: tl.constexpr,
):
    """Write one run of pixels of one image, in three channels.

    images uint8 [N, CHANNELS, area]; lut integers [TABLES, 256]; weights, cut, patches: those of the mixing, or None;
    boxes, keys and, for noise, the table: those of the erasing, unless MODE is "none"; out: integers [N, 3, area], by
    strides.
    """
    program, area = tl.program_id(0).to(tl.int64), tl.cast(area, tl.int64)
    n, first = program // tiles, (program % tiles) * RUN
    i = tl.arange(0, RUN)
    used = first + i < area
    place = (first % width).to(tl.int32) + i
    y, x = (first // width).to(tl.int32) + place // width, place % width

    source = images + n * CHANNELS * area + first + i
    partner = images + (images_count - 1 - n) * CHANNELS * area + first + i
    if weights is not None:
        weight, pasted = tl.load(weights + n), tl.load(cut + n) != 0
    erased = False
    if MODE != "none":
        boxes += n * BOXES * 4
        erased = meets(boxes, (first // width).to(tl.int32), ((first + RUN - 1) // width).to(tl.int32), BOXES)
        last = tl.full((RUN,), -1, tl.int32)
        if erased:
            last = last_box(boxes, y, x, BOXES)
        covered = used & (last >= 0)
        key = tl.load(keys + n)
        low, high = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    out += n * image_stride + (first + i) * pixel_stride

    byte = tl.full((RUN,), 0, tl.uint8)
    looked_up = tl.full((RUN,), 0, lut.dtype.element_ty)
    for c in tl.static_range(3):
        if c < CHANNELS:  # a single channel serves all three
            byte = tl.load(source + c * area, mask=used, other=0)
            if weights is not None:
                if pasted:
                    byte = tl.load(partner + c * area, mask=used & inside(patches + 4 * n, y, x), other=byte)
                elif weight != 1.0:
                    byte = mixed(byte, partner + c * area, weight, used)
        if c < CHANNELS or c < TABLES:  # one byte with one table is looked up once
            looked_up = tl.load(lut + (c * 256 if TABLES == 3 else 0) + byte.to(tl.int32))
        entry = looked_up
        if MODE != "none" and erased:
            if MODE == "pixel":
                word = pixel_words(c * area + first, low, high, i, ALIGNED)
                entry = tl.where(covered, entries(normal(word, table, covered), FORMAT), entry)
            elif MODE == "rand":
                for k in range(BOXES):
                    value = entries(normal(box_word(k, c, low, high), table, True), FORMAT)
                    entry = tl.where(covered & (last == k), value, entry)
            else:
                entry = tl.where(covered, 0, entry)
        tl.store(out + c * channel_stride, entry, mask=used)


def mix_erase(
    images: torch.Tensor,
    lut: torch.Tensor,
    mixing: Mixing | None,
    erasing: Erasing | None,
    memory_format: torch.memory_format,
) -> torch.Tensor:
    """Do ``gpurender.kernels.mix_erase.mix_erase`` on a GPU; the arguments are checked."""
    n, channels, height, width = images.shape
    out = torch.empty((n, 3, height, width), dtype=lut.dtype, device=images.device, memory_format=memory_format)
    if out.numel() == 0:
        return out
    integer = INTEGERS[lut.element_size()]
    weights, cut, patches = (None, None, None) if mixing is None else mixing
    boxes, keys, mode = (None, None, "none") if erasing is None or not erasing.boxes.shape[1] else erasing
    table = tables.normal(images.device) if mode in ("rand", "pixel") else None
    area = height * width
    run = WARPS * 32 * WIDTH // lut.element_size()
    tiles = -(-area // run)
    strides = out.stride(0), out.stride(1), out.stride(3)
    with torch.cuda.device_of(out):
        mix_erase_pixels[(n * tiles,)](
            images, lut.view(integer), weights, None if cut is None else cut.view(torch.uint8), patches,
            boxes, keys, table, out.view(integer), n, tiles, width, area, *strides,
            channels, len(lut), 0 if boxes is None else boxes.shape[1], mode, FORMATS[lut.dtype], area % 4 == 0, run,
            num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return out
