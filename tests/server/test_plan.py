"""Plans: which experts a server gets, from recipes, a study or an image folder."""

import json

import numpy as np
import pytest

import gpurender as gr
from gpurender.server import plan
from gpurender.server.experts import Schooling
from tests.search.support import TEMPLATE, task
from tests.server.support import MODEL, pictures, recipe

pytest.importorskip("timm", reason="needs timm")
HOW = Schooling(model=MODEL, image_size=32)


def test_how_experts_are_trained_is_checked():
    assert (HOW.task, HOW.images, HOW.batch_size, HOW.lr, HOW.seed) == ("rotation", 200_000, 256, 1e-3, 0)
    for wrong, said in (
        ({"task": "sing"}, "task must be one of 'rotation', 'classify', got 'sing'"),
        ({"model": "resnet180"}, "model must be one of timm.list_models()"),
        ({"image_size": 0}, "image_size must be an integer in [1, "),
        ({"images": 0}, "images must be an integer in [1, 1125899906842624], got 0"),
        ({"batch_size": 0}, "batch_size must be an integer in [1, 2147483647], got 0"),
        ({"batch_size": 6}, "batch_size must be a multiple of 4 for rotations, got 6"),
        ({"lr": -1.0}, "lr must be a finite number in [0, 1e+06], got -1.0"),
        ({"seed": -1}, "seed must be an integer in [0, 18446744073709551615], got -1"),
    ):
        with pytest.raises(ValueError, match="must be") as caught:
            Schooling(**{"model": MODEL, **wrong})
        assert said in str(caught.value)
    assert Schooling(model=MODEL, task="classify", batch_size=6).batch_size == 6
    assert json.dumps(vars(Schooling(model=MODEL, images=np.int64(5))))  # Python's own numbers


def test_recipes(tmp_path):
    made = plan.planned([recipe(0), recipe(1)], None, None, HOW)
    assert list(made.recipes) == [f"visualatom-{recipe(i).fingerprint[:12]}" for i in range(2)]
    assert [gr.recipe(json.dumps(values)) for values in made.recipes.values()] == [recipe(0), recipe(1)]
    assert made.files is None
    assert made.seen == {}
    assert plan.planned("onepfrac-1k", None, None, HOW).recipes == plan.planned(["onepfrac-1k"], 1, None, HOW).recipes
    (tmp_path / "r.json").write_text(recipe().to_json())
    assert plan.planned([str(tmp_path / "r.json")], None, None, HOW).recipes.keys() == {plan.name_of(recipe())}


@pytest.mark.parametrize(
    ("given", "k", "partition", "said"),
    [
        ([], None, None, "sources must be 1 to 1024 recipes, got 0"),
        ([recipe(), recipe()], None, None, "sources must be recipes that differ, got"),
        ([recipe()], 2, None, "k must be 1, the number of recipes, or left out, got 2"),
        ([recipe()], 0, None, "k must be an integer in [1, 1024], got 0"),
        ([recipe()], None, "superclass", "partition is for an image folder, and must be left out for recipes, got 'su"),
        ([gr.Mixture({recipe(): 1})], None, None, "recipes must not be mixtures"),
        (["onepfrac-1q"], None, None, "did you mean 'onepfrac-1k'?"),
    ],
)
def test_wrong_recipes_are_refused(given, k, partition, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        plan.planned(given, k, partition, HOW)
    assert said in str(caught.value)


def test_an_image_folder(tmp_path):
    pictures(tmp_path, 6, classes=["x", "y"])
    made = plan.planned(tmp_path, 2, "superclass", HOW)
    assert made.files == {"folder": str(tmp_path), "k": 2, "partition": "superclass", "images": 6}
    assert made.recipes == {}
    assert plan.planned([str(tmp_path)], None, None, HOW).files["partition"] == "unsupervised"
    assert plan.planned([str(tmp_path)], None, None, HOW).files["k"] == 5
    with pytest.raises(ValueError, match="k must be at most 6, the images of "):
        plan.planned(tmp_path, 7, None, HOW)
    with pytest.raises(ValueError, match="partition must be one of 'superclass', 'unsupervised', got 'random'"):
        plan.planned(tmp_path, 2, "random", HOW)
    pictures(tmp_path, 1)
    with pytest.raises(ValueError, match="must have one subfolder per class for superclasses and for experts on"):
        plan.planned(tmp_path, 2, "superclass", HOW)
    with pytest.raises(ValueError, match="must have one subfolder per class"):
        plan.planned(tmp_path, 2, None, Schooling(model=MODEL, task="classify"))
    assert plan.planned(tmp_path, 2, None, HOW).files["images"] == 7


def test_a_preset_is_a_recipe_even_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "onepfrac-1k", 2)
    assert list(plan.planned(["onepfrac-1k"], None, None, HOW).recipes) == [plan.name_of(gr.recipe("onepfrac-1k"))]
    assert plan.planned(["./onepfrac-1k"], 2, None, HOW).files["images"] == 2


def study_of(tmp_path, scores):
    """A study with made-up scores on two tasks, on rung 0, of the first configs of its space."""
    tasks = {"a": task(tmp_path, "a"), "b": task(tmp_path, "b", shift=1)}
    template = {**TEMPLATE, "model": MODEL}
    made = gr.search.create(
        tmp_path / "study", gr.search.Space(template), tasks, ladder=gr.search.Ladder((32, 64)), configs=len(scores)
    )
    for name in ("configs", "results"):
        (made.root / name).mkdir()
    recipes = []
    for number, row in enumerate(scores):
        config = made.space.random(0, number)
        recipes.append(config.recipe)
        text = {"number": number, **json.loads(config.to_json())}
        (made.root / "configs" / f"{config.key}.json").write_text(json.dumps(text))
        figures = {name: {"score": x, "accuracy": 0.5} for name, x in zip("ab", row, strict=True)}
        values = {"rung": 0, "score": sum(row) / 2, "tasks": figures, "seconds": {}}
        (made.root / "results" / f"{config.key}.0.json").write_text(json.dumps(values))
    return made, recipes


def test_of_a_study_the_greedy_portfolio_is_taken(tmp_path):
    made, recipes = study_of(tmp_path, [(0.9, 0.1), (0.5, 0.7), (0.8, 0.61)])  # means 0.5, 0.6, 0.705
    found = plan.planned(made.root, 2, None, HOW)
    assert list(found.recipes) == [plan.name_of(recipes[2]), plan.name_of(recipes[0])]  # +0.05 against +0.045
    assert set(found.seen) == {"a", "b"}
    np.testing.assert_allclose(found.seen["a"]["gains"], np.array([0.8, 0.9]) - np.mean([0.9, 0.5, 0.8]))
    np.testing.assert_allclose(found.seen["b"]["gains"], np.array([0.61, 0.1]) - np.mean([0.1, 0.7, 0.61]))
    assert gr.tasks.Task.from_json(json.dumps(found.seen["a"]["task"])) == made.tasks["a"]
    assert plan.planned(made, 2, None, HOW) == found
    with pytest.raises(ValueError, match="has results of 3 recipes on its lowest rung, and k is 5: let it work longer"):
        plan.planned(made.root, None, None, HOW)
    with pytest.raises(ValueError, match="partition is for an image folder"):
        plan.planned(made.root, 2, "superclass", HOW)


def test_a_plan_of_a_study_that_goes_on_stays_as_it_was_begun(tmp_path):
    made, _ = study_of(tmp_path, [(0.9, 0.1), (0.5, 0.7), (0.8, 0.61)])
    first = plan.planned(made, 2, None, HOW)
    assert first.study == {"folder": str(made.root), "k": 2}
    plan.claim(tmp_path / "s", first)
    assert plan.Plan.of(tmp_path / "s") == first
    assert plan.Plan.of(tmp_path) is None
    for path in (made.root / "results").glob("*.json"):  # it has found something else since
        values = json.loads(path.read_text())
        values["tasks"]["a"]["score"] = 1.0 - values["tasks"]["a"]["score"]
        path.write_text(json.dumps(values))
    grown = gr.search.Study(made.root)
    there = plan.Plan.of(tmp_path / "s")
    assert plan.planned(grown, 2, None, HOW) != first
    assert plan.planned(grown, 2, None, HOW, there) == first
    assert len(plan.planned(grown, 3, None, HOW, there).recipes) == 3
    other = Schooling(model=MODEL)
    assert plan.planned(grown, 2, None, other, there).schooling == other
    (tmp_path / "s" / "plan.json").write_text(json.dumps({**first.values(), "schooling": {"task": "sing"}}))
    with pytest.raises(ValueError, match=r"output: '.*plan\.json' is damaged: task must be one of"):
        plan.Plan.of(tmp_path / "s")


def test_recipes_that_no_mixture_takes_are_left_out_of_a_portfolio(tmp_path, monkeypatch):
    made, recipes = study_of(tmp_path, [(0.9, 0.1), (0.5, 0.7), (0.8, 0.61)])
    right = plan.check_recipe

    def refused(found):
        if found == recipes[2]:
            raise ValueError("it is a mixture")
        return right(found)

    monkeypatch.setattr(plan, "check_recipe", refused)
    assert set(plan.planned(made, 2, None, HOW).recipes) == {plan.name_of(recipes[0]), plan.name_of(recipes[1])}


def test_of_rungs_the_highest_with_enough_recipes_counts(tmp_path):
    made, recipes = study_of(tmp_path, [(0.9, 0.1), (0.5, 0.7), (0.8, 0.61)])
    for number in (0, 1):
        path = next((made.root / "results").glob(f"{made.space.random(0, number).key}.0.json"))
        values = json.loads(path.read_text()) | {"rung": 1}
        (made.root / "results" / path.name.replace(".0.json", ".1.json")).write_text(json.dumps(values))
    two = plan.planned(made.root, 2, None, HOW)
    assert set(two.recipes) == {plan.name_of(recipes[0]), plan.name_of(recipes[1])}
    np.testing.assert_allclose(sum(two.seen["a"]["gains"]), 0.0, atol=1e-12)
    assert len(plan.planned(made.root, 3, None, HOW).recipes) == 3


def test_a_folder_is_claimed_once(tmp_path):
    first = plan.planned([recipe(0), recipe(1)], None, None, HOW)
    root = tmp_path / "deep" / "server"
    plan.claim(root, first)
    plan.claim(root, first)
    assert json.loads((root / "plan.json").read_text()) == json.loads(json.dumps(first.values()))
    with pytest.raises(ValueError, match=r"is a server with another recipes: .*; choose another folder, or give"):
        plan.claim(root, plan.planned([recipe(0)], None, None, HOW))
    with pytest.raises(ValueError, match="is a server with another schooling: "):
        plan.claim(root, plan.planned([recipe(0), recipe(1)], None, None, Schooling(model=MODEL)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match=r"output: folder '.*full' must be new, empty or a server; it has files"):
        plan.claim(tmp_path / "full", first)
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / ".gpurender-unfinished-1").write_text("")
    plan.claim(tmp_path / "left", first)
    with pytest.raises(ValueError, match=r"output: folder '.*/x' cannot be made: Not a directory"):
        plan.claim(tmp_path / "full" / "thesis.txt" / "x", first)
