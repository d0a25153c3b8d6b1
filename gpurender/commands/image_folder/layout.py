"""ImageFolder layout: the path of every sample, the folders of classes, whether a file is there."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gpurender.commands.image_folder.selection import Selection
from gpurender.recipes.base import Recipe
from gpurender.renderer import LABELS, Renderer
from gpurender.util.lazy import cached_property

log = logging.getLogger("gpurender")

NAME = re.compile(r"(.+)_([0-9]{4,10})\.png")  # of an image: its class, its instance
PNG_END = bytes.fromhex("0000000049454e44ae426082")  # the chunk IEND, which ends every whole PNG file


class Places:
    """The paths of a recipe's images."""

    def __init__(self, root: Path, recipe: Recipe) -> None:
        self.root, self._recipe = root, recipe
        self._digits = max(4, len(str(recipe.instances - 1)))
        self._firsts, self._counts = recipe.first_samples(), recipe.class_counts()

    def sample(self, name: str) -> int | None:
        """Return the sample whose file may have a name, to be compared with its path, or ``None``."""
        found = NAME.fullmatch(name)
        number = None if found is None else self._numbers.get(found[1])
        if found is None or number is None or int(found[2]) >= self._counts[number]:
            return None
        return int(self._firsts[number]) + int(found[2])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {self._recipe.class_name(number): number for number in range(self._recipe.classes)}

    def paths(self, samples: Sequence[int], labels: Sequence[int]) -> list[Path]:
        """Return the files of samples that have these labels."""
        names = self.names(samples)
        return [
            self.root / self._recipe.class_name(label) / f"{name}.png"
            for name, label in zip(names, labels, strict=True)
        ]

    def names(self, samples: Sequence[int]) -> list[str]:
        """Return the names of samples: class and instance."""
        found = []
        for sample in samples:
            number = int(np.searchsorted(self._firsts, sample, side="right")) - 1  # the last: not an empty class
            instance = sample - int(self._firsts[number])
            found.append(f"{self._recipe.class_name(number)}_{instance:0{self._digits}d}")
        return found


def joint_labels(renderer: Renderer, samples: list[int] | np.ndarray) -> torch.Tensor:
    """Return the labels of samples as numbers of classes, int64 ``[N]``."""
    return renderer.recipe.joint(renderer.labels(samples))


def require_folders(recipe: Recipe) -> None:
    """Refuse a recipe whose images have no folder: an ImageFolder has one class per image."""
    if recipe.multi_hot:
        raise ValueError(
            f"recipe must have one label per image for an ImageFolder, got {recipe.family}: multi-hot labels; "
            "format 'webdataset' takes it"
        )


def class_folders(root: Path, renderer: Renderer, selection: Selection) -> list[Path]:
    """Return the folders of the selected classes and of all labels of the selected images, by number of the class.

    Under a limit, classes after the last label of an image have no folder: a few images of 21,000 classes do not make
    21,000 folders. Log the classes without images: ImageFolder numbers the existing folders, and a class without a
    folder would shift the labels of all later classes.
    """
    filled = labels_with_images(renderer, selection)
    wanted = selection.chosen.copy()
    if selection.limited:
        wanted[int(np.flatnonzero(filled)[-1]) + 1 :] = False
    name = renderer.recipe.class_name
    if len(empty := np.flatnonzero(wanted & ~filled)):
        log.warning(
            "%s: no image of class %s%s; ImageFolder(folder, allow_empty=True) counts these classes, too",
            root, ", ".join(map(name, empty[:5].tolist())), f" and of {len(empty) - 5} more" if len(empty) > 5 else "",
        )  # fmt: skip
    return [root / name(number) for number in np.flatnonzero(wanted | filled).tolist()]


def labels_with_images(renderer: Renderer, selection: Selection) -> np.ndarray:
    """Return which classes are the label of a selected sample, bool ``[classes]``.

    Labels are looked up some thousands at a time: with a matrix of label noise every sample looks up one row.
    """
    if renderer.has_default_labels:
        return selection.counts > 0
    filled = np.zeros(renderer.recipe.classes, bool)
    for first in range(0, len(selection), LABELS):
        filled[joint_labels(renderer, selection.samples(first, first + LABELS)).cpu().numpy()] = True
    return filled


def make_folders(folders: list[Path]) -> None:
    """Make folders beside each other that are missing."""
    there = set(os.listdir(folders[0].parent))
    for folder in folders:
        if folder.name not in there:
            folder.mkdir(exist_ok=True)


def is_whole(path: Path) -> bool:
    """Return whether an image file exists and has its end; a file without read permission counts as complete."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except PermissionError:
        return True
    except OSError:
        return False
