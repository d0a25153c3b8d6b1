"""DeiT, repeated augmentation and several views in the loader."""

import dataclasses
import pickle
from itertools import chain, islice

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment.views import view_seed
from gpurender.kernels.shuffle import permute

DeiT = gr.augment.DeiT


def recipe():
    triangle = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
    return gr.OnePFrac(classes=5, instances=4, base=triangle, points=500, image_size=32, fill_rate=0.0)


def loader(batch_size=6, augment=None, **keywords):
    return gr.DataLoader(
        recipe(), batch_size=batch_size, image_size=24, augment=augment or DeiT(), device="cpu", **keywords
    )


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
    )


# ------------------------------------------------------------------------------------------------------------ targets


def test_a_batch_is_drawn_at_the_addresses_of_its_samples():
    policy, drawn = DeiT(), loader(batch_size=10, shuffle=True, seed=3)
    for epoch in range(2):
        for first, (images, targets) in zip((0, 10), drawn, strict=True):
            samples = permute(np.arange(first, first + 10), 20, 3, epoch)
            parameters = policy.draw(epoch * 20 + samples, seed=3, canvas_size=32, image_size=24)
            canvases, labels = gr.Renderer(recipe())(samples), torch.from_numpy(samples // 4)
            assert torch.equal(images, policy.apply(canvases, parameters, image_size=24))
            assert torch.equal(targets, policy.targets(labels, parameters, 5))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_any_batch_size_has_soft_targets(batch_size, mode):
    batches = list(loader(batch_size=batch_size, augment=DeiT(mixup_mode=mode)))
    assert [len(images) for images, _ in batches] == [len(targets) for _, targets in batches]
    assert sum(len(images) for images, _ in batches) == 20
    for images, targets in batches:
        assert images.dtype == targets.dtype == torch.float32
        assert targets.shape == (len(images), 5)
        assert torch.allclose(targets.sum(1), torch.ones(len(targets)))
        assert torch.isfinite(images).all()


def test_one_class_and_one_sample():
    """A batch of one image has no partner: it stays as it is, and so does its target."""
    single = gr.OnePFrac(classes=1, base=[[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 1, 1]], image_size=32, fill_rate=0)
    policy = DeiT(re_prob=0.0)
    ((images, targets),) = gr.DataLoader(single, image_size=24, augment=policy, device="cpu")
    ((alone, _),) = gr.DataLoader(single, image_size=24, augment=policy.unmixed(), device="cpu")
    assert torch.equal(images, alone)
    assert torch.allclose(targets, torch.ones(1, 1))
    five = loader(batch_size=5, augment=DeiT(mixup_alpha=0.0))  # the middle image of an odd batch
    for _, targets in five:
        assert targets[2].max() == pytest.approx(0.9 + 0.1 / 5)


def test_labels_where_nothing_is_mixed_or_smoothed():
    plain = DeiT(mixup_alpha=0, cutmix_alpha=0, label_smoothing=0)
    images, targets = next(iter(loader(augment=plain)))
    assert targets.dtype == torch.int64
    assert targets.tolist() == [0, 0, 0, 0, 1, 1]
    assert images.shape == (6, 3, 24, 24)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_of_other_types_are_those_of_float32(dtype):
    policy = DeiT(re_mode="const")
    for (images, targets), (wide, same_targets) in zip(
        loader(augment=policy, dtype=dtype, memory_format=torch.channels_last), loader(augment=policy), strict=True
    ):
        assert images.dtype == dtype
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(images, wide.to(dtype))
        assert torch.equal(targets, same_targets)


def test_mixing_is_switched_off_by_epoch_or_by_the_training_loop():
    unmixed = [targets.max(1).values.min() for _, targets in loader(augment=DeiT(mixup_prob=0.0))]
    late = loader(augment=DeiT(mixup_off_epoch=2))
    mixed = [[targets.max(1).values.min() for _, targets in late] for _ in range(3)]
    assert mixed[2] == unmixed
    assert mixed[0] != unmixed
    assert mixed[1] != unmixed
    switched = loader()
    assert switched.mixup_enabled is True
    switched.mixup_enabled = False
    assert [targets.max(1).values.min() for _, targets in switched] == unmixed
    with pytest.raises(TypeError, match="mixup_enabled must be True or False"):
        switched.mixup_enabled = 0


def test_torch_takes_the_targets():
    images, targets = next(iter(loader()))
    logits = torch.zeros(len(images), 5, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(5))


# -------------------------------------------------------------------------------------------- repeated augmentation


def samples_of(one):
    return [*chain(*one.batch_sampler)]


def test_samples_come_in_a_row_and_augmented_otherwise():
    policy = DeiT(num_aug_repeats=3, mixup_prob=0.0, label_smoothing=0.0, re_prob=0.0)
    repeated = loader(batch_size=6, augment=policy, shuffle=True, seed=2)
    order = permute(np.arange(7), 20, 2, 0).tolist()
    assert samples_of(repeated) == [sample for sample in order for _ in range(3)][:20]
    images = torch.cat([images for images, _ in repeated])
    targets = torch.cat([targets.argmax(1) for _, targets in loader(augment=policy, shuffle=True, seed=2)])
    assert targets.tolist() == [sample // 4 for sample in [s for s in order for _ in range(3)][:20]]
    for first in range(0, 18, 3):
        assert not torch.equal(images[first], images[first + 1])
        assert not torch.equal(images[first + 1], images[first + 2])


def test_repeats_show_one_canvas_also_when_fresh():
    """Without augmentation but the flips, the copies of a sample are one image or its mirror image."""
    policy = DeiT(
        num_aug_repeats=2, scale=(1, 1), ratio=(1, 1), hflip=0.5, auto_augment=None, color_jitter=None, re_prob=0.0,
        mixup_alpha=0, cutmix_alpha=0,
    )  # fmt: skip
    shown = loader(batch_size=20, augment=policy, shuffle=True, fresh=True)
    both = set()
    for _ in range(3):
        ((images, _),) = shown
        for a, b in zip(images[::2], images[1::2], strict=True):
            assert torch.equal(a, b) or torch.equal(a, b.flip(-1))
            both.add(torch.equal(a, b))
        assert len({image.numpy().tobytes() for image in images}) > 5
    assert both == {True, False}


def test_every_repeat_of_every_epoch_has_its_own_address():
    """Of augmentation: epoch x length + position."""
    asked = []

    class Notes(DeiT):
        def draw(self, numbers, **keywords):
            asked.extend(numbers.tolist())
            return super().draw(numbers, **keywords)

    repeated = loader(batch_size=6, augment=Notes(num_aug_repeats=3, mixup_prob=0.0), shuffle=True)
    for _ in range(3):
        list(repeated)
    assert asked == list(range(3 * 20))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_repeats(world_size):
    policy = DeiT(num_aug_repeats=3, mixup_prob=0.0)
    whole = [row for batch in loader(world_size * 2, policy, shuffle=True) for row in zip(*batch, strict=True)]
    ranks = [list(loader(2, policy, shuffle=True, rank=r, world_size=world_size)) for r in range(world_size)]
    joined = [row for step in zip(*ranks, strict=True) for batch in step for row in zip(*batch, strict=True)]
    assert same(joined[:18], whole[:18])


def test_a_loader_that_repeats_resumes():
    policy = DeiT(num_aug_repeats=3, mixup_mode="pair")
    whole = [*islice(chain(loader(4, policy, shuffle=True), loader(4, policy, shuffle=True)), 5)]
    first = loader(4, policy, shuffle=True)
    batches = iter(first)
    got = [next(batches), next(batches)]
    resumed = loader(4, policy, shuffle=True)
    resumed.load_state_dict(first.state_dict())
    assert same([*got, *resumed], whole)


# -------------------------------------------------------------------------------------------------------------- views


def test_two_views_are_two_draws_of_one_sample():
    policy = gr.augment.Crop()
    images, labels = next(iter(loader(4, gr.augment.TwoViews(policy), seed=5)))
    assert isinstance(images, list)
    assert [tuple(view.shape) for view in images] == [(4, 3, 24, 24)] * 2
    assert labels.tolist() == [0, 0, 0, 0]
    canvases = gr.Renderer(recipe())(range(4))
    for v, view in enumerate(images):
        parameters = policy.draw(range(4), seed=view_seed(5, v), canvas_size=32, image_size=24)
        assert torch.equal(view, policy.apply(canvases, parameters, image_size=24))
    assert not torch.equal(*images)


def test_multi_crop():
    plain = DeiT(mixup_alpha=0, cutmix_alpha=0, label_smoothing=0, auto_augment=None, grayscale_prob=0.2)
    policy = gr.augment.MultiCrop((gr.augment.Crop(scale=(0.4, 1.0)), 2), (plain, 3, 12))
    (images, labels), *_ = loader(4, policy)
    assert [tuple(view.shape) for view in images] == [(4, 3, 24, 24)] * 2 + [(4, 3, 12, 12)] * 3
    assert labels.dtype == torch.int64
    fewer = gr.augment.MultiCrop((gr.augment.Crop(scale=(0.4, 1.0)), 1), (plain, 1, 12))
    (others, _), *_ = loader(4, fewer)
    assert torch.equal(images[0], others[0])  # a view does not depend on how many there are


def test_policies_of_views_are_values():
    large, small = gr.augment.Crop(scale=(0.4, 1.0)), gr.augment.Crop(scale=(0.05, 0.4))
    crops = gr.augment.MultiCrop((large, 2), [small, 6, 96])
    assert repr(crops) == f"MultiCrop(({large!r}, 2), ({small!r}, 6, 96))"
    assert crops == gr.augment.MultiCrop((large, 2, None), (small, 6, 96)) == dataclasses.replace(crops)
    assert dataclasses.replace(crops, crops=[(small, 3)]) == gr.augment.MultiCrop((small, 3))
    both = gr.augment.TwoViews(large, small)
    assert gr.augment.TwoViews(large).second is None
    assert dataclasses.replace(gr.augment.TwoViews(large), second=small) == both
    assert dataclasses.replace(both, policy=small).policy is small
    for policy in (crops, both, gr.augment.TwoViews(small)):
        assert isinstance(policy, gr.augment.Policy)
        again = pickle.loads(pickle.dumps(policy))
        assert again == policy == eval(repr(policy), vars(gr.augment))
        assert hash(again) == hash(policy)
        assert again.views == policy.views
        with pytest.raises(dataclasses.FrozenInstanceError):
            policy.crops = ()
    for wrong in ({large: 2}, "ab", None):
        with pytest.raises(TypeError, match=r"crops must be a list, each of \(policy, count\)"):
            gr.augment.MultiCrop(crops=wrong)


def test_views_refuse_what_was_not_drawn_and_sizes_that_nothing_can_be_drawn_for():
    narrow = DeiT.resnet(cutmix_minmax=(0.5, 0.51))
    crops = gr.augment.MultiCrop((gr.augment.Crop(), 1), (gr.augment.Crop(), 1, 12))
    with pytest.raises(TypeError, match=r"parameters must be what draw\(\) returned, got NoneType"):
        crops.apply(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), None)
    with pytest.raises(ValueError, match="'boxes' is missing"):
        crops.apply(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), {})
    crops.check_sizes(32, 24)
    with pytest.raises(ValueError, match=r"image_size must be .* got 0"):
        gr.augment.TwoViews(DeiT.resnet()).check_sizes(32, 0)
    with pytest.raises(ValueError, match="policy must not mix samples"):
        gr.augment.TwoViews(narrow)
    with pytest.raises(ValueError, match="second must not repeat samples"):
        gr.augment.TwoViews(gr.augment.Crop(), DeiT.resnet(num_aug_repeats=2))
    with pytest.raises(TypeError, match="policy must be a policy"):
        gr.augment.TwoViews(crops)


@pytest.mark.parametrize(
    ("crops", "error", "reason"),
    [
        ((), ValueError, "crops must be at least one"),
        ((gr.augment.Crop(),), TypeError, r"crops\[0\] must be \(policy, count\)"),
        (((gr.augment.Crop, 1),), TypeError, r"crops\[0\]\[0\] must be a policy"),
        (((gr.augment.TwoViews(gr.augment.Crop()), 1),), TypeError, r"crops\[0\]\[0\] must be a policy"),
        (((DeiT(), 1),), ValueError, r"crops\[0\]\[0\] must not mix samples"),
        (((gr.augment.Crop(), 0),), ValueError, r"crops\[0\]\[1\]"),
        (((gr.augment.Crop(), 1, 0),), ValueError, r"crops\[0\]\[2\]"),
        (((gr.augment.Crop(), 64), (gr.augment.Crop(), 1)), ValueError, "the number of views"),
    ],
)
def test_wrong_views_are_refused(crops, error, reason):
    with pytest.raises(error, match=reason):
        gr.augment.MultiCrop(*crops)
