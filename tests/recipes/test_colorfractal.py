"""Coloured fractals against a plain slow rendering of the released rules, and what their parameters do."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes import colored, system_jitter
from tests.support import colored as plain
from tests.support.two_sample import same_law

SMALL = {"classes": 6, "instances": 5, "points": 2000, "image_size": 48, "seed": 3}


def small(**changes):
    return gr.ColorFractal(**SMALL | changes)


def pictures(recipe, samples=None, **keywords):
    """Canvases as NumPy [N, S, S, 3]."""
    samples = range(len(recipe)) if samples is None else samples
    return gr.Renderer(recipe)(list(samples), **keywords).permute(0, 2, 3, 1).numpy()


def features(images, textured):
    """Numbers of images [N, S, S, 3] that should have the same law: ink, extent, centre, runs, greys, hues."""
    grey = images.astype(float).mean(-1)
    found = {
        "grey": grey.mean((1, 2)), "spread": grey.std((1, 2)), "rough": np.abs(np.diff(grey, axis=2)).mean((1, 2)),
        "red": images[..., 0].mean((1, 2)), "blue": images[..., 2].mean((1, 2)),
    }  # fmt: skip
    if textured:
        return found
    lit = images.any(-1)
    place = np.arange(images.shape[1])
    count = np.maximum(lit.sum((1, 2)), 1)
    colour = images.astype(float)
    least, most = colour.min(-1), colour.max(-1)
    return found | {
        "ink": lit.mean((1, 2)), "rows": lit.any(2).sum(1), "columns": lit.any(1).sum(1),
        "centre": (lit * place[None, :, None]).sum((1, 2)) / count,
        "runs": (lit[:, :, 1:] & ~lit[:, :, :-1]).sum((1, 2)),
        "value": most.sum((1, 2)) / count, "chroma": (most - least).sum((1, 2)) / count,
        "reddest": ((colour[..., 0] == most) & lit).sum((1, 2)) / count,
        "hues": [len(np.unique(image[mask] // 32, axis=0)) for image, mask in zip(images, lit, strict=True)],
    }  # fmt: skip


@pytest.mark.parametrize("textured", [False, True])
def test_images_have_the_law_of_the_released_rules(textured):
    """Small images. (1,000 of full size were compared with the released program itself.)"""
    count, rng = (120 if textured else 250), np.random.default_rng(8)
    recipe = gr.ColorFractal(
        classes=count, instances=1, points=3000, image_size=32, seed=4, background=textured
    )  # fmt: skip
    theirs = np.stack([plain.image(32, 3000, rng, textured=textured) for _ in range(count)])
    ours, others = features(pictures(recipe), textured), features(theirs, textured)
    for name in ours:
        same_law(ours[name], others[name], name)


def test_a_class_is_its_systems_and_an_instance_is_drawn_anew():
    recipe = small(systems=2)
    catalog = recipe.catalog(torch.device("cpu"))
    assert len(catalog.maps) == len(catalog.counts) == 12
    assert set(catalog.of(torch.arange(12))[1].tolist()) <= {2, 3, 4}
    images = pictures(recipe)
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    again = gr.Renderer(recipe)
    assert np.array_equal(again([7, 3]).permute(0, 2, 3, 1).numpy(), images[[7, 3]])
    other = gr.Renderer(recipe)([7], epoch=1)
    assert torch.equal(other, gr.Renderer(recipe)([7], epoch=1, fresh=False))  # nothing is shared between images
    assert not torch.equal(other, again([7]))


def test_systems_are_sampled_a_page_at_a_time_when_they_are_wanted(monkeypatch):
    sizes, sampled = [], colored.sampled
    monkeypatch.setattr(colored, "sampled", lambda seed, n, maps: sizes.append(n.tolist()) or sampled(seed, n, maps))
    monkeypatch.setattr(colored, "PAGE", 4)
    catalog = colored.catalog(7, 14, (2, 4), torch.device("cpu"))
    assert sizes == []  # not before
    assert (catalog.maps.shape, catalog.counts.shape, catalog.pages.known.tolist()) == ((14, 4, 6), (14,), [False] * 4)
    whole = tuple(map(torch.from_numpy, sampled(7, np.arange(14, dtype=np.uint64), (2, 4))))
    for wanted, new in (
        ([5], [4, 5, 6, 7]),
        ([4, 7, 5], None),
        ([13, 6, 12], [12, 13]),  # the last page has two
        ([3, 13, 8], [0, 1, 2, 3, 8, 9, 10, 11]),
        (list(range(14)), None),
    ):
        before = len(sizes)
        maps, counts = catalog.of(torch.tensor(wanted))
        assert sizes[before:] == ([] if new is None else [new])
        assert torch.equal(maps, whole[0][wanted])
        assert torch.equal(counts, whole[1][wanted])
    assert torch.equal(catalog.maps, whole[0])
    assert torch.equal(catalog.counts, whole[1])
    assert catalog.pages.known.all()


def test_a_copy_of_a_catalog_goes_on_alone():
    first = colored.catalog(7, 3000, (2, 4), torch.device("cpu"))
    assert len(first.pages.known) == 3  # of 1024
    first.of(torch.tensor([0]))
    other = pickle.loads(pickle.dumps(first))
    expected = colored.catalog(7, 3000, (2, 4), torch.device("cpu")).of(torch.tensor([2999, 1]))
    for got, wanted in zip(other.of(torch.tensor([2999, 1])), expected, strict=True):
        assert torch.equal(got, wanted)
    assert first.pages.known.tolist() == [True, False, False]
    assert other.pages.known.tolist() == [True, False, True]


def test_a_device_that_is_not_the_host_gets_all_systems_at_once(monkeypatch):
    device = torch.device("cpu")
    wanted = colored.catalog(3, 9, (1, 5), device).of(torch.arange(9))
    monkeypatch.setattr(colored.dispatch, "on_host", lambda device: False)
    catalog = colored.catalog(3, 9, (1, 5), device)
    assert catalog.pages is None
    assert torch.equal(catalog.maps, wanted[0])
    assert torch.equal(catalog.counts, wanted[1])
    assert torch.equal(catalog.of(torch.tensor([8]))[1], wanted[1][8:])


def test_parameters_change_what_they_say():
    everything = pictures(small())
    plain_grey = pictures(small(color=False, background=False))
    assert set(np.unique(plain_grey)) <= set(range(128))
    sharp = [image for image in plain_grey if set(np.unique(image)) <= {0, 127}]
    assert 5 <= len(sharp) <= 25  # half of the images are blurred
    assert all((image == image[..., :1]).all() for image in plain_grey)
    bare = pictures(small(background=False))
    lit = np.stack([image.any(-1) for image in bare])
    assert (lit == plain_grey.any(-1)).mean() > 0.999  # colour moves nothing (a blur may round a dark edge to black)
    assert (bare[~lit] == 0).all()
    assert (everything.any(-1)).all()
    paper = pictures(small(variant="paper", background=False))
    assert (paper.any(-1) == bare.any(-1)).mean() > 0.999
    assert not np.array_equal(paper, bare)
    assert np.array_equal(
        pictures(small(color=False, background=False, variant="paper")), plain_grey
    )  # without hues there is one variant


@pytest.mark.parametrize("kind", ["none", *system_jitter.KINDS])
def test_every_jitter_renders(kind):
    images = pictures(small(jitter=kind, background=False), range(6))
    assert images.any((1, 2, 3)).sum() >= 5
    if kind != "basic":
        assert not np.array_equal(images, pictures(small(background=False), range(6)))


def test_presets_have_the_papers_sizes():
    small, large = gr.recipe("colorfractal-1k"), gr.recipe("colorfractal-100k")
    assert (small.classes, small.instances, small.systems, small.image_size, small.points) == (
        1000,
        1000,
        1,
        224,
        100_000,
    )
    assert (large.classes, len(large)) == (100_000, 1_000_000)
    assert (small.maps, small.jitter) == ((2, 4), "basic")


def test_fingerprints_tell_what_changes_pixels():
    one = small()
    changes = {
        "systems": 2, "maps": (2, 3), "points": 100, "jitter": "svd", "color": False, "background": False,
        "variant": "paper", "seed": 4, "image_size": 47, "classes": 5, "instances": 6,
    }  # fmt: skip
    prints = {dataclasses.replace(one, **{name: value}).fingerprint for name, value in changes.items()}
    assert len(prints | {one.fingerprint}) == len(changes) + 1
    grey = small(color=False, background=False)
    assert grey.fingerprint == dataclasses.replace(grey, variant="paper").fingerprint
    assert gr.Recipe.from_json(one.to_json()) == one
    assert gr.ColorFractal(maps=[2, 4]) == gr.ColorFractal()


def test_long_tails_and_wrong_labels_work():
    recipe = small(class_prior=2.0, label_noise=0.5)
    renderer = gr.Renderer(recipe)
    assert len(recipe) < 30
    assert renderer(range(len(recipe))).shape == (len(recipe), 3, 48, 48)
    assert (renderer.labels(range(len(recipe))) != torch.from_numpy(np.repeat(range(6), recipe.class_counts()))).any()


BAD = [
    ({"systems": 0}, ValueError, r"systems must be an integer in \[1, 1000000\], got 0"),
    ({"systems": 6}, ValueError, "systems must be at most instances = 5, got 6"),
    ({"maps": (0, 4)}, ValueError, r"maps\[0\] must be an integer in \[1, 8\], got 0"),
    ({"maps": (2, 9)}, ValueError, r"maps\[1\] must be an integer in \[1, 8\], got 9"),
    ({"maps": (4, 2)}, ValueError, r"maps must be a pair \(low, high\) with low <= high"),
    ({"maps": 3}, TypeError, r"maps must be a pair"),
    ({"points": 0}, ValueError, "points must be an integer"),
    ({"jitter": "fractaldb-0"}, ValueError, "jitter must be one of 'none', 'basic'"),
    ({"jitter": None}, TypeError, "jitter must be one of"),
    ({"color": 1}, TypeError, "color must be True or False, got 1"),
    ({"background": "yes"}, TypeError, "background must be True or False"),
    ({"colour": True}, TypeError, "color"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_wrong_parameters_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        small(**changes)


def test_draws_have_the_laws_of_the_released_rules():
    u = colored.object_words(9, torch.arange(4000), 1)[:, 0]
    rng = np.random.default_rng(2)
    hue, saturation, value = colored.colours(u, True).T
    same_law(hue, rng.uniform(0, 255, 4000), "hue")
    same_law(saturation, np.trunc(rng.uniform(0.3, 1, 4000) * 255), "saturation")
    same_law(value, np.trunc(rng.uniform(0.5, 1, 4000) * 255), "value")
    same_law([bin(x).count("1") for x in colored.patches(u).tolist()], rng.binomial(9, 0.5, 4000), "bits of a patch")
    same_law(colored.orientations(u), rng.integers(0, 8, 4000), "orientation")
    blurs = colored.catalog(0, 1, (2, 2), torch.device("cpu")).blurs(u[:, -2], u[:, -1]).numpy()
    assert abs((blurs > 0).mean() - 0.5) < 0.03
    e = np.exp(-1 / (2 * rng.uniform(0.5, 1, 4000) ** 2))
    same_law(blurs[blurs > 0], np.rint(256 * e / (1 + 2 * e)), "blur")


def test_a_blur_s_weight_steps_where_opencv_rounds_it_up():
    """256 E / (1 + 2 E), E = exp(-1 / (2 sigma^2)), rounded: 27 at sigma 1/2, 70 at 1; one more from each step on."""
    catalog = colored.catalog(0, 1, (2, 2), torch.device("cpu"))
    steps = catalog.blur_steps
    assert len(steps) == 70 - 27
    for word, weight in ((0, 27), (2**32 - 1, 70)):
        assert catalog.blurs(torch.tensor([2**31]), torch.tensor([word])).tolist() == [weight]
    for number, step in enumerate(steps.tolist()):
        around = torch.tensor([step - 1, step])
        assert catalog.blurs(torch.full((2,), 2**32 - 1), around).tolist() == [27 + number, 28 + number]
        for word, side in ((step - 4, -1), (step + 4, 1)):
            e = math.exp(-0.5 / (0.5 + 0.5 * word / 2**32) ** 2)
            assert side * (256 * e / (1 + 2 * e) - (27.5 + number)) > 0
    assert catalog.blurs(torch.tensor([0, 2**31 - 1]), steps[:2]).tolist() == [0, 0]  # half of all coins
