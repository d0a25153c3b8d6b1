# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: what is known when the kernel is compiled)
"""Which operation is a sample's at a step, which all kernels ask first; and what several of them compute, in Triton."""

import triton
import triton.language as tl

from gpurender.kernels import image_ops as operations
from gpurender.kernels.image_ops import Operation

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
HIGHEST = tl.constexpr(int(max(Operation)))
NONE = tl.constexpr(31)  # no operation any more
CODE, LAST, LAYER = tl.constexpr(31), tl.constexpr(32), tl.constexpr(64)
MAX_ARGUMENT = tl.constexpr(operations.MAX_ARGUMENT)
MAX_RADIUS = tl.constexpr(operations.MAX_RADIUS)
MAX_SIGMA = tl.constexpr(operations.MAX_SIGMA)


@triton.jit(do_not_specialize=["count", "layers", "among"])
def plan_steps(operations, plan, count: tl.int32, layers: tl.int32, among: tl.int32, SIZE: tl.constexpr):
    """plan int32 [count, layers]: of each sample's step its code, 32 if it is the last, and 64 times its layer.

    Operations come before those that are IDENTITY; a sample of these alone has one of them as its last. Behind the last
    is NONE. ``among`` has a bit for each code; others, and what is no code, are taken for IDENTITY.
    """
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used, row = n < count, n.to(tl.int64) * layers
    total = tl.zeros((SIZE,), tl.int32)
    for layer in range(layers):
        total += (code_at(operations + row + layer, used, among) > 0).to(tl.int32)
    step = tl.zeros((SIZE,), tl.int32)
    for layer in range(layers):
        code = code_at(operations + row + layer, used, among)
        found = code > 0
        word = code + tl.where(step == total - 1, LAST, 0) + LAYER * layer
        tl.store(plan + row + step, word, mask=used & found)
        step += found.to(tl.int32)
    for behind in range(layers):
        word = tl.where((behind == 0) & (total == 0), LAST, NONE)
        tl.store(plan + row + behind, word, mask=used & (behind >= total))


@triton.jit
def code_at(place, used, among):
    """The code at a place, IDENTITY for what is none of those expected."""
    code = tl.load(place, mask=used, other=0)
    code = tl.where((code >= 0) & (code <= HIGHEST), code, 0)
    return tl.where(((among >> code) & 1) != 0, code, 0)


@triton.jit
def operation_at(plan, n, layers, step):
    """What a sample does at a step: its code, its layer, and whether it is the last."""
    word = tl.load(plan + n * layers + step)
    return word & CODE, word // LAYER, (word & LAST) != 0


@triton.jit
def argument_of(arguments, code, place, used=None):
    """The argument at a place, float64, forced into the range of the operation; its least where it is NaN."""
    zero = (code * 0).to(tl.float64)  # a plain number in tl.where would be rounded to float32
    high = tl.where(code == POSTERIZE, zero + 8.0, zero + MAX_ARGUMENT)
    high = tl.where(code == HUE, zero + 0.5, high)
    high = tl.where(code == GAUSSIAN_BLUR, zero + MAX_RADIUS, high)
    high = tl.where(code == GAUSSIAN_KERNEL, zero + MAX_SIGMA, high)
    positive = (code == POSTERIZE) | ((code >= SOLARIZE_ADD) & (code <= COLOR))
    positive = positive | (code == SHARPNESS) | (code == GAUSSIAN_BLUR)
    low = tl.where(positive, zero, zero - MAX_ARGUMENT)
    low = tl.where(code == HUE, zero - 0.5, low)
    low = tl.where(code == GAUSSIAN_KERNEL, zero + 0.1, low)
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
