"""Copies of one real image under geometric perturbations, each copy a class.

Source: Nakamura, Tadokoro et al., "Scaling Backwards: Minimal Synthetic Pre-training?" (ECCV 2024), section 4.4 and
tables 11 and 12.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.warp import MORE, TERMS, warped
from gpurender.recipes import canny, perturbation, pictures
from gpurender.recipes.base import Recipe
from gpurender.util import checks, keywords
from gpurender.util.lazy import cached_property

MOST_SIZE = 2048  # pixels of a side: the picture is part of the JSON text, 17 MB at most
CELLS = 8  # cells of an elastic field along an axis
POINTS = CELLS + MORE
DIMENSIONS = {"affine": 2 * 3, "polynomial": 2 * TERMS, "elastic": 2 * POINTS * POINTS}


@dataclass(frozen=True)
class Picture:
    """What is warped, and how, on a device.

    Attributes:
        pixels: the image, uint8 ``[C, S, S]``.
        points: perturbations of the classes, float64 ``[classes, d]``.
    """

    pixels: torch.Tensor
    points: torch.Tensor


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class SingleImage(Recipe):
    """Copies of one image or of its edges: a class is one perturbation of the plane.

    >>> gr.SingleImage("photograph.jpg", transform="affine")

    A copy shows at the point (x, y) of the canvas [-1, 1]^2 what the image has at (x, y) + D(x, y). The numbers in D
    are the class's point epsilon, uniform in the hypercube [-perturb/2, perturb/2]^d::

        affine       e1 + e2 x + e3 y, and likewise of y with e4 ... e6                         d = 6
        polynomial   e1 + e2 x + e3 y + e4 x^2 + e5 x y + e6 y^2, and likewise of y             d = 12
        elastic      the cubic B-spline of 11 x 11 control points of x, and of 11 x 11 of y     d = 242

    So the affine copies are the image under the identity's six coefficients plus epsilon, as 1p-frac perturbs its maps.
    The image is interpolated bilinearly, and black beyond its edge. ``fresh=True`` draws a new epsilon around that of
    the class for each image (:mod:`gpurender.recipes.perturbation`); otherwise all instances of a class are equal.

    Args:
        image: the path of a picture that Pillow reads, or uint8 ``[H, W]`` or ``[H, W, 3]``. Its middle square, resized
            to the canvas by Pillow's bicubic filter, becomes a part of the recipe, as PNG text: JSON needs no file, and
            the fingerprint depends on the pixels that are warped. At least 16 pixels a side.
        classes: L, perturbations.
        instances: images per class.
        image_size: side of the square canvas in pixels, 16 to 2048.
        edges: ``"canny"``: copies of the image's edges, white on black, on grey canvases; ``None``: of its colours.
        thresholds: (low, high) of the gradient's magnitude in Canny's detector, within 0 to 8, in units of the range of
            grey levels, as ``skimage.feature.canny`` takes them for an image in [0, 1]
            (:mod:`gpurender.recipes.canny`).
        transform: ``"affine"``, ``"polynomial"`` or ``"elastic"``.
        perturb: the side delta of the hypercube, 1e-4 to 0.5.
        variant: without effect, as no generator was released.

    Raises:
        TypeError, ValueError: also if the image cannot be read, is too small, of a single colour or without edges.

    **What the paper leaves open.** It applies affine, elastic and polynomial transforms to one of five photographs, or
    to its Canny image, and gives no formula, range, threshold or size of any of them. Chosen: delta 0.1, the best value
    for 1p-frac, in units of half the canvas; degree 2 for the polynomial; for the elastic transform a random field
    smoothed by a B-spline of 1/8 of the canvas, which is nearly a Gaussian of 1/14 of the canvas; the thresholds and
    the sigma, 1, that scikit-image has by default; the transform of the edges, not the edges of a transformed image.

    Recipes of equal fingerprints may differ in the PNG text, if it was written by different versions of zlib.
    """

    family: ClassVar[str] = "singleimage"
    paper: ClassVar[str] = (
        "Nakamura et al., Scaling Backwards: Minimal Synthetic Pre-training?, ECCV 2024, "
        "https://arxiv.org/abs/2408.00677"
    )

    image: Any = field(default=None, kw_only=False)  # after validation: str
    edges: str | None = "canny"
    thresholds: tuple[float, float] = (0.1, 0.2)
    transform: str = "affine"
    perturb: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("image_size", checks.integer("image_size", self.image_size, 16, MOST_SIZE))
        if self.edges is not None:
            self._set("edges", checks.choice("edges", self.edges, ("canny",)))
        self._set("thresholds", checks.real_range("thresholds", self.thresholds, 0.0, 8.0))
        self._set("transform", checks.choice("transform", self.transform, tuple(DIMENSIONS)))
        self._set("perturb", perturbation.checked(self.perturb))
        self._set("image", pictures.text_of("image", self.image, self.image_size))
        if self.edges is not None:
            self._pixels  # noqa: B018 (refuses an image without edges; kept for the fingerprint and the catalog)

    @classmethod
    def smallest(cls) -> "SingleImage":
        disc = np.hypot(*np.indices((16, 16)) - 7.5) < 5
        return cls((255 * disc).astype(np.uint8), classes=32, image_size=16)

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Channels of a canvas: 1 for edges, 3 for colours."""
        return 3 if self.edges is None else 1

    def canonical(self) -> dict[str, Any]:
        values = super().canonical() | {"image": hashlib.sha256(self._pixels.tobytes()).hexdigest()}
        return {name: value for name, value in values.items() if name not in ("variant", "edges", "thresholds")}

    @cached_property
    def _pixels(self) -> np.ndarray:
        """What is warped, uint8 [C, S, S]."""
        if self.edges is None:
            return np.ascontiguousarray(pictures.pixels_of(self.image).transpose(2, 0, 1))
        found = _edges(self.image, *self.thresholds)
        if not found.any():
            raise ValueError(
                f"image has no edges at thresholds {self.thresholds}: lower them, or take the colours, edges=None"
            )
        return found

    @property
    def _perturbations(self) -> perturbation.Law:
        return perturbation.Law(self.seed, self.perturb, self.classes, DIMENSIONS[self.transform])

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Picture:
        """Return the image and the perturbations of all classes. (No copies are kept.)"""
        points = self._perturbations.points(torch.arange(self.classes, device=device))
        return Picture(torch.from_numpy(self._pixels.copy()).to(device), points)

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``epsilon`` of classes, the point of the hypercube."""
        return [{"epsilon": point} for point in self._perturbations.points(torch.from_numpy(classes)).tolist()]

    def canvases(
        self,
        catalog: Picture,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Render uint8 canvases ``[N, 1 or 3, image_size, image_size]`` of indices and draw ids, int64 ``[N]`` both."""
        which = indices // self.instances
        points = self._perturbations.fresh_points(which, draw_ids) if fresh else catalog.points[which]
        return warped(catalog.pixels, *transforms(points, self.image_size))


@functools.lru_cache(maxsize=pictures.KEPT)
def _edges(image: str, low: float, high: float) -> np.ndarray:
    """Return the edges of a picture's text, 0 and 255, uint8 [1, S, S]; recipes share them, and must only read them."""
    grey = pictures.grey_of(pictures.pixels_of(image)) / 255.0
    return 255 * canny.edges(grey, low, high)[None].astype(np.uint8)


def transforms(points: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the coefficients and the field of :func:`gpurender.kernels.warp.warped` from perturbations.

    Args:
        points: float64 ``[N, d]``; d says which transform these are of.
        size: pixels of a side.

    Returns:
        float32 ``[N, 2, 6]``, in pixels, and float32 ``[N, 2, 11, 11]`` for the elastic transform, else ``None``.
    """
    count, half = len(points), 0.5 * size
    moved = torch.zeros((count, 2, TERMS), dtype=torch.float64, device=points.device)
    elastic = points.shape[1] == DIMENSIONS["elastic"]
    if not elastic:
        rows = points.view(count, 2, points.shape[1] // 2)
        moved[:, :, : rows.shape[2]] = rows
    moved[:, 0, 1] += 1.0
    moved[:, 1, 2] += 1.0
    coefficients = half * moved
    coefficients[:, :, 0] += half - 0.5  # the middle of the canvas
    control = (half * points).view(count, 2, POINTS, POINTS).float() if elastic else None
    return coefficients.float(), control
