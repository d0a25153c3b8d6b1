"""Render the pictures of the documentation: ``python docs/make_pictures.py``."""

from pathlib import Path

from PIL import Image

import gpurender as gr
from gpurender.sheet import contact_sheet

HERE = Path(__file__).parent
IMAGES, CELL = 7, 160
UNDISTORTED = [[1] * 6]  # the categories themselves, without instance weights


def stacked(sheets: list[Image.Image]) -> Image.Image:
    """Return sheets of one width, one below the other."""
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def families() -> Image.Image:
    """Return one row per family (FractalDB also in colour); each image is another class."""
    recipes = [
        gr.OnePFrac(),
        gr.FractalDB(instances=1, weights=UNDISTORTED),
        gr.FractalDB(instances=1, weights=UNDISTORTED, draw_type="patch_color"),
        gr.VisualAtom(instances=1),
    ]
    return stacked([contact_sheet(gr.Renderer(recipe), 1, IMAGES, cell=CELL) for recipe in recipes])


def augmentation() -> Image.Image:
    """Return canvases, and below them the images that a model sees under DeiT."""
    renderer = gr.Renderer(gr.FractalDB(instances=1, weights=UNDISTORTED))
    return stacked(
        [contact_sheet(renderer, 2, IMAGES, cell=CELL, augment=policy) for policy in (None, gr.augment.DeiT())]
    )


if __name__ == "__main__":
    augmentation().quantize(128).save(HERE / "augmentation.png", optimize=True)
    families().quantize(128).save(HERE / "families.png", optimize=True)
