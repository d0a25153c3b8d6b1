# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: what is known when the kernel is compiled)
"""RandAugment's and AutoAugment's draws in Triton: what ``augment.auto_augment.AutoAugment.draw`` computes in torch.

One launch in the place of some sixty; float64 from + − × ÷ alone, each rounded by itself, in the same order.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.device.triton_quantiles import symmetric
from gpurender.kernels.philox.gpu import bounded, uniform, words_at
from gpurender.kernels.resized_crop import BILINEAR, LayerLaw
from gpurender.numerics.streams import Stream

LAYER = tl.constexpr(int(Stream.LAYER))
LOWEST = tl.constexpr(BILINEAR)
COLUMNS = tl.constexpr(10)  # of the table of laws
NO_SPREAD, NORMAL, UNIFORM = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
BLOCK = 32  # samples a program: a batch of 256 occupies eight processors for some microseconds


@triton.jit
def argument_of(law, level, spread, last, std, highest, normals, low, high, SPREAD: tl.constexpr):
    """The argument of a level, by the law whose numbers stand at ``law``."""
    if SPREAD == UNIFORM:
        level = level * uniform(spread)
    elif SPREAD == NORMAL:
        level = level + std * symmetric(normals, spread)
    level = tl.minimum(tl.maximum(level, 0.0), highest)
    v = tl.minimum(level / 10.0 * tl.load(law + 2), tl.load(law + 7))
    v = tl.where(tl.load(law + 3) != 0.0, v.to(tl.int64).to(tl.float64), v)
    v = tl.where((tl.load(law + 4) != 0.0) & ((last >> 31) != 0), -v, v)
    offset = tl.load(law + 6)
    argument = tl.maximum(tl.where(tl.load(law + 5) != 0.0, offset - v, offset + v), tl.load(law + 8))
    radius = low + (high * argument - low) * ((last & 0xFFFFFF).to(tl.float64) * 5.9604644775390625e-8)  # 2^-24
    return tl.where(tl.load(law + 9) != 0.0, radius, argument)


@triton.jit(do_not_specialize=["count", "seed"])
def draw(
    numbers,
    laws,
    codes,
    shares,
    normals,
    operations,
    arguments,
    interpolations,
    count: tl.int32,
    seed: tl.uint64,
    std: tl.float64,
    highest: tl.float64,
    low: tl.float64,
    high: tl.float64,
    ALTERNATIVES: tl.constexpr,
    LANES: tl.constexpr,
    LAYERS: tl.constexpr,
    DEPTH: tl.constexpr,
    SPREAD: tl.constexpr,
    INTERPOLATION: tl.constexpr,
    SIZE: tl.constexpr,
):
    """operations int32, arguments float64, interpolations uint8, [N, LAYERS * DEPTH] each, of numbers int64 [N]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = index < count
    number = tl.load(numbers + index, mask=used, other=0)
    lane = tl.arange(0, LANES)[None, :]
    left = tl.zeros((SIZE, LANES), tl.int64)
    if shares is not None:
        left += tl.load(shares + lane, mask=lane < ALTERNATIVES, other=0)
    for layer in tl.static_range(LAYERS):
        choice = tl.zeros((SIZE,), tl.int64)
        for d in tl.static_range(DEPTH):
            place = layer * DEPTH + d
            chosen, chance, spread, last = words_at(seed, LAYER, number, index * 0 + place)
            if d == 0:
                if shares is None:
                    choice = bounded(chosen, index * 0 + ALTERNATIVES)
                else:
                    ends = tl.cumsum(left, 1)
                    point = bounded(chosen, tl.sum(left, 1))
                    beyond = (ends <= point[:, None]) & (lane < ALTERNATIVES)
                    choice = tl.sum(beyond.to(tl.int64), 1)
                    left = tl.where(lane == choice[:, None], 0, left)
            law = laws + (choice * DEPTH + d) * COLUMNS
            code = tl.load(codes + choice * DEPTH + d)
            applied = uniform(chance) < tl.load(law)
            argument = argument_of(law, tl.load(law + 1), spread, last, std, highest, normals, low, high, SPREAD)
            target = index.to(tl.int64) * (LAYERS * DEPTH) + place
            tl.store(operations + target, tl.where(applied, code, 0).to(tl.int32), mask=used)
            tl.store(arguments + target, argument, mask=used)
            if INTERPOLATION is None:
                tl.store(interpolations + target, (((last >> 30) & 1) + LOWEST).to(tl.uint8), mask=used)
            else:
                tl.store(interpolations + target, tl.full((SIZE,), INTERPOLATION, tl.uint8), mask=used)


def draw_layers(
    numbers: torch.Tensor, seed: int, law: LayerLaw, interpolation: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Operations int32, arguments float64, interpolations uint8, [N, L] each, on the device of numbers int64 [N]."""
    n, device = len(numbers), numbers.device
    alternatives, depth, _ = law.laws.shape
    shape = (n, law.layers * depth)
    operations = torch.empty(shape, dtype=torch.int32, device=device)
    arguments = torch.empty(shape, dtype=torch.float64, device=device)
    interpolations = torch.empty(shape, dtype=torch.uint8, device=device)
    spread = NO_SPREAD if law.std == 0.0 else UNIFORM if law.std == float("inf") else NORMAL
    if n:
        with torch.cuda.device_of(numbers):
            draw[(triton.cdiv(n, BLOCK),)](
                numbers, law.laws, law.codes, law.shares, law.normals, operations, arguments, interpolations, n, seed,
                0.0 if spread is UNIFORM else law.std, law.highest, *law.radii, alternatives,
                triton.next_power_of_2(alternatives), law.layers, depth, spread.value, interpolation, BLOCK,
                num_warps=1, enable_fp_fusion=False,
            )  # fmt: skip
    return operations, arguments, interpolations
