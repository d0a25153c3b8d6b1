"""timm's models: their weights by the seed, their sizes, what is no model, and what is the head."""

import sys
from types import SimpleNamespace

import pytest
import torch

from gpurender.training import models

timm = pytest.importorskip("timm", reason="needs timm, of the extra 'train'")


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = models.create("test_resnet", 3, 32, seed=5)
    torch.manual_seed(4)
    again, other = (models.create("test_resnet", 3, 32, seed=seed) for seed in (5, 6))
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = timm.create_model("test_resnet", num_classes=3)
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
        assert one.requires_grad
    assert torch.equal(first.fc.weight, theirs.fc.weight)
    assert not torch.equal(first.fc.weight, other.fc.weight)
    assert first.training
    assert not any(name.endswith("num_batches_tracked") and value for name, value in first.state_dict().items())
    default = models.create("test_resnet", 3, 32)
    assert torch.equal(default.fc.weight, models.create("test_resnet", 3, 32, 0.0, 0).fc.weight)


def test_one_black_image_is_tried_in_the_model_s_own_precision(monkeypatch):
    seen = []

    class Noted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x):
            seen.append((tuple(x.shape), x.dtype, x.any().item(), self.training, torch.is_inference_mode_enabled()))

    monkeypatch.setattr(models, "_made", lambda *_: Noted())
    assert models.create("test_resnet", 3, 24).training
    assert seen == [((1, 3, 24, 24), torch.float64, False, False, True)]


def test_a_model_of_a_fixed_size_is_made_for_it():
    assert models.create("test_vit", 3, 64).pos_embed.shape[1] == 1 + 4 * 4
    assert models.create("test_vit", 3, 32).pos_embed.shape[1] == 1 + 2 * 2


def test_a_model_that_timm_has_no_description_of_is_made_as_it_is(monkeypatch):
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: None)
    assert models.create("test_resnet", 3, 32).num_classes == 3


def test_stochastic_depth_is_for_models_that_have_it(monkeypatch):
    made, create = [], timm.create_model

    def without(name, **given):
        made.append(given)
        if "drop_path_rate" in given:
            raise TypeError("unexpected keyword argument 'drop_path_rate'")
        return create(name, **given)

    rates = [m.drop_prob for m in models.create("test_vit", 3, 32, 0.5).modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == 0.5
    monkeypatch.setattr(timm, "create_model", without)
    assert models.create("test_resnet", 3, 32, 0.1).num_classes == 3
    assert made == [{"num_classes": 3, "drop_path_rate": 0.1}, {"num_classes": 3}]
    made.clear()
    models.create("test_resnet", 3, 32)
    assert made == [{"num_classes": 3}]


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, ValueError])
def test_a_size_that_a_model_refuses_is_named_in_one_line(monkeypatch, error):
    def refuse(*_):
        raise error("too\n  small")

    monkeypatch.setattr(models, "_made", refuse)
    with pytest.raises(ValueError, match=r"^image_size must suit the model test_vit, got 32: too small$"):
        models.create("test_vit", 3, 32)


def test_what_is_no_model_is_refused():
    assert models.check_model("test_vit") == "test_vit"
    with pytest.raises(TypeError, match=r"^model must be the name of one of timm's models, got 18$"):
        models.check_model(18)
    with pytest.raises(ValueError, match=r"^model must be one of timm\.list_models\(\), got 'test_vitt'; did you mean"):
        models.check_model("test_vitt")


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_a_missing_or_broken_timm_is_said(monkeypatch, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "timm":
                raise error("no luck")

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(RuntimeError, match=r"^training needs timm, .*pip install 'gpurender\[train\]' \(no luck\)$"):
        models.require_timm()


@pytest.mark.parametrize(
    ("classifier", "left"),
    [
        ("head", ["body.weight", "head_norm.weight", "head2.bias"]),
        (("head", "head2"), ["body.weight", "head_norm.weight"]),
        (None, ["body.weight", "head.weight", "head_norm.weight", "head2.bias"]),
    ],
)
def test_a_body_has_no_head(classifier, left):
    weights = dict.fromkeys(["body.weight", "head.weight", "head_norm.weight", "head2.bias"])
    assert list(models.body(weights, SimpleNamespace(default_cfg={"classifier": classifier}))) == left


def channels_last(weight):
    """Whether a weight with more than one channel and a window lies with its channels side by side."""
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


@pytest.mark.parametrize(
    ("size", "step", "wanted"),
    [((3, 3), (2, 2), True), ((4, 4), (4, 4), False), ((4, 4), (4, 3), True), ((4, 4), (3, 4), True),
     ((2, 2), (3, 3), False), ((1, 1), (1, 1), False)],
)  # fmt: skip
def test_windows_that_overlap_make_a_model_channels_last(size, step, wanted):
    """ViT and Swin cut patches, whose windows do not overlap; they were not faster."""
    first, patches = torch.nn.Conv2d(3, 8, size, step), torch.nn.Conv2d(8, 8, 2, 2)
    model = torch.nn.Sequential(first, patches, torch.nn.Linear(2, 2), torch.nn.Conv3d(2, 2, 2, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    assert models.arranged(model) is model
    assert channels_last(patches.weight) == wanted
    assert channels_last(first.weight) == (wanted and size != (1, 1))
    assert model[3].weight.is_contiguous()
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in parameters)


@pytest.mark.parametrize(("name", "wanted"), [("test_resnet", True), ("test_efficientnet", True), ("test_vit", False)])
def test_timm_s_convolutional_nets_are_channels_last(name, wanted):
    model = models.arranged(models.create(name, 3, 32))
    assert any(map(channels_last, model.parameters())) == wanted
    with torch.inference_mode():
        plain = models.create(name, 3, 32).eval()
        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(model.eval()(images), plain(images), rtol=1e-4, atol=1e-5)


def test_a_model_without_convolutions_stays():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert models.arranged(model).state_dict().keys() == {"0.weight", "0.bias"}
