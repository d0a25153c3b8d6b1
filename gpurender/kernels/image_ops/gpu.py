"""Chains of operations in Triton, with the bytes of ``cpu.py``. Each ``gpu_X.py`` has the formulas of ``cpu_X.py``.

A batch is processed step by step: step k applies the k-th operation, other than IDENTITY, of every sample. The step's
kernels run over all samples, and a program returns at once if its sample's operation belongs to another kernel or its
sample's chain has ended. A sample's last operation writes the result; the operations before it alternate between two
scratch images. A sample without operations is copied at the first step. So operations that are not drawn cost only
these programs.

A step has up to five launches: the tables of the operations of kind LUT, which may have to read their images; the
operations on pixels by themselves, and SHARPNESS; the operations that move pixels; and the blurs, along rows and along
columns. An operation's kind, in the table of ``ops.py``, says which launch performs the operation.
"""

import functools
import itertools
from collections.abc import Collection
from typing import NamedTuple

import torch
import triton.language as tl

from gpurender.kernels.image_ops.gpu_affine import move
from gpurender.kernels.image_ops.gpu_filters import COLUMNS, ROWS, WEIGHTS, blur, weigh
from gpurender.kernels.image_ops.gpu_matrices import coefficients
from gpurender.kernels.image_ops.gpu_plan import plan_steps
from gpurender.kernels.image_ops.gpu_pointwise import change, tabulate
from gpurender.kernels.image_ops.ops import Kind, Operation
from gpurender.kernels.image_ops.tables import specs

EVERY = tuple(Operation)
PLANNED = 128  # samples, or operations, per program that only reads chains
SCANNED = 4096  # bytes read at once from an image that is read for its table
# Pixels that a program of four warps has at once, and in total. The total is large, so that the programs that return at
# once, because their image has another kind of operation, are a small part of a launch.
CHANGED, CHANGED_SPAN = 512, 8192
MOVED, MOVED_SPAN = (32, 2), 32  # columns and rows that a program of one warp has at once, and rows in total
BLURRED = 1024
# Registers per thread, at most: for twenty warps per multiprocessor; for fourteen that move three channels, where one
# channel leaves room for sixteen. By default the compiler takes fewer and spills some.
BLURRED_REGISTERS, MOVED_REGISTERS = 96, 144
# Compute capabilities with half of float32's rate in float64; all others of Volta and later have a 32nd or a 64th.
FAST_DOUBLE = ((7, 0), (8, 0), (9, 0), (10, 0))


@functools.cache
def fast_double(device: torch.device) -> bool:
    """Return whether a device computes float64 fast; the CPU, on which Triton is interpreted, does."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) in FAST_DOUBLE


class Occurring(NamedTuple):
    """What may occur in a chain: one bit per code, and whether tables, moves, blurs, and blurs by a kernel."""

    codes: int
    tables: bool
    moves: bool
    blurs: bool
    kernels: bool


@functools.cache
def occurring(possible: frozenset[Operation]) -> Occurring:
    """Return what occurs if only the operations ``possible`` do."""
    kinds = {Operation(code).spec.kind for code in possible}
    return Occurring(
        sum(1 << code for code in possible), Kind.LUT in kinds, Kind.AFFINE in kinds, Kind.BLUR in kinds,
        Operation.GAUSSIAN_KERNEL in possible,
    )  # fmt: skip


def apply_ops(
    images: torch.Tensor,
    operations: torch.Tensor,
    arguments: torch.Tensor,
    interpolations: torch.Tensor,
    fill: tuple[int, int, int],
    possible: Collection[Operation] = EVERY,
) -> torch.Tensor:
    """Apply the chains of images uint8 [N, C, H, W]: operations int32, arguments float64, interpolations uint8 [N, L].

    possible: the operations that may occur. Others are treated as IDENTITY, and launches only for others are skipped.
    """
    if not images.numel() or not operations.numel():
        return images.clone()
    with torch.cuda.device_of(images):
        return _Batch(images, operations, arguments, interpolations, fill, frozenset(possible)).run()


def index_type(area: int) -> tl.dtype:
    """Return the type of an index of bytes in an image of float32 with so many pixels."""
    return tl.int64 if area > 2**29 else tl.int32


class _Batch:
    """The tensors of one call, and its launches."""

    def __init__(
        self,
        images: torch.Tensor,
        operations: torch.Tensor,
        arguments: torch.Tensor,
        interpolations: torch.Tensor,
        fill: tuple[int, int, int],
        possible: frozenset[Operation],
    ) -> None:
        self.n, self.channels, self.height, self.width = images.shape
        self.layers, self.area = operations.shape[1], self.height * self.width
        self.images, self.chain = images, (operations, arguments)
        self.interpolations, self.fill = interpolations, fill
        self.index = index_type(self.area)
        self.aligned = self.width >= 4 and not (self.area % 8 or images.data_ptr() % 8)  # else byte by byte
        self.result = torch.empty_like(images)
        self.scratch = [torch.empty_like(images) for _ in range(min(self.layers - 1, 2))] or [self.result]
        self.occurring = occurring(possible)
        self.make_room(operations.numel())

    def make_room(self, count: int) -> None:
        """Allocate plan, tables, weights, and an image between a blur's axes: float32 if GAUSSIAN_KERNEL may occur."""
        of = self.images.new_empty
        self.plan, self.values = of(count, dtype=torch.int32), of(count, dtype=torch.float64)
        self.tables = of((self.n, self.channels, 256) if self.occurring.tables else 0)
        if self.occurring.blurs:
            kernels = self.occurring.kernels
            self.weights = of((count, WEIGHTS.value) if kernels else 0, dtype=torch.float32)
            self.pitch = self.area * (4 if kernels else 1)
            self.between = of(self.n * self.channels * self.pitch)
            self.sums = self.between.view(torch.float32) if kernels else self.weights

    def run(self) -> torch.Tensor:
        """Launch all steps and return the result."""
        plan_steps[(-(-self.n // PLANNED),)](
            *self.chain, specs(self.images.device), self.plan, self.values, self.n, self.layers, self.occurring.codes,
            PLANNED,
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
        if self.occurring.moves:
            self.coefficients = coefficients(*self.chain, self.height, self.width)
        if self.occurring.kernels:
            count = self.n * self.layers
            weigh[(-(-count // PLANNED),)](
                self.plan, self.values, self.weights, count, PLANNED, num_warps=4, enable_fp_fusion=False
            )
        source = self.images
        for step, scratch in zip(range(self.layers), itertools.cycle(self.scratch), strict=False):
            self.launch(step, (source, scratch, self.result))
            source = scratch
        return self.result

    def launch(self, step: int, ways: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        """Launch one step of all samples: from source to scratch or result."""
        when, size = (self.layers, step), (self.height, self.width, self.area)
        plan, values = self.plan, self.values
        if self.occurring.tables:
            tabulate[(self.n * self.channels,)](
                ways[0], plan, values, self.tables, *when, self.area, self.channels, self.index, SCANNED,
                num_warps=8, enable_fp_fusion=False,
            )  # fmt: skip
        blocks = -(-self.area // CHANGED_SPAN)
        change[(self.n * blocks,)](
            *ways, plan, values, self.tables, *when, blocks, *size, self.channels, self.index, self.aligned,
            CHANGED, CHANGED_SPAN, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
        if self.occurring.moves:
            across = -(-self.width // MOVED[0])
            blocks = across * -(-self.height // MOVED_SPAN)
            move[(self.n * blocks,)](
                *ways, plan, self.coefficients, self.interpolations, *when, blocks, across, *size, *self.fill,
                self.channels, self.index, self.aligned, not fast_double(self.images.device), *MOVED, MOVED_SPAN,
                num_warps=1, maxnreg=MOVED_REGISTERS, enable_fp_fusion=False,
            )  # fmt: skip
        if self.occurring.blurs:
            for lines, each, vertical in ((self.height, ROWS.value, False), (self.width, COLUMNS.value, True)):
                blocks = -(-lines // each)
                blur[(self.n * self.channels * blocks,)](
                    *ways, self.between, self.sums, plan, values, self.weights, *when, blocks, *size, self.channels,
                    self.pitch, vertical, self.index, BLURRED,
                    num_warps=4, maxnreg=BLURRED_REGISTERS, enable_fp_fusion=False,
                )  # fmt: skip
