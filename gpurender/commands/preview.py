"""The pictures of ``gpurender preview``."""

from collections.abc import Sequence

import torch
from PIL import Image

from gpurender import sheet
from gpurender.augment.adapter import PolicyLike
from gpurender.recipes.base import RecipeLike
from gpurender.renderer import Renderer


def contact_sheet(
    recipe: RecipeLike,
    rows: int | None = None,
    cols: int = 6,
    *,
    classes: Sequence[int] | None = None,
    augment: PolicyLike | str | None = None,
    cell: int = 224,
    device: str | torch.device = "cpu",
) -> Image.Image:
    """Render a contact sheet, an RGB image, as :func:`gpurender.sheet.contact_sheet` describes.

    Args:
        recipe: any argument of ``gr.recipe``.
        rows, cols, classes, augment, cell: as there.
        device: the device that renders.
    """
    return sheet.contact_sheet(Renderer(recipe, device), rows, cols, classes=classes, augment=augment, cell=cell)
