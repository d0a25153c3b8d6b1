"""Draw the pictures of the documentation: ``python docs/make_pictures.py``."""

from pathlib import Path

from PIL import Image

import gpurender as gr
from gpurender.commands.preview import GAP, contact_sheet

HERE = Path(__file__).parent
IMAGES, CELL = 7, 160


def families() -> Image.Image:
    """One row a family, each image of another class."""
    recipes = [gr.OnePFrac(), gr.FractalDB(instances=1, weights=[[1] * 6]), gr.VisualAtom(instances=1)]
    step = CELL + GAP
    sheet = Image.new("RGB", (IMAGES * step + GAP, len(recipes) * step + GAP), "white")
    for row, recipe in enumerate(recipes):
        column = contact_sheet(recipe, IMAGES, 1, cell=CELL)  # one class below the other: laid side by side here
        for k in range(IMAGES):
            sheet.paste(column.crop((GAP, GAP + k * step, step, (k + 1) * step)), (GAP + k * step, GAP + row * step))
    return sheet


def augmentation() -> Image.Image:
    """Canvases, and what a model sees of them: a column is a batch, in which opposite images are mixed."""
    recipe = gr.FractalDB(instances=1, weights=[[1] * 6])
    plain, seen = (contact_sheet(recipe, 2, IMAGES, cell=CELL, augment=policy) for policy in (None, gr.augment.DeiT()))
    sheet = Image.new("RGB", (plain.width, plain.height + seen.height - GAP), "white")
    sheet.paste(plain, (0, 0))
    sheet.paste(seen, (0, plain.height - GAP))
    return sheet


if __name__ == "__main__":
    augmentation().quantize(128).save(HERE / "augmentation.png", optimize=True)
    families().quantize(64).save(HERE / "families.png", optimize=True)
