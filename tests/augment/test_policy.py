"""Policies of users: any object with draw and apply, or a subclass with these two; the rest has defaults."""

import pickle

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment.adapter import as_policy
from gpurender.augment.policy import begin, capturable
from gpurender.runtime.image_formats import ImageFormat


class Minimal:
    """An object with the two methods, which knows neither a memory format nor anything else."""

    def draw(self, numbers, *, seed, canvas_size, image_size):
        return {"numbers": torch.as_tensor(numbers)}

    def apply(self, canvases, parameters, *, image_size, dtype):
        return torch.zeros(len(canvases), 3, image_size, image_size, dtype=dtype)


class Everything(Minimal):
    """An object that has all that a policy may have."""

    views, num_aug_repeats, soft, mean, std, capturable = 2, 3, True, (0.1, 0.2, 0.3), (0.3, 0.2, 0.1), True

    def targets(self, labels, parameters, classes):
        return labels + classes

    def at_epoch(self, epoch):
        return Minimal() if epoch else self

    def unmixed(self):
        return gr.augment.Resize()

    def check_sizes(self, canvas_size, image_size):
        raise ValueError("not these")


class Derived(gr.augment.Policy):
    """A subclass of the library's class."""

    draw, apply = Minimal.draw, Minimal.apply


class Half(gr.augment.Policy):
    """A subclass that forgot to apply."""

    draw = Minimal.draw


@pytest.mark.parametrize("kind", [Minimal, Derived])
def test_what_a_policy_lacks_has_defaults(kind):
    policy = as_policy(kind())
    labels = torch.arange(3)
    assert (policy.views, policy.num_aug_repeats, policy.soft) == (0, 0, False)
    assert policy.mean == policy.std == (0.5, 0.5, 0.5)
    assert policy.targets(labels, {}, 9) is labels
    assert policy.at_epoch(3) is policy.unmixed() is policy
    assert policy.check_sizes(32, 24) is None
    assert not capturable(policy)
    assert policy.class_name == kind.__name__


def test_what_a_foreign_policy_has_is_used():
    foreign = Everything()
    policy = as_policy(foreign)
    assert (policy.views, policy.num_aug_repeats, policy.soft) == (2, 3, True)
    assert (policy.mean, policy.std) == (foreign.mean, foreign.std)
    assert policy.targets(torch.arange(3), {}, 9).tolist() == [9, 10, 11]
    assert policy.at_epoch(0) is policy
    assert policy.at_epoch(1).class_name == "Minimal"  # adapted, too
    assert policy.unmixed() == gr.augment.Resize()
    with pytest.raises(ValueError, match="not these"):
        policy.check_sizes(32, 24)
    assert capturable(policy)
    foreign.num_aug_repeats = 5  # asked for each time
    assert policy.num_aug_repeats == 5


def test_a_policy_is_adapted_once():
    foreign, ours = Minimal(), gr.augment.Crop()
    policy = as_policy(foreign)
    assert as_policy(policy) is policy
    assert as_policy(ours) is ours
    assert as_policy(None) == gr.augment.Resize()
    assert isinstance(policy, gr.augment.Policy)
    assert policy == as_policy(foreign) != as_policy(Minimal())
    assert hash(policy) == hash(as_policy(foreign))
    assert pickle.loads(pickle.dumps(policy)).class_name == "Minimal"
    foreign.__class__ = type("Unhashable", (Minimal,), {"__eq__": lambda self, other: True, "__hash__": None})
    with pytest.raises(TypeError, match="unhashable"):
        hash(policy)


@pytest.mark.parametrize("wrong", [b"crop", Minimal, gr.augment.Crop, torch.zeros(3), object()])
def test_what_is_no_policy_is_refused(wrong):
    like = r"a policy such as gr\.augment\.Crop\(\) or its name, got "
    with pytest.raises(TypeError, match=rf"^augment must be None or {like}"):
        as_policy(wrong)
    with pytest.raises(TypeError, match=rf"^second must be {like}"):
        as_policy(wrong, "second", required=True)


NAMES = {
    "crop": gr.augment.Crop(),
    "deit": gr.augment.DeiT(),
    "onepfrac": gr.augment.DeiT.onepfrac(),
    "ofdb": gr.augment.DeiT.ofdb(),
    "fractaldb": gr.augment.DeiT.fractaldb(),
    "visualatom": gr.augment.DeiT.visualatom(),
    "resnet": gr.augment.DeiT.resnet(),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("required", [False, True])
def test_a_name_stands_for_its_policy(name, required):
    assert as_policy(name, required=required) == NAMES[name]


def test_a_name_is_taken_wherever_a_policy_is():
    tiny = gr.VisualAtom(classes=2, instances=4, image_size=32)
    by_name, by_policy = (
        gr.DataLoader(tiny, batch_size=4, image_size=16, device="cpu", augment=augment)
        for augment in ("deit", gr.augment.DeiT())
    )
    for (images, targets), (same_images, same_targets) in zip(by_name, by_policy, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(targets, same_targets)
    assert gr.augment.TwoViews("crop") == gr.augment.TwoViews(gr.augment.Crop())
    assert gr.augment.TwoViews("crop", "resnet").second == gr.augment.DeiT.resnet()
    views = gr.augment.MultiCrop(("crop", 2), ("resnet", 1, 8))
    assert views == gr.augment.MultiCrop((gr.augment.Crop(), 2), (gr.augment.DeiT.resnet(), 1, 8))


def test_a_wrong_name_is_refused_with_the_one_that_was_meant():
    names = "'crop', 'deit', 'onepfrac', 'ofdb', 'fractaldb', 'visualatom', 'resnet'"
    with pytest.raises(ValueError, match=f"^augment must be one of {names}, got 'dite'; did you mean 'deit'\\?$"):
        gr.DataLoader("onepfrac-1k", augment="dite")
    with pytest.raises(ValueError, match=r"^policy must be one of .*, got 'Crop'; did you mean 'crop'\?$"):
        gr.augment.TwoViews("Crop")
    with pytest.raises(ValueError, match=r"^crops\[1\]\[0\] must be one of .*, got 'crops'; did you mean 'crop'\?$"):
        gr.augment.MultiCrop(("crop", 1), ("crops", 2))
    with pytest.raises(ValueError, match=r"^second must not mix samples"):
        gr.augment.TwoViews("crop", "deit")


def test_a_subclass_must_draw_and_apply():
    with pytest.raises(TypeError, match="abstract"):
        gr.augment.Policy()
    with pytest.raises(NotImplementedError, match="Half must define apply"):
        Half().apply(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), {}, image_size=8)


@pytest.mark.parametrize("kind", [Minimal, Derived])
def test_policies_of_users_draw_and_apply_in_a_loader_and_in_views(kind):
    recipe = gr.VisualAtom(classes=3, instances=2, image_size=32, orbits=(1, 3), quantization=(5, 9))
    keywords = {"batch_size": 2, "image_size": 16, "device": "cpu", "dtype": torch.float64}
    images, _ = next(iter(gr.DataLoader(recipe, augment=kind(), **keywords)))
    assert (images.shape, images.dtype) == ((2, 3, 16, 16), torch.float64)
    own = kind()
    views = gr.augment.TwoViews(own, gr.augment.Crop())
    assert views.policy is own
    images, _ = next(iter(gr.DataLoader(recipe, augment=views, **keywords)))
    assert [tuple(view.shape) for view in images] == [(2, 3, 16, 16)] * 2


def loader(policy):
    recipe = gr.VisualAtom(classes=2, instances=2, image_size=32, orbits=(1, 3), quantization=(5, 9))
    return gr.DataLoader(recipe, batch_size=2, image_size=16, augment=policy)


@pytest.mark.parametrize("base", [Minimal, gr.augment.Crop])
@pytest.mark.parametrize("method", ["at_epoch", "unmixed"])
def test_a_method_that_forgets_to_return_a_policy_is_an_error(base, method):
    """It must not stand for the default policy: training would go on without augmentation."""
    policy = type("Forgetful", (base,), {method: lambda *_: None})()
    feed = loader(policy)
    feed.mixup_enabled = False
    with pytest.raises(TypeError, match=rf"{method}\(\).* must be a policy such as .*, got None"):
        next(iter(feed))


def test_a_subclass_may_name_a_foreign_policy_for_an_epoch():
    class Later(gr.augment.Crop):
        def at_epoch(self, epoch):
            return Minimal()

    images, _ = next(iter(loader(Later())))
    wanted, _ = next(iter(loader(Minimal())))
    assert torch.equal(images, wanted)


class Brighter(gr.augment.DeiT):
    """Does something after the launch that was the last one."""

    def apply(self, canvases, parameters, **finish):
        return super().apply(canvases, parameters, **finish) + 1.0


class Seeded(gr.augment.DeiT):
    """Draws otherwise, and launches nothing else."""

    def draw(self, numbers, **where):
        return super().draw(numbers, **where | {"seed": 5})


@pytest.mark.parametrize(
    ("given", "leaves"),
    [
        (gr.augment.DeiT(), True), (gr.augment.Crop(), True), (gr.augment.Resize(), True), (Seeded(), True),
        (Brighter(), False), (gr.augment.MultiCrop((gr.augment.Crop(), 1), (Brighter(mixup_alpha=0, cutmix_alpha=0,
        label_smoothing=0), 1, 16)), (True, False)),
    ],
    ids=["DeiT", "Crop", "Resize", "draws otherwise", "applies otherwise", "views"],
)  # fmt: skip
def test_a_last_launch_is_left_by_policies_that_end_in_it(given, leaves):
    """Begun and launched they make what they make when applied; the launch may be repeated."""
    canvases = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 1, 40, 40)).astype(np.uint8))
    drawn = given.draw(range(4), canvas_size=40, image_size=24)
    begun = begin(given, canvases, drawn, ImageFormat(24, torch.float16, torch.channels_last))
    wanted = given.apply(canvases, drawn, image_size=24, dtype=torch.float16, memory_format=torch.channels_last)
    if not given.views:
        begun, wanted, leaves = [begun], [wanted], (leaves,)
    for last, images, left in zip(begun, wanted, leaves, strict=True):
        assert isinstance(last, torch.Tensor) is not left
        for found in [last(), last()] if left else [last]:
            assert torch.equal(found, images)
