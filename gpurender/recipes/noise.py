"""Noise images, whose classes are perturbations of their distribution: controls of 1p-frac.

Source: Nakamura, Tadokoro et al., "Scaling Backwards: Minimal Synthetic Pre-training?" (ECCV 2024), table 4.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.pixel_noise import pixels
from gpurender.recipes import perturbation
from gpurender.recipes.base import Recipe
from gpurender.util import checks, keywords

TERMS = {"gaussian": 9, "uniform": 6}  # dimensions of a perturbation: mean and covariance; lower and upper ends
MOST = 0.3  # side of the hypercube: a covariance matrix is positive definite below 1/3
MIDDLE = 127.5  # levels
DEVIATION = 42.5  # levels: six standard deviations are the range of a byte
HALF_RANGE = 96.0  # levels: no end leaves the byte, as 1.3 x 96 < 127.5


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class Noise(Recipe):
    """Images of independent random pixels: a class is one perturbation of the pixels' distribution.

    A pixel (red, green, blue) is 127.5 + s y, rounded to bytes, and y has one of two distributions::

        gaussian   y ~ N(m, C), s = 42.5      m = (0, 0, 0), C = identity
        uniform    y_c ~ U(a_c, b_c), s = 96   a_c = -1, b_c = 1 for each channel c

    Class l has a point epsilon, uniform in the hypercube [-perturb/2, perturb/2]^d, which is added to these parameters:
    to the three entries of m and the six of the symmetric C (d = 9), or to the three a_c and the three b_c (d = 6). All
    classes have the same random numbers otherwise: they show one image under perturbations, as those of 1p-frac do.
    Instance i of all classes shares those of another image. ``fresh=True`` draws a new epsilon around that of the class
    for each image (:mod:`gpurender.recipes.perturbation`).

    Args:
        classes: L, perturbations.
        instances: images per class.
        image_size: side of the square canvas in pixels.
        distribution: ``"gaussian"`` or ``"uniform"``.
        perturb: the side delta of the hypercube, 1e-4 to 0.3.
        variant: without effect, as no generator was released.

    **What the paper leaves open.** It says of its two noise images that epsilon is added to the mean vector and the
    covariance matrix of the Gaussian distribution, and no more. Open are what has this distribution (the pixels, or
    points in the plane that are drawn like a fractal's), the number of channels, mean and covariance themselves, the
    units of epsilon and its size, what is perturbed of the uniform distribution, and whether classes share random
    numbers. Chosen: pixels, because the table is of noise images; three channels, because one level has no mean vector;
    a byte's middle, and a spread for which few pixels or none are clipped; epsilon in units of the standard deviation,
    of the variance and of half the range; both ends of the uniform range; delta 0.1, the best value for 1p-frac; one
    image, because the table's caption says so. Pre-training on such images is meant to fail.
    """

    family: ClassVar[str] = "noise"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "gaussian-lpce-1k": {},
        "uniform-lpce-1k": {"distribution": "uniform"},
    }
    paper: ClassVar[str] = (
        "Nakamura et al., Scaling Backwards: Minimal Synthetic Pre-training?, ECCV 2024, "
        "https://arxiv.org/abs/2408.00677"
    )
    channels: ClassVar[int] = 3

    distribution: str = "gaussian"
    perturb: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("distribution", checks.choice("distribution", self.distribution, tuple(TERMS)))
        self._set("perturb", perturbation.checked(self.perturb, MOST))

    @classmethod
    def smallest(cls) -> "Noise":
        return cls(classes=32, image_size=16)

    def canonical(self) -> dict[str, Any]:
        return {name: value for name, value in super().canonical().items() if name != "variant"}

    @property
    def _perturbations(self) -> perturbation.Law:
        return perturbation.Law(self.seed, self.perturb, self.classes, TERMS[self.distribution])

    def _coefficients(self, points: torch.Tensor) -> torch.Tensor:
        """Return the coefficients of pixels from perturbations, float64 ``[N, d]``: float32 ``[N, 3, 4]``."""
        return (of_gaussian if self.distribution == "gaussian" else of_uniform)(points).float()

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return the law of the pixels of classes, in the units above: ``mean`` and ``covariance``, or ``low`` and
        ``high``, a and b.
        """
        points = self._perturbations.points(torch.from_numpy(classes))
        if self.distribution == "uniform":
            ends = zip((points[:, :3] - 1.0).tolist(), (points[:, 3:] + 1.0).tolist(), strict=True)
            return [{"low": low, "high": high} for low, high in ends]
        laws = zip(points[:, :3].tolist(), covariances(points).tolist(), strict=True)
        return [{"mean": mean, "covariance": covariance} for mean, covariance in laws]

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> torch.Tensor:
        """Return the coefficients of all classes, float32 ``[classes, 3, 4]``. (No images are kept.)"""
        return self._coefficients(self._perturbations.points(torch.arange(self.classes, device=device)))

    def canvases(
        self,
        catalog: torch.Tensor,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Render uint8 canvases ``[N, 3, image_size, image_size]`` of indices and draw ids, int64 ``[N]`` both."""
        which = indices // self.instances
        laws = self._coefficients(self._perturbations.fresh_points(which, draw_ids)) if fresh else catalog[which]
        return pixels(
            laws, indices % self.instances, normal=self.distribution == "gaussian", seed=self.seed, size=self.image_size
        )


def of_gaussian(points: torch.Tensor) -> torch.Tensor:
    """Return coefficients of N(m, C): the offset 127.5 + s m, and s times the lower triangular L with L L^T = C.

    Args:
        points: float64 ``[N, 9]``, added to m, to the diagonal of C, and to its entries (1, 0), (2, 0), (2, 1).

    Returns:
        float64 ``[N, 3, 4]``, from + - x / and square roots alone.
    """
    m = points[:, :3]
    c00, c11, c22 = (1.0 + points[:, 3 + i] for i in range(3))
    c10, c20, c21 = (points[:, 6 + i] for i in range(3))
    l00 = torch.sqrt(c00)
    l10, l20 = c10 / l00, c20 / l00
    l11 = torch.sqrt(c11 - l10 * l10)
    l21 = (c21 - l20 * l10) / l11
    l22 = torch.sqrt(c22 - l20 * l20 - l21 * l21)
    zero = torch.zeros_like(l00)
    rows = [torch.stack(row, 1) for row in ((l00, zero, zero), (l10, l11, zero), (l20, l21, l22))]
    return torch.cat([(MIDDLE + DEVIATION * m)[:, :, None], DEVIATION * torch.stack(rows, 1)], 2)


def covariances(points: torch.Tensor) -> torch.Tensor:
    """Return C, float64 ``[N, 3, 3]``, of perturbations as :func:`of_gaussian` takes them."""
    places = torch.tensor([[3, 6, 7], [6, 4, 8], [7, 8, 5]], dtype=torch.int64, device=points.device)
    return torch.eye(3, dtype=torch.float64, device=points.device) + points[:, places]


def of_uniform(points: torch.Tensor) -> torch.Tensor:
    """Return coefficients of U(a_c, b_c): the middle of the range, and half its width times the channel's own variate.

    Args:
        points: float64 ``[N, 6]``, added to the three lower and to the three upper ends.

    Returns:
        float64 ``[N, 3, 4]``.
    """
    a, b = points[:, :3] - 1.0, points[:, 3:] + 1.0
    own = torch.eye(3, dtype=torch.float64, device=points.device)
    middle, half = MIDDLE + HALF_RANGE * (0.5 * (a + b)), HALF_RANGE * (0.5 * (b - a))
    return torch.cat([middle[:, :, None], half[:, :, None] * own], 2)
