# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""The operations that move pixels, in Triton: Pillow's affine transforms; the formulas are in cpu_affine.py.

Coordinates and interpolation are float64 as in Pillow. A program has a part of an image in all channels, because the
channels share the coordinates. It is one warp: so warps of the background do not wait for those of the drawing.

**Where float64 is slow** (``SINGLE``: a 32nd or a 64th of float32's rate), a pixel costs 24 float64 instructions for
its coordinates and 57 per channel for the bicubic interpolation. There the interpolation is estimated in float32, and
repeated in float64 if the estimate of some pixel of the program lies so close to an integer that float64 may truncate
to another byte. The estimate takes another formula of the same polynomial, with d in [0, 1) and e = 1 - d::

    p(d) = v2 + d (v3 - v2) + (d e^2 (v2 - v1) + d^2 e (v3 - v4))

Its error is bounded, in units of u = 2^-24 (a result is rounded by at most u times its size). The absolute values of
the cubic's weights sum to at most 3/2, so rows have a range of 383 in [-64, 319] and the result one in [-160, 415]; the
slope is at most 3/2 of the values' range; the cubic terms take at most d e = 1/4 of it::

    a row:   rounding d (by u / 2)  192    d (v3 - v2)  255          cubic terms 5 / 4 * 255 = 319, their sum 64
             v2 + d (v3 - v2)       255    the result   319          together 1404
    column:  rounding d             288    d (v3 - v2)  2 * 383      cubic terms 6 / 4 * 383 = 575, their sum 96
             v2 + d (v3 - v2)       319    the result   415          errors of rows 3 / 2 * 1404 = 2106, together 4565

So the estimate differs from float64, whose own error is 2^-29 of that, by less than 4565 u = 2.73e-4 < ``MARGIN``. Of
values spread evenly, 2 MARGIN = 0.06 % are doubtful. A fraction of 0, which shears and translations have everywhere in
rows or columns, leaves integers where neighbours are equal. Pixels that such a fraction takes out do not count, so that
these integers are found by comparing bytes, as in flat regions. Of the programs that are not flat, 2.6 % had a doubtful
pixel (the median of 30 pairs of preset and operation with 48 crops of 224 pixels each, 0 to 5.6 %; a trial in NumPy
that is not kept). So a grey pixel takes 26 float64 instructions of 81 and some conversions. This is arithmetic, not
measured on a GPU.
"""

import triton
import triton.language as tl

from gpurender.kernels import resized_crop
from gpurender.kernels.image_ops.gpu_plan import AFFINE, is_last, kind_of, layer_of

NEAREST = tl.constexpr(resized_crop.NEAREST)
BICUBIC = tl.constexpr(resized_crop.BICUBIC)
MARGIN = tl.constexpr(3e-4)  # distance from an integer that float32 must keep, above the bound of its error
FIXED_LIMIT = tl.constexpr(32768.0)  # limit of coordinates in 32 bits, 16 of them fractional


@triton.jit
def small_at(a, b, c, x, y):
    """Return whether the coordinate at a corner fits the fixed point."""
    return tl.abs(x * a + y * b + c) < FIXED_LIMIT


@triton.jit
def fixed(v):
    """Return v in fixed point of 16.16 bits, rounded; the lowest number if v does not fit."""
    scaled = tl.floor(v * 65536.0 + 0.5)
    fits = (scaled >= -2147483648.0) & (scaled < 2147483648.0)
    return tl.where(fits, scaled, -2147483648.0).to(tl.int32)


@triton.jit
def stepped(start, first, y, second, x):
    """Return start + y times first + x times second, by one addition at a time, each rounded."""
    position = start + y * 0.0
    for i in range(tl.max(y, 0)):
        position = tl.where(i < y, position + first, position)
    for i in range(tl.max(x, 0)):
        position = tl.where(i < x, position + second, position)
    return position


@triton.jit
def whole(position, size):
    """Return the row or column of a float64 coordinate; -1 outside the image."""
    inside = (position >= 0.0) & (position < size.to(tl.float64))
    return tl.where(inside, position, -1.0).to(tl.int32)


@triton.jit
def nearest_source(matrix, y, x, height, width):
    """Return the row and column of the pixel that is shown; negative or too large if there is none.

    Pillow adds steps from pixel to pixel: in fixed point, or in float64 if that overflows or nothing turns or shears.
    """
    a, b, c, d, e, f = matrix
    h, w = height.to(tl.float64), width.to(tl.float64)
    horizontal = small_at(a, b, c, 0.0, 0.0) & small_at(a, b, c, w, h) & small_at(a, b, c, 0.0, h)
    vertical = small_at(d, e, f, 0.0, 0.0) & small_at(d, e, f, w, h) & small_at(d, e, f, 0.0, h)
    small = horizontal & vertical & small_at(a, b, c, w, 0.0) & small_at(d, e, f, w, 0.0)
    turned = (b != 0.0) | (d != 0.0)
    if turned & small:
        column = (fixed(c + a * 0.5 + b * 0.5) + y * fixed(b) + x * fixed(a)) >> 16
        row = (fixed(f + d * 0.5 + e * 0.5) + y * fixed(e) + x * fixed(d)) >> 16
    else:
        column = whole(stepped(c + b * 0.5 + a * 0.5, b, y, a, x), width)
        row = whole(stepped(f + e * 0.5 + d * 0.5, e, y, d, x), height)
    return row, column


@triton.jit
def cubic(p1, p2, p3, p4, d):
    """Return the cubic with coefficients p1 .. p4, at d after the second of four pixels."""
    return p1 + d * (p2 + d * (p3 + d * p4))


@triton.jit
def clipped(i, size):
    """Return row or column i, or that of the edge if i lies beyond."""
    return tl.minimum(tl.maximum(i, 0), size - 1)


@triton.jit
def aligned_four(image, place):
    """Return the bytes at place to place + 3 as a word, the first lowest, by two loads of aligned words."""
    low = tl.load((image + (place & -4)).to(tl.pointer_type(tl.uint32)))
    high = tl.load((image + ((place + 3) & -4)).to(tl.pointer_type(tl.uint32)))
    return (((high.to(tl.uint64) << 32) | low) >> ((place & 3) * 8)).to(tl.uint32)


@triton.jit
def single_four(image, x0, x1, x2, x3):
    """Return four bytes as a word, the first lowest."""
    b0, b1 = tl.load(image + x0).to(tl.uint32), tl.load(image + x1).to(tl.uint32)
    b2, b3 = tl.load(image + x2).to(tl.uint32), tl.load(image + x3).to(tl.uint32)
    return b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)


@triton.jit
def byte_of(word, shift):
    """Return the byte of a word that begins at bit ``shift``, as int32."""
    return ((word >> shift) & 255).to(tl.int32)


@triton.jit
def counting(shifts):
    """Return the bits of a word that belong to the four pixels; some of these may be one and the same."""
    one, two, three, four = 255 << shifts[0], 255 << shifts[1], 255 << shifts[2], 255 << shifts[3]
    return (one | two | three | four).to(tl.uint32)


@triton.jit
def between_two(word, shifts, dx):
    """Return the value between the middle two of four pixels of a row: float64."""
    left, right = byte_of(word, shifts[1]), byte_of(word, shifts[2])
    return left.to(tl.float64) + (right - left).to(tl.float64) * dx


@triton.jit
def between_four(word, shifts, dx):
    """Return the cubic between the middle two of four pixels of a row: float64. The coefficients are integers."""
    v1, v2 = byte_of(word, shifts[0]), byte_of(word, shifts[1])
    v3, v4 = byte_of(word, shifts[2]), byte_of(word, shifts[3])
    p2, p3, p4 = v3 - v1, 2 * (v1 - v2) + v3 - v4, v2 - v1 + v4 - v3
    return cubic(v2.to(tl.float64), p2.to(tl.float64), p3.to(tl.float64), p4.to(tl.float64), dx)


@triton.jit
def interpolated(w0, w1, w2, w3, shifts, dy, dx, bicubic):
    """Return a byte between the pixels of four rows, as int32."""
    if bicubic:
        v1, v2 = between_four(w0, shifts, dx), between_four(w1, shifts, dx)
        v3, v4 = between_four(w2, shifts, dx), between_four(w3, shifts, dx)
        value = cubic(v2, v3 - v1, 2.0 * (v1 - v2) + v3 - v4, -v1 + v2 - v3 + v4, dy)
        value = tl.where(value > 0.0, value, 0.0)
        value = tl.where(value < 255.0, value, 255.0)
    else:
        upper, lower = between_two(w1, shifts, dx), between_two(w2, shifts, dx)
        value = upper + (lower - upper) * dy
    return value.to(tl.int32)


@triton.jit
def cubic_weights(d, bicubic):
    """Return the weights d (1 - d)^2 and d^2 (1 - d) in float32: 0 where the interpolation is linear."""
    single = d.to(tl.float32)
    rest = tl.where(bicubic, single * (1.0 - single), 0.0)
    return single, rest * (1.0 - single), rest * single


@triton.jit
def estimated_between(v1, v2, v3, v4, weights):
    """Return the value between the middle two of four float32."""
    d, before, behind = weights
    return v2 + d * (v3 - v2) + (before * (v2 - v1) + behind * (v3 - v4))


@triton.jit
def estimated_in_row(word, shifts, weights):
    """Return the value between the middle two of four pixels of a row: float32."""
    v1, v2 = byte_of(word, shifts[0]).to(tl.float32), byte_of(word, shifts[1]).to(tl.float32)
    v3, v4 = byte_of(word, shifts[2]).to(tl.float32), byte_of(word, shifts[3]).to(tl.float32)
    return estimated_between(v1, v2, v3, v4, weights)


@triton.jit
def estimated(w0, w1, w2, w3, shifts, down, across):
    """Return the value between the pixels of four rows: float32, not clipped."""
    v1, v2 = estimated_in_row(w0, shifts, across), estimated_in_row(w1, shifts, across)
    v3, v4 = estimated_in_row(w2, shifts, across), estimated_in_row(w3, shifts, across)
    return estimated_between(v1, v2, v3, v4, down)


@triton.jit
def doubtful(value):
    """Return whether float64 may truncate to another byte than the estimate: it lies close to one of 1 to 255."""
    integer = tl.floor(value + 0.5)
    return (tl.abs(value - integer) < MARGIN) & (integer >= 1.0) & (integer <= 255.0)


@triton.jit
def nearest_pixels(
    image, target, matrix, i, y, x, used, fill, height, width, area, CHANNELS: tl.constexpr, INDEX: tl.constexpr
):
    """Write pixels i of the target, at (y, x): pixels of the image, or the fill."""
    row, column = nearest_source(matrix, y, x, height, width)
    shown = used & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = tl.where(shown, row, 0).to(INDEX) * width + tl.where(shown, column, 0)
    for c in tl.static_range(CHANNELS):
        byte = tl.load(image + place, mask=shown, other=0).to(tl.int32)
        tl.store(target + i, tl.where(shown, byte, fill[c]).to(tl.uint8), mask=used)
        image += area
        target += area


@triton.jit
def interpolated_pixels(
    image,
    target,
    matrix,
    bicubic,
    i,
    y,
    x,
    used,
    fill,
    height,
    width,
    area,
    CHANNELS: tl.constexpr,
    INDEX: tl.constexpr,
    ALIGNED: tl.constexpr,
    SINGLE: tl.constexpr,
):
    """Write pixels i of the target, at (y, x): interpolated between pixels of the image, or the fill.

    The 4 x 4 pixels around a pixel are four words, one per row. If each pixel's are all equal, as in a fractal's
    background, then that byte is the result of all, without arithmetic: every difference in the formula is 0, so the
    formula adds zeros to it, and that is exact in float64.
    """
    a, b, c, d, e, f = matrix
    across, down = x.to(tl.float64) + 0.5, y.to(tl.float64) + 0.5
    x_in, y_in = a * across + b * down + c, d * across + e * down + f
    shown = used & (x_in >= 0.0) & (x_in < width.to(tl.float64))
    shown = shown & (y_in >= 0.0) & (y_in < height.to(tl.float64))
    x_in, y_in = tl.where(shown, x_in, 0.5) - 0.5, tl.where(shown, y_in, 0.5) - 0.5  # others read the first pixels
    column, row = tl.floor(x_in), tl.floor(y_in)
    dx, dy = x_in - column, y_in - row
    column, row = column.to(tl.int32), row.to(tl.int32)
    across, down, outer = 1, 1, 1  # steps to the pixels that count: 0 to those with no weight
    if SINGLE:
        across, down, outer = (dx != 0.0).to(tl.int32), (dy != 0.0).to(tl.int32), bicubic.to(tl.int32)
    x0, x1 = clipped(column - across * outer, width), clipped(column, width)
    x2, x3 = clipped(column + across, width), clipped(column + across + across * outer, width)
    y0, y1 = clipped(row - down * outer, height).to(INDEX) * width, clipped(row, height).to(INDEX) * width
    y2, y3 = clipped(row + down, height).to(INDEX) * width, clipped(row + down + down * outer, height).to(INDEX) * width
    begin = tl.minimum(x0, width - 4)  # of four columns that hold x0 to x3
    red, green, blue = fill
    for channel in range(CHANNELS):  # not unrolled: three channels at once would need more registers than there are
        if ALIGNED:
            w0, w1 = aligned_four(image, y0 + begin), aligned_four(image, y1 + begin)
            w2, w3 = aligned_four(image, y2 + begin), aligned_four(image, y3 + begin)
            shifts = ((x0 - begin) * 8, (x1 - begin) * 8, (x2 - begin) * 8, (x3 - begin) * 8)
        else:
            w0, w1 = single_four(image + y0, x0, x1, x2, x3), single_four(image + y1, x0, x1, x2, x3)
            w2, w3 = single_four(image + y2, x0, x1, x2, x3), single_four(image + y3, x0, x1, x2, x3)
            shifts = (0, 8, 16, 24)
        first = w0 & 255
        if SINGLE:
            first = (w1 >> shifts[1]) & 255  # the only one that always counts
        flat = first * 0x01010101
        differs = tl.where(shown, (w0 ^ flat) | (w1 ^ flat) | (w2 ^ flat) | (w3 ^ flat), 0)
        byte = first.to(tl.int32)
        if SINGLE:
            if ALIGNED:
                differs &= counting(shifts)
            if tl.max(differs, 0) != 0:
                rows, columns = cubic_weights(dy, bicubic), cubic_weights(dx, bicubic)
                value = estimated(w0, w1, w2, w3, shifts, rows, columns)
                byte = tl.minimum(tl.maximum(value, 0.0), 255.0).to(tl.int32)
                if tl.max((doubtful(value) & (differs != 0)).to(tl.int32), 0) != 0:
                    byte = interpolated(w0, w1, w2, w3, shifts, dy, dx, bicubic)
        elif tl.max(differs, 0) != 0:
            byte = interpolated(w0, w1, w2, w3, shifts, dy, dx, bicubic)
        level = red if channel == 0 else (green if channel == 1 else blue)
        tl.store(target + i, tl.where(shown, byte, level).to(tl.uint8), mask=used)
        image += area
        target += area


@triton.jit(do_not_specialize=["layers", "step", "blocks", "across", "height", "width", "red", "green", "blue"])
def move(
    source,
    scratch,
    result,
    plan,
    coefficients,
    interpolations,
    layers: tl.int32,
    step: tl.int32,
    blocks: tl.int32,
    across: tl.int32,
    height: tl.int32,
    width: tl.int32,
    area,
    red: tl.int32,
    green: tl.int32,
    blue: tl.int32,
    CHANNELS: tl.constexpr,
    INDEX: tl.constexpr,
    ALIGNED: tl.constexpr,
    SINGLE: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Do the step of the samples whose operation moves pixels, by coefficients float64 [N, L, 6].

    A program has SPAN rows of COLUMNS pixels in all channels, ROWS at a time; an image has ``blocks`` programs, and a
    row ``across`` of them. ALIGNED: every channel begins at a multiple of four bytes and has as many, and rows have at
    least four pixels. SINGLE: the interpolation is estimated in float32 first.
    """
    program = tl.program_id(0)
    n, block = (program // blocks).to(tl.int64), program % blocks
    word = tl.load(plan + n * layers + step)
    if kind_of(word) == AFFINE:
        image, target = source + n * CHANNELS * area, scratch + n * CHANNELS * area
        if is_last(word):
            target = result + n * CHANNELS * area
        place = n * layers + layer_of(word)
        interpolation = tl.load(interpolations + place)
        coefficients += 6 * place
        a, b, c = tl.load(coefficients), tl.load(coefficients + 1), tl.load(coefficients + 2)
        d, e, f = tl.load(coefficients + 3), tl.load(coefficients + 4), tl.load(coefficients + 5)
        matrix, fill = (a, b, c, d, e, f), (red, green, blue)
        place = tl.arange(0, COLUMNS * ROWS)
        x = block % across * COLUMNS + place % COLUMNS
        top = block // across * SPAN
        for first in range(top, tl.minimum(top + SPAN, height), ROWS):
            y = first + place // COLUMNS
            used = (x < width) & (y < height)
            i = y.to(INDEX) * width + x
            if interpolation == NEAREST:
                nearest_pixels(image, target, matrix, i, y, x, used, fill, height, width, area, CHANNELS, INDEX)
            else:
                bicubic = interpolation >= BICUBIC
                interpolated_pixels(
                    image, target, matrix, bicubic, i, y, x, used, fill, height, width, area, CHANNELS, INDEX, ALIGNED,
                    SINGLE,
                )  # fmt: skip
