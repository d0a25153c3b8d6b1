"""Draw the pictures of the documentation: ``python docs/make_pictures.py``."""

from pathlib import Path

from PIL import Image

import gpurender as gr
from gpurender.preview import GAP, contact_sheet

HERE = Path(__file__).parent
COLUMNS, CELL = 7, 160


def families() -> Image.Image:
    """One row a family, each image of another class."""
    recipes = [gr.OnePFrac(), gr.FractalDB(instances=1, weights=[[1] * 6]), gr.VisualAtom(instances=1)]
    rows = [contact_sheet(recipe, 1, COLUMNS, cell=CELL) for recipe in recipes]
    sheet = Image.new("RGB", (rows[0].width, len(rows) * (CELL + GAP) + GAP), "white")
    for k, row in enumerate(rows):
        sheet.paste(row, (0, k * (CELL + GAP)))
    return sheet


if __name__ == "__main__":
    families().quantize(64).save(HERE / "families.png", optimize=True)
