# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: what is known when the kernel is compiled)
"""Which operation is a sample's at a step, which all kernels ask first; and what several of them compute, in Triton.

A step is a word and an argument. The word, from its lowest bit: three bits of the kind, which every program of every
launch compares; five of the code, which those that work look at; one for the last step; the layer.
"""

import triton
import triton.language as tl

from gpurender.kernels.image_ops.ops import Kind, Operation

COPY, LUT, PIXEL, STENCIL, BLUR, AFFINE = (tl.constexpr(int(kind)) for kind in Kind)
DONE = tl.constexpr(7)  # the kind of no operation any more
CODE, LAST, LAYER = tl.constexpr(8), tl.constexpr(256), tl.constexpr(512)  # units of a word's fields
OPERATIONS = tl.constexpr(len(Operation))
COLUMNS = tl.constexpr(3)  # of the table of operations: kind, lowest and highest argument


@triton.jit(do_not_specialize=["count", "layers", "possible"])
def plan_steps(
    operations,
    arguments,
    specs,
    plan,
    values,
    count: tl.int32,
    layers: tl.int32,
    possible: tl.int32,
    SIZE: tl.constexpr,
):
    """Write the steps of each sample: plan int32 and values float64 [count, layers], its words and their arguments.

    Operations come before those that are IDENTITY; a sample of these alone has one of them as its last. Behind the last
    all are DONE. Arguments are forced into the range of the operation, NaN to its least. ``possible`` has one bit
    per code; all other codes are treated as IDENTITY.
    """
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used, row = n < count, n.to(tl.int64) * layers
    total = tl.zeros((SIZE,), tl.int32)
    for layer in range(layers):
        total += (code_at(operations + row + layer, used, possible) > 0).to(tl.int32)
    step = tl.zeros((SIZE,), tl.int32)
    for layer in range(layers):
        code = code_at(operations + row + layer, used, possible)
        found, spec = used & (code > 0), specs + COLUMNS * code
        kind, low, high = tl.load(spec).to(tl.int32), tl.load(spec + 1), tl.load(spec + 2)
        argument = tl.load(arguments + row + layer, mask=used, other=0.0)
        argument = tl.where(argument >= low, argument, low)
        argument = tl.where(argument <= high, argument, high)
        word = kind + CODE * code + tl.where(step == total - 1, LAST, 0) + LAYER * layer
        tl.store(plan + row + step, word, mask=found)
        tl.store(values + row + step, argument, mask=found)
        step += found.to(tl.int32)
    for behind in range(layers):
        word = tl.where((behind == 0) & (total == 0), COPY + LAST, DONE)
        tl.store(plan + row + behind, word, mask=used & (behind >= total))
        tl.store(values + row + behind, tl.zeros((SIZE,), tl.float64), mask=used & (behind >= total))


@triton.jit
def code_at(place, used, possible):
    """Return the code at a place, IDENTITY for what is none of those expected."""
    code = tl.load(place, mask=used, other=0)
    code = tl.where((code >= 0) & (code < OPERATIONS), code, 0)
    return tl.where(((possible >> code) & 1) != 0, code, 0)


@triton.jit
def kind_of(word):
    """Return which kernel does a step."""
    return word & 7


@triton.jit
def code_of(word):
    """Return the operation of a step."""
    return (word >> 3) & 31


@triton.jit
def layer_of(word):
    """Return where the operation of a step stands in the chain."""
    return word >> 9


@triton.jit
def is_last(word):
    """Return whether a step writes the result."""
    return (word & LAST) != 0


@triton.jit
def blended(degenerate, image, factor):
    """Return byte degenerate + factor (image - degenerate), in float32 as Pillow's Image.blend; operands int32."""
    mixed = degenerate.to(tl.float32) + factor * (image - degenerate).to(tl.float32)
    mixed = tl.where(mixed > 0.0, mixed, 0.0)
    return tl.where(mixed < 255.0, mixed, 255.0).to(tl.int32)


@triton.jit
def grey_of(red, green, blue):
    """Return Pillow's luma of int32 bytes."""
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
