"""What NVRTC makes of the CUDA C for each architecture, read off the machine code; ``pytest -s`` shows the table."""

import sys

import pytest

from bench import machine_code, sass


@pytest.fixture
def compilers():
    """CuPy, whose NVRTC compiles, and Triton, which brings nvdisasm."""
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    pytest.importorskip("triton", reason="needs Triton, which brings nvdisasm")


@pytest.mark.usefixtures("compilers")
@pytest.mark.parametrize("chip", machine_code.CHIPS)
def test_kernels_compile_without_spills_and_fill_the_chip(chip):
    chaos = machine_code.inspect("chaos_game", chip)
    lines = machine_code.inspect("visual_atom", chip)
    clouds = machine_code.inspect("point_cloud", chip)
    colours = [*machine_code.inspect("diamond_square", chip), *machine_code.inspect("collage", chip)]
    colours += [*machine_code.inspect("pixel_noise", chip), *machine_code.inspect("warp", chip)]
    print("\n" + machine_code.table([*chaos, *lines, *clouds, *colours]))
    names = ("grey", "cover", "mask", "paint", "color", "density")
    assert {kernel.name for kernel in chaos} == {f"chaos_game_{name}" for name in names}
    assert {kernel.name for kernel in clouds} == {"point_cloud_render", "point_cloud_moments"}
    for kernel in clouds:
        assert kernel.blocks_a_multiprocessor >= (8 if kernel.name == "point_cloud_render" else 6), kernel
        assert kernel.spilled_bytes == 0, kernel
        # five per point's division, which IEEE 754 rounds, and none of the camera's products
        assert all(loop.counts.get("FFMA", 0) in (0, 5 * machine_code.POINTS_A_LOOP) for loop in kernel.loops), kernel
        assert not any(loop.counts.keys() & {"STL", "LDL"} for loop in kernel.loops), kernel
    assert {kernel.name for kernel in colours} == {
        "diamond_square_render", "collage_paste", "collage_blur", "pixel_noise_render", "warp_render",
    }  # fmt: skip
    assert all(kernel.blocks_a_multiprocessor >= 4 for kernel in colours), colours
    for kernel in [*chaos, *lines, *colours]:
        assert kernel.spilled_bytes == 0, kernel
        assert not any(loop.counts.keys() & {"STL", "LDL", "FFMA"} for loop in kernel.loops), kernel
    grey = next(kernel for kernel in chaos if kernel.name == "chaos_game_grey")
    at_once = {"sm_80": 4, "sm_89": 2, "sm_90": 6, "sm_100": 6}[chip]  # what shared memory lets in at 512 x 512
    assert all(kernel.blocks_a_multiprocessor >= at_once for kernel in chaos), chaos
    points = {loop.name: loop for loop in grey.loops}
    variants = ("2 maps", "4 maps", "8 maps", "any")
    assert points.keys() == {f"{kind}, {maps}" for kind in ("frame", "splat") for maps in variants} | {
        "splat, any, bands"
    }
    most = {"frame": (28, 34, 46, 37), "splat": (44, 50, 62, 51)}  # a little above what was found
    for kind, limits in most.items():
        for maps, limit in zip(variants, limits, strict=True):
            assert points[f"{kind}, {maps}"].per_point <= limit, points
    assert all(loop.per_map <= 10 for loop in grey.loops)
    assert all(loop.counts["ATOMS"] == 8 for name, loop in points.items() if "splat" in name)  # native, one a point
    (drawer,) = lines
    assert drawer.blocks_a_multiprocessor >= 1
    assert [loop for loop in drawer.loops if loop.name == "line"], "no line loop found"


@pytest.mark.usefixtures("compilers")
@pytest.mark.parametrize("chip", machine_code.CHIPS)
def test_crops_compile_without_spills_and_sum_by_fours(chip):
    kernels = machine_code.inspect("resized_crop", chip)
    print("\n" + machine_code.table(kernels))
    assert [kernel.name for kernel in kernels] == ["resized_crop_bits", "resized_crop_bytes", "resized_crop_large"]
    for kernel in kernels:
        assert kernel.spilled_bytes == 0, kernel
        shared = kernel.name != "resized_crop_large"
        at_once = {"sm_80": 4, "sm_89": 2, "sm_90": 4, "sm_100": 4} if shared else dict.fromkeys(machine_code.CHIPS, 3)
        assert kernel.blocks_a_multiprocessor >= at_once[chip], kernel
        along, across = kernel.loops  # the two sums: no copies for one image and another
        for loop in (along, across):
            assert loop.name == ("sum" if shared else "sum, device memory")
            assert loop.instructions <= (35 if shared else 45)  # 24 products, three loads of sixteen bytes
            assert loop.counts["IDP"] == 24
            assert loop.counts.get("LDS", 0) == (3 if shared else 0)
            assert not loop.counts.keys() & {"STL", "LDL", "FFMA"}


@pytest.mark.usefixtures("compilers")
def test_what_is_inspected_is_what_the_library_compiles():
    code, resources = machine_code.compiled("visual_atom", "sm_90")
    found = sass.instructions(code)
    assert found == sass.instructions(machine_code.cuda.compiled("visual_atom", "sm_90"))
    assert found.keys() == resources.keys()


def test_the_disassembler_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="nvdisasm must come with Triton or lie on the PATH"):
        sass.tool("nvdisasm")
    (tmp_path / "nvdisasm").write_text("#!/bin/sh\n")
    (tmp_path / "nvdisasm").chmod(0o755)
    assert sass.tool("nvdisasm") == str(tmp_path / "nvdisasm")
