"""What a loader and a dataset say of themselves, in one line."""

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment import Crop, DeiT, TwoViews

RECIPE = gr.VisualAtom(classes=10, instances=4, image_size=32)
PLAIN = "image_size=224, seed=0"
SHORT = "<visualatom: 10 classes, 40 images of 32 x 32>"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, f"batch_size=1, shuffle=False, {PLAIN}, augment=Resize(), device='cpu', 40 batches"),
        (
            {"batch_size": 16, "shuffle": True, "drop_last": True, "augment": DeiT.onepfrac()},
            f"batch_size=16, shuffle=True, drop_last=True, {PLAIN}, augment=DeiT(vflip=0.5, re_prob=0.5), "
            "device='cpu', 2 batches",
        ),
        (
            {"image_size": 64, "seed": 9, "fresh": True},
            "batch_size=1, shuffle=False, image_size=64, seed=9, fresh=True, augment=Resize(), device='cpu', "
            "40 batches",
        ),
        (
            {"batch_size": 16, "steps_per_epoch": 7},
            f"batch_size=16, shuffle=False, steps_per_epoch=7, {PLAIN}, augment=Resize(), device='cpu', 7 batches",
        ),
        (
            {"augment": Crop()},
            f"batch_size=1, shuffle=False, {PLAIN}, augment=Crop(), device='cpu', 40 batches",
        ),
        (
            {"augment": TwoViews(Crop())},
            f"batch_size=1, shuffle=False, {PLAIN}, augment=TwoViews of 2 views, device='cpu', 40 batches",
        ),
        (
            {"batch_sampler": [[0, 1], [2]]},
            f"batch_sampler=…, {PLAIN}, augment=Resize(), device='cpu', 2 batches",
        ),
        ({"sampler": iter([0])}, f"sampler=…, {PLAIN}, augment=Resize(), device='cpu'"),
    ],
)
def test_a_loader_in_one_line(arguments, shown):
    assert repr(gr.DataLoader(RECIPE, device="cpu", **arguments)) == f"DataLoader({SHORT}, {shown})"


def test_a_foreign_policy_is_named():
    class Mine:
        def draw(self, numbers, **_):
            return {}

        def apply(self, canvases, parameters, **_):
            return canvases

        def __repr__(self):
            raise AssertionError("not asked for")

    assert "augment=Mine(), " in repr(gr.DataLoader(RECIPE, device="cpu", image_size=224, seed=0, augment=Mine()))


def test_a_dataset_in_one_line():
    assert repr(gr.Dataset(RECIPE)) == f"Dataset({SHORT})"
    assert repr(gr.Dataset(RECIPE, np.asarray)).startswith(f"Dataset({SHORT}, transform=<")

    class Lines(torch.nn.Module):
        def __repr__(self):
            return "Compose(\n    a\n)"

    assert repr(gr.Dataset(RECIPE, Lines())) == f"Dataset({SHORT}, transform=Compose( a ))"


def test_a_long_tail_counts_its_images():
    tail = gr.VisualAtom(classes=3, instances=4, image_size=32, class_prior=[1.0, 0.5, 0.25])
    assert repr(gr.Dataset(tail)) == "Dataset(<visualatom: 3 classes, 7 images of 32 x 32>)"
