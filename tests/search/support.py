"""Small tasks and spaces for the tests of searches."""

import numpy as np

import gpurender as gr

RECIPES = {"choice": [
    {"family": "visualatom", "classes": 4, "instances": {"range": [4, 16]}, "image_size": 32, "orbits": [2, 4],
     "radius": [4, 8]},
    {"family": "onepfrac", "classes": 4, "points": {"log": [500, 4000]}, "image_size": 32},
]}  # fmt: skip
TEMPLATE = {
    "recipe": RECIPES, "model": {"choice": ["test_vit", "test_resnet"]},
    "training": {"image_size": 32, "batch_size": 16, "lr": {"log": [1e-4, 1e-2]}},
}  # fmt: skip


def task(folder, name="a", shift=0, images=30, **options):
    """A task of three classes that differ in brightness, by noise not always."""
    generator = np.random.default_rng(shift)
    labels = (np.arange(images) + shift) % 3
    pixels = (generator.integers(0, 200, (images, 8, 8)) + 25 * labels[:, None, None]).astype(np.uint8)
    np.savez(folder / f"{name}.npz", x_train=pixels, y_train=labels, x_test=pixels[::-1], y_test=labels[::-1])
    return gr.tasks.Task(folder / f"{name}.npz", **options)


def score_of(key, rung):
    """A made-up score that only config and rung decide."""
    return int(key[:6], 16) / 2**24 / 2 + rung / 10
