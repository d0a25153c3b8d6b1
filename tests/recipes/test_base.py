"""Recipes: validation, JSON, fingerprints, category files."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpurender as gr
from gpurender.recipes import (
    Recipe,
    colored,
    exfractaldb,
    fractaldb,
    multifractal,
    perturbation,
    presets,
    rcdb,
    sigma_factor,
    system_jitter,
    visualatom,
)
from gpurender.recipes.base import _in_short
from gpurender.recipes.fractaldb import weight_set

TRIANGLE = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]


@pytest.mark.parametrize("name", sorted(presets()))
def test_presets(name):
    recipe = gr.recipe(name)
    assert isinstance(recipe, gr.Recipe)
    assert len(recipe) == recipe.classes * recipe.instances
    assert gr.recipe(recipe) is recipe
    assert len(recipe.to_json()) < 1000  # a few hundred bytes stand for millions of images


def test_the_papers_numbers():
    assert len(gr.recipe("onepfrac-1k")) == 1000
    assert len(gr.recipe("fractaldb-1k")) == len(gr.recipe("visualatom-1k")) == 1_000_000
    assert len(gr.recipe("visualatom-21k")) == len(gr.recipe("fractaldb-21k")) == 21_000_000
    assert len(gr.recipe("fractaldb-100k")) == 100_000_000
    assert (len(gr.recipe("ofdb-1k")), len(gr.recipe("ofdb-21k"))) == (1000, 21_000)
    fractaldb = gr.FractalDB()
    assert (fractaldb.image_size, fractaldb.points, fractaldb.patches, fractaldb.flips) == (362, 200_000, 10, 4)
    onepfrac = gr.OnePFrac()
    assert (onepfrac.image_size, onepfrac.points, onepfrac.maps, onepfrac.sigma, onepfrac.delta) == (
        512,
        100_000,
        2,
        3.5,
        0.1,
    )


def recipes():
    common = {
        "classes": st.integers(1, 30),
        "image_size": st.integers(16, 600),
        "seed": st.integers(0, 2**64 - 1),
        "variant": st.sampled_from(["released", "paper"]),
    }
    number = st.floats(-1, 1)
    maps = st.lists(
        st.tuples(*[st.floats(0.1, 1)] * 1, *[st.floats(-0.01, 0.01)] * 2, st.floats(0.1, 1), number, number),
        min_size=1,
        max_size=5,
    )
    style = {
        "draw_type": st.sampled_from(["patch_gray", "patch_color", "point_gray", "point_color"]),
        "mask_mode": st.sampled_from(["random", "fill"]),
        "points": st.integers(1, 10**6),
    }
    onepfrac = st.builds(gr.OnePFrac, **common, **style, base=maps, delta=st.floats(0, 1), instances=st.integers(1, 9))
    searched = st.builds(gr.OnePFrac, **common, **style, sigma=st.floats(3, 5), maps=st.integers(2, 6))
    fractaldb = st.builds(
        gr.FractalDB, **common, **style, weights=st.sampled_from(["small", "base", "large"]), flips=st.integers(1, 4)
    )
    ofdb = st.builds(gr.OFDB, **common, points=style["points"], instances=st.integers(1, 9), fill_rate=st.floats(0, 1))
    exfractaldb = st.builds(
        gr.ExFractalDB, **common, weights=st.sampled_from(["all", "one"]), points=st.integers(2, 10**6),
        viewpoints=st.sampled_from(["random", "fixed", "drawn"]), variance_threshold=st.floats(0, 1),
    )  # fmt: skip
    perturb = st.one_of(st.none(), st.floats(1e-4, 0.5))
    visualatom = st.builds(gr.VisualAtom, **common, instances=st.integers(1, 9), perturb=perturb)
    rcdb = st.builds(gr.RCDB, **common, instances=st.integers(1, 9), perturb=perturb)
    noise = st.builds(
        gr.Noise, **common, instances=st.integers(1, 9), perturb=st.floats(1e-4, 0.3),
        distribution=st.sampled_from(["gaussian", "uniform"]),
    )  # fmt: skip
    moire = st.builds(
        gr.Moire, **common, instances=st.integers(1, 9), margin=st.floats(0, 0.5),
        centres=st.sampled_from([(1, 1), (2, 7)]), frequencies=st.sampled_from([(1, 9), (50, 8192)]),
    )  # fmt: skip
    return st.one_of(moire, noise, onepfrac, searched, fractaldb, ofdb, exfractaldb, visualatom, rcdb)


@settings(max_examples=200, deadline=None)
@given(recipes())
def test_json_is_lossless(recipe):
    again = gr.Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert type(again) is type(recipe)
    assert again.fingerprint == recipe.fingerprint
    assert hash(again) == hash(recipe)
    assert len(recipe.fingerprint) == 64
    int(recipe.fingerprint, 16)


@pytest.mark.parametrize(
    "family", sorted({*Recipe.families} - {"mixture", "schedule", "singleimage"})
)  # without defaults
def test_recipes_are_frozen_values(family):
    recipe = Recipe.families[family]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3
    assert dataclasses.replace(recipe, seed=3) != recipe
    assert dataclasses.replace(recipe, seed=0) == recipe


def test_a_recipe_is_shown_in_short():
    recipe = gr.FractalDB(categories=[TRIANGLE] * 1000, class_prior=[2.0] * 1000, weights=[[1.0] * 6])
    assert str(recipe) == repr(recipe) == (
        "FractalDB(classes=1000, instances=40, image_size=362, seed=0, variant='released', class_prior=<1000 entries>, "
        "label_noise=None, weights=((1.0, 1.0, 1.0, 1.0, 1.0, 1.0),), patches=10, flips=4, points=200000, "
        "fill_rate=None, categories=<1000 entries>, draw_type='patch_gray', mask_mode='random')"
    )  # fmt: skip
    assert "categories=<1000 entries>" in repr(gr.Mixture({recipe: 1, "onepfrac-1k": 1}))
    long = gr.VisualAtom(classes=50, class_prior=[1.0] * 50, instances=4)
    assert "class_prior=<50 entries>" in repr(long)
    assert repr(gr.Renderer(recipe)) == "Renderer(<fractaldb: 1,000 classes, 40,000 images of 362 x 362>, device='cpu')"
    noisy = gr.OnePFrac(base=TRIANGLE, label_noise=0.1)
    for small in (noisy, gr.VisualAtom(variant="paper"), gr.FractalDB(), gr.OFDB()):
        assert eval(repr(small), vars(gr)) == small


def fingerprint(**parameters):
    return gr.OnePFrac(base=TRIANGLE, **parameters).fingerprint


def test_fingerprint_changes_if_and_only_if_an_image_could():
    one = fingerprint()
    assert one == fingerprint(delta=0.1, points=100_000, seed=0)
    changes = {
        "delta": 0.2, "points": 1000, "seed": 1, "variant": "paper", "classes": 999, "instances": 2, "image_size": 511,
        "fill_rate": 0.04, "draw_type": "point_gray", "mask_mode": "fill",
    }  # fmt: skip
    assert len({one, *(fingerprint(**{name: value}) for name, value in changes.items())}) == len(changes) + 1
    # the same images, said differently
    shares = [[*row, 1 / 3] for row in TRIANGLE]
    assert gr.OnePFrac(base=shares).fingerprint == one
    assert gr.OnePFrac(base=np.array(TRIANGLE)).fingerprint == one
    assert fingerprint(draw_type="point_gray") == fingerprint(draw_type="point_gray", mask_mode="fill")
    assert gr.OnePFrac(base=[[-0.0 if x == 0 else x for x in row] for row in TRIANGLE]).fingerprint == one
    assert gr.FractalDB(weights="base").fingerprint == gr.FractalDB(weights=weight_set(0.4)).fingerprint
    assert gr.FractalDB(weights="small").fingerprint != gr.FractalDB(weights="base").fingerprint
    assert gr.FractalDB(flips=2, instances=500).fingerprint != gr.FractalDB(flips=4, instances=500).fingerprint
    # only what some instance uses counts
    ones, other = [1.0] * 6, [2.0] * 6
    assert gr.FractalDB(instances=4, patches=1).fingerprint == gr.FractalDB(instances=4).fingerprint
    assert gr.FractalDB(instances=2, flips=2).fingerprint == gr.FractalDB(instances=2, flips=4).fingerprint
    assert gr.FractalDB(weights=[ones, other], instances=40).fingerprint == gr.FractalDB(weights=[ones]).fingerprint
    assert gr.FractalDB(weights=[ones, other], instances=41).fingerprint != gr.FractalDB(weights=[ones]).fingerprint
    assert gr.FractalDB(fill_rate=0.2).fingerprint == gr.FractalDB(fill_rate=0.2 + 1e-9).fingerprint
    never = [*shares, [0.5, 0, 0, 0.5, 9, 9, 0]]
    assert gr.FractalDB(categories=[never]).fingerprint == gr.FractalDB(categories=[shares]).fingerprint
    assert gr.OnePFrac(base=never[::-1]).fingerprint != one  # perturbations have the number of their map


WRONG = [
    (gr.OnePFrac, {"classes": 0}, "classes"),
    (gr.OnePFrac, {"classes": -3}, "classes"),
    (gr.OnePFrac, {"classes": 2.5}, "classes"),
    (gr.OnePFrac, {"classes": True}, "classes"),
    (gr.OnePFrac, {"image_size": 0}, "image_size"),
    (gr.OnePFrac, {"image_size": 15}, "image_size"),
    (gr.OnePFrac, {"image_size": 10**6}, "image_size"),
    (gr.OnePFrac, {"seed": -1}, "seed"),
    (gr.OnePFrac, {"seed": 2**64}, "seed"),
    (gr.OnePFrac, {"variant": "original"}, "variant"),
    (gr.OnePFrac, {"sigma": math.nan}, "sigma"),
    (gr.OnePFrac, {"sigma": math.inf}, "sigma"),
    (gr.OnePFrac, {"sigma": 6.5}, "sigma"),
    (gr.OnePFrac, {"sigma": "3.5"}, "sigma"),
    (gr.OnePFrac, {"maps": 0}, "maps"),
    (gr.OnePFrac, {"delta": -0.1}, "delta"),
    (gr.OnePFrac, {"delta": math.nan}, "delta"),
    (gr.OnePFrac, {"points": 0}, "points"),
    (gr.OnePFrac, {"points": 10**9}, "points"),
    (gr.OnePFrac, {"fill_rate": 1.5}, "fill_rate"),
    (gr.OnePFrac, {"draw_type": "patch_grey"}, "draw_type"),
    (gr.OnePFrac, {"mask_mode": None}, "mask_mode"),
    (gr.OnePFrac, {"base": []}, "base"),
    (gr.OnePFrac, {"base": [[1, 2, 3]]}, "base"),
    (gr.OnePFrac, {"base": [[0.5, 0, 0, 0.5, 0, 0], [1, 2]]}, "base"),
    (gr.OnePFrac, {"base": [[0.5, 0, 0, 0.5, math.nan, 0]]}, "base"),
    (gr.OnePFrac, {"base": [[0.5, 0, 0, 0.5, 0, math.inf]]}, "base"),
    (gr.OnePFrac, {"base": [[0, 0, 0, 0, 0, 0]]}, "base"),
    (gr.OnePFrac, {"base": [[0.5, 0, 0, 0.5, 0, 0, -1]]}, "base"),
    (gr.OnePFrac, {"base": TRIANGLE, "sigma": 3.0}, "sigma"),
    (gr.OnePFrac, {"base": 3}, "base"),
    (gr.FractalDB, {"draw_type": "patch_grey"}, "draw_type"),
    (gr.FractalDB, {"mask_mode": None}, "mask_mode"),
    (gr.FractalDB, {"weights": "huge"}, "weights"),
    (gr.FractalDB, {"weights": [[1, 1, 1]]}, "weights"),
    (gr.FractalDB, {"weights": [[1, 1, 1, 1, 1, math.nan]]}, "weights"),
    (gr.FractalDB, {"instances": 1001}, "instances"),
    (gr.FractalDB, {"instances": 0}, "instances"),
    (gr.FractalDB, {"patches": 0}, "patches"),
    (gr.FractalDB, {"flips": 5}, "flips"),
    (gr.FractalDB, {"fill_rate": -0.2}, "fill_rate"),
    (gr.FractalDB, {"categories": []}, "categories"),
    (gr.FractalDB, {"categories": [TRIANGLE], "classes": 2}, "classes"),
    (gr.FractalDB, {"categories": [TRIANGLE], "fill_rate": 0.1}, "fill_rate"),
    (gr.FractalDB, {"categories": 7}, "categories"),
    (gr.OFDB, {"classes": 0}, "classes"),
    (gr.OFDB, {"instances": 0}, "instances"),
    (gr.OFDB, {"instances": "one"}, "instances"),
    (gr.OFDB, {"image_size": 15}, "image_size"),
    (gr.OFDB, {"variant": "original"}, "variant"),
    (gr.OFDB, {"variant": 3}, "variant"),
    (gr.OFDB, {"seed": -1}, "seed"),
    (gr.OFDB, {"points": 0}, "points"),
    (gr.OFDB, {"fill_rate": 1.5}, "fill_rate"),
    (gr.OFDB, {"categories": []}, "categories"),
    (gr.OFDB, {"categories": [[[1, 2, 3]]]}, "categories"),
    (gr.OFDB, {"categories": [TRIANGLE], "classes": 2}, "classes"),
    (gr.OFDB, {"categories": [TRIANGLE], "fill_rate": 0.1}, "fill_rate"),
    (gr.OFDB, {"draw_type": "patch_gray"}, "draw_type"),
    (gr.VisualAtom, {"classes": 0}, "classes"),
    (gr.VisualAtom, {"instances": -1}, "instances"),
    (gr.VisualAtom, {"image_size": 3}, "image_size"),
]


@pytest.mark.parametrize(("family", "parameters", "name"), WRONG)
def test_wrong_parameters_are_named(family, parameters, name):
    with pytest.raises((ValueError, TypeError), match=name) as caught:
        family(**parameters)
    assert "\n" not in str(caught.value)


HEAD = '"gpurender": 1, "family": "onepfrac"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"gpurender": 1}',
        '{"gpurender": 2, "family": "onepfrac"}',
        '{"gpurender": true, "family": "onepfrac"}',
        '{"gpurender": 1, "family": "mandelbrot"}',
        '{"gpurender": 1, "family": ["onepfrac"]}',
        '{"gpurender": 1, "family": "fractaldb", "categories": [[1]]}',
        "{" + HEAD + ', "sigmma": 3}',
        "{" + HEAD + ', "delta": NaN}',
        "{" + HEAD + ', "delta": Infinity}',
        "{" + HEAD + ', "delta": 1e999}',
        "{" + HEAD + ', "seed": 1, "seed": 2}',
        "{" + HEAD + ', "classes": "ten"}',
        "{" + HEAD + ', "base": {"a": 1}}',
        "[" * 100_000,
    ],
)
def test_malformed_json_is_refused(text):
    with pytest.raises(ValueError, match=r"recipe|parameter"):
        gr.Recipe.from_json(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_truncated_and_mutated_json_is_refused_or_loads(data):
    text = gr.OnePFrac(base=TRIANGLE).to_json()
    place = data.draw(st.integers(0, len(text) - 1))
    mutated = data.draw(st.sampled_from([text[:place], text[:place] + data.draw(st.characters()) + text[place + 1 :]]))
    try:
        recipe = gr.Recipe.from_json(mutated)
    except ValueError:
        return
    assert gr.Recipe.from_json(recipe.to_json()) == recipe


PUBLISHED = [
    "3d-ofdb-1k", "3d-ofdb-21k", "colorfractal-100k", "colorfractal-1k", "exfractaldb-1k", "exfractaldb-21k",
    "fractaldb-100k", "fractaldb-1k", "fractaldb-21k", "gaussian-lpce-1k", "multifractal-1k", "mv-fractaldb-1k",
    "ofdb-1k", "ofdb-21k", "onepfrac-1k", "onepfrac-21k", "rcdb-1k", "rcdb-21k", "rcdb-lpce-1k", "uniform-lpce-1k",
    "visualatom-1k", "visualatom-21k", "visualatom-lpce-1k",
]  # fmt: skip


def test_the_names_of_presets():
    assert gr.presets() == PUBLISHED
    gr.presets().clear()  # of a copy
    assert gr.presets() == PUBLISHED


@pytest.mark.parametrize("family", sorted(Recipe.families))
def test_a_family_names_its_paper(family):
    if Recipe.families[family].presets:
        assert re.fullmatch(
            r"(.+ et al\.|\w+ & \w+), .+, \w+ 20\d\d, https://arxiv\.org/abs/\d{4}\.\d{5}",
            Recipe.families[family].paper,
        )


def test_a_mixture_names_the_papers_of_its_recipes_once():
    mixture = gr.Mixture({"onepfrac-1k": 1, "onepfrac-21k": 1, "fractaldb-1k": 1})
    assert mixture.paper == f"{gr.OnePFrac.paper}; {gr.FractalDB.paper}"


ALIKE = [
    ("onepfrac1k", "onepfrac-1k"),
    ("onepfrac-1K", "onepfrac-1k"),
    ("OnePFrac", "onepfrac-1k"),
    ("1p-frac", "onepfrac-1k"),
    ("fractaldb", "fractaldb-1k"),
    ("OFDB", "ofdb-1k"),
    ("ofdb_21k", "ofdb-21k"),
    ("visualatom-10k", "visualatom-1k"),
    ("rcdb-lpce", "rcdb-lpce-1k"),
    ("visual_atom_21k", "visualatom-21k"),
]


@pytest.mark.parametrize(("wrong", "meant"), ALIKE)
def test_a_wrong_preset_is_refused_with_the_one_that_was_meant(wrong, meant):
    """No word of files: nobody meant one."""
    known = ", ".join(PUBLISHED)
    with pytest.raises(ValueError, match="neither") as caught:
        gr.recipe(wrong)
    assert str(caught.value) == (
        f"recipe {wrong!r} is neither a preset ({known}) nor a JSON file; did you mean {meant!r}?"
    )


@pytest.mark.parametrize("wrong", ["mandelbrot", "onepfrac.json", "ONEPFRAC.JSON", "recipes/onepfrac-1k"])
def test_nothing_is_suggested_for_paths_and_other_words(wrong):
    with pytest.raises(ValueError, match="neither a preset") as caught:
        gr.recipe(wrong)
    assert "did you mean" not in str(caught.value)
    assert str(caught.value).endswith("No such file or directory") == (wrong != "mandelbrot")


def test_a_file_may_have_the_name_of_no_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text(gr.OnePFrac(seed=5).to_json())
    (tmp_path / "folder").mkdir()
    assert gr.recipe("mine") == gr.OnePFrac(seed=5)
    with pytest.raises(ValueError, match=r"nor a readable JSON file: Is a directory$"):
        gr.recipe("folder")


MIXED = gr.Mixture({"onepfrac-1k": 1, gr.FractalDB(categories=[TRIANGLE], class_prior=1.0): 3}, labels="separate")


@pytest.mark.parametrize("recipe", [gr.VisualAtom(variant="paper"), gr.FractalDB(categories=[TRIANGLE]), MIXED])
def test_json_text_and_dictionaries_are_recipes(recipe):
    text = recipe.to_json()
    data = json.loads(text)
    before = json.dumps(data)
    for same in (text, "\ufeff" + text, "\n  " + text, data, json.loads(json.dumps(data, indent=2))):
        assert gr.recipe(same) == recipe
    del data["gpurender"]
    assert gr.recipe(data) == recipe
    assert json.dumps({"gpurender": 1, **data}) == before  # the dictionary is left as it was


def test_a_dictionary_may_be_short():
    assert gr.recipe({"family": "onepfrac"}) == gr.OnePFrac()
    assert gr.recipe({"family": "fractaldb", "flips": 1}) == gr.FractalDB(flips=1)
    parts = [{"family": "onepfrac"}, {"gpurender": 1, "family": "visualatom"}]
    assert gr.recipe({"family": "mixture", "recipes": parts, "weights": (1, 2)}) == gr.Mixture(
        {"onepfrac-1k": 1, "visualatom-1k": 2}
    )


WRONG_DATA = [
    ({}, TypeError, f"'family' must be one of {', '.join(map(repr, sorted(Recipe.families)))}, got None"),
    ({"family": "1pfrac"}, ValueError, "got '1pfrac'; did you mean 'onepfrac'?"),
    ({"family": "onepfrac", "gpurender": 2}, ValueError, "'gpurender' must be 1 (the format's version), got 2"),
    ({"family": "onepfrac", "gpurender": None}, ValueError, "'gpurender' must be 1 (the format's version), got None"),
    ({"family": "onepfrac", "sigmma": 3}, TypeError, "onepfrac has no parameter 'sigmma'; it has base, class_prior, "),
    ({"family": "onepfrac", "sigmma": 3}, TypeError, "; did you mean 'sigma'?"),
    ({"family": "onepfrac", 7: 3}, TypeError, "onepfrac has no parameter 7; it has"),
    ({"family": "mixture", "labls": "joint"}, TypeError, "did you mean 'labels'?"),
    ({"family": "onepfrac", "classes": 0}, ValueError, "classes must be"),
    ('{"family": "onepfrac"}', ValueError, "'gpurender' (the format's version) is missing: add \"gpurender\": 1"),
    ('{"gpurender": 1, "family": "onepfrac", "sigmma": 3}', ValueError, "; did you mean 'sigma'?"),
    ('{"gpurender": 1, ', ValueError, "not a recipe"),
]


@pytest.mark.parametrize(("wrong", "kind", "complaint"), WRONG_DATA)
def test_wrong_dictionaries_and_texts_are_named(wrong, kind, complaint):
    with pytest.raises(kind) as caught:
        gr.recipe(wrong)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_overrides_replace_parameters(name):
    changes = {"classes": 10, "seed": 7, "image_size": 64}
    wanted = dataclasses.replace(gr.recipe(name), **changes)
    text = gr.recipe(name).to_json()
    for x in (name, text, json.loads(text), gr.recipe(name)):
        assert gr.recipe(x, **changes) == wanted
    assert gr.recipe(name).classes != 10  # the preset is as it was


def test_overrides_of_a_file(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(gr.OnePFrac(seed=5).to_json())
    assert gr.recipe(path, classes=10) == gr.recipe(str(path), classes=10) == gr.OnePFrac(seed=5, classes=10)


def test_what_nobody_stated_follows_the_overrides():
    """As if the recipe were made anew; all parameters of a recipe are stated."""
    assert gr.recipe("fractaldb-1k", flips=1) == gr.FractalDB(flips=1)
    assert gr.recipe("visualatom-1k", variant="paper") == gr.VisualAtom(variant="paper")
    assert gr.recipe({"family": "onepfrac", "seed": 3}, base=TRIANGLE) == gr.OnePFrac(base=TRIANGLE, seed=3)
    for stated in (gr.FractalDB(), gr.FractalDB().to_json()):
        with pytest.raises(ValueError, match=r"^instances must be at most"):
            gr.recipe(stated, flips=1)


def test_overrides_of_a_mixture():
    assert gr.recipe(MIXED, weights=[2, 2], labels="joint") == gr.Mixture(dict.fromkeys(MIXED.recipes, 1))
    with pytest.raises(TypeError, match=r"^mixture has no parameter 'classes'; it has labels, recipes, weights$"):
        gr.recipe(MIXED, classes=10)


def test_overrides_keep_a_user_s_class():
    class Mine(gr.OnePFrac):
        """Another way of drawing."""

    assert type(gr.recipe(Mine(), classes=3)) is Mine


@pytest.mark.parametrize("x", ["onepfrac-1k", gr.OnePFrac(), {"family": "onepfrac"}, gr.OnePFrac().to_json()])
def test_wrong_overrides_are_named(x):
    with pytest.raises(TypeError, match=r"^onepfrac has no parameter 'clases'; .*; did you mean 'classes'\?$"):
        gr.recipe(x, clases=10)
    with pytest.raises(TypeError, match=r"^onepfrac has no parameter 'family'; "):
        gr.recipe(x, family="fractaldb")
    with pytest.raises(ValueError, match=r"^classes must be an integer in "):
        gr.recipe(x, classes=0)
    with pytest.raises(ValueError, match=r"^variant must be one of .*; did you mean 'paper'\?$"):
        gr.recipe(x, variant="papers")


def test_everything_takes_what_a_recipe_is_made_of():
    tiny = gr.VisualAtom(classes=2, instances=3, image_size=32, orbits=(4, 4), radius=(4, 8))
    for same in (tiny.to_json(), json.loads(tiny.to_json())):
        assert gr.Renderer(same).recipe == gr.Dataset(same).recipe == tiny
        loader = gr.DataLoader(same, batch_size=6, image_size=32, device="cpu")
        assert loader.dataset.recipe == tiny
    assert gr.Mixture({tiny.to_json(): 1}).recipes == (tiny,)


@pytest.mark.parametrize("wrong", ["onepfrac-2k", "no/such/file.json", "", "\0", 7, None, b"onepfrac-1k"])
def test_unknown_recipes_are_refused(wrong):
    with pytest.raises((ValueError, TypeError), match="recipe"):
        gr.recipe(wrong)


def test_recipe_from_a_file(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(gr.OnePFrac(seed=5).to_json())
    assert gr.recipe(path) == gr.recipe(str(path)) == gr.OnePFrac(seed=5)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"recipe\.json"):
        gr.recipe(path)
    with pytest.raises(ValueError, match="directory"):
        gr.recipe(tmp_path)


def test_base_class_is_no_dataset():
    with pytest.raises(TypeError, match="OnePFrac"):
        gr.Recipe()


def test_published_categories_load(shared_dir):
    folder = shared_dir / "data" / "fractaldb-1k"
    recipe = gr.FractalDB.from_csv(folder / "categories", weights=folder / "weights" / "weights_0.4.csv")
    assert recipe.weights == "base"
    assert len(recipe) == 1_000_000
    assert len(recipe.categories) == 1000
    assert np.array_equal(
        np.array(recipe.categories[17]), np.loadtxt(folder / "categories" / "00017.csv", delimiter=",")
    )
    assert gr.Recipe.from_json(recipe.to_json()) == recipe
    other = gr.FractalDB.from_csv(
        folder / "categories", weights=str(folder / "weights" / "weights_0.1.csv"), classes=10
    )
    assert len(other) == 10_000
    assert other.factors()[0][0] == 0.8


@pytest.mark.parametrize("size", [256, 362, 512])
@pytest.mark.parametrize("weights", ["small", "base", "large"])
@pytest.mark.parametrize("instances", [512, 1024, 2048, 4096])
def test_the_sizes_of_the_dataset_search(instances, weights, size):
    """Classes alike, except that these would be searched; the last instance is one of the last weights and turns."""
    grid = {"weights": weights, "image_size": size, "instances": instances, "patches": -(-instances // 100)}
    assert len(gr.FractalDB(classes=instances, **grid)) == instances**2
    recipe = gr.FractalDB(categories=[TRIANGLE], variant="paper", points=500, **grid)
    assert instances / (4 * recipe.patches) > 21  # of 25 weights
    image = gr.Renderer(recipe)(instances - 1)
    assert image.shape == (1, 1, size, size)
    assert image.any()


def write_category(folder, name="00000.csv", text=None):
    folder.mkdir(exist_ok=True)
    rows = "\n".join(",".join(map(str, [*row, 1 / 3])) for row in TRIANGLE)
    (folder / name).write_text(rows if text is None else text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "rows"),
        ("1,2,3\n", "line 1"),
        ("0.5,0,0,0.5,0,0,0.5\n0.5,0,0,0.5,0", "line 2"),
        ("0.5,0,0,0.5,0,0,0.5\n", "sum to 1"),
        ("a,b,c,d,e,f,g\n", "line 1"),
        ("nan,0,0,0.5,0,0,1\n", "finite"),
        ("inf,0,0,0.5,0,0,1\n", "finite"),
        ("1_0,0,0,0.5,0,0,1\n", "line 1"),
        ("0.5,0,0,0.5,0,0,2\n0.5,0,0,0.5,0,0,-1", ">= 0"),
        ("0.5,0,0,0.5,0,0,0.5\n0.5,0,0,0.5,0,0,0.51", "sum to 1, got 1.01"),
        ("0.5,0,0,0.5,0,0,0.5\n0.5,0,0,0.5,0,0,0.499", "sum to 1, got 0.999"),
        ("0.5,0,0,0.5,0,0,0.5\n0.5,0,0,0.5,0,0,0.50002", "sum to 1"),
    ],
)
def test_malformed_categories_are_named(tmp_path, text, complaint):
    write_category(tmp_path / "categories", "00000.csv")
    write_category(tmp_path / "categories", "00001.csv", text)
    with pytest.raises(ValueError, match=complaint) as caught:
        gr.FractalDB.from_csv(tmp_path / "categories")
    assert "00001.csv" in str(caught.value)


def test_files_as_other_programs_leave_them(tmp_path):
    """A byte order mark, Windows line ends, an upper-case suffix and hidden companions."""
    text = "\ufeff" + "\r\n".join(",".join(f" {x}" for x in [*row, 1 / 3]) for row in TRIANGLE) + "\r\n\r\n"
    write_category(tmp_path / "categories", "00001.CSV", text)
    write_category(tmp_path / "categories", "00000.csv")
    write_category(tmp_path / "categories", "._00000.csv", "\0\1")
    (tmp_path / "categories" / "notes.txt").write_text("no category")
    recipe = gr.FractalDB.from_csv(tmp_path / "categories")
    assert recipe.classes == 2
    assert recipe.categories[0] == recipe.categories[1]


def test_probabilities_may_be_rounded(tmp_path):
    """The published ones have few digits; sums are off by some millionths."""
    write_category(tmp_path / "categories", text="0.5,0,0,0.5,0,0,0.5\n0.5,0,0,0.5,0,0,0.500005\n")
    assert gr.FractalDB.from_csv(tmp_path / "categories").classes == 1


@pytest.mark.parametrize("wrong", [5, None, "a\0b"])
def test_wrong_folders_are_named(wrong):
    with pytest.raises((TypeError, ValueError), match="folder"):
        gr.FractalDB.from_csv(wrong)


def test_malformed_folders_and_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match="folder"):
        gr.FractalDB.from_csv(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none"):
        gr.FractalDB.from_csv(tmp_path / "empty")
    write_category(tmp_path / "categories")
    with pytest.raises(ValueError, match=r"nothing\.csv"):
        gr.FractalDB.from_csv(tmp_path / "categories", weights=tmp_path / "nothing.csv")
    (tmp_path / "w.csv").write_text("1,1,1,1,1,1\n1,1,1\n")
    with pytest.raises(ValueError, match="line 2"):
        gr.FractalDB.from_csv(tmp_path / "categories", weights=tmp_path / "w.csv")


def test_a_user_s_subclass_does_not_take_over_its_family():
    class Mine(gr.OnePFrac):
        """Another way of drawing."""

    assert type(gr.recipe("onepfrac-1k")) is gr.OnePFrac
    assert type(gr.Recipe.from_json(Mine().to_json())) is gr.OnePFrac


@pytest.mark.parametrize("family", sorted({*Recipe.families} - {"mixture", "schedule"}))
def test_the_smallest_recipe_of_a_family_is_cheap_and_needs_no_search(family):
    recipe = Recipe.families[family].smallest()
    assert type(recipe) is Recipe.families[family]
    assert not recipe.needs_search()
    assert len(recipe) >= 32
    assert recipe.image_size <= 64
    assert recipe.classes <= 64  # a thousand would have their parameters drawn first
    assert gr.Renderer(recipe)([0, len(recipe) - 1]).unique().numel() > 1


def test_a_mixture_has_no_smallest_recipe():
    assert gr.Mixture.smallest() is None


@pytest.mark.parametrize(
    ("classes", "label", "name"),
    [(1, 0, "00000"), (100_000, 7, "00007"), (100_000, 99_999, "99999"), (100_001, 7, "000007"), (10**7, 7, "0000007")],
)
def test_names_of_classes_have_five_digits_or_as_many_as_the_last_one(classes, label, name):
    assert gr.OnePFrac(classes=classes).class_name(label) == name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a" * 400, repr("a" * 400)),
        ("a" * 401, "<401 characters>"),
        ((1,) * 8, "(1, 1, 1, 1, 1, 1, 1, 1)"),
        ((1,) * 9, "<9 entries>"),
        (("a" * 395,), repr(("a" * 395,))),  # five more for brackets, quotes and the comma
        (("a" * 396,), "<1 entries>"),
    ],
)
def test_long_parameters_are_shown_by_their_lengths(value, shown):
    assert _in_short(value) == shown


WHOLE = [
    ('{"gpurender": 1, "family": "onepfrac", "seed": 1, "seed": 2}', "the parameter 'seed' is given twice"),
    ("[]", "expected a JSON object, got list"),
    ('{"family": "onepfrac"}', "'gpurender' (the format's version) is missing: add \"gpurender\": 1"),
    ('{"gpurender": true, "family": "onepfrac"}', "'gpurender' must be 1 (the format's version), got True"),
    ('{"gpurender": 1, "family": "onepfrac", "delta": NaN}', "delta must be a finite number in [0, 10], got nan"),
    ("[" * 100_000, "the JSON is nested too deeply"),
]


@pytest.mark.parametrize(("text", "complaint"), WHOLE, ids=lambda text: text[:60])
def test_texts_that_are_no_recipes_are_told_why(text, complaint):
    for form in (text, text.encode(), "\ufeff" + text):
        with pytest.raises(ValueError, match=r"^not a recipe: ") as caught:
            gr.Recipe.from_json(form)
        assert str(caught.value) == f"not a recipe: {complaint}"


def test_json_is_text_or_bytes():
    assert gr.Recipe.from_json(gr.OnePFrac(seed=5).to_json().encode()) == gr.OnePFrac(seed=5)
    with pytest.raises(TypeError, match=r"^a recipe's JSON must be text, got dict$"):
        gr.Recipe.from_json({"gpurender": 1})


def test_numbers_that_json_does_not_have_are_never_written():
    """No constructor lets one in; a user's own may."""
    recipe = gr.OnePFrac()
    object.__setattr__(recipe, "delta", math.nan)
    with pytest.raises(ValueError, match="not JSON compliant"):
        recipe.to_json()
    with pytest.raises(ValueError, match="not JSON compliant"):
        recipe.fingerprint  # noqa: B018


def test_a_family_without_images_says_so():
    class Nothing(gr.Recipe):
        """A family that is not finished."""

    recipe = Nothing()
    for call in (lambda: recipe.catalog("cpu"), lambda: recipe.canvases(None, None, None, False, False, None)):
        with pytest.raises(TypeError, match=r"^Nothing renders nothing$"):
            call()
    assert (recipe.kept_bytes(1 << 30), recipe.needs_search(), recipe.smallest(), recipe.label_width) == (
        0,
        False,
        None,
        1,
    )
    assert "Nothing" not in {family.__name__ for family in Recipe.families.values()}


def test_the_paper_that_a_preset_follows():
    other = {
        "3d-ofdb-1k": gr.OFDB, "3d-ofdb-21k": gr.OFDB, "visualatom-lpce-1k": gr.OnePFrac, "rcdb-lpce-1k": gr.OnePFrac,
    }  # fmt: skip
    for name in PUBLISHED:
        recipe = gr.recipe(name)
        assert recipe.source == other.get(name, type(recipe)).paper


def test_no_family_is_shown_at_length():
    """As dataclasses would show it: with all categories."""
    assert {family.__repr__ for family in Recipe.families.values()} == {
        Recipe.__repr__,
        gr.Mixture.__repr__,
        gr.Schedule.__repr__,
    }


ZEROS = torch.zeros(2, dtype=torch.int64)
DRAWS = [  # what draws, and how many blocks of four words it needs for one address
    (multifractal, lambda: gr.MultiFractal(objects=(1, 5)).composition(ZEROS, ZEROS), 3),  # 1 + 2 * 5 words
    (multifractal, lambda: gr.MultiFractal(objects=(1, 2)).composition(ZEROS, ZEROS), 2),
    (sigma_factor, lambda: sigma_factor.sample(1, np.arange(2), 3, 4.0, 0.5), 4),  # 1 + 3 * 4 words
    (sigma_factor, lambda: sigma_factor.sample(1, np.arange(2), 2, 4.0, 0.5), 3),
    (fractaldb, lambda: fractaldb.candidates(1, "released", np.arange(2)), 1 + 11),  # the count; 7 * 6 words
    (fractaldb, lambda: fractaldb.candidates(1, "paper", np.arange(2)), 1 + 12),
    (exfractaldb, lambda: exfractaldb.candidates(1, np.arange(2)), 1 + 21),  # the count; 7 * 12 words
    (system_jitter, lambda: system_jitter.varied(torch.ones(2, 3, 6).double(), ZEROS + 3, "basic", 1, ZEROS), 4 * 1),
    (system_jitter, lambda: system_jitter.varied(torch.ones(2, 4, 6).double(), ZEROS + 4, "basic", 1, ZEROS), 4 * 2),
    (perturbation, lambda: perturbation.Law(1, 0.1, 2, 4).points(ZEROS), 2),  # of a class and of an image
    (perturbation, lambda: perturbation.Law(1, 0.1, 2, 9).points(ZEROS), 6),
    (visualatom, lambda: gr.VisualAtom().parameters(np.arange(2)), 3),  # 11 words
    (rcdb, lambda: gr.RCDB(variant="paper").parameters(np.arange(2)), 2),  # 7 words
    (rcdb, lambda: gr.RCDB()._axes(ZEROS), 2),  # behind the centre's two
    (colored, lambda: colored.backgrounds(1, ZEROS, 16, 1 / 30), 2),  # 7 words
]


@pytest.mark.parametrize(("module", "draw", "wanted"), DRAWS)
def test_no_more_random_words_are_made_than_are_used(module, draw, wanted, monkeypatch):
    blocks, real = [], module.words
    monkeypatch.setattr(
        module, "words", lambda *given, **more: blocks.append([*given, *more.values()][3]) or real(*given, **more)
    )
    draw()
    assert blocks[0] == wanted
