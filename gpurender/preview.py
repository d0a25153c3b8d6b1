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
        rows, cols: 1 to 64 each; a recipe with fewer classes fills fewer rows, and where a class has fewer instances
            the columns go on into the next epochs.
        augment: a policy (of one view) to show; default: the canvas itself, resized. Where it mixes samples, it mixes
            those of a column.
        cell: side of an image on the sheet in pixels.

    Returns:
        an RGB image.
    """
    renderer = Renderer(recipe, device)
    rows, cols = checks.integer("rows", rows, 1, 64), checks.integer("cols", cols, 1, 64)
    recipe = renderer.recipe
    rows = min(rows, recipe.classes)
    classes = np.linspace(0, recipe.classes - 1, rows).astype(np.int64)
    places = np.linspace(0, max(recipe.instances, cols) - 1, cols).astype(np.int64)
    samples = classes[:, None] * recipe.instances + places % recipe.instances  # [R, C]
    pictures = np.empty((rows, cols, cell, cell, 3), np.uint8)
    for col, epoch in enumerate((places // recipe.instances).tolist()):  # a column is a batch: classes are mixed
        pictures[:, col] = _pictures(renderer, samples[:, col], epoch, augment, cell)
    height, width = (GAP + count * (cell + GAP) for count in samples.shape)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    for row, col in np.ndindex(rows, cols):
        top, left = GAP + row * (cell + GAP), GAP + col * (cell + GAP)
        sheet[top : top + cell, left : left + cell] = pictures[row, col]
    return Image.fromarray(sheet)


def _pictures(renderer: Renderer, samples: np.ndarray, epoch: int, augment: Policy | None, cell: int) -> np.ndarray:
    """uint8 [N, cell, cell, 3]."""
    from gpurender.augment import Resize

    policy = Resize() if augment is None else augment
    numbers = samples + epoch * len(renderer.recipe)
    parameters = policy.draw(numbers, canvas_size=renderer.recipe.image_size, image_size=cell)
    images = policy.apply(renderer(samples, epoch), parameters, image_size=cell)  # [N, 3, cell, cell], normalised
    mean, std = (torch.tensor(getattr(policy, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
    levels = (images.cpu() * std + mean) * 255.0
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
