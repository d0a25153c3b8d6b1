"""What DeiT draws besides RandAugment: the laws of timm and torchvision, by two-sample tests."""

import copy
import dataclasses
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import gpurender as gr
from gpurender.kernels.augment_params.params import ATTEMPTS
from gpurender.kernels.image_ops import Operation
from gpurender.kernels.philox import words
from gpurender.kernels.shuffle import permute
from gpurender.numerics.streams import Stream
from tests.support.optional import optional
from tests.support.two_sample import same_counts, same_law

timm_mixup = optional("timm.data.mixup")
random_erasing = optional("timm.data.random_erasing")
timm_transforms = optional("timm.data.transforms")
transforms = optional("torchvision.transforms")

COUNT = 20_000
OFF = {"auto_augment": None, "color_jitter": None, "re_prob": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0}


def policy(**changes):
    return gr.augment.DeiT(**OFF | changes)


# -------------------------------------------------------------------------------------------------------------- crops


@pytest.mark.parametrize(
    ("side", "ranges"),
    [
        (512, {}),
        (33, {"scale": (0.2, 1.0)}),
        (512, {"scale": (0.6, 1.0), "ratio": (1.0, 3.0)}),  # one attempt in two does not fit
        (512, {"scale": (0.9, 1.0), "ratio": (0.4, 0.5)}),  # none fits: the fallback
    ],
)
def test_crop_boxes(side, ranges):
    ours = policy(**ranges).draw(np.arange(COUNT), seed=4, canvas_size=side)["boxes"].numpy()
    random.seed(7)
    crop = timm_transforms.RandomResizedCropAndInterpolation(224, **ranges)
    image = Image.new("L", (side, side))
    theirs = np.array([crop.get_params(image, crop.scale, crop.ratio) for _ in range(COUNT)])
    for i, name in enumerate(("top", "left", "height", "width")):
        same_law(ours[:, i], theirs[:, i], name)
    (*_, h, w), (*_, their_h, their_w) = ours.T.astype(float), theirs.T.astype(float)
    same_law(h * w, their_h * their_w, "area")
    same_law(w / h, their_w / their_h, "ratio")


# ------------------------------------------------------------------------------------------------------------ erasing


class Erased:
    """Stands for an image tensor: remembers the boxes."""

    def __init__(self):
        self.boxes = []

    def __setitem__(self, place, value):
        _, rows, columns = place
        self.boxes.append((rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start))


ERASING = {
    "papers": ({"re_prob": 0.25}, {"probability": 0.25}),
    "always": ({"re_prob": 1.0}, {"probability": 1.0}),
    "several": ({"re_prob": 0.7, "re_count": 3}, {"probability": 0.7, "max_count": 3}),
    "range": ({"re_prob": 1.0, "re_count": (2, 4)}, {"probability": 1.0, "min_count": 2, "max_count": 4}),
    "large": (
        {"re_prob": 1.0, "re_area": (0.5, 1.0), "re_aspect": (0.2, 2.0)},
        {"probability": 1.0, "min_area": 0.5, "max_area": 1.0, "min_aspect": 0.2, "max_aspect": 2.0},
    ),
}


@pytest.mark.parametrize("size", [224, 17])
@pytest.mark.parametrize("case", ERASING)
def test_erasing_boxes(case, size, monkeypatch):
    ours, theirs = ERASING[case]
    drawn = policy(**ours).draw(np.arange(COUNT), seed=1, image_size=size)["erasing_boxes"].tolist()
    ours = [[tuple(box) for box in boxes if box[2]] for boxes in drawn]
    random.seed(2)
    monkeypatch.setattr(random_erasing, "_get_pixels", lambda *_, **__: None)
    eraser, theirs = random_erasing.RandomErasing(device="cpu", **theirs), []
    for _ in range(COUNT):
        image = Erased()
        eraser._erase(image, 3, size, size, None)
        theirs.append(image.boxes)
    same_counts([len(boxes) for boxes in ours], [len(boxes) for boxes in theirs], "number of boxes")
    for i, name in enumerate(("top", "left", "height", "width")):
        same_law(*([box[i] for boxes in draws for box in boxes] for draws in (ours, theirs)), name=name)
    areas = [[sum(h * w for _, _, h, w in boxes) for boxes in draws if boxes] for draws in (ours, theirs)]
    same_law(*areas, name="area")


AREA, ASPECT, LEFT = 0, 1, 3  # words of an attempt


class Given:
    """Stands for the module random in timm's eraser: gives it the words that a sample has for its boxes."""

    def __init__(self, blocks):  # [1 + 10 K][4]
        self.blocks, self.block, self.column = blocks, 0, LEFT

    def random(self):
        return (self.blocks[0][0] >> 8) * 2.0**-24

    def randint(self, low, high):
        if not self.block:
            word = self.blocks[0][1]  # how many boxes
        else:
            self.column += 1
            word = self.blocks[self.block][self.column]
            if self.column == LEFT:  # this box is found, and the next one has attempts of its own
                self.block = -(-self.block // ATTEMPTS) * ATTEMPTS
        return low + (word * (high - low + 1) >> 32)

    def uniform(self, low, high):
        if self.column == AREA:
            self.column = ASPECT
            return low + (high - low) * self.blocks[self.block][ASPECT] * 2.0**-32  # all bits: it is looked up
        self.block, self.column = self.block + 1, AREA
        return low + (high - low) * (self.blocks[self.block][AREA] >> 8) * 2.0**-24


@pytest.mark.parametrize("size", [224, 17])
@pytest.mark.parametrize("case", ERASING)
def test_erasing_boxes_are_timms_for_the_same_words(case, size, monkeypatch):
    """Not the law alone: each sample's very boxes, given its words."""
    ours, theirs = ERASING[case]
    numbers = np.arange(3000)
    boxes = policy(**ours).draw(numbers, seed=3, image_size=size)["erasing_boxes"]
    eraser = random_erasing.RandomErasing(device="cpu", **theirs)
    monkeypatch.setattr(random_erasing, "_get_pixels", lambda *_, **__: None)
    blocks = words(3, Stream.ERASING, numbers, 1 + ATTEMPTS * boxes.shape[1])
    for own, drawn in zip(boxes.tolist(), blocks.reshape(len(numbers), -1, 4).tolist(), strict=True):
        image = Erased()
        monkeypatch.setattr(random_erasing, "random", Given(drawn))
        eraser._erase(image, 3, size, size, None)
        assert [tuple(box) for box in own if box[2]] == image.boxes


@pytest.mark.parametrize(
    ("share", "ratio", "sides"),
    [
        (1.0, 1.0, None),  # as large as the image: no box
        (0.25, 4.0, None),  # as high as the image, half as wide as its quarter
        (0.25, 0.25, None),  # as wide as the image
        (0.81, 1.0, (9, 9)),
        (0.36, 2.25, (9, 4)),
        (0.36, 1 / 2.25, (4, 9)),
    ],
)
def test_erased_boxes_are_smaller_than_the_image(share, ratio, sides):
    """At the boundary: of an image of 10 pixels a side of 9 is allowed, one of 10 is not."""
    drawn = policy(re_prob=1.0, re_area=(share, share), re_aspect=(ratio, ratio)).draw(range(200), image_size=10)
    boxes = drawn["erasing_boxes"][:, 0]
    if sides is None:
        assert not boxes.any()
        return
    assert set(map(tuple, boxes[:, 2:].tolist())) == {sides}
    for i in (0, 1):
        assert set(boxes[:, i].tolist()) == set(range(11 - sides[i]))


def test_noise_keys_are_the_words_at_their_address():
    """Low word third, high word fourth."""
    numbers = np.array([0, 5, 2**63 + 1], np.uint64)
    keys = policy(re_prob=1.0).draw(numbers, seed=9)["noise_keys"].numpy().view(np.uint64).tolist()
    assert keys == [int(low) | int(high) << 32 for low, high in words(9, Stream.ERASING, numbers)[:, 2:4]]


def test_noise_keys_differ():
    keys = policy(re_prob=1.0).draw(np.arange(COUNT))["noise_keys"]
    assert len(torch.unique(keys)) == COUNT
    assert keys.min() < 0 < keys.max()  # all 64 bits


# ------------------------------------------------------------------------------------------------------------- mixing

MIXING = {
    "papers": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    "mixup": {"mixup_alpha": 0.2, "cutmix_alpha": 0.0},
    "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
    "rarely": {"mixup_alpha": 2.0, "cutmix_alpha": 0.5, "prob": 0.3, "switch_prob": 0.8},
    "minmax": {"mixup_alpha": 0.4, "cutmix_alpha": 0.0, "cutmix_minmax": (0.2, 0.8)},
    "uncorrected": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "correct_lam": False},
}
RENAMED = {"prob": "mixup_prob", "switch_prob": "mixup_switch_prob"}


def our_mixing(case, mode, size):
    changes = {RENAMED.get(name, name): value for name, value in MIXING[case].items()}
    whole = policy(mixup_mode=mode, **changes)
    if mode == "batch":  # each number a batch of its own
        return [whole.draw([n], image_size=size) for n in range(4000)]
    return [whole.draw(np.arange(COUNT), image_size=size)]


@pytest.mark.parametrize(("case", "mode"), [("papers", "batch"), ("minmax", "batch"), *((c, "elem") for c in MIXING)])
def test_mixing(case, mode):
    size = 57
    drawn = our_mixing(case, mode, size)
    ours = [
        (weight, tuple(patch) if cut else None)
        for one in drawn
        for weight, cut, patch in zip(
            one["mix_weights"].tolist(), one["cutmix"].tolist(), one["cutmix_patches"].tolist(), strict=True
        )
    ]
    np.random.seed(3)
    mixer, theirs = timm_mixup.Mixup(mode=mode, **MIXING[case]), []
    for _ in range(COUNT):
        if mode == "batch":
            lam, cut = mixer._params_per_batch()
        else:
            (lam,), (cut,) = mixer._params_per_elem(1)
        patch = None
        if lam != 1.0 and cut:
            (top, bottom, left, right), lam = timm_mixup.cutmix_bbox_and_lam(
                (3, size, size), lam, ratio_minmax=mixer.cutmix_minmax, correct_lam=mixer.correct_lam
            )
            patch = (top, left, bottom - top, right - left)
        theirs.append((lam, patch))
    same_counts(*([patch is not None for _, patch in draws] for draws in (ours, theirs)), name="cut")
    same_counts(*([weight == 1.0 and not patch for weight, patch in draws] for draws in (ours, theirs)), name="mixed")
    for cut in {patch is not None for _, patch in theirs}:
        weights = [[w for w, patch in draws if (patch is not None) == cut] for draws in (ours, theirs)]
        same_law(*weights, name=f"weights, cut: {cut}")
    if any(patch for _, patch in theirs):
        for i, name in enumerate(("top", "left", "height", "width")):
            same_law(*([patch[i] for _, patch in draws if patch] for draws in (ours, theirs)), name=name)


@pytest.mark.parametrize("size", [57, 224])
@pytest.mark.parametrize("sides", [None, (0.2, 0.8)])
def test_patches_are_timms_for_the_same_words(sides, size, monkeypatch):
    """Not the law alone: the very patch of each weight, given the words for its place, and its share of the pixels."""
    numbers, changes = np.arange(2000), {"mixup_mode": "elem", "cutmix_alpha": 1.0, "cutmix_minmax": sides}
    drawn = policy(**changes).draw(numbers, seed=6, image_size=size)
    weights = policy(**changes, correct_lam=False).draw(numbers, seed=6, image_size=size)["mix_weights"]
    places = words(6, Stream.MIX, numbers, 2)[:, 4:].flatten()  # four of a patch
    left_over = iter(places.tolist())
    if sides is None:  # its centre takes two
        left_over = iter(places.reshape(-1, 4)[:, :2].flatten().tolist())
    monkeypatch.setattr(
        timm_mixup.np.random, "randint", lambda low, high, size=None: low + (next(left_over) * (high - low) >> 32)
    )
    for patch, weight, lam in zip(
        drawn["cutmix_patches"].tolist(), drawn["mix_weights"].tolist(), weights.tolist(), strict=True
    ):
        (top, bottom, left, right), own = timm_mixup.cutmix_bbox_and_lam((3, size, size), np.float32(lam), sides)
        assert patch == [top, left, bottom - top, right - left]
        assert weight == np.float32(own)


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_who_shares_a_weight(n):
    """A batch shares one; partners of pairs share one; elements have their own."""
    numbers = np.arange(100, 100 + n)
    for mode in ("batch", "pair", "elem"):
        drawn = policy(mixup_mode=mode, mixup_alpha=0.8, cutmix_alpha=1.0).draw(numbers)
        rows = [(w, c, *p) for w, c, p in zip(*(drawn[k].tolist() for k in drawn if "mix" in k), strict=True)]
        if mode == "batch":
            assert len(set(rows)) == 1
        else:
            assert len(set(rows)) == (n if mode == "elem" else (n + 1) // 2)
        if mode == "pair":
            assert rows == rows[::-1]


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["batch", "pair", "elem"]),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(0, 2**63),
    st.booleans(),
)
def test_patches_lie_inside_and_weights_are_their_share(mode, n, size, first, minmax):
    ranges = {"cutmix_minmax": (0.0, 1.0)} if minmax and size > 1 else {}
    drawn = policy(mixup_mode=mode, cutmix_alpha=1.0, **ranges).draw([first + i for i in range(n)], image_size=size)
    top, left, h, w = drawn["cutmix_patches"].unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= size).all()
    assert (left + w <= size).all()
    assert torch.allclose(drawn["mix_weights"], 1 - (h * w).double() / (size * size), rtol=0, atol=1e-7)


def test_a_range_of_sides_without_a_pixel_is_refused():
    """By timm, too, when it draws; here a range that no image has room for is refused before."""
    with pytest.raises(ValueError, match=r"cutmix_minmax must be .* with low < high, got \(0.5, 0.5\)"):
        policy(cutmix_minmax=(0.5, 0.5))
    narrow = policy(cutmix_minmax=(0.5, 0.51))
    narrow.check_sizes(512, 200)
    for refused in (narrow.check_sizes, lambda _, size: narrow.draw([1], image_size=size)):
        with pytest.raises(ValueError, match="cutmix_minmax must span a pixel of 32 at least"):
            refused(512, 32)
    for size, shares in ((32, (0.5, 0.51)), (4096, (0.5, 0.5))):
        with pytest.raises(ValueError, match="low >= high"):
            timm_mixup.rand_bbox_minmax((3, size, size), shares)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("classes", [1, 10, 1000])
def test_targets_are_timms(mode, smoothing, classes):
    whole = policy(mixup_mode=mode, mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=smoothing)
    for first in range(0, 64, 8):
        parameters = whole.draw(np.arange(first, first + 8))
        labels = torch.from_numpy(permute(np.arange(8), 8, 1, first)) % classes
        weights = parameters["mix_weights"]
        elementwise = weights.to(torch.float32).unsqueeze(1)  # as FastCollateMixup hands it over
        lam = weights[0].item() if mode == "batch" else elementwise
        wanted = timm_mixup.mixup_target(labels, classes, lam, smoothing)
        found = whole.targets(labels, parameters, classes)
        assert found.dtype == torch.float32
        assert torch.equal(found, wanted)
        assert torch.allclose(found.sum(1), torch.ones(8))


def test_targets_without_mixing():
    labels = torch.tensor([2, 0, 1])
    assert policy(label_smoothing=0.0).targets(labels, {}, 3) is labels
    smoothed = policy(label_smoothing=0.3).targets(labels, policy().draw(range(3)), 3)
    assert torch.equal(smoothed, timm_mixup.mixup_target(labels, 3, 1.0, 0.3))
    assert not policy(label_smoothing=0.0).soft
    assert policy(label_smoothing=0.1).soft


def test_several_labels_of_fewer_classes_than_targets():
    """As of a model with more classes; the others are smoothed as well."""
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    found = policy(label_smoothing=0.5).targets(labels, {}, 4)
    assert found.tolist() == [[0.625, 0.125, 0.125, 0.125], [0.625, 0.625, 0.125, 0.125]]
    assert policy(label_smoothing=0.5).targets(labels, {}, 2).tolist() == [[0.75, 0.25], [0.75, 0.75]]
    with pytest.raises(ValueError, match=r"^labels must have at most 1 columns, one a class, got 2$"):
        policy(label_smoothing=0.5).targets(labels, {}, 1)
    with pytest.raises(ValueError, match=r"^labels must be 0 and 1 where they are multi-hot"):
        policy(label_smoothing=0.5).targets(labels * 0.5, {}, 4)


# ------------------------------------------------------------------------------------------------------------- jitter


@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.4), (0.8, 0.3, 1.5, 0.2), (0.0, 0.5, 0.0, 0.5)])
def test_color_jitter(strengths):
    drawn = policy(color_jitter=strengths).draw(np.arange(COUNT))
    torch.manual_seed(4)
    jitter = transforms.ColorJitter(*strengths)
    kinds = [Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR, Operation.HUE]
    orders, factors = [], {kind: [] for kind in kinds}
    for _ in range(COUNT):
        order, *values = jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        orders.append(tuple(int(kinds[i]) for i in order if values[i] is not None))
        for kind, value in zip(kinds, values, strict=True):
            factors[kind].append(value)
    same_counts([tuple(row) for row in drawn["operations"].tolist()], orders, "order")
    for kind in kinds:
        if factors[kind][0] is not None:
            same_law(drawn["arguments"][drawn["operations"] == kind].numpy(), factors[kind], kind.name)


def test_chances_of_jitter_grayscale_and_blur():
    changes = {"color_jitter": 0.4, "color_jitter_prob": 0.8, "grayscale_prob": 0.2, "gaussian_blur_prob": 0.5}
    drawn = policy(**changes).draw(np.arange(COUNT))
    codes, arguments = drawn["operations"], drawn["arguments"]
    assert codes.shape == (COUNT, 5)
    jittered, grey, blurred = (codes[:, :3] > 0).all(1), codes[:, 3] > 0, codes[:, 4] > 0
    assert torch.equal(jittered, (codes[:, :3] > 0).any(1))
    for applied, chance in ((jittered, 0.8), (grey, 0.2), (blurred, 0.5)):
        assert abs(applied.double().mean() - chance) < 4 * (chance * (1 - chance) / COUNT) ** 0.5
    assert set(codes[grey, 3].tolist()) == {Operation.COLOR}
    assert (arguments[grey, 3] == 0).all()
    assert set(codes[blurred, 4].tolist()) == {Operation.GAUSSIAN_KERNEL}
    torch.manual_seed(5)
    same_law(arguments[blurred, 4], [transforms.GaussianBlur.get_params(0.1, 2.0) for _ in range(COUNT)], "sigma")
    pairs = (jittered.long() * 4 + grey.long() * 2 + blurred.long()).tolist()
    wanted = [a * b * c for a in (0.2, 0.8) for b in (0.8, 0.2) for c in (0.5, 0.5)]
    rng = np.random.default_rng(6)
    same_counts(pairs, rng.choice(8, COUNT, p=wanted).tolist(), "independence")


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, 2),
        ({"force_color_jitter": True}, 5),
        ({"auto_augment": None}, 3),
        ({"auto_augment": None, "color_jitter": None}, 0),
        ({"auto_augment": None, "color_jitter": 0.0}, 0),
        ({"auto_augment": "3a"}, 4),
        ({"auto_augment": "rand-n3-t3a", "color_jitter": (0.1, 0.1, 0.1, 0.1)}, 7),
        ({"color_jitter_prob": 0.5}, 2),
        ({"auto_augment": "v0", "grayscale_prob": 0.5}, 3),
    ],
)
def test_when_the_jitter_is_on(changes, layers):
    """As timm: off under RandAugment and AutoAugment, on under 3-Augment or if forced."""
    assert gr.augment.DeiT(**changes).draw([0, 1])["operations"].shape == (2, layers)


# -------------------------------------------------------------------------------------------------------------- draws


def test_a_sample_has_its_own_address():
    """Alone or in a batch, as any kind of number, everything but what partners share is the same."""
    whole = gr.augment.DeiT(mixup_mode="elem", re_count=2, force_color_jitter=True, grayscale_prob=0.5)
    numbers = [5, 2**63 + 11, 0, 2**64 - 1]
    drawn = whole.draw(numbers, seed=2**64 - 1)
    as_array = whole.draw(np.array(numbers, np.uint64), seed=2**64 - 1)
    for name, values in drawn.items():
        assert len(values) == 4
        assert torch.equal(values, as_array[name]), name
        for i, number in enumerate(numbers):
            assert torch.equal(whole.draw(number, seed=2**64 - 1)[name][0], values[i]), name


def test_parts_do_not_move_each_other():
    plain = gr.augment.DeiT().draw(range(100))
    other = gr.augment.DeiT(
        scale=(0.5, 1.0), auto_augment="v0", re_count=(1, 3), re_mode="const", label_smoothing=0.0, grayscale_prob=0.1
    ).draw(range(100))
    for name in ("flips", "mix_weights", "cutmix", "cutmix_patches", "noise_keys"):
        assert torch.equal(plain[name], other[name]), name


def test_an_empty_batch():
    drawn = gr.augment.DeiT(force_color_jitter=True, gaussian_blur_prob=0.1).draw([])
    assert all(len(values) == 0 for values in drawn.values())


def test_presets():
    onepfrac = gr.augment.DeiT.onepfrac()
    assert onepfrac == gr.augment.DeiT.ofdb() == gr.augment.DeiT(vflip=0.5, re_prob=0.5)
    atoms = gr.augment.DeiT.visualatom()
    assert (atoms.hflip, atoms.num_aug_repeats, atoms.re_prob, atoms.mean[0]) == (0.0, 3, 0.25, 0.485)
    assert gr.augment.DeiT.fractaldb(hflip=0.5).hflip == 0.5
    resnet = gr.augment.DeiT.resnet()
    assert not resnet.soft
    drawn = resnet.draw(np.arange(2000), canvas_size=362)
    operations = {"operations", "arguments", "operation_interpolations"}
    assert set(drawn) == {"boxes", "flips", "interpolations", "sizes"} | operations
    assert (drawn["boxes"][:, 2:] == 224).all()
    assert not drawn["flips"].any()
    assert drawn["boxes"][:, 0].min() == 0
    assert drawn["boxes"][:, 0].max() == 138


def test_off_epoch():
    whole = gr.augment.DeiT(mixup_off_epoch=3)
    assert whole.at_epoch(2) is whole
    late = whole.at_epoch(3)
    drawn = late.draw(range(50))
    assert (drawn["mix_weights"] == 1).all()
    assert not drawn["cutmix"].any()
    labels = torch.arange(50) % 7
    assert torch.equal(late.targets(labels, drawn, 7), timm_mixup.mixup_target(labels, 7, 1.0, 0.1))
    assert gr.augment.DeiT().at_epoch(10**6) == gr.augment.DeiT()
    assert policy().unmixed() == policy()


def test_the_unmixed_policy_is_made_once():
    """And is no part of what the policy is: of its equality, hash, text, copies and pickles."""
    whole, fresh = (gr.augment.DeiT(mixup_off_epoch=3, mixup_mode="pair") for _ in range(2))
    late = whole.at_epoch(3)
    assert late is whole.at_epoch(9) is whole.unmixed() is late.unmixed() is late.at_epoch(9)
    assert late == dataclasses.replace(whole, mixup_prob=0.0, mixup_off_epoch=0)
    assert (whole, hash(whole), repr(whole)) == (fresh, hash(fresh), repr(fresh))
    whole.draw([1])
    assert pickle.dumps(whole) == pickle.dumps(fresh)
    for again in (pickle.loads(pickle.dumps(whole)), copy.copy(whole), copy.deepcopy(whole)):
        assert again == whole
        assert again.unmixed() == late
    other = dataclasses.replace(whole, mixup_mode="elem")
    assert other.unmixed().mixup_mode == "elem"
    assert whole.unmixed() is late
    assert eval(repr(whole), {"DeiT": gr.augment.DeiT}) == whole


@pytest.mark.parametrize(
    ("changes", "error", "name"),
    [
        ({"scale": (0, 1)}, ValueError, "scale"),
        ({"color_jitter": (0.1, 0.2)}, ValueError, "color_jitter"),
        ({"color_jitter": (0.1, 0.1, 0.1, 0.6)}, ValueError, r"color_jitter\[3\]"),
        ({"color_jitter": -0.1}, ValueError, "color_jitter"),
        ({"color_jitter": "strong"}, TypeError, "color_jitter"),
        ({"color_jitter_prob": 1.5}, ValueError, "color_jitter_prob"),
        ({"force_color_jitter": 1}, TypeError, "force_color_jitter"),
        ({"grayscale_prob": float("nan")}, ValueError, "grayscale_prob"),
        ({"auto_augment": 3}, TypeError, "auto_augment"),
        ({"re_prob": 2}, ValueError, "re_prob"),
        ({"re_mode": "noise"}, ValueError, "re_mode"),
        ({"re_count": 0}, ValueError, "re_count"),
        ({"re_count": (3, 2)}, ValueError, "re_count"),
        ({"re_area": (0.5, 0.2)}, ValueError, "re_area"),
        ({"re_aspect": (0, 1)}, ValueError, "re_aspect"),
        ({"mixup_alpha": -1}, ValueError, "mixup_alpha"),
        ({"cutmix_alpha": 1e-9}, ValueError, "cutmix_alpha"),
        ({"mixup_mode": "half"}, ValueError, "mixup_mode"),
        ({"cutmix_minmax": (0.2,)}, TypeError, "cutmix_minmax"),
        ({"cutmix_minmax": {0.2, 0.8}}, TypeError, "cutmix_minmax"),
        ({"re_prob": np.True_}, TypeError, "re_prob"),
        ({"re_count": torch.tensor(True)}, TypeError, "re_count"),
        ({"num_aug_repeats": torch.tensor(True)}, TypeError, "num_aug_repeats"),
        ({"mixup_off_epoch": -1}, ValueError, "mixup_off_epoch"),
        ({"label_smoothing": 1.1}, ValueError, "label_smoothing"),
        ({"num_aug_repeats": 2.5}, TypeError, "num_aug_repeats"),
        ({"mean": 0.5}, TypeError, "mean"),
    ],
)
def test_wrong_parameters_are_named(changes, error, name):
    with pytest.raises(error, match=rf"^{name}(\[\d\])? must"):
        gr.augment.DeiT(**changes)
