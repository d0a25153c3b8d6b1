# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""The operations on a pixel and its neighbours, in Triton: SHARPNESS, the blurs; the formulas are in cpu_filters.py.

SHARPNESS is a branch of ``gpu_pointwise.change``, whose module gives the reason. The blurs take two launches: one sums
along the rows, the other along the columns. GAUSSIAN_BLUR has three passes per axis with bytes between them: a program
owns whole lines, so it makes all three, alternating between two images, with a barrier between passes. GAUSSIAN_KERNEL
has one pass per axis, with float32 between the passes, in the same memory as the bytes; its weights are computed once
per batch.
"""

import triton
import triton.language as tl

from gpurender.kernels.device.triton_math import exp
from gpurender.kernels.image_ops.gpu_plan import BLUR, blended, code_of, is_last, kind_of
from gpurender.kernels.image_ops.ops import Operation

GAUSSIAN_BLUR = tl.constexpr(int(Operation.GAUSSIAN_BLUR))
GAUSSIAN_KERNEL = tl.constexpr(int(Operation.GAUSSIAN_KERNEL))
REACH = tl.constexpr(11)  # pixels to either side, in the kernel of 23 pixels
WEIGHTS = tl.constexpr(16)  # weights per blur, 12 of them used
ROWS = tl.constexpr(32)  # rows per program that sums along rows
COLUMNS = tl.constexpr(32)  # columns per program that sums along columns


@triton.jit
def sharpened(pixels, used, inner, width, factor):
    """Return SHARPNESS: away from or towards the mean of 3 x 3 pixels, the middle one five times; the edge stays."""
    byte = tl.load(pixels, mask=used, other=0).to(tl.int32)
    total = 4 * byte
    for dy in tl.static_range(-1, 2):
        for dx in tl.static_range(-1, 2):
            total += tl.load(pixels + (dy * width + dx), mask=inner, other=0).to(tl.int32)
    smooth = tl.where(inner, (2 * total + 13) // 26, byte)
    return blended(smooth, byte, factor)


@triton.jit
def sharpen(image, target, area, i, used, height, width, factor, CHANNELS: tl.constexpr):
    """Apply SHARPNESS to pixels i in all channels."""
    y, x = (i // width).to(tl.int32), (i % width).to(tl.int32)
    inner = used & (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    for _ in tl.static_range(CHANNELS):
        byte = sharpened(image + i, used, inner, width, factor)
        tl.store(target + i, byte.to(tl.uint8), mask=used)
        image += area
        target += area


@triton.jit(do_not_specialize=["count"])
def weigh(plan, values, weights, count: tl.int32, SIZE: tl.constexpr):
    """Write weights float32 [N L, 16], from the middle outwards, of the steps that are GAUSSIAN_KERNEL."""
    i = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = i < count
    used = used & (code_of(tl.load(plan + i, mask=used, other=0)) == GAUSSIAN_KERNEL)
    sigma = tl.load(values + i, mask=used, other=1.0)
    base = exp(-1.0 / (2.0 * sigma * sigma))
    square = base * base
    weight, factor = tl.full(i.shape, 1.0, tl.float64), base
    total = weight
    for _ in tl.static_range(REACH):
        weight = weight * factor
        factor = factor * square
        total += 2.0 * weight
    weight, factor = tl.full(i.shape, 1.0, tl.float64), base
    place = weights + i.to(tl.int64) * WEIGHTS
    for k in tl.static_range(REACH + 1):
        tl.store(place + k, (weight / total).to(tl.float32), mask=used)
        weight = weight * factor
        factor = factor * square


@triton.jit
def box_of(radius):
    """Return the box for a standard deviation (float32): whole radius, weights of its pixels and its ends in 2^-24."""
    variance = tl.div_rn(radius * radius, 3.0)
    length = tl.sqrt(12.0 * variance.to(tl.float64) + 1.0).to(tl.float32)
    reach = tl.floor((length.to(tl.float64) - 1.0) / 2.0).to(tl.float32)
    beyond = (2.0 * reach + 1.0) * (reach * (reach + 1.0) - 3.0 * variance)
    beyond = tl.div_rn(beyond, 6.0 * (variance - (reach + 1.0) * (reach + 1.0)))
    radius = reach + beyond
    inner = tl.div_rn(16777216.0, radius * 2.0 + 1.0).to(tl.int32).to(tl.uint32)
    reach = radius.to(tl.int32)
    outer = (16777216 - (reach * 2 + 1).to(tl.uint32) * inner) >> 1
    return reach, inner, outer


@triton.jit
def inside(place, length):
    """Return a place on a line, or the end of the line if the place lies beyond."""
    return tl.minimum(tl.maximum(place, 0), length - 1)


@triton.jit
def boxed(line, place, length, stride, used, reach, inner, outer):
    """Return box means around places on lines of ``length`` pixels ``stride`` apart: uint8."""
    total = tl.zeros(place.shape, tl.int32)
    for k in range(-reach, reach + 1):
        total += tl.load(line + inside(place + k, length) * stride, mask=used, other=0).to(tl.int32)
    far = tl.load(line + inside(place - reach - 1, length) * stride, mask=used, other=0).to(tl.uint32)
    far += tl.load(line + inside(place + reach + 1, length) * stride, mask=used, other=0).to(tl.uint32)
    return ((total.to(tl.uint32) * inner + far * outer + 8388608) >> 24).to(tl.uint8)


@triton.jit
def weighted(line, place, length, stride, used, weights):
    """Return sums by the kernel of 23 weights, float32; beyond its ends a line is mirrored."""
    total = tl.zeros(place.shape, tl.float32)
    for tap in range(2 * REACH + 1):
        weight = tl.load(weights + tl.abs(tap - REACH))
        near = tl.abs(place + (tap - REACH))
        near = inside(tl.where(near < length, near, 2 * (length - 1) - near), length)
        total += weight * tl.load(line + near * stride, mask=used, other=0).to(tl.float32)
    return total


@triton.jit
def nearest_byte(total):
    """Return a float32 clipped to 0 .. 255 and rounded, halves to even: uint8."""
    total = tl.where(total > 0.0, total, 0.0)
    total = tl.where(total < 255.0, total, 255.0)
    return ((total + 8388608.0) - 8388608.0).to(tl.int32).to(tl.uint8)


@triton.jit
def pixels_of(q, block, height, width, VERTICAL: tl.constexpr, INDEX: tl.constexpr):
    """Return the starts of the lines of a block's q-th pixels, their places there, and whether they are inside.

    Pixels behind the block's own are those of the next program, which may be at another pass: they are not inside.
    """
    if VERTICAL:
        y, x = q // COLUMNS, block * COLUMNS + q % COLUMNS
        return x.to(INDEX), y.to(INDEX), (y < height) & (x < width)
    y, x = q // width, q % width
    line = (block * ROWS + y).to(INDEX) * width
    return line, x.to(INDEX), (y < ROWS) & (block * ROWS + y < height)


@triton.jit
def box_pass(
    source, target, block, height, width, box, VERTICAL: tl.constexpr, INDEX: tl.constexpr, SIZE: tl.constexpr
):
    """Make one pass over a program's lines, with a barrier so that all of its threads see the result."""
    reach, inner, outer = box
    count = height * COLUMNS if VERTICAL else width * ROWS
    for start in range(0, count, SIZE):
        line, place, used = pixels_of(start + tl.arange(0, SIZE), block, height, width, VERTICAL, INDEX)
        if VERTICAL:
            byte = boxed(source + line, place, height, width, used, reach, inner, outer)
            tl.store(target + line + place * width, byte, mask=used)
        else:
            byte = boxed(source + line, place, width, 1, used, reach, inner, outer)
            tl.store(target + line + place, byte, mask=used)
    tl.debug_barrier()


@triton.jit
def kernel_pass(
    source, target, block, height, width, weights, VERTICAL: tl.constexpr, INDEX: tl.constexpr, SIZE: tl.constexpr
):
    """Make the pass over a program's lines: from bytes to sums along rows, from sums to bytes along columns."""
    count = height * COLUMNS if VERTICAL else width * ROWS
    for start in range(0, count, SIZE):
        line, place, used = pixels_of(start + tl.arange(0, SIZE), block, height, width, VERTICAL, INDEX)
        if VERTICAL:
            total = weighted(source + line, place, height, width, used, weights)
            tl.store(target + line + place * width, nearest_byte(total), mask=used)
        else:
            tl.store(target + line + place, weighted(source + line, place, width, 1, used, weights), mask=used)


@triton.jit(do_not_specialize=["layers", "step", "height", "width", "blocks", "channels", "pitch"])
def blur(
    source,
    scratch,
    result,
    between,
    sums,
    plan,
    values,
    weights,
    layers: tl.int32,
    step: tl.int32,
    blocks: tl.int32,
    height: tl.int32,
    width: tl.int32,
    area: tl.int64,
    channels: tl.int32,
    pitch: tl.int64,
    VERTICAL: tl.constexpr,
    INDEX: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Do one axis of the step of the samples whose operation is a blur, SIZE pixels at a time.

    Pixels go from the source through ``between`` (bytes, images ``pitch`` apart) or ``sums`` (float32, the same memory)
    to the scratch image or the result.
    """
    program = tl.program_id(0)
    image, block = (program // blocks).to(tl.int64), program % blocks
    place = (image // channels) * layers + step
    word = tl.load(plan + place)
    if kind_of(word) == BLUR:
        target = scratch + image * area
        if is_last(word):
            target = result + image * area
        source += image * area
        if code_of(word) == GAUSSIAN_BLUR:
            between += image * pitch
            box = box_of(tl.load(values + place).to(tl.float32))
            if VERTICAL:
                box_pass(between, target, block, height, width, box, VERTICAL, INDEX, SIZE)
                box_pass(target, between, block, height, width, box, VERTICAL, INDEX, SIZE)
                box_pass(between, target, block, height, width, box, VERTICAL, INDEX, SIZE)
            else:
                box_pass(source, between, block, height, width, box, VERTICAL, INDEX, SIZE)
                box_pass(between, target, block, height, width, box, VERTICAL, INDEX, SIZE)
                box_pass(target, between, block, height, width, box, VERTICAL, INDEX, SIZE)
        elif VERTICAL:
            kernel_pass(
                sums + image * area, target, block, height, width, weights + place * WEIGHTS, VERTICAL, INDEX, SIZE
            )
        else:
            kernel_pass(
                source, sums + image * area, block, height, width, weights + place * WEIGHTS, VERTICAL, INDEX, SIZE
            )
