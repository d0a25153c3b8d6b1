"""Several coloured fractals in one image, whose label is the set of their classes.

Source: Anderson & Farrell, "Improving Fractal Pre-training" (WACV 2022), and the authors' released generator.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from gpurender.kernels.chaos_game import densities
from gpurender.kernels.collage import Objects, collages
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.streams import Stream
from gpurender.recipes import colored, labels
from gpurender.util import checks, keywords

MOST_OBJECTS = 16
NO_SETS = "an image has objects of several classes"


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class MultiFractal(colored.ColoredRecipe):
    """Images of 1 to 5 coloured fractals each, on a background; labels are multi-hot, float32 ``[N, classes]``.

    Index n shows an object of class n // instances and up to four others, whose classes are drawn uniformly, with
    repetition. An object is a fractal of :class:`gpurender.ColorFractal` in full view at half the canvas's side,
    flipped and transposed at random, coloured anew, resized to U(0.15, 0.6) of the canvas's side, and pasted at a place
    drawn uniformly among those with its middle in the canvas, over earlier objects. Half of all images are blurred.

    The rows of labels are 0 and 1, for ``torch.nn.BCEWithLogitsLoss``; policies mix them as they mix the images. (The
    authors weigh positives by classes / (number of ones in the row).)

    Args:
        classes: number of classes.
        instances: images per class (of the first object).
        image_size: side of the canvas in pixels.
        systems: systems per class; every object has a random one.
        maps, points, jitter, variant: as for :class:`gpurender.ColorFractal`; the default is no jitter, as released.
        objects: range of the number of objects, within 1 to 16, both included.
        sizes: range of an object's side as a fraction of the canvas's, within 0.01 to 1.

    Raises:
        ValueError: also for ``class_prior`` and ``label_noise``, which need one class per image.

    The released loader keeps up to 512 objects and backgrounds and draws every image from these, with a new one every
    second image; that repeats objects in order to be fast. Here every object and background is drawn for its image. The
    classes are those of objects drawn uniformly from an epoch, in both cases: the first object's class is uniform over
    an epoch, as those of the others are, and objects that are drawn independently may come in any order.

    ``fresh`` draws new classes for the other objects as well, so the labels of an epoch differ from those of the
    dataset.
    """

    family: ClassVar[str] = "multifractal"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"multifractal-1k": {}}
    multi_hot: ClassVar[bool] = True

    jitter: str = colored.NONE
    objects: tuple[int, int] = (1, 5)
    sizes: tuple[float, float] = (0.15, 0.6)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("class_prior", "label_noise"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} must be left out, got {checks.shown(getattr(self, name))}: {NO_SETS}")
        self._set("objects", checks.integer_range("objects", self.objects, 1, MOST_OBJECTS))
        self._set("sizes", checks.real_range("sizes", self.sizes, 0.01, 1.0))

    @classmethod
    def smallest(cls) -> "MultiFractal":
        return cls(classes=8, instances=8, points=1000, image_size=32)

    @property
    def label_width(self) -> int:
        """Numbers per label: one for each class."""
        return self.classes

    def label_map(self, device: Any) -> "MultiHotLabelMap":
        return MultiHotLabelMap(self, device)

    def composition(
        self, classes: torch.Tensor, draw_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return whether objects exist, bool, and their classes and systems, int64, ``[N, K]`` each.

        ``classes``: of the first objects; ``draw_ids``: int64 ``[N]``. Objects that do not exist have the first one's
        class.
        """
        most = self.objects[1]
        u = words(self.seed, Stream.COMPOSITION, draw_ids, -(-(1 + 2 * most) // 4))
        count = self.objects[0] + bounded(u[:, 0], most - self.objects[0] + 1)
        number = torch.arange(most, device=draw_ids.device)
        exist = number < count[:, None]
        others = bounded(u[:, 1 : 1 + most], self.classes)
        found = torch.where(exist & (number > 0), others, classes[:, None])
        return exist, found, found * self.systems + bounded(u[:, 1 + most : 1 + 2 * most], self.systems)

    def canvases(
        self,
        catalog: colored.ColoredSystems,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Render uint8 canvases ``[N, 3, image_size, image_size]`` of indices and draw ids, int64 ``[N]`` both."""
        size, unit, most = self.image_size, colored.HUE_UNITS[self.variant], self.objects[1]
        exist, _, systems = self.composition(indices // self.instances, draw_ids if fresh else indices)
        u = colored.object_words(self.seed, draw_ids, most)  # [N, K, WORDS]
        own, blur = u[..., colored.OWN :].flatten(0, 1), u[:, 0, -2:]
        point_ids = own[:, 3] << 32 | own[:, 4]  # 64 random bits: every object has its own points
        drawn = densities(
            catalog.varied(systems.flatten(), self.jitter, self.seed, point_ids),
            point_ids,
            whole_views(len(own), u.device),
            torch.where(exist, colored.patches(u), 0).flatten(),  # with no patch no point is computed
            seed=self.seed,
            points=self.points,
            size=size // 2,
        )
        objects = Objects(
            drawn,
            colored.orientations(u).flatten(),
            colored.colours(u, True).flatten(0, 1),
            self._places(own, exist.flatten()),
        )
        grounds = colored.backgrounds(self.seed, draw_ids, size, unit)
        return collages(objects, grounds, catalog.blurs(blur[:, 0], blur[:, 1]), hue_unit=unit)

    def _places(self, u: torch.Tensor, exist: torch.Tensor) -> torch.Tensor:
        """Return top, left and side of objects, int32 [N K, 3]; u  # [N K, words]: of side, top and left."""
        low, high = self.sizes
        side = torch.floor(self.image_size * (low + (high - low) * uniform(u[:, 0]))).to(torch.int64).clamp(min=1)
        corners = bounded(u[:, 1:3], self.image_size) - (side // 2)[:, None]
        return torch.cat([corners, torch.where(exist, side, 0)[:, None]], 1).to(torch.int32)


class MultiHotLabelMap(labels.LabelMap):
    """Classes and multi-hot labels of the samples of one recipe, used like
    :class:`gpurender.recipes.labels.LabelMap`."""

    def __init__(self, recipe: MultiFractal, device: torch.device) -> None:
        super().__init__(recipe.classes, recipe.instances, recipe.seed, None, None, device)
        self.is_default = False
        self._recipe = recipe

    def labels(self, indices: torch.Tensor, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return labels, float32 ``[N, classes]``; ``draw_ids``: the addresses of the objects' classes."""
        _, classes, _ = self._recipe.composition(self.classes(indices), draw_ids)
        rows = torch.zeros((len(indices), self._recipe.classes), dtype=torch.float32, device=indices.device)
        return rows.scatter_(1, classes, 1.0)


def whole_views(count: int, device: torch.device) -> torch.Tensor:
    """Return views of all points, float32 ``[count, 4]``."""
    views = torch.zeros((count, 4), dtype=torch.float32, device=device)
    views[:, 2:] = 0.5
    return views
