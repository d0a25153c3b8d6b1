"""Draw the pictures of the documentation: ``python docs/make_pictures.py``."""

from pathlib import Path

from PIL import Image

import gpurender as gr
from gpurender.preview import GAP, contact_sheet

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


if __name__ == "__main__":
    families().quantize(64).save(HERE / "families.png", optimize=True)
