"""Moiré images against the papers' formula in float64, and the released generator's ranges."""

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes.moire import different, fringes, sine


def expected(frequencies, places, size):
    """The released generator's picture of these waves, in float64."""
    y, x = np.mgrid[:size, :size].astype(float)
    waves = [
        np.sin(2 * np.pi * f * np.sqrt((x - cx) ** 2 + (y - cy) ** 2) / size)
        for f, (cx, cy) in zip(frequencies, places, strict=True)
    ]
    z = np.mean(waves, 0)
    return np.floor((z - z.min()) / (z.max() - z.min()) * 255 + 0.5)


@pytest.mark.parametrize("size", [16, 100, 224])
def test_images_are_the_formula_in_float64(size):
    recipe = gr.Moire(classes=20, instances=2, image_size=size, centres=(1, 5), seed=7)
    renderer = gr.Renderer(recipe)
    images, waves = renderer(range(40)), renderer.catalog
    places = recipe.places(torch.arange(40)).numpy().astype(float)
    for i, image in enumerate(images[:, 0].numpy().astype(float)):
        n = int(waves.counts[i // 2])
        theirs = expected(waves.frequencies[i // 2, :n].tolist(), places[i, :n], size)
        assert np.abs(image - theirs).max() <= 1
        assert (image != theirs).mean() < 0.005
        assert image.min() == 0
        assert image.max() == 255
    assert sorted(set(waves.counts.tolist())) == [1, 2, 3, 4, 5]


def test_centres_number_and_frequencies_have_the_released_ranges():
    recipe = gr.Moire(classes=20_000, instances=1, image_size=200)
    waves = recipe.catalog(torch.device("cpu"))
    counts = np.bincount(waves.counts.numpy())
    assert counts[0] == 0
    assert np.abs(counts[1:] / 20_000 - 1 / 3).max() < 0.015
    assert len(counts) == 4
    frequencies = waves.frequencies.numpy()
    assert (frequencies.min(), frequencies.max()) == (1, 100)
    for column in frequencies.T:
        each = np.bincount(column)[1:]
        assert ((each - 200) ** 2 / 200).sum() < 100 + 4 * 200**0.5
    assert all((a != b).all() for a, b in zip(frequencies.T, np.roll(frequencies.T, 1, 0), strict=True))
    places = recipe.places(torch.arange(20_000)).numpy().reshape(-1, 6)
    assert places.min() >= 16
    assert places.max() <= 184
    assert np.abs(places.mean(0) - 100).max() < 2
    assert np.abs(places.std(0) - 168 / 12**0.5).max() < 1
    assert np.abs(np.corrcoef(places.T) - np.eye(6)).max() < 0.04
    assert np.corrcoef(places[:, 0], frequencies[:, 0])[0, 1] < 0.04


def test_choices_without_replacement_are_uniform_over_all_orders():
    drawn = torch.from_numpy(np.random.default_rng(2).integers(0, 2**32, (24_000, 3)))
    ranks = different(drawn, 4).numpy()
    orders, counts = np.unique(ranks, axis=0, return_counts=True)
    assert len(orders) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 24 + 4 * 48**0.5
    assert (np.sort(different(drawn[:9].repeat(1, 2)[:, :4], 4).numpy(), 1) == np.arange(4)).all()
    low, high = torch.zeros(1, 3, dtype=torch.int64), torch.full((1, 3), 2**32 - 1)
    assert different(low, 9).tolist() == [[0, 1, 2]]
    assert different(high, 9).tolist() == [[8, 7, 6]]


def test_the_sine_is_close_to_the_library_s():
    turns = torch.linspace(-3, 140, 400_001)
    exact = np.sin(2 * np.pi * turns.numpy().astype(float))
    assert np.abs(sine(turns.clone()).numpy() - exact).max() < 1e-6
    quarters = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(sine(quarters).numpy(), [0, 1, 0, -1, 0], atol=1e-6)


def test_a_class_has_its_waves_and_an_image_its_centres():
    recipe = gr.Moire(classes=4, instances=5, image_size=32, centres=(2, 2))
    renderer = gr.Renderer(recipe)
    images = renderer(range(20))
    assert len({image.numpy().tobytes() for image in images}) == 20
    assert torch.equal(renderer([3, 17]), images[[3, 17]])
    assert torch.equal(renderer([3], 2), renderer([3], 2, fresh=False))
    assert not torch.equal(renderer([3], 2), images[[3]])
    assert images.shape == (20, 1, 32, 32)
    assert recipe.channels == 1
    assert not torch.equal(gr.Renderer(gr.Moire(classes=4, instances=5, image_size=32, seed=1))([3]), images[[3]])


def test_images_do_not_depend_on_the_batch(monkeypatch):
    renderer = gr.Renderer(gr.Moire(classes=9, instances=4, image_size=32))
    whole = renderer(range(36))
    for pixels in (1, 1024, 3000):
        monkeypatch.setattr("gpurender.recipes.moire.HOST_PIXELS", pixels)
        assert torch.equal(renderer(range(36)), whole)


def test_an_image_without_contrast_is_black():
    still = fringes(torch.tensor([0]), torch.tensor([[1]]), torch.zeros(1, 1, 2), 16)
    assert not still.any()
    assert still.dtype == torch.uint8


def test_the_defaults_and_the_fingerprint():
    recipe = gr.Moire()
    assert (recipe.classes, recipe.instances, recipe.image_size) == (1000, 1000, 224)
    assert (recipe.centres, recipe.frequencies, recipe.margin) == ((1, 3), (1, 100), 0.08)
    assert gr.Moire(variant="paper").fingerprint == gr.Moire().fingerprint
    for change in ({"margin": 0.1}, {"centres": (1, 4)}, {"frequencies": (2, 100)}, {"seed": 1}):
        assert gr.Moire(**change).fingerprint != gr.Moire().fingerprint
    assert gr.Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"centres": (0, 3)}, r"centres\[0\] must be an integer in \[1, 16\], got 0$"),
        ({"centres": (1, 17)}, r"centres\[1\] must be an integer in \[1, 16\], got 17$"),
        ({"frequencies": (0, 3)}, r"frequencies\[0\] must be an integer in \[1, 8192\], got 0$"),
        (
            {"frequencies": (4, 5)},
            r"frequencies must be at least 3 integers, one for each of the centres, got \(4, 5\)$",
        ),
        ({"margin": 0.51}, r"margin must be a finite number in \[0, 0.5\], got 0.51$"),
        ({"margin": -0.1}, r"margin must be a finite number in \[0, 0.5\], got -0.1$"),
    ],
)
def test_bad_input_is_refused(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        gr.Moire(**parameters)


def test_the_ends_of_the_ranges_render():
    assert gr.Renderer(gr.Moire(frequencies=(4, 6), image_size=16, margin=0.5))([0]).max() == 255
    recipe = gr.Moire(centres=(16, 16), frequencies=(8177, 8192), image_size=16, margin=0)
    assert sorted(recipe.catalog(torch.device("cpu")).frequencies[0].tolist()) == list(range(8177, 8193))
    assert gr.Renderer(recipe)([0]).max() == 255
