"""Sources: feeds for training, images for scoring."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.server import sources
from tests.server.support import pictures, recipe

pytest.importorskip("timm", reason="needs timm")
CPU = torch.device("cpu")


def test_a_recipe_is_drawn_anew_for_each_epoch():
    source = sources.RecipeSource(recipe())
    assert source.classes == 4
    feed = source.feed(16, 24, 5, CPU)
    batches = feed.batches()
    loader = gr.DataLoader(
        recipe(), batch_size=16, shuffle=True, drop_last=True, image_size=24, seed=5, fresh=True,
        augment=gr.augment.Crop(scale=(0.5, 1.0), hflip=0.0),
    )  # fmt: skip
    for _ in range(2):
        for images, labels in loader:
            got, own = next(batches)
            assert torch.equal(got, images)
            assert torch.equal(own, labels)
    assert feed.state_dict() == loader.state_dict()
    small = next(sources.RecipeSource(recipe()).feed(64, 24, 5, CPU).batches())[0]
    assert len(small) == 32  # the recipe has no more


def test_shown_images_are_of_an_epoch_that_no_training_sees():
    found = sources.RecipeSource(recipe()).shown(False)
    assert len(found) == 32
    renderer = gr.Renderer(recipe())
    epoch = 1 << 20
    assert found.labels.tolist() == renderer.labels(list(range(32)), epoch).tolist()
    for index in (0, 31):
        canvas = renderer([index], epoch)[0, 0].numpy()
        np.testing.assert_array_equal(np.asarray(found[index][0]), np.repeat(canvas[..., None], 3, 2))
        assert not np.array_equal(canvas, renderer([index], 0)[0, 0].numpy())


def test_at_most_2048_images_are_shown_spread_over_the_recipe():
    found = sources.RecipeSource(gr.VisualAtom(classes=100, instances=100, image_size=32, orbits=(2, 3), radius=(4, 8)))
    images = found.shown(False)
    assert len(images) == 2048
    assert len(set(images.labels.tolist())) == 100
    assert np.bincount(images.labels).max() < 50
    assert len(set(images._found.names)) == 2048
    few = found.shown(True)
    assert len(few.classes) == 16
    assert np.bincount(few.labels).tolist() == [100] * 16
    assert few.classes[0] == "0"
    assert few.classes[-1] == "99"


def test_colours_are_shown():
    image, _ = sources.RecipeSource(gr.ColorFractal(classes=2, instances=2, image_size=32, points=2000)).shown(False)[0]
    assert image.mode == "RGB"
    assert image.size == (32, 32)


def test_files_by_class(tmp_path):
    names = pictures(tmp_path, 7, classes=["x", "y"])
    source = sources.FilesSource(tmp_path, tuple(names))
    assert source.classes == 2
    assert source.samples().classes == ("x", "y")
    assert source.samples().labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert len(source.shown(True)) == len(source.shown(False)) == 7
    images, labels = next(source.feed(4, 16, 0, CPU).batches())
    assert images.shape == (4, 3, 16, 16)
    assert images.abs().max() <= 1.0
    assert labels.dtype == torch.int64
    again, _ = next(source.feed(4, 16, 0, CPU).batches())
    assert torch.equal(images, again)
    assert not torch.equal(images, next(source.feed(4, 16, 1, CPU).batches())[0])
    assert sources.described(source) == {
        "images": 7, "bytes": sum((tmp_path / name).stat().st_size for name in names),
    }  # fmt: skip


def test_names_of_images(tmp_path):
    names = pictures(tmp_path / "data", 3, classes=["b", "a"])
    Image.new("L", (3, 3)).save(tmp_path / "data" / "top.PNG")
    (tmp_path / "data" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "data" / "folder.png").mkdir()
    assert sources.image_names(tmp_path / "data") == sorted([*names, "top.PNG"])
    samples = sources.samples_of(tmp_path / "data", ["top.PNG", "a/001.png"])
    assert samples.classes == ("", "a")
    assert samples.labels.tolist() == [0, 1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"data: '.*empty' has no image \(\.png, "):
        sources.image_names(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"data must be a folder of images, and there is no folder '.*nothing'"):
        sources.image_names(tmp_path / "nothing")


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path):
    pictures(tmp_path / "elsewhere", 2)
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "mine" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mine" / "deep" / "up").symlink_to(tmp_path / "mine")
    (tmp_path / "mine" / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert sources.image_names(tmp_path / "mine") == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]


def test_a_few_are_always_the_same_ones(tmp_path):
    samples = sources.samples_of(tmp_path, [f"{i:03d}" for i in range(50)])
    names = [
        [few._found.names[i] for i in few._indices] for few in (sources.few(samples, 10), sources.few(samples, 10))
    ]
    assert names[0] == names[1] == sorted(names[0])
    assert len(set(names[0])) == 10
    assert names[0] != [f"{i:03d}" for i in range(10)]
    assert len(sources.few(samples, 50)) == len(sources.few(samples, 99)) == 50


def test_a_recipe_describes_itself():
    found = sources.described(sources.RecipeSource(recipe()))
    assert found["fingerprint"] == recipe().fingerprint
    assert gr.recipe(json.dumps(found["recipe"])) == recipe()


def test_recipes_that_no_mixture_takes_are_refused():
    mixture = gr.Mixture({recipe(): 1})
    for inside in (mixture, gr.Schedule(recipe(), seed=((0, 1), (5, 2)))):
        said = f"^recipes must not be {inside.family}s: the server makes a mixture; give the recipes inside$"
        with pytest.raises(ValueError, match=said):
            sources.check_recipe(inside)
    many = gr.MultiFractal(classes=4, instances=2)
    with pytest.raises(ValueError, match="recipes must have one label per image, and MultiFractal"):
        sources.check_recipe(many)
    assert sources.check_recipe(recipe()) == recipe()
