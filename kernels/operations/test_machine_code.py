"""What NVRTC makes of the CUDA C for each architecture, read off the machine code; ``pytest -s`` shows the table."""

import sys

import pytest
from conftest import ROOT

pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
pytest.importorskip("triton", reason="needs Triton, which brings nvdisasm")
sys.path.insert(0, str(ROOT / "bench"))

import machine_code


@pytest.mark.parametrize("chip", machine_code.CHIPS)
def test_kernels_compile_without_spills_and_fill_the_chip(chip):
    chaos = machine_code.inspect("chaos_game", chip)
    lines = machine_code.inspect("polyline", chip)
    print("\n" + machine_code.table([*chaos, *lines]))
    assert {kernel.name for kernel in chaos} == {f"chaos_game_{name}" for name in ("grey", "cover", "paint", "color")}
    for kernel in [*chaos, *lines]:
        assert kernel.spilled_bytes == 0, kernel
        assert not any(loop.counts.keys() & {"STL", "LDL", "FFMA"} for loop in kernel.loops), kernel
    grey = next(kernel for kernel in chaos if kernel.name == "chaos_game_grey")
    assert grey.blocks_a_multiprocessor >= (2 if chip == "sm_89" else 4)
    points = {name: [loop.per_point for loop in grey.loops if loop.name == name] for name in ("frame", "splat")}
    assert min(points["frame"]) <= 28, points  # two maps; the loops for four and eight compare more
    assert min(points["splat"]) <= 44, points
    assert all(loop.counts["ATOMS"] == 8 for loop in grey.loops if loop.name == "splat")  # native, one a point
    (drawer,) = lines
    assert drawer.blocks_a_multiprocessor >= 1
    assert [loop for loop in drawer.loops if loop.name == "line"], "no line loop found"
