"""Canvases that stay bits until they are cropped, against the same canvases as bytes."""

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment.policy import declares_bits
from gpurender.kernels.chaos_game import render_bitmaps
from gpurender.kernels.device import cpu_bits
from gpurender.kernels.resized_crop import BitCanvases, crop_resize, crop_resize_normalise
from gpurender.loading import pipeline
from gpurender.renderer import Renderer
from tests.golden import TRIANGLE

POINTS = {"points": 700, "image_size": 50}
RECIPES = {
    "onepfrac": gr.OnePFrac(classes=9, instances=3, base=TRIANGLE, fill_rate=0.0, **POINTS),
    "paper": gr.OnePFrac(classes=9, base=TRIANGLE, fill_rate=0.0, variant="paper", **POINTS),
    "points": gr.OnePFrac(classes=9, base=TRIANGLE, fill_rate=0.0, draw_type="point_gray", **POINTS),
    "fill": gr.FractalDB(categories=[TRIANGLE] * 2, patches=1, mask_mode="fill", **POINTS),
    "fractaldb": gr.FractalDB(categories=[TRIANGLE] * 2, patches=2, **POINTS),
    "turned": gr.FractalDB(categories=[TRIANGLE] * 2, patches=2, variant="paper", **POINTS),
    "ofdb": gr.OFDB(categories=[TRIANGLE] * 2, instances=9, **POINTS),
    "tail": gr.OnePFrac(classes=9, instances=4, class_prior=4, base=TRIANGLE, fill_rate=0.0, **POINTS),
    "colour": gr.OnePFrac(classes=9, base=TRIANGLE, fill_rate=0.0, draw_type="patch_color", **POINTS),
    "atoms": gr.VisualAtom(classes=3, instances=9, image_size=50),
    "mixture": gr.Mixture(
        {gr.OnePFrac(classes=9, base=TRIANGLE, fill_rate=0.0, **POINTS): 1, gr.VisualAtom(classes=3, image_size=50): 1}
    ),
}
POLICIES = {
    "none": None,
    "crop": gr.augment.Crop(interpolation="random", vflip=0.5),
    "deit": gr.augment.DeiT.onepfrac(),
    "plain": gr.augment.DeiT(auto_augment=None, re_prob=0.0, mixup_alpha=0.0, cutmix_alpha=0.0),
}


def random_bits(rng, size, n):
    """Bitmaps as canvases: rows of random bits with garbage behind the last column, some used twice."""
    rows = torch.from_numpy(rng.integers(-(2**31), 2**31, (5, size, (size + 31) // 32), dtype=np.int32))
    return BitCanvases(rows, torch.from_numpy(rng.integers(0, 5, n)), torch.from_numpy(rng.integers(0, 8, n, np.uint8)))


def as_bytes(bits):
    zeros = torch.zeros(len(bits), dtype=torch.int64)
    return render_bitmaps(bits.rows, bits.which, zeros, bits.orientations, seed=0, patch=False, mask=False)


def random_crops(rng, size, n):
    """Boxes of any place and shape, flat and tall ones among them; flips; filters."""
    sides = rng.integers(1, size + 1, (n, 2))
    corners = (rng.random((n, 2)) * (size - sides + 1)).astype(np.int64)
    boxes = torch.from_numpy(np.concatenate([corners, sides], axis=1))
    return boxes, torch.from_numpy(rng.random((n, 2)) < 0.5), torch.from_numpy(rng.integers(0, 3, n, np.uint8))


@pytest.mark.parametrize("size", [16, 31, 64, 97, 362])
@pytest.mark.parametrize("side", [(5, 9), (40, 17), (100, 100)])
def test_any_crop_of_bits_is_that_of_bytes(size, side):
    rng = np.random.default_rng([size, *side])
    bits, crops = random_bits(rng, size, 60), random_crops(rng, size, 60)
    assert bits.shape == (60, 1, size, size)
    canvases = as_bytes(bits)
    assert torch.equal(crop_resize(bits, *crops, side), crop_resize(canvases, *crops, side))
    for tables in (1, 3):  # three equal ones, or three
        lut = torch.rand(tables, 256).expand(3, 256).contiguous()
        for memory_format in (torch.contiguous_format, torch.channels_last):
            found, wanted = (crop_resize_normalise(each, *crops, lut, side, memory_format) for each in (bits, canvases))
            assert torch.equal(found, wanted)
            assert found.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("orientation", range(8))
def test_a_window_is_unpacked_by_rows_and_by_columns(orientation):
    rng = np.random.default_rng(orientation)
    for size in (16, 33, 70):
        lit = rng.integers(0, 2**32, (size, (size + 31) // 32), dtype=np.uint32)
        canvas = np.empty((size, size), np.uint8)
        cpu_bits.write(lit, orientation, canvas)
        if orientation & 4:
            canvas = canvas.T
        for _ in range(20):
            h, w = rng.integers(1, size + 1, 2)
            top, left = rng.integers(0, size - h + 1), rng.integers(0, size - w + 1)
            window = canvas[top : top + h, left : left + w]
            assert np.array_equal(cpu_bits.unpacked(lit, orientation, top, left, h, w, False)[:, :w], window)
            assert np.array_equal(cpu_bits.unpacked(lit, orientation, top, left, h, w, True)[:, :h], window.T)


def batches(recipe, policy, monkeypatch, bits, **keywords):
    """Four batches, and whether each was cropped from bits."""
    seen, real = [], Renderer.render

    def render(self, *given):
        canvases = real(self, *given)
        seen.append(isinstance(canvases, BitCanvases))
        return canvases

    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "render", render)
        if not bits:
            patched.setattr(pipeline, "takes_bits", lambda device: False)
        loader = gr.DataLoader(
            recipe,
            batch_size=6,
            image_size=40,
            augment=policy,
            shuffle=True,
            drop_last=True,
            prefetch_factor=0,
            steps_per_epoch=4,
            **keywords,
        )
        found = list(loader)
    return found, seen


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_loader_gives_the_same_batches_from_bits_as_from_bytes(name, policy, fresh, monkeypatch):
    recipe = RECIPES[name]
    found, bits = batches(recipe, POLICIES[policy], monkeypatch, True, fresh=fresh)
    wanted, none = batches(recipe, POLICIES[policy], monkeypatch, False, fresh=fresh)
    for (images, targets), (others, theirs) in zip(found, wanted, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, theirs)
    assert len(found) == len(bits) == 4
    assert all(bits) == (name not in ("colour", "atoms", "mixture"))
    assert not any(none)


class Inverted(gr.augment.Crop):
    """A user's policy, which takes bytes."""

    def apply(self, canvases, parameters, **keywords):
        assert isinstance(canvases, torch.Tensor)
        return super().apply(127 - canvases, parameters, **keywords)


def test_only_policies_that_say_so_are_given_bits(monkeypatch):
    for policy in (gr.augment.Crop(), gr.augment.Resize(), gr.augment.DeiT(), gr.augment.DeiT.onepfrac()):
        assert declares_bits(policy)
    assert not declares_bits(Inverted())
    _, bits = batches(RECIPES["onepfrac"], Inverted(), monkeypatch, True)
    assert not any(bits)


def test_where_a_device_takes_no_bits_they_are_refused(monkeypatch):
    monkeypatch.setattr("gpurender.kernels.resized_crop.takes_bits", lambda device: False)
    rng = np.random.default_rng(0)
    bits, crops = random_bits(rng, 20, 2), random_crops(rng, 20, 2)
    with pytest.raises(TypeError, match=r"^canvases must be a uint8 tensor on cpu, got BitCanvases$"):
        crop_resize(bits, *crops, (8, 8))
