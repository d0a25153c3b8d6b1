"""VisualAtom: its parameters, both variants, and the released rule written down once more in float64."""

import dataclasses
import hashlib
import json
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import gpurender as gr
from gpurender.kernels.philox import words
from gpurender.kernels.visual_atom import cpu
from gpurender.numerics.streams import Stream

RELEASED_ONLY = {"line_width": (0.0, 0.1), "radius": (10, 60), "oval": (1.0, 2.0)}
PAPER_ONLY = {"axes": (1.0, 400.0), "interval": 1.0, "noise": "smooth"}
SHARED = {
    "orbits": (1, 200),
    "quantization": (200, 1000),
    "frequencies": (0, 20),
    "amplitudes": (0.5, 0.5),
    "line_thickness": 1,
    "line_color": (0.0, 1.0),
    "nucleus": (-1.0, 1.0),
}
DEFAULTS = {
    "released": SHARED | RELEASED_ONLY | {"noise_level": (0.0, 4.0)},
    "paper": SHARED | PAPER_ONLY | {"noise_level": (0.0, 1.0)},
}


# ---------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("variant", DEFAULTS)
def test_defaults_are_those_of_the_script_and_of_table_1(variant):
    bare, full = gr.VisualAtom(variant=variant), gr.VisualAtom(variant=variant, **DEFAULTS[variant])
    assert bare == full
    assert bare.fingerprint == full.fingerprint
    assert (bare.classes, bare.instances, bare.image_size, bare.channels) == (1000, 1000, 512, 1)
    for name, value in DEFAULTS[variant].items():
        assert getattr(bare, name) == value
    assert hash(bare) == hash(full)


@pytest.mark.parametrize("variant", DEFAULTS)
def test_json_is_lossless_and_other_variants_parameters_stay_null(variant):
    recipe = gr.VisualAtom(variant=variant, orbits=[2, 9], line_color=[0.1, 0.30000000000000004], nucleus=(-0.3, 1))
    again = gr.Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert type(again.orbits) is tuple
    assert again.fingerprint == recipe.fingerprint
    foreign = PAPER_ONLY if variant == "released" else RELEASED_ONLY
    assert all(json.loads(recipe.to_json()).get(name) is None for name in foreign)


def test_fingerprint_changes_if_and_only_if_an_image_could():
    for variant, changes in {
        "released": {"line_width": (0, 0.2), "radius": (10, 61), "oval": (1, 1.5), "noise_level": (0, 3)},
        "paper": {"axes": (1, 300), "interval": 2, "noise_level": (0, 0.5)},
    }.items():
        recipe = gr.VisualAtom(variant=variant)
        changes = changes | {"orbits": (1, 199), "quantization": (200, 999), "frequencies": (1, 20)}
        changes |= {"amplitudes": (0.5, 0.6), "line_color": (0, 0.9), "nucleus": (-1, 0.5)}
        prints = {dataclasses.replace(recipe, **{name: value}).fingerprint for name, value in changes.items()}
        assert len(prints | {recipe.fingerprint}) == len(changes) + 1
        assert gr.VisualAtom(variant=variant, line_color=(0, 0.9999)).fingerprint == recipe.fingerprint  # 255 greys
    assert gr.VisualAtom(nucleus=(-1, 0.9999)).fingerprint == gr.VisualAtom().fingerprint  # whole half pixels
    paper = gr.VisualAtom(variant="paper")
    assert dataclasses.replace(paper, nucleus=(-1, 0.9999)).fingerprint != paper.fingerprint


# Fingerprints that the version without ``noise`` gave to recipes of the paper's variant; their images are unchanged.
BEFORE = {
    1000: "3bff75d0e77d8404ba8f0b6b4df8b37d74b7319d878d999dde8a7cf29c090b62",
    7: "008bccdf067faedda2220a8ed9e67994ad4626304e12d1f87c2abe127ae648e5",
}


@pytest.mark.parametrize("classes", BEFORE)
def test_json_from_before_there_was_smooth_noise_keeps_its_meaning(classes):
    """Such a text states all parameters but these; text that leaves others out, too, takes today's defaults."""
    recipe = gr.VisualAtom(variant="paper", classes=classes, noise="independent")
    assert recipe.fingerprint == BEFORE[classes]
    old = json.loads(recipe.to_json())
    del old["noise"]
    assert gr.Recipe.from_json(json.dumps(old)) == gr.recipe(old) == recipe
    assert gr.recipe(old, classes=5) == dataclasses.replace(recipe, classes=5)
    assert gr.recipe(old | {"noise": "smooth"}) == gr.VisualAtom(variant="paper", classes=classes)
    short = {"family": "visualatom", "variant": "paper", "classes": classes}
    assert gr.recipe(short) == gr.VisualAtom(variant="paper", classes=classes)
    assert gr.recipe("visualatom-1k", variant="paper").noise == "smooth"


def test_released_recipes_have_the_json_and_the_fingerprint_of_before():
    """Older versions read it: it states neither noise nor perturb."""
    assert not {"noise", "perturb", "categories"} & json.loads(gr.VisualAtom().to_json()).keys()
    assert not {"noise", "perturb", "categories"} & gr.VisualAtom().canonical().keys()


def test_smooth_noise_has_a_fingerprint_of_its_own_where_there_is_noise():
    def fingerprints(**more):
        return {gr.VisualAtom(variant="paper", noise=noise, **more).fingerprint for noise in ("smooth", "independent")}

    row = (30, 300, 3, 5, 0.5, 0.25, 0.5, 90.0, 120.0)
    quiet = (*row[:6], 0.0, *row[7:])
    assert len(fingerprints()) == len(fingerprints(categories=[quiet, row])) == 2
    assert len(fingerprints(noise_level=(0, 0))) == len(fingerprints(categories=[quiet])) == 1


def outlines(noise, count):
    """How far apart the lit pixels of one degree are, as radii, of atoms with one large orbit: float64 [count, 360]."""
    recipe = gr.VisualAtom(
        variant="paper", noise=noise, orbits=(1, 1), quantization=(1000, 1000), amplitudes=(0, 0), axes=(150, 150),
        noise_level=(0.5, 0.5), nucleus=(0, 0), line_color=(1, 1), classes=1, instances=count,
    )  # fmt: skip
    found = []
    for image in gr.Renderer(recipe)(range(count))[:, 0].numpy():
        y, x = np.nonzero(image)
        angle = np.degrees(np.arctan2(y + 0.5 - 256, x + 0.5 - 256)) % 360
        radius = np.hypot(x + 0.5 - 256, y + 0.5 - 256)
        inside = [radius[angle.astype(int) == degree] for degree in range(360)]
        found.append([np.ptp(within) if len(within) else 0.0 for within in inside])
    return np.array(found)


def test_smooth_noise_makes_a_contour_and_independent_noise_makes_spikes():
    """How far the line goes outwards and inwards within one degree: a few pixels, or a third of the radius."""
    smooth, independent = outlines("smooth", 6), outlines("independent", 6)
    assert np.median(smooth) < 12
    assert np.median(independent) > 40


WRONG = [
    ({"orbits": (0, 5)}, "orbits"),
    ({"orbits": (1, 2049)}, "orbits"),
    ({"orbits": 7}, "orbits"),
    ({"quantization": (2, 10)}, "quantization"),
    ({"quantization": (10, 4097)}, "quantization"),
    ({"frequencies": (5, 4)}, "frequencies"),
    ({"frequencies": (-1, 4)}, "frequencies"),
    ({"frequencies": (0.5, 4)}, "frequencies"),
    ({"amplitudes": (0, math.nan)}, "amplitudes"),
    ({"amplitudes": (0, 4.5)}, "amplitudes"),
    ({"noise_level": (-1, 1)}, "noise_level"),
    ({"noise_level": (0, 17)}, "noise_level"),
    ({"line_width": (0, 17)}, "line_width"),
    ({"radius": (0, 16385)}, "radius"),
    ({"oval": (0, 17)}, "oval"),
    ({"line_thickness": 2}, "line_thickness"),
    ({"line_thickness": 0}, "line_thickness"),
    ({"line_color": (0, 1.01)}, "line_color"),
    ({"nucleus": (-5, 0)}, "nucleus"),
    ({"axes": (1, 400)}, "axes"),
    ({"interval": 1.0}, "interval"),
    ({"variant": "paper", "line_width": (0, 0.1)}, "line_width"),
    ({"variant": "paper", "radius": (10, 60)}, "radius"),
    ({"variant": "paper", "oval": (1, 2)}, "oval"),
    ({"variant": "paper", "axes": (1, 16385)}, "axes"),
    ({"variant": "paper", "interval": -0.1}, "interval"),
    ({"variant": "paper", "interval": (1, 2)}, "interval"),
    ({"noise": "smooth"}, "noise"),
    ({"noise": "independent"}, "noise"),
    ({"variant": "paper", "noise": "perlin"}, "noise"),
    ({"variant": "paper", "noise": 1}, "noise"),
    ({"perturb": 0}, "perturb"),
    ({"perturb": 1e-5}, "perturb"),
    ({"perturb": -0.1}, "perturb"),
    ({"perturb": 0.51}, "perturb"),
    ({"perturb": math.nan}, "perturb"),
    ({"perturb": True}, "perturb"),
    ({"perturb": "0.1"}, "perturb"),
]


@pytest.mark.parametrize(("parameters", "name"), WRONG)
def test_wrong_parameters_are_named(parameters, name):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}(\[\d\])? must ") as refusal:
        gr.VisualAtom(**parameters)
    assert "\n" not in str(refusal.value)


# ------------------------------------------------------------------------------------------------ class parameters


def uniform_integers(values, low, high):
    """Whether integers look uniform over [low, high]: chi-square within five of its deviations."""
    counts = np.bincount(np.asarray(values) - low, minlength=high - low + 1)
    assert len(counts) == high - low + 1
    expected = len(values) / len(counts)
    chi, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    return counts.min() > 0 and abs(chi - freedom) < 5 * math.sqrt(2 * freedom)


def uniform_reals(values, low, high):
    """Whether numbers look uniform over [low, high): largest gap between the distribution functions (p about 1e-4)."""
    u = np.sort((values - low) / (high - low))
    gap = np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max()
    return u[0] >= 0 and u[-1] < 1 and gap < 2.2 / math.sqrt(len(u))


def test_class_parameters_have_the_released_distribution():
    p = gr.VisualAtom(seed=5).parameters(np.arange(40_000))
    assert uniform_integers(p["K"], 1, 200)
    assert uniform_integers(p["q"], 200, 1000)
    assert uniform_integers(p["r0"], 10, 60)
    assert uniform_integers(p["n1"], 0, 20)
    for name, low, high in (("eta", 0, 4), ("w", 0, 0.1), ("oval_x", 1, 2), ("oval_y", 1, 2)):
        assert uniform_reals(p[name], low, high), name
    assert (p["lambda1"] == 0.5).all()
    assert (p["lambda2"] == 0.5).all()
    assert uniform_integers(p["n2"][p["n1"] == 0], 0, 20)  # n1 = 0 lets n2 be 0 as well
    for n1 in range(1, 21):
        n2 = p["n2"][p["n1"] == n1]
        assert (n2 != n1).all()
        assert uniform_integers(np.where(n2 > n1, n2 - 1, n2), 0, 19)


def test_class_parameters_have_the_papers_distribution():
    p = gr.VisualAtom(seed=6, variant="paper", amplitudes=(0, 1)).parameters(np.arange(40_000))
    assert uniform_integers(p["K"], 1, 200)
    assert uniform_integers(p["q"], 200, 1000)
    assert uniform_integers(21 * p["n1"] + p["n2"], 0, 21 * 21 - 1)  # independent
    for name, low, high in (("eta", 0, 1), ("a1", 1, 400), ("b1", 1, 400), ("lambda1", 0, 1), ("lambda2", 0, 1)):
        assert uniform_reals(p[name], low, high), name


def test_parameters_are_uncorrelated():
    for variant in DEFAULTS:
        p = gr.VisualAtom(variant=variant).parameters(np.arange(40_000))
        varying = np.stack([v for k, v in p.items() if v.std() > 0 and k != "n2"])
        correlation = np.corrcoef(varying) - np.eye(len(varying))
        assert np.abs(correlation).max() < 0.025


def test_every_parameter_has_a_word_of_its_own():
    """Also where the default range is one value. The words are those of the recipe's own addresses."""
    recipe = gr.VisualAtom(variant="paper", classes=50, amplitudes=(0.0, 1.0), noise_level=(0.0, 1.0), axes=(1.0, 2.0))
    drawn = recipe.parameters(np.arange(50))
    u = words(recipe.seed, Stream.CLASS, np.arange(50, dtype=np.uint64), blocks=3) / 2.0**32
    for name, word, low in (("lambda1", 4, 0), ("lambda2", 5, 0), ("eta", 6, 0), ("a1", 7, 1), ("b1", 8, 1)):
        np.testing.assert_allclose(drawn[name], low + u[:, word], atol=1e-6, err_msg=name)


def test_a_single_frequency_is_allowed():
    p = gr.VisualAtom(frequencies=(7, 7)).parameters(np.arange(10))
    assert set(p["n1"]) == set(p["n2"]) == {7}


@pytest.mark.parametrize("variant", DEFAULTS)
def test_centres_have_the_right_distribution(variant):
    recipe = gr.VisualAtom(variant=variant, image_size=64)
    centres = recipe._centres(torch.arange(50_000)).numpy()
    assert abs(np.corrcoef(centres.T)[0, 1]) < 0.02
    for axis in centres.T:
        if variant == "released":  # (S + randint(-S, S)) / 2: half-integers, 0 and S included
            assert uniform_integers((2 * axis).astype(int), 0, 128)
            assert (2 * axis == np.rint(2 * axis)).all()
        else:
            assert uniform_reals(axis.astype(np.float64), 0, 64)
    middle = gr.VisualAtom(variant=variant, image_size=64, nucleus=(0, 0))._centres(torch.arange(9))
    assert (middle == 32).all()


def test_the_catalog_is_small():
    catalog = gr.VisualAtom(classes=21_000).catalog(torch.device("cpu"))
    assert sum(tensor.nbytes for tensor in catalog.tensors()) < 8e6


# ---------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("variant", DEFAULTS)
def test_instances_share_their_class_and_nothing_else(variant):
    """With noise, greys and nucleus fixed all instances are one image; each of the three makes them differ."""
    still = {"noise_level": (0, 0), "line_color": (1, 1), "nucleus": (0, 0), "classes": 3, "instances": 4}
    recipe = gr.VisualAtom(variant=variant, image_size=128, **still)
    images = gr.Renderer(recipe)(range(12)).view(3, 4, 128, 128)
    assert (images == images[:, :1]).all()
    assert not torch.equal(images[0, 0], images[1, 0])
    for name, value in {"noise_level": (1, 1), "line_color": (0, 1), "nucleus": (-0.5, 0.5)}.items():
        varied = gr.Renderer(dataclasses.replace(recipe, **{name: value}))([4, 5, 6])
        assert not torch.equal(varied[0], varied[1])
        assert not torch.equal(varied[1], varied[2])


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_the_reach_bounds_every_vertex_whatever_the_noise(variant):
    """As far as a vertex can come if all noise pushes it outwards, by the rules in float64; not much farther."""
    for seed in range(8):
        recipe = gr.VisualAtom(
            classes=30, image_size=64, seed=seed, variant=variant, nucleus=(-1.0 - seed / 4, 2.0), orbits=(1, 300),
            amplitudes=(-2.0, 2.0), noise_level=(0.0, 9.0), quantization=(40, 200),
        )  # fmt: skip
        farthest = 0.0
        for number in range(30):
            p = {name: value[0] for name, value in recipe.parameters(np.array([number])).items()}
            t = 2 * np.pi * np.arange(p["q"]) / p["q"]
            waves = p["lambda1"] * np.sin(p["n1"] * t) + p["lambda2"] * np.sin(p["n2"] * t)
            if variant == "released":
                axes = [p["r0"] * p["oval_x"], p["r0"] * p["oval_y"]]
                radii = [axis + p["K"] * np.maximum(2 * p["eta"] + p["w"] + waves, 0) for axis in axes]
            else:
                radii = [(p[name] + p["K"] * recipe.interval) * (1 + np.abs(waves) + p["eta"]) for name in ("a1", "b1")]
            farthest = max(
                farthest, *(float(np.abs(r * f(t)).max()) for r, f in zip(radii, (np.cos, np.sin), strict=True))
            )
        centre = 32 * max(abs(1 + side) for side in recipe.nucleus)
        assert farthest + centre <= gr.Renderer(recipe).catalog.reach <= 2 * (farthest + centre)
    usual = gr.Renderer(gr.VisualAtom(variant=variant)).catalog.reach
    assert usual < 2**13  # where a GPU keeps coordinates in 16 bits


def test_greys_are_uniform_and_bounded():
    """One ring an image, so that every image shows one grey."""
    recipe = gr.VisualAtom(instances=3000, classes=1, orbits=(1, 1), image_size=64, nucleus=(0, 0), quantization=(9, 9))
    bounded = dataclasses.replace(recipe, line_color=(0.25, 0.75))
    shown = gr.Renderer(bounded)(range(3000)).flatten(1).amax(1).numpy()
    assert uniform_integers(shown.astype(int), 64, 191)
    assert uniform_integers(gr.Renderer(recipe)(range(3000)).flatten(1).amax(1).numpy().astype(int), 0, 255)


def test_variants_differ():
    released, paper = (gr.VisualAtom(variant=variant, image_size=64) for variant in DEFAULTS)
    assert not torch.equal(gr.Renderer(released)([0, 1]), gr.Renderer(paper)([0, 1]))


def test_without_noise_an_orbit_is_the_papers_curve():
    """Equations 3 to 7 for one orbit: every lit pixel is near the curve, and the curve is lit all the way round."""
    recipe = gr.VisualAtom(
        variant="paper", orbits=(1, 1), quantization=(1000, 1000), frequencies=(3, 3), amplitudes=(0.2, 0.2),
        axes=(90, 90), noise_level=(0, 0), nucleus=(0, 0), line_color=(1, 1), image_size=256, classes=1,
    )  # fmt: skip
    y, x = np.nonzero(gr.Renderer(recipe)(0)[0, 0].numpy())
    t = np.linspace(0, 2 * np.pi, 20_000)
    curve = 128 + 90 * (1 + 0.4 * np.sin(3 * t))[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
    distance = np.hypot(curve[:, None, 0] - x - 0.5, curve[:, None, 1] - y - 0.5)  # [t, lit pixels]
    assert distance.min(0).max() < 1.5
    assert distance.min(1).max() < 1.5


@pytest.mark.parametrize("variant", DEFAULTS)
def test_axes_lie_along_x_and_y(variant):
    """A bare ring is an ellipse of the class's half axes: r0 oval_x + w across and r0 oval_y + w down, or a1 and b1."""
    own = {"radius": (20, 60), "line_width": (0, 5)} if variant == "released" else {"axes": (10, 120)}
    recipe = gr.VisualAtom(
        variant=variant, classes=20, instances=1, orbits=(1, 1), image_size=256, noise_level=(0, 0), amplitudes=(0, 0),
        nucleus=(0, 0), line_color=(1, 1), **own,
    )  # fmt: skip
    p = recipe.parameters(np.arange(20))
    if variant == "released":
        a, b = p["r0"] * p["oval_x"] + p["w"], p["r0"] * p["oval_y"] + p["w"]
    else:
        a, b = p["a1"], p["b1"]
    for n, image in enumerate(gr.Renderer(recipe)(range(20))[:, 0].numpy()):
        y, x = np.nonzero(image)
        assert abs(np.ptp(x) - 2 * min(a[n], 127.5)) <= 1.5
        assert abs(np.ptp(y) - 2 * min(b[n], 127.5)) <= 1.5


def test_orbits_grow_by_the_interval():
    """Circles of radius 20, 25, ... 45 and nothing between them."""
    recipe = gr.VisualAtom(
        variant="paper", orbits=(6, 6), quantization=(400, 400), amplitudes=(0, 0), axes=(20, 20), interval=5.0,
        noise_level=(0, 0), nucleus=(0, 0), line_color=(1, 1), image_size=128, classes=1,
    )  # fmt: skip
    y, x = np.nonzero(gr.Renderer(recipe)(0)[0, 0].numpy())
    radius = np.hypot(x + 0.5 - 64, y + 0.5 - 64)
    nearest = np.rint(radius / 5).astype(int) * 5
    assert np.abs(radius - nearest).max() < 1.5
    sizes = dict(zip(*np.unique(nearest, return_counts=True), strict=True))
    assert list(sizes) == [20, 25, 30, 35, 40, 45]
    assert all(5 * r < size < 9 * r for r, size in sizes.items())


# ------------------------------------------------------------------------------------------------ the released rule


def released_atom(rng, size, lines, vertices, eta, width, radius, oval, n1, n2):
    """One image by the released program's rule, one Pillow line a segment, in float64; uint8 [size, size]."""
    t = 2 * np.pi / vertices * np.arange(vertices)
    centre = [(size + rng.randint(-size // 4, size // 4)) / 2 for _ in range(2)]
    x, y = np.cos(t) * radius * oval + centre[0], np.sin(t) * radius * oval + centre[1]
    waves = 0.5 * np.sin(t * n1) + 0.5 * np.sin(t * n2)
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    for _ in range(lines):
        grey = rng.randint(0, 255)
        noise_x, noise_y = (np.array([perlin(rng.uniform(0, 10_000)) for _ in t]) * eta - eta - waves for _ in range(2))
        x -= np.cos(t) * (noise_x - width)
        y -= np.sin(t) * (noise_y - width)
        for i in range(vertices):
            draw.line((x[i], y[i], x[(i + 1) % vertices], y[(i + 1) % vertices]), fill=grey, width=1)
    return np.asarray(image)


def perlin(x):
    """pnoise1 in float64 (the kernel's gradients, checked against the package in test_visual_atom_cpu)."""
    cell, t = int(x), x - int(x)
    left, right = float(cpu.GRADIENTS[cell & 255]) * t, float(cpu.GRADIENTS[(cell + 1) & 255]) * (t - 1)
    return 0.4 * (left + t**3 * (t * (6 * t - 15) + 10) * (right - left))


def features(images):
    """Per image: lit share, mean and deviation of the greys, and the lit share in ten annuli about the centroid."""
    rows = []
    for image in images:
        lit = image > 0
        y, x = np.nonzero(lit)
        distance = np.hypot(x - x.mean(), y - y.mean())
        radii = np.quantile(distance, [0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95, 0.999])
        rows.append([lit.mean(), image.mean(), image.std(), image[lit].mean(), *radii])
    return np.array(rows)


@pytest.mark.parametrize(("lines", "eta", "waves"), [(30, 0.7, 5), (12, 3.0, 2)])
def test_released_atoms_agree_with_the_released_rule(lines, eta, waves):
    """Means of features over 150 atoms of either program, within four standard errors."""
    recipe = gr.VisualAtom(
        classes=1, instances=150, image_size=160, orbits=(lines, lines), quantization=(90, 90),
        frequencies=(waves, waves), noise_level=(eta, eta), line_width=(0.05, 0.05), radius=(12, 12), oval=(1.5, 1.5),
        nucleus=(-0.25, 0.25),
    )  # fmt: skip
    ours = features(gr.Renderer(recipe)(range(150))[:, 0].numpy())
    rng = random.Random(3)
    theirs = features([released_atom(rng, 160, lines, 90, eta, 0.05, 12, 1.5, waves, waves) for _ in range(150)])
    error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    assert (np.abs(np.log(ours.std(0) / theirs.std(0))) < 0.35).all()


# ---------------------------------------------------------------------------------------------------------- golden

GOLDEN = {
    ("released", None): "ad581c373fb60bbe401932e3d2782e691cd0dab5968a8dbaecf66e43514e2cb8",
    ("paper", "independent"): "f1021f8add088b6f5a785473cc899c148edd145be1efdbcad860a0187a2cc770",
    ("paper", "smooth"): "e7286c857f45f3c77ba4e347855bcd8b905593a5fa8eab6875d7f6d81842b7eb",
}


@pytest.mark.parametrize(("variant", "noise"), GOLDEN)
def test_golden_images(variant, noise):
    images = gr.Renderer(gr.VisualAtom(variant=variant, noise=noise, seed=2024))([0, 999, 123_456, 999_999])
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest() == GOLDEN[variant, noise]


def test_the_order_of_waves_is_part_of_a_perturbed_recipe():
    """Each wave has a perturbation of its own; without perturbations the order decides nothing."""
    row, swapped = (3, 30, 2, 5, 0.5, 0.3, 0.1, 0.1, 9, 1.0, 1.5), (3, 30, 5, 2, 0.3, 0.5, 0.1, 0.1, 9, 1.0, 1.5)
    for perturb, same in ((None, True), (0.3, False)):
        some = {"image_size": 48, "instances": 1, "perturb": perturb}
        one, two = (gr.VisualAtom(categories=[each], **some) for each in (row, swapped))
        assert (one.fingerprint == two.fingerprint) == same
        assert torch.equal(gr.Renderer(one)(0), gr.Renderer(two)(0)) == same


def test_overrides_of_a_recipe_are_those_of_replace():
    released = gr.VisualAtom(classes=3)
    changes = {"variant": "paper", "noise_level": None, "line_width": None, "radius": None, "oval": None}
    assert gr.recipe(released, **changes) == dataclasses.replace(released, **changes)
    assert gr.recipe(released, **changes).noise == "smooth"
