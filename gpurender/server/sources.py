"""Sources: what an expert is trained on: the images of a recipe, or some files of an image folder.

Both kinds give a feed of batches for training, and a few samples by which they are compared with others.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from gpurender.augment.crop import Crop
from gpurender.augment.normalise import HALVES
from gpurender.kernels.shuffle import permute
from gpurender.loading.data_loader import DataLoader
from gpurender.recipes.base import Recipe
from gpurender.renderer import Renderer
from gpurender.tasks import Samples
from gpurender.tasks.sources import SUFFIXES, Set, open_image
from gpurender.training.examples import Examples
from gpurender.training.loop import Feed
from gpurender.training.pretrain import Stream
from gpurender.util import checks

SHOWN = 2048  # images by which a source or a client is scored: the standard error of an accuracy is below 0.012
# Area of a random crop: a small part of a formula's image does not say by how much it was turned. With 0.08 to 1, and
# flips, experts on 32 classes of FractalDB, RCDB and coloured fractals were at chance after 40,000 images.
SCALE = (0.5, 1.0)
SHOWN_CLASSES = 16  # of a recipe, for experts on classes: a linear head needs some images of each
FRESH_EPOCH = 1 << 20  # of shown images: no training of these lengths comes to it, so no expert has seen them


class Source(Protocol):
    """Images with labels, without end."""

    @property
    def classes(self) -> int:
        """How many classes the labels have."""

    def feed(self, size: int, side: int, seed: int, device: torch.device) -> Feed:
        """Return batches of ``size`` augmented images of a side in pixels."""

    def shown(self, classify: bool) -> Samples:
        """Return images that the experts have not been trained on, if there are any."""


@dataclass(frozen=True)
class RecipeSource:
    """The images of a recipe, drawn anew for each epoch."""

    recipe: Recipe

    @property
    def classes(self) -> int:
        """How many classes the recipe has."""
        return self.recipe.classes

    def feed(self, size: int, side: int, seed: int, device: torch.device) -> Feed:
        """Return batches of randomly cropped images."""
        return Stream(DataLoader(
            self.recipe, batch_size=size, shuffle=True, drop_last=size <= len(self.recipe), image_size=side,
            augment=Crop(scale=SCALE, hflip=0.0), device=device, seed=seed, fresh=True,
        ))  # fmt: skip

    def shown(self, classify: bool) -> Samples:
        """Return images of an epoch that no training comes to; for experts on classes, of some classes alone."""
        indices = self._few_classes() if classify else _some(len(self.recipe), SHOWN)
        renderer = Renderer(self.recipe)
        labels = renderer.labels(indices, FRESH_EPOCH).numpy()
        names, dense = np.unique(labels, return_inverse=True)

        def image(i: int) -> Image.Image:
            canvas = renderer([int(indices[i])], FRESH_EPOCH)[0]  # [C, S, S] uint8
            pixels = canvas.permute(1, 2, 0).numpy()
            return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")

        found = Set([str(i) for i in indices], dense.astype(np.int64), tuple(map(str, names)), image)
        return Samples(found, np.arange(len(indices)))

    def _few_classes(self) -> np.ndarray:
        """Return indices of the same number of images of each of a few classes, spread over all, int64 ``[N]``."""
        classes, instances = self.recipe.classes, len(self.recipe) // self.recipe.classes
        chosen = np.unique(np.linspace(0, classes - 1, min(classes, SHOWN_CLASSES)).astype(np.int64))
        each = min(instances, SHOWN // len(chosen))
        return (chosen[:, None] * instances + np.arange(each)).reshape(-1)


@dataclass(frozen=True)
class FilesSource:
    """Some images of a folder with one subfolder per class (or none).

    Attributes:
        folder: of all images.
        names: paths of this source's images in the folder.
    """

    folder: Path
    names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.samples().classes)

    def samples(self) -> Samples:
        """Return all images; the class is the first folder of an image's path."""
        return samples_of(self.folder, self.names)

    def feed(self, size: int, side: int, seed: int, device: torch.device) -> Feed:
        """Return batches of randomly cropped and flipped images."""
        from timm.data import create_transform

        transform = create_transform(side, is_training=True, scale=SCALE, color_jitter=0.4, mean=HALVES, std=HALVES)
        return Examples(self.samples(), transform, None, size, 0, 1, seed, 0, device)

    def shown(self, classify: bool) -> Samples:
        """Return some of the images."""
        names = self.names if classify else [self.names[i] for i in _some(len(self.names), SHOWN)]
        return samples_of(self.folder, names)


def samples_of(folder: Path, names: Any) -> Samples:
    """Return the images of a folder by their paths in it; the class is the first folder of a path, if it has any."""
    owners = [name.partition("/")[0] if "/" in name else "" for name in names]
    classes, labels = np.unique(owners, return_inverse=True)
    found = Set(list(names), labels.astype(np.int64), tuple(map(str, classes)), lambda i: open_image(folder / names[i]))
    return Samples(found, np.arange(len(names)))


def image_names(folder: Path) -> list[str]:
    """Return the paths of all images in a folder and its subfolders, relative to it and sorted; links are followed.

    Raises:
        ValueError: it is no folder, or has no image.
    """
    if not folder.is_dir():
        raise ValueError(f"data must be a folder of images, and there is no folder {str(folder)!r}")
    found = (path for path in _files(folder, set()) if path.suffix.lower() in SUFFIXES and path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    if not names:
        raise ValueError(f"data: {str(folder)!r} has no image ({', '.join(SUFFIXES)})")
    return names


def _files(folder: Path, above: set[Path]) -> Iterator[Path]:
    """Yield what is in a folder and its subfolders; links to folders are followed, unless they lead back up.

    Args:
        folder: to be listed.
        above: the real paths of the folders that it is in.
    """
    here = folder.resolve()
    if here in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, above | {here})
        else:
            yield path


def few(samples: Samples, count: int) -> Samples:
    """Return at most ``count`` of the images, chosen at random but always the same."""
    return samples.part(_some(len(samples), count))


def _some(length: int, count: int) -> np.ndarray:
    """Return at most ``count`` of ``length`` indices, chosen at random but always the same, int64, ascending."""
    positions = np.arange(min(count, length), dtype=np.int64)
    return np.sort(permute(positions, length, 0, np.zeros_like(positions)))


def described(source: Source) -> dict[str, Any]:
    """Return a source as JSON values for a catalogue; the files of a folder are kept beside it."""
    if isinstance(source, RecipeSource):
        return {"recipe": json.loads(source.recipe.to_json()), "fingerprint": source.recipe.fingerprint}
    assert isinstance(source, FilesSource)
    return {"images": len(source.names), "bytes": sum((source.folder / name).stat().st_size for name in source.names)}


def check_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe that can be part of a mixture.

    Raises:
        ValueError: it is multi-hot, a schedule, or a mixture, whose parts can be given instead.
    """
    if not recipe.order().on_device:  # a mixture would refuse it when all experts are trained
        raise ValueError(f"recipes must not be {recipe.family}s: the server makes a mixture; give the recipes inside")
    if recipe.multi_hot:
        raise ValueError(f"recipes must have one label per image, and {checks.shown(recipe)} has several")
    return recipe
