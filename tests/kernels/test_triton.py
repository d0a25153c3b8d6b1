"""The Triton kernels without a GPU: interpreted against NumPy and Numba, and compiled for GPUs; with one, run there."""

import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.kernels.philox import words
from gpurender.kernels.shuffle import addresses
from gpurender.numerics.streams import Stream

pytest.importorskip("triton")
pytest.importorskip("timm", reason="needs timm, whose functions the kernels are compared with")
pytest.importorskip("torchvision", reason="needs torchvision, whose functions the kernels are compared with")
from bench import triton_code
from tests.kernels.triton_checks import CHECKS, outcome, trace
from tests.kernels.triton_race_checks import RACE_CHECKS

TUNED = (3, 8)  # the Triton whose registers are counted: older ones spill some bytes, which costs time alone
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
NAMES = [check.__name__ for check in CHECKS]
NO_SINGLE = r"(?:add|sub|mul|div|sqrt)\.\S*f32"
# Kernels of bytes that Pillow and timm compute in float32, each product and each sum rounded by itself.
SINGLE_PRECISION = ("mix_erase_pixels", "soft_targets_rows", "tabulate", "change", "blur", "weigh", "draw")


@pytest.fixture(scope="module")
def interpreted():
    """A function that runs another in a process that interprets Triton, and returns a traceback, empty if it passed.

    One check at a time, when its test asks: so each test lasts what its check does, whichever others are run.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")  # read when a process imports Triton
            pool.submit(os.getpid).result(timeout=600)  # starts it
        yield lambda *called: pool.submit(*called).result(timeout=1500)


@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
def test_interpreted_as_computed_by_numpy_and_numba(interpreted, check):
    found = interpreted(outcome, check)
    assert not found, found


@pytest.mark.parametrize("check", RACE_CHECKS, ids=[check.__name__ for check in RACE_CHECKS])
def test_races_are_found(interpreted, check):
    found = interpreted(trace, check)
    assert not found, found


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


def test_every_launch_of_a_training_step_has_whole_warps_and_exact_arithmetic():
    """The interpreter and most other tests run none of a launch's options."""
    options = {(kernel.fn.__name__, options["num_warps"]) for kernel, _, options in triton_code.training_step()}
    assert {warps for _, warps in options} <= {1, 2, 4, 8}
    assert {"change", "move", "tabulate", "mix_erase_pixels"} <= {name for name, _ in options}
    assert all(not options["enable_fp_fusion"] for _, _, options in triton_code.training_step())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_without_spills_and_rounds_as_ieee_754(architecture, tmp_path, monkeypatch):
    """``pytest -s`` shows the registers. In float64 there is no fused multiply-add and no approximation, in float32 no
    arithmetic at all, but in estimates of moves. Nothing spills with the Triton for which the kernels are tuned, or a
    newer one.
    """
    tuned = tuple(map(int, triton_code.triton.__version__.split(".")[:2])) >= TUNED
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    count = 0
    for (kernel, arguments, options), asm in triton_code.compiled(architecture):
        name, (registers, local_bytes) = kernel.fn.__name__, triton_code.usage(asm["cubin"])
        print(f"{architecture} {name:12} {options['num_warps']} warps {registers:3} registers")
        assert local_bytes == 0 or not tuned, f"{name} spills"
        assert registers <= 168  # three blocks of four warps a processor; what training launches needs half of that
        estimates = dict(zip(kernel.arg_names, arguments, strict=True)).get("SINGLE", False)
        exact = name not in SINGLE_PRECISION and not estimates
        single = NO_SINGLE if exact else r"(?:add|sub|mul|div|sqrt)\.(?!rn\.f32)\S*f32\b"
        forbidden = re.findall(rf"\b(?:fma\.\S*|\w+\.approx\S*|{single})", asm["ptx"])
        assert not forbidden, (name, forbidden)
        count += 1
    assert count >= 30
