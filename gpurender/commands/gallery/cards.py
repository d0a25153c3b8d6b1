"""Cards of a gallery: what is shown of a preset."""

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from gpurender.augment.adapter import PolicyLike
from gpurender.recipes.base import Recipe, presets, recipe
from gpurender.renderer import Renderer
from gpurender.sheet import contact_sheet
from gpurender.util.progress import progress

SEARCHED = 12  # classes that are searched for, in seconds; those of the whole dataset begin with these
CELL = 160  # pixels: side of a picture


class Card(NamedTuple):
    """A preset: its recipe, the parameters that its name stands for, and pictures of it as a PNG file.

    ``shown``: the number of classes from which the pictures are chosen.
    """

    name: str
    recipe: Recipe
    values: dict[str, Any]
    png: bytes
    shown: int


def cards(cols: int, augment: PolicyLike | None, device: str | torch.device) -> Iterator[Card]:
    """Render ``cols`` pictures of every preset, and yield their cards in the order of the names."""
    with progress(total=len(presets()), desc="gallery", unit="preset") as bar:
        for name in presets():
            yield _card(name, cols, augment, device)
            bar.update()


def _card(name: str, cols: int, augment: PolicyLike | None, device: str | torch.device) -> Card:
    whole = recipe(name)
    part = recipe(name, classes=SEARCHED) if whole.needs_search() else whole
    sheet = contact_sheet(Renderer(part, device), 1, cols, augment=augment, cell=CELL)
    sheet.save(file := io.BytesIO(), format="PNG")
    return Card(name, whole, type(whole).presets[name], file.getvalue(), part.classes)
