"""What Triton makes of its kernels for a training step: registers, local memory, instructions. No GPU is needed.

Launches are recorded with nothing run, and compiled as Triton's own launcher specialises them. Needs the extra `test`.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget

import gpurender as gr
from bench import sass
from gpurender.augment.rand_augment import parsed
from gpurender.kernels.chaos_game import Instances, parts_of
from gpurender.kernels.image_ops import apply_ops
from gpurender.kernels.image_ops import gpu as image_ops
from gpurender.kernels.mix_erase import Erasing, Mixing, mix_erase
from gpurender.kernels.philox import words
from gpurender.kernels.shuffle import addresses
from gpurender.kernels.soft_targets import soft_targets
from gpurender.kernels.visual_atom import draw_centres
from gpurender.numerics.streams import Stream
from tests.support.triton_paths import CPU, gpu_path

Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]  # kernel, arguments, options

TYPES = {
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float32: "fp32",
    torch.float64: "fp64",
}


@dataclass
class TritonKernel:
    """A Triton kernel as specialised for one launch and compiled for one architecture.

    Attributes:
        name, variant: of the kernel, and its constants.
        local_bytes: stack and spills per thread.
        instructions: of the whole kernel.
        loops: instructions of each innermost loop.
    """

    name: str
    variant: str
    architecture: str
    warps: int
    registers: int
    local_bytes: int
    instructions: int
    loops: list[int]


def inspect(architecture: str) -> list[TritonKernel]:
    """Return the kernels of a training step for an architecture, such as ``"sm_90"``."""
    return [_read(launch, asm["cubin"], architecture) for launch, asm in compiled(architecture)]


def compiled(architecture: str) -> Iterator[tuple[Launch, dict[str, Any]]]:
    """Yield a launch of each specialisation, and its code by name: ``"ptx"``, ``"cubin"`` and others."""
    target, seen = GPUTarget("cuda", int(architecture[3:]), 32), set()
    for launch in training_step():
        made = source(*launch[:2])
        if made.hash() not in seen:
            seen.add(made.hash())
            yield launch, triton.compile(made, target=target, options=launch[2]).asm


def _read(launch: Launch, binary: bytes, architecture: str) -> TritonKernel:
    kernel, arguments, options = launch
    registers, local_bytes = usage(binary)
    ((body, labels),) = sass.instructions(binary).values()
    loops = [last - first + 1 for first, last in sass.innermost(sass.loop_spans(body, labels))]
    named = zip(kernel.params, arguments, strict=True)
    variant = " ".join(f"{parameter.name}={value}" for parameter, value in named if parameter.is_constexpr)
    return TritonKernel(
        kernel.fn.__name__, variant, architecture, options["num_warps"], registers, local_bytes, len(body), loops
    )


def table(kernels: list[TritonKernel]) -> str:
    """Return one line per kernel and architecture: the ranges over its variants."""
    lines = [f"{'Triton kernel':<18}{'chip':<8}{'variants':>9}{'registers':>14}{'local':>7}{'instructions':>16}"]
    groups: dict[tuple[str, str], list[TritonKernel]] = {}
    for kernel in kernels:
        groups.setdefault((kernel.name, kernel.architecture), []).append(kernel)
    for (name, chip), some in groups.items():
        registers, sizes = [k.registers for k in some], [k.instructions for k in some]
        lines.append(
            f"{name:<18}{chip:<8}{len(some):>9}{f'{min(registers)} to {max(registers)}':>14}"
            f"{max(k.local_bytes for k in some):>7}{f'{min(sizes):,} to {max(sizes):,}':>16}"
        )
    return "\n".join(lines)


def source(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the source of a launch as Triton's launcher specialises it: ones are constants, multiples of 16 known."""
    signature, constants, attributes = {}, {}, {}
    for i, (parameter, value) in enumerate(zip(kernel.params, arguments, strict=True)):
        signature[parameter.name] = "constexpr"
        if parameter.is_constexpr or value is None:
            constants[(i,)] = value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + TYPES[value.dtype]
            attributes[(i,)] = [["tt.divisibility", 16]]  # as torch allocates
        elif value == 1 and not parameter.do_not_specialize:
            constants[(i,)] = value
        else:
            signature[parameter.name] = parameter.annotation_type or "i32"
            if not isinstance(value, float) and value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(i,)] = [["tt.divisibility", 16]]
    return triton.compiler.ASTSource(kernel, signature, constants, attributes)


def usage(binary: bytes) -> tuple[int, int]:
    """Return registers per thread, and bytes of local memory per thread (stack and spills), of a cubin."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(binary)
        command = [sass.tool("cuobjdump"), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return found["REG"], found["STACK"] + found["LOCAL"]


# ------------------------------------------------------------------------------------------------------------ launches


def training_step() -> list[Launch]:
    """Return every launch of a training step on grey and colour canvases; none of them is run."""
    found: list[Launch] = []

    def record(self: Any, *arguments: Any, grid: Any, warmup: Any, **options: Any) -> None:
        found.append((self, arguments, options))

    with gpu_path(CPU), mock.patch.object(triton.runtime.jit.JITFunction, "run", record):
        _addresses_and_draws()
        _mixing_and_erasing()
        _draws_and_operations()
    return found


def _addresses_and_draws() -> None:
    cursor, policy = torch.tensor([0, 0]), gr.augment.Crop(interpolation="random")
    for shuffle in (True, False):
        addresses(cursor, 256, length=1_000_000, seed=42, instances=1000, shuffle=shuffle)
    draw_ids = torch.zeros(2, dtype=torch.int64)
    words(42, Stream.PERTURBATION, draw_ids, 11)
    orientations = torch.zeros(4, dtype=torch.uint8)
    for shares in (True, False):
        parts_of(draw_ids, draw_ids, orientations, Instances(1000, 4, 10, 25, shares_masks=shares))
        draw_centres(draw_ids, seed=42, size=512, low=-512, high=512, whole=shares)
    policy.draw(draw_ids)


def _mixing_and_erasing() -> None:
    for channels, tables, dtype, mode, boxes, memory_format, size in [
        (1, 1, torch.float32, "pixel", 1, torch.contiguous_format, 224),
        (1, 3, torch.float32, "pixel", 1, torch.contiguous_format, 224),
        (3, 3, torch.float16, "pixel", 1, torch.channels_last, 224),
        (3, 1, torch.bfloat16, "pixel", 8, torch.contiguous_format, 224),
        (1, 1, torch.float16, "rand", 3, torch.contiguous_format, 224),
        (3, 3, torch.float32, "const", 1, torch.channels_last, 384),
        (1, 3, torch.float64, "pixel", 64, torch.contiguous_format, 33),
        (3, 1, torch.float16, "pixel", 1, torch.contiguous_format, 33),
    ]:
        mixing = Mixing(
            torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.int32)
        )
        erasing = Erasing(torch.zeros(2, boxes, 4, dtype=torch.int32), torch.zeros(2, dtype=torch.int64), mode)
        images, lut = torch.zeros(2, channels, size, size, dtype=torch.uint8), torch.zeros(tables, 256, dtype=dtype)
        mix_erase(images, lut, mixing, erasing, memory_format)
    mix_erase(torch.zeros(2, 1, 224, 224, dtype=torch.uint8), torch.zeros(1, 256), None, None)
    labels, weights = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.float64)
    soft_targets(labels, weights, 1000, 0.1)
    soft_targets(labels, None, 1001, 0.1)


def _draws_and_operations() -> None:
    """Launch DeiT's draws and operations: the papers', and others that compile to other code."""
    draw_ids = torch.zeros(2, dtype=torch.int64)
    for policy in (
        gr.augment.DeiT(),
        gr.augment.DeiT(auto_augment="rand-n3-tweights-mstd101", interpolation="random", mixup_mode="elem", re_count=4),
        gr.augment.DeiT(auto_augment="3a", color_jitter=None, mixup_mode="pair", cutmix_minmax=(0.2, 0.8)),
        gr.augment.DeiT(auto_augment="v0", mixup_alpha=0.0, mixup_mode="elem", correct_lam=False),
    ):
        policy.draw(draw_ids)
    images = torch.zeros(2, 3, 224, 224, dtype=torch.uint8)
    operations, arguments = torch.zeros((2, 2), dtype=torch.int32), torch.zeros((2, 2), dtype=torch.float64)
    interpolations = torch.zeros((2, 2), dtype=torch.uint8)
    for given in (images, images[:, :1].contiguous(), images[:, :, :33, :35].contiguous()):
        apply_ops(given, operations, arguments, interpolations, (9, 9, 9))
    apply_ops(images, operations, arguments, interpolations, (9, 9, 9), parsed("rand-inc1").operations)
    with mock.patch.object(image_ops, "fast_double", return_value=False):  # as on other cards than those compiled for
        for given in (images, images[:, :1].contiguous()):
            apply_ops(given, operations, arguments, interpolations, (9, 9, 9))
