"""Copies of one image: the picture as data, the transforms, fresh perturbations, bad input."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.recipes import pictures, singleimage
from tests.support.optional import optional

ndimage = optional("scipy.ndimage")

TRANSFORMS = ("affine", "polynomial", "elastic")
SIZE = 64


def photograph(height=90, width=70):
    """A smooth picture in colour with one sharp disc."""
    y, x = np.indices((height, width))
    disc = np.hypot(y - height / 2, x - width / 2) < 20
    return np.stack([2 * x + y, np.where(disc, 250, 40), x * y // 30], 2).clip(0, 255).astype(np.uint8)


def recipe(**more):
    return gr.SingleImage(photograph(), **{"classes": 12, "image_size": SIZE} | more)


def test_a_path_an_array_and_json_are_the_same_recipe(tmp_path):
    file = tmp_path / "photograph.png"
    Image.fromarray(photograph()).save(file)
    one = recipe()
    assert gr.SingleImage(file, classes=12, image_size=SIZE) == gr.SingleImage(str(file), classes=12, image_size=SIZE)
    for other in (gr.SingleImage(file, classes=12, image_size=SIZE), gr.Recipe.from_json(one.to_json())):
        assert (other, hash(other), other.fingerprint) == (one, hash(one), one.fingerprint)
    file.unlink()
    assert torch.equal(gr.Renderer(gr.recipe(one.to_json()))(range(12)), gr.Renderer(one)(range(12)))
    assert len(repr(one)) < 500
    assert len(str(json.loads(one.to_json())["image"])) > 1000


def test_the_picture_is_its_middle_square_resized_by_pillow():
    wanted = Image.fromarray(photograph()).crop((0, 10, 70, 80)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert np.array_equal(pictures.pixels_of(recipe().image), np.array(wanted))
    wide = Image.fromarray(photograph(70, 95)).crop((12, 0, 82, 70)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert np.array_equal(pictures.pixels_of(pictures.text_of("x", photograph(70, 95), SIZE)), np.array(wide))
    grey = photograph()[:, :, 2]
    assert np.array_equal(pictures.pixels_of(pictures.text_of("x", grey[:70], 70)), np.repeat(grey[:70, :, None], 3, 2))


def test_the_fingerprint_changes_if_and_only_if_a_pixel_could():
    one = recipe().fingerprint
    assert recipe(variant="paper").fingerprint == one
    changed = photograph()
    changed[45:50, 30:40] = 0
    others = [recipe(edges=None), recipe(transform="elastic"), recipe(perturb=0.2), recipe(seed=1)]
    others += [recipe(thresholds=(0.0, 0.01)), gr.SingleImage(changed, classes=12, image_size=SIZE)]
    assert len({one, *(each.fingerprint for each in others)}) == 7
    other_file = Image.fromarray(pictures.pixels_of(recipe().image))
    assert dataclasses.replace(recipe(), image=np.array(other_file)).fingerprint == one


@pytest.mark.parametrize("edges", ["canny", None])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_copies_are_the_image_under_the_transform_of_their_class(transform, edges):
    """Bytes between those of SciPy at the coordinates that the docstring names."""
    made = recipe(transform=transform, edges=edges, perturb=0.3)
    image, images = made._pixels.astype(float), gr.Renderer(made)(range(12)).numpy()
    points = made._perturbations.points(torch.arange(12)).numpy()
    assert np.abs(points).max() <= 0.15
    assert len({each.tobytes() for each in images}) == 12
    i = (2 * np.arange(SIZE) + 1) / SIZE - 1
    x, y = np.broadcast_arrays(i[None, :], i[:, None])
    for e, copy in zip(points, images, strict=True):
        if transform == "elastic":
            grid = e.reshape(2, 11, 11)
            place = [4 * y + 5, 4 * x + 5]  # 8 cells; the second control point is at the canvas's edge
            moved = [ndimage.map_coordinates(g, place, order=3, prefilter=False) for g in grid]
        else:
            terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])[: len(e) // 2]
            moved = np.tensordot(e.reshape(2, -1), terms, 1)
        column, row = ((place + d) * SIZE / 2 + SIZE / 2 - 0.5 for place, d in zip((x, y), moved, strict=True))
        for channel, found in zip(image, copy, strict=True):
            exact = ndimage.map_coordinates(np.pad(channel, 2), [row + 2, column + 2], order=1)
            assert np.abs(exact - found).max() < 0.52


def test_edges_are_grey_and_colours_are_not():
    grey, colours = recipe(), recipe(edges=None)
    assert (grey.channels, colours.channels) == (1, 3)
    assert set(np.unique(grey._pixels)) == {0, 255}
    assert gr.Renderer(grey)(0).shape == (1, 1, SIZE, SIZE)
    assert gr.Renderer(colours)(0).shape == (1, 3, SIZE, SIZE)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_fresh_redraws_the_perturbation_near_that_of_the_class(transform):
    made = recipe(transform=transform, edges=None, perturb=0.05, classes=6, instances=2)
    renderer = gr.Renderer(made)
    still, first, second = (renderer([4, 5], epoch, fresh=epoch > 0) for epoch in range(3))
    assert torch.equal(still[0], still[1])
    assert torch.equal(still, renderer([4, 5], 2, fresh=False))
    assert len({image.numpy().tobytes() for image in (*still[:1], *first, *second)}) == 5
    middle = slice(16, 48)
    assert (first.int() - still.int())[:, :, middle, middle].abs().float().mean() < 30


BAD = [
    (None, {}, TypeError, r"^image must be a path, or a uint8 array \[H, W\] or \[H, W, 3\], got None"),
    (np.zeros((40, 40), bool), {}, ValueError, r"^image must be a path.*, got bool \[40, 40\]"),
    (np.zeros((40, 40)), {}, ValueError, "^image must be a path, or a uint8 array .*, got float64"),
    (np.zeros((40, 40, 4), np.uint8), {}, ValueError, "^image must be a path"),
    (np.zeros((40, 40, 2), np.uint8), {}, ValueError, r"^image must be a path.*, got uint8 \[40, 40, 2\]"),
    (np.zeros((40, 40, 3, 1), np.uint8), {}, ValueError, r"^image must be a path.*, got uint8 \[40, 40, 3, 1\]"),
    (np.zeros(40, np.uint8), {}, ValueError, r"^image must be a path.*, got uint8 \[40\]"),
    (np.zeros((0, 40), np.uint8), {}, ValueError, "^image must have sides of at least 16 pixels"),
    (photograph(15, 40), {}, ValueError, "^image must have sides of at least 16 pixels, got 40 x 15"),
    (np.tile(np.array([9, 8, 7], np.uint8), (40, 40, 1)), {}, ValueError, "^image must show something"),
    (np.full((40, 40), 9, np.uint8), {}, ValueError, "^image must show something, got pixels of a single colour"),
    ("missing.png", {}, ValueError, "^image 'missing.png' cannot be read: No such file or directory"),
    ("data:image/png;base64,#", {}, ValueError, "^image must be a path.*a text must begin with"),
    ("data:image/png;base64,AAAA", {}, ValueError, "^image <PNG text> cannot be read: it is no picture"),
    ("", {}, ValueError, "^image must be a path"),
    (photograph(), {"perturb": 0}, ValueError, "^perturb must be a number .* all classes would be one image"),
    (photograph(), {"edges": "sobel"}, ValueError, "^edges must be one of 'canny', got 'sobel'"),
    (photograph(), {"transform": "afine"}, ValueError, "^transform must be one of .*did you mean 'affine'"),
    (photograph(), {"thresholds": (0.3, 0.2)}, ValueError, "^thresholds must be a pair"),
    (photograph(), {"image_size": 4096}, ValueError, r"^image_size must be an integer in \[16, 2048\]"),
]


@pytest.mark.parametrize(("image", "parameters", "kind", "message"), BAD)
def test_bad_input_is_refused_in_one_line(image, parameters, kind, message):
    with pytest.raises(kind, match=message) as caught:
        gr.SingleImage(image, **parameters)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures_are_named(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(photograph()).save(whole)
    for name, data in {"a.txt": b"text", "b.png": whole.read_bytes()[:700]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"^image '.*{name}' cannot be read: "):
            gr.SingleImage(tmp_path / name)


def test_a_picture_is_read_and_its_edges_are_found_once(monkeypatch):
    """Not anew for each parameter that has nothing to do with it: ``gpurender explore`` changes one after another."""
    first = recipe(thresholds=(0.1, 0.3))
    dataclasses.replace(first, seed=1)
    monkeypatch.setattr(pictures.Image, "open", None)
    monkeypatch.setattr(singleimage.canny, "edges", None)
    other = dataclasses.replace(first, seed=2, perturb=0.2)
    assert other.image == first.image
    assert np.array_equal(gr.Renderer(other).catalog.pixels, gr.Renderer(first).catalog.pixels)


def test_each_picture_size_and_threshold_has_its_own_edges():
    first = recipe()
    sharp, large = dataclasses.replace(first, thresholds=(0.0, 0.01)), dataclasses.replace(first, image_size=80)
    for each in (first, sharp, large, first):
        grey = pictures.grey_of(pictures.pixels_of(each.image)) / 255.0
        assert grey.shape == (each.image_size, each.image_size)
        wanted = singleimage.canny.edges(grey, *each.thresholds)
        assert np.array_equal(gr.Renderer(each).catalog.pixels[0], 255 * wanted.astype(np.uint8))
    assert not np.array_equal(gr.Renderer(sharp).catalog.pixels, gr.Renderer(first).catalog.pixels)


def test_a_text_that_is_no_picture_is_refused_by_its_parameter_each_time():
    for name in ("image", "other", "image"):
        with pytest.raises(
            ValueError, match=rf"^{name} <PNG text> cannot be read: it is no picture that Pillow reads$"
        ):
            pictures.text_of(name, "data:image/png;base64,AAAA", 16)


def test_an_image_without_edges_is_refused():
    """At once: without what is warped it would have no fingerprint."""
    y = np.arange(64, dtype=np.uint8)
    with pytest.raises(ValueError, match="image has no edges at thresholds"):
        gr.SingleImage(np.tile(y[:, None], (1, 64)), classes=2, image_size=64)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_image_of_two_colours_shows_something(axis):
    """Whose rows are alike, or whose columns are, or two of whose channels are empty."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[[np.s_[8:], np.s_[:, 8:], np.s_[3, 4, 2]][axis]] = 255
    assert pictures.text_of("x", image, 16).startswith("data:image/png;base64,")


@pytest.mark.parametrize("error", [OSError("damaged"), ValueError(), SyntaxError(), Image.DecompressionBombError()])
def test_whatever_pillow_raises_is_one_error(monkeypatch, error):
    def refused(source):
        raise error

    monkeypatch.setattr(pictures.Image, "open", refused)
    with pytest.raises(ValueError, match=r"^image 'x\.png' cannot be read: it is no picture that Pillow reads$"):
        gr.SingleImage("x.png")
