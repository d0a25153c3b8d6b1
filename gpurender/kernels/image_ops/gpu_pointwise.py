# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""The operations on pixels by themselves, in Triton: tables, COLOR, HUE; the formulas are in ``cpu_pointwise.py``.

A launch with one program per channel writes the tables of a step. Only three of the operations have to read their image
for that: two need its histogram and one its mean. A second launch has one program per run of pixels, in all channels.
It also performs SHARPNESS (``gpu_filters.py``) and copies, which visit the same pixels in the same order: a separate
launch would cost every step the programs of all samples that have another kind of operation.
"""

import triton
import triton.language as tl

from gpurender.kernels.image_ops.gpu_filters import sharpen
from gpurender.kernels.image_ops.gpu_plan import COPY, LUT, PIXEL, STENCIL, blended, code_of, grey_of, is_last, kind_of
from gpurender.kernels.image_ops.ops import Operation

AUTO_CONTRAST, EQUALIZE = tl.constexpr(int(Operation.AUTO_CONTRAST)), tl.constexpr(int(Operation.EQUALIZE))
INVERT = tl.constexpr(int(Operation.INVERT))
POSTERIZE = tl.constexpr(int(Operation.POSTERIZE))
SOLARIZE, SOLARIZE_ADD = tl.constexpr(int(Operation.SOLARIZE)), tl.constexpr(int(Operation.SOLARIZE_ADD))
BRIGHTNESS, CONTRAST = tl.constexpr(int(Operation.BRIGHTNESS)), tl.constexpr(int(Operation.CONTRAST))
HUE = tl.constexpr(int(Operation.HUE))
SIXTH = tl.constexpr(1.0 / 6.0)


@triton.jit
def histogram(image, area, first, SIZE: tl.constexpr):
    """Count the bytes per value, of ``area`` bytes: int64 [256]. first: 0 in the dtype of offsets."""
    total = tl.zeros((256,), tl.int64)
    for start in range(first, area, SIZE):
        i = start + tl.arange(0, SIZE)
        byte = tl.load(image + i, mask=i < area, other=0).to(tl.int32)
        beyond = tl.maximum(start + SIZE - area, 0)  # bytes beyond the end were counted as zeros
        total += tl.histogram(byte, 256).to(tl.int64) - tl.where(tl.arange(0, 256) == 0, beyond, 0)
    return total


@triton.jit
def mean_grey(image, area, first, CHANNELS: tl.constexpr, SIZE: tl.constexpr):
    """Return the mean luma of an image, rounded (a half upwards): int32."""
    total = tl.zeros((SIZE,), tl.int32)  # at most 255 x 2^20 per lane
    for start in range(first, area, SIZE):
        i = start + tl.arange(0, SIZE)
        red = tl.load(image + i, mask=i < area, other=0).to(tl.int32)
        if CHANNELS == 3:
            green = tl.load((image + area) + i, mask=i < area, other=0).to(tl.int32)
            blue = tl.load(((image + area) + area) + i, mask=i < area, other=0).to(tl.int32)
            red = grey_of(red, green, blue)
        total += red
    count = tl.full((), 1, tl.int64) * area
    return ((2 * tl.sum(total.to(tl.int64)) + count) // (2 * count)).to(tl.int32)


@triton.jit
def stretched(counts, v):
    """Return AUTO_CONTRAST's table: the smallest byte becomes 0, the largest 255."""
    low = tl.min(tl.where(counts > 0, v, 255))
    high = tl.max(tl.where(counts > 0, v, 0))
    scale = 255.0 / tl.maximum(high - low, 1).to(tl.float64)
    offset = -low.to(tl.float64) * scale
    byte = (v.to(tl.float64) * scale + offset).to(tl.int32)
    return tl.where(high > low, tl.minimum(tl.maximum(byte, 0), 255), v)


@triton.jit
def equalized(counts, v, area):
    """Return EQUALIZE's table."""
    high = tl.max(tl.where(counts > 0, v, 0))
    step = (area - tl.sum(tl.where(v == high, counts, 0))) // 255
    below = tl.cumsum(counts, 0) - counts
    divisor = tl.maximum(step, 1)
    byte = tl.minimum((step // 2 + below) // divisor, 255).to(tl.int32)
    return tl.where(step > 0, byte, v)


@triton.jit
def table_of(code, argument, v):
    """Return the table of an operation that does not read its image."""
    whole = argument.to(tl.int32)
    byte = v
    if code == INVERT:
        byte = 255 - v
    elif code == POSTERIZE:
        byte = v & (256 - (256 >> whole))
    elif code == SOLARIZE:
        byte = tl.where(v.to(tl.float64) < argument, v, 255 - v)
    elif code == SOLARIZE_ADD:
        byte = tl.where(v < 128, tl.minimum(v + whole, 255), v)
    elif code == BRIGHTNESS:
        byte = blended(v * 0, v, argument.to(tl.float32))
    return byte


@triton.jit(do_not_specialize=["layers", "step"])
def tabulate(
    source,
    plan,
    values,
    tables,
    layers: tl.int32,
    step: tl.int32,
    area,
    CHANNELS: tl.constexpr,
    INDEX: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write tables uint8 [N, C, 256] of the samples whose operation at this step is of kind LUT."""
    image = tl.program_id(0).to(tl.int64)
    n = image // CHANNELS
    place = n * layers + step
    word = tl.load(plan + place)
    if kind_of(word) == LUT:
        v = tl.arange(0, 256)
        code, argument = code_of(word), tl.load(values + place)
        first = (step * 0).to(INDEX)
        if (code == AUTO_CONTRAST) | (code == EQUALIZE):
            counts = histogram(source + image * area, area, first, SIZE)
            byte = stretched(counts, v) if code == AUTO_CONTRAST else equalized(counts, v, area)
        elif code == CONTRAST:
            mean = mean_grey(source + n * CHANNELS * area, area, first, CHANNELS, SIZE)
            byte = blended(mean + v * 0, v, argument.to(tl.float32))
        else:
            byte = table_of(code, argument, v)
        tl.store(tables + image * 256 + v, byte.to(tl.uint8))


@triton.jit
def hue_of(red, green, blue):
    """Return Pillow's hue and saturation of int32 bytes, and the value, which is the largest byte.

    Pillow's mixture of float32 and float64 decides bytes where the quotient is a whole number; this arithmetic gives
    the same bytes for all colours. Pillow's saturation equals the quotient of integers.
    """
    high = tl.maximum(red, tl.maximum(green, blue))
    low = tl.minimum(red, tl.minimum(green, blue))
    is_red, is_green = red == high, green == high
    first = high - tl.where(is_red, blue, tl.where(is_green, red, green))
    second = high - tl.where(is_red, green, tl.where(is_green, blue, red))
    base = tl.where(is_red, 0.0, tl.where(is_green, 2.0, 4.0)).to(tl.float64)
    span = tl.maximum(high - low, 1).to(tl.float32)
    first, second = tl.div_rn(first.to(tl.float32), span), tl.div_rn(second.to(tl.float32), span)
    sixths = ((base + first.to(tl.float64)) - second.to(tl.float64)).to(tl.float32)
    turn = sixths.to(tl.float64) * SIXTH + 1.0
    turn = tl.where(turn >= 1.0, turn - 1.0, turn).to(tl.float32)
    hue = tl.where(high == low, 0, (turn * 255.0).to(tl.int32))
    return hue, 255 * (high - low) // tl.maximum(high, 1), high


@triton.jit
def colour_of(hue, saturation, value):
    """Return red, green, blue of Pillow's hue, saturation, value; these rounded fractions equal its rounded floats."""
    sector = 6 * hue // 255
    rest = 6 * hue - 255 * sector
    p = (value * (255 - saturation) + 127) // 255
    q = (value * (65025 - saturation * rest) + 32512) // 65025
    t = (value * (65025 - saturation * (255 - rest)) + 32512) // 65025
    k = tl.where(sector == 6, 0, sector)
    red = tl.where((k == 0) | (k == 5), value, tl.where(k == 1, q, tl.where(k == 4, t, p)))
    green = tl.where((k == 1) | (k == 2), value, tl.where(k == 3, q, tl.where(k == 0, t, p)))
    blue = tl.where((k == 3) | (k == 4), value, tl.where(k == 5, q, tl.where(k == 2, t, p)))
    return red, green, blue


@triton.jit
def recoloured(image, target, area, i, used, code, argument):
    """Apply COLOR or HUE to three channels."""
    red = tl.load(image + i, mask=used, other=0).to(tl.int32)
    image += area
    green = tl.load(image + i, mask=used, other=0).to(tl.int32)
    image += area
    blue = tl.load(image + i, mask=used, other=0).to(tl.int32)
    if code == HUE:
        hue, saturation, value = hue_of(red, green, blue)
        hue = (hue + (argument * 255.0).to(tl.int32)) & 255
        red, green, blue = colour_of(hue, saturation, value)
    else:
        grey, factor = grey_of(red, green, blue), argument.to(tl.float32)
        red, green, blue = blended(grey, red, factor), blended(grey, green, factor), blended(grey, blue, factor)
    tl.store(target + i, red.to(tl.uint8), mask=used)
    target += area
    tl.store(target + i, green.to(tl.uint8), mask=used)
    target += area
    tl.store(target + i, blue.to(tl.uint8), mask=used)


@triton.jit
def copied(image, target, begin, end, area, CHANNELS: tl.constexpr, SIZE: tl.constexpr):
    """Copy the bytes from begin to end of all channels, eight at a time: all are multiples of eight."""
    source, result = image.to(tl.pointer_type(tl.int64)), target.to(tl.pointer_type(tl.int64))
    for start in range(begin // 8, end // 8, SIZE):
        i = start + tl.arange(0, SIZE)
        for c in tl.static_range(CHANNELS):
            word = tl.load(source + c * (area // 8) + i, mask=i < end // 8)
            tl.store(result + c * (area // 8) + i, word, mask=i < end // 8)


@triton.jit(do_not_specialize=["layers", "step", "blocks", "height"])
def change(
    source,
    scratch,
    result,
    plan,
    values,
    tables,
    layers: tl.int32,
    step: tl.int32,
    blocks: tl.int32,
    height: tl.int32,
    width,
    area,
    CHANNELS: tl.constexpr,
    INDEX: tl.constexpr,
    ALIGNED: tl.constexpr,
    SIZE: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Do the step of the samples whose operation reads at most the pixels next to a pixel; copy if it is IDENTITY.

    A program has SPAN pixels in all channels, SIZE at a time. ALIGNED: every channel begins at a multiple of eight
    bytes and has as many.
    """
    program = tl.program_id(0)
    n, block = (program // blocks).to(tl.int64), program % blocks
    place = n * layers + step
    word = tl.load(plan + place)
    kind = kind_of(word)
    if kind <= STENCIL:
        image, target = source + n * CHANNELS * area, scratch + n * CHANNELS * area
        if is_last(word):
            target = result + n * CHANNELS * area
        code, argument = code_of(word), tl.load(values + place)
        begin = block.to(INDEX) * SPAN
        end = tl.minimum(begin + SPAN, area)
        if ALIGNED and ((kind == COPY) | ((kind == PIXEL) & (CHANNELS == 1))):
            copied(image, target, begin, end, area, CHANNELS, SIZE)
            end = begin
        for start in range(begin, end, SIZE):
            i = start + tl.arange(0, SIZE)
            used = i < area
            if kind == LUT:
                from_band, to_band = image, target
                for c in tl.static_range(CHANNELS):
                    byte = tl.load(from_band + i, mask=used, other=0)
                    byte = tl.load(tables + (n * CHANNELS + c) * 256 + byte)
                    tl.store(to_band + i, byte, mask=used)
                    from_band, to_band = from_band + area, to_band + area
            elif kind == STENCIL:
                sharpen(image, target, area, i, used, height, width, argument.to(tl.float32), CHANNELS)
            elif (kind == PIXEL) & (CHANNELS == 3):
                recoloured(image, target, area, i, used, code, argument)
            else:
                from_band, to_band = image, target
                for _ in tl.static_range(CHANNELS):
                    tl.store(to_band + i, tl.load(from_band + i, mask=used, other=0), mask=used)
                    from_band, to_band = from_band + area, to_band + area
