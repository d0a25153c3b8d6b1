"""The papers' settings, written down once more from the papers and their scripts."""

import dataclasses

import numpy as np
import pytest

import gpurender as gr
from gpurender.training.presets import OF_RECIPES, PRESETS, Preset, preset

M = 1_000_000
PICTURE = np.arange(4096).astype(np.uint8).reshape(64, 64)
OF_21K = 15_238 * 20 * 1024  # 15,238 epochs of 20 steps of 1,024 images
ADAMW = ("adamw", 0.05, "cosine", 1e-5, 0.1)  # optimiser, weight decay, schedule, least rate, stochastic depth
DEIT = ("deit_tiny_patch16_224",)
LARGE = ("deit_base_patch16_224",)
VIT = ("vit_tiny_patch16_224", "vit_base_patch16_224", "swin_base_patch4_window7_224")
WANTED = {  # recipe, images, batch, rate, whether it scales, warm-up in images, policy, models, and the rest
    "deit": ("fractaldb-1k", 300 * M, 1024, 1e-3, True, 5 * M, "deit",
             ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224"), ADAMW),
    "fractaldb-resnet": ("fractaldb-1k", 90 * M, 256, 0.01, False, 0, "resnet", ("resnet50", "resnet18", "resnet152"),
                         ("sgd", 0.0004, "steps", 1e-5, 0.0)),
    "fractaldb": ("fractaldb-1k", 300 * M, 1024, 1e-3, True, 5 * M, "fractaldb", DEIT, ADAMW),
    "onepfrac": ("onepfrac-1k", 61_440_000, 256, 5e-4, True, 3840, "onepfrac", VIT, ADAMW),
    "onepfrac-21k": ("onepfrac-21k", OF_21K, 1024, 5e-4, False, 102_400, "onepfrac", VIT[1:2], ADAMW),
    "ofdb": ("ofdb-1k", 61_440_000, 256, 5e-4, True, 3840, "ofdb", VIT, ADAMW),
    "ofdb-21k": ("ofdb-21k", OF_21K, 1024, 5e-4, False, 102_400, "ofdb", VIT[1:2], ADAMW),
    **{
        name: (f"{name}-1k", 300 * M, 256, 1e-3, False, 1_280_000, "visualatom", DEIT, ADAMW)
        for name in ("visualatom", "rcdb", "exfractaldb")
    },
    **{
        name: (name, 1890 * M, 8192, 1e-3, False, 40_960_000, "visualatom", LARGE, ADAMW)
        for name in ("visualatom-21k", "rcdb-21k", "exfractaldb-21k")
    },
}  # fmt: skip
CHOSEN = {  # what the source leaves open
    "deit", "fractaldb-resnet", "fractaldb", "visualatom", "rcdb", "rcdb-21k", "exfractaldb", "exfractaldb-21k",
}  # fmt: skip


def test_every_preset_is_its_papers():
    found = {
        name: (
            each.recipe, each.images, each.batch_size, each.lr, each.lr_scales, each.warmup, each.augment, each.models,
            (each.optimizer, each.weight_decay, each.schedule, each.min_lr, each.drop_path),
        )
        for name, each in PRESETS.items()
    }  # fmt: skip
    assert found == WANTED
    assert {name for name, each in PRESETS.items() if each.open} == CHOSEN
    assert all(gr.recipe(each.recipe) for each in PRESETS.values())


def test_a_preset_is_a_value_by_name():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["deit"].lr = 1.0
    with pytest.raises(TypeError):
        Preset("a", "b", (), 1, 1)


def test_a_recipe_of_one_s_own_has_the_settings_of_its_family():
    assert preset(None, gr.Noise(classes=3))[0] == preset(None, gr.SingleImage(PICTURE, classes=3))[0] == "onepfrac"
    assert preset(None, gr.FractalDB(classes=3))[0] == "fractaldb"
    assert preset(None, gr.ColorFractal(classes=3)) == ("deit", PRESETS["deit"])
    assert "fractaldb-resnet" not in OF_RECIPES
    assert OF_RECIPES["deit"] == "deit"
    with pytest.raises(ValueError, match=r"^preset must be one of 'deit', .*got 'x'"):
        preset("x", gr.Noise(classes=3))
