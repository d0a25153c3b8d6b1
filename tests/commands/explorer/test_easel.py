"""Pictures of the page: those of the renderer and the policy, also where only some classes have been searched for."""

import dataclasses
import io
import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.augment import named
from gpurender.commands.explorer import easel
from gpurender.commands.explorer.easel import Easel
from gpurender.recipes.search import Search

ATOMS = gr.VisualAtom(classes=5, instances=4, image_size=48, orbits=(2, 4), radius=(3, 6))
COLOURED = gr.ColorFractal(classes=3, instances=3, image_size=32, points=500)


def shown(file):
    """A PNG file's pixels, uint8 [S, S] or [S, S, 3]."""
    return np.array(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("recipe", [ATOMS, COLOURED], ids=["grey", "colour"])
def test_a_canvas_is_the_renderer_s(recipe):
    drawn = Easel().draw(recipe, 2, 1, None, False)
    sample = 2 * recipe.instances + 1
    assert (drawn.sample, drawn.label, drawn.views) == (sample, 2, [])
    canvas = gr.Renderer(recipe)(sample)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(shown(drawn.canvas), canvas[..., 0] if recipe is ATOMS else canvas)
    assert 1.0 <= drawn.brightness <= 4.0


def test_labels():
    noisy = dataclasses.replace(ATOMS, label_noise=1.0)
    drawn = Easel().draw(noisy, 2, 1, None, False)
    assert drawn.label == gr.Renderer(noisy).labels([9]).item() != 2
    several = gr.MultiFractal(classes=6, instances=3, image_size=32, points=200, objects=(3, 3))
    drawn = Easel().draw(several, 4, 0, None, False)
    row = gr.Renderer(several).labels([12])[0]
    assert drawn.label == torch.nonzero(row).flatten().tolist()
    assert 4 in drawn.label
    separate = gr.Mixture({ATOMS: 1, gr.RCDB(classes=2, instances=1, image_size=48): 1}, labels="separate")
    assert Easel().draw(separate, 6, 0, None, False).label == [1, 1]


def test_a_long_tail_is_counted_class_by_class():
    tail = dataclasses.replace(ATOMS, class_prior=[4, 0, 2, 1, 1])
    drawn = Easel().draw(tail, 2, 1, None, False)
    assert drawn.sample == 4 + 0 + 1
    assert np.array_equal(shown(drawn.canvas), shown(Easel().draw(ATOMS, 2, 1, None, False).canvas))
    for label, instance in ((1, 0), (2, 2), (4, 1), (5, 0)):
        with pytest.raises(ValueError, match=f"^class {label} of this recipe has no image {instance}$"):
            Easel().draw(tail, label, instance, None, False)
    sheet = Easel().sheet(tail, [(0, 3), (1, 0), (2, 1), (2, 2), (9, 0)], 32, None)
    assert [picture is None for picture in sheet] == [False, True, False, True, True]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", ["crop", "deit"])
def test_views_are_those_of_a_loader_s_epochs(name, fresh):
    """The same addresses of randomness: sample + epoch x length; class 3 is mixed with class (3 + 5 // 2) mod 5."""
    policy, renderer, total = named.policy(name), gr.Renderer(ATOMS), len(ATOMS)
    views = Easel().draw(ATOMS, 3, 2, name, fresh).views
    assert len(views) == 8
    for epoch in (0, 1, 7):
        pair = [14, 2]
        canvases = renderer(pair, epoch if fresh else 0)
        drawn = policy.draw([number + epoch * total for number in pair], canvas_size=48, image_size=224)
        image = policy.apply(canvases, drawn, image_size=224)[0]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (policy.mean, policy.std))
        levels = ((image * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        assert np.array_equal(shown(views[epoch]), levels.numpy())
    assert len(set(views)) > 4  # some crops of so small a canvas are empty


def test_a_sheet_is_of_small_canvases_or_of_views():
    cells = [(0, 0), (4, 3), (0, 0), (2, 1)]
    sheet = Easel().sheet(ATOMS, cells, 16, None)
    assert sheet[0] == sheet[2] != sheet[1]
    canvases = gr.Renderer(ATOMS)([19])
    assert np.array_equal(shown(sheet[1]), gr.augment.resized_crop(canvases, [[0, 0, 48, 48]], 16)[0, 0].numpy())
    views = Easel().sheet(ATOMS, cells, 16, "crop")
    policy = gr.augment.Crop()
    drawn = policy.draw([19, 7], canvas_size=48, image_size=16)
    image = policy.apply(gr.Renderer(ATOMS)([19, 7]), drawn, image_size=16)[0]
    assert np.array_equal(shown(views[1]), ((image * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("classes", "prior", "pairs"),
    [
        (5, None, {0: 8, 7: 15, 14: 2, 19: 7}),  # classes 0, 1, 3, 4 with classes 2, 3, 0, 1
        (30, None, {0: 24, 47: 23, 48: 24, 119: 47}),  # classes 0, 11, 12, 29 with 6, 5, 6, 11 of the first 12
        (1, None, {0: 2, 3: 1}),  # in the class itself
        (5, [4, 0, 2, 1, 1], {0: 4, 3: 5, 4: 7, 5: 7, 6: 0, 7: 4}),  # class 4 is mixed with 2, as 1 is empty
        (3, [0, 4, 0], {0: 2, 3: 1}),
        (2, [1, 0], {0: 2, 1: 3}),
    ],
)
def test_what_a_sample_is_mixed_with(classes, prior, pairs):
    recipe = dataclasses.replace(ATOMS, classes=classes, class_prior=prior)
    warm = Easel().warm(recipe, 0)
    assert {sample: warm.partner(sample) for sample in pairs} == pairs


def test_a_picture_does_not_wait_for_a_whole_sheet(monkeypatch):
    """It is drawn between two parts of the sheet that is under way."""
    one, order, inside = Easel(), [], threading.Event()
    whole, turns = easel.Warm.canvases, one.warm(ATOMS, 0).turns

    def canvases(self, samples, epoch=0):
        order.append(samples)
        inside.set()
        while len(order) == 1 and not turns._before:
            time.sleep(0.001)
        return whole(self, samples, epoch)

    monkeypatch.setattr(easel.Warm, "canvases", canvases)
    monkeypatch.setattr(easel, "BATCH_BYTES", 1)
    sheet = threading.Thread(target=one.sheet, args=(ATOMS, [(0, 0), (0, 1), (0, 2)], 16, None))
    sheet.start()
    assert inside.wait(120)
    one.draw(ATOMS, 4, 0, None, False)
    sheet.join(120)
    assert order == [[0], [16], [1], [2]]


def test_a_sheet_is_drawn_in_parts(monkeypatch):
    sizes = []
    whole = easel.Warm.canvases
    monkeypatch.setattr(
        easel.Warm, "canvases", lambda self, samples, epoch=0: sizes.append(len(samples)) or whole(self, samples, epoch)
    )
    monkeypatch.setattr(easel, "BATCH_BYTES", 3 * 48 * 48 + 1)
    Easel().sheet(ATOMS, [(i, j) for i in range(4) for j in range(2)], 16, None)
    assert sizes == [3, 3, 2]
    sizes.clear()
    monkeypatch.setattr(easel, "BATCH_BYTES", 1)
    Easel().sheet(ATOMS, [(0, 0), (0, 1)], 16, None)
    assert sizes == [1, 1]


def test_renderers_are_kept_warm(monkeypatch):
    made = []
    real = easel.Renderer
    monkeypatch.setattr(easel, "Renderer", lambda recipe, **more: made.append(recipe) or real(recipe, **more))
    one = Easel()
    for _ in range(3):
        one.draw(ATOMS, 0, 0, None, False)
    assert made == [ATOMS]
    others = [dataclasses.replace(ATOMS, seed=seed) for seed in range(1, 8)]
    for recipe in others:
        one.draw(recipe, 0, 0, None, False)
    one.draw(ATOMS, 0, 0, None, False)
    assert made == [ATOMS, *others]
    one.draw(dataclasses.replace(ATOMS, seed=8), 0, 0, None, False)  # the ninth: that of seed 1 is the oldest
    one.draw(ATOMS, 0, 0, None, False)
    assert len(made) == 9
    one.draw(others[0], 0, 0, None, False)
    assert len(made) == 10


class TestSearched:
    """FractalDB whose candidates 0, 3, 6 ... are accepted: nothing is known in advance."""

    @pytest.fixture(autouse=True)
    def search(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path))
        self.tried = []

        def accepted(recipe, ids, device):
            self.tried += ids.tolist()
            return ids[ids % 3 == 0].tolist()

        monkeypatch.setattr(gr.FractalDB, "_accepted", accepted)

    recipe = gr.FractalDB(classes=1000, points=300, image_size=32, seed=77)

    def test_only_the_first_classes_are_searched_for(self):
        drawn = Easel().draw(self.recipe, 11, 999, None, False)
        assert max(self.tried) == 127  # one batch has 42 classes
        assert drawn.sample == 11_999
        few = dataclasses.replace(self.recipe, classes=12)
        assert np.array_equal(shown(drawn.canvas), gr.Renderer(few)(11_999)[0, 0].numpy())

    def test_how_many(self):
        assert easel.searched(self.recipe, 1).classes == 12
        assert easel.searched(self.recipe, 12).classes == 12
        assert easel.searched(self.recipe, 13).classes == 24
        assert easel.searched(self.recipe, 1000).classes == 1000
        small = dataclasses.replace(self.recipe, classes=5)
        assert easel.searched(small, 1).classes == 5
        assert easel.searched(ATOMS, 1) is ATOMS
        both = gr.Mixture({self.recipe: 1, ATOMS: 1})
        assert easel.searched(both, 1) is both

    def test_its_pictures_are_those_of_the_whole(self):
        """Also with a long tail, in later epochs and augmented, where the addresses depend on the dataset's length."""
        tail = dataclasses.replace(self.recipe, class_prior=2.0, label_noise=0.5)
        one = Easel()
        drawn = [one.draw(recipe, 3, 5, "crop", fresh) for recipe in (self.recipe, tail) for fresh in (False, True)]
        assert isinstance(gr.Renderer(self.recipe)(0), torch.Tensor)  # all classes are known now
        assert not self.recipe.needs_search()
        whole = Easel()
        for recipe, fresh, before in zip(
            (self.recipe, self.recipe, tail, tail), (False, True, False, True), drawn, strict=True
        ):
            after = whole.draw(recipe, 3, 5, None, fresh)
            assert after[:3] == before[:3]
            renderer, sample = gr.Renderer(recipe), before.sample
            for epoch in (0, 2):
                canvas = renderer(sample, epoch if fresh else 0)
                policy = gr.augment.Crop()
                boxes = policy.draw([sample + epoch * len(recipe)], canvas_size=32, image_size=224)
                image = policy.apply(canvas, boxes, image_size=224)[0]
                levels = ((image * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0)
                assert np.array_equal(shown(before.views[epoch]), levels.numpy())

    def test_what_the_page_leaves_in_the_cache_is_the_beginning_of_the_whole_search(self, monkeypatch, tmp_path):
        Easel().draw(self.recipe, 100, 0, None, False)
        [file] = tmp_path.iterdir()
        begun = json.loads(file.read_text())["values"]
        assert begun == list(range(0, 384, 3))  # three batches
        self.tried.clear()
        pictures = gr.Renderer(self.recipe)([0, 999_999])
        assert min(self.tried) == 256  # from the last batch on
        [same] = tmp_path.iterdir()
        assert same == file
        assert json.loads(file.read_text())["values"][: len(begun)] == begun
        monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "other"))
        assert torch.equal(gr.Renderer(self.recipe)([0, 999_999]), pictures)

    def test_mixed_pictures_do_not_depend_on_what_else_is_shown(self):
        """Neither on the other cells of the sheet, nor on what has been searched for."""
        [alone] = Easel().sheet(self.recipe, [(3, 5)], 64, "deit")
        assert Easel().sheet(self.recipe, [(3, 5), (30, 0)], 64, "deit")[0] == alone
        before = Easel().draw(self.recipe, 3, 5, "deit", False).views
        gr.Renderer(self.recipe)(0)  # all classes are known now
        assert not self.recipe.needs_search()
        assert Easel().draw(self.recipe, 3, 5, "deit", False).views == before
        assert Easel().sheet(self.recipe, [(3, 5)], 64, "deit") == [alone]

    def test_a_search_that_is_hopeless_is_said(self, monkeypatch):
        monkeypatch.setattr(gr.FractalDB, "_accepted", lambda recipe, ids, device: [])
        monkeypatch.setattr(Search, "limit", 100, raising=False)
        monkeypatch.setattr("gpurender.recipes.fractaldb.SEARCH_LIMIT", 100)
        with pytest.raises(ValueError, match=r"^fill_rate: 100 random systems in a row cover less than"):
            Easel().draw(self.recipe, 0, 0, None, False)


def test_too_large_recipes_are_refused():
    with pytest.raises(ValueError, match=r"^image_size must be at most 2048"):
        Easel().draw(dataclasses.replace(ATOMS, image_size=4096), 0, 0, None, False)
    with pytest.raises(ValueError, match=r"^image_size must be at most 2048"):
        Easel().sheet(dataclasses.replace(ATOMS, image_size=4096), [(0, 0)], 16, None)


def test_milliseconds_and_addresses():
    assert easel.url(b"\x89PNG") == "data:image/png;base64,iVBORw=="
    assert 0.0 <= easel.timed(easel.time.perf_counter()) < 1000.0
    assert easel.timed(easel.time.perf_counter() - 0.25) >= 250.0
