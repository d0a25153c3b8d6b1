"""Coloured fractals: the density of an iterated function system as a hue, on a textured background.

Source: Anderson & Farrell, "Improving Fractal Pre-training" (WACV 2022), and the authors' released generator.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from gpurender.kernels.chaos_game import densities
from gpurender.kernels.collage import Objects, collages
from gpurender.kernels.philox import uniform
from gpurender.recipes import colored
from gpurender.util import checks, keywords

SHIFT = 0.2  # of the view's centre, in extents of the points
ZOOM = (0.5, 2.0)  # of the view, in extents of the points


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class ColorFractal(colored.ColoredRecipe):
    """Coloured images of contractive iterated function systems, ``systems`` of them per class.

    A system has 2 to 4 affine maps whose singular values have a sigma-factor of U((5 + n) / 2, (6 + n) / 2), n the
    number of maps; maps are chosen with probabilities in proportion to \\|det\\|. Every image is drawn anew from its
    system:

    - the system's parameters vary (``jitter``), and the game starts at the fixed point of the first map;
    - the view is moved by U(-0.2, 0.2) of the points' extent along each axis, and shows U(0.5, 2) of it; points outside
      are dropped;
    - every point covers the same random bits of 3 x 3 pixels; the number of points on a pixel, divided by the largest
      number, is its density x. One patch in 512 has no bit, and its image is the background;
    - the hue is (255 x + U(0, 255)) mod 256, with one saturation U(0.3, 1) and one value U(0.5, 1) per image;
    - the fractal is transposed, flipped top-bottom and flipped left-right with probability 1/2 each, pasted on a
      diamond-square texture, and the image is blurred with probability 1/2 by a Gaussian of 3 x 3 pixels with a
      standard deviation of U(0.5, 1).

    Args:
        classes: number of classes.
        instances: images per class; instance i has system i mod ``systems`` of its class.
        image_size: side of the canvas in pixels.
        systems: systems per class, at most ``instances``.
        maps: range of the number of maps, within 1 to 8, both included.
        points: points per image.
        jitter: variation of a system's parameters: ``"basic"``, ``"fractaldb-1"`` to ``"fractaldb-9"``, ``"svd"``,
            ``"sval"`` or ``"none"``; :mod:`gpurender.recipes.system_jitter` says what they are.
        color: hues by density; else every covered pixel has the grey 127.
        background: a texture behind the fractal; else black.
        variant: ``"released"``: the hue's byte is OpenCV's, in units of two degrees, so that densities cover 510
            degrees; ``"paper"``: 256 hues are one turn, the plain reading of a hue mod 256.

    ``fresh`` has no effect: everything that an image does not share with its class depends on its draw id.

    Differences from the released program. The systems follow the law of the authors' file of 100,000 systems, but are
    others. The points are float32, and those of many walkers that start along one game, where the released game has one
    walker and float64 (:mod:`gpurender.kernels.chaos_game`). The released loader shows cached images again, moved and
    turned, with probability 1/2; this makes its program fast and is left out. Its label of sample n is n // classes,
    which is the class where classes = instances, as in the authors' configurations.

    The authors' errata say that, whatever the configurations state, the experiments had 1,000 systems, one per class:
    this is ``colorfractal-1k``. ``colorfractal-100k`` makes each system of a file of 100,000 a class.
    """

    family: ClassVar[str] = "colorfractal"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "colorfractal-1k": {},
        "colorfractal-100k": {"classes": 100_000, "instances": 10},
    }

    color: bool = True
    background: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.systems > self.instances:
            raise ValueError(f"systems must be at most instances = {self.instances}, got {self.systems}")
        self._set("color", checks.boolean("color", self.color))
        self._set("background", checks.boolean("background", self.background))

    @classmethod
    def smallest(cls) -> "ColorFractal":
        return cls(classes=8, instances=8, points=1000, image_size=32)

    def canonical(self) -> dict[str, Any]:
        values = super().canonical()
        if not (self.color or self.background):
            del values["variant"]  # there are no hues
        return values

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
        size, unit = self.image_size, colored.HUE_UNITS[self.variant]
        classes, instances = indices // self.instances, indices % self.instances
        systems = catalog.varied(classes * self.systems + instances % self.systems, self.jitter, self.seed, draw_ids)
        u = colored.object_words(self.seed, draw_ids, 1)[:, 0]  # [N, WORDS]
        own = u[:, colored.OWN :]
        drawn = densities(
            systems, draw_ids, views(own[:, :4]), colored.patches(u), seed=self.seed, points=self.points, size=size
        )
        places = torch.zeros((len(u), 3), dtype=torch.int32, device=u.device)
        places[:, 2] = size
        objects = Objects(drawn, colored.orientations(u), colored.colours(u, self.color), places)
        if self.background:
            grounds = colored.backgrounds(self.seed, draw_ids, size, unit)
        else:
            grounds = torch.zeros((len(u), 3, size, size), dtype=torch.uint8, device=u.device)
        return collages(objects, grounds, catalog.blurs(own[:, 4], own[:, 5]), hue_unit=unit)


def views(u: torch.Tensor) -> torch.Tensor:
    """Return views of words, int64 ``[N, 4]``: shift and half side along x and y, float32 ``[N, 4]``."""
    shift = SHIFT * (2.0 * uniform(u[:, :2]) - 1.0)
    half = 0.5 * (ZOOM[0] + (ZOOM[1] - ZOOM[0]) * uniform(u[:, 2:]))
    return torch.cat([shift, half], 1).float()
