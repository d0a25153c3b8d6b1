"""What is made once stays as it is: a recipe, a policy or a table that changed later would not be what was checked."""

import dataclasses
import importlib

import pytest
import torch

import gpurender as gr
from gpurender.augment.rand_augment import parsed
from gpurender.kernels.chaos_game import Systems
from gpurender.kernels.resized_crop import BitCanvases
from gpurender.kernels.visual_atom import Atoms
from gpurender.recipes.ifs import BitmapTable

TRIANGLE = ((0.5, 0.0, 0.0, 0.5, 0.0, 0.0), (0.5, 0.0, 0.0, 0.5, 0.5, 0.0))


def systems():
    return Systems(torch.zeros(2, 3, 6), torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, dtype=torch.int32))


def atoms():
    ones, pairs = torch.ones(1, dtype=torch.int32), torch.zeros(1, 2)
    return Atoms(
        rings=ones, vertices=3 * ones, frequencies=pairs.int(), axes=pairs, growth=torch.zeros(1), amplitudes=pairs,
        noise_levels=torch.zeros(1), offsets=torch.zeros(1, dtype=torch.int64), cosines=torch.ones(3),
        sines=torch.ones(3), most_vertices=3,
    )  # fmt: skip


VALUES = {
    "OnePFrac": lambda: gr.OnePFrac(classes=2),
    "FractalDB": lambda: gr.FractalDB(weights="small", instances=1, categories=[TRIANGLE]),
    "OFDB": lambda: gr.OFDB(categories=[TRIANGLE]),
    "ExFractalDB": lambda: gr.ExFractalDB(classes=2),
    "VisualAtom": lambda: gr.VisualAtom(classes=2),
    "RCDB": lambda: gr.RCDB(classes=2),
    "Moire": lambda: gr.Moire(classes=2),
    "Noise": lambda: gr.Noise(classes=2),
    "ColorFractal": lambda: gr.ColorFractal(classes=2),
    "MultiFractal": lambda: gr.MultiFractal(classes=2),
    "SingleImage": gr.SingleImage.smallest,
    "Mixture": lambda: gr.Mixture({gr.VisualAtom(classes=2): 1}),
    "Schedule": lambda: gr.Schedule(gr.VisualAtom(classes=2), seed=((0, 1), (9, 2))),
    "Crop": gr.augment.Crop,
    "Resize": gr.augment.Resize,
    "DeiT": gr.augment.DeiT,
    "PixMix": lambda: gr.augment.PixMix(gr.Renderer(gr.Moire(classes=2))),
    "MultiCrop": lambda: gr.augment.MultiCrop((gr.augment.Crop(), 2)),
    "TwoViews": lambda: gr.augment.TwoViews(gr.augment.Crop()),
    "auto_augment": lambda: parsed("rand-m9-mstd0.5-inc1"),
    "Systems": systems,
    "Atoms": atoms,
    "BitCanvases": lambda: BitCanvases(*torch.zeros(3, 1, 16, 1, dtype=torch.int32)),
    "BitmapTable": lambda: BitmapTable.empty(2, 16, torch.device("cpu")),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_no_field_can_be_changed(make):
    value = make()
    for field in dataclasses.fields(value):
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            setattr(value, field.name, None)


def test_every_dataclass_is_frozen_unless_it_is_state(root):
    """Catalogs keep what they find or render first; a report of removed files counts on."""
    state = {"Bitmaps", "Perturbations", "Categories", "Catalogs", "Cleaned"}
    names = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in sorted((root / "gpurender").rglob("*.py"))
        if path.stem not in ("__init__", "__main__") and "gpu" not in path.stem
    ]
    found = {}
    for name in names:
        try:
            values = vars(importlib.import_module(name)).values()
        except ImportError:
            assert name.startswith("gpurender.interop."), "only these need packages that may be missing"
            continue
        for value in values:
            if dataclasses.is_dataclass(value) and value.__module__ == name:
                found[value.__name__] = value.__dataclass_params__.frozen
    assert len(found) > 20
    assert {name for name, frozen in found.items() if not frozen} == state


@pytest.mark.parametrize(
    "cls",
    [
        gr.OnePFrac,
        gr.FractalDB,
        gr.OFDB,
        gr.ExFractalDB,
        gr.VisualAtom,
        gr.augment.Crop,
        gr.augment.Resize,
        gr.augment.DeiT,
    ],
)
def test_fields_are_given_by_name(cls):
    """A new field may then stand anywhere."""
    with pytest.raises(TypeError, match="positional argument"):
        cls(dataclasses.fields(cls)[0].default)


@pytest.mark.parametrize("policy", [gr.augment.Crop, gr.augment.DeiT, gr.augment.Resize])
def test_parameters_of_policies_have_names(policy):
    """By position they would change their meaning with every new one."""
    with pytest.raises(TypeError, match="positional"):
        policy("bicubic")
