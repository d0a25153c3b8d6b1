"""Spaces: what may be chosen, how random configs are drawn, what is refused."""

import json
import math
import re

import numpy as np
import pytest

import gpurender as gr
from gpurender.search.ready import READY
from gpurender.search.space import Parameter, whole_family
from tests.search.support import RECIPES, TEMPLATE

pytest.importorskip("timm", reason="needs timm")
Space = gr.search.Space
FIXED = {"recipe": "onepfrac-1k", "model": "test_vit"}


def test_parameters_are_named_after_their_places():
    space = Space(TEMPLATE)
    assert [(p.name, p.kind, p.values) for p in space.parameters if p.name != "recipe"] == [
        ("model", "choice", ("test_vit", "test_resnet")),
        ("recipe:0.instances", "range", (4, 16)),
        ("recipe:1.points", "log", (500, 4000)),
        ("training.lr", "log", (1e-4, 1e-2)),
    ]
    mixture = {"family": "mixture", "recipes": [{"family": "ofdb", "classes": 2}, {"family": "ofdb", "classes": 3}],
               "weights": [1, {"range": [1, 3]}]}  # fmt: skip
    (share,) = Space({"recipe": mixture, "model": "test_vit"}).parameters
    assert share.name == "recipe.weights[1]"


def test_a_parameter_of_a_choice_exists_where_it_is_chosen():
    space = Space(TEMPLATE)
    seen = set()
    for number in range(40):
        config = space.random(0, number)
        own = {"recipe:0.instances"} if config.choices["recipe"] == 0 else {"recipe:1.points"}
        assert set(config.choices) == {"recipe", "model", "training.lr"} | own
        assert config.recipe.family == ("visualatom", "onepfrac")[config.choices["recipe"]]
        assert config.model == ("test_vit", "test_resnet")[config.choices["model"]]
        assert config.training == {"image_size": 32, "batch_size": 16, "lr": config.choices["training.lr"]}
        seen.add((config.recipe.family, config.model))
    assert len(seen) == 4


def test_a_random_config_is_a_function_of_seed_and_number():
    space = Space(TEMPLATE)
    first = [space.random(3, number) for number in range(8)]
    again = [Space.from_json(space.to_json()).random(3, number) for number in reversed(range(8))][::-1]
    assert [config.key for config in first] == [config.key for config in again]
    assert len({config.key for config in first}) == 8
    assert space.random(4, 0).key != first[0].key
    assert gr.search.Config.from_data(json.loads(first[0].to_json())) == first[0]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("range", (3, 6), {3: 0.25, 4: 0.25, 5: 0.25, 6: 0.25}),
        ("choice", ("a", "b", "c"), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        ("log", (1, 3), {k: math.log((k + 0.5) / (k - 0.5)) / math.log(7) for k in (1, 2, 3)}),
    ],
)  # fmt: skip
def test_values_have_their_probabilities(kind, values, expected):
    """On a fine grid of u, which stands for the uniform distribution."""
    parameter = Parameter("x", kind, values)
    found = [parameter.of((i + 0.5) / 30_000) for i in range(30_000)]
    for value, share in expected.items():
        assert found.count(value) / 30_000 == pytest.approx(share, abs=1e-3)
    assert set(found) == set(expected)
    assert parameter.of(1 - 2**-53) == max(expected)


def test_real_ranges_are_uniform_and_log_uniform():
    assert [Parameter("x", "range", (2.0, 4.0)).of(u) for u in (0.0, 0.25, 0.5)] == [2.0, 2.5, 3.0]
    log = Parameter("x", "log", (0.01, 100.0))
    assert [log.of(u) for u in (0.0, 0.25, 0.5, 0.75)] == pytest.approx([0.01, 0.1, 1.0, 10.0])
    draws = np.array([Space({**FIXED, "training": {"lr": {"range": [0.0, 1.0]}}}).random(0, n).training["lr"] for n in range(400)])  # fmt: skip  # noqa: E501
    assert abs(draws.mean() - 0.5) < 4 / math.sqrt(12 * 400)
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.2


def test_the_grid_has_every_config_once():
    template = {
        "recipe": {"choice": [
            {"family": "ofdb", "classes": {"range": [2, 4]}}, {"family": "onepfrac", "classes": 5}, "ofdb-1k",
        ]},
        "model": {"choice": ["test_vit", "test_resnet"]},
    }  # fmt: skip
    found = [(config.recipe.family, config.recipe.classes, config.model) for config in Space(template).grid()]
    recipes = [("ofdb", 2), ("ofdb", 3), ("ofdb", 4), ("onepfrac", 5), ("ofdb", 1000)]
    assert found == [(*recipe, model) for model in ("test_vit", "test_resnet") for recipe in recipes]
    with pytest.raises(
        ValueError, match=r"recipe:1\.points must be a choice or a range of integers for a grid, got 'log'"
    ):
        next(Space(TEMPLATE).grid())


def test_configs_that_are_not_allowed_are_no_part_of_a_space():
    """Orbits are a range from low to high; values out of order have no recipe."""
    orbits = [{"range": [1, 3]}, {"range": [2, 4]}]
    recipe = {"family": "visualatom", "classes": 2, "instances": 2, "image_size": 64, "orbits": orbits}
    space = Space({"recipe": recipe, "model": "test_vit"})
    allowed = {(1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4), (3, 3), (3, 4)}
    assert [config.recipe.orbits for config in space.grid()] == sorted(allowed)
    assert {space.random(0, number).recipe.orbits for number in range(80)} == allowed


WRONG = {
    "a space must be a JSON object, got [1]": [1],
    "a space has no entry 'modell'; did you mean 'model'?": {**FIXED, "modell": 1},
    "model is missing": {"recipe": "onepfrac-1k"},
    "recipe is missing": {"model": "test_vit"},
    "recipe must be a preset's name or a recipe's JSON, got 3": {**FIXED, "recipe": 3},
    "model must be one of timm.list_models(), got 'test_vitt'; did you mean": {**FIXED, "model": "test_vitt"},
    "model = 'none': model must be one of timm.list_models()": {**FIXED, "model": {"choice": ["test_vit", "none"]}},
    "training has no entry 'rate'": {**FIXED, "training": {"rate": 1}},
    "training.lr must be a finite number": {**FIXED, "training": {"lr": "big"}},
    "training.batch_size = 0: training.batch_size must be an integer in [1,": {
        **FIXED, "training": {"batch_size": {"range": [0, 8]}}},
    "training must be a JSON object, got 3": {**FIXED, "training": 3},
    "preset must be one of": {**FIXED, "preset": "nothing"},
    "seed must be an integer": {**FIXED, "seed": -1},
    "model must have one entry of choice, range, log and no other": {**FIXED, "model": {"choice": ["a"], "of": 2}},
    "model: choice must be a list of values, got []": {**FIXED, "model": {"choice": []}},
    "seed: range must be [low, high], got 3": {**FIXED, "seed": {"range": 3}},
    "seed: range must be [low, high] with low < high, got [3, 3]": {**FIXED, "seed": {"range": [3, 3]}},
    "seed: log must be above 0, got [0, 3]": {**FIXED, "seed": {"log": [0, 3]}},
    "seed: range must be a finite number": {**FIXED, "seed": {"range": [0, "x"]}},
    "recipe.points = 0: recipe: points must be": {
        **FIXED, "recipe": {"family": "onepfrac", "points": {"range": [0, 10]}}},
    "recipe:1.points = 0: recipe: points must be": {
        **FIXED, "recipe": {"choice": ["ofdb-1k", {"family": "onepfrac", "points": {"range": [0, 10]}}]}},
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_bad_space_is_refused_by_name_and_value(text):
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        Space(WRONG[text])


@pytest.mark.parametrize("text", ["", "[", "{", "nope", "[" * 100_000])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match="a space must be a JSON object"):
        Space.from_json(text)


def test_a_space_without_a_config_says_so(monkeypatch):
    space = Space({**FIXED, "seed": {"range": [0, 9]}})
    monkeypatch.setattr(gr.search.Config, "from_data", lambda data: (_ for _ in ()).throw(ValueError("seed is odd")))
    with pytest.raises(ValueError, match="the space has no config that is allowed: seed is odd"):
        space.random(0, 0)


def test_equal_spaces_are_equal():
    space = Space(TEMPLATE)
    assert space == Space(dict(reversed(TEMPLATE.items())))
    assert hash(space) == hash(Space(TEMPLATE))
    assert space.fingerprint == Space.from_json(space.to_json()).fingerprint
    assert space != Space(FIXED)
    assert space.fingerprint != Space(FIXED).fingerprint
    assert repr(Space(FIXED)) == 'Space({"model": "test_vit", "recipe": "onepfrac-1k"})'


def test_a_recipe_may_be_a_preset_with_other_parameters():
    config = Space({**FIXED, "recipe": {"preset": "onepfrac-1k", "delta": {"choice": [0.2, 0.3]}}}).random(0, 0)
    assert config.recipe == gr.recipe("onepfrac-1k", delta=(0.2, 0.3)[config.choices["recipe.delta"]])


def test_a_family_lists_its_parameters():
    space = whole_family("fractaldb", "test_vit")
    values = {parameter.name: parameter.values for parameter in space.parameters}
    assert values == {
        "recipe.classes": (500, 2000), "recipe.flips": (2, 4), "recipe.patches": (5, 20),
        "recipe.points": (100_000, 400_000), "recipe.variant": ("released", "paper"), "training.lr": (1e-4, 1e-2),
    }  # fmt: skip
    assert "instances" not in space.template["recipe"]  # they follow from patches and flips
    assert space.random(0, 0).recipe.family == "fractaldb"
    own = whole_family("ofdb-21k", "test_vit").template["recipe"]
    assert own["classes"] == {"log": [10_500, 42_000]}
    for family in sorted({gr.recipe(name).family for name in gr.presets()}):
        assert whole_family(family, "test_vit").random(0, 1).recipe.family == family
    with pytest.raises(ValueError, match=r"family must be one of .*, got 'fractal'"):
        whole_family("fractal", "test_vit")


def test_the_paper_s_studies_are_grids():
    """Tables 2 and 3, figures 2 and 3 of Exploring the Potential of Neural Dataset Search."""
    grids = {name: list(Space(template).grid()) for name, template in READY.items()}
    assert {name: len(configs) for name, configs in grids.items()} == {
        "nds-representation": 9, "nds-categories": 12, "nds-instances": 12}  # fmt: skip
    assert {(c.recipe.weights, c.recipe.image_size) for c in grids["nds-representation"]} == {
        (weights, side) for weights in ("small", "base", "large") for side in (256, 362, 512)}  # fmt: skip
    for name, field in (("nds-categories", "classes"), ("nds-instances", "instances")):
        found = {(getattr(config.recipe, field), config.model) for config in grids[name]}
        models = ("resnet18", "resnet50", "resnet152")
        assert found == {(count, model) for count in (512, 1024, 2048, 4096) for model in models}
    assert {config.recipe.classes for config in grids["nds-instances"]} == {1000}
    assert {config.preset for configs in grids.values() for config in configs} == {"fractaldb-resnet"}


def test_the_key_is_of_all_that_is_trained():
    config = Space(FIXED | {"recipe": RECIPES["choice"][1]}).random(0, 0)
    data = json.loads(config.to_json())
    changes = [
        {"recipe": {**data["recipe"], "points": 700}}, {"model": "test_resnet"}, {"preset": "deit"},
        {"training": {"lr": 0.1}}, {"seed": 1},
    ]  # fmt: skip
    keys = {gr.search.Config.from_data({**data, **change}).key for change in changes}
    assert len(keys | {config.key}) == 6
    assert gr.search.Config.from_data({**data, "choices": {"x": 1}}).key == config.key
    assert re.fullmatch("[0-9a-f]{64}", config.key)
