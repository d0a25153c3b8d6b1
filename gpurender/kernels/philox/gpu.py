# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Philox4x32-10 in Triton; the formula is in ``cpu.py``."""

import torch
import triton
import triton.language as tl

M0 = tl.constexpr(0xD2511F53)
M1 = tl.constexpr(0xCD9E8D57)
W0 = tl.constexpr(0x9E3779B9)
W1 = tl.constexpr(0xBB67AE85)
ROUNDS = tl.constexpr(10)
UNIT = tl.constexpr(2.0**-24)
BLOCK = 128  # blocks of four words per program: one per thread, nothing is shared


@triton.jit
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Return four uint32 from a counter of four uint32 and a key of two, elementwise."""
    for _ in tl.static_range(ROUNDS):
        high0, low0 = tl.umulhi(c0, M0), c0 * M0
        high1, low1 = tl.umulhi(c2, M1), c2 * M1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + W0, k1 + W1
    return c0, c1, c2, c3


@triton.jit
def words_at(seed, stream: tl.constexpr, number, block):
    """Return the four words at (seed, stream, draw id, block): uint32, in the broadcast shape of number and block."""
    seed, number = seed.to(tl.uint64), number.to(tl.uint64)
    block = block.to(tl.uint32)
    purpose = tl.full(block.shape, stream, tl.uint32)
    low, high = number.to(tl.uint32), (number >> 32).to(tl.uint32)
    return philox4x32(block, purpose, low, high, seed.to(tl.uint32), (seed >> 32).to(tl.uint32))


@triton.jit
def uniform(word):
    """Return ``philox.uniform`` of a word; float64 in [0, 1)."""
    return (word >> 8).to(tl.float64) * UNIT


@triton.jit
def bounded(word, n):
    """Return ``philox.bounded`` of a word; int64 in [0, n)."""
    return ((word.to(tl.uint64) * n.to(tl.uint64)) >> 32).to(tl.int64)


@triton.jit(do_not_specialize=["count", "blocks", "seed"])
def draw_words(
    draw_ids, out, count: tl.int64, blocks: tl.int64, seed: tl.uint64, STREAM: tl.constexpr, SIZE: tl.constexpr
):
    """Set out[i, b] to the four words at (seed, STREAM, draw_ids[i], b); out int64 [count / blocks, blocks, 4]."""
    index = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    used = index < count
    number = tl.load(draw_ids + index // blocks, mask=used, other=0)
    w0, w1, w2, w3 = words_at(seed, STREAM, number, index % blocks)
    tl.store(out + 4 * index, w0.to(tl.int64), mask=used)
    tl.store(out + 4 * index + 1, w1.to(tl.int64), mask=used)
    tl.store(out + 4 * index + 2, w2.to(tl.int64), mask=used)
    tl.store(out + 4 * index + 3, w3.to(tl.int64), mask=used)


def words(draw_ids: torch.Tensor, seed: int, stream: int, blocks: int) -> torch.Tensor:
    """Return the words of draw ids int64 [n] on their device: int64 [n, 4 * blocks]."""
    out = torch.empty((len(draw_ids), 4 * blocks), dtype=torch.int64, device=draw_ids.device)
    count = len(draw_ids) * blocks
    if count:
        with torch.cuda.device_of(draw_ids):
            draw_words[(-(-count // BLOCK),)](
                draw_ids, out, count, blocks, seed, stream, BLOCK, num_warps=4, enable_fp_fusion=False
            )
    return out
