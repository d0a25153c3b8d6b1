"""The page's words become recipes; pictures given as paths are refused before anything is opened."""

import json

import pytest

import gpurender as gr
from gpurender.commands.explorer import asked
from gpurender.commands.explorer.asked import Asked, check_size, parameter_of, settings_of
from gpurender.commands.explorer.code import python_of
from gpurender.commands.explorer.starts import STARTS
from gpurender.recipes.base import Recipe, presets

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]
RECIPES = [
    *map(gr.recipe, presets()),
    gr.Moire(),
    gr.VisualAtom(variant="paper", axes=(3.0, 40.0), noise="independent", seed=2**64 - 1),
    gr.VisualAtom(orbits=(1, 5), class_prior=10.0, label_noise=0.25),
    gr.OnePFrac(base=TRIANGLE, classes=3),
    gr.FractalDB(categories=[TRIANGLE] * 3, weights=[[1] * 6], draw_type="point_color"),
    gr.FractalDB(patches=3, instances=7, classes=12),
    gr.SingleImage(STARTS["singleimage"]["image"], edges=None, classes=3, image_size=32),
    gr.Mixture({gr.OnePFrac(classes=3): 1, gr.VisualAtom(orbits=(1, 5)): 2}, labels="separate"),
    gr.Schedule(gr.OnePFrac(classes=3), delta=((0, 0.2), (500, 0.1)), points=((0, 10), (9, 20))),
    gr.Schedule(gr.Mixture({gr.OnePFrac(): 1, gr.RCDB(): 1}), weights=((0, (1, 2)), (5, (2, 1)))),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.family)
def test_a_recipe_is_told_by_its_settings_and_by_its_python(recipe):
    words = settings_of(recipe)
    assert Asked.of(recipe.family, words).recipe == recipe
    assert eval(python_of(recipe), {"gr": gr}) == recipe
    assert all(json.loads(text) is not None or text == "null" for text in words.values())


def test_settings_and_python_are_few():
    recipe = gr.VisualAtom(orbits=(1, 5), seed=3)
    assert settings_of(recipe) == {"orbits": "[1, 5]", "seed": "3"}
    assert python_of(recipe) == "gr.VisualAtom(seed=3, orbits=(1, 5))"
    assert python_of(gr.recipe("fractaldb-21k")) == "gr.FractalDB(classes=21000)"
    assert python_of(gr.recipe("fractaldb-1k", patches=3), "fractaldb-1k", {"patches": 3}) == (
        "gr.recipe('fractaldb-1k', patches=3)"
    )
    assert python_of(gr.Mixture({gr.OnePFrac(): 1, gr.RCDB(seed=1): 2})) == (
        "gr.Mixture({gr.OnePFrac(): 1, gr.RCDB(seed=1): 2})"
    )
    assert python_of(gr.Mixture({gr.OnePFrac(): 1}, labels="separate")) == (
        "gr.Mixture({gr.OnePFrac(): 1}, labels='separate')"
    )
    long = gr.FractalDB(categories=[TRIANGLE] * 50)
    assert python_of(long).startswith('gr.Recipe.from_json(\'{"gpurender": 1, ')


def test_a_preset_s_python_that_would_be_another_recipe_is_not_given():
    """Categories make the default of fill_rate meaningless: what is stated is not all that differs."""
    recipe = gr.OnePFrac(classes=7)
    assert python_of(recipe, "onepfrac-1k", {}) == "gr.OnePFrac(classes=7)"


@pytest.mark.parametrize("base", [*presets(), *sorted(Recipe.families)])
def test_every_base_is_a_recipe(base):
    wanted = Asked.of(base, {})
    assert wanted.recipe == (gr.recipe(base) if base in presets() else Recipe.from_json(wanted.recipe.to_json()))
    assert (wanted.preset is None) == (base in Recipe.families)


def test_settings_replace_those_of_a_preset_and_are_json_or_text():
    wanted = Asked.of("rcdb-lpce-1k", {"centre": "[0.5, 0.5]", "variant": "paper", "seed": "18446744073709551615"})
    assert wanted.recipe == gr.recipe("rcdb-lpce-1k", centre=(0.5, 0.5), variant="paper", seed=2**64 - 1)
    assert wanted.values == {"centre": [0.5, 0.5], "variant": "paper", "seed": 2**64 - 1}


@pytest.mark.parametrize(
    ("base", "settings", "error", "said"),
    [
        ("visualatom-1", {}, ValueError, "recipe must be one of .*did you mean 'visualatom-1k'"),
        (3, {}, TypeError, "recipe must be one of "),
        ("onepfrac", [], TypeError, r"^set must be an object of at most 64 texts, got \[\]$"),
        ("onepfrac", {str(i): "1" for i in range(65)}, TypeError, "^set must be an object of at most 64 texts, got "),
        ("onepfrac", {"seed": 3}, TypeError, "^seed must be a text of JSON, got 3$"),
        ("onepfrac", {"points": "0"}, ValueError, r"^points must be an integer in \[1, 10000000\], got 0$"),
        ("onepfrac", {"pints": "0"}, TypeError, "^onepfrac has no parameter 'pints'; .*did you mean 'points'"),
        ("onepfrac", {"family": '"rcdb"', "polygons": "[1, 2]"}, TypeError, "^onepfrac has no parameter 'polygons'"),
    ],
)
def test_wrong_words_are_refused(base, settings, error, said):
    with pytest.raises(error, match=said):
        Asked.of(base, settings).recipe  # noqa: B018
    assert Asked.of("onepfrac", {str(i): "1" for i in range(64)}).base == "onepfrac"


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        ("singleimage", {"image": "/etc/passwd"}),
        ("singleimage", {"image": '"/etc/passwd"'}),
        ("mixture", {"recipes": '[{"family": "singleimage", "image": "/etc/passwd"}]', "weights": "[1]"}),
        ("schedule", {"recipe": '{"family": "singleimage", "image": "/etc/passwd"}', "knots": '{"seed": [[0, 1]]}'}),
        ("schedule", {"knots": '{"image": [[0, "data:image/png;base64,"], [1, "/etc/passwd"]]}'}),
        ("schedule", {"knots": '{"image": [[0, {"deep": ["/etc/passwd"]}]]}'}),
    ],
)
def test_no_path_is_opened(monkeypatch, base, settings):
    monkeypatch.setattr("PIL.Image.open", lambda source: pytest.fail(f"{source} is opened"))
    with pytest.raises(
        ValueError, match=r"^image must be a picture that is chosen on this page, not a path, got '/etc/"
    ):
        Asked.of(base, settings).recipe  # noqa: B018


def test_a_picture_s_text_is_taken():
    text = STARTS["singleimage"]["image"]
    recipe = Asked.of("singleimage", {"image": json.dumps(text), "image_size": "64"}).recipe
    assert recipe == gr.SingleImage(text, image_size=64)


def test_sizes_that_would_take_long_are_refused():
    check_size(gr.RCDB(image_size=2048, classes=200_000))
    check_size(gr.ColorFractal(classes=1000, systems=200))
    with pytest.raises(ValueError, match=r"^image_size must be at most 2048 to be drawn on this page, got 2049$"):
        check_size(gr.RCDB(image_size=2049))
    with pytest.raises(
        ValueError, match=r"^classes: classes must be at most 200,000 to be drawn on this page, got 200,001$"
    ):
        check_size(gr.RCDB(classes=200_001))
    with pytest.raises(ValueError, match=r"^systems: classes x systems must be at most 200,000 .*, got 201,000$"):
        check_size(gr.ColorFractal(classes=1000, systems=201))
    with pytest.raises(ValueError, match=r"^classes: classes x systems must be at most 200,000 .*, got 400,002$"):
        check_size(gr.ColorFractal(classes=200_001, systems=2))


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("points must be an integer in [1, 2], got 0", "points"),
        ("orbits[1] must be an integer in [1, 2048], got 0", "orbits"),
        ("recipes[0]: orbits must be a pair", "recipes"),
        ("instances must be at most weights x patches x flips = 1 x 2 x 3 = 6, got 7; raise patches", "instances"),
        ("onepfrac has no parameter 'pints'; it has a, b", "pints"),
        ("from sample 0 on: points must be an integer", "points"),
        ("class_prior: class 3 with weight 1 would have no image", "class_prior"),
        ("classes: classes x systems must be at most", "classes"),
        ("something else must be wrong", None),
        ("nothing", None),
    ],
)
def test_a_refusal_is_put_beside_its_parameter(message, name):
    names = ("points", "orbits", "recipes", "instances", "class_prior", "classes")
    assert parameter_of(message, names) == name


def test_places_cells_and_policies():
    assert asked.place("class", 2**63 - 1) == 2**63 - 1
    for value, error in ((-1, ValueError), (2**63, ValueError), (1.5, TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^class must be an integer in \[0, 9223372036854775807\], got "):
            asked.place("class", value)
    assert asked.policy_name(None) is None
    assert asked.policy_name("deit") == "deit"
    with pytest.raises(ValueError, match=r"^augment must be one of 'crop', 'deit', "):
        asked.policy_name("dei")
    assert asked.cells([[0, 1]] * 48) == [(0, 1)] * 48
    for value in ([], [[0, 1]] * 49, "00", None, {}):
        with pytest.raises(TypeError, match=r"^cells must be 1 to 48 pairs \(class, instance\), got "):
            asked.cells(value)
    for value in ([[0]], [[0, 1, 2]], [3], [None]):
        with pytest.raises(TypeError, match=r"^cells must be pairs \(class, instance\), got "):
            asked.cells(value)
    with pytest.raises(ValueError, match=r"^cells must be an integer in "):
        asked.cells([[0, -1]])
