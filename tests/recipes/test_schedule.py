"""Schedules: each stage is the stream of a plain recipe, resume anywhere, ranks, indices, labels, JSON, refusals."""

import json
from itertools import chain

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes.schedule import Cells

SMALL = gr.Moire(classes=4, instances=3, image_size=16)
TRIANGLE = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
MARGINS = ((0, 0.1), (7, 0.3), (30, 0.0))


def schedule(**knots):
    return gr.Schedule(SMALL, **knots or {"margin": MARGINS})


def loader(recipe, **keywords):
    defaults = {"batch_size": 5, "image_size": 16, "rank": 0, "world_size": 1, "device": "cpu", "shuffle": True}
    return gr.DataLoader(recipe, **defaults | keywords)


def table(recipe):
    """By index: the number of the stage and the index there; class by class, then stage by stage."""
    rows = []
    for label in range(recipe.classes):
        for number, (_, stage) in enumerate(recipe.stages):
            first, count = int(stage.first_samples()[label]), int(stage.class_counts()[label])
            rows += [(number, first + i) for i in range(count)]
    return rows


def plain(recipe, number, seed, shuffle):
    """The stage of a sample number and the index that its plain recipe has there."""
    starts = [start for start, _ in recipe.stages]
    stage = sum(start <= number for start in starts) - 1
    own = recipe.stages[stage][1]
    turn, position = divmod(number, len(own))
    return stage, int(own.order().indices(np.array([position]), len(own), turn, seed, shuffle)[0])


# ----------------------------------------------------------------------------------------------------------- the order


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_sample_is_the_one_that_its_stage_s_plain_recipe_has_at_its_number(shuffle):
    recipe = schedule(margin=MARGINS, class_prior=((0, 1), (20, 3)))
    where, length = table(recipe), len(recipe)
    assert [start for start, _ in recipe.stages] == [0, 7, 20, 30]
    assert length == len(where) == 12 + 12 + 7 + 7
    order = recipe.order()
    for epoch in (0, 1, 5):
        found = order.indices(np.arange(length), length, epoch, 9, shuffle)
        numbers = range(epoch * length, (epoch + 1) * length)
        assert [where[i] for i in found] == [plain(recipe, t, 9, shuffle) for t in numbers]
        some = np.array([3, 37, 3, 11])
        assert order.indices(some, length, epoch, 9, shuffle).tolist() == found[some].tolist()
    assert order is recipe.order()
    assert order.on_device is False


def test_a_stage_begins_exactly_at_its_number():
    found = schedule().order().indices(np.array([0, 6, 7, 29, 30, 35]), 36, 0, 0, False)
    assert [table(schedule())[i][0] for i in found] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("fresh", [False, True])
def test_images_of_a_stage_are_those_of_its_plain_recipe(fresh):
    """Batches of five, of which one has samples of two stages; new images are drawn at the number of the sample."""
    recipe = schedule()
    images = [image for batch, _ in loader(recipe, seed=3, fresh=fresh) for image in batch]
    renderers = [gr.Renderer(stage) for _, stage in recipe.stages]
    resize = gr.augment.Resize()
    assert len(images) == 36
    for t, image in enumerate(images):
        stage, local = plain(recipe, t, 3, True)
        ids = torch.tensor([t if fresh else local])
        canvas = renderers[stage].render(torch.tensor([local]), ids, fresh)
        wanted = resize.apply(canvas, resize.draw([0], canvas_size=16, image_size=16), image_size=16)
        assert torch.equal(image, wanted[0]), t


SPARSE = {
    "bits": gr.OnePFrac(classes=4, instances=3, base=TRIANGLE, points=300, image_size=32, fill_rate=0.0),
    "windows": gr.VisualAtom(classes=4, instances=3, image_size=32, orbits=(1, 9), quantization=(5, 20), radius=(1, 9)),
}


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("base", SPARSE.values(), ids=SPARSE)
def test_canvases_of_bits_or_of_windows_make_the_same_batches(base, fresh):
    """A batch of one stage has them where the plain recipe has, a batch of two has whole canvases of bytes."""
    recipe = gr.Schedule(base, seed=((0, 1), (12, 2)))
    crop = gr.augment.Crop()
    batches = iter(loader(recipe, batch_size=8, augment=crop, fresh=fresh, seed=6))
    for first in (0, 8, 16):
        numbers = list(range(first, first + 8))
        wanted = [plain(recipe, t, 6, True) for t in numbers]
        canvases = [
            gr.Renderer(recipe.recipes[stage]).render(
                torch.tensor([local]), torch.tensor([t if fresh else local]), fresh
            )
            for t, (stage, local) in zip(numbers, wanted, strict=True)
        ]
        drawn = crop.draw(numbers, seed=6, canvas_size=32, image_size=16)
        images, labels = next(batches)
        assert torch.equal(images, crop.apply(torch.cat(canvases), drawn, image_size=16))
        assert labels.tolist() == [local // 3 for _, local in wanted]


def test_new_images_never_repeat():
    feed = loader(schedule(), fresh=True, batch_size=9)
    seen = [image.numpy().tobytes() for _ in range(4) for images, _ in feed for image in images]
    assert len(set(seen)) == len(seen) == 4 * 36


def test_the_shares_of_a_mixture_change_at_their_number():
    other = gr.Moire(classes=3, instances=4, image_size=24, seed=2)
    both = gr.Mixture({SMALL: 3, other: 1})
    recipe = gr.Schedule(both, weights=((0, (3, 1)), (48, (1, 3)), (96, (1, 1))))
    assert (recipe.classes, recipe.channels, recipe.image_size, recipe.label_width) == (7, 1, 24, 1)
    feed = loader(recipe, batch_size=8)
    labels = torch.cat([labels for _ in range(2) for _, labels in feed])
    first = (labels < 4).view(-1, 8).sum(1)  # of every eight samples
    assert first[:18].tolist() == [6] * 6 + [2] * 6 + [4] * 6
    names = [recipe.class_name(label) for label in (0, 6)]
    assert names == ["0-00000", "1-00002"]


def test_images_of_a_scheduled_mixture_are_those_of_the_mixture():
    other = gr.Moire(classes=3, instances=4, image_size=16, seed=2)
    recipe = gr.Schedule(gr.Mixture({SMALL: 1, other: 1}, labels="separate"), weights=((0, (2, 1)), (20, (1, 2))))
    indices = torch.tensor([0, 5, 30, 41, 47, 13])
    canvases = gr.Renderer(recipe).render(indices, indices + 1000, True)
    labels = gr.Renderer(recipe).labels(indices)
    for index, canvas, label in zip(indices.tolist(), canvases, labels, strict=True):
        stage, local = table(recipe)[index]
        own = gr.Renderer(recipe.recipes[stage])
        wanted = own.render(torch.tensor([local]), torch.tensor([index + 1000]), True)
        assert torch.equal(canvas, wanted[0])
        assert torch.equal(label, own.labels([local])[0])
    assert recipe.joint(labels).tolist() == [classes_of(recipe)[i] for i in indices.tolist()]


def classes_of(recipe):
    return list(chain(*([label] * int(count) for label, count in enumerate(recipe.class_counts()))))


# ------------------------------------------------------------------------------------------------------ state and ranks


@pytest.mark.parametrize("keywords", [{"fresh": True}, {"steps_per_epoch": 4}, {"steps_per_epoch": 11, "fresh": True}])
def test_a_state_at_any_batch_resumes_exactly_with_any_number_of_ranks(keywords):
    recipe, keywords = schedule(), {"seed": 5, "drop_last": True, "augment": gr.augment.Crop(), **keywords}
    feed = loader(recipe, batch_size=6, **keywords)
    whole, states = [], []
    while len(whole) < 14:
        for images, labels in feed:
            whole.append((images, labels))
            states.append(json.loads(json.dumps(feed.state_dict())))
    for at in (0, 1, 3, 4, 6, 9, 11):
        for size in (1, 2, 3):
            ranks = [loader(recipe, batch_size=6 // size, rank=r, world_size=size, **keywords) for r in range(size)]
            for one in ranks:
                one.load_state_dict(states[at])
            parts = [next(iter(one)) for one in ranks]
            assert torch.equal(torch.cat([images for images, _ in parts]), whole[at + 1][0])
            assert torch.equal(torch.cat([labels for _, labels in parts]), whole[at + 1][1])


def test_a_state_of_another_schedule_is_refused():
    state = loader(schedule()).state_dict()
    other = loader(schedule(margin=((0, 0.1), (8, 0.3), (30, 0.0))))
    with pytest.raises(ValueError, match=r"^state is of another stream: its recipe is "):
        other.load_state_dict(state)


# ------------------------------------------------------------------------------------------------------- as a dataset


def test_samples_are_those_of_all_stages_class_by_class():
    recipe = schedule(class_prior=((0, None), (9, 3)), margin=((0, 0.1), (4, 0.2)))
    renderer, where = gr.Renderer(recipe), table(recipe)
    assert len(recipe) == 12 + 12 + 7
    canvases = renderer(range(len(recipe)))
    for index, (stage, local) in enumerate(where):
        assert torch.equal(canvases[index], gr.Renderer(recipe.recipes[stage])([local])[0])
    assert renderer.labels(range(len(recipe))).tolist() == classes_of(recipe)
    assert recipe.class_counts().tolist() == [9, 8, 7, 7]
    assert recipe.first_samples().tolist() == [0, 9, 17, 24]
    for index, later in zip((4, 20), renderer([4, 20], 2, fresh=False), strict=True):  # draw ids: 2 x 31 further on
        stage, local = where[index]
        own = gr.Renderer(recipe.recipes[stage])
        assert torch.equal(later, own.render(torch.tensor([local]), torch.tensor([local + 62]), False)[0])
        assert not torch.equal(later, canvases[index])
    dataset = gr.Dataset(recipe)
    assert len(dataset) == 31
    assert dataset[-1][1] == 3
    assert recipe.class_name(3) == "00003"


def test_wrong_labels_are_those_of_the_stages():
    recipe = schedule(label_noise=((0, 0.5), (10, 0.0), (20, 0.9)))
    renderer, where = gr.Renderer(recipe), table(recipe)
    indices = torch.arange(len(recipe))
    for ids, fresh in ((indices, False), (indices + 5000, True)):
        found = renderer.labels_of(indices, ids, fresh)
        for index, (stage, local) in enumerate(where):
            own = gr.Renderer(recipe.recipes[stage])
            number = torch.tensor([local]), torch.tensor([int(ids[index])] if fresh else [local])
            assert found[index] == own.labels_of(*number, fresh)[0]
    still = np.array(where)[:, 0] == 1
    assert renderer.labels(indices).numpy()[still].tolist() == np.array(classes_of(recipe))[still].tolist()


def test_multi_hot_labels_are_those_of_the_stages():
    base = gr.MultiFractal(classes=5, instances=2, points=200, image_size=32)
    recipe = gr.Schedule(base, objects=((0, (1, 1)), (10, (3, 3))))
    labels = gr.Renderer(recipe).labels(range(20))
    stages = [stage for stage, _ in table(recipe)]
    assert recipe.multi_hot is True
    assert labels.dtype == torch.float32
    assert labels.shape == (20, 5)
    assert all(1 <= row.sum() <= (1, 3)[stage] for row, stage in zip(labels, stages, strict=True))
    assert labels.sum(1).max() > 1


def test_cells_of_any_counts_are_located_and_found_again():
    rng = np.random.default_rng(4)
    for _ in range(20):
        counts = rng.integers(0, 4, (3, 5))
        counts[:, 2] += 1
        cells = Cells(list(counts), torch.device("cpu"))
        rows = [(s, c) for c in range(5) for s in range(3) for _ in range(counts[s, c])]
        indices = torch.arange(len(rows))
        stages, local = cells.located(indices)
        assert stages.tolist() == [s for s, _ in rows]
        assert cells.classes(indices).tolist() == [c for _, c in rows]
        for s in range(3):
            own = indices[stages == s]
            assert local[stages == s].tolist() == list(range(len(own)))
            assert torch.equal(cells.indices(s, torch.arange(len(own))), own)


# ------------------------------------------------------------------------------------------------------------ a value


def test_json_is_lossless_and_short():
    for recipe in (
        schedule(margin=MARGINS, frequencies=[[0, [1, 9]], [5, [2, 30]]]),
        gr.Schedule("onepfrac-1k", delta=((0, 0.2), (5_000_000, 0.1))),
        gr.Schedule(gr.Mixture({SMALL: 1, "onepfrac-1k": 2}), weights=((0, (1, 2)), (9, (2.5, 5.0)), (20, (3, 1)))),
    ):
        again = gr.Recipe.from_json(recipe.to_json())
        assert again == recipe
        assert hash(again) == hash(recipe)
        assert again.fingerprint == recipe.fingerprint
        assert again.stages == recipe.stages
        assert len(again) == len(recipe)
        assert gr.recipe(json.loads(recipe.to_json())) == recipe
    assert json.loads(schedule().to_json())["knots"] == {"margin": [[0, 0.1], [7, 0.3], [30, 0.0]]}


def test_the_example_of_the_documentation():
    recipe = gr.Schedule("onepfrac-1k", delta=((0, 0.2), (5_000_000, 0.1)))
    assert [(start, stage.delta) for start, stage in recipe.stages] == [(0, 0.2), (5_000_000, 0.1)]
    assert (recipe.classes, recipe.instances, len(recipe), recipe.image_size) == (1000, 2, 2000, 512)
    assert recipe.at(0).delta == recipe.at(4_999_999).delta == 0.2
    assert recipe.at(5_000_000) == recipe.at(2**62) == gr.recipe("onepfrac-1k")
    assert recipe.source == gr.OnePFrac.paper
    assert recipe.needs_search() is False
    assert repr(recipe).endswith("redraw=False), delta=((0, 0.2), (5000000, 0.1)))")
    assert repr(recipe).startswith("Schedule(OnePFrac(classes=1000, ")
    assert recipe.in_short == "<schedule: 1,000 classes, 2,000 images of 512 x 512>"
    one = gr.Schedule("fractaldb-1k", fill_rate=((0, 0.3), (9, 0.4)))
    assert one.needs_search() is True


def test_the_fingerprint_changes_with_the_stream_alone():
    fingerprint = schedule().fingerprint
    same = (
        gr.Schedule(gr.Moire(classes=4, instances=3, image_size=16, margin=0.4), margin=MARGINS),
        schedule(margin=[*MARGINS[:2], (9, 0.3), *MARGINS[2:]]),
        schedule(margin=MARGINS, variant=((0, "released"),)),
    )
    assert all(one.fingerprint == fingerprint for one in same)
    assert same[0] == schedule()
    assert [len(one.stages) for one in same] == [3, 3, 3]
    for change in ((8, 0.3), (7, 0.2)):
        assert schedule(margin=((0, 0.1), change, (30, 0.0))).fingerprint != fingerprint
    assert gr.Schedule(SMALL, margin=((0, 0.08),)).fingerprint != SMALL.fingerprint


def test_memory_for_what_repeats_is_shared_among_the_stages():
    base = gr.FractalDB(categories=[[[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0]]], points=300, image_size=32)
    recipe = gr.Schedule(base, points=((0, 300), (10, 600)))
    stage = base.kept_bytes(1 << 19, masked=False)
    assert recipe.kept_bytes(1 << 20) == 2 * stage > 0
    renderer = gr.Renderer(recipe, cache_bytes=1 << 20)
    renderer([0, len(recipe) - 1])
    assert renderer.kept_bytes > 0


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("knots", "error", "message"),
    [
        ({}, ValueError,
         r"a schedule needs the knots of a parameter, such as delta=\(\(0, 0.2\), \(5_000_000, 0.1\)\)"),
        ({"margin": ((0, 0.1), (9, 0.2), (4, 0.3))}, ValueError,
         "margin must have knots at rising sample numbers, got 4 after 9"),
        ({"margin": ((0, 0.1), (9, 0.2), (9, 0.3))}, ValueError,
         "margin must have knots at rising sample numbers, got 9 after 9"),
        ({"margin": ((5, 0.1),)}, ValueError, "margin must have its first knot at sample 0, got 5"),
        ({"margin": ((0, 0.1), (-3, 0.2))}, ValueError,
         r"the sample number margin\[1\]\[0\] must be an integer in \[0, 4611686018427387904\], got -3"),
        ({"margin": ((0, 0.1), (2**62 + 1, 0.2))}, ValueError,
         r"the sample number margin\[1\]\[0\] must be an integer in \[0, 4611686018427387904\], got 46116860.*5"),
        ({"margin": ((0.0, 0.1),)}, TypeError,
         r"the sample number margin\[0\]\[0\] must be an integer in \[0, 4611686018427387904\], got 0.0"),
        ({"margin": 0.1}, TypeError, r"margin must be knots \(sample number, value\), such as .*, got 0.1"),
        ({"margin": ()}, TypeError, r"margin must be knots \(sample number, value\), such as .*, got \(\)"),
        ({"margin": ((0, 0.1), (3,))}, TypeError, r"margin must be knots \(sample number, value\), such as .*, got .*"),
        ({"margn": ((0, 0.1),)}, TypeError,
         "from sample 0 on: moire has no parameter 'margn'; it has .*did you mean 'margin'.*"),
        ({"margin": ((0, 0.1), (7, 0.9))}, ValueError,
         r"from sample 7 on: margin must be a finite number in \[0, 0.5\], got 0.9"),
        ({"classes": ((0, 4), (7, 9))}, ValueError,
         r"classes must stay the same along a schedule: 4 at first, 9 from sample 7 on \(classes\)"),
        ({"image_size": ((0, 16), (7, 32)), "margin": ((0, 0.1),)}, ValueError,
         r"image_size must stay the same along a schedule: 16 at first, 32 from sample 7 on \(image_size, margin\)"),
        ({"family": ((0, "noise"),)}, TypeError, "from sample 0 on: moire has no parameter 'family'; .*"),
        ({"margin": [(i, 0.3 + i / 10_000) for i in range(257)]}, ValueError,
         "a schedule must have at most 256 stages, got 257"),
    ],
)  # fmt: skip
def test_wrong_schedules_are_refused(knots, error, message):
    with pytest.raises(error, match=rf"^{message}$"):
        gr.Schedule(SMALL, **knots)


def test_the_largest_schedules_are_allowed():
    assert len(gr.Schedule(SMALL, margin=[(i, 0.3 + i / 10_000) for i in range(256)]).stages) == 256
    assert gr.Schedule(SMALL, margin=((0, 0.1), (2**62, 0.2))).at(2**62).margin == 0.2


def test_what_changes_the_form_of_batches_is_refused():
    with pytest.raises(
        ValueError, match=r"^channels must stay the same along a schedule: 1 at first, 3 from sample 5 on"
    ):
        gr.Schedule("onepfrac-1k", draw_type=((0, "patch_gray"), (5, "patch_color")))
    both = gr.Mixture({SMALL: 1, "onepfrac-1k": 1})
    with pytest.raises(
        ValueError, match=r"^label_width must stay the same along a schedule: 1 at first, 2 from sample 5"
    ):
        gr.Schedule(both, labels=((0, "joint"), (5, "separate")))
    with pytest.raises(ValueError, match=r"^recipes of a mixture must stay the same along a schedule; its weights may"):
        gr.Schedule(both, recipes=((0, both.recipes),))


def test_schedules_are_not_nested():
    with pytest.raises(TypeError, match=r"^recipe must not be a schedule itself$"):
        gr.Schedule(schedule(), margin=((0, 0.1),))
    with pytest.raises(TypeError, match=r"^recipes must not be schedules themselves$"):
        gr.Mixture({schedule(): 1})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"knots": 3, "recipe": {"family": "moire"}}, "knots must be an object of parameters and their knots, got 3"),
        ({"recipe": {"family": "moire"}}, "knots must be an object of parameters and their knots, got None"),
        ({"knots": {"margin": [[0, 0.1]]}}, "recipe: expected a JSON object, got NoneType"),
        ({"knots": {"margin": [[0, 0.1]]}, "recipe": {"family": "moire", "margin": 9}}, "recipe: margin must be .*"),
    ],
)
def test_wrong_json_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^recipe: {message}"):
        gr.recipe({"family": "schedule", **data})
    with pytest.raises(TypeError, match="schedule has no parameter 'stages'; it has knots, recipe"):
        gr.recipe({"family": "schedule", "stages": []})
