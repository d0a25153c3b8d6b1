# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""The plan of a chain's steps, which all kernels read first, and functions that several kernels share, in Triton.

A step is a word and an argument. The fields of the word, from its lowest bit: three bits for the kind, which every
program of every launch compares; five for the code, which the programs with work read; one for the last step; the rest
for the layer.
"""

import triton
import triton.language as tl

from gpurender.kernels.image_ops.ops import Kind, Operation

COPY, LUT, PIXEL, STENCIL, BLUR, AFFINE = (tl.constexpr(int(kind)) for kind in Kind)
DONE = tl.constexpr(7)  # the kind after the last step
CODE, LAST, LAYER = tl.constexpr(8), tl.constexpr(256), tl.constexpr(512)  # units of a word's fields
OPERATIONS = tl.constexpr(len(Operation))
COLUMNS = tl.constexpr(3)  # columns of the table of operations: kind, lowest and highest argument


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
    """Write each sample's steps: words to plan int32 and arguments to values float64, [count, layers] each.

    The operations other than IDENTITY come first; a sample without any has one IDENTITY as its last step. All steps
    after the last are DONE. Arguments are forced into the range of the operation, NaN to its lowest argument.
    ``possible`` has one bit per code; all other codes are treated as IDENTITY.
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
    """Return the code at an address, IDENTITY for an unknown code or one that is not possible."""
    code = tl.load(place, mask=used, other=0)
    code = tl.where((code >= 0) & (code < OPERATIONS), code, 0)
    return tl.where(((possible >> code) & 1) != 0, code, 0)


@triton.jit
def kind_of(word):
    """Return the kind of a step's operation."""
    return word & 7


@triton.jit
def code_of(word):
    """Return the code of a step's operation."""
    return (word >> 3) & 31


@triton.jit
def layer_of(word):
    """Return the place of a step's operation in the chain."""
    return word >> 9


@triton.jit
def is_last(word):
    """Return whether a step writes the result."""
    return (word & LAST) != 0


@triton.jit
def blended(degenerate, image, factor):
    """Return degenerate + factor (image - degenerate) as a byte, in float32 as Pillow's Image.blend; operands int32."""
    mixed = degenerate.to(tl.float32) + factor * (image - degenerate).to(tl.float32)
    mixed = tl.where(mixed > 0.0, mixed, 0.0)
    return tl.where(mixed < 255.0, mixed, 255.0).to(tl.int32)


@triton.jit
def grey_of(red, green, blue):
    """Return Pillow's luma of int32 bytes."""
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
