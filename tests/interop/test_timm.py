"""timm: its create_loader's keywords on a recipe, and its own scripts through the launcher."""

import csv
import inspect
import json
import os
import re
import runpy
import shlex
import subprocess
import sys

import pytest
import torch
from PIL import Image

import gpurender as gr

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
import timm.data
from timm.data import FastCollateMixup, Mixup
from timm.data.loader import PrefetchLoader, fast_collate
from timm.data.loader import create_loader as timm_create_loader
from timm.data.mixup import mixup_target

from gpurender.interop import timm as interop
from gpurender.interop.timm import Training, create_dataset, create_loader

SIZE, BATCH = 32, 8
TINY = gr.OnePFrac(classes=4, instances=6, image_size=61, points=300, fill_rate=0.0)
CPU = {"device": torch.device("cpu"), "num_workers": 0}
STILL = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0, "color_jitter": None, "interpolation": "bilinear"}
NAMES = list(inspect.signature(timm_create_loader).parameters)


def batches(dataset=TINY, **keywords):
    return list(create_loader(dataset, (3, SIZE, SIZE), BATCH, **CPU | keywords))


def same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for (x, y), (u, v) in zip(ours, theirs, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
        assert (x.dtype, y.dtype) == (u.dtype, v.dtype)


# ---------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"interpolation": "bicubic", "crop_pct": 0.9},
        {"crop_pct": 1.0, "crop_mode": "squash", "mean": (0.5, 0.25, 0.0), "std": (0.5, 0.3, 1.0)},
        {"crop_pct": 0.77, "crop_mode": "border", "interpolation": "nearest"},
        {
            "crop_border_pixels": 5,
            "crop_mode": "center",
            "re_prob": 1.0,
            "hflip": 1.0,
        },  # the last two: in training only
    ],
)
@pytest.mark.parametrize("use_prefetcher", [False, True])
def test_evaluation_is_timms(keywords, use_prefetcher):
    keywords = {**CPU, "use_prefetcher": use_prefetcher, **keywords}
    ours = create_loader(TINY, SIZE, 10, **keywords)
    theirs = timm_create_loader(gr.Dataset(TINY), SIZE, 10, **keywords)
    assert len(ours) == len(theirs) == 3
    if not use_prefetcher:
        same(list(ours), list(theirs))
        return
    for (x, y), (u, v) in zip(ours, theirs, strict=True):  # (v - 255 mean) / 255 std: rounded elsewhere than the table
        assert torch.allclose(x, u, rtol=0, atol=3e-6)
        assert torch.equal(y, v)


# ------------------------------------------------------------------------------------------------------------ training


def samples(loader):
    """Sample numbers of the coming pass, a list a batch."""
    return [list(numbers) for numbers in loader.batch_sampler]


@pytest.mark.parametrize(
    "keywords",
    [{"no_aug": True, "interpolation": "random"}, {"no_aug": True, "re_prob": 1.0}, {**STILL, "hflip": 1, "vflip": 1}],
)
def test_what_is_not_random_is_timms(keywords):
    loader = create_loader(TINY, SIZE, 10, is_training=True, use_prefetcher=False, seed=3, **CPU, **keywords)
    order = samples(loader)
    assert len(loader) == len(order) == 2  # 24 samples: the incomplete batch is left out
    flat = [number for batch in order for number in batch]
    assert len(set(flat)) == 20
    assert flat != sorted(flat)
    dataset = gr.Dataset(TINY, timm.data.create_transform(SIZE, is_training=True, **keywords))
    if keywords.get("re_prob"):
        dataset.transform = timm.data.create_transform(SIZE, is_training=True, no_aug=True)
    for numbers, (images, labels) in zip(order, loader, strict=True):
        for number, image, label in zip(numbers, images, labels, strict=True):
            assert torch.equal(image, dataset[number][0])
            assert label == dataset[number][1]


def test_random_keywords_are_those_of_the_policy():
    """The policy's laws are tested against timm's where it is at home; here, that every keyword arrives."""
    shared = {
        "scale": (0.3, 0.9), "ratio": (0.5, 1.5), "hflip": 0.3, "vflip": 0.6, "color_jitter": (0.1, 0.2, 0.3, 0.05),
        "color_jitter_prob": 0.8, "grayscale_prob": 0.2, "gaussian_blur_prob": 0.3, "interpolation": "random",
        "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "re_prob": 0.7, "re_mode": "rand", "re_count": 3,
    }  # fmt: skip
    for name in ("3a", "rand-m9-mstd0.5-inc1", None):
        mix = {"mixup_alpha": 0.3, "cutmix_alpha": 0.7, "switch_prob": 0.4, "mode": "pair", "correct_lam": False}
        collate = FastCollateMixup(**mix, prob=0.9, label_smoothing=0.2, num_classes=TINY.classes)
        policy = gr.augment.DeiT(
            **shared, auto_augment=name, mixup_alpha=0.3, cutmix_alpha=0.7, mixup_switch_prob=0.4, mixup_mode="pair",
            correct_lam=False, mixup_prob=0.9, label_smoothing=0.2,
        )  # fmt: skip
        ours = batches(is_training=True, auto_augment=name, collate_fn=collate, seed=11, **shared)
        drawn = gr.DataLoader(
            TINY, BATCH, image_size=SIZE, augment=policy, shuffle=True, drop_last=True, device="cpu", seed=11
        )
        same(ours, list(drawn))


def test_defaults_and_positions_are_timms():
    """None and 0 mean what they mean in timm's script; every parameter may be given by position."""
    given = {"scale": None, "ratio": None, "grayscale_prob": None, "gaussian_blur_prob": None, "auto_augment": ""}
    plain = batches(is_training=True)
    same(batches(is_training=True, **given, num_aug_repeats=0.0, re_count=0, train_crop_mode="rrc"), plain)
    same(list(create_loader(TINY, SIZE, BATCH, True, False, 0.0, "const", 1, False, None, None, **CPU)), plain)
    defaults = {name: p.default for name, p in inspect.signature(timm_create_loader).parameters.items()}
    everything = {**defaults, **CPU, "dataset": TINY, "input_size": SIZE, "batch_size": BATCH, "is_training": True}
    same(list(create_loader(*(everything[name] for name in NAMES))), plain)


def test_the_crop_by_default_is_timms():
    """As in timm/data/transforms_factory.py, where None stands for these numbers."""
    policy = create_loader(TINY, SIZE, BATCH, is_training=True, **CPU)._policy
    assert (policy.scale, policy.ratio) == ((0.08, 1.0), (0.75, 4 / 3))
    transform = timm.data.create_transform(SIZE, is_training=True).transforms[0]
    assert (policy.scale, policy.ratio) == (tuple(transform.scale), tuple(transform.ratio))


def test_workers_and_memory_are_accepted():
    keywords = {"num_workers": 7, "pin_memory": True, "persistent_workers": False, "worker_seeding": "part"}
    loader = create_loader(TINY, SIZE, BATCH, device="cpu", use_multi_epochs_loader=True, **keywords)
    assert len(list(loader)) == 3


@pytest.mark.parametrize("use_prefetcher", [True, False])
def test_re_split_spares_the_first_half_under_the_prefetcher(use_prefetcher):
    keywords = {**STILL, "is_training": True, "use_prefetcher": use_prefetcher, "re_mode": "rand"}
    clean = batches(**keywords)
    split = batches(**keywords, re_prob=1.0, re_split=True)
    for (x, _), (u, _) in zip(split, clean, strict=True):
        changed = [not torch.equal(a, b) for a, b in zip(x, u, strict=True)]
        assert changed == [not use_prefetcher] * (BATCH // 2) + [True] * (BATCH // 2)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_re_split_begins_where_timms_eraser_does(count):
    """Also in a batch of an odd length, of which timm spares the smaller half."""
    eraser = timm.data.random_erasing.RandomErasing(probability=1.0, mode="const", num_splits=2, device="cpu")
    wanted = (eraser(torch.ones(count, 3, 16, 16)) == 0).flatten(1).any(1)
    drawn = Training(re_prob=1.0, re_split=True).draw(range(count), image_size=16)
    assert torch.equal(drawn["erasing_boxes"].flatten(1).any(1), wanted)


def test_repeats():
    loader = create_loader(TINY, SIZE, 6, is_training=True, num_aug_repeats=3.0, **CPU)
    assert all(a == b == c and d == e == f for a, b, c, d, e, f in samples(loader))
    (first, *_), _ = next(iter(loader))
    assert not torch.equal(first, next(iter(loader))[0][1])


def test_a_length_in_steps():
    """By the keyword, or as timm's script gives it: --epoch-repeats."""
    keywords = {"is_training": True, "no_aug": True, **CPU}
    epochs = create_loader(TINY, SIZE, BATCH, **keywords)
    stream = [targets.tolist() for _ in range(4) for _, targets in epochs]
    loader = create_loader(TINY, SIZE, BATCH, steps_per_epoch=3, **keywords)
    assert [[targets.tolist() for _, targets in loader] for _ in range(2)] == [stream[:3], stream[3:6]]
    for repeats, steps in ((2.5, int(2.5 * len(TINY)) // BATCH), (0.0, len(TINY) // BATCH), (1e-9, 1)):
        dataset = create_dataset("gpurender/onepfrac-1k", is_training=True, repeats=repeats)
        dataset.recipe = TINY
        assert len(create_loader(dataset, SIZE, BATCH, **keywords)) == steps
        assert len(create_loader(dataset, SIZE, BATCH, **keywords | {"is_training": False})) == -(-len(TINY) // BATCH)
    with pytest.raises(ValueError, match="steps_per_epoch must be left out, got 3"):
        create_loader([1, 2], SIZE, BATCH, steps_per_epoch=3)


def test_dtype():
    (images, _), *_ = batches(img_dtype=torch.bfloat16)
    assert images.dtype == torch.bfloat16
    (images, _), *_ = batches(img_dtype=torch.bfloat16, use_prefetcher=False)
    assert images.dtype == torch.float32  # timm's script casts
    (images, _), *_ = batches(img_dtype=None)
    assert images.dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_timms_default_device_is_a_gpu():
    with pytest.raises((RuntimeError, ValueError), match="cuda"):
        create_loader(TINY, SIZE, BATCH)


def test_not_distributed_means_all_samples(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    whole = [list(range(first, first + BATCH)) for first in (0, 8, 16)]
    assert samples(create_loader(TINY, SIZE, BATCH, **CPU)) == whole
    assert len(create_loader(TINY, SIZE, BATCH, distributed=True, **CPU)) == 2


# -------------------------------------------------------------------------------------------------------------- mixing


def test_mixup_is_switched_off_as_timms_script_does():
    collate = FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=7)
    loader = create_loader(TINY, SIZE, BATCH, is_training=True, collate_fn=collate, **STILL, **CPU)
    assert loader.mixup_enabled is True
    (labels,) = {tuple(numbers) for numbers in samples(loader)[:1]}
    labels = torch.tensor([number // TINY.instances for number in labels])
    images, targets = next(iter(loader))
    assert targets.shape == (BATCH, 7)  # the model's classes, of which the recipe has four
    assert torch.allclose(targets.sum(1), torch.ones(BATCH))
    assert not torch.equal(targets, mixup_target(labels, 7, 1.0, 0.1))
    loader.mixup_enabled = False
    unmixed, targets = next(iter(loader))
    assert torch.equal(targets, mixup_target(labels, 7, 1.0, 0.1))
    assert not torch.equal(images, unmixed)
    same([(unmixed, labels)], batches(is_training=True, **STILL)[:1])


def test_mixup_that_is_off_from_the_beginning():
    assert create_loader(TINY, SIZE, BATCH, is_training=True, **CPU).mixup_enabled is False  # as timm's
    collate = FastCollateMixup(num_classes=4)
    collate.mixup_enabled = False
    loader = create_loader(TINY, SIZE, BATCH, is_training=True, collate_fn=collate, **CPU)
    assert loader.mixup_enabled is False
    assert next(iter(loader))[1].max(1).values.min() > 0.9


def test_without_the_prefetcher_the_script_mixes():
    loader = create_loader(TINY, SIZE, BATCH, is_training=True, use_prefetcher=False, **STILL)  # device: timm's default
    mixup = Mixup(mixup_alpha=0.8, num_classes=4)
    seen = []
    for images, labels in loader:
        assert images.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert labels.dtype == torch.int64
        before = images.clone()
        mixed, targets = mixup(images, labels)  # in place
        assert targets.shape == (BATCH, 4)
        seen.append(not torch.equal(before, mixed))
    assert all(seen)


@pytest.mark.parametrize("distributed", [False, True])
def test_repeated_steps_are_those_of_the_ranks(monkeypatch, distributed):
    """Of one where the process is not distributed, whatever its environment says."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    keywords = {"is_training": True, "no_aug": True, "distributed": distributed, **CPU}
    assert create_loader(TINY, SIZE, 3, **keywords)._ranks() == ((1, 2) if distributed else (0, 1))
    dataset = create_dataset("gpurender/onepfrac-1k", is_training=True, repeats=2.0)
    dataset.recipe = TINY
    assert len(create_loader(dataset, SIZE, 3, **keywords)) == 48 // (6 if distributed else 3)


def test_the_last_values_that_are_taken():
    """And how they arrive: a border that leaves one pixel, the least share of the canvas, the most repeats."""
    for keywords, border, share in (({"crop_border_pixels": 30}, 30, 0.875), ({"crop_pct": SIZE / 65_535}, 0, None)):
        policy = create_loader(TINY, SIZE, BATCH, **CPU, **keywords)._policy
        assert (policy.border, policy.crop_pct) == (border, share or keywords["crop_pct"])
        assert hash(policy) == hash(interop.CenterCrop(interpolation="bilinear", mean=policy.mean, std=policy.std,
                                                       border=border, crop_pct=policy.crop_pct))  # fmt: skip
    with pytest.raises(ValueError, match=r"^crop_pct must be "):
        create_loader(TINY, SIZE, BATCH, **CPU, crop_pct=SIZE / 65_536)
    assert create_dataset("gpurender/onepfrac-1k", repeats=1e9).repeats == 1e9
    with pytest.raises(ValueError, match=r"^repeats must be a finite number in \[0, 1e\+09\], got 1100000000\.0$"):
        create_dataset("gpurender/onepfrac-1k", repeats=1.1e9)
    assert create_dataset("gpurender/onepfrac-1k", seed=2**64 - 1).seed == 2**64 - 1
    assert hash(Training(num_classes=3)) == hash(Training(num_classes=3)) != hash(Training())
    for kind in (Training, interop.CenterCrop):
        with pytest.raises(TypeError, match="positional"):
            kind(True)


@pytest.mark.parametrize("available", [False, True])
@pytest.mark.parametrize("given", ["cuda", "cuda:1", "cpu"])
def test_timms_default_device_is_the_cpu_without_a_gpu_or_prefetcher(monkeypatch, given, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert interop._device(given, True) == given
    assert interop._device(given, False) == (given if available else "cpu")


@pytest.mark.parametrize("size", [SIZE, (SIZE, SIZE), [3, SIZE, SIZE]])
def test_a_side_of_images(size):
    assert interop._side(size) == SIZE
    for wrong in ((SIZE,), (3, 3, SIZE, SIZE), (SIZE, SIZE - 1), (4, SIZE, SIZE)):
        with pytest.raises(ValueError, match=r"^input_size must be a side, "):
            interop._side(wrong)


def test_what_evaluation_is_on_is_logged(caplog):
    with caplog.at_level("INFO", logger="gpurender"):
        create_dataset("gpurender/onepfrac-1k", is_training=True)
        assert not caplog.records
        create_dataset("gpurender/onepfrac-1k", is_training=False)
    assert caplog.messages == [
        "gpurender/onepfrac-1k: evaluation is on the samples of the recipe, those that training uses"
    ]


# ------------------------------------------------------------------------------------------------------------ refusals


class Otherwise(FastCollateMixup):
    """Collates otherwise, for all that we know."""


TRAIN = {"is_training": True}
REFUSED = [
    (TRAIN | {"num_aug_splits": 2}, "num_aug_splits must be 0 .*got 2"),
    ({"tf_preprocessing": True}, "tf_preprocessing must be False .*got True"),
    ({"fp16": True}, "fp16 must be False .*img_dtype"),
    (TRAIN | {"input_size_choices": [32, 48]}, "input_size_choices must be None"),
    (TRAIN | {"batch_size_choices": [8]}, "batch_size_choices must be None"),
    (TRAIN | {"batch_choice_schedule": "progressive"}, "batch_choice_schedule must be 'constant'"),
    (TRAIN | {"num_batches": 2}, "num_batches must be None"),
    (TRAIN | {"train_crop_mode": "rkrc"}, "train_crop_mode must be one of 'rrc', got 'rkrc'"),
    (TRAIN | {"collate_fn": fast_collate}, "collate_fn must be None or timm's FastCollateMixup"),
    (TRAIN | {"collate_fn": Otherwise(num_classes=4)}, "collate_fn must be None or timm's FastCollateMixup"),
    (TRAIN | {"collate_fn": Mixup(num_classes=4)}, "collate_fn must be None or timm's FastCollateMixup"),
    (TRAIN | {"collate_fn": FastCollateMixup(num_classes=4), "use_prefetcher": False}, "use_prefetcher is False"),
    (TRAIN | {"collate_fn": FastCollateMixup(num_classes=3)}, "num_classes must be at least 4, .*got 3"),
    (TRAIN | {"collate_fn": FastCollateMixup(num_classes=4, mode="half")}, "mixup_mode must be .*got 'half'"),
    (TRAIN | {"collate_fn": FastCollateMixup(num_classes=4, multi_label=True)}, "multi_label must be False"),
    (TRAIN | {"collate_fn": FastCollateMixup(mixup_alpha=0.0, num_classes=4)}, "mixup_alpha or a cutmix_alpha above 0"),
    ({"collate_fn": FastCollateMixup(num_classes=4)}, "collate_fn must be None where is_training is False"),
    (TRAIN | {"auto_augment": "augmix-m5"}, "auto_augment must begin .*got 'augmix-m5'"),
    (TRAIN | {"interpolation": "lanczos"}, "interpolation must be .*got 'lanczos'"),
    ({"interpolation": "random"}, "interpolation must be .*got 'random'"),
    (TRAIN | {"num_aug_repeats": 1.5}, "num_aug_repeats must be an integer .*got 1.5"),
    (TRAIN | {"re_mode": "noise"}, "re_mode must be .*got 'noise'"),
    ({"crop_pct": 1.1}, r"crop_pct must be .*, 1\], got 1.1"),
    ({"crop_mode": "corner"}, "crop_mode must be .*got 'corner'"),
    ({"crop_border_pixels": 31}, "crop_border_pixels must be .*got 31"),
    ({"input_size": 0}, "input_size must be .*got 0"),
    ({"input_size": (1, 32, 32)}, r"input_size must be .*got \(1, 32, 32\)"),
    ({"input_size": (3, 32, 48)}, r"input_size must be .*got \(3, 32, 48\)"),
    ({"input_size": (3, 48, 32)}, r"input_size must be .*got \(3, 48, 32\)"),
    ({"dataset": "onepfrac-2k"}, "recipe 'onepfrac-2k' is neither"),
    ({"dataset": timm.data.AugMixDataset(gr.Dataset(TINY), 3)}, "num_aug_splits must be 0 .*AugMixDataset of 3 splits"),
    ({"seed": -1}, "seed must be .*got -1"),
    (TRAIN | {"batch_size": 0}, r"^batch_size must be an integer in \[1, .*got 0"),
    ({"steps_per_epoch": 0}, r"^steps_per_epoch must be an integer in \[1, .*got 0"),
]


@pytest.mark.parametrize(("keywords", "message"), REFUSED)
def test_refusals_name_keyword_and_value(keywords, message):
    keywords = {"dataset": TINY, "input_size": SIZE, "batch_size": BATCH, **CPU, **keywords}
    with pytest.raises(ValueError, match=message):
        create_loader(**keywords)


def test_a_keyword_that_is_not_known_yet_is_refused():
    """Whatever timm has or will have besides what is drawn here: its default is taken, another value refused."""
    for name in set(NAMES) - interop.DRAWN - interop.IDLE:
        with pytest.raises(ValueError, match=f"^{name} must be "):
            create_loader(TINY, SIZE, BATCH, **{name: "something"})
    with pytest.raises(
        TypeError, match=r"^create_loader\(\) got an unexpected keyword argument 'x'; it takes dataset, "
    ):
        create_loader(TINY, SIZE, BATCH, x=1)
    with pytest.raises(TypeError, match=r"keyword argument 'num_worker'; did you mean 'num_workers'\?$"):
        create_loader(TINY, SIZE, BATCH, num_worker=1)


# ------------------------------------------------------------------------------------------------------------ datasets


def test_other_datasets_are_timms(tmp_path):
    (tmp_path / "val/cat").mkdir(parents=True)
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "val/cat/red.png")
    photographs = create_dataset("", root=str(tmp_path), split="val")
    assert isinstance(photographs, timm.data.ImageDataset)
    loader = create_loader(photographs, SIZE, 1, mean=(0, 0, 0), std=(1, 1, 1), **CPU)
    assert isinstance(loader, PrefetchLoader)
    ((images, labels),) = loader
    assert images.amax((0, 2, 3)).tolist() == [1, 0, 0]
    assert labels.tolist() == [0]
    for keywords in ({"seed": 1}, {"fresh": True}):
        (name,) = keywords
        with pytest.raises(ValueError, match=f"{name} must be left out, got .*ImageDataset"):
            create_loader(photographs, SIZE, 1, **CPU, **keywords)


@pytest.fixture
def file(tmp_path):
    """The tiny recipe as JSON."""
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    return path


def test_a_recipe_by_name_and_its_seed(file):
    dataset = create_dataset(f"gpurender/{file}", root=None, split="train", is_training=True, seed=5)
    assert dataset.recipe == TINY
    train = batches(dataset, is_training=True)
    same(batches(TINY, is_training=True, seed=5), train)
    same(batches(str(file), is_training=True, seed=5), train)
    same(batches(dataset, is_training=True, seed=6), batches(TINY, is_training=True, seed=6))
    assert not torch.equal(batches(TINY, is_training=True)[0][0], train[0][0])
    assert create_dataset("GPURENDER/onepfrac-1k", is_training=True).recipe == gr.recipe("onepfrac-1k")


@pytest.mark.parametrize("fresh", [False, True])
def test_fresh_instances_for_training_only(fresh):
    loader = create_loader(TINY, SIZE, BATCH, is_training=True, no_aug=True, fresh=fresh, **CPU)
    first, second = ({x.numpy().tobytes() for images, _ in loader for x in images} for _ in range(2))
    assert first.isdisjoint(second) if fresh else first == second
    same(batches(fresh=fresh), batches())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"root": "/data"}, "root must be left out .*got '/data'"),
        ({"class_map": "map.txt"}, "class_map must be left out"),
        ({"num_samples": 5}, "num_samples must be left out"),
        ({"repeats": -2.0}, "repeats must be .*got -2.0"),
        ({"input_img_mode": "L"}, "input_img_mode must be left out"),
        ({"input_key": "jpg"}, "input_key must be left out"),
        ({"seed": -3}, "seed must be .*got -3"),
    ],
)
def test_what_is_about_files_is_refused_for_a_recipe(file, keywords, message):
    with pytest.raises(ValueError, match=message):
        create_dataset(f"gpurender/{file}", **keywords)


# --------------------------------------------------------------------------------------------------------- the scripts

SCRIPT = """
import argparse, hashlib, json
import torch
from timm import utils
from timm.data import FastCollateMixup, Mixup, create_dataset, create_loader

import neighbour

parser = argparse.ArgumentParser()
parser.add_argument("--dataset")
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--batch-size", type=int)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--start-epoch", type=int, default=0)
parser.add_argument("--mixup", type=float, default=0.0)
parser.add_argument("--mixup-off-epoch", type=int, default=0)
parser.add_argument("--no-prefetcher", action="store_true")
parser.add_argument("--device", default="cpu")
parser.add_argument("--output")
args = parser.parse_args()
args.prefetcher = not args.no_prefetcher

device = utils.init_distributed_device(args)
utils.random_seed(args.seed, args.rank)
dataset = create_dataset(
    args.dataset, root=None, split="train", is_training=True, class_map="", download=False, batch_size=args.batch_size,
    seed=args.seed, repeats=0.0, input_img_mode="RGB", input_key=None, target_key=None, num_samples=None,
    trust_remote_code=False,
)
mixup = dict(mixup_alpha=args.mixup, cutmix_alpha=0.0, cutmix_minmax=None, prob=1.0, switch_prob=0.5, mode="batch",
             label_smoothing=0.1, num_classes=4)
collate_fn = FastCollateMixup(**mixup) if args.mixup and args.prefetcher else None
loader = create_loader(
    dataset, input_size=(3, 32, 32), batch_size=args.batch_size, is_training=True, auto_augment="rand-m9-mstd0.5-inc1",
    re_prob=0.5, re_mode="pixel", interpolation="random", num_workers=4, device=device, distributed=args.distributed,
    use_prefetcher=args.prefetcher, collate_fn=collate_fn,
)
record = []
for epoch in range(args.start_epoch, args.epochs):
    if hasattr(loader.dataset, "set_epoch"):
        loader.dataset.set_epoch(epoch)
    if hasattr(loader.batch_sampler, "set_epoch"):
        loader.batch_sampler.set_epoch(epoch)
    elif hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch and args.prefetcher and loader.mixup_enabled:
        loader.mixup_enabled = False
    last = len(loader) - 1
    seen = []
    for i, (images, target) in enumerate(loader):
        assert i <= last and images.device == target.device == device
        hashes = [hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()[:16]
                  for x, y in zip(images, target)]
        seen.append(dict(hashes=hashes, sharpest=target.float().max().item()))
    record.append(seen)
with open(f"{args.output}.{args.rank}", "w") as file:
    json.dump(record, file)
if args.distributed:
    torch.distributed.destroy_process_group()
"""


@pytest.fixture
def script(tmp_path):
    """What train.py does with dataset and loader, beside a module that it imports."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "neighbour.py").write_text("")
    (folder / "loop.py").write_text(SCRIPT)
    return folder / "loop.py"


@pytest.fixture
def record(script, file, tmp_path):
    """Runs the script in this process and returns what it saw: epochs of batches."""

    def run(*words):
        output = tmp_path / "seen"
        words = ["--dataset", f"gpurender/{file}", "--output", output, *words]
        before = [sys.argv, sys.path, timm.data.create_dataset, timm.data.create_loader, sys.modules["__main__"]]
        assert interop.main([str(word) for word in [script, *words]]) == 0
        after = [sys.argv, sys.path, timm.data.create_dataset, timm.data.create_loader, sys.modules["__main__"]]
        assert all(a is b for a, b in zip(before, after, strict=True))
        sys.modules.pop("neighbour")
        return json.loads(output.with_name("seen.0").read_text())

    return run


@pytest.mark.parametrize("words", [["--mixup", "0.8", "--mixup-off-epoch", "2"], ["--no-prefetcher"]])
def test_an_epoch_is_the_same_after_a_resume(record, words):
    words = ["--batch-size", "6", *words]
    whole = record(*words, "--epochs", "3")
    assert [len(epoch) for epoch in whole] == [4, 4, 4]
    assert record(*words, "--epochs", "3", "--start-epoch", "1") == whole[1:]
    assert record(*words, "--epochs", "1", "--seed", "7") != whole[:1]
    hashes = [text for epoch in whole for batch in epoch for text in batch["hashes"]]
    assert len(set(hashes)) == len(hashes)
    if "--mixup" in words:
        sharpest = [[batch["sharpest"] for batch in epoch] for epoch in whole]
        assert min(sharpest[0] + sharpest[1]) < 0.9
        assert min(sharpest[2]) > 0.92  # smoothed only


def test_ranks_of_torchrun_see_what_one_process_sees(record, script, file, root, tmp_path):
    alone = record("--batch-size", "6")
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "gpurender.interop.timm", script, "--dataset", f"gpurender/{file}", "--batch-size", "3"]
    words += ["--output", tmp_path / "ranks"]
    result = subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    ranks = [json.loads((tmp_path / f"ranks.{rank}").read_text()) for rank in range(2)]
    for epoch, *shares in zip(alone, *ranks, strict=True):
        for batch, *parts in zip(epoch, *shares, strict=True):
            assert batch["hashes"] == [text for part in parts for text in part["hashes"]]


def test_a_script_that_fails_leaves_timm_as_it_was(tmp_path, file):
    path = tmp_path / "fails.py"
    path.write_text("import sys, timm.data\nsys.exit(str(timm.data.create_dataset(sys.argv[1]).recipe.classes))")
    with pytest.raises(SystemExit, match=r"^4$"):
        interop.main([str(path), f"gpurender/{file}"])
    assert timm.data.create_dataset is interop.timm_create_dataset
    path.write_text(
        "import timm.data\ntimm.data.create_naflex_loader(timm.data.create_dataset('gpurender/onepfrac-1k'))"
    )
    with pytest.raises(ValueError, match="create_naflex_loader"):
        interop.main([str(path)])
    assert timm.data.create_naflex_loader is interop.timm_create_naflex_loader


def test_no_script(tmp_path, capsys):
    for words, problem in [
        ([], "SCRIPT is missing"),
        ([str(tmp_path / "none.py")], "none.py': No such file or directory"),
        ([str(tmp_path)], "Is a directory"),
    ]:
        assert interop.main(words) == 2
        out, err = capsys.readouterr()
        assert (out, err.startswith("usage: python -m gpurender.interop.timm SCRIPT")) == ("", True)
        assert problem in err.splitlines()[-1]
    assert interop.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"gpurender.interop.timm needs timm, pip install 'gpurender\[train\]'"):
        runpy.run_path(interop.__file__, run_name="a_copy")


def test_timms_own_train_py(root, tmp_path):
    """timm's train.py lies in its repository, not in its package: two epochs of it, the second again by --resume."""
    path = os.environ.get("GPURENDER_TIMM_TRAIN")
    if not path:
        pytest.skip("needs GPURENDER_TIMM_TRAIN, the path of train.py in a checkout of timm")
    recipe = gr.OnePFrac(classes=4, instances=64, image_size=64, points=2_000, fill_rate=0.0)
    (tmp_path / "small.json").write_text(recipe.to_json())
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def train(name, *more):
        """Rows of the summary."""
        words = [sys.executable, "-m", "gpurender.interop.timm", path, "--dataset", "gpurender/small.json"]
        words += shlex.split("--model test_resnet --num-classes 4 --input-size 3 32 32 -b 32 --device cpu --opt adamw")
        words += shlex.split("--lr 3e-3 --warmup-epochs 0 --epochs 2 --output out --experiment")
        result = subprocess.run(
            [*words, name, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        with open(tmp_path / "out" / name / "summary.csv") as file:
            return list(csv.DictReader(file))

    words = shlex.split("--aa rand-m9-mstd0.5-inc1 --reprob 0.25 --mixup 0.8 --cutmix 1.0 --mixup-off-epoch 1")
    whole = train("whole", *words)
    assert train("resumed", *words, "--resume", "out/whole/checkpoint-0.pth.tar") == whole[1:]
    mixed = train("mixed-by-the-script", *words, "--no-prefetcher", "--val-split", "")
    plain = train("plain", "--no-aug", "--smoothing", "0", "--crop-pct", "1.0")
    for rows in (mixed, plain):
        first, second = (float(row["train_loss"]) for row in rows)
        assert second < first


def test_the_example_trains_and_switches_mixing_off(root, capsys):
    runpy.run_path(str(root / "examples/timm_loader.py"))["main"]()
    lines = capsys.readouterr().out.splitlines()
    mixed = re.fullmatch(r"epoch 0  loss (\d+\.\d+)  mixup on", lines[0])
    plain = re.fullmatch(r"epoch 1  loss (\d+\.\d+)  mixup off", lines[1])
    assert float(plain[1]) < float(mixed[1])
    assert re.fullmatch(r"top-1 \d+\.\d+ %  top-5 \d+\.\d+ %", lines[2])
