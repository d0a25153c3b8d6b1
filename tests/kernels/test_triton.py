"""The Triton kernels without a GPU: interpreted against NumPy and Numba, and compiled for GPUs; with one, run there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment.rand_augment import parsed
from gpurender.kernels.image_ops import apply_ops
from gpurender.kernels.philox import words
from gpurender.kernels.resized_crop import crop_resize
from gpurender.kernels.shuffle import addresses
from gpurender.numerics.streams import Stream

pytest.importorskip("triton")
pytest.importorskip("timm", reason="needs timm, whose functions the kernels are compared with")
pytest.importorskip("torchvision", reason="needs torchvision, whose functions the kernels are compared with")
import triton

from tests.kernels import triton_mix_erase
from tests.kernels.triton_checks import CHECKS
from tests.support import ROOT
from tests.support.triton_paths import CPU, gpu_path

ARCHITECTURES = (80, 90, 100)
NAMES = [check.__name__ for check in CHECKS]
TYPES = {
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float32: "fp32",
    torch.float64: "fp64",
}
NO_SINGLE = r"(?:add|sub|mul|div|sqrt)\.\S*f32"
# Kernels of bytes that Pillow and timm compute in float32, each product and each sum rounded by itself.
SINGLE_PRECISION = ("mix_erase_pixels", "tabulate", "change", "blur", "weigh", "draw")


@pytest.fixture(scope="module")
def interpreted():
    """Of each check by name: its traceback in a process that interprets Triton, empty if it passed, and its seconds."""
    words = [sys.executable, "-m", "tests.kernels.triton_checks"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_interpreted_as_computed_by_numpy_and_numba(interpreted, name):
    trace, _ = interpreted[name]
    assert not trace, trace


@pytest.mark.gpu
@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
def test_on_a_gpu_as_computed_by_numpy_and_numba(check):
    check(torch.device("cuda", torch.cuda.current_device()))


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_training_batch_on_a_gpu_as_on_the_cpu(memory_format):
    canvases = training_canvases(64)
    policy = gr.augment.Crop(interpolation="random", vflip=0.5)
    keywords = {"dtype": torch.float16, "memory_format": memory_format}
    expected = policy.apply(canvases, policy.draw(np.arange(64)), **keywords)
    found = policy.apply(canvases.cuda(), policy.draw(torch.arange(64, device="cuda")), **keywords)
    assert torch.equal(found.cpu(), expected)


@pytest.mark.gpu
def test_addresses_follow_a_cursor_in_a_captured_graph():
    cursor = torch.tensor([0, 5], device="cuda")
    keywords = {"length": 1000, "seed": 3, "instances": 10, "shuffle": True}
    addresses(cursor, 32, **keywords)  # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = addresses(cursor, 32, **keywords)
    for place in [(0, 5), (7, 990)]:
        cursor.copy_(torch.tensor(place))
        graph.replay()
        for a, b in zip(captured, addresses(torch.tensor(place), 32, **keywords), strict=True):
            assert torch.equal(a.cpu(), b)


@pytest.mark.gpu
def test_nothing_waits_for_the_gpu():
    policy = gr.augment.Crop()
    everything = gr.augment.DeiT.visualatom(force_color_jitter=True, grayscale_prob=0.5, gaussian_blur_prob=0.5)
    canvases, cursor = training_canvases(8).cuda(), torch.tensor([0, 0], device="cuda")

    def batch():
        _, numbers, _ = addresses(cursor, 8, length=100, seed=1, instances=10, shuffle=True)
        for each in (policy, gr.augment.Resize(), gr.augment.DeiT.onepfrac(), everything):
            each.apply(canvases, each.draw(numbers), dtype=torch.bfloat16)
        words(1, Stream.CROP, numbers)

    batch()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def training_canvases(n):
    """Canvases as a fractal's: two levels, sparse; uint8 [n, 1, 512, 512]."""
    return torch.from_numpy((np.random.default_rng(0).random((n, 1, 512, 512)) < 0.1).astype(np.uint8) * 127)


# ------------------------------------------------------------------------------------------------------- compilation


def launches():
    """Every launch of a training step, grey and colour, as (kernel, arguments, options), with none of them run."""
    found = []

    def record(self, *arguments, grid, warmup, **options):
        found.append((self, arguments, options))

    cursor, policy = torch.tensor([0, 0]), gr.augment.Crop(interpolation="random")
    with gpu_path(CPU), mock.patch.object(triton.runtime.jit.JITFunction, "run", record):
        for shuffle in (True, False):
            addresses(cursor, 256, length=1_000_000, seed=42, instances=1000, shuffle=shuffle)
        numbers = torch.zeros(2, dtype=torch.int64)
        words(42, Stream.PERTURBATION, numbers, 11)
        drawn = policy.draw(numbers)
        colour = torch.zeros(2, 3, 512, 512, dtype=torch.uint8)
        policy.apply(colour[:, :1], drawn, dtype=torch.float16)
        policy.apply(colour[:, :1], drawn, dtype=torch.float32, memory_format=torch.channels_last)
        policy.apply(colour, drawn, dtype=torch.bfloat16)
        crop_resize(colour, drawn["boxes"].long(), drawn["flips"], drawn["interpolations"], (224, 224))
        crop_resize(colour[:, :1, :1, :1], drawn["boxes"], drawn["flips"], drawn["interpolations"], (1, 1))
        crop_resize(colour[:, :, :33, :35], drawn["boxes"], drawn["flips"], drawn["interpolations"], (9, 11))
        triton_mix_erase.training_launches()
        deit_launches(colour[:, :, :224, :224].contiguous())
    return found


def deit_launches(images):
    """Launches of DeiT's draws and operations: the papers', and others that compile differently."""
    numbers = torch.zeros(2, dtype=torch.int64)
    for policy in (
        gr.augment.DeiT(),
        gr.augment.DeiT(auto_augment="rand-n3-tweights-mstd101", interpolation="random", mixup_mode="elem", re_count=4),
        gr.augment.DeiT(auto_augment="3a", color_jitter=None, mixup_mode="pair", cutmix_minmax=(0.2, 0.8)),
        gr.augment.DeiT(auto_augment="v0", mixup_alpha=0.0, mixup_mode="elem", correct_lam=False),
    ):
        policy.draw(numbers)
    layers = torch.zeros((2, 2), dtype=torch.int32), torch.zeros((2, 2), dtype=torch.float64)
    for given in (images, images[:, :1].contiguous(), images[:, :, :33, :35].contiguous()):
        apply_ops(given, *layers, torch.zeros((2, 2), dtype=torch.uint8), (9, 9, 9))
    apply_ops(images, *layers, torch.zeros((2, 2), dtype=torch.uint8), (9, 9, 9), parsed("rand-inc1").operations)


def source(kernel, arguments):
    """The source of a launch as Triton's own launcher specialises it: ones are constants, multiples of 16 known."""
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


def usage(binary, folder):
    """Registers, and bytes of local memory (stack and spills), of a cubin."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton comes without cuobjdump")
    file = folder / "kernel.cubin"
    file.write_bytes(binary)
    text = subprocess.run([tool, "--dump-resource-usage", file], capture_output=True, text=True, check=True).stdout
    numbers = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return numbers["REG"], numbers["STACK"] + numbers["LOCAL"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_without_spills_and_rounds_as_ieee_754(architecture, tmp_path, monkeypatch):
    """``pytest -s`` shows the registers. In float64 there is no fused multiply-add and no approximation, in float32 no
    arithmetic at all.
    """
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    target, seen = GPUTarget("cuda", architecture, 32), set()
    for kernel, arguments, options in launches():
        made = source(kernel, arguments)
        if made.hash() in seen:
            continue
        seen.add(made.hash())
        compiled = triton.compile(made, target=target, options=options)
        registers, local = usage(compiled.asm["cubin"], tmp_path)
        print(f"sm_{architecture} {kernel.fn.__name__:12} {options['num_warps']} warps {registers:3} registers")
        assert local == 0, f"{kernel.fn.__name__} spills"
        assert registers <= 168  # three blocks of four warps a processor; what training launches needs half of that
        single = (
            r"(?:add|sub|mul|div|sqrt)\.(?!rn\.f32)\S*f32\b" if kernel.fn.__name__ in SINGLE_PRECISION else NO_SINGLE
        )
        forbidden = re.findall(rf"\b(?:fma\.\S*|\w+\.approx\S*|{single})", compiled.asm["ptx"])
        assert not forbidden, (kernel.fn.__name__, forbidden)
    assert len(seen) >= 30


def test_threads_share_the_tiles_of_a_training_step_as_intended(tmp_path, monkeypatch):
    """Nothing goes through shared memory; the second pass loads eight bytes and stores eight float16 at once."""
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found = {}
    for kernel, arguments, options in launches():
        named = dict(zip(kernel.arg_names, arguments, strict=True))
        if kernel.fn.__name__ == "resample" and named["COPIES"] == 3 - 2 * named["FIRST"] and len(found) < 2:
            made = triton.compile(source(kernel, arguments), target=GPUTarget("cuda", 90, 32), options=options)
            found[named["FIRST"]] = made.asm["ptx"]
    assert all(".shared" not in code for code in found.values())
    assert "ld.global.v2.b32" in found[False]
    assert "st.global.v4.b32" in found[False]
