"""RCDB: its parameters, both variants, and the released rules written down once more."""

import csv
import dataclasses
import json
import math
import random

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes import rcdb, visualatom
from gpurender.recipes.rcdb import vertex_numbers
from tests.recipes.test_visualatom import uniform_integers, uniform_reals
from tests.support.released_lines import FEATURES, features, rcdb_category, rcdb_image
from tests.support.two_sample import same_law

VARIANTS = ("released", "paper")
SMALL = {"image_size": 64, "instances": 3}
COLUMNS = {"released": ("K", "V", "c", "w"), "paper": ("K", "V", "c", "w", "r0", "oval_x", "oval_y")}
ROWS = {"released": (30, 40, 1.5, 0.05), "paper": (30, 40, 1.5, 0.05, 20, 1.25, 1.5)}


# ---------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("variant", VARIANTS)
def test_defaults_are_those_of_the_released_program(variant):
    recipe = gr.RCDB(variant=variant)
    assert (recipe.classes, recipe.instances, recipe.image_size, recipe.channels) == (1000, 1000, 512, 1)
    assert gr.recipe("rcdb-1k") == gr.RCDB()
    assert gr.recipe("rcdb-21k") == gr.RCDB(classes=21_000)
    again = gr.Recipe.from_json(recipe.to_json())
    assert (again, again.fingerprint) == (recipe, recipe.fingerprint)
    assert not {"categories", "perturb"} & json.loads(recipe.to_json()).keys()


def test_the_fingerprint_changes_if_and_only_if_an_image_could():
    changes = {
        "polygons": (1, 199), "vertices": (3, 199), "noise_level": (0, 3), "line_width": (0, 0.2), "radius": (0, 99),
        "oval": (1, 1.5), "greys": (0, 255), "centre": (0, 0), "variant": "paper", "seed": 1, "classes": 999,
        "instances": 999, "image_size": 511, "perturb": 0.1,
    }  # fmt: skip
    recipe = gr.RCDB()
    prints = {dataclasses.replace(recipe, **{name: value}).fingerprint for name, value in changes.items()}
    assert len(prints | {recipe.fingerprint}) == len(changes) + 1
    assert gr.RCDB(centre=(-0.7813, 0.7812)).fingerprint == recipe.fingerprint  # the same whole half pixels


WRONG = [
    ({"polygons": (0, 5)}, "polygons"),
    ({"polygons": (1, 2049)}, "polygons"),
    ({"polygons": 7}, "polygons"),
    ({"vertices": (2, 10)}, "vertices"),
    ({"vertices": (10, 4097)}, "vertices"),
    ({"noise_level": (-1, 1)}, "noise_level"),
    ({"noise_level": (0, 8.5)}, "noise_level"),
    ({"noise_level": (0, math.nan)}, "noise_level"),
    ({"line_width": (0, 17)}, "line_width"),
    ({"radius": (0, 16385)}, "radius"),
    ({"radius": (0.5, 7)}, "radius"),
    ({"oval": (0, 17)}, "oval"),
    ({"greys": (0, 4097)}, "greys"),
    ({"greys": (-1, 255)}, "greys"),
    ({"centre": (-5, 0)}, "centre"),
    ({"perturb": 0}, "perturb"),
    ({"perturb": 0.0}, "perturb"),
    ({"perturb": 1}, "perturb"),
    ({"perturb": "small"}, "perturb"),
    ({"categories": 5}, "categories"),
    ({"categories": []}, "categories"),
    ({"categories": [(1, 2, 3)]}, "categories"),
    ({"categories": [(1, 2, 3, 4)]}, "categories"),
    ({"categories": [ROWS["paper"]]}, "categories"),
    ({"categories": [ROWS["released"]], "variant": "paper"}, "categories"),
    ({"categories": [ROWS["released"]], "classes": 2}, "classes"),
    ({"categories": [ROWS["released"]], "polygons": (1, 9)}, "polygons"),
    ({"categories": [ROWS["paper"]], "variant": "paper", "radius": (1, 9)}, "radius"),
    ({"categories": [ROWS["paper"]] * 2, "perturb": 0.1}, "categories"),
]


@pytest.mark.parametrize(("parameters", "name"), WRONG)
def test_wrong_parameters_are_named(parameters, name):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}(\[\d\])?(: \w+)? must ") as refusal:
        gr.RCDB(**parameters)
    assert "\n" not in str(refusal.value)


def test_a_perturbation_of_nothing_is_said():
    with pytest.raises(ValueError, match=r"^perturb must be .* all classes would be one image$"):
        gr.RCDB(perturb=0)
    still = gr.RCDB(perturb=0.1, radius=(0, 0), noise_level=(0, 0), line_width=(0, 0))
    with pytest.raises(ValueError, match=r"^perturb changes no image: .* all classes would be one image"):
        gr.Renderer(still)(0)


# ------------------------------------------------------------------------------------------------ class parameters


def test_class_parameters_have_the_released_distribution():
    p = gr.RCDB(seed=5).parameters(np.arange(30_000))
    assert list(p) == list(COLUMNS["released"])
    assert uniform_integers(p["K"], 1, 200)
    assert uniform_reals(p["c"], 0, 4)
    assert uniform_reals(p["w"], 0, 0.1)
    rng = random.Random(1)
    same_law(p["V"], [rcdb_category(rng)[0] for _ in range(30_000)], "vertices")
    assert abs(np.median(p["V"]) - 59) <= 1.5
    assert abs(p["V"].mean() - 71) < 1
    varying = np.stack(list(p.values())).astype(float)
    assert np.abs(np.corrcoef(varying) - np.eye(4)).max() < 0.03


def test_vertices_have_exactly_the_truncated_distribution():
    """Word by word: V is the first v with u 2^-32 < P(V <= v); the probabilities by Python's own exp."""
    ends = np.array([0, 2**32 - 1], np.uint32)
    limits = rcdb._thresholds(3, 200)
    for before, first in ((1, 3), (0, 4)):  # at a probability itself the next number of vertices begins
        assert vertex_numbers((limits - before).astype(np.uint32), 3, 200).tolist() == list(range(first, first + 197))
    for low, high in ((3, 200), (3, 3), (5, 900)):
        assert vertex_numbers(ends, low, high).tolist() == [low, high]
        below = [(1 - math.exp(-k / 100)) / (1 - math.exp(-(high - low + 1) / 100)) for k in range(1, high - low + 1)]
        near = np.rint(np.array(below) * 2.0**32).astype(np.int64)
        inner = (near > 4) & (near < 2**32 - 4)
        v = np.arange(low, high)[inner]
        assert (vertex_numbers((near[inner] - 4).astype(np.uint32), low, high) <= v).all()
        assert (vertex_numbers((near[inner] + 4).astype(np.uint32), low, high) >= v + 1).all()


def test_sizes_belong_to_the_image_or_to_the_class():
    p = gr.RCDB(variant="paper", seed=6).parameters(np.arange(30_000))
    assert list(p) == list(COLUMNS["paper"])
    assert uniform_integers(p["r0"], 0, 100)
    assert uniform_reals(p["oval_x"], 1, 2)
    assert uniform_reals(p["oval_y"], 1, 2)
    recipe = gr.RCDB(seed=6)
    axes = recipe._axes(torch.arange(30_000)).numpy()
    rng = random.Random(2)
    same_law(axes[:, 0], [rng.randint(0, 100) * rng.uniform(1, 2) for _ in range(30_000)], "half axis")
    still = {"noise_level": (0, 0), "greys": (0, 0), "centre": (0, 0), "classes": 3, "instances": 4, "image_size": 128}
    for variant in VARIANTS:
        images = gr.Renderer(gr.RCDB(variant=variant, **still))(range(12)).view(3, 4, 128, 128)
        assert (images == images[:, :1]).all() == (variant == "paper")
        assert not torch.equal(images[0, 0], images[1, 0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_given_classes_are_rendered_as_those_of_the_law(variant):
    law = gr.RCDB(variant=variant, classes=6, **SMALL)
    p = law.parameters(np.arange(6))
    rows = list(zip(*(p[name].tolist() for name in COLUMNS[variant]), strict=True))
    given = gr.RCDB(variant=variant, categories=rows, **SMALL)
    assert torch.equal(gr.Renderer(given)(range(18), 2), gr.Renderer(law)(range(18), 2))
    again = gr.Recipe.from_json(given.to_json())
    assert (again, again.fingerprint, again.categories) == (given, given.fingerprint, tuple(rows))
    few = dataclasses.replace(given, classes=2)
    assert few.categories == tuple(rows[:2])
    one = gr.RCDB(variant=variant, categories=[ROWS[variant]]).fingerprint
    changed = [
        gr.RCDB(variant=variant, categories=[(*ROWS[variant][:i], ROWS[variant][i] + 1, *ROWS[variant][i + 1 :])])
        for i in range(len(ROWS[variant]))
    ]
    assert len({one, *(recipe.fingerprint for recipe in changed)}) == len(changed) + 1


def write_category(folder, number, values):
    """A file as the released program's csv.writer leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("Vertex", "Perlin_noise", "line_width", "Center_rad", "Line_num", "Oval_rate_x", "Oval_rate_y")
    keys = ("V", "c", "w", "r0", "K", "oval_x", "oval_y")
    with open(folder / f"{number:05d}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([name, values[key]] for name, key in zip(names, keys, strict=True))
        writer.writerows([["start_pos_h", 261.5], ["start_pos_w", 90.0]])


def test_published_classes_are_read(tmp_path):
    law = gr.RCDB(variant="paper", classes=7, **SMALL)
    p = {name: values.tolist() for name, values in law.parameters(np.arange(7)).items()}
    for number in range(7):
        write_category(tmp_path / f"t{number // 3}", number, {name: values[number] for name, values in p.items()})
    assert torch.equal(
        gr.Renderer(gr.RCDB.from_csv(tmp_path, variant="paper", **SMALL))(range(21)), gr.Renderer(law)(range(21))
    )
    released = gr.RCDB.from_csv(tmp_path, **SMALL)
    assert torch.equal(gr.Renderer(released)(range(21)), gr.Renderer(gr.RCDB(classes=7, **SMALL))(range(21)))
    write_category(tmp_path / "one", 7, {name: values[0] for name, values in p.items()})
    base = gr.RCDB.from_csv(tmp_path / "one", perturb=0.1)
    assert (base.classes, base.instances, len(base.categories)) == (1000, 1, 1)


def test_a_file_without_a_parameter_is_named(tmp_path):
    (tmp_path / "0.csv").write_text("Vertex,5\nLine_num,6\nPerlin_noise,1.0\n")
    with pytest.raises(ValueError, match=r"0\.csv: a line is missing for line_width, Center_rad, Oval_rate_x"):
        gr.RCDB.from_csv(tmp_path)
    (tmp_path / "0.csv").write_text("Vertex,5.5\n")
    with pytest.raises(ValueError, match=r"0\.csv, line 1: Vertex must be an integer"):
        gr.RCDB.from_csv(tmp_path)
    with pytest.raises(TypeError, match=r"^categories must be left out"):
        gr.RCDB.from_csv(tmp_path, categories=[])
    with pytest.raises(TypeError, match=r"^variant must be one of"):
        gr.RCDB.from_csv(tmp_path, variant=np.zeros(2))


# ---------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_noise_polygons_are_regular_and_grow_by_the_step(variant):
    """Squares on their corners around the middle, of half diagonals r0 oval + k w, black on white."""
    own = {"line_width": (5, 5), "noise_level": (0, 0), "radius": (20, 20), "oval": (1, 1), "greys": (0, 0)}
    recipe = gr.RCDB(
        variant=variant, classes=1, instances=1, image_size=128, polygons=(4, 4), vertices=(4, 4), centre=(0, 0), **own
    )
    image = gr.Renderer(recipe)(0)[0, 0].numpy()
    y, x = np.nonzero(image != 255)
    assert set(image[y, x]) == {0}
    assert sorted(set((np.abs(x - 64) + np.abs(y - 64)).tolist())) == [25, 30, 35, 40]


def test_greys_are_uniform_and_white_is_twice_as_likely():
    """One polygon an image on a wide black ground would show it; here white lines on white are no ink."""
    recipe = gr.RCDB(
        classes=1, instances=4000, image_size=32, polygons=(1, 1), vertices=(4, 4), radius=(8, 8), oval=(1, 1),
        noise_level=(0, 0), line_width=(1, 1), centre=(0, 0), greys=(250, 256),
    )  # fmt: skip
    darkest = gr.Renderer(recipe)(range(4000)).flatten(1).amin(1).numpy().astype(int)
    counts = np.bincount(darkest - 250, minlength=6)
    expected = 4000 / 7 * np.array([1, 1, 1, 1, 1, 2])
    assert ((counts - expected) ** 2 / expected).sum() < 25


def test_centres_are_whole_half_pixels_within_the_released_range():
    recipe = gr.RCDB(
        classes=1, instances=3000, image_size=128, polygons=(1, 1), vertices=(4, 4), radius=(2, 2), oval=(1, 1),
        noise_level=(0, 0), line_width=(0, 0), greys=(0, 0),
    )  # fmt: skip
    images = gr.Renderer(recipe)(range(3000))[:, 0].numpy() == 0
    for axis in (1, 2):
        centres = images.any(axis).argmax(1) + 2  # the first lit column or row is 2 before the centre, truncated
        assert centres.min() >= 14  # (128 - 100) / 2: 400 of 512 pixels are 100 of 128
        assert centres.max() <= 114
        assert uniform_integers(centres[centres < 114], 14, 113)


def test_released_images_agree_with_the_released_program():
    """Features of 120 images of 120 classes of either program: ink, extent, greys, runs, centres."""
    size, count = 160, 120
    recipe = gr.RCDB(classes=count, instances=1, image_size=size, polygons=(1, 200), radius=(0, 30), seed=9)
    ours = np.array([features(image, 255) for image in gr.Renderer(recipe)(range(count))[:, 0].numpy()])
    rng = random.Random(4)
    program = [rcdb_image(rng, rcdb_category(rng), size, 30, 125) for _ in range(count)]
    theirs = np.array([features(image, 255) for image in program])
    for name, mine, other in zip(FEATURES, ours.T, theirs.T, strict=True):
        same_law(mine[np.isfinite(mine)], other[np.isfinite(other)], name)


def test_one_class_agrees_with_the_released_program():
    """The same for 150 images of one class with much noise: its radii are random walks."""
    size, count, category = 160, 150, (40, 25, 1.3, 0.05)
    row = (category[1], category[0], *category[2:])
    recipe = gr.RCDB(categories=[row], instances=count, image_size=size, radius=(0, 30), seed=3)
    ours = np.array([features(image, 255) for image in gr.Renderer(recipe)(range(count))[:, 0].numpy()])
    rng = random.Random(5)
    theirs = np.array([features(rcdb_image(rng, category, size, 30, 125), 255) for _ in range(count)])
    for name, mine, other in zip(FEATURES, ours.T, theirs.T, strict=True):
        same_law(mine[np.isfinite(mine)], other[np.isfinite(other)], name)


def test_a_perturbed_recipe_is_the_same_in_both_variants():
    both = [
        gr.RCDB(classes=4, image_size=48, polygons=(4, 4), radius=(4, 9), centre=(0, 0), perturb=0.2, variant=variant)
        for variant in ("released", "paper")
    ]
    assert torch.equal(*(gr.Renderer(recipe)(range(4)) for recipe in both))
    assert both[0].fingerprint == both[1].fingerprint
    assert both[0].source.startswith("Nakamura, Tadokoro et al., Scaling Backwards")


@pytest.mark.parametrize("family", [rcdb, visualatom])
def test_the_kernel_is_told_what_will_be_read(family, monkeypatch):
    """Only these pixels cost time."""
    told, real = [], family.render_atoms
    monkeypatch.setattr(
        family, "render_atoms", lambda *given, **more: told.append(more["windows"]) or real(*given, **more)
    )
    recipe = {rcdb: gr.RCDB, visualatom: gr.VisualAtom}[family].smallest()
    windows, indices = torch.tensor([[3, 4, 20, 9]] * 2, dtype=torch.int32), torch.tensor([5, 6])
    catalog = recipe.catalog(torch.device("cpu"))
    drawn, whole = (recipe.canvases(catalog, indices, indices, False, False, read) for read in (windows, None))
    assert torch.equal(drawn[:, :, 3:23, 4:13], whole[:, :, 3:23, 4:13])
    assert told[0] is windows
    assert told[1] is None
