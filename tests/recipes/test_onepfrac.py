"""1p-frac's search for perturbations and their redrawing; its images are compared in test_fidelity.py."""

import json
import types

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.kernels.chaos_game import render_systems
from gpurender.recipes import ifs, onepfrac


@pytest.mark.parametrize(("draw_type", "expected"), [("patch_gray", [7, 7, 6]), ("patch_color", [3, 3, 3, 3, 3, 3, 2])])
def test_on_a_gpu_a_search_renders_as_many_classes_at_once_as_fit_its_bytes(monkeypatch, draw_type, expected):
    """Nine canvases of one channel, three of three."""
    sizes = []
    monkeypatch.setattr(onepfrac.dispatch, "on_host", lambda device: False)
    monkeypatch.setattr(onepfrac, "GPU_BATCH_BYTES", 9 * 32 * 32)
    monkeypatch.setattr(gr.OnePFrac, "_fill", lambda self, catalog, sparse, device: sizes.append(len(sparse)))
    catalog = types.SimpleNamespace(attempts=np.full(20, onepfrac.UNKNOWN))
    recipe = gr.OnePFrac(classes=20, image_size=32, draw_type=draw_type)
    recipe._find_attempts(catalog, np.arange(20), torch.device("cpu"))
    assert sizes == expected


BASE = [[0.5, 0.1, 0, 0.5, 0.3, 0.2], [0.5, 0, -0.2, 0.5, 0.5, 0.1], [0.4, 0, 0, 0.5, 0.25, 0.5]]
SMALL = {"classes": 30, "base": BASE, "points": 2000, "image_size": 48, "fill_rate": 0.0, "delta": 0.2}


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_a_redrawn_perturbation_is_uniform_around_that_of_the_class(variant):
    """In the hypercube with 1/L of the volume: with d = 18 parameters its sides are L^(-1/18) times as long."""
    recipe = gr.OnePFrac(redraw=True, variant=variant, **SMALL)
    renderer = gr.Renderer(recipe)
    renderer(7)
    catalog = renderer.catalog
    numbers = torch.arange(9000)
    systems = catalog.systems[torch.full((9000,), 7)]
    moved = recipe._redrawn(systems, catalog.reach, numbers)
    apart = (moved.maps.double() - systems.maps.double()).numpy()
    base = np.array(BASE)
    half = 0.2 * 30 ** (-1 / 18) * (np.abs(base) if variant == "released" else np.full_like(base, 0.5))
    assert (np.abs(apart) <= half + 1e-6).all()
    u = (apart / np.where(half > 0, half, 1))[:, half > 0]  # in [-1, 1)
    assert np.abs(u.mean(0)).max() < 0.03
    assert np.abs(u.std(0) - 3**-0.5).max() < 0.02
    assert np.abs(np.corrcoef(u.T) - np.eye(u.shape[1])).max() < 0.05
    assert (apart[:, half == 0] == 0).all()
    assert torch.equal(moved.thresholds, systems.thresholds)


def test_only_fresh_images_are_redrawn():
    plain, redrawn = (gr.Renderer(gr.OnePFrac(redraw=redraw, **SMALL)) for redraw in (False, True))
    samples = [3, 3, 17]
    assert torch.equal(plain(samples), redrawn(samples))
    assert torch.equal(plain(samples, 1, fresh=False), redrawn(samples, 1, fresh=False))
    first, second = redrawn(samples, 1), redrawn(samples, 2)
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, plain(samples, 1))
    numbers = torch.tensor(samples) + 2 * 30
    systems = redrawn.recipe._redrawn(redrawn.catalog.systems[torch.tensor(samples)], redrawn.catalog.reach, numbers)
    turned = torch.full((3,), ifs.UPSIDE_DOWN, dtype=torch.uint8)
    wanted = render_systems(
        systems, numbers, numbers, turned, seed=0, points=2000, size=48, **ifs.style("patch_gray", "random")
    )
    assert torch.equal(second, wanted)


def test_recipes_that_do_not_redraw_are_as_before():
    recipe = gr.OnePFrac()
    assert "redraw" not in json.loads(recipe.to_json())
    assert "redraw" not in recipe.canonical()
    other = gr.OnePFrac(redraw=True)
    assert other.fingerprint != recipe.fingerprint
    assert gr.Recipe.from_json(other.to_json()) == other
    for wrong, error in ((1, TypeError), ("yes", TypeError)):
        with pytest.raises(error, match=r"^redraw must "):
            gr.OnePFrac(redraw=wrong)
    with pytest.raises(ValueError, match=r"^redraw must be False with delta=0"):
        gr.OnePFrac(redraw=True, delta=0)


def test_a_search_gives_up_after_a_hundred_bases_and_a_thousand_perturbations(monkeypatch):
    """Each of another number; the error names what was tried."""
    tried = []
    dark = lambda self, systems, classes, device: np.zeros(len(classes), bool)  # noqa: E731
    monkeypatch.setattr(gr.OnePFrac, "_filled", dark)
    real = gr.OnePFrac._base
    monkeypatch.setattr(gr.OnePFrac, "_base", lambda self, number: tried.append(number) or real(self, number))
    with pytest.raises(
        ValueError, match=r"^fill_rate: none of 100 bases with sigma 3\.5 and 2 maps lights more than 0\.9 "
    ):
        gr.Renderer(gr.OnePFrac(fill_rate=0.9))(0)
    assert tried == list(range(100))
    tried.clear()
    given = types.SimpleNamespace(attempts=np.full(9, onepfrac.UNKNOWN), base=0)
    monkeypatch.setattr(
        gr.OnePFrac, "_systems", lambda self, base, classes, attempts: tried.append(attempts.tolist()) or torch.zeros(2)
    )
    monkeypatch.setattr(gr.OnePFrac, "_note", lambda *given: None)
    recipe = gr.OnePFrac(**SMALL | {"fill_rate": 0.9})
    with pytest.raises(ValueError, match=r"^fill_rate: class 5 never lights more than 0\.9 of the canvas in 1000 pert"):
        recipe._find_attempts(given, np.array([5, 7]), torch.device("cpu"))
    assert tried == [[attempt] * 2 for attempt in range(1000)]


def test_a_cpu_checks_sixteen_classes_at_once_and_shows_how_far_it_is(monkeypatch):
    sizes, bars = [], []

    class Bar:
        def __init__(self, **options):
            bars.append([options["total"], options["unit"]])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            bars[-1].append(count)

    monkeypatch.setattr(onepfrac, "progress", Bar)
    monkeypatch.setattr(gr.OnePFrac, "_fill", lambda self, catalog, sparse, device: sizes.append(len(sparse)))
    known = np.full(40, onepfrac.UNKNOWN)
    known[[3, 9]] = 0, 7
    recipe = gr.OnePFrac(**SMALL)
    recipe._find_attempts(types.SimpleNamespace(attempts=known), np.arange(35), torch.device("cpu"))
    assert sizes == [11, 11, 11]
    assert bars == [[33, "class", 11, 11, 11]]
    recipe._find_attempts(types.SimpleNamespace(attempts=known), np.array([3, 9]), torch.device("cpu"))
    assert (len(sizes), len(bars)) == (3, 1)
