"""Operations on pixels by themselves, in Numba: tables of 256 entries per channel, COLOR, HUE.

Formulas (v a byte; counts the histogram of a channel; every division of integers is a floor)::

    blend(d, v, f)  clip(d + f (v - d)) in float32, truncated

    AUTO_CONTRAST   s = 255 / (high - low); clip(trunc(v s - low s)) in float64; v, if the channel has one value
    EQUALIZE        step = (pixels - counts[highest]) / 255; min((step / 2 + pixels darker than v) / step, 255);
                    v, if step is 0
    INVERT          255 - v
    POSTERIZE       the highest bits of v, the others 0
    SOLARIZE        v below the threshold, else 255 - v
    SOLARIZE_ADD    min(v + argument, 255) below 128, else v
    BRIGHTNESS      blend(0, v, factor)
    CONTRAST        blend(mean of the grey image, rounded, v, factor)
    COLOR           blend(grey, v, factor) in each channel, grey = (19595 R + 38470 G + 7471 B + 2^15) / 2^16
    HUE             to hue, saturation, value; hue + trunc(255 argument) mod 256; back
"""

import numpy as np
from numba import float32, int32, int64, njit, uint8

from gpurender.kernels.image_ops.ops import Operation
from gpurender.runtime.numba_jit import kernel

AUTO_CONTRAST, EQUALIZE, INVERT = (
    int(code) for code in (Operation.AUTO_CONTRAST, Operation.EQUALIZE, Operation.INVERT)
)
POSTERIZE, SOLARIZE, SOLARIZE_ADD = (
    int(code) for code in (Operation.POSTERIZE, Operation.SOLARIZE, Operation.SOLARIZE_ADD)
)
BRIGHTNESS, CONTRAST = int(Operation.BRIGHTNESS), int(Operation.CONTRAST)


@njit(inline="always")
def blended(degenerate, byte, factor):
    """Return degenerate + factor (byte - degenerate) as a byte: Pillow's Image.blend, in float32."""
    mixed = float32(float32(degenerate) + float32(factor * float32(int32(byte) - int32(degenerate))))
    return uint8(int32(min(max(mixed, float32(0.0)), float32(255.0))))


@njit(inline="always")
def grey_of(red, green, blue):
    """Return Pillow's luma."""
    return (int32(19595) * int32(red) + int32(38470) * int32(green) + int32(7471) * int32(blue) + int32(32768)) >> 16


@njit(inline="always")
def histogram(band):
    """Count the pixels of a channel per value, in four counters in turn, so that no increment waits for the last."""
    counts = np.zeros((4, 256), np.int64)
    height, width = band.shape
    for y in range(height):
        row = band[y]
        for x in range(0, width - 3, 4):
            counts[0, row[x]] += 1
            counts[1, row[x + 1]] += 1
            counts[2, row[x + 2]] += 1
            counts[3, row[x + 3]] += 1
        for x in range(width // 4 * 4, width):
            counts[0, row[x]] += 1
    return counts[0] + counts[1] + counts[2] + counts[3]


@njit(inline="always")
def mean_grey(image):
    """Return the mean of the grey image, rounded (a half upwards)."""
    channels, height, width = image.shape
    total = int64(0)
    for y in range(height):
        line = int32(0)
        if channels == 1:
            for x in range(width):
                line += int32(image[0, y, x])
        else:
            for x in range(width):
                line += grey_of(image[0, y, x], image[1, y, x], image[2, y, x])
        total += line
    return (2 * total + height * width) // (2 * height * width)


@njit(inline="always")
def stretch(counts, table):
    """Write AUTO_CONTRAST's table for a histogram over the identity's."""
    low, high = 0, 255
    while low < 255 and counts[low] == 0:
        low += 1
    while high > 0 and counts[high] == 0:
        high -= 1
    if high > low:
        scale = 255.0 / (high - low)
        offset = -low * scale
        for v in range(256):
            table[v] = min(max(int(v * scale + offset), 0), 255)


@njit(inline="always")
def equalize(counts, table):
    """Write EQUALIZE's table for a histogram over the identity's."""
    pixels, last = int64(0), int64(0)
    for v in range(256):
        pixels += counts[v]
        if counts[v]:
            last = counts[v]
    step = (pixels - last) // 255
    if step:
        reached = step // 2
        for v in range(256):
            table[v] = min(reached // step, 255)
            reached += counts[v]


@kernel
def tabulated(image, operation, argument):
    """Return the tables uint8 [C, 256] of an operation of kind LUT, for an image uint8 [C, H, W]."""
    channels = image.shape[0]
    table = np.empty((channels, 256), np.uint8)
    factor, whole = float32(argument), int(argument)
    mean = mean_grey(image) if operation == CONTRAST else 0
    for c in range(channels):
        for v in range(256):
            table[c, v] = v
            if operation == INVERT:
                table[c, v] = 255 - v
            elif operation == POSTERIZE:
                table[c, v] = v & (256 - (256 >> whole))
            elif operation == SOLARIZE and not v < argument:
                table[c, v] = 255 - v
            elif operation == SOLARIZE_ADD and v < 128:
                table[c, v] = min(v + whole, 255)
            elif operation in (BRIGHTNESS, CONTRAST):
                table[c, v] = blended(mean, v, factor)
        if operation == AUTO_CONTRAST:
            stretch(histogram(image[c]), table[c])
        elif operation == EQUALIZE:
            equalize(histogram(image[c]), table[c])
    return table


@kernel
def look_up(image, operation, argument, out):
    """Apply an operation of kind LUT, from an image uint8 [C, H, W] to another."""
    tables = tabulated(image, operation, argument)
    channels, height, width = image.shape
    for c in range(channels):
        table = tables[c]
        for y in range(height):
            source, target = image[c, y], out[c, y]
            for x in range(width):
                target[x] = table[source[x]]


@kernel
def color(image, argument, out):
    """Apply COLOR to an image uint8 [3, H, W]."""
    factor = float32(argument)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            red, green, blue = image[0, y, x], image[1, y, x], image[2, y, x]
            grey = grey_of(red, green, blue)
            out[0, y, x] = blended(grey, red, factor)
            out[1, y, x] = blended(grey, green, factor)
            out[2, y, x] = blended(grey, blue, factor)


@njit(inline="always")
def hue_of(red, green, blue, high, low):
    """Return Pillow's hue of a colour that is not grey, 0 to 255: float32 and float64 in turn, as in its C code."""
    span = float32(int32(high) - int32(low))
    from_red = float32(float32(int32(high) - int32(red)) / span)
    from_green = float32(float32(int32(high) - int32(green)) / span)
    from_blue = float32(float32(int32(high) - int32(blue)) / span)
    if red == high:
        sixths = float32(from_blue - from_green)
    elif green == high:
        sixths = float32(2.0 + from_red - from_blue)
    else:
        sixths = float32(4.0 + from_green - from_red)
    turn = sixths / 6.0 + 1.0
    return int(float32(turn - 1.0 if turn >= 1.0 else turn) * 255.0)


@kernel
def hue(image, argument, out):
    """Apply HUE to an image uint8 [3, H, W]. These rounded fractions equal Pillow's rounded floats on the way back."""
    shift = int(argument * 255.0)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            red, green, blue = image[0, y, x], image[1, y, x], image[2, y, x]
            high, low = max(red, max(green, blue)), min(red, min(green, blue))
            if high == low:
                out[0, y, x] = out[1, y, x] = out[2, y, x] = high
                continue
            value = int32(high)
            turned = int32((hue_of(red, green, blue, high, low) + shift) & 255)
            saturation = 255 * (value - int32(low)) // value
            sector = 6 * turned // 255
            rest = 6 * turned - 255 * sector
            p = (value * (255 - saturation) + 127) // 255
            q = (value * (65025 - saturation * rest) + 32512) // 65025
            t = (value * (65025 - saturation * (255 - rest)) + 32512) // 65025
            if saturation == 0:
                p = q = t = value
            if sector == 1:
                red, green, blue = q, value, p
            elif sector == 2:
                red, green, blue = p, value, t
            elif sector == 3:
                red, green, blue = p, q, value
            elif sector == 4:
                red, green, blue = t, p, value
            elif sector == 5:
                red, green, blue = value, p, q
            else:
                red, green, blue = value, t, p
            out[0, y, x], out[1, y, x], out[2, y, x] = red, green, blue
