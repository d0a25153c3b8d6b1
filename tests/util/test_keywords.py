"""Unknown keywords of public classes and functions: refused with the one that was meant, and nothing else changes."""

import copy
import dataclasses
import inspect
import pickle

import pytest

import gpurender as gr
from gpurender.util import keywords

TINY = gr.VisualAtom(classes=2, instances=3, image_size=32)
LOADER = {"recipe": TINY, "image_size": 16, "device": "cpu"}
CASES = [
    (gr.OnePFrac, {}, "clases", "classes"),
    (gr.FractalDB, {}, "weight", "weights"),
    (gr.OFDB, {}, "category", "categories"),
    (gr.ExFractalDB, {}, "viewpoint", "viewpoints"),
    (gr.VisualAtom, {}, "imagesize", "image_size"),
    (gr.RCDB, {}, "polygon", "polygons"),
    (gr.ColorFractal, {}, "colour", "color"),
    (gr.MultiFractal, {}, "object", "objects"),
    (gr.Noise, {}, "perturbation", "perturb"),
    (gr.Moire, {}, "centers", "centres"),
    (gr.SingleImage, {"image": gr.SingleImage.smallest().image}, "threshold", "thresholds"),
    (gr.Mixture, {"recipes": {TINY: 1}}, "label", "labels"),
    (gr.losses.LPCE, {}, "labelsmoothing", "label_smoothing"),
    (gr.Renderer, {"recipe": TINY}, "cachebytes", "cache_bytes"),
    (gr.Dataset, {"recipe": TINY}, "transforms", "transform"),
    (gr.DataLoader, LOADER, "batchsize", "batch_size"),
    (gr.DataLoader, LOADER, "num_worker", "num_workers"),
    (gr.augment.Crop, {}, "h_flip", "hflip"),
    (gr.augment.DeiT, {}, "mixup", "mixup_alpha"),
    (gr.augment.PixMix, {"pictures": gr.Renderer(TINY)}, "sevrity", "severity"),
    (gr.augment.Resize, {}, "interpolate", "interpolation"),
    (gr.augment.TwoViews, {"policy": "crop"}, "Second", "second"),
    (gr.augment.MultiCrop, {"crops": [("crop", 2)]}, "crop", "crops"),
]
CLASSES = list(dict.fromkeys(case[0] for case in CASES))


def test_every_family_and_policy_has_a_case():
    policies = {value for value in vars(gr.augment).values() if isinstance(value, type)} - {
        gr.augment.Policy,
        gr.augment.Operation,
    }
    assert {*gr.Recipe.families.values(), *policies} <= {
        *CLASSES,
        gr.Schedule,
    }  # a schedule has the keywords of its recipe


@pytest.mark.parametrize(("cls", "given", "wrong", "meant"), CASES)
def test_an_unknown_keyword_is_refused_with_the_one_that_was_meant(cls, given, wrong, meant):
    cls(**given)
    with pytest.raises(TypeError) as caught:
        cls(**given, **{wrong: 1})
    assert str(caught.value) == (
        f"{cls.__name__}() got an unexpected keyword argument {wrong!r}; did you mean {meant!r}?"
    )


def test_without_a_like_one_all_are_named():
    with pytest.raises(
        TypeError, match=r"^Mixture\(\) got an unexpected keyword argument 'x'; it takes recipes, labels$"
    ):
        gr.Mixture({TINY: 1}, x=1)


def test_a_function_is_checked_too(tmp_path):
    with pytest.raises(TypeError) as caught:
        gr.export(TINY, tmp_path / "out", perclass=1)
    assert str(caught.value) == "export() got an unexpected keyword argument 'perclass'; did you mean 'per_class'?"
    assert list(tmp_path.iterdir()) == []
    assert pickle.loads(pickle.dumps(gr.export)) is gr.export


@pytest.mark.parametrize("cls", CLASSES)
def test_the_signature_is_that_of_the_class(cls):
    shown = list(inspect.signature(cls).parameters)
    assert list(inspect.signature(cls.__init__).parameters) == ["self", *shown]
    if dataclasses.is_dataclass(cls) and cls not in (gr.Mixture, gr.augment.MultiCrop):  # which have their own
        fields = sorted(dataclasses.fields(cls), key=lambda field: field.kw_only)  # those by position come first
        assert shown == [field.name for field in fields]


@pytest.mark.parametrize(("cls", "given"), [(cls, given) for cls, given, *_ in CASES])
def test_copies_are_made_as_ever(cls, given):
    made = cls(**given)
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert type(again) is cls
        if dataclasses.is_dataclass(cls) and cls is not gr.augment.PixMix:  # its renderer is equal to itself alone
            assert again == made
    if dataclasses.is_dataclass(cls) and cls is not gr.Mixture:
        assert dataclasses.replace(made) == made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bright(gr.augment.Crop):
    """A user's policy with a further parameter."""

    gain: float = 1.0


class Own(gr.DataLoader):
    """A user's loader with its own constructor."""

    def __init__(self, folder, **keywords):
        super().__init__(**keywords)
        self.folder = folder


def test_subclasses_have_their_own_parameters():
    assert Bright(gain=2.0, hflip=0.0).hflip == 0.0
    assert Own("there", **LOADER).folder == "there"
    with pytest.raises(TypeError, match=r"^DataLoader\(\) got .* 'batchsize'; did you mean 'batch_size'\?$"):
        Own("there", **LOADER, batchsize=4)


def test_positions_are_names_too():
    @keywords.checked
    class Point:
        def __init__(self, x, /, y, *rest, z=0):
            self.values = (x, y, *rest, z)

    assert Point(1, 2, 3, z=4).values == (1, 2, 3, 4)
    assert Point(1, y=2).values == (1, 2, 0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'; it takes y, z"):
        Point(1, 2, x=3)
    with pytest.raises(TypeError, match="missing"):
        Point(1)
