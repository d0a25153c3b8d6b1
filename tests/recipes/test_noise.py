"""Noise images: the distribution of a class's pixels, shared random numbers, fresh perturbations, bad input."""

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes import noise

each = pytest.mark.parametrize("distribution", ["gaussian", "uniform"])


def channels(recipe, label):
    """The pixels of the first image of a class: float64 [3, pixels]."""
    return gr.Renderer(recipe)(label * recipe.instances)[0].flatten(1).numpy().astype(float)


def test_gaussian_pixels_have_the_mean_and_covariance_of_their_class():
    recipe = gr.Noise(classes=3, image_size=512, perturb=0.3, seed=4)
    points = recipe._perturbations.points(torch.arange(3)).numpy()
    assert np.abs(points).max() > 0.1
    for label, p in enumerate(points):
        y = (channels(recipe, label) - 127.5) / 42.5
        c = np.diag(1 + p[3:6])
        c[[1, 2, 2, 0, 0, 1], [0, 0, 1, 1, 2, 2]] = [*p[6:], *p[6:]]
        assert np.abs(y.mean(1) - p[:3]).max() < 0.01  # five standard errors
        assert np.abs(np.cov(y) - c).max() < 0.02  # 0.3 % of the pixels are clipped


def test_uniform_pixels_have_the_range_of_their_class():
    recipe = gr.Noise(distribution="uniform", classes=3, image_size=512, perturb=0.3, seed=4)
    points = recipe._perturbations.points(torch.arange(3)).numpy()
    for label, p in enumerate(points):
        y = channels(recipe, label)
        assert np.abs(y.min(1) - (127.5 + 96 * (p[:3] - 1))).max() <= 0.6
        assert np.abs(y.max(1) - (127.5 + 96 * (p[3:] + 1))).max() <= 0.6
        assert np.abs(np.corrcoef(y) - np.eye(3)).max() < 0.01
        for values in y:
            counts = np.bincount(values.astype(int))[int(values.min()) + 1 : int(values.max())]
            assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < len(counts) + 6 * (2 * len(counts)) ** 0.5


def test_every_covariance_is_positive_definite():
    """At the corners of what a class and a fresh perturbation of it add up to."""
    corners = torch.from_numpy(np.random.default_rng(1).choice([-noise.MOST, noise.MOST], (2000, 9)))
    assert torch.isfinite(noise.of_gaussian(corners)).all()
    factors = noise.of_gaussian(corners)[:, :, 1:] / noise.DEVIATION
    c = factors @ factors.mT
    torch.testing.assert_close(torch.diagonal(c, 0, 1, 2), 1 + corners[:, 3:6])
    torch.testing.assert_close(c[:, [1, 2, 2], [0, 0, 1]], corners[:, 6:])


@each
def test_classes_are_one_image_under_perturbations(distribution):
    near = gr.Noise(distribution=distribution, classes=6, instances=2, image_size=64, perturb=1e-4)
    images = gr.Renderer(near)(range(12)).view(6, 2, 3, 64, 64).int()
    assert (images - images[:1]).abs().max() <= 1
    assert (images[:, 0] - images[:, 1]).abs().float().mean() > 20
    apart = gr.Noise(distribution=distribution, classes=6, image_size=64)
    assert len({image.numpy().tobytes() for image in gr.Renderer(apart)(range(6))}) == 6


@each
def test_fresh_redraws_the_perturbation_and_nothing_else(distribution):
    recipe = gr.Noise(distribution=distribution, classes=4, image_size=48)
    renderer = gr.Renderer(recipe)
    still, first, second = (renderer([2, 2], epoch, fresh=epoch > 0).int() for epoch in range(3))
    assert torch.equal(still, renderer([2, 2], 3, fresh=False).int())
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert 0 < (first - second).abs().float().mean() < 6


def test_the_presets():
    for name, distribution in (("gaussian-lpce-1k", "gaussian"), ("uniform-lpce-1k", "uniform")):
        recipe = gr.recipe(name)
        assert (recipe.classes, recipe.instances, recipe.perturb, recipe.distribution) == (1000, 1, 0.1, distribution)
    assert gr.Noise(variant="paper").fingerprint == gr.Noise().fingerprint
    assert gr.Noise(perturb=0.2).fingerprint != gr.Noise().fingerprint


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"perturb": 0}, "^perturb must be a number from 0.0001 to 0.3, got 0: without a perturbation all classes"),
        ({"perturb": 0.4}, r"^perturb must be a finite number in \[0.0001, 0.3\], got 0.4"),
        ({"distribution": "normal"}, "^distribution must be one of 'gaussian', 'uniform', got 'normal'"),
    ],
)
def test_bad_input_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        gr.Noise(**parameters)
