"""What ImageFolder would find in the folder of an export although the recipe does not name it."""

import os
from collections.abc import Iterator
from pathlib import Path

from gpurender.commands.image_folder.layout import Places, joint_labels
from gpurender.recipes.base import Recipe
from gpurender.renderer import LABELS, Renderer
from gpurender.util.atomic_files import TEMPORARY

IMAGES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # endings that ImageFolder reads


def foreign_entries(root: Path, recipe: Recipe) -> Iterator[Path]:
    """Yield the folders in the folder of an export that are no class of the recipe, and images beside the folders.

    ImageFolder would number such a folder as a class. Other files there are read by nobody, and left out.
    """
    classes = set(map(recipe.class_name, range(recipe.classes)))
    for path in sorted(root.iterdir()):
        if path.name not in classes and (path.is_dir() or _is_image(path.name)):
            yield path


def foreign_images(renderer: Renderer, root: Path, folders: list[Path]) -> Iterator[Path]:
    """Yield the images below folders of classes that are not the file of a sample with this label."""
    places = Places(root, renderer.recipe)
    for folder in folders:
        found = sorted(_images(folder))
        for first in range(0, len(found), LABELS):
            files = found[first : first + LABELS]
            samples = [sample for path in files if (sample := places.sample(path.name)) is not None]
            labels = joint_labels(renderer, samples).tolist() if samples else []
            named = set(places.paths(samples, labels))
            yield from (path for path in files if path not in named)


def _images(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder and all folders below it, through links, as ImageFolder finds them."""
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES) and not name.startswith(TEMPORARY)
