"""Perturbation: the points around one image whose classes the LPCE loss tells apart.

Source: Nakamura, Tadokoro et al., "Scaling Backwards: Minimal Synthetic Pre-training?" (ECCV 2024), equations 7 to 9. A
perturbation is a point of the hypercube R = [-delta/2, delta/2]^d, and the integral over R is approximated by L points,
drawn uniformly; each of them is a class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gpurender.kernels.philox import uniform, words
from gpurender.kernels.visual_atom import Atoms
from gpurender.numerics.portable_math import exp, log
from gpurender.numerics.streams import Stream
from gpurender.util import checks

LEAST = 1e-4  # a tenth of the side at which training fails in the paper (table 5)
MOST = 0.5


@dataclass(frozen=True)
class Perturbed:
    """One atom and its perturbations on a device.

    Attributes:
        base: the atom, one row.
        atoms: its perturbations, one row per class.
    """

    base: Atoms
    atoms: Atoms


def checked(delta: Any, most: float = MOST) -> float:
    """Return the parameter ``perturb``, the side of the hypercube.

    Raises:
        TypeError, ValueError: it is no number within 1e-4 to ``most``.
    """
    if isinstance(delta, (int, float)) and not isinstance(delta, bool) and 0 <= delta < LEAST:
        raise ValueError(
            f"perturb must be a number from {LEAST:g} to {most:g}, got {checks.shown(delta)}: without a perturbation "
            "all classes would be one image"
        )
    return checks.real("perturb", delta, LEAST, most)


@dataclass(frozen=True)
class Law:
    """The perturbations of one image.

    Attributes:
        seed: key of their random numbers.
        delta: side of the hypercube R.
        classes: L, points in R.
        terms: d, dimensions of R.
    """

    seed: int
    delta: float
    classes: int
    terms: int

    def points(self, classes: torch.Tensor) -> torch.Tensor:
        """Return the points of classes, int64 ``[N]``: float64 ``[N, d]``, on the same device."""
        return self.delta * self._centred(classes, 0)

    def fresh_points(self, classes: torch.Tensor, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return a new point around each class's: float64 ``[N, d]``; arguments int64 ``[N]``.

        It is uniform in the hypercube around the class's point with 1/L of the volume of R, that is with the side delta
        L^(-1/d): the part of R for which one of L points stands in the approximation of the integral.
        """
        return self.points(classes) + self.cell * self._centred(draw_ids, 1)

    @property
    def cell(self) -> float:
        """Side of the part of R that belongs to one class."""
        return self.delta * float(exp(-log(float(self.classes)) / self.terms))

    def _centred(self, draw_ids: torch.Tensor, owner: int) -> torch.Tensor:
        """Return uniform numbers in [-1/2, 1/2), float64 ``[N, d]``, from the words of classes (0) or of images (1)."""
        blocks = -(-self.terms // 4)  # of classes; those of images follow
        u = words(self.seed, Stream.PERTURBATION, draw_ids, 2 * blocks)[:, 4 * blocks * owner :]
        return uniform(u[:, : self.terms]) - 0.5


def atoms_of(
    catalog: Perturbed,
    classes: torch.Tensor,
    draw_ids: torch.Tensor,
    law: Law | None,
    move: Callable[[Atoms, torch.Tensor], Atoms],
) -> tuple[Atoms, torch.Tensor]:
    """Return a table of atoms and the row of each image.

    Args:
        catalog: the atom and its perturbations.
        classes, draw_ids: int64 ``[N]``, on the catalog's device.
        law: of new perturbations for all images, or ``None``: each image has that of its class.
        move: returns the atom moved by perturbations, float64 ``[N, d]``: N rows.
    """
    if law is None:
        return catalog.atoms, classes
    points = law.fresh_points(classes, draw_ids)
    return move(catalog.base, points), torch.arange(len(classes), device=classes.device)
