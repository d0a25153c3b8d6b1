"""A user's script that a type checker reads and Python runs: what the checker believes is what a loader gives.

A comment ``type: ignore`` marks what a checker must refuse: it is an error itself where the checker finds nothing.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import assert_type

import gpurender as gr
from gpurender.augment import Crop

RECIPE = gr.OnePFrac(classes=2, instances=2, image_size=16, points=200, fill_rate=0.0)
SMALL = {"classes": 2, "instances": 2, "image_size": 16, "points": 200, "fill_rate": 0.0}


class TwoSizes:
    """A user's policy of two views, which derives from nothing."""

    views = 2

    def draw(self, numbers: Any, **sizes: Any) -> dict[str, torch.Tensor]:
        return Crop().draw(numbers, **sizes)

    def apply(self, canvases: torch.Tensor, parameters: dict[str, torch.Tensor], **image: Any) -> list[torch.Tensor]:
        return [Crop().apply(canvases, parameters, **image)] * 2


def labels_only(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    return [int(label) for _, label in samples]


def total(loader: gr.DataLoader) -> int:
    """Whatever is not said is a pair of tensors."""
    return sum(assert_type(images, torch.Tensor).shape[0] for images, _ in loader)


plain = gr.DataLoader(RECIPE, batch_size=2, image_size=8, device="cpu")
images, targets = next(iter(plain))
assert_type(images, torch.Tensor)
assert_type(targets, torch.Tensor)
assert type(images) is type(targets) is torch.Tensor
assert total(plain) == 4

soft = gr.DataLoader(RECIPE, 2, True, augment=gr.augment.DeiT(), image_size=8, device="cpu", seed=1)
for images, targets in soft:
    assert_type(images, torch.Tensor)
    assert type(images) is type(targets) is torch.Tensor

several = gr.DataLoader(RECIPE, 2, augment=gr.augment.MultiCrop((Crop(), 2), (Crop(), 3, 4)), image_size=8)
views, targets = next(iter(several))
assert_type(views, list[torch.Tensor])
assert type(views) is list
assert type(views[0]) is type(targets) is torch.Tensor

pair, _ = next(iter(gr.DataLoader(RECIPE, 2, augment=gr.augment.TwoViews(Crop()), image_size=8, device="cpu")))
assert_type(pair, list[torch.Tensor])
assert type(pair) is list

both, _ = next(iter(gr.DataLoader(RECIPE, 2, augment=TwoSizes(), image_size=8, device="cpu")))
assert_type(both, list[torch.Tensor])
assert type(both) is list

collated = gr.DataLoader(RECIPE, batch_size=2, collate_fn=labels_only, image_size=8, device="cpu")
labels = next(iter(collated))
assert_type(labels, list[int])
assert labels == [0, 0]

canvases = gr.Renderer(RECIPE)([0, 1])
assert_type(canvases, torch.Tensor)
assert_type(gr.Renderer(RECIPE).labels(0), torch.Tensor)
assert_type(gr.recipe(RECIPE), gr.Recipe)
assert_type(gr.presets(), list[str])
assert "onepfrac-1k" in gr.presets()

named, _ = next(iter(gr.DataLoader(RECIPE, 2, augment="crop", image_size=8, device="cpu")))
assert_type(named, torch.Tensor)
assert type(named) is torch.Tensor

with tempfile.TemporaryDirectory() as folder:
    place = Path(folder, "images")
    assert gr.export(RECIPE, place, classes="0-1", shard="0/2") == (2, 0)
    assert gr.export({"family": "onepfrac", **SMALL}, str(place), classes=[0, 1], shard=(1, 2)) == (2, 0)
    assert gr.export(RECIPE.to_json(), place, classes=np.arange(2), per_class=1) == (0, 2)
    assert_type(gr.export(RECIPE, place, classes=range(2)).written, int)
    gr.export(RECIPE, place, classes=1, limit=1)
assert_type(len(plain), int)


def refused() -> None:
    """None of these lines runs."""
    gr.DataLoader(RECIPE, batchsize=2)  # type: ignore[call-overload]
    gr.DataLoader(RECIPE, batch_size="2")  # type: ignore[call-overload]
    gr.DataLoader(RECIPE, augment=3)  # type: ignore[call-overload]
    views.shape  # type: ignore[attr-defined]  # noqa: B018
    labels.shape  # type: ignore[attr-defined]  # noqa: B018
    gr.OnePFrac(class_count=3)  # type: ignore[call-arg]
    gr.augment.DeiT(mixup=1.0)  # type: ignore[call-arg]
    gr.Dataloader(RECIPE)  # type: ignore[attr-defined]
    gr.export(3, "x")  # type: ignore[arg-type]
    gr.export(RECIPE, "x", classes={1, 2})  # type: ignore[arg-type]
    gr.export(RECIPE, "x", shard=3)  # type: ignore[arg-type]
