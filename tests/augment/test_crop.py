"""Policies: draws by address, distributed as torchvision's; applied as Pillow and torchvision apply them."""

import collections
import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from tests.support.optional import optional, resizing_pillow

stats = optional("scipy.stats")

ORDINARY = gr.augment.Crop(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="random", vflip=0.3)
# Recorded once; they change only together with gpurender.numerics.streams.LAYOUT.
GOLDEN = {
    512: "4f199e035bc6f2ee5e6e85dbe6edf6eeaa553e5b9b21afb3d814f666a60142f1",
    33: "dcb91e9da3eecb25de46159171abde6c140f27fe7b44aa1ca8a95967a76090d1",
}


@pytest.fixture(scope="module")
def transforms():
    """torchvision's; beside a torch of another build its compiled part does not load, and with it all the rest."""
    return pytest.importorskip("torchvision.transforms", exc_type=(ImportError, RuntimeError))


def canvases(n, channels, side, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(side) * 2, np.arange(side))
    return torch.from_numpy((smooth * rng.random((n, channels, side, side))).astype(np.uint8))


def torchvision_draws(transforms, n, side, scale, ratio):
    """n boxes [n, 4] of torchvision: top, left, height, width."""
    torch.manual_seed(12)
    image = torch.empty(1, side, side)
    draw = transforms.RandomResizedCrop.get_params
    return np.array([draw(image, list(scale), list(ratio)) for _ in range(n)])


def features(boxes, side):
    """What a crop is, as columns to compare: area, log aspect ratio, top and left as shares of the free space."""
    top, left, h, w = boxes.T.astype(float)
    free = {"top": side - h, "left": side - w}
    return {
        "area": h * w / side**2,
        "aspect": np.log(w / h),
        "top": top / side,
        "left": left / side,
        "top of free": ((top + 0.5) / (free["top"] + 1)),
        "left of free": ((left + 0.5) / (free["left"] + 1)),
    }


@pytest.mark.parametrize(
    ("side", "scale", "ratio"),
    [
        (512, (0.08, 1.0), (3 / 4, 4 / 3)),
        (224, (0.2, 1.0), (3 / 4, 4 / 3)),
        (512, (0.6, 1.0), (1.0, 3.0)),  # one attempt in two does not fit
        (512, (0.9, 1.0), (0.4, 0.5)),  # none fits: the fallback
    ],
)
def test_crops_are_distributed_as_torchvision_draws_them(transforms, side, scale, ratio):
    n = 20_000
    ours = gr.augment.Crop(scale=scale, ratio=ratio).draw(np.arange(n), seed=3, canvas_size=side)["boxes"].numpy()
    theirs = torchvision_draws(transforms, n, side, scale, ratio)
    for name, a in features(ours, side).items():
        b = features(theirs, side)[name]
        assert stats.ks_2samp(a, b).pvalue > 1e-4, name


def test_crops_of_a_small_canvas_are_distributed_as_torchvision_draws_them(transforms):
    """Where rounding matters: every box of a 6 x 6 canvas as often as torchvision's."""
    n = 40_000
    ours = gr.augment.Crop(ratio=(0.5, 2.0)).draw(np.arange(n), canvas_size=6)["boxes"].numpy()
    theirs = torchvision_draws(transforms, n, 6, (0.08, 1.0), (0.5, 2.0))
    kinds, which = np.unique(np.concatenate([ours, theirs]), axis=0, return_inverse=True)
    table = np.stack([np.bincount(w, minlength=len(kinds)) for w in (which[:n], which[n:])])
    assert stats.chi2_contingency(table[:, table.sum(axis=0) >= 20]).pvalue > 1e-4


def test_the_fallback_is_the_largest_central_crop():
    wide = gr.augment.Crop(scale=(1.0, 1.0), ratio=(2.0, 3.0)).draw(range(5), canvas_size=101)["boxes"]
    tall = gr.augment.Crop(scale=(1.0, 1.0), ratio=(0.25, 0.5)).draw(range(5), canvas_size=101)["boxes"]
    thin = gr.augment.Crop(scale=(1.0, 1.0), ratio=(8192.0, 8192.0)).draw(range(5), canvas_size=101)["boxes"]
    assert wide.tolist() == [[25, 0, 50, 101]] * 5  # round(50.5) is 50 to Python
    assert tall.tolist() == [[0, 25, 101, 50]] * 5
    assert thin.tolist() == [[50, 0, 1, 101]] * 5


@pytest.mark.parametrize(("ratio", "sides"), [(2.0, (5, 10)), (0.5, (10, 5))])
def test_a_crop_may_be_as_wide_or_as_high_as_the_canvas(ratio, sides):
    """At the boundary: it fits, so it lies anywhere; what does not fit would lie in the middle."""
    boxes = gr.augment.Crop(scale=(0.5, 0.5), ratio=(ratio, ratio)).draw(range(200), canvas_size=10)["boxes"]
    assert set(map(tuple, boxes[:, 2:].tolist())) == {sides}
    assert {tuple(sorted(box)) for box in boxes[:, :2].tolist()} == {(0, free) for free in range(6)}


def test_a_crop_of_everything_is_everything():
    boxes = gr.augment.Crop(scale=(1.0, 1.0), ratio=(1.0, 1.0)).draw(range(50), canvas_size=77)["boxes"]
    assert (boxes == torch.tensor([0, 0, 77, 77])).all()


@pytest.mark.parametrize(("hflip", "vflip"), [(0.5, 0.0), (0.25, 0.8), (0.0, 1.0), (1.0, 0.001)])
def test_flips_are_as_frequent_as_asked_and_independent(hflip, vflip):
    n = 40_000
    flips = gr.augment.Crop(hflip=hflip, vflip=vflip).draw(np.arange(n), seed=1)["flips"].numpy()
    for share, p in zip(flips.mean(axis=0), (hflip, vflip), strict=True):
        assert abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / n)
    both = flips.all(axis=1).mean()
    assert abs(both - hflip * vflip) <= 4.5 * np.sqrt(hflip * vflip / n)


def test_random_interpolation_is_a_fair_choice_of_bilinear_and_bicubic():
    codes = ORDINARY.draw(np.arange(40_000))["interpolations"]
    counts = torch.bincount(codes, minlength=3)
    assert counts[0] == 0
    assert abs(counts[1] / 40_000 - 0.5) < 4.5 * 0.5 / 200


def test_what_is_drawn_of_one_sample_says_nothing_about_the_next_or_about_its_flip():
    drawn = ORDINARY.draw(np.arange(20_000))
    columns = features(drawn["boxes"].numpy(), 512)
    for name in ("area", "aspect", "top of free", "left of free"):
        x = columns[name]
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4.5 / np.sqrt(20_000)
        assert abs(np.corrcoef(x, drawn["flips"][:, 0])[0, 1]) < 4.5 / np.sqrt(20_000)
        assert abs(np.corrcoef(x, drawn["interpolations"])[0, 1]) < 4.5 / np.sqrt(20_000)


@pytest.mark.parametrize("policy", [ORDINARY, gr.augment.Resize(interpolation="bilinear")], ids=["Crop", "Resize"])
def test_parameters_belong_to_the_number_whatever_the_order_the_batch_and_the_type(policy):
    numbers = np.array([5, 2**64 - 1, 0, 2**32, 2**63, 17, 2**32 - 1], dtype=np.uint64)
    whole = policy.draw(numbers, seed=2**64 - 1, canvas_size=300)
    for i, number in enumerate(numbers.tolist()):
        for form in (number, [number], np.array([number], np.uint64)):
            single = policy.draw(form, seed=2**64 - 1, canvas_size=300)
            assert single.keys() == whole.keys()
            assert all(torch.equal(single[key][0], whole[key][i]) for key in whole)
    small = policy.draw(torch.tensor([5, 0, 17]), seed=2**64 - 1, canvas_size=300)
    assert all(torch.equal(small[key], whole[key][[0, 2, 5]]) for key in whole)
    assert all(len(value) == 0 for value in policy.draw([], canvas_size=300).values())


def test_seeds_numbers_and_high_halves_draw_differently():
    boxes = [
        tuple(ORDINARY.draw(number, seed=seed)["boxes"][0].tolist())
        for seed in (0, 1, 2**32, 2**63)
        for number in (0, 1, 2**32, 2**63)
    ]
    assert len(set(boxes)) == len(boxes)


def test_other_ranges_leave_the_same_samples_flipped():
    other = dataclasses.replace(ORDINARY, scale=(0.3, 0.4), ratio=(1.0, 1.0), interpolation="nearest")
    assert torch.equal(other.draw(range(500))["flips"], ORDINARY.draw(range(500))["flips"])


@pytest.mark.parametrize("side", GOLDEN)
def test_golden_parameters(side):
    drawn = ORDINARY.draw(np.arange(10_000), seed=42, canvas_size=side)
    names = ("boxes", "flips", "interpolations")
    assert [drawn[name].dtype for name in names] == [torch.int32, torch.bool, torch.uint8]
    data = b"".join(drawn[name].numpy().tobytes() for name in names)
    assert hashlib.sha256(data).hexdigest() == GOLDEN[side]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [224, 57])
def test_equal_to_pillow_and_torchvision_end_to_end(transforms, channels, image_size):
    resizing_pillow()
    images = canvases(24, channels, 200)
    drawn = ORDINARY.draw(np.arange(100, 124), canvas_size=200)
    drawn["interpolations"][:4] = 0  # parameters can be replaced and replayed
    assert drawn["flips"].any(dim=0).all()
    ours = ORDINARY.apply(images, drawn, image_size=image_size)
    assert ours.shape == (24, 3, image_size, image_size)
    assert ours.dtype == torch.float32
    functional = transforms.functional
    finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(ORDINARY.mean, ORDINARY.std)])
    for n in range(24):
        picture = Image.fromarray(images[n].expand(3, -1, -1).permute(1, 2, 0).numpy())
        mode = transforms.InterpolationMode(("nearest", "bilinear", "bicubic")[drawn["interpolations"][n]])
        picture = functional.resized_crop(picture, *drawn["boxes"][n].tolist(), [image_size, image_size], mode)
        picture = functional.hflip(picture) if drawn["flips"][n, 0] else picture
        picture = functional.vflip(picture) if drawn["flips"][n, 1] else picture
        assert torch.equal(ours[n], finish(picture))


def test_normalisation_is_torchvisions_for_every_byte(transforms):
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    rng = np.random.default_rng(0)
    for _ in range(50):
        mean, std = tuple(rng.random(3)), tuple(10 ** rng.uniform(-3, 3, 3))
        policy = gr.augment.Resize(mean=mean, std=std)
        ours = policy.apply(ramp, policy.draw(0, canvas_size=16), image_size=16)[0]
        picture = Image.fromarray(ramp[0, 0].numpy()).convert("RGB")
        assert torch.equal(ours, transforms.Normalize(mean, std)(transforms.ToTensor()(picture)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_casts_of_float32(dtype):
    images, drawn = canvases(5, 1, 64), ORDINARY.draw(range(5), canvas_size=64)
    ours = ORDINARY.apply(images, drawn, image_size=32, dtype=dtype)
    assert ours.dtype == dtype
    assert torch.equal(ours, ORDINARY.apply(images, drawn, image_size=32).to(dtype))


def test_grey_is_three_equal_channels():
    images, drawn = canvases(9, 1, 100), ORDINARY.draw(range(9), canvas_size=100)
    grey = ORDINARY.apply(images, drawn, image_size=48)
    assert torch.equal(grey, ORDINARY.apply(images.expand(9, 3, 100, 100), drawn, image_size=48))


def test_threads_change_nothing():
    images, drawn = canvases(33, 1, 90), ORDINARY.draw(range(33), canvas_size=90)
    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(ORDINARY.apply(images, drawn, image_size=40))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_resize_takes_the_whole_canvas_and_leaves_one_of_the_right_size_as_it_is():
    images = canvases(4, 3, 64)
    policy = gr.augment.Resize()
    same = policy.apply(images, policy.draw(range(4), canvas_size=64), image_size=64)
    assert torch.equal(same, (images / 255 - 0.5) / 0.5)
    smaller = policy.apply(images, policy.draw(range(4), canvas_size=64), image_size=20)
    expected = gr.augment.resized_crop(images, [[0, 0, 64, 64]] * 4, 20)
    assert torch.equal(smaller, (expected / 255 - 0.5) / 0.5)


def test_a_batch_is_a_fresh_writable_leaf_tensor():
    images, drawn = canvases(2, 1, 30), ORDINARY.draw(range(2), canvas_size=30)
    for dtype in (torch.float32, torch.bfloat16):
        first = ORDINARY.apply(images, drawn, image_size=8, dtype=dtype)
        second = ORDINARY.apply(images, drawn, image_size=8, dtype=dtype)
        kept = second.clone()
        first.mul_(0)
        assert torch.equal(second, kept)
        assert second.is_contiguous()
        assert second.requires_grad_().is_leaf


def test_policies_are_values():
    assert gr.augment.Crop(scale=[0.5, 1], mean=[0, 0.5, 1]) == gr.augment.Crop(scale=(0.5, 1.0), mean=(0.0, 0.5, 1.0))
    assert len({gr.augment.Crop(), gr.augment.Crop(), gr.augment.Crop(vflip=0.5)}) == 2
    assert eval(repr(ORDINARY), {"Crop": gr.augment.Crop}) == ORDINARY
    with pytest.raises(dataclasses.FrozenInstanceError):
        ORDINARY.hflip = 0.1
    for policy in (ORDINARY, gr.augment.Resize()):
        assert isinstance(policy, gr.augment.Policy)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"scale": (0.08, 1.5)}, ValueError, [r"scale\[1\]", r"\[0, 1\]", "1.5"]),
        ({"scale": (float("nan"), 1.0)}, ValueError, [r"scale\[0\]", "finite", "nan"]),
        ({"scale": (0.0, 1.0)}, ValueError, ["scale", r"\(0, 1\]", r"\(0.0, 1.0\)"]),
        ({"scale": (0.9, 0.1)}, ValueError, ["scale", "low <= high", r"\(0.9, 0.1\)"]),
        ({"scale": 0.5}, TypeError, ["scale", "pair", "0.5"]),
        ({"ratio": (4 / 3, 3 / 4)}, ValueError, ["ratio", "low <= high"]),
        ({"ratio": (0.0, 1.0)}, ValueError, [r"ratio\[0\]", "8192", "0.0"]),
        ({"ratio": (1.0, float("inf"))}, ValueError, [r"ratio\[1\]", "inf"]),
        ({"hflip": 1.5}, ValueError, ["hflip", r"\[0, 1\]", "1.5"]),
        ({"vflip": -0.1}, ValueError, ["vflip", "-0.1"]),
        ({"hflip": True}, TypeError, ["hflip", "True"]),
        ({"hflip": np.True_}, TypeError, ["hflip", "True"]),
        ({"hflip": torch.tensor(True)}, TypeError, ["hflip", "True"]),
        ({"hflip": torch.tensor(0.5, device="meta")}, TypeError, ["hflip", "meta"]),
        ({"hflip": bytearray(b"1")}, TypeError, ["hflip", "bytearray"]),
        ({"scale": {0.5, 1.0}}, TypeError, ["scale", "pair"]),
        ({"scale": {0: 0.5, 1: 1.0}}, TypeError, ["scale", "pair"]),
        ({"ratio": (np.True_, 1.0)}, TypeError, [r"ratio\[0\]", "True"]),
        ({"interpolation": "lanczos"}, ValueError, ["interpolation", "'random'", "'lanczos'"]),
        ({"std": (0.2, 0.0, 0.2)}, ValueError, [r"std\[1\]", "0.001", "0.0"]),
        ({"std": 0.5}, TypeError, ["std", "three numbers", "0.5"]),
        ({"mean": (127.5, 127.5, 127.5)}, ValueError, [r"mean\[0\]", r"\[0, 1\]", "127.5"]),
        ({"mean": (0.5, 0.5)}, TypeError, ["mean", "three numbers", r"\(0.5, 0.5\)"]),
        ({"mean": (0.5, 0.5, "1")}, TypeError, [r"mean\[2\]", "'1'"]),
        ({"mean": {0.1, 0.2, 0.3}}, TypeError, ["mean", "three numbers"]),
        ({"std": dict.fromkeys((0.1, 0.2, 0.3))}, TypeError, ["std", "three numbers"]),
        ({"std": np.full((3, 3), 0.5)}, TypeError, ["std", "three numbers"]),
    ],
)
def test_wrong_policies_are_refused(arguments, error, words):
    policies = [gr.augment.Crop]
    if arguments.keys() <= {"mean", "std", "interpolation"}:
        policies.append(gr.augment.Resize)
    for policy in policies:
        with pytest.raises(error) as caught:
            policy(**arguments)
        for word in words if policy is gr.augment.Crop else words[:1]:
            caught.match(word)


@pytest.mark.parametrize("policy", [ORDINARY, gr.augment.Resize()], ids=["Crop", "Resize"])
@pytest.mark.parametrize(
    ("numbers", "keywords", "error", "words"),
    [
        ([-1], {}, ValueError, ["numbers", "18446744073709551615", "-1"]),
        ([0.5], {}, TypeError, ["numbers", "0.5"]),
        ([True], {}, TypeError, ["numbers", "True"]),
        ([[1]], {}, TypeError, ["numbers", r"\[1\]"]),
        ([2**64], {}, ValueError, ["numbers", "18446744073709551616"]),
        ("all", {}, TypeError, ["numbers"]),
        ([0], {"seed": -1}, ValueError, ["seed", "-1"]),
        ([0], {"seed": 2**64}, ValueError, ["seed"]),
        ([0], {"canvas_size": 0}, ValueError, ["canvas_size", "0"]),
        ([0], {"canvas_size": 1.5}, TypeError, ["canvas_size", "1.5"]),
        ([0], {"canvas_size": torch.tensor(True)}, TypeError, ["canvas_size", "True"]),
        ([0], {"canvas_size": np.True_}, TypeError, ["canvas_size", "True"]),
        ([0], {"canvas_size": torch.tensor(9, device="meta")}, TypeError, ["canvas_size", "meta"]),
        ([0], {"image_size": 65536}, ValueError, ["image_size", "65535", "65536"]),
        ([torch.tensor(True)], {}, TypeError, ["numbers", "True"]),
    ],
)
def test_wrong_draws_are_refused(policy, numbers, keywords, error, words):
    with pytest.raises(error) as caught:
        policy.draw(numbers, **keywords)
    for word in words:
        caught.match(word)


@pytest.mark.parametrize("policy", [ORDINARY, gr.augment.Resize()], ids=["Crop", "Resize"])
def test_wrong_applications_are_refused(policy):
    images, drawn = canvases(2, 1, 32), policy.draw(range(2), canvas_size=32)
    with pytest.raises(ValueError, match=r"image_size must be an integer in \[1, 65535\], got 0"):
        policy.apply(images, drawn, image_size=0)
    with pytest.raises(ValueError, match=r"dtype must be one of torch.float32.*int64"):
        policy.apply(images, drawn, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"canvases must be .*uint8.*float32"):
        policy.apply(images.float(), drawn)
    with pytest.raises(ValueError, match=r"boxes must be .*\[1, 4\].*\[2, 4\]"):
        policy.apply(images[:1], drawn)
    with pytest.raises(ValueError, match=r"canvases must be 32 x 32, .* drawn for, got shape \[2, 1, 9, 9\]"):
        policy.apply(images[:, :, :9, :9], drawn)
    with pytest.raises(ValueError, match=r"canvases must be 32 x 32, .*\[2, 1, 32, 31\]"):
        policy.apply(images[:, :, :, :31], drawn)
    with pytest.raises(TypeError, match=r"canvases must be a tensor of torch.uint8 .*got list"):
        policy.apply(images.tolist(), drawn)
    with pytest.raises(TypeError, match=r"parameters\['flips'\] must be a tensor, got list"):
        policy.apply(images, {**drawn, "flips": drawn["flips"].tolist()})
    with pytest.raises(ValueError, match=r"parameters\['sizes'\] must be a tensor .*\[any, 0, any, any\]"):
        policy.apply(images, {**drawn, "sizes": torch.zeros(2, dtype=torch.uint8)})
    unsized = {
        name: tensor for name, tensor in gr.augment.Resize().draw(range(2), canvas_size=10).items() if name != "sizes"
    }
    with pytest.raises(ValueError, match=r"boxes\[0\] must be .*inside an image of 9 x 9"):
        policy.apply(images[:, :, :9, :9], unsized)


def test_boxes_of_any_integers():
    images = canvases(2, 3, 40)
    wanted = gr.augment.resized_crop(images, [[0, 1, 30, 20], [9, 9, 9, 9]], 8)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32):
        boxes = torch.tensor([[0, 1, 30, 20], [9, 9, 9, 9]], dtype=dtype)
        assert torch.equal(gr.augment.resized_crop(images, boxes, 8), wanted), dtype
    assert gr.augment.resized_crop(images[:0], [], 8).shape == (0, 3, 8, 8)
    for wrong in ([], [[True] * 4] * 2, [[0.0, 1, 30, 20]] * 2):
        with pytest.raises((TypeError, ValueError), match="boxes must be"):
            gr.augment.resized_crop(images, wrong, 8)
    for rows in ([[0, 1, 30]] * 2, [[0, 1, 30, 20], 9], ["0120", "9999"], [[0, 1, 30, 20], [9, 9, 9, 9, 9]]):
        with pytest.raises(TypeError, match=r"^boxes must be integers \[N, 4\]: top, left, height, width, got \["):
            gr.augment.resized_crop(images, rows, 8)


def test_pairs_and_triples_are_any_sequences():
    wanted = gr.augment.Crop(scale=(0.5, 1.0), mean=(0.25, 0.5, 0.75))
    for kind in (list, np.array, torch.tensor, collections.deque):
        assert gr.augment.Crop(scale=kind([0.5, 1.0]), mean=kind([0.25, 0.5, 0.75])) == wanted
