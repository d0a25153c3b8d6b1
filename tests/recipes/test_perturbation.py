"""Perturbations of one image as classes: points of a hypercube, one image at its middle, new points with fresh=True."""

import dataclasses

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.kernels.visual_atom import render_atoms
from gpurender.recipes import contours, perturbation, rcdb, visualatom

ATOM = {"image_size": 96, "orbits": (20, 20), "quantization": (60, 90), "radius": (8, 12), "noise_level": (0.2, 0.6)}
POLYGONS = {"image_size": 96, "polygons": (20, 20), "noise_level": (0.2, 0.8), "radius": (9, 15)}
FAMILIES = {
    "visualatom": (lambda **more: gr.VisualAtom(**ATOM | {"nucleus": (0, 0)} | more), visualatom.moved, 4),
    "visualatom-paper": (
        lambda **more: gr.VisualAtom(
            image_size=96, variant="paper", axes=(20, 40), orbits=(9, 9), amplitudes=(0.1, 0.2), nucleus=(0, 0), **more
        ),
        visualatom.moved,
        4,
    ),
    "rcdb": (lambda **more: gr.RCDB(**POLYGONS | {"centre": (0, 0)} | more), rcdb.moved, 3),
    "rcdb-paper": (lambda **more: gr.RCDB(**POLYGONS | {"centre": (0, 0), "variant": "paper"} | more), rcdb.moved, 3),
}
each_family = pytest.mark.parametrize("name", FAMILIES)


def law(recipe, terms):
    return perturbation.Law(recipe.seed, recipe.perturb, recipe.classes, terms)


def test_points_are_uniform_in_the_hypercube_and_independent():
    points = perturbation.Law(3, 0.2, 1000, 4).points(torch.arange(40_000)).numpy()
    assert points.shape == (40_000, 4)
    assert points.dtype == np.float64
    for values in points.T:
        u = np.sort(values / 0.2 + 0.5)
        assert u[0] >= 0
        assert u[-1] < 1
        assert np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max() < 2.2 / len(u) ** 0.5
    assert np.abs(np.corrcoef(points.T) - np.eye(4)).max() < 0.025


def test_fresh_points_are_uniform_around_the_class_in_its_share_of_the_volume():
    drawn = perturbation.Law(3, 0.2, 1000, 3)
    assert abs(drawn.cell**3 * 1000 - 0.2**3) < 1e-12
    classes, numbers = torch.full((20_000,), 7), torch.arange(20_000)
    apart = (drawn.fresh_points(classes, numbers) - drawn.points(classes)).numpy()
    assert np.abs(apart).max() <= drawn.cell / 2
    assert np.abs(apart.mean(0)).max() < 0.02 * drawn.cell
    assert np.abs(apart.std(0) / drawn.cell - 12**-0.5).max() < 0.005
    assert np.abs(np.corrcoef(apart.T) - np.eye(3)).max() < 0.03
    assert perturbation.Law(3, 0.2, 1, 3).cell == pytest.approx(0.2)  # one class: all of R


@each_family
def test_classes_are_the_atom_moved_by_their_points(name):
    """What the catalog holds, computed from the parameters, is the formula for images on a device, applied to the
    points of the classes.
    """
    make, moved, terms = FAMILIES[name]
    recipe = make(perturb=0.3, classes=50)
    catalog = recipe.catalog(torch.device("cpu"))
    again = moved(catalog.base, law(recipe, terms).points(torch.arange(50)))
    changed = 0
    for field, first in zip(dataclasses.fields(again), catalog.atoms.tensors(), strict=False):
        other = getattr(again, field.name)
        torch.testing.assert_close(first, other, rtol=1e-5, atol=1e-6)
        if field.name in ("axes", "amplitudes", "growth"):
            changed += int((first != first[:1]).any(0).sum())
    assert changed == terms


@each_family
def test_a_small_perturbation_is_one_image_and_a_larger_one_many(name):
    """The image in the middle of the hypercube is the atom's own, with the noise, greys and place of sample 0."""
    make = FAMILIES[name][0]
    alike = gr.Renderer(make(perturb=1e-4, classes=30))(range(30))
    apart = gr.Renderer(make(perturb=0.2, classes=30))(range(30))
    changed = [(images[1:] != images[:1]).flatten(1).float().mean(1).mean() for images in (alike, apart)]
    assert changed[0] < 0.01
    assert changed[1] > 10 * changed[0]
    assert len({image.numpy().tobytes() for image in apart}) == 30
    if name != "rcdb":  # whose plain images have sizes of their own
        plain = gr.Renderer(make(classes=1, instances=1))(0)
        assert (alike != plain).float().mean() < 0.01


@each_family
def test_instances_are_other_images_under_the_same_perturbations(name):
    make = FAMILIES[name][0]
    recipe = make(perturb=0.2, classes=5, instances=3)
    assert len(recipe) == 15
    images = gr.Renderer(recipe)(range(15)).view(5, 3, 96, 96)
    single = gr.Renderer(make(perturb=0.2, classes=5))(range(5))[:, 0]
    assert torch.equal(images[:, 0], single)
    assert not torch.equal(images[0, 0], images[0, 1])
    assert gr.Renderer(recipe).labels(range(15)).tolist() == [n // 3 for n in range(15)]


@each_family
def test_fresh_redraws_the_perturbation_around_the_label_and_nothing_else(name):
    make, moved, terms = FAMILIES[name]
    recipe = make(perturb=0.3, classes=12)
    renderer = gr.Renderer(recipe)
    samples = [3, 3, 5, 11]
    still, first, second = renderer(samples), renderer(samples, 1), renderer(samples, 2)
    assert not torch.equal(first, second)
    assert torch.equal(first[0], first[1])
    assert not torch.equal(renderer(samples, 0, fresh=True), still)
    numbers = torch.tensor(samples) + 2 * len(recipe)
    atoms = moved(renderer.catalog.base, law(recipe, terms).fresh_points(torch.tensor(samples), numbers))
    middle = torch.full((4, 2), 48.0)
    rule = {"visualatom-paper": "smooth orbits"}.get(name, "walk")
    greys, ground = ((0, 255), 0) if "visual" in name else ((0, 256), 255)
    wanted = render_atoms(
        atoms, torch.arange(4), centres=middle, draw_ids=torch.zeros(4, dtype=torch.int64), greys=greys,
        seed=recipe.seed, size=96, rule=rule, ground=ground,
    )  # fmt: skip
    assert torch.equal(second[:, 0], wanted)


@each_family
def test_a_loader_with_fresh_never_shows_an_image_twice(name):
    recipe = FAMILIES[name][0](perturb=0.3, classes=8)
    loader = gr.DataLoader(recipe, batch_size=8, image_size=96, fresh=True, seed=1)
    seen = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        images, labels = next(iter(loader))
        assert labels.tolist() == list(range(8))
        seen += [image.numpy().tobytes() for image in images]
    assert len(set(seen)) == 24
    plain = gr.DataLoader(recipe, batch_size=8, image_size=96, seed=1)
    first = next(iter(plain))[0]
    plain.set_epoch(1)
    assert torch.equal(next(iter(plain))[0], first)


def test_the_presets_are_one_image_and_a_thousand_perturbations():
    for name in ("visualatom-lpce-1k", "rcdb-lpce-1k"):
        recipe = gr.recipe(name)
        assert (recipe.classes, recipe.instances, recipe.perturb) == (1000, 1, 0.1)
        images = gr.Renderer(recipe)(range(0, 1000, 50))
        assert len({image.numpy().tobytes() for image in images}) == 20
        ink = (images != images[0, 0, 0, 0]).float().mean()
        assert 0.05 < ink < 0.9
    assert gr.VisualAtom(perturb=0.1).instances == gr.RCDB(perturb=0.1).instances == 1
    assert gr.VisualAtom().instances == gr.RCDB().instances == 1000


def test_the_atom_may_be_given():
    row = (30, 300, 3, 5, 0.5, 0.25, 0.5, 0.05, 20, 1.5, 1.75)
    recipe = gr.VisualAtom(categories=[row], perturb=0.2, classes=40)
    again = gr.Recipe.from_json(recipe.to_json())
    assert (again, again.fingerprint, again.classes) == (recipe, recipe.fingerprint, 40)
    p = recipe.parameters(np.arange(40))
    assert (np.abs(p["oval_x"] / 1.5 - 1) <= 0.1).all()
    assert (np.abs(p["lambda2"] - 0.25) <= 0.1).all()
    assert p["lambda1"].std() > 0.02
    assert set(p["r0"]) == {20}
    assert recipe.fingerprint != gr.VisualAtom(categories=[(*row[:-1], 1.25)], perturb=0.2, classes=40).fingerprint
    with pytest.raises(ValueError, match=r"^categories must hold one row with perturb"):
        gr.VisualAtom(categories=[row, row], perturb=0.2)


def test_an_atom_without_radius_and_waves_is_refused():
    still = gr.VisualAtom(perturb=0.1, radius=(0, 0), frequencies=(0, 0))
    with pytest.raises(ValueError, match=r"^perturb changes no image: .* all classes would be one image"):
        gr.Renderer(still)(0)
    gr.Renderer(dataclasses.replace(still, radius=(1, 1), image_size=32, orbits=(1, 1)))(0)


def test_a_side_that_is_no_side_is_told_from_one_that_is_too_small():
    for small in (0, 0.0, 0.00009):
        with pytest.raises(
            ValueError, match=r"^perturb must be a number from 0\.0001 to 0\.5, got .* would be one image$"
        ):
            perturbation.checked(small)
    with pytest.raises(ValueError, match=r"^perturb must be a finite number in \[0\.0001, 0\.5\], got -0\.1$"):
        perturbation.checked(-0.1)
    with pytest.raises(TypeError, match=r"^perturb must be .*, got False$"):
        perturbation.checked(False)


STILL = {"VisualAtom": (2, 30, 0, 60, 1.0, 1.0, 1.0, 1.0, 0, 1.5, 1.5), "RCDB": (2, 5, 0.0, 0.0, 0, 1.5, 1.5)}


@pytest.mark.parametrize(
    ("family", "place", "value"),
    [
        ("VisualAtom", 2, 3),
        ("VisualAtom", 3, 3),
        ("VisualAtom", 8, 9),
        ("RCDB", 2, 1.0),
        ("RCDB", 3, 1.0),
        ("RCDB", 4, 9),
    ],
)
def test_one_thing_that_a_perturbation_moves_is_enough(family, place, value):
    """A frequency that is no multiple of the vertices, a step, a radius."""
    row, make = STILL[family], getattr(gr, family)
    moving = (*row[:place], value, *row[place + 1 :])
    assert len(make(categories=[moving], perturb=0.1, classes=3).catalog(torch.device("cpu")).atoms.rings) == 3
    with pytest.raises(ValueError, match=r"^perturb changes no image"):
        make(categories=[row], perturb=0.1, classes=3).catalog(torch.device("cpu"))


REACHES = [  # by hand: the farthest centre, the radii, and one pixel
    (gr.VisualAtom, (30, 300, 3, 5, 0.5, -0.25, 1.5, 0.05, 20, 1.5, 1.75), {}, 512 + 35 + 30 * 3.8 + 1),
    (
        gr.VisualAtom, (30, 300, 3, 5, 0.5, -0.25, 1.5, 0.05, 20, 1.5, 1.75), {"perturb": 0.2},
        512 + 1.4 * 35 + 30 * (3.8 + 0.8) + 1,
    ),
    (gr.VisualAtom, (30, 300, 3, 5, 0.5, -0.25, 0.5, 90, 120), {"variant": "paper"}, 512 + 150 * 2.25 + 1),
    (
        gr.VisualAtom, (30, 300, 3, 5, 0.5, -0.25, 0.5, 90, 120), {"variant": "paper", "perturb": 0.2},
        512 + 198 * 3.05 + 1,
    ),
    (gr.RCDB, (30, 40, 1.5, 0.05), {}, 456 + 200 + 30 * 4.55 + 1),
    (gr.RCDB, (30, 40, 1.5, 0.05, 20, 1.25, 1.5), {"variant": "paper"}, 456 + 30 + 30 * 4.55 + 1),
    (gr.RCDB, (30, 40, 1.5, 0.05, 20, 1.25, 1.5), {"perturb": 0.2}, 456 + 1.4 * (30 + 30 * 4.55) + 1),
]  # fmt: skip


@pytest.mark.parametrize(("make", "row", "more", "wanted"), REACHES)
def test_how_far_lines_come(make, row, more, wanted):
    """The kernel keeps its coordinates within this bound; it is no wider than the rule of the variant says."""
    catalog = make(categories=[row], image_size=512, **more).catalog(torch.device("cpu"))
    assert (catalog.base if "perturb" in more else catalog).reach == pytest.approx(wanted, rel=1e-12)
    assert contours.reach((-4.0, 1.0), 64, np.array([5.0, 7.0])) == 32 * 3 + 7 + 1
