"""Easel: the pictures of the page, from renderers that are kept warm."""

import base64
import io
import math
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from gpurender.augment.adapter import as_policy
from gpurender.augment.policy import Policy
from gpurender.augment.resize import resized_crop
from gpurender.commands.explorer.asked import check_size
from gpurender.commands.explorer.turns import Turns
from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.sheet import brightness, in_bytes

WARM = 8  # recipes whose renderers are kept
VIEWS = 8  # augmented views of a sample
VIEW_SIDE = 224  # pixels, as training has them
THUMBNAIL = 96  # pixels: of what the brightness is measured on
SEARCHED = 12  # classes that are searched for at least: a tenth of a second
BATCH_BYTES = 1 << 22  # bytes of canvases rendered at once for a sheet: a newer request waits for no more


class Drawn(NamedTuple):
    """A sample as a picture.

    Attributes:
        sample: its number in the dataset.
        label: its label, or the numbers of its classes.
        canvas: PNG file.
        views: PNG files of the augmented views.
        brightness: the factor that makes a thumbnail's bright parts visible.
    """

    sample: int
    label: int | list[int]
    canvas: bytes
    views: list[bytes]
    brightness: float


class Easel:
    """Draws samples of recipes; may be used by several threads."""

    def __init__(self) -> None:
        self._warm: OrderedDict[tuple[str, int], Warm] = OrderedDict()
        self._lock = threading.Lock()

    def draw(self, recipe: Recipe, label: int, instance: int, augment: str | None, fresh: bool) -> Drawn:
        """Draw one sample, and its augmented views: those of epochs 0, 1, 2 ...

        Args:
            recipe: the recipe.
            label: number of the class.
            instance: number of the image in the class.
            augment: name of a policy, or ``None``: no views.
            fresh: whether the canvas is new in every epoch, as for a loader with ``fresh=True``.

        Raises:
            ValueError: the recipe is too large, or the class has no images.
            StoppedError: a newer request has come.
        """
        warm = self.warm(recipe, label)
        sample = warm.sample(label, instance)
        if sample is None:
            raise ValueError(f"class {label} of this recipe has no image {instance}")
        with warm.turns.taken(first=True):
            canvas, known = warm.canvases([sample]), warm.label(sample)
            views = [] if augment is None else self._views(warm, sample, as_policy(augment), fresh)
        thumbnail = resized(canvas, THUMBNAIL)
        return Drawn(sample, known, png(pixels(canvas)[0]), list(map(png, views)), brightness(pixels(thumbnail)))

    def _views(self, warm: "Warm", sample: int, policy: Policy, fresh: bool) -> list[np.ndarray]:
        """Return the augmented views of a sample, uint8 [side, side, 3] each."""
        return [augmented(warm, sample, epoch if fresh else 0, epoch, policy, VIEW_SIDE) for epoch in range(VIEWS)]

    def sheet(self, recipe: Recipe, cells: list[tuple[int, int]], side: int, augment: str | None) -> list[bytes | None]:
        """Draw some samples small, each a PNG file; ``None`` where a class has no such image.

        Args:
            recipe: the recipe.
            cells: pairs of a class and an instance.
            side: pixels of a side.
            augment: name of a policy, or ``None``: the canvas.

        Raises:
            ValueError: the recipe is too large.
            StoppedError: a newer request has come.
        """
        warm = self.warm(recipe, max((label for label, _ in cells if label < recipe.classes), default=0))
        samples = [warm.sample(label, instance) for label, instance in cells]
        wanted = [sample for sample in samples if sample is not None]
        policy = None if augment is None else as_policy(augment)
        step = 1 if policy else max(1, BATCH_BYTES // (recipe.channels * recipe.image_size**2))
        found: dict[int, bytes] = {}
        for begin in range(0, len(wanted), step):
            part = wanted[begin : begin + step]
            with warm.turns.taken(first=False):  # for a part alone: a picture does not wait for the whole sheet
                if policy is None:
                    pictures = pixels(resized(warm.canvases(part), side))
                else:
                    pictures = augmented(warm, part[0], 0, 0, policy, side)[None]
            found |= dict(zip(part, map(png, pictures), strict=True))
        return [None if sample is None else found[sample] for sample in samples]

    def warm(self, recipe: Recipe, label: int) -> "Warm":
        """Return the renderer of a recipe, kept or new, for a class.

        Raises:
            ValueError: the recipe is too large.
        """
        check_size(recipe)
        part = searched(recipe, label + 1)
        key = recipe.to_json(), part.classes
        with self._lock:
            if key in self._warm:
                self._warm.move_to_end(key)
            else:
                self._warm[key] = Warm(recipe, part)
                if len(self._warm) > WARM:
                    self._warm.popitem(last=False)
            return self._warm[key]


def searched(recipe: Recipe, least: int) -> Recipe:
    """Return a recipe that begins with the same ``least`` classes, without searching for further ones.

    The result of a longer search begins with that of a shorter one, so the classes are the same.
    """
    if not recipe.needs_search():
        return recipe
    classes = min(recipe.classes, -(-least // SEARCHED) * SEARCHED)
    try:
        return as_recipe(recipe, classes=classes, class_prior=None, label_noise=None)
    except TypeError:  # a mixture or a schedule, whose classes are those of its recipes
        return recipe


class Warm:
    """A recipe and the renderer of it, or of its first classes.

    Args:
        recipe: the recipe.
        part: the recipe that is rendered (:func:`searched`).
    """

    def __init__(self, recipe: Recipe, part: Recipe) -> None:
        self.recipe = recipe
        self.turns = Turns()  # catalogs are completed while they are used
        self._renderer = Renderer(part, cache_bytes=0)
        self._whole = self._renderer if part is recipe else Renderer(recipe, cache_bytes=0)
        self._part = part is not recipe
        self._counts, self._first = recipe.class_counts(), recipe.first_samples()

    def sample(self, label: int, instance: int) -> int | None:
        """Return the number of an image in the dataset; ``None`` if there is none."""
        if not 0 <= label < len(self._counts) or not 0 <= instance < self._counts[label]:
            return None
        return int(self._first[label]) + instance

    def label(self, sample: int) -> int | list[int]:
        """Return the label of a sample: a number, or the numbers of its classes."""
        [label] = self._whole.labels([sample])
        if label.dtype == torch.float32:
            return torch.nonzero(label).flatten().tolist()
        return label.tolist()

    def canvases(self, samples: list[int], epoch: int = 0) -> torch.Tensor:
        """Render samples, uint8 ``[N, C, S, S]``; in epochs after 0 new instances."""
        if not self._part:
            return self._renderer(samples, epoch)
        numbers = torch.tensor(samples, dtype=torch.int64, device="cpu")
        labels = torch.from_numpy(np.searchsorted(self._first, samples, side="right") - 1)
        dense = labels * self.recipe.instances + numbers - torch.from_numpy(self._first)[labels]
        if epoch == 0:
            return self._renderer.render(dense, dense, False)
        return self._renderer.render(dense, numbers + epoch * len(self.recipe), True)

    def partner(self, sample: int) -> int:
        """Return the sample that a policy mixes with another one: of another of the first classes, which are known
        whatever has been searched for, so that a sample's views are always the same.
        """
        label = int(np.searchsorted(self._first, sample, side="right")) - 1
        instance = sample - int(self._first[label])
        few = min(SEARCHED, len(self._counts))
        for number in range(few):
            other = (label + few // 2 + number) % few
            if other != label and self._counts[other]:
                return int(self._first[other]) + instance % int(self._counts[other])
        count = int(self._counts[label])  # no other one has images
        return int(self._first[label]) + (instance + count // 2) % count


def augmented(warm: Warm, sample: int, shown: int, epoch: int, policy: Policy, side: int) -> np.ndarray:
    """Return one augmented view, uint8 ``[side, side, 3]``.

    Args:
        warm: of the recipe.
        sample: its number.
        shown: epoch of the canvas.
        epoch: epoch of the augmentation's draws.
        policy: the policy; what it mixes is mixed with a sample of another class.
        side: pixels of a side.
    """
    pair = [sample, warm.partner(sample)]
    canvases = warm.canvases(pair, shown)
    draw_ids = [number + epoch * len(warm.recipe) for number in pair]
    parameters = policy.draw(draw_ids, canvas_size=warm.recipe.image_size, image_size=side)
    return in_bytes(policy.apply(canvases, parameters, image_size=side), policy)[0]


def resized(canvases: torch.Tensor, side: int) -> torch.Tensor:
    """Return canvases, uint8 ``[N, C, S, S]``, bicubically resized to ``[N, C, side, side]``."""
    size = canvases.shape[-1]
    return resized_crop(canvases, [[0, 0, size, size]] * len(canvases), side)


def pixels(canvases: torch.Tensor) -> np.ndarray:
    """Return canvases, uint8 ``[N, C, S, S]``, as NumPy's and Pillow's pictures, uint8 ``[N, S, S, C]``."""
    return np.ascontiguousarray(canvases.permute(0, 2, 3, 1).numpy())


def png(picture: np.ndarray) -> bytes:
    """Return a picture, uint8 ``[S, S, 1 or 3]``, as a PNG file; packed quickly, not small."""
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def url(file: bytes) -> str:
    """Return a PNG file as a text that a page shows."""
    return "data:image/png;base64," + base64.b64encode(file).decode("ascii")


def timed(since: float) -> float:
    """Return the milliseconds since a time of ``time.perf_counter``, to a tenth."""
    return math.floor((time.perf_counter() - since) * 10_000 + 0.5) / 10
