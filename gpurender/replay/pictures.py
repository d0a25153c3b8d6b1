"""The sheet of a replay: one row a batch, every image at its own size, exactly as the model saw it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from gpurender.sheet import CAPTION, GAP, INK, PAPER, font


class Row(NamedTuple):
    """A row of a sheet: a line of text, and pictures, uint8 ``[N, H, W, 3]``, with a line of text above each."""

    caption: str
    names: Sequence[str]
    pictures: np.ndarray


def page(rows: Sequence[Row]) -> Image.Image:
    """Return rows of pictures, one below the other, as one RGB image."""
    width = max(GAP + len(row.pictures) * (row.pictures.shape[2] + GAP) for row in rows)
    heights = [2 * CAPTION + row.pictures.shape[1] + GAP for row in rows]
    sheet = Image.new("RGB", (width, GAP + sum(heights)), (PAPER,) * 3)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        sheet.paste(_line(row.caption, width - GAP), (GAP, top))
        side = row.pictures.shape[2]
        for number, (name, picture) in enumerate(zip(row.names, row.pictures, strict=True)):
            left = GAP + number * (side + GAP)
            sheet.paste(_line(name, side), (left, top + CAPTION))
            sheet.paste(Image.fromarray(picture), (left, top + 2 * CAPTION))
        top += height
    return sheet


def _line(text: str, width: int) -> Image.Image:
    """Return a line of text, of a width in pixels; what does not fit is cut off."""
    line = Image.new("L", (width, CAPTION), PAPER)
    ImageDraw.Draw(line).text((1, 1), text, fill=INK, font=font())
    return line
