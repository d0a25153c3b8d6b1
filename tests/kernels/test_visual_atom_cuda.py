"""The visual atoms' CUDA C against Numba, byte for byte: built by g++ everywhere, on the GPU where there is one."""

import dataclasses

import numpy as np
import pytest
import torch

from gpurender.kernels.visual_atom import MAX_VERTICES, RULES, Atoms, gpu, render_atoms
from gpurender.numerics.unit_circle import cos_sin_table
from tests.support.emulation import ADA, HOPPER, TINY, emulated_gpu, require_compiler


def random_atoms(rng, count, most, scale):
    """Atoms of 3 to ``most`` vertices; axes and steps of ``scale`` pixels, from specks to far beyond the canvas."""
    q = rng.integers(3, most + 1, count)
    q[0] = most
    cosines, sines = np.concatenate([np.stack(cos_sin_table(int(n))).astype(np.float32) for n in q], axis=1)
    values = {
        "rings": rng.integers(1, 14, count).astype(np.int32),
        "vertices": q.astype(np.int32),
        "frequencies": rng.integers(0, 4097, (count, 2)).astype(np.int32),
        "axes": (scale * rng.random((count, 2))).astype(np.float32),
        "growth": (scale / 10 * rng.random(count)).astype(np.float32),
        "amplitudes": rng.uniform(-2, 2, (count, 2)).astype(np.float32),
        "noise_levels": (rng.random(count) * rng.choice([0.1, 3.0, 16.0])).astype(np.float32),
        "offsets": np.cumsum(q) - q,
        "cosines": cosines,
        "sines": sines,
    }
    return Atoms(**{name: torch.from_numpy(array) for name, array in values.items()}, most_vertices=int(q.max()))


def random_images(rng, atoms, count, size):
    """Which atoms, where, with which numbers."""
    return {
        "which": torch.from_numpy(rng.integers(0, len(atoms), count)),
        "centres": torch.from_numpy(rng.uniform(-0.3 * size, 1.3 * size, (count, 2)).astype(np.float32)),
        "draw_ids": torch.from_numpy(rng.integers(-(2**63), 2**63, count)),
    }


def within_reach(atoms, centres, axes=None):
    """The atoms with a bound of their coordinates, by each rule; axes: half axes of the images, if they have them."""
    waves = atoms.amplitudes.abs().sum(1)
    own = 0.0 if axes is None else axes.max()
    walk = torch.clamp(atoms.axes.max(1)[0], min=own) + atoms.rings * (2 * atoms.noise_levels + atoms.growth + waves)
    orbits = (atoms.axes.max(1)[0] + atoms.rings * atoms.growth) * (1 + waves + atoms.noise_levels)
    return dataclasses.replace(atoms, reach=float(torch.maximum(walk, orbits).max() + centres.abs().max()) + 1)


def random_windows(rng, count, size):
    """Windows of any shape and place; among them one pixel in the last corner, a row, and the canvas."""
    sides = rng.integers(1, size + 1, (count, 2))
    corners = (rng.random((count, 2)) * (size - sides + 1)).astype(np.int64)
    windows = np.concatenate([corners, sides], axis=1)
    special = [(size - 1, size - 1, 1, 1), (size // 2, 0, 1, size), (0, 0, size, size)]
    windows[: len(special)] = special[:count]
    return torch.from_numpy(windows.astype(np.int32))


def cuts(images, windows):
    """The windows of images."""
    return [image[y : y + h, x : x + w] for image, (y, x, h, w) in zip(images, windows.tolist(), strict=True)]


def compare(rng, count, size, most, move, context, rules=RULES):
    """``count`` images by the reference and, inside the context, by the GPU's path; yields them, a batch a kind.

    The GPU renders them with and without a known reach, and windows of them. Those of the rule "walk" are on a ground
    of their own, with half axes of their own and white rings, as RCDB's are.
    """
    for rule in rules:
        for scale in (0.3 * size, 3.0 * size, 60_000.0):
            atoms = random_atoms(rng, max(count // 2, 1), most, scale)
            images = random_images(rng, atoms, count, size)
            common = {"greys": (0, 255), "seed": int(rng.integers(2**63)), "size": size, "rule": rule}
            if rule == "walk":
                common |= {"greys": (0, 300), "ground": int(rng.integers(256))}
                images["axes"] = torch.from_numpy((scale * rng.random((count, 2))).astype(np.float32))
            wanted = render_atoms(atoms, **images, **common)
            windows = random_windows(rng, count, size)
            known = within_reach(atoms, images["centres"], images.get("axes"))
            with context():
                moved = {name: move(tensor) for name, tensor in images.items()}
                found = render_atoms(move(atoms), **moved, **common)
                near = render_atoms(move(known), **moved, **common) if known.reach < gpu.NEAR else found
                parts = render_atoms(move(known), **moved, **common, windows=move(windows))
            where = f"{rule}, scale {scale}, {size} pixels, {most} vertices"
            assert torch.equal(found.cpu(), wanted), where
            assert torch.equal(near.cpu(), wanted), where
            for part, cut in zip(cuts(parts.cpu(), windows), cuts(wanted, windows), strict=True):
                assert torch.equal(part, cut), where
            yield wanted


def same(thing):
    """An emulated GPU's memory is the CPU's."""
    return thing


CASES = [(size, most) for size in (33, 224, 362, 512) for most in (3, 40, 1000)]


@pytest.mark.parametrize(("size", "most"), CASES)
def test_one_thread_a_block_draws_the_reference(size, most):
    require_compiler()
    rng = np.random.default_rng([size, most])
    for limits in (HOPPER, ADA, TINY):
        drawn = list(compare(rng, 5, size, most, same, lambda limits=limits: emulated_gpu(limits)))
        assert any(images.any() for images in drawn)


def test_a_thousand_pixels_and_four_thousand_vertices():
    require_compiler()
    for limits, rules in ((HOPPER, RULES), (TINY, RULES[:2])):  # eight times as many bands
        rng = np.random.default_rng(9)
        list(compare(rng, 2, 1000, MAX_VERTICES, same, lambda limits=limits: emulated_gpu(limits), rules))


LONG = [(9_000, 512, 120), (30_000, 512, 120), (250_000, 512, 120), (380_000, 4096, 6)]


@pytest.mark.parametrize(("reach", "size", "count"), LONG)
def test_long_segments_are_clipped_exactly(reach, size, count):
    """Triangles with a side across the canvas, around 2^14 pixels long (as far as 32 bits are used) and beyond.

    On the largest canvas a vertex lies so far that the offset of its pixel, were there one, would not fit 32 bits.
    """
    require_compiler()
    rng = np.random.default_rng(reach)
    axes = (reach * rng.uniform(0.5, 1.5, (count, 2))).astype(np.float32)
    still = {"amplitudes": torch.zeros(count, 2), "noise_levels": torch.zeros(count)}
    atoms = Atoms(**vars(random_atoms(rng, count, 3, 1.0)) | still | {"axes": torch.from_numpy(axes)})
    turn = 2 * np.pi / 3 * np.arange(3)
    corners = np.stack([np.cos(turn), np.sin(turn)], axis=1) * axes[:, None]  # [count, 3, 2]
    side, share = rng.integers(0, 3, count), rng.random((count, 1))
    first, second = corners[np.arange(count), side], corners[np.arange(count), (side + 1) % 3]
    centres = rng.uniform(0, size, (count, 2)) - (first + share * (second - first))
    images = {
        "which": torch.arange(count),
        "centres": torch.from_numpy(centres.astype(np.float32)),
        "draw_ids": torch.from_numpy(rng.integers(-(2**63), 2**63, count)),
    }
    for rule in ("walk", "orbits"):
        common = {"greys": (1, 255), "seed": 5, "size": size, "rule": rule}
        wanted = render_atoms(atoms, **images, **common)
        assert wanted.flatten(1).any(1).all()
        for limits in (HOPPER, ADA):
            with emulated_gpu(limits):
                assert torch.equal(render_atoms(atoms, **images, **common), wanted)


def test_inputs_need_not_be_contiguous():
    require_compiler()
    rng = np.random.default_rng(6)
    atoms = random_atoms(rng, 4, 30, 20.0)
    images = random_images(rng, atoms, 3, 64)
    common = {"greys": (0, 255), "seed": 6, "size": 64, "rule": "walk"}
    wanted = render_atoms(atoms, **images, **common)
    spread = {name: tensor.repeat_interleave(2, 0)[::2] for name, tensor in images.items()}
    table = vars(atoms) | {"axes": atoms.axes.T.contiguous().T}
    assert not any(tensor.is_contiguous() for tensor in (*spread.values(), table["axes"]))
    with emulated_gpu():
        assert torch.equal(render_atoms(Atoms(**table), **spread, **common), wanted)


@pytest.mark.parametrize("threads", [2, 5, 32])
def test_several_threads_a_block_agree(threads):
    """Rings would mix if one barrier a ring were too few."""
    require_compiler()
    rng = np.random.default_rng(threads)
    list(compare(rng, 3, 64, 50, same, lambda: emulated_gpu(TINY, threads)))


def test_a_number_that_is_no_atom_reads_the_nearest():
    """On a GPU nobody looks at the numbers; the kernel stays inside its tables."""
    require_compiler()
    rng = np.random.default_rng(1)
    atoms = random_atoms(rng, 4, 30, 50.0)
    images = random_images(rng, atoms, 3, 64) | {"which": torch.tensor([0, 3, 2])}
    common = {"greys": (9, 200), "seed": 4, "size": 64, "rule": "walk"}
    wanted = render_atoms(atoms, **images, **common)
    with emulated_gpu():
        from gpurender.kernels.visual_atom.gpu import render_atoms as render_on_gpu

        wild = torch.tensor([-(2**40), 2**40, 2])
        found = render_on_gpu(atoms, wild, images["centres"], images["draw_ids"], (9, 200), 4, 64, walk=True)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("limits", [HOPPER, ADA, TINY])
@pytest.mark.parametrize("vertices", [3, 1000, MAX_VERTICES])
@pytest.mark.parametrize("size", [1, 16, 33, 362, 512, 1024, 2048])
def test_bands_cover_the_canvas_and_fit(size, vertices, limits):
    """As the kernel divides it: as many rows per band as fit, of the canvas and of any narrower window."""
    for reach in (gpu.NEAR - 1, gpu.NEAR):
        bands, room, shared, inside = gpu.layout(size, vertices, reach, limits)
        assert (bands - 1) * (room // size) < size <= bands * (room // size)
        for columns in {1, size // 2 + 1, size}:
            assert bands * (room // columns) >= size
        assert room % 16 == 0
        assert shared == room + inside * vertices * gpu.PIXELS_A_VERTEX <= limits.shared_a_block - gpu.STATIC_SHARED
        assert not inside or (vertices <= 1024 and reach < gpu.NEAR)
        if (size, vertices) == (512, 1000) and limits is not TINY:
            assert inside == (reach < gpu.NEAR)
            assert bands == {HOPPER: 2, ADA: 3}[limits]


@pytest.mark.gpu
@pytest.mark.parametrize(("size", "most"), [*CASES, (1000, 1000), (224, MAX_VERTICES)])
def test_the_gpu_draws_the_reference(size, most):
    import contextlib

    device = torch.device("cuda", 0)
    rng = np.random.default_rng([size, most])
    list(compare(rng, 100, size, most, lambda thing: thing.to(device), contextlib.nullcontext))
