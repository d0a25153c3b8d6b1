"""Contact sheets: one class a row, one instance a column."""

import numpy as np
import torch
from PIL import Image

from gpurender import checks
from gpurender.augment.policy import Policy
from gpurender.recipes import Recipe
from gpurender.renderer import Renderer

GAP = 4  # pixels between images
PAPER = 255  # the sheet's own grey


def contact_sheet(
    recipe: Recipe | str,
    rows: int = 4,
    cols: int = 6,
    *,
    augment: Policy | None = None,
    cell: int = 224,
    device: str | torch.device = "cpu",
) -> Image.Image:
    """A sheet of ``rows`` classes, spread over all of them, with ``cols`` instances each.

    Args:
        recipe: whatever ``gr.recipe`` takes.
        rows, cols: 1 to 64 each; a recipe with fewer classes or instances fills fewer, and with one instance a class
            the columns go on to other classes.
        augment: a policy to show; default: the canvas itself, resized.
        cell: side of an image on the sheet in pixels.

    Returns:
        an RGB image.
    """
    renderer = Renderer(recipe, device)
    rows, cols = checks.integer("rows", rows, 1, 64), checks.integer("cols", cols, 1, 64)
    samples = _spread(renderer.recipe, rows, cols)  # [R, C]
    pictures = _pictures(renderer, samples.ravel(), augment, cell)  # [R*C, cell, cell, 3] uint8
    height, width = (GAP + count * (cell + GAP) for count in samples.shape)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = (GAP + place * (cell + GAP) for place in divmod(k, samples.shape[1]))
        sheet[top : top + cell, left : left + cell] = picture
    return Image.fromarray(sheet)


def _spread(recipe: Recipe, rows: int, cols: int) -> np.ndarray:
    """Sample numbers int64 [rows, cols], classes and instances evenly spread."""
    if recipe.instances == 1:
        classes = np.linspace(0, recipe.classes - 1, min(rows * cols, recipe.classes)).astype(np.int64)
        cols = min(cols, len(classes))
        return classes[: len(classes) // cols * cols].reshape(-1, cols)
    classes = np.linspace(0, recipe.classes - 1, min(rows, recipe.classes)).astype(np.int64)
    instances = np.linspace(0, recipe.instances - 1, min(cols, recipe.instances)).astype(np.int64)
    return classes[:, None] * recipe.instances + instances


def _pictures(renderer: Renderer, samples: np.ndarray, augment: Policy | None, cell: int) -> np.ndarray:
    """uint8 [N, cell, cell, 3]."""
    from gpurender.augment import Resize

    policy = Resize() if augment is None else augment
    parameters = policy.draw(samples, canvas_size=renderer.recipe.image_size)
    images = policy.apply(renderer(samples), parameters, image_size=cell)  # [N, 3, cell, cell], normalised
    mean, std = (torch.tensor(getattr(policy, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
    levels = (images.cpu() * std + mean) * 255.0
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
