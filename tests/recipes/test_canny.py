"""Canny's edges against scikit-image's, pixel for pixel."""

import numpy as np
import pytest
from PIL import Image

from gpurender.recipes import canny, pictures
from tests.support.optional import optional

THRESHOLDS = [(0.1, 0.2), (0.0, 0.05), (0.3, 0.3)]


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_edges_are_those_of_scikit_image(thresholds):
    data, feature = optional("skimage.data"), optional("skimage.feature")
    rng = np.random.default_rng(5)
    photographs = [pictures.grey_of(data.astronaut()), data.camera(), data.coins()]
    drawn = [np.kron(rng.integers(0, 256, (9, 7)), np.ones((8, 8))), rng.integers(0, 256, (33, 50))]  # ties, noise
    for grey in (*photographs, *drawn, np.zeros((20, 20))):
        image = grey / 255.0
        wanted = feature.canny(image, sigma=1.0, low_threshold=thresholds[0], high_threshold=thresholds[1])
        assert np.array_equal(canny.edges(image, *thresholds), wanted)


@pytest.mark.parametrize("shape", [(3, 3), (8, 9), (9, 8), (10, 11), (9, 40), (40, 9), (4, 25), (31, 17)])
def test_edges_of_small_images_are_those_of_scikit_image(shape):
    """The Gaussian of 9 x 9 pixels reaches over both edges, over one, or over none."""
    feature, rng = optional("skimage.feature"), np.random.default_rng(3)
    for image in (rng.random(shape), rng.integers(0, 3, shape) / 2, np.cumsum(rng.random(shape), 0) / shape[0]):
        for low, high in ((0.0, 0.02), (0.1, 0.4), (0.5, 0.5)):
            wanted = feature.canny(image, sigma=1.0, low_threshold=low, high_threshold=high)
            assert np.array_equal(canny.edges(image, low, high), wanted)


@pytest.mark.parametrize("shape", [(1, 30), (5, 8), (9, 9), (10, 8), (8, 10), (12, 33)])
def test_what_is_known_of_an_image_is_smoothed_ones(shape):
    known = canny._known(shape)
    assert known.tobytes() == canny._smooth(np.ones(shape)).tobytes()
    assert known.shape == shape


def test_the_table_is_the_gaussian():
    exact = np.exp(-0.5 * np.arange(-4.0, 5.0) ** 2)
    assert np.abs(np.array(canny.GAUSSIAN) - (exact / exact.sum())[:5]).max() < 1e-16


def test_greys_are_those_of_pillow():
    colours = np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert np.array_equal(pictures.grey_of(colours), np.array(Image.fromarray(colours).convert("L")))
