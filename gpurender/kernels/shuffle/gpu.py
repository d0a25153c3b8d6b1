# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""The addresses of a batch in Triton; the formulas are in ``cpu.py``.

Coordinates are below 2^31 and words below 2^32, so all products fit 63 bits.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.philox.gpu import bounded, words_at
from gpurender.kernels.shuffle import params
from gpurender.numerics.streams import Stream

ROUNDS = tl.constexpr(params.ROUNDS)
STREAM = tl.constexpr(int(Stream.ORDER))
BLOCK = 32  # positions per program: a warp waits only for its longest walk; small batches use many multiprocessors


@triton.jit
def turned(value, by, side):
    """Return (value + by) mod side, both in [0, side)."""
    moved = value + by
    return tl.where(moved >= side, moved - side, moved)


@triton.jit
def scrambled(cells, columns, rows, seed, epoch):
    """Apply the rounds to cells of the table, int64 in [0, columns * rows)."""
    row, column = cells // columns, cells % columns
    for i in range(0, ROUNDS, 2):
        number = epoch * ROUNDS + i
        word, _, _, _ = words_at(seed, STREAM, number, row)
        column = turned(column, bounded(word, columns), columns)
        word, _, _, _ = words_at(seed, STREAM, number + 1, column)
        row = turned(row, bounded(word, rows), rows)
    return row * columns + column


@triton.jit(do_not_specialize=["count", "length", "columns", "rows", "seed", "instances", "repeats"])
def place(
    cursor,
    indices,
    draw_ids,
    labels,
    count: tl.int32,
    length: tl.int64,
    columns: tl.int64,
    rows: tl.int64,
    seed: tl.uint64,
    instances: tl.int64,
    repeats: tl.int64,
    SHUFFLE: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Compute indices, draw ids and labels, int64 [count] each, at the cursor's epoch and position, int64 [2]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = index < count
    epoch = tl.load(cursor)
    position = tl.minimum(tl.maximum(tl.load(cursor + 1), 0), length - 1)  # from another cell a walk might not end
    cells = (position + index) % length // repeats
    if SHUFFLE:
        outside = used
        while tl.max(outside.to(tl.int32), 0) > 0:
            cells = tl.where(outside, scrambled(cells, columns, rows, seed, epoch), cells)
            outside = outside & (cells >= length)
    tl.store(indices + index, cells, mask=used)
    tl.store(draw_ids + index, cells + epoch * length, mask=used)
    tl.store(labels + index, cells // instances, mask=used)


def addresses(
    cursor: torch.Tensor, count: int, length: int, seed: int, instances: int, shuffle: bool, repeats: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return indices, draw ids and labels, int64 [count] each, on the cursor's device."""
    indices, draw_ids, labels = (torch.empty(count, dtype=torch.int64, device=cursor.device) for _ in range(3))
    columns, rows = params.grid_shape(length)
    if count:
        with torch.cuda.device_of(cursor):
            place[(-(-count // BLOCK),)](
                cursor.contiguous(), indices, draw_ids, labels, count, length, columns, rows, seed, instances, repeats,
                shuffle, BLOCK, num_warps=1, enable_fp_fusion=False,
            )  # fmt: skip
    return indices, draw_ids, labels
