"""Same number, same picture: batches, orders, threads, processes; and what a renderer refuses."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

import gpurender as gr
from gpurender.recipes.ifs import map_probabilities
from tests.golden import DIVERGENT, SMALL, TRIANGLE, current, digest, recorded

OWN = (
    "visualatom",
    "rcdb",
    "colorfractal",
    "multifractal",
    "moire",
)  # families whose images have all of their randomness alone


@pytest.fixture(scope="module", params=sorted(SMALL))
def renderer(request):
    return gr.Renderer(SMALL[request.param]())


def test_batch_size_and_order_do_not_matter(renderer):
    samples = np.random.default_rng(0).permutation(len(renderer.recipe))[:256]
    whole = renderer(samples)
    assert whole.shape == (len(samples), renderer.recipe.channels, *[renderer.recipe.image_size] * 2)
    assert whole.dtype == torch.uint8
    assert torch.equal(torch.cat([renderer(int(sample)) for sample in samples[:40]]), whole[:40])
    sevens = [renderer(torch.from_numpy(samples[first : first + 7])) for first in range(0, len(samples), 7)]
    assert torch.equal(torch.cat(sevens), whole)
    assert torch.equal(renderer(samples[::-1].tolist()), whole.flip(0))


def test_threads_do_not_matter(renderer):
    samples = np.arange(0, len(renderer.recipe), 3)[:64]
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(renderer(samples))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_another_process_draws_the_same(tmp_path):
    recipes = [make() for make in SMALL.values()]
    for number, recipe in enumerate(recipes):
        (tmp_path / f"{number}.json").write_text(recipe.to_json())
    program = """
import sys, hashlib, gpurender as gr
for path in sys.argv[1:]:
    r = gr.Renderer(path)
    print(hashlib.sha256(r(list(range(0, len(r.recipe), 11))).numpy().tobytes()).hexdigest())
"""
    paths = [str(tmp_path / f"{number}.json") for number in range(len(recipes))]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    found = [digest(gr.Renderer(recipe)(list(range(0, len(recipe), 11)))) for recipe in recipes]
    assert done.stdout.split() == found


def test_epochs_are_new_instances(renderer):
    samples = [0, 1, 5]
    first, second = renderer(samples, epoch=1), renderer(samples, epoch=2)
    assert torch.equal(renderer(samples, epoch=0), renderer(samples))
    assert torch.equal(first, renderer(samples, epoch=1))
    assert not torch.equal(first, second)
    assert torch.equal(first, renderer(samples, epoch=1, fresh=True))
    assert torch.equal(renderer.labels(samples, epoch=1), renderer.labels(samples, epoch=1, fresh=True))
    assert not torch.equal(first, renderer(samples))
    anew = renderer(samples, fresh=True)  # differs where a dataset as released shares something
    recipe = renderer.recipe
    shares_nothing = recipe.variant == "paper" or recipe.family in OWN
    if recipe.family == "exfractaldb":  # the views of a shape share its points, in both variants
        shares_nothing = recipe.instances == 1
    if getattr(recipe, "perturb", None) is not None:  # the images of a class share its perturbation
        shares_nothing = False
    keeps_points = recipe.family == "ofdb"  # new are its masks alone
    assert torch.equal(anew, renderer(samples)) == (shares_nothing or keeps_points)


def test_labels_and_sample_types(renderer):
    recipe = renderer.recipe
    samples = [0, recipe.instances - 1, len(recipe) - 1]
    labels = renderer.labels(samples)
    if recipe.multi_hot:
        assert (labels.dtype, labels.shape) == (torch.float32, (3, recipe.classes))
        assert labels.max(1)[0].tolist() == [1.0] * 3
    else:
        assert labels.dtype == torch.int64
        assert labels.tolist() == [0, 0, recipe.classes - 1]
    images = renderer(samples)
    for same in (np.array(samples, np.uint16), np.array(samples, np.int32), torch.tensor(samples), tuple(samples)):
        assert torch.equal(renderer(same), images)
    assert renderer([]).shape == (0, *images.shape[1:])
    assert renderer(np.int64(0)).shape == (1, *images.shape[1:])


@pytest.mark.parametrize(
    "wrong",
    [
        -1,
        10**9,
        [0, -1],
        1.0,
        [0.5],
        "0",
        None,
        True,
        [[0]],
        np.array(["a"]),
        2**70,
        {0},
        [True],
        2**64,
        [2**64],
        [-1, 2**63],
        np.array(-1),
        np.array([2**63], np.uint64),
    ],
)
def test_wrong_samples_are_refused(renderer, wrong):
    for call in (renderer, renderer.labels):
        with pytest.raises((ValueError, TypeError), match="samples"):
            call(wrong)


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", 2**63])
def test_wrong_epochs_are_refused(renderer, wrong):
    with pytest.raises((ValueError, TypeError), match="epoch"):
        renderer(0, epoch=wrong)


def test_devices():
    with pytest.raises(ValueError, match="device"):
        gr.Renderer("onepfrac-1k", device="gpu7")
    for elsewhere in ("cuda", "cuda:1", "meta"):
        if elsewhere == "meta" or not torch.cuda.is_available():
            with pytest.raises(ValueError, match=f"device must be 'cpu'.* got '{elsewhere}'"):
                gr.Renderer("onepfrac-1k", device=elsewhere)
    with pytest.raises(ValueError, match="cache_bytes"):
        gr.Renderer("onepfrac-1k", cache_bytes=-1)


def test_systems_that_diverge_are_drawn():
    """A few pixels, as the released program leaves; never nothing, never an error."""
    explosive = [[[100.0, 0, 0, 100.0, 1, 1], [-50.0, 3, 2, 80.0, 0, 1]], [[1e6, 1e6, -1e6, 1e6, 1e6, 1e6]]]
    for categories in (explosive, [DIVERGENT]):
        recipe = gr.FractalDB(categories=categories, points=20_000)
        lit = (gr.Renderer(recipe)(list(range(0, len(recipe), 40))) > 0).float().mean((1, 2, 3))
        assert (lit < 0.05).all()
        filled = gr.Renderer(gr.FractalDB(categories=categories, points=20_000, mask_mode="fill"))(0)
        assert filled.any()


@settings(max_examples=60, deadline=None)
@given(
    base=st.lists(st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6), min_size=1, max_size=8),
    size=st.sampled_from([16, 17, 31, 32, 33, 64, 100]),
    points=st.integers(1, 5000),
    style=st.tuples(st.sampled_from(["patch_gray", "patch_color", "point_gray"]), st.sampled_from(["random", "fill"])),
)
def test_any_system_draws_inside_its_frame(base, size, points, style):
    if not np.abs(np.array(base)[:, 0] * np.array(base)[:, 3] - np.array(base)[:, 1] * np.array(base)[:, 2]).sum() > 0:
        return
    recipe = gr.OnePFrac(
        classes=2, base=base, image_size=size, points=points, fill_rate=0.0, draw_type=style[0], mask_mode=style[1]
    )
    assert map_probabilities(np.array(recipe.base)[None]).sum() == pytest.approx(1)
    try:
        images = gr.Renderer(recipe)([0, 1])
    except ValueError:  # a speck whose random mask left no pixel lit in any attempt
        event("no pixel lit")
        return
    images = images.amax(1)
    assert set(images.unique().tolist()) <= {0, *range(47, 192)}
    inside = images[:, :, 6:]  # columns 0 to 5 stay empty; points reach size - 6, patches two pixels more
    assert inside.sum() == images.sum()
    assert images[:, :2].sum() == 0  # stored upside down: rows 0 and 1 lie above the highest patch


def test_fill_rate_retries_are_bounded_and_seen():
    speck = [[0.01, 0, 0, 0.01, 0, 0], [0.01, 0, 0, 0.01, 1, 1]]
    with pytest.raises(ValueError, match=r"fill_rate: class 0 never lights more than 0.05 of the canvas in 1000"):
        gr.Renderer(gr.OnePFrac(classes=3, base=speck, points=500, image_size=64))(0)
    with pytest.raises(ValueError, match="fill_rate: none of 100 bases"):
        gr.Renderer(gr.OnePFrac(classes=3, fill_rate=0.9, points=500, image_size=64))(0)
    recipe = gr.OnePFrac(classes=300, base=TRIANGLE, delta=0.9, points=2000, image_size=64, fill_rate=0.2)
    lit = (gr.Renderer(recipe)(list(range(300))) > 1).float().mean((1, 2, 3))
    assert (lit > 0.2).all()
    without = gr.Renderer(gr.OnePFrac(classes=300, base=TRIANGLE, delta=0.9, points=2000, image_size=64, fill_rate=0.0))
    assert ((without(list(range(300))) > 1).float().mean((1, 2, 3)) <= 0.2).any()


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_perturbations_have_the_stated_law(variant):
    """Released: factors U(1 - d, 1 + d); paper: offsets U(-d/2, d/2), on all six parameters of every map."""
    base = np.array([[0.5, 0.1, -0.2, 0.4, 0.3, -0.6], [0.3, -0.4, 0.2, 0.5, -0.7, 0.8]])
    recipe = gr.OnePFrac(
        classes=3000, base=base, delta=0.2, variant=variant, fill_rate=0.0, points=100, image_size=16, mask_mode="fill"
    )
    renderer = gr.Renderer(recipe)
    renderer(list(range(3000)))
    base_number, attempts = renderer.catalog.base, renderer.catalog.attempts
    maps = recipe._systems(base_number, np.arange(3000), attempts).maps.numpy()  # [3000, 2, 6]
    u = (maps / base - 1) / 0.2 if variant == "released" else (maps - base) / 0.1
    assert np.abs(u).max() <= 1 + 1e-5
    for values in u.reshape(3000, -1).T:
        counts, _ = np.histogram(values, bins=20, range=(-1, 1))
        assert ((counts - 150) ** 2 / 150).sum() < 50  # chi-square, 19 degrees of freedom, p ~ 1e-4
    correlation = np.corrcoef(u.reshape(3000, -1).T)
    assert np.abs(correlation - np.eye(12)).max() < 0.1


@pytest.mark.parametrize("kind", ["fingerprints", "parameters", "pixels", "policies", "presets"])
def test_golden(kind):
    """Hashes of recipes and bytes. If one changes, so must ``LAYOUT``, and the CHANGELOG says what changed."""
    assert current(kind) == recorded()[kind]


@pytest.mark.parametrize("family", [gr.OnePFrac, gr.FractalDB])
@pytest.mark.parametrize(("draw_type", "channels"), [("patch_gray", 1), ("patch_color", 3), ("point_color", 3)])
def test_a_recipe_knows_how_many_channels_its_canvases_have(family, draw_type, channels):
    recipe = dataclasses.replace(family.smallest(), draw_type=draw_type)
    assert recipe.channels == channels == gr.Renderer(recipe)(0).shape[1]
