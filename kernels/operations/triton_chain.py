# mypy: disable-error-code="no-untyped-def"
"""Which operation a program has to do: what all kernels of a step ask first."""

import triton
import triton.language as tl

from gpurender.kernels import operations
from gpurender.kernels.operations import Operation

AUTO_CONTRAST = tl.constexpr(int(Operation.AUTO_CONTRAST))
EQUALIZE = tl.constexpr(int(Operation.EQUALIZE))
INVERT = tl.constexpr(int(Operation.INVERT))
POSTERIZE = tl.constexpr(int(Operation.POSTERIZE))
SOLARIZE = tl.constexpr(int(Operation.SOLARIZE))
SOLARIZE_ADD = tl.constexpr(int(Operation.SOLARIZE_ADD))
BRIGHTNESS = tl.constexpr(int(Operation.BRIGHTNESS))
CONTRAST = tl.constexpr(int(Operation.CONTRAST))
COLOR = tl.constexpr(int(Operation.COLOR))
HUE = tl.constexpr(int(Operation.HUE))
SHARPNESS = tl.constexpr(int(Operation.SHARPNESS))
GAUSSIAN_BLUR = tl.constexpr(int(Operation.GAUSSIAN_BLUR))
GAUSSIAN_KERNEL = tl.constexpr(int(Operation.GAUSSIAN_KERNEL))
ROTATE = tl.constexpr(int(Operation.ROTATE))
LAST = tl.constexpr(int(max(Operation)))
NONE = tl.constexpr(-1)
MAX_ARGUMENT = tl.constexpr(operations.MAX_ARGUMENT)
MAX_RADIUS = tl.constexpr(operations.MAX_RADIUS)
MAX_SIGMA = tl.constexpr(operations.MAX_SIGMA)


@triton.jit
def operation_at(operations, n, layers, step, among):
    """The step-th operation of sample n that is none of IDENTITY: its code, its layer, and whether it is the last.

    ``among`` has a bit for each code: others count as IDENTITY, and codes beyond the range as the nearest in it. A
    sample with none has IDENTITY at step 0. The code is NONE where the chain has ended before.
    """
    code, layer, count = step * 0, step * 0, step * 0
    for i in range(layers):
        here = tl.minimum(tl.maximum(tl.load(operations + n * layers + i), 0), LAST)
        here = tl.where(((among >> here) & 1) != 0, here, 0)
        found = (here > 0) & (count == step)
        code = tl.where(found, here, code)
        layer = tl.where(found, i, layer)
        count += (here > 0).to(tl.int32)
    code = tl.where((step > 0) & (step >= count), NONE, code)
    return code, layer, step >= count - 1


@triton.jit
def argument_of(arguments, code, place, used=None):
    """The argument at a place, float64, forced into the range of the operation; its least where it is NaN."""
    high = tl.where(code == POSTERIZE, 8.0, MAX_ARGUMENT)
    high = tl.where(code == HUE, 0.5, high)
    high = tl.where(code == GAUSSIAN_BLUR, MAX_RADIUS, high)
    high = tl.where(code == GAUSSIAN_KERNEL, MAX_SIGMA, high).to(tl.float64)
    positive = (code == POSTERIZE) | ((code >= SOLARIZE_ADD) & (code <= COLOR))
    positive = positive | (code == SHARPNESS) | (code == GAUSSIAN_BLUR)
    low = tl.where(positive, 0.0, -MAX_ARGUMENT)
    low = tl.where(code == HUE, -0.5, low)
    low = tl.where(code == GAUSSIAN_KERNEL, 0.1, low).to(tl.float64)
    argument = tl.load(arguments + place, mask=used)
    argument = tl.where(argument >= low, argument, low)
    return tl.where(argument <= high, argument, high)


@triton.jit
def blended(degenerate, image, factor):
    """Byte degenerate + factor (image - degenerate), in float32 as Pillow's Image.blend; operands int32."""
    mixed = degenerate.to(tl.float32) + factor * (image - degenerate).to(tl.float32)
    mixed = tl.where(mixed > 0.0, mixed, 0.0)
    return tl.where(mixed < 255.0, mixed, 255.0).to(tl.int32)


@triton.jit
def grey_of(red, green, blue):
    """Pillow's luma of int32 bytes."""
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
