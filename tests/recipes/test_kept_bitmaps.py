"""Bitmaps that repeat are kept within a budget, and change no image: on a CPU, where each is kept when first wanted."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.kernels.chaos_game import mask_bitmaps, masked_occupancy, occupancy, render_bitmaps
from gpurender.recipes import ifs
from gpurender.runtime import free_memory
from tests.golden import TRIANGLE

SPIRAL = ((0.7, -0.6, 0.6, 0.7, 0.1, 0.0), (0.3, 0.0, 0.0, 0.3, 0.5, 0.2))
BITMAP = 48 * 2 * 4  # bytes of one of 48 x 48
POINTS = {"points": 500, "image_size": 48}
RECIPES = {
    "onepfrac": gr.OnePFrac(classes=7, base=TRIANGLE, fill_rate=0.0, **POINTS),
    "instances": gr.OnePFrac(classes=3, instances=5, base=TRIANGLE, fill_rate=0.0, **POINTS),
    "fill": gr.OnePFrac(classes=3, base=TRIANGLE, fill_rate=0.0, mask_mode="fill", **POINTS),
    "single": gr.OnePFrac(classes=3, base=TRIANGLE, fill_rate=0.0, draw_type="point_gray", **POINTS),
    "fractaldb": gr.FractalDB(categories=[TRIANGLE, SPIRAL], weights="base", patches=2, **POINTS),
    "odd": gr.FractalDB(categories=[TRIANGLE, SPIRAL], patches=3, flips=4, instances=17, **POINTS),
    "three flips": gr.FractalDB(categories=[TRIANGLE, SPIRAL], patches=3, flips=3, instances=20, **POINTS),
    "ofdb": gr.OFDB(categories=[TRIANGLE, SPIRAL], instances=5, **POINTS),
    "tail": gr.FractalDB(categories=[TRIANGLE, SPIRAL], patches=3, instances=24, class_prior=4, **POINTS),
}
# systems, and images that are not flips of each other
COUNTS = {
    "onepfrac": (7, 7), "instances": (3, 15), "fill": (3, 3), "single": (3, None), "fractaldb": (50, 100),
    "odd": (50, 10), "three flips": (50, 14), "ofdb": (2, 10),
    "tail": (50, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0, 3.0])
def test_what_is_kept_changes_no_image(name, share):
    """Batches at random, with samples twice, of several epochs, with and without fresh randomness."""
    recipe, rng = RECIPES[name], np.random.default_rng(5)
    systems, images = COUNTS[name]
    budget = int(share * BITMAP * (images or systems))
    keeping, plain = gr.Renderer(recipe, cache_bytes=budget), gr.Renderer(recipe, cache_bytes=0)
    for _ in range(6):
        samples = rng.integers(0, len(recipe), 9)
        for epoch, fresh in ((0, False), (2, False), (0, True), (1, None)):
            found, wanted = (each(samples, epoch=epoch, fresh=fresh) for each in (keeping, plain))
            assert torch.equal(found, wanted), (epoch, fresh)
    kept = keeping.catalog.bitmaps
    assert kept.nbytes <= budget
    assert (kept.images is not None) == (images is not None and share >= 1)
    assert plain.catalog.bitmaps.nbytes == 0


@pytest.mark.parametrize("name", ["instances", "fractaldb", "odd", "three flips"])
def test_every_image_is_right_and_each_is_computed_once(name, monkeypatch):
    recipe, computed = RECIPES[name], []
    real = ifs.occupancy
    monkeypatch.setattr(
        ifs, "occupancy", lambda systems, *rest, **more: computed.append(len(systems)) or real(systems, *rest, **more)
    )
    renderer = gr.Renderer(recipe)
    first = renderer(range(len(recipe)))
    systems = {"instances": 3, "fractaldb": 50, "odd": 4, "three flips": 6}[name]  # whose images share their points
    assert sum(computed) == systems
    assert renderer.catalog.bitmaps.images.known.sum() == COUNTS[name][1]
    assert torch.equal(renderer(range(len(recipe))), first)
    assert sum(computed) == systems, "nothing is drawn twice"
    assert torch.equal(gr.Renderer(recipe, cache_bytes=0)(range(len(recipe))), first)


VARIANTS = {
    **RECIPES,
    "color": gr.FractalDB(categories=[TRIANGLE], draw_type="patch_color", **POINTS),
    "paper": gr.FractalDB(categories=[TRIANGLE], variant="paper", **POINTS),
    "onepfrac paper": gr.OnePFrac(classes=3, base=TRIANGLE, fill_rate=0.0, variant="paper", **POINTS),
    "atoms": gr.VisualAtom.smallest(),
    "mixture": gr.Mixture({RECIPES["onepfrac"]: 1, RECIPES["fractaldb"]: 1, gr.VisualAtom.smallest(): 1}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_recipe_says_what_is_kept_of_it(name):
    """At and around every budget that matters, without rendering."""
    recipe = VARIANTS[name]
    parts = 3 if name == "mixture" else 1
    budgets = {parts * (BITMAP * count + more) for count in (0, 7, *COUNTS.get(name, ())) if count for more in (-1, 0)}
    for budget in (0, *budgets, 1 << 30):
        renderer = gr.Renderer(recipe, cache_bytes=budget)
        assert renderer.kept_bytes == 0
        renderer(range(len(recipe)))
        catalog = renderer.catalog
        tables = [made.bitmaps for made in getattr(catalog, "made", [catalog]) if hasattr(made, "bitmaps")]
        assert recipe.kept_bytes(budget) == sum(table.nbytes for table in tables)
        assert renderer.kept_bytes == sum(
            (table.rows[0].nbytes * int(table.known.sum()))
            for bitmaps in tables
            for table in (bitmaps.images, bitmaps.points)
            if table is not None
        )
    assert (recipe.kept_bytes(1 << 30) > 0) == (name in {*RECIPES, "mixture"})


def test_by_default_the_budget_is_the_share_of_what_is_free_at_the_first_image(monkeypatch):
    recipe, free = RECIPES["onepfrac"], 4 * 7 * BITMAP
    monkeypatch.setattr(free_memory, "of_host", lambda: free)
    made = gr.Renderer(recipe), gr.Dataset(recipe), gr.DataLoader(recipe, batch_size=7, image_size=48)
    free -= 1
    renderer, dataset, loader = made
    assert torch.equal(renderer([3]), gr.Renderer(recipe, cache_bytes=0)([3]))
    next(iter(loader))
    dataset[3]
    free = 1 << 40  # the budget stays
    renderer([4])
    assert [renderer.kept_bytes, loader.kept_bytes, dataset._renderer.kept_bytes] == [0, 0, 0]
    again = gr.Renderer(recipe)
    free = 4 * 7 * BITMAP
    again([3, 4])
    assert again.kept_bytes == 2 * BITMAP
    assert again.catalog.bitmaps.budget == 7 * BITMAP


def test_a_budget_that_is_given_is_exact_and_no_memory_is_read(monkeypatch):
    def read():
        raise AssertionError("read")

    monkeypatch.setattr(free_memory, "of_host", read)
    recipe = RECIPES["onepfrac"]
    for budget, kept in ((7 * BITMAP, 2 * BITMAP), (7 * BITMAP - 1, 0)):
        renderer, dataset = gr.Renderer(recipe, cache_bytes=budget), gr.Dataset(recipe, cache_bytes=budget)
        loader = gr.DataLoader(recipe, batch_size=2, image_size=48, cache_bytes=budget)
        renderer([0, 1])
        next(iter(loader))
        dataset.__getitems__([0, 1])
        loader.dataset.__getitems__([5, 6])
        found = [renderer.kept_bytes, loader.kept_bytes, dataset._renderer.kept_bytes]
        assert [*found, loader.dataset._renderer.kept_bytes] == [kept] * 4


def test_a_cpu_keeps_what_is_wanted_and_no_more():
    renderer = gr.Renderer(RECIPES["onepfrac"])
    renderer([5, 2, 5])
    assert renderer.catalog.bitmaps.images.known.tolist() == [i in (2, 5) for i in range(7)]
    assert renderer.catalog.bitmaps.images.rows.shape == (7, 48, 2)
    assert renderer.catalog.bitmaps.points is None


def test_where_the_images_do_not_fit_the_points_are_kept():
    recipe = RECIPES["fractaldb"]
    renderer = gr.Renderer(recipe, cache_bytes=50 * BITMAP)
    renderer([0, 1, 8, len(recipe) - 1])
    kept = renderer.catalog.bitmaps
    assert (kept.images, kept.nbytes) == (None, 50 * BITMAP)
    assert np.flatnonzero(kept.points.known).tolist() == [0, 1, 49]  # 2 patches of 4 flips a system
    none = gr.Renderer(recipe, cache_bytes=50 * BITMAP - 1)
    none([0])
    assert none.catalog.bitmaps.nbytes == 0


def test_both_kinds_share_the_budget():
    renderer = gr.Renderer(RECIPES["onepfrac"], cache_bytes=13 * BITMAP)
    renderer([0])
    renderer([0], epoch=1, fresh=False)  # its masks are others
    assert renderer.catalog.bitmaps.nbytes == 7 * BITMAP
    renderer = gr.Renderer(RECIPES["onepfrac"], cache_bytes=14 * BITMAP)
    renderer([0])
    renderer([0], epoch=1, fresh=False)
    assert renderer.catalog.bitmaps.nbytes == 14 * BITMAP


def test_a_worker_of_torch_has_its_share_of_the_budget(monkeypatch):
    recipe = RECIPES["onepfrac"]
    for workers, kept in ((1, True), (4, True), (5, False)):
        monkeypatch.setattr(ifs, "get_worker_info", lambda workers=workers: SimpleNamespace(num_workers=workers))
        renderer = gr.Renderer(recipe, cache_bytes=4 * 7 * BITMAP)
        assert torch.equal(renderer([3]), gr.Renderer(recipe, cache_bytes=0)([3]))
        assert (renderer.catalog.bitmaps.nbytes > 0) == kept
    monkeypatch.undo()
    renderer = gr.Renderer(recipe, cache_bytes=4 * 7 * BITMAP)
    renderer([1])
    monkeypatch.setattr(ifs, "get_worker_info", lambda: SimpleNamespace(num_workers=5))
    renderer([3])  # in a worker that inherited the table
    assert np.flatnonzero(renderer.catalog.bitmaps.images.known).tolist() == [1]
    renderer.catalog.bitmaps.images.known[:] = True
    renderer.catalog.bitmaps.images.rows[3] = -1
    assert (renderer([3]) == 127).all()  # a table that is complete costs a worker nothing, and is used


def test_memory_of_what_is_not_kept_yet_is_not_touched():
    """Also where torch fills new memory, so that nobody computes with what it holds."""
    torch.use_deterministic_algorithms(True)
    try:
        table = ifs.BitmapTable.empty(1000, 512, torch.device("cpu"))
    finally:
        torch.use_deterministic_algorithms(False)
    assert table.rows.shape == (1000, 512, 16)
    assert not (table.rows[:, ::64] == 2**31 - 1).all()  # torch's filling
    assert not table.complete


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_without_memory_for_bitmaps_every_image_is_drawn(error, monkeypatch):
    def refused(*arguments):
        raise error("can't allocate memory")

    monkeypatch.setattr(ifs.BitmapTable, "empty", refused)
    renderer = gr.Renderer(RECIPES["fractaldb"])
    assert torch.equal(renderer([3, 9]), gr.Renderer(RECIPES["fractaldb"], cache_bytes=0)([3, 9]))
    assert renderer.catalog.bitmaps.nbytes == 0


def test_a_copy_of_a_renderer_computes_its_own():
    renderer = gr.Renderer(RECIPES["onepfrac"])
    images = renderer([1, 2])
    text = pickle.dumps(renderer)
    assert len(text) < 20_000
    copy = pickle.loads(text)
    assert copy.catalog.bitmaps == ifs.Bitmaps(renderer.catalog.bitmaps.budget)
    assert torch.equal(copy([1, 2]), images)


def test_threads_that_share_a_renderer_render_the_same():
    recipe, rng = RECIPES["fractaldb"], np.random.default_rng(0)
    renderer, plain = gr.Renderer(recipe), gr.Renderer(recipe, cache_bytes=0)
    batches = [rng.integers(0, len(recipe), 40) for _ in range(24)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(renderer, batches))
    assert all(torch.equal(images, plain(samples)) for images, samples in zip(found, batches, strict=True))


@pytest.mark.parametrize(
    ("keywords", "images"), [({}, 7), ({"shuffle": True}, 7), ({"sampler": [4, 1, 4, 2, 0, 3]}, 5)]
)
def test_a_loader_whose_epochs_repeat_draws_each_image_once(keywords, images, monkeypatch):
    recipe, computed = RECIPES["onepfrac"], []
    real = ifs.occupancy
    monkeypatch.setattr(ifs, "occupancy", lambda *given, **more: computed.append(len(given[0])) or real(*given, **more))
    loader = gr.DataLoader(recipe, batch_size=3, augment=None, image_size=48, fresh=False, **keywords)
    seen = {}
    for _ in range(3):
        for batch, labels in loader:
            for image, label in zip(batch, labels.tolist(), strict=True):
                assert torch.equal(seen.setdefault(label, image), image)
    assert len(seen) == sum(computed) == images


@pytest.mark.parametrize("size", [33, 48, 362])
@pytest.mark.parametrize("mask", [False, True])
def test_masked_bitmaps_are_rendered_as_bitmaps_that_are_masked(size, mask):
    systems = ifs.systems(np.array([TRIANGLE] * 3), np.full((3, 3), 1 / 3), np.full(3, 3))
    bitmaps = occupancy(systems, torch.arange(3), seed=1, points=900, size=size)
    masks, orientations, which = (
        torch.tensor([5, 2**40, 6]),
        torch.tensor([0, 3, 6], dtype=torch.uint8),
        torch.arange(3),
    )
    lit = mask_bitmaps(bitmaps, which, masks, seed=1, mask=mask)
    wanted = render_bitmaps(bitmaps, which, masks, orientations, seed=1, patch=True, mask=mask)
    assert lit.shape == bitmaps.shape
    drawn = masked_occupancy(systems, torch.arange(3), masks, seed=1, points=900, size=size, mask=mask)
    assert torch.equal(drawn, lit)
    assert torch.equal(render_bitmaps(lit, which, masks * 0, orientations, seed=1, patch=False, mask=False), wanted)


def test_bitmaps_are_computed_a_few_at_once_on_a_cpu_and_all_at_first_use_on_a_gpu(monkeypatch):
    """An interrupt then loses little on a CPU."""
    cpu, computed, settled = torch.device("cpu"), [], []

    def compute(numbers):
        computed.append(numbers.tolist())
        return numbers[:, None, None].int().expand(-1, 16, 1)

    table = ifs.BitmapTable.empty(200, 16, cpu)
    rows = table.filled(torch.arange(130, 0, -1), compute)
    assert computed == [list(range(1, 65)), list(range(65, 129)), [129, 130]]
    table.filled(torch.tensor([5, 131]), compute)
    assert computed[3:] == [[131]]
    assert rows[1:132, 3, 0].tolist() == list(range(1, 132))
    monkeypatch.setattr(ifs.dispatch, "on_host", lambda device: False)
    monkeypatch.setattr(ifs.cuda_streams, "settle", settled.append)
    table = ifs.BitmapTable.empty(5000, 16, cpu)
    for _ in range(2):
        assert table.filled(torch.tensor([7]), compute)[:, 3, 0].tolist() == list(range(5000))
        assert [len(numbers) for numbers in computed[4:]] == [4096, 904]
    assert settled == [cpu]
