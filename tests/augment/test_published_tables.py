"""The tables of timm and of the papers, as tables: draws would not show a probability that is a little off."""

import dataclasses
import inspect

import numpy as np
import pytest

import gpurender as gr
from gpurender.augment import deit
from gpurender.augment.rand_augment import (
    INCREASING,
    LEVELS,
    ORIGINAL,
    PLAIN,
    POLICIES,
    THREE,
    THREE_AUGMENT,
    V0,
    WEIGHT_SUM,
    WEIGHTED,
    WEIGHTED_THREE,
    alternatives,
    parsed,
)
from gpurender.recipes.fractaldb import weight_set
from gpurender.recipes.visualatom import DEFAULTS
from tests.support.optional import optional

timm = optional("timm.data.auto_augment")
timm_data = optional("timm.data")

# A rule of levels and its operation are one name's alone
NAMES = {(each.operation, each.rule): name for name in LEVELS for ((each,),) in [alternatives([[(name, 1.0, 0.0)]])]}


def names_of(params):
    """The alternatives as timm writes them: (name, probability, level)."""
    return [
        [(NAMES[each.operation, each.rule], each.probability, each.level) for each in choice]
        for choice in params.alternatives
    ]


# --------------------------------------------------------------------------------------------------------------- timm


@pytest.mark.parametrize(
    ("name", "table"), [("original", ORIGINAL), ("v0", V0), ("3a", THREE_AUGMENT), *POLICIES.items()]
)
def test_policies_are_timms(name, table):
    policy = timm.auto_augment_policy(name, {"translate_const": 100})
    wanted = [[(step.name, step.prob, step.magnitude) for step in choice] for choice in policy]
    assert [list(choice) for choice in table] == wanted
    assert names_of(parsed(name)) == wanted


def test_sets_of_operations_are_timms():
    assert list(PLAIN) == timm.rand_augment_choices("", increasing=False)
    assert list(INCREASING) == timm.rand_augment_choices("", increasing=True)
    assert list(THREE) == timm.rand_augment_choices("3a")
    assert timm.rand_augment_choices("weights") == WEIGHTED
    assert timm.rand_augment_choices("3aw") == WEIGHTED_THREE
    assert list(LEVELS) == [name for name in timm.LEVEL_TO_ARG if name not in ("TranslateX", "TranslateY")]


@pytest.mark.parametrize("config", ["rand-tweights", "rand-t3aw"])
def test_weights_are_timms(config):
    """As timm gives them to numpy.random.choice, to a millionth."""
    transform, policy = timm.rand_augment_transform(config, {}), parsed(config)
    assert [name for ((name, _, _),) in names_of(policy)] == [step.name for step in transform.ops]
    assert np.abs(np.array(policy.weights) / sum(policy.weights) - transform.choice_weights).max() < 1e-6


@pytest.mark.parametrize("name", [name for name, level in LEVELS.items() if level.gain == 0.0])
def test_operations_without_a_level_have_none_in_timm(name):
    assert timm.LEVEL_TO_ARG[name] is None


def test_normalisation_is_timms():
    assert timm_data.IMAGENET_DEFAULT_MEAN == deit.IMAGENET_MEAN
    assert timm_data.IMAGENET_DEFAULT_STD == deit.IMAGENET_STD


# What timm had before it named its weights: they sum to 1, and Posterize and Invert are never chosen.
W0 = {
    "Rotate": 0.3, "ShearX": 0.2, "ShearY": 0.2, "TranslateXRel": 0.1, "TranslateYRel": 0.1,
    "Color": 0.025, "Sharpness": 0.025, "AutoContrast": 0.025,
    "Solarize": 0.005, "SolarizeAdd": 0.005, "Contrast": 0.005, "Brightness": 0.005, "Equalize": 0.005,
}  # fmt: skip


@pytest.mark.parametrize(("config", "suffix"), [("rand-w0", ""), ("rand-w0-inc1", "Increasing")])
def test_old_weights(config, suffix):
    policy, grow = parsed(config), ("Color", "Sharpness", "Solarize", "Contrast", "Brightness")
    names = [name for ((name, _, _),) in names_of(policy)]
    wanted = {name + suffix * (name in grow): weight for name, weight in W0.items()}
    assert dict(zip(names, policy.weights, strict=True)) == {
        name: round(weight * WEIGHT_SUM) for name, weight in wanted.items()
    }


# ------------------------------------------------------------------------------------------------------------- papers

# DeiT's recipe: its repository's main.py as of 2021, and what the papers' scripts leave as it is.
PAPERS = {
    "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "interpolation": "bicubic", "hflip": 0.5, "vflip": 0.0,
    "color_jitter": 0.4, "color_jitter_prob": None, "force_color_jitter": False, "grayscale_prob": 0.0,
    "gaussian_blur_prob": 0.0, "auto_augment": "rand-m9-mstd0.5-inc1", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
    "re_prob": 0.25, "re_mode": "pixel", "re_count": 1, "re_area": (0.02, 1 / 3), "re_aspect": (0.3, 1 / 0.3),
    "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "cutmix_minmax": None, "mixup_prob": 1.0, "mixup_switch_prob": 0.5,
    "mixup_mode": "batch", "mixup_off_epoch": 0, "correct_lam": True, "label_smoothing": 0.1, "num_aug_repeats": 0,
}  # fmt: skip
ON_FRACTALS = {
    "hflip": 0.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "num_aug_repeats": 3,
}  # fmt: skip
PRESETS = {
    "onepfrac": {"vflip": 0.5, "re_prob": 0.5},
    "ofdb": {"vflip": 0.5, "re_prob": 0.5},
    "fractaldb": ON_FRACTALS,
    "visualatom": ON_FRACTALS,
    "resnet": {
        "scale": ((224 / 362) ** 2,) * 2, "ratio": (1.0, 1.0), "hflip": 0.0, "color_jitter": None, "auto_augment": None,
        "mean": (0.2, 0.2, 0.2), "re_prob": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "label_smoothing": 0.0,
    },
}  # fmt: skip


def test_every_preset_is_known():
    made = {name for name, _ in inspect.getmembers(gr.augment.DeiT, inspect.ismethod) if not name.startswith("_")}
    assert made == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_papers(name):
    assert dataclasses.asdict(getattr(gr.augment.DeiT, name)()) == PAPERS | PRESETS[name]


def test_defaults_are_deits():
    assert dataclasses.asdict(gr.augment.DeiT()) == PAPERS


ONES = [[1.0] * 6]


@pytest.mark.parametrize(("spread", "steps"), [(0.2, (0.6, 0.8, 1.2, 1.4)), (0.4, (0.2, 0.6, 1.4, 1.8))])
def test_weights_of_fractaldb_are_the_released_rows(spread, steps):
    """25 rows: the first two of parameter a, all ones, the other two of a, then four each of b to f."""
    rows = [[step if column == parameter else 1.0 for column in range(6)] for parameter in range(6) for step in steps]
    assert [list(row) for row in weight_set(spread)] == rows[:2] + ONES + rows[2:]
    assert len(weight_set(spread)) == 25


def test_defaults_of_visualatom_are_the_released_scripts_and_table_1():
    common = {
        "instances": 1000, "orbits": (1, 200), "quantization": (200, 1000), "frequencies": (0, 20),
        "amplitudes": (0.5, 0.5), "line_thickness": 1, "line_color": (0.0, 1.0), "nucleus": (-1.0, 1.0),
    }  # fmt: skip
    own = {
        "released": {"noise_level": (0.0, 4.0), "line_width": (0.0, 0.1), "radius": (10, 60), "oval": (1.0, 2.0)},
        "paper": {"noise_level": (0.0, 1.0), "axes": (1.0, 400.0), "interval": 1.0},
    }
    assert set(own) == set(DEFAULTS)
    for variant, values in own.items():
        recipe = gr.VisualAtom(variant=variant)
        assert {name: getattr(recipe, name) for name in common | values} == common | values
        others = {name for names in own.values() for name in names} - set(values)
        assert all(getattr(recipe, name) is None for name in others)
