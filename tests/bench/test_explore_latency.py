"""What bench.explore_latency asks for, and how it states what it has measured."""

import json

import pytest

pytest.importorskip("starlette", reason="needs starlette, of the extra 'serve'")
pytest.importorskip("httpx", reason="needs httpx, with which Starlette tests")

from bench import explore_latency
from gpurender.commands.explorer.asked import Asked
from gpurender.recipes.base import presets


@pytest.mark.parametrize("base", [*presets(), *explore_latency.OTHERS])
def test_every_request_is_another_recipe_of_the_stated_size(base):
    recipes = [Asked.of(base, explore_latency.changed(base, number)).recipe for number in range(4)]
    assert len({recipe.to_json() for recipe in recipes}) == 4
    assert {recipe.image_size for recipe in recipes} == {512}


def test_a_picture_is_asked_for_with_other_thresholds_each_time():
    sets = [explore_latency.changed("singleimage", number) for number in (0, 8)]
    assert [json.loads(each["thresholds"]) for each in sets] == [[0.1, 0.2], [0.1, pytest.approx(0.208)]]


def test_times_are_stated_as_medians_and_the_slowest():
    times = [(10.04, 1.0), (30.06, 3.0), (20.05, 2.26)]
    assert explore_latency.row("x", times) == {"recipe": "x", "median_ms": 20.1, "slowest_ms": 30.1, "cpu_ms": 2.3}
