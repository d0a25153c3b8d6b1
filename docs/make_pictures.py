"""Render the pictures of the documentation: ``python docs/make_pictures.py``.

The picture of SingleImage is Chelsea the cat, a photograph of scikit-image that is in the public domain (CC0).
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from skimage import data

import gpurender as gr
from gpurender.sheet import CAPTION, GAP, contact_sheet

HERE = Path(__file__).parent
ROWS = HERE / "families"  # a picture for each section of families.md
IMAGES, CELL = 7, 160
FEW, SMALL = 4, 112  # images of a family and their side, with which the file stays below 400 kB
COLUMNS = 2
UNDISTORTED = [[1] * 6]  # the categories themselves, without instance weights
UNDISTORTED_3D = [[1] * 12]


def stacked(sheets: list[Image.Image]) -> Image.Image:
    """Return sheets of one width, one below the other."""
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def named(name: str, recipe: gr.Recipe) -> Image.Image:
    """Return a row of images, each another class (or another view of one class), under the family's name."""
    sheet = contact_sheet(gr.Renderer(recipe), 1, FEW, cell=SMALL)
    drawing = ImageDraw.Draw(sheet)
    drawing.rectangle((0, 0, sheet.width, GAP + CAPTION - 1), "white")  # over the names of the classes
    drawing.text((GAP, 2), name, "black", ImageFont.load_default(13))
    for left in range(GAP, sheet.width - GAP, SMALL + GAP):  # edges, which a white ground does not show
        drawing.rectangle((left - 1, GAP + CAPTION - 1, left + SMALL, GAP + CAPTION + SMALL), outline="silver")
    return sheet


def rows() -> dict[str, tuple[str, Image.Image]]:
    """Return a few images of every family: rows by their names, each with its recipe's family."""
    cat = data.chelsea()
    recipes = {
        "1p-frac": gr.OnePFrac(),
        "FractalDB": gr.FractalDB(instances=1, weights=UNDISTORTED),
        "FractalDB in colour": gr.FractalDB(instances=1, weights=UNDISTORTED, draw_type="patch_color"),
        "OFDB (2D-OFDB)": gr.OFDB(),
        "ExFractalDB": gr.ExFractalDB(classes=8, instances=1, weights=UNDISTORTED_3D),
        "MV-FractalDB: views of one class": gr.ExFractalDB(classes=1, weights=UNDISTORTED_3D, viewpoints="fixed"),
        "3D-OFDB": gr.recipe("3d-ofdb-1k", classes=8),
        "ColorFractal": gr.ColorFractal(instances=1),
        "MultiFractal": gr.MultiFractal(instances=1),
        "VisualAtom": gr.VisualAtom(instances=1),
        "VisualAtom, the paper's variant": gr.VisualAtom(instances=1, variant="paper"),
        "VisualAtom, perturbed": gr.recipe("visualatom-lpce-1k"),
        "RCDB": gr.RCDB(instances=1),
        "RCDB, perturbed": gr.recipe("rcdb-lpce-1k"),
        "SingleImage, edges": gr.SingleImage(cat),
        "SingleImage, colours, elastic": gr.SingleImage(cat, edges=None, transform="elastic", image_size=224),
        "Noise, Gaussian": gr.recipe("gaussian-lpce-1k"),
        "Noise, uniform": gr.recipe("uniform-lpce-1k"),
        "Moire": gr.Moire(instances=1),
    }
    return {name: (recipe.family, named(name, recipe)) for name, recipe in recipes.items()}


def families(sheets: list[Image.Image]) -> Image.Image:
    """Return the rows of all families in columns."""
    columns = [stacked(sheets[first::COLUMNS]) for first in range(COLUMNS)]
    whole = Image.new("RGB", (sum(column.width for column in columns), columns[0].height), "white")
    for number, column in enumerate(columns):
        whole.paste(column, (number * column.width, 0))
    return whole


def augmentation() -> Image.Image:
    """Return canvases, and below them the images that a model sees under DeiT."""
    renderer = gr.Renderer(gr.FractalDB(instances=1, weights=UNDISTORTED))
    return stacked(
        [contact_sheet(renderer, 2, IMAGES, cell=CELL, augment=policy) for policy in (None, gr.augment.DeiT())]
    )


if __name__ == "__main__":
    augmentation().quantize(128).save(HERE / "augmentation.png", optimize=True)
    found = rows()
    families([sheet for _, sheet in found.values()]).quantize(128).save(HERE / "families.png", optimize=True)
    ROWS.mkdir(exist_ok=True)
    for family in {family for family, _ in found.values()}:
        own = stacked([sheet for owner, sheet in found.values() if owner == family])
        own.quantize(64).save(ROWS / f"{family}.png", optimize=True)
