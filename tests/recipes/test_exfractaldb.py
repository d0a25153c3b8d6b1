"""ExFractalDB, MV-FractalDB, 3D-OFDB: the released and the papers' rules, the search, parameter files."""

import functools

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.numerics.streams import Stream
from gpurender.recipes import exfractaldb
from gpurender.recipes.exfractaldb import TETRAHEDRON, candidates, weight_set
from gpurender.util import disk_cache
from tests.support.released_space import (
    normalised,
    photograph,
    random_system,
    rotation,
    searched,
    space_game,
    windows,
)
from tests.support.two_sample import same_law

CPU = torch.device("cpu")
ONES = [1.0] * 12
IMAGES = 80  # of each side; also made with 400
LITTLE = {"points": 300, "image_size": 32}


def tetrahedron(**parameters):
    return gr.ExFractalDB(**{"categories": [TETRAHEDRON], "weights": [ONES]} | LITTLE | parameters)


# ------------------------------------------------------------------------------------------------- numbers and orders


def test_the_presets_are_the_published_sizes():
    for name, classes, instances in (
        ("exfractaldb-1k", 1000, 1740), ("exfractaldb-21k", 21_000, 1740), ("mv-fractaldb-1k", 1000, 1740),
        ("3d-ofdb-1k", 1000, 1), ("3d-ofdb-21k", 21_000, 1),
    ):  # fmt: skip
        recipe = gr.recipe(name)
        assert (recipe.classes, recipe.instances) == (classes, instances)
        assert (recipe.image_size, recipe.points, recipe.variance_threshold) == (224, 10_000, 0.05)
    assert gr.recipe("exfractaldb-1k", variant="paper").instances == 1000
    assert gr.recipe("mv-fractaldb-1k", variant="paper").instances == 145 * 12
    assert gr.recipe("3d-ofdb-1k").factors() == ((0.4, *[1.0] * 11),)
    assert gr.recipe("3d-ofdb-1k", variant="paper").factors() == ((1.0,) * 12,)


def test_the_weights_are_those_of_the_released_file():
    """145 rows: 13 factors of a, then 12 of every other parameter; the last of i is 0.6 again."""
    rows = np.array(weight_set("released"))
    assert rows.shape == (145, 12)
    assert (rows[6] == 1).all()
    assert ((rows != 1).sum(axis=1) == 1).sum() == 144
    assert rows[:13, 0].tolist() == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    for parameter in range(1, 12):
        own = rows[1 + 12 * parameter : 13 + 12 * parameter, parameter].tolist()
        last = 0.6 if parameter == 8 else 1.6
        assert own == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4, 1.5, last]
    paper = np.array(weight_set("paper"))
    assert paper[108, 8] == 1.6
    assert (paper != rows).sum() == 1


def test_instances_go_weight_by_weight_and_in_the_paper_view_by_view():
    released, paper = gr.ExFractalDB(), gr.ExFractalDB(variant="paper")
    assert [released._places(i) for i in (0, 11, 12, 1739)] == [(0, 0), (0, 11), (1, 0), (144, 11)]
    assert [paper._places(i) for i in (0, 144, 145, 999)] == [(0, 0), (144, 0), (0, 1), (129, 6)]
    assert gr.recipe("3d-ofdb-1k", weights="all")._places(144) == (144, 0)


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("viewpoints", ["random", "fixed"])
def test_the_views_of_a_shape_show_the_same_points(viewpoints, variant):
    """The images are those of the instance's own weight, and points are shared by its views and no other images."""
    weights = [ONES, [0.4, *ONES[1:]]]
    recipe = tetrahedron(weights=weights, views=3, viewpoints=viewpoints, variant=variant, categories=[TETRAHEDRON] * 2)
    calls = []
    real = exfractaldb.render_clouds

    def noted(systems, draw_ids, cameras, **keywords):
        calls.append((systems.maps[:, 0, 0].tolist(), draw_ids.tolist()))
        return real(systems, draw_ids, cameras, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exfractaldb, "render_clouds", noted)
        gr.Renderer(recipe)(list(range(12)))
        gr.Renderer(recipe)(list(range(12)), fresh=True)
    (first, ids), (again, own) = calls
    by_view = (variant, viewpoints) == ("paper", "random")
    order = [0, 1] * 3 if by_view else [0, 0, 0, 1, 1, 1]
    assert first == again == [np.float32(0.2) if weight else 0.5 for weight in order * 2]
    shapes = [(image // 6, weight) for image, weight in enumerate(order * 2)]
    assert len(set(ids)) == len(set(zip(ids, shapes, strict=True))) == 4
    assert own == list(range(12))


# --------------------------------------------------------------------------------------------------------- the camera


def azimuths(recipe, instances, draw_ids):
    view = recipe._places(torch.as_tensor(instances))[1]
    return recipe._azimuths(view, torch.as_tensor(draw_ids)).double().numpy() * 360 / 2**32


def test_fixed_viewpoints_are_a_ring_with_the_released_jitter():
    recipe = tetrahedron(viewpoints="fixed", views=12)
    instances = np.tile(np.arange(12), 500)
    found = azimuths(recipe, instances, np.arange(6000))
    jitter = (found - (30 * instances + 30) + 180) % 360 - 180
    assert np.abs(jitter).max() <= np.pi
    same_law(jitter, np.random.default_rng(0).uniform(-np.pi, np.pi, 6000), "degrees of jitter")
    paper = azimuths(tetrahedron(viewpoints="fixed", variant="paper"), np.arange(12), np.arange(12))
    assert np.abs(paper - (30 * np.arange(12) + 30)).max() < 1e-6
    seven = azimuths(tetrahedron(viewpoints="fixed", variant="paper", views=7), np.arange(7), np.arange(7))
    assert np.abs(seven - (360 / 7 * np.arange(7) + 30)).max() < 1e-6


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_random_viewpoints_are_any_azimuth(variant):
    found = azimuths(tetrahedron(variant=variant), np.zeros(6000, int), np.arange(6000))
    same_law(found, np.random.default_rng(1).uniform(0, 360, 6000), "degrees of azimuth")


def test_a_fresh_epoch_draws_one_of_the_views_of_3d_ofdb():
    recipe = tetrahedron(viewpoints="drawn")
    found = azimuths(recipe, np.zeros(6000, int), np.arange(6000))
    views = np.rint((found - 30) / 30).astype(int) % 12
    same_law(views, np.random.default_rng(2).integers(0, 12, 6000), "drawn views")
    jitter = (found - 30 * views - 30 + 180) % 360 - 180
    assert np.abs(jitter).max() <= np.pi
    renderer = gr.Renderer(recipe)
    assert torch.equal(renderer(0, fresh=False), renderer(0))
    epochs = torch.cat([renderer(0, epoch, fresh=True) for epoch in range(8)])
    assert len(epochs.flatten(1).unique(dim=0)) == 8


def test_the_cameras_are_those_of_the_azimuths(monkeypatch):
    """What the kernel gets: cosine and sine of the released angle."""
    found = []
    real = exfractaldb.render_clouds
    monkeypatch.setattr(exfractaldb, "render_clouds", lambda s, i, c, **k: found.append(c) or real(s, i, c, **k))
    recipe = tetrahedron(viewpoints="fixed", variant="paper")
    gr.Renderer(recipe)(list(range(12)))
    theta = np.radians(30 * np.arange(12) + 30)
    assert np.abs(found[0].numpy() - np.stack([np.cos(theta), np.sin(theta)], axis=1)).max() < 1e-7


def test_the_reference_camera_sees_what_opengl_sees():
    """Points whose place is known without matrices: the axis of view, right, up, and depth."""
    theta = 0.7
    forward = rotation(theta) @ [1, 0, 0]
    right = np.cross(forward, [0, 1, 0])
    seen = windows(np.array([0 * forward, 0.5 * right, [0, 0.5, 0], forward]), theta, 200)
    step = 100 * 0.5 / (4 * np.tan(np.radians(22.5)))
    assert np.allclose(seen[:, :2], [[100, 100], [100 + step, 100], [100, 100 + step], [100, 100]])
    assert seen[3, 2] > seen[0, 2]
    image = photograph(np.array([[0, 0.5, 0]]), theta, 200)
    assert np.argwhere(image).tolist() == [[int(100 + step), 100]]


# ------------------------------------------------------------------------------------------- against the released rules


def statistics(images):
    """Ink, extent and centre of images, by name; images  # [N, S, S] bool."""
    size = images.shape[1]
    lit = [np.argwhere(image) for image in images]
    return {
        "ink": images.mean(axis=(1, 2)),
        "rows": np.array([np.ptp(found[:, 0]) for found in lit]) / size,
        "columns": np.array([np.ptp(found[:, 1]) for found in lit]) / size,
        "centre row": np.array([found[:, 0].mean() for found in lit]) / size,
        "centre column": np.array([found[:, 1].mean() for found in lit]) / size,
        "spread of rows": np.array([found[:, 0].std() for found in lit]) / size,
        "neighbours": np.array([(image[1:] & image[:-1]).sum() / image.sum() for image in images]),
    }


def ours(count, seed, viewpoints):
    """One image of each of the first categories, of weight after weight and any view."""
    recipe = gr.ExFractalDB(classes=count, seed=seed, viewpoints=viewpoints)
    rng = np.random.default_rng(seed)
    samples = np.arange(count) * recipe.instances + rng.integers(0, recipe.instances, count)
    return gr.Renderer(recipe)(samples)[:, 0].numpy() > 0


@functools.cache
def published_categories(count, seed):
    return searched(count, np.random.default_rng(seed + 500))


def theirs(count, seed, viewpoints):
    """The same by the released programs' rules, their search included."""
    rng = np.random.default_rng(seed + 1000)
    weights, images = np.array(weight_set("released")), []
    for maps, cumulative in published_categories(count, seed)[0]:
        with np.errstate(over="ignore", invalid="ignore"):
            points = normalised(space_game(maps * weights[rng.integers(145)], cumulative, rng.random(10_000)))
        if viewpoints == "random":
            theta = rng.uniform(0, 2 * np.pi)
        else:
            theta = 2 * np.pi * rng.integers(12) / 12 + np.radians(30) + np.radians(rng.uniform(-np.pi, np.pi))
        images.append(photograph(points.astype(np.float32).astype(float), theta, 224) > 0)
    return np.array([image for image in images if image.any()])


@pytest.mark.parametrize("viewpoints", ["random", "fixed"])
def test_images_are_distributed_as_the_released_ones(viewpoints):
    mine, released = (statistics(draw(IMAGES, 7, viewpoints)) for draw in (ours, theirs))
    for name, values in mine.items():
        same_law(values, released[name], f"{viewpoints}: {name}")


def test_the_search_accepts_as_often_and_as_much_as_the_released_one():
    """Number of maps and acceptance of 12,000 candidates each; every accepted one is wide in a float64 game as well."""
    rng = np.random.default_rng(3)
    recipe = gr.ExFractalDB(classes=1, seed=3)
    found = np.array(recipe._accepted(np.arange(12_000), CPU))
    maps, probabilities, counts = candidates(3, found)
    theirs, tried = published_categories(IMAGES, 7)
    assert len(found) / 12_000 == pytest.approx(0.0113, rel=0.25)
    assert len(theirs) / tried == pytest.approx(0.0113, rel=0.3)
    same_law(counts, [len(system[0]) for system in theirs], "maps of accepted systems")
    for system, p, count in zip(maps[:60], probabilities[:60], counts[:60], strict=True):
        points = normalised(space_game(system[:count], np.cumsum(p[:count]), rng.random(10_000)))
        assert points.var(axis=0).min() > 0.03


def test_candidates_are_drawn_by_the_released_rule():
    maps, probabilities, counts = candidates(5, np.arange(4000))
    assert np.bincount(counts, minlength=8)[2:].min() > 550
    assert counts.max() == 7
    used = maps[np.arange(7) < counts[:, None]]
    assert not maps[np.arange(7) >= counts[:, None]].any()
    same_law(used.ravel()[::7], np.random.default_rng(0).uniform(-1, 1, used.size // 7), "parameters")
    shares = np.abs(np.linalg.det(maps[..., :9].reshape(4000, 7, 3, 3)))
    assert np.allclose(probabilities, shares / shares.sum(axis=1, keepdims=True))
    theirs = [random_system(np.random.default_rng(n))[1][0] for n in range(4000)]
    same_law(probabilities[:, 0], theirs, "probability of the first map")
    assert len(set(Stream)) == len(Stream)


# --------------------------------------------------------------------------------------------------------- the search


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("own_cache")
def test_an_interrupted_search_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(exfractaldb, "SEARCH_BATCH", 256)
    real, calls = exfractaldb.moments, []

    def stopped(systems, draw_ids, **keywords):
        calls.append(int(draw_ids[0]) & (2**63 - 1))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(systems, draw_ids, **keywords)

    recipe = gr.ExFractalDB(classes=20, seed=11)
    assert recipe.needs_search()
    monkeypatch.setattr(exfractaldb, "moments", stopped)
    with pytest.raises(KeyboardInterrupt):
        gr.Renderer(recipe)(0)
    kept = disk_cache.load("exfractaldb", recipe._search_key)
    assert kept
    assert kept[-1] < 1024
    assert recipe.needs_search()
    image = gr.Renderer(recipe)(recipe.instances * 19)
    found = disk_cache.load("exfractaldb", recipe._search_key)
    assert found[: len(kept)] == kept
    assert len(found) >= 20
    assert calls[5] <= 1024 < calls[6] + 1  # begins with the batch of the last category found
    monkeypatch.setattr(exfractaldb, "moments", lambda *_, **__: pytest.fail("searched twice"))
    assert torch.equal(gr.Renderer(recipe)(recipe.instances * 19), image)
    fewer = gr.recipe("mv-fractaldb-1k", classes=3, seed=11)  # the same search
    assert not fewer.needs_search()
    gr.Renderer(fewer)(0)


@pytest.mark.usefixtures("own_cache")
def test_the_batch_does_not_change_what_is_found(monkeypatch):
    wanted = gr.ExFractalDB(classes=12, seed=2)._search(CPU).ids(12)[:12]
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
    monkeypatch.setattr(exfractaldb, "SEARCH_BATCH", 100)
    assert gr.ExFractalDB(classes=12, seed=2)._search(CPU).ids(12)[:12] == wanted


@pytest.mark.usefixtures("own_cache")
def test_a_search_that_cannot_succeed_ends(monkeypatch):
    monkeypatch.setattr(exfractaldb, "SEARCH_LIMIT", 3000)
    with pytest.raises(
        ValueError, match=r"^variance_threshold: none of 3000 random systems .* above 0\.9 on every axis"
    ):
        gr.Renderer(gr.ExFractalDB(classes=1, variance_threshold=0.9))(0)


def test_the_threshold_itself_is_not_enough(monkeypatch):
    """var > threshold, as released, on every axis and of a whole game."""
    half = np.array([9999, *[9999 * 2**19] * 3, *[9999 * (2**38 + 2**34)] * 3])  # 2^34 (2 / 2^20)^2 = 1/16
    short, narrow, flat = half.copy(), half.copy(), half.copy()
    short[0], narrow[5] = 9998, 9999 * (2**38 + 2**33)
    flat[4] = 9999 * 2**38
    rows = torch.from_numpy(np.stack([half, short, narrow, flat, 0 * half]))
    monkeypatch.setattr(exfractaldb, "moments", lambda *_, **__: rows)
    for threshold, wanted in ((0.0625, []), (0.0624, [10]), (0.0, [10, 12])):
        assert gr.ExFractalDB(variance_threshold=threshold)._accepted(np.arange(10, 15), CPU) == wanted


# ---------------------------------------------------------------------------------------------------- values and files


def test_fingerprint_changes_if_and_only_if_an_image_could():
    one = gr.ExFractalDB().fingerprint
    changes = {
        "viewpoints": "fixed", "variant": "paper", "points": 9999, "views": 11, "weights": "one", "seed": 1,
        "variance_threshold": 0.06, "image_size": 225, "classes": 999, "instances": 1739,
    }  # fmt: skip
    others = {gr.ExFractalDB(**{name: value}).fingerprint for name, value in changes.items()}
    assert len({one, *others}) == len(changes) + 1
    assert gr.ExFractalDB(weights=weight_set("released")).fingerprint == one
    assert gr.ExFractalDB(weights=weight_set("paper")).fingerprint != one
    assert tetrahedron(views=5, instances=4).fingerprint == tetrahedron(views=4, instances=4).fingerprint
    fixed = {"viewpoints": "fixed", "instances": 4}
    assert tetrahedron(views=5, **fixed).fingerprint != tetrahedron(views=4, **fixed).fingerprint
    assert tetrahedron(views=5, viewpoints="drawn").fingerprint != tetrahedron(views=4, viewpoints="drawn").fingerprint
    unused = tetrahedron(weights=[ONES, [0.5] * 12], instances=12)
    assert unused.fingerprint == tetrahedron().fingerprint
    one_view = {"viewpoints": "fixed", "instances": 1}
    assert tetrahedron(views=5, **one_view).fingerprint == tetrahedron(views=4, **one_view).fingerprint
    two = {"weights": [ONES, [0.5] * 12], "instances": 6}
    for variant, same in (("released", False), ("paper", True)):  # the paper goes through the weights first
        views = [tetrahedron(views=views, variant=variant, **two).fingerprint for views in (4, 5)]
        assert (views[0] == views[1]) == same
    for more in (two, {"viewpoints": "fixed"}, {"viewpoints": "drawn"}):  # another order, or a camera without jitter
        assert tetrahedron(**more).fingerprint != tetrahedron(variant="paper", **more).fingerprint
    assert tetrahedron(**two | {"instances": 1}, variant="paper").fingerprint == tetrahedron(instances=1).fingerprint
    shares = [[*row, 0.25] for row in TETRAHEDRON]
    assert tetrahedron(categories=[shares]).fingerprint == tetrahedron().fingerprint
    assert tetrahedron(categories=[[*shares, [*ONES, 0.0]]]).fingerprint == tetrahedron().fingerprint


BAD = [
    ({"viewpoints": "anywhere"}, ValueError, "viewpoints"),
    ({"views": 0}, ValueError, "views"),
    ({"variant": np.zeros((2, 6))}, TypeError, "^variant must be one of"),  # found by trials.fuzz
    ({"points": 1}, ValueError, "points"),
    ({"points": 10**7}, ValueError, "points"),
    ({"instances": 1741}, ValueError, "instances must be at most weights x views = 145 x 12 = 1740, got 1741"),
    ({"viewpoints": "drawn", "instances": 146}, ValueError, "instances must be at most one per weight = 145"),
    ({"weights": "base"}, ValueError, "weights"),
    ({"weights": [[1.0] * 6]}, ValueError, "weights"),
    ({"weights": [[float("nan")] * 12]}, ValueError, "weights"),
    ({"variance_threshold": -0.1}, ValueError, "variance_threshold"),
    ({"variance_threshold": float("nan")}, ValueError, "variance_threshold"),
    ({"categories": []}, ValueError, "categories"),
    ({"categories": 7}, TypeError, "categories"),
    ({"categories": [TETRAHEDRON], "variance_threshold": 0.05}, ValueError, "variance_threshold must be left out"),
    ({"categories": [[[0.0] * 12]]}, ValueError, "probabilities must not all be 0 .*det. of the 3 x 3"),
    ({"categories": [[[*ONES, -1.0]]]}, ValueError, "a probability p must be >= 0"),
    ({"categories": [[[1e300] * 12]]}, ValueError, r"categories\[0\]"),
    ({"categories": [TETRAHEDRON], "classes": 2}, ValueError, "classes"),
    ({"vews": 3}, TypeError, "did you mean 'views'"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), BAD)
def test_wrong_parameters_are_named(parameters, error, message):
    with pytest.raises(error, match=message) as caught:
        gr.ExFractalDB(**parameters)
    assert "\n" not in str(caught.value)


def published(folder, count=3):
    """Files as the released search writes them."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for n in range(count):
        maps, cumulative = random_system(rng)
        table = np.c_[maps, np.diff(cumulative, prepend=0.0)]
        np.savetxt(folder / f"{n:06d}.csv", table, delimiter=",")
    return folder


def test_published_files_are_read(tmp_path):
    folder = published(tmp_path / "params")
    recipe = gr.ExFractalDB.from_csv(folder, viewpoints="fixed")
    assert (recipe.classes, recipe.instances) == (3, 1740)
    rng = np.random.default_rng(1)
    for rows in recipe.categories:
        maps, cumulative = random_system(rng)
        assert np.allclose(np.array(rows)[:, :12], maps, rtol=0, atol=0)
        assert np.allclose(np.array(rows)[:, 12].cumsum(), cumulative)
    assert gr.recipe(recipe.to_json()) == recipe
    np.savetxt(tmp_path / "weights.csv", np.array(weight_set("released")), delimiter=",", fmt="%g")
    same = gr.ExFractalDB.from_csv(folder, weights=tmp_path / "weights.csv", viewpoints="fixed")
    assert same.fingerprint == recipe.fingerprint
    assert gr.ExFractalDB.from_csv(folder, weights=str(tmp_path / "weights.csv")).weights == weight_set("released")
    assert gr.ExFractalDB.from_csv(folder, weights="one").instances == 12
    with pytest.raises(TypeError, match="variance_threshold must be left out"):
        gr.ExFractalDB.from_csv(folder, variance_threshold=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table of 1 to"),
        ("1,2,3\n", "line 1: expected 13 comma-separated numbers, got '1,2,3'"),
        (",".join(["0.5"] * 12) + "\n", r"line 1: expected 13 .* \(12 are instance weights"),
        (",".join(["0.5"] * 12 + ["x"]) + "\n", "line 1: expected 13 comma-separated numbers"),
        (",".join(["0.5"] * 12 + ["0.4"]) + "\n", r"probabilities \(column 13\) must sum to 1, got 0\.4"),
        (",".join(["nan"] + ["0.5"] * 11 + ["1"]) + "\n", "finite number"),
        (",".join(["0.5"] * 12 + ["2"]) + "\n" + ",".join(["0.5"] * 12 + ["-1"]) + "\n", "p must be >= 0, got -1"),
        ("\xff\xfe", "cannot be read"),
    ],
)
def test_malformed_files_are_named(tmp_path, text, message):
    folder = published(tmp_path / "params")
    (folder / "000001.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        gr.ExFractalDB.from_csv(folder)
    assert "000001.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_diverging_and_degenerate_categories_render():
    """Every category that the constructor accepts renders: what diverges, what is one point, what is huge or tiny."""
    growing = [[*(1.6 * np.eye(3)).ravel(), 1, 1, 1], [*(-1.5 * np.eye(3)).ravel(), 0, 1, 0]]
    point = [[*np.zeros(9), 1, 2, 3, 1.0]]
    huge = [[*(1e6 * np.eye(3)).ravel(), 1e6, 1e6, 1e6]]
    tiny = [[*(1e-6 * np.eye(3)).ravel(), 1e-30, 0, 0]]
    still = [[*np.zeros(9), 0, 0, 0, 1.0]]
    recipe = gr.ExFractalDB(categories=[growing, point, huge, tiny, still], weights=[ONES], views=1, **LITTLE)
    ink = (gr.Renderer(recipe)(list(range(5))) > 0).flatten(1).sum(1).tolist()
    assert ink[1:] == [1, *ink[2:3], 1, 1]
    assert 1 <= ink[2] <= 9
    assert 1 <= ink[0] <= 40


def test_one_weight_is_the_same_in_both_variants():
    both = [
        gr.ExFractalDB(
            categories=[TETRAHEDRON], weights=[[1.0] * 12], instances=5, points=500, image_size=40, variant=variant
        )
        for variant in ("released", "paper")
    ]
    assert torch.equal(*(gr.Renderer(recipe)(range(5)) for recipe in both))
    assert both[0].fingerprint == both[1].fingerprint


def test_a_search_asks_for_more_candidates_at_once_on_a_gpu(monkeypatch):
    recipe = gr.ExFractalDB()
    assert (recipe._search(CPU).batch, recipe._search(CPU).limit) == (1024, 50_000)
    monkeypatch.setattr(exfractaldb.dispatch, "on_host", lambda device: False)
    assert recipe._search(CPU).batch == 8192
