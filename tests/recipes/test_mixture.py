"""Mixtures: exact shares, each recipe's own epochs, labels, resume, ranks, JSON."""

import json
from collections import Counter
from fractions import Fraction
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import gpurender as gr
from gpurender.recipes.mixture import Interleaving, integers
from tests.golden import current, recorded

WILD = {
    "image_size": 64,
    "orbits": (8, 15),
    "quantization": (30, 60),
    "nucleus": (-0.2, 0.2),
    "radius": (2, 10),
}  # all unlike
ATOM = {"image_size": 32, "orbits": (1, 3), "quantization": (5, 9)}


def grey(**more):
    return gr.OnePFrac(**{"classes": 4, "instances": 6, "image_size": 32, "points": 300, "fill_rate": 0.0, **more})


def atoms(**more):
    return gr.VisualAtom(**{"classes": 3, "instances": 20, "seed": 3, **ATOM, **more})


def colour(**more):
    rows = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
    return gr.FractalDB(
        **{"categories": [rows], "points": 300, "image_size": 32, "draw_type": "patch_color", "patches": 1, **more}
    )


def loader(recipe, **keywords):
    return gr.DataLoader(recipe, **{"batch_size": 8, "image_size": 24, "augment": gr.augment.Crop(), **keywords})


def numbers(recipe, epochs, **keywords):
    """Sample numbers of some epochs, in order."""
    feed, found = loader(recipe, **keywords), []
    for epoch in range(epochs):
        feed.set_epoch(epoch)
        found.append([*chain(*feed.batch_sampler)])
    return found


# ------------------------------------------------------------------------------------------------------------- shares


@settings(max_examples=60, deadline=None)
@given(weights=st.lists(st.integers(1, 12), min_size=1, max_size=5), start=st.integers(0, 500))
def test_wherever_a_period_begins_its_shares_are_exact(weights, start):
    shares = Interleaving(tuple(weights), [10**6] * len(weights))
    places = np.arange(start, start + sum(weights))
    owners = shares.indices(places, 10**6, 0, 0, False) // 10**6
    assert np.bincount(owners, minlength=len(weights)).tolist() == weights


def test_two_recipes_are_never_a_sample_off_their_shares():
    for weights in [(1, 1), (1, 3), (5, 2), (7, 300)]:
        shares = Interleaving(weights, [10**6, 10**6])
        owners = shares.indices(np.arange(2 * sum(weights)), 10**6, 0, 0, False) // 10**6
        for i, weight in enumerate(weights):
            due = np.arange(1, len(owners) + 1) * weight / sum(weights)
            assert np.abs(np.cumsum(owners == i) - due).max() <= 1


def test_slots_are_given_out_as_they_are_due():
    """The k-th of w samples is due at (k + 1/2) / w of the way: at .1 .3 .5 .7 .9 and .25 .75 for 5 and 2."""
    owners = Interleaving((5, 2), [10, 10]).indices(np.arange(14), 14, 0, 0, False) // 10
    assert owners.tolist() == [0, 1, 0, 0, 0, 1, 0] * 2
    for weights in [(3, 2, 1), (4, 7), (1, 1, 5)]:
        due = sorted((Fraction(2 * k + 1, 2 * w), i) for i, w in enumerate(weights) for k in range(w))
        owners = Interleaving(weights, [100] * len(weights)).indices(np.arange(sum(weights)), 300, 0, 0, False) // 100
        assert owners.tolist() == [i for _, i in due]


def test_every_turn_of_every_recipe_has_an_order_of_its_own():
    """Of recipes of equal length, too: no turn of one is any turn of another."""
    shares = Interleaving((1, 1, 1), [20] * 3)
    stream = np.concatenate([shares.indices(np.arange(60), 60, epoch, 4, True) for epoch in range(6)])
    orders = [tuple(stream[stream // 20 == i][20 * t : 20 * t + 20] - 20 * i) for i in range(3) for t in range(6)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == 18


@pytest.mark.parametrize("shuffle", [False, True])
def test_no_sample_comes_again_before_all_of_its_recipe_have_come(shuffle):
    mixture = gr.Mixture({grey(): 3, atoms(): 2, colour(): 1})
    stream = [*chain(*numbers(mixture, 5, shuffle=shuffle, seed=4))]
    begin = 0
    for part in mixture.recipes:
        own = [n - begin for n in stream if begin <= n < begin + len(part)]
        turns = [own[i : i + len(part)] for i in range(0, len(own) - len(part) + 1, len(part))]
        assert turns
        assert all(sorted(turn) == list(range(len(part))) for turn in turns)
        assert (turns[0] == turns[-1]) is not shuffle or len(turns) == 1
        begin += len(part)


def test_an_epoch_is_as_long_as_the_recipes_together_and_a_batch_has_the_shares():
    mixture = gr.Mixture({grey(): 1, atoms(): 3})
    assert len(mixture) == 24 + 60
    feed = loader(mixture, drop_last=True)
    assert len(feed) == 10
    assert [Counter((targets < 4).tolist()) for _, targets in feed] == [{True: 2, False: 6}] * 10


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([1, 3], (1, 3)), ([10, 30], (1, 3)), ([0.1, 0.7, 0.2], (1, 7, 2)), ([1 / 3, 2 / 3], (1, 2)), ([5], (1,)),
     ([Fraction(1, 3), 1], (1, 3)), ([0.25, 1e-3], (250, 1))],
)  # fmt: skip
def test_weights_are_brought_to_integers(weights, expected):
    assert integers(weights) == expected


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_weight_is_a_fraction_within_a_trillionth_of_it(sign):
    """What rounding leaves of a third is one; what lies further away is in no proportion of small integers."""
    assert integers([1 / 3 * (1 + sign * 0.9e-12), 1]) == (1, 3)
    with pytest.raises(ValueError, match="weights must be in the proportion of integers"):
        integers([1 / 3 * (1 + sign * 1.1e-12), 1])


# ------------------------------------------------------------------------------------------------- pictures and labels


def test_its_pictures_are_those_of_its_recipes():
    parts = grey(), colour(), atoms(image_size=48)
    mixture = gr.Mixture(dict.fromkeys(parts, 1))
    assert (mixture.image_size, mixture.channels) == (48, 3)
    drawn = gr.Renderer(mixture)(range(len(mixture)))
    begin = 0
    for part in parts:
        own = gr.Renderer(part)(range(len(part)))
        for canvas, wanted in zip(drawn[begin : begin + len(part)], own, strict=True):
            picture = Image.fromarray(wanted.permute(1, 2, 0).numpy().squeeze()).convert("RGB")
            if picture.size != (48, 48):
                picture = picture.resize((48, 48), Image.Resampling.BICUBIC)
            assert np.array_equal(canvas.permute(1, 2, 0).numpy(), np.asarray(picture))
        begin += len(part)


def test_another_epoch_draws_new_images_and_no_two_alike():
    mixture = gr.Mixture({atoms(**WILD): 1, atoms(seed=9, **WILD): 1})
    renderer = gr.Renderer(mixture)
    seen = {image.numpy().tobytes() for epoch in range(3) for image in renderer(range(len(mixture)), epoch)}
    assert len(seen) == 3 * len(mixture)
    feed = loader(mixture, fresh=True, augment=None, image_size=64, shuffle=True)
    seen = [image.numpy().tobytes() for _ in range(3) for images, _ in feed for image in images]
    assert len(set(seen)) == len(seen) == 3 * len(mixture)


def test_joint_labels_follow_one_another_and_separate_ones_say_whose_they_are():
    parts = grey(), atoms(label_noise=0.5)
    joint, separate = gr.Mixture(dict.fromkeys(parts, 1)), gr.Mixture(dict.fromkeys(parts, 1), labels="separate")
    samples = list(range(len(joint)))
    own = [gr.Renderer(part).labels(range(len(part))) for part in parts]
    assert torch.equal(gr.Renderer(joint).labels(samples), torch.cat([own[0], own[1] + 4]))
    labels = gr.Renderer(separate).labels(samples)
    assert torch.equal(labels[:, 0], torch.tensor([0] * 24 + [1] * 60))
    assert torch.equal(labels[:, 1], torch.cat(own))
    assert torch.equal(separate.joint(labels), gr.Renderer(joint).labels(samples))
    assert joint.fingerprint != separate.fingerprint
    assert next(iter(loader(separate)))[1].shape == (8, 2)
    with pytest.raises(ValueError, match=r"augment.*separate"):
        loader(separate, augment=gr.augment.DeiT())
    soft = next(iter(loader(joint, augment=gr.augment.DeiT())))[1]
    assert soft.shape == (8, 7)


def test_new_images_have_new_noise_in_a_mixture_too():
    """Each recipe's noise has its own seed and the address of the new image: its number there, epochs further on."""
    parts = atoms(label_noise=0.5), grey(), atoms(seed=4, label_noise=[[0.2, 0.4, 0.4]] * 3)
    mixture = gr.Mixture(dict.fromkeys(parts, 1))
    renderer = gr.Renderer(mixture)
    found = [renderer.labels(range(len(mixture)), epoch) for epoch in range(3)]
    assert torch.equal(renderer.labels(range(len(mixture)), 2, fresh=False), found[0])
    begin = classes = 0
    for part in parts:
        local, inside = torch.arange(len(part)), slice(begin, begin + len(part))
        own = gr.Renderer(part)
        for epoch, labels in enumerate(found):
            wanted = own.labels_of(local, local + epoch * len(mixture), fresh=True) + classes
            assert torch.equal(labels[inside], wanted)
        if part.label_noise is not None:
            assert len({tuple(labels[inside].tolist()) for labels in found}) == 3
        begin, classes = begin + len(part), classes + part.classes
    feed = loader(mixture, fresh=True, batch_size=len(mixture))
    for epoch in range(2):
        feed.set_epoch(epoch)
        order = torch.tensor([*chain(*feed.batch_sampler)])
        draws = epoch * len(mixture) + torch.arange(len(mixture))  # a loader's images are numbered by place
        assert torch.equal(next(iter(feed))[1], renderer.labels_of(order, draws, fresh=True))


def test_golden():
    """Streams, labels with noise and batches of both kinds; as for every golden hash, they change with LAYOUT only."""
    assert current("mixtures") == recorded()["mixtures"]


def test_class_names_and_dataset():
    mixture = gr.Mixture({grey(): 1, atoms(): 1})
    dataset = gr.Dataset(mixture)
    assert dataset.classes == [f"0-0000{i}" for i in range(4)] + [f"1-0000{i}" for i in range(3)]
    assert dataset[30][1] == 4
    with pytest.raises(IndexError):
        mixture.class_name(7)


# --------------------------------------------------------------------------------------------------- resume and ranks


def test_a_mixture_is_resumed_at_every_batch_by_any_number_of_ranks():
    mixture = gr.Mixture({grey(): 2, atoms(): 1, colour(): 1})
    whole, feed = [], loader(mixture, shuffle=True, batch_size=6, seed=5)
    states = [json.dumps(feed.state_dict())]
    while feed.state_dict()["epoch"] < 2:
        for images, targets in feed:
            whole += [*zip(images, targets, strict=True)]
            states.append(json.dumps(feed.state_dict()))
    for state in states[:-1:7]:
        place = json.loads(state)
        done = place["epoch"] * len(mixture) + place["position"]
        ranks = [loader(mixture, shuffle=True, batch_size=2, seed=5, rank=r, world_size=3) for r in range(3)]
        for rank in ranks:
            rank.load_state_dict(place)
        found = []
        while len(found) + done < len(mixture) * (place["epoch"] + 1):
            for batches in zip(*ranks, strict=True):
                found += [pair for images, targets in batches for pair in zip(images, targets, strict=True)]
        wanted = whole[done : done + len(found)]
        assert all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(found, wanted, strict=True))


def test_other_weights_are_another_stream():
    one, other = gr.Mixture({grey(): 1, atoms(): 1}), gr.Mixture({grey(): 1, atoms(): 2})
    with pytest.raises(ValueError, match=rf"recipe is '{one.fingerprint}', this loader's is '{other.fingerprint}'"):
        loader(other).load_state_dict(loader(one).state_dict())


def test_repeated_augmentation_repeats_a_mixtures_samples():
    mixture = gr.Mixture({grey(): 1, atoms(): 1})
    feed = loader(mixture, augment=gr.augment.DeiT.resnet(num_aug_repeats=3), batch_size=9, shuffle=True)
    samples = [*chain(*feed.batch_sampler)]
    assert samples[0:3] == samples[:1] * 3
    assert samples[3] != samples[0]
    images, _ = next(iter(feed))
    assert not torch.equal(images[0], images[1])
    wild = gr.Mixture({atoms(**WILD): 1, atoms(seed=9, **WILD): 1})
    repeats = gr.augment.DeiT.resnet(num_aug_repeats=3, auto_augment=None, hflip=0.0)
    same = gr.augment.DeiT.resnet(num_aug_repeats=3, scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, auto_augment=None)
    for augment, alike in ((repeats, False), (same, True)):  # one image; its augmentation differs
        images, _ = next(iter(loader(wild, augment=augment, batch_size=9, fresh=True)))
        assert torch.equal(images[0], images[1]) == torch.equal(images[0], images[2]) == alike
        assert not torch.equal(images[2], images[3])


# ------------------------------------------------------------------------------------------------------------ as data


def test_json_is_lossless():
    mixture = gr.Mixture({grey(class_prior=2.0): 0.1, atoms(): 0.3, "onepfrac-1k": 1}, labels="separate")
    assert gr.Recipe.from_json(mixture.to_json()) == mixture
    assert gr.Recipe.from_json(mixture.to_json()).fingerprint == mixture.fingerprint
    assert mixture.weights == (1, 3, 10)
    with pytest.raises(AttributeError):
        mixture.weights = (1, 1, 1)
    assert hash(mixture) == hash(gr.Recipe.from_json(mixture.to_json()))


@pytest.mark.parametrize(
    ("recipes", "keywords", "error", "says"),
    [
        ([], {}, TypeError, "recipes"),
        ({}, {}, ValueError, "recipes"),
        ({"no-such": 1}, {}, ValueError, "no-such"),
        ({"onepfrac-1k": 0}, {}, ValueError, r"weights\[0\]"),
        ({"onepfrac-1k": -1}, {}, ValueError, r"weights\[0\]"),
        ({"onepfrac-1k": float("nan")}, {}, ValueError, r"weights\[0\]"),
        ({"onepfrac-1k": True}, {}, TypeError, r"weights\[0\]"),
        ({"onepfrac-1k": "1"}, {}, TypeError, r"weights\[0\]"),
        ({"onepfrac-1k": 1, "visualatom-1k": 70_000}, {}, ValueError, "65536"),
        ({"onepfrac-1k": 1, gr.OnePFrac(): 2}, {}, ValueError, "differ"),
        ({gr.Mixture({"onepfrac-1k": 1}): 1}, {}, TypeError, "mixtures"),
        ({"onepfrac-1k": 1}, {"labels": "both"}, ValueError, "labels"),
        ({"onepfrac-1k": 1}, {"labels": None}, TypeError, "labels"),
    ],
)
def test_what_is_no_mixture_is_refused(recipes, keywords, error, says):
    with pytest.raises(error, match=says):
        gr.Mixture(recipes, **keywords)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipes": []}, "recipes"),
        ({"recipes": 5}, "recipes"),
        ({"weights": [1]}, "same length"),
        ({"weights": [1, 0]}, r"weights\[1\]"),
        ({"recipes": [{"family": "onepfrac"}, {"family": "nothing"}]}, r"recipes\[1\].*nothing"),
        ({"recipes": [{"family": "onepfrac"}, 3]}, r"recipes\[1\]"),
        ({"recipes": [{"family": "onepfrac"}, {"family": "onepfrac"}]}, "differ"),
        ({"labels": "none"}, "labels"),
        ({"seed": 3}, "'seed'"),
    ],
)
def test_a_wrong_text_is_refused(change, says):
    data = json.loads(gr.Mixture({"onepfrac-1k": 1, "visualatom-1k": 2}).to_json())
    with pytest.raises(ValueError, match=f"not a recipe: .*{says}"):
        gr.Recipe.from_json(json.dumps({**data, **change}))


def test_a_recipe_s_catalog_is_made_when_its_first_sample_is_rendered(monkeypatch):
    """A category search takes minutes: a preview of another recipe need not wait for it."""
    made, catalog = [], gr.FractalDB.catalog
    monkeypatch.setattr(gr.FractalDB, "catalog", lambda self, *more: made.append(self) or catalog(self, *more))
    renderer = gr.Renderer(gr.Mixture({grey(): 1, colour(): 1}))
    renderer([0, 5])
    assert not made
    renderer([len(grey()), len(grey()) + 1])
    renderer([len(grey())])
    assert made == [colour()]


def test_the_order_is_made_once():
    mixture = gr.Mixture({grey(): 1, atoms(): 2})
    assert mixture.order() is mixture.order()
