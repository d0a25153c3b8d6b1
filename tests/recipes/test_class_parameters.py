"""What decides a class, as replays state it: what the family's renderer is given, or what makes the same image."""

import json

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes import colorfractal, exfractaldb, moire, multifractal, noise, singleimage
from gpurender.recipes.base import Recipe
from gpurender.recipes.fractaldb import weight_set

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0, 0.25], [0.5, 0, 0, 0.5, 0.5, 0, 0.25], [0.5, 0, 0, 0.5, 0.25, 0.5, 0.5]]
PAIR = [[0.5, 0.1, 0, 0.5, 0, 0], [0.4, 0, 0.2, 0.6, 0.5, 0.3]]
SMALL = {"points": 400, "image_size": 32, "mask_mode": "fill"}
ATOMS = gr.VisualAtom(classes=5, instances=2, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4))


def of(recipe, *classes):
    found = recipe.class_parameters(np.array(classes, np.int64))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(found) == len(classes)
    return found


def given(monkeypatch, module, name, recipe, samples):
    """The first argument with which a renderer is called."""
    calls, plain = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *words, **more: calls.append(words) or plain(*words, **more))
    gr.Renderer(recipe)(samples)
    [words] = calls
    return words


def canvas(recipe, sample=0):
    return gr.Renderer(recipe)(sample)


def test_every_family_states_its_classes():
    for family in Recipe.families.values():
        recipe = family.smallest()
        if recipe is not None:
            [found] = of(recipe, 0)
            assert found, family
    assert [family for family in Recipe.families if Recipe.families[family].smallest() is None] == [
        "mixture",
        "schedule",
    ]
    assert Recipe._class_parameters(ATOMS, np.arange(2)) == [{}, {}]  # of a family of someone's own


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        (5, ValueError, r"classes must be an integer in \[0, 4\], got 5"),
        ([0, -1], ValueError, r"classes must be an integer in \[0, 4\], got -1"),
        (1.5, TypeError, r"classes must be an integer in \[0, 4\], got 1.5"),
    ],
)
def test_wrong_numbers_of_classes_are_refused(classes, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        ATOMS.class_parameters(classes)
    assert ATOMS.class_parameters([]) == []
    assert ATOMS.class_parameters(4) == ATOMS.class_parameters(torch.tensor([4]))


@pytest.mark.parametrize(("base", "fill_rate"), [(None, 0.35), (PAIR, 0.12), (TRIANGLE, 0.3)])
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_maps_of_1p_frac_make_the_image_of_the_class(base, fill_rate, variant):
    """As a base that is not perturbed; of the triangle the first perturbations of classes are too sparse."""
    recipe = gr.OnePFrac(classes=40, base=base, fill_rate=fill_rate, variant=variant, **SMALL)
    found = of(recipe, 37, 0, 5)
    assert len({json.dumps(each) for each in found}) == 3
    for number, each in zip((37, 0, 5), found, strict=True):
        [maps] = each.values()
        assert list(each) == ["maps"]
        if base is TRIANGLE:
            assert [row[6] for row in maps] == [0.25, 0.25, 0.5]
        alone = gr.OnePFrac(base=maps, classes=40, delta=0, fill_rate=0, variant=variant, **SMALL)
        assert torch.equal(canvas(alone, number), canvas(recipe, number))


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_maps_of_fractaldb_make_the_images_of_the_category(variant):
    searched = gr.FractalDB(classes=3, fill_rate=0.02, variant=variant, seed=4, **SMALL)
    stated = of(searched, 2, 1)
    again = gr.FractalDB(categories=[each["maps"] for each in stated], variant=variant, seed=4, **SMALL)
    for place, number in enumerate((2, 1)):
        for instance in (0, 6, 50):
            mine, theirs = (gr.Renderer(x) for x in (again, searched))
            if variant == "released":  # whose points do not depend on the number of the image
                assert torch.equal(mine(place * 100 + instance), theirs(number * 100 + instance))
    whole = searched.catalog(torch.device("cpu"))
    for each, number in zip(stated, (2, 1), strict=True):
        count = int(whole.counts[number])
        assert [row[:6] for row in each["maps"]] == whole.maps[number, :count].tolist()
        assert np.floor(np.cumsum([row[6] for row in each["maps"]]) * 65536 + 0.5).tolist() == (
            whole.thresholds[number, :count].tolist()
        )
    assert of(again, 1) == [stated[1]]


def test_maps_and_weights_of_ofdb_make_its_image():
    for variant, first in (("released", 0.2), ("paper", 1.0)):
        recipe = gr.OFDB(categories=[TRIANGLE, PAIR], variant=variant, points=400, image_size=32)
        found = of(recipe, 1, 0)
        assert found[0]["weights"] == [first, 1, 1, 1, 1, 1]
        assert [row[:6] for row in found[0]["maps"]] == PAIR
        assert found[1]["maps"] == TRIANGLE
        same = gr.FractalDB(
            categories=[found[1]["maps"], found[0]["maps"]], weights=[found[0]["weights"]], patches=1, flips=1,
            points=400, image_size=32, variant=variant,
        )  # fmt: skip
        assert torch.equal(canvas(same, [0, 1]), canvas(recipe, [0, 1])) == (variant == "released")
    assert weight_set(0.4)[0] == (0.2, 1, 1, 1, 1, 1)


def test_maps_of_exfractaldb_are_those_that_are_played(monkeypatch):
    recipe = gr.ExFractalDB(classes=4, variance_threshold=0.01, points=500, image_size=32, seed=2)
    systems = given(monkeypatch, exfractaldb, "render_clouds", recipe, [3 * 1740 + 17 * 12, 1 * 1740])[0]
    factors = np.array(recipe.factors())
    for row, (each, weight) in enumerate(zip(of(recipe, 3, 1), (17, 0), strict=True)):
        maps = np.array(each["maps"])
        count = int(systems.counts[row])
        assert maps.shape == (count, 13)
        assert np.array_equal((maps[:, :12] * factors[weight]).astype(np.float32), systems.maps[row, :count].numpy())
        shares = np.floor(np.cumsum(maps[:, 12]) * 65536 + 0.5)
        assert shares.tolist() == systems.thresholds[row, :count].tolist()
    given_ones = gr.ExFractalDB(categories=[each["maps"] for each in of(recipe, 0, 2)])
    assert of(given_ones, 1) == of(recipe, 2)


@pytest.mark.parametrize("family", [gr.ColorFractal, gr.MultiFractal])
def test_systems_of_coloured_fractals_are_those_that_are_played(monkeypatch, family):
    recipe = family(classes=5, instances=6, systems=3, points=300, image_size=32, jitter="none", maps=(2, 5))
    found = of(recipe, 4, 2)
    assert [len(each["systems"]) for each in found] == [3, 3]
    more = {"objects": (1, 1)} if family is gr.MultiFractal else {}
    recipe = family(classes=5, instances=6, systems=3, points=300, image_size=32, jitter="none", maps=(2, 5), **more)
    module = colorfractal if family is gr.ColorFractal else multifractal
    samples = [4 * 6 + i for i in range(6)]
    systems = given(monkeypatch, module, "densities", recipe, samples)[0]
    played = [systems.maps[row, : systems.counts[row], :4].tolist() for row in range(6)]
    stated = [np.array(rows)[:, :4].astype(np.float32).tolist() for rows in found[0]["systems"]]
    if family is gr.ColorFractal:
        assert played == [stated[i % 3] for i in range(6)]
    else:
        assert all(each in stated for each in played)
    maps, counts = recipe.catalog(torch.device("cpu")).of(torch.tensor([14]))
    assert maps[0, : counts[0]].tolist() == found[0]["systems"][2]


def test_frequencies_of_moire_are_the_waves(monkeypatch):
    recipe = gr.Moire(classes=30, instances=2, image_size=32, centres=(1, 5), frequencies=(3, 20))
    counts, frequencies, _, _ = given(monkeypatch, moire, "fringes", recipe, [2 * 29, 2 * 7 + 1])
    found = of(recipe, 29, 7)
    assert [each["frequencies"] for each in found] == [
        row[:count] for row, count in zip(frequencies.tolist(), counts.tolist(), strict=True)
    ]
    assert {len(each["frequencies"]) for each in of(recipe, *range(30))} == {1, 2, 3, 4, 5}


def test_laws_of_noise_are_those_of_the_pixels(monkeypatch):
    recipe = gr.Noise(classes=6, image_size=16)
    coefficients = given(monkeypatch, noise, "pixels", recipe, [5, 2])[0].double().numpy()
    for law, (offset, root) in zip(of(recipe, 5, 2), ((x[:, 0], x[:, 1:]) for x in coefficients), strict=True):
        assert list(law) == ["mean", "covariance"]
        np.testing.assert_allclose(127.5 + 42.5 * np.array(law["mean"]), offset, rtol=1e-6)
        np.testing.assert_allclose(42.5**2 * np.array(law["covariance"]), root @ root.T, rtol=2e-6, atol=2e-3)
    recipe = gr.Noise(classes=6, image_size=16, distribution="uniform")
    monkeypatch.undo()
    coefficients = given(monkeypatch, noise, "pixels", recipe, [5, 2])[0].double().numpy()
    for law, (offset, root) in zip(of(recipe, 5, 2), ((x[:, 0], x[:, 1:]) for x in coefficients), strict=True):
        assert list(law) == ["low", "high"]
        np.testing.assert_allclose(127.5 + 96 * np.array(law["low"]), offset - np.diag(root), rtol=1e-5)
        np.testing.assert_allclose(127.5 + 96 * np.array(law["high"]), offset + np.diag(root), rtol=1e-6)


def test_points_of_a_single_image_are_its_transforms(monkeypatch):
    recipe = gr.SingleImage.smallest()
    coefficients = given(monkeypatch, singleimage, "warped", recipe, [31, 4])[1].numpy()
    for each, rows in zip(of(recipe, 31, 4), coefficients, strict=True):
        e = each["epsilon"]
        column = [8 * e[0] + 7.5, 8 * (1 + e[1]), 8 * e[2], 0, 0, 0]
        row = [8 * e[3] + 7.5, 8 * e[4], 8 * (1 + e[5]), 0, 0, 0]
        assert np.array_equal(np.array([column, row], np.float32), rows)


@pytest.mark.parametrize("recipe", [ATOMS, gr.RCDB.smallest(), gr.recipe("visualatom-lpce-1k", classes=9)])
def test_parameters_of_contours_are_those_of_each_class(recipe):
    columns = recipe.parameters(np.array([3, 1]))
    assert of(recipe, 3, 1) == [{name: x[i].item() for name, x in columns.items()} for i in (0, 1)]
    assert {type(value) for value in of(recipe, 3)[0].values()} == {int, float}


def test_classes_of_mixtures_and_schedules_are_those_of_their_recipes():
    other = gr.Noise(classes=3, image_size=32)
    mixture = gr.Mixture({ATOMS: 1, other: 2})
    assert of(mixture, 7, 0, 4, 5) == [*of(other, 2), *of(ATOMS, 0, 4), *of(other, 0)]
    schedule = gr.Schedule(mixture, weights=((0, (1, 2)), (9, (2, 1))))
    assert of(schedule, 6) == [{"stages": [*of(other, 1), *of(other, 1)]}]
    growing = gr.Schedule(ATOMS, radius=((0, (2, 4)), (9, (9, 9))))
    [[first, second]] = [each["stages"] for each in of(growing, 2)]
    assert first == of(ATOMS, 2)[0]
    assert second == first | {"r0": 9}
