"""Contact sheets: one class per row, one instance per column."""

import numpy as np
import torch
from PIL import Image

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.recipes.base import Recipe, RecipeLike
from gpurender.renderer import Renderer
from gpurender.util import checks

GAP = 4  # pixels between images
PAPER = 255  # grey level of the sheet


def contact_sheet(
    recipe: RecipeLike,
    rows: int = 4,
    cols: int = 6,
    *,
    augment: PolicyLike | str | None = None,
    cell: int = 224,
    device: str | torch.device = "cpu",
) -> Image.Image:
    """Render a sheet of ``rows`` classes, spread over all classes, with ``cols`` instances each.

    Args:
        recipe: any argument of ``gr.recipe``.
        rows, cols: 1 to 64 each; a recipe with fewer classes (that have images) fills fewer rows, and where a class has
            fewer instances the columns continue into the next epochs.
        augment: a policy (of one view) to show; default: the canvas itself, resized. A policy that mixes samples mixes
            those of a column.
        cell: side of an image on the sheet in pixels.

    Returns:
        An RGB image.
    """
    renderer = Renderer(recipe, device)
    rows, cols = checks.integer("rows", rows, 1, 64), checks.integer("cols", cols, 1, 64)
    recipe = renderer.recipe
    rows = min(rows, int(np.count_nonzero(recipe.class_counts())))
    samples, epochs = _shown(recipe, rows, cols)  # [R, C] both
    pictures = np.empty((rows, cols, cell, cell, 3), np.uint8)
    for col in range(cols):  # a column is a batch: classes are mixed
        pictures[:, col] = _pictures(renderer, samples[:, col], epochs[:, col], augment, cell)
    height, width = (GAP + count * (cell + GAP) for count in samples.shape)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    for row, col in np.ndindex(rows, cols):
        top, left = GAP + row * (cell + GAP), GAP + col * (cell + GAP)
        sheet[top : top + cell, left : left + cell] = pictures[row, col]
    return Image.fromarray(sheet)


def _shown(recipe: Recipe, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices and epochs to show, int64 ``[rows, cols]`` each: classes with images and instances, spread."""
    counts = recipe.class_counts()
    present = np.flatnonzero(counts)
    classes = present[np.linspace(0, len(present) - 1, rows).astype(np.int64)]
    begins, counts = (np.cumsum(counts) - counts)[classes, None], counts[classes, None]  # [R, 1]
    last = np.maximum(counts, cols) - 1
    places = np.floor(np.linspace(0, 1, cols) * last + 1e-9).astype(np.int64)  # [R, C]
    return begins + places % counts, places // counts


def _pictures(
    renderer: Renderer, samples: np.ndarray, epochs: np.ndarray, augment: PolicyLike | str | None, cell: int
) -> np.ndarray:
    """Render samples at their epochs and apply the policy; uint8 ``[N, cell, cell, 3]``."""
    policy = as_policy(augment)
    numbers = samples + epochs * len(renderer.recipe)
    drawn = [renderer(samples[epochs == epoch], int(epoch)) for epoch in np.unique(epochs)]
    canvases = torch.cat(drawn)[torch.from_numpy(np.argsort(np.argsort(epochs, kind="stable"))).to(renderer.device)]
    parameters = policy.draw(numbers, canvas_size=renderer.recipe.image_size, image_size=cell)
    images = policy.apply(canvases, parameters, image_size=cell)  # [N, 3, cell, cell], normalised
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device="cpu").view(1, 3, 1, 1) for values in (policy.mean, policy.std)
    )
    levels = (images.cpu() * std + mean) * 255.0
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
