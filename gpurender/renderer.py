"""Renderer: a recipe and sample numbers in, uint8 canvases out, on one device."""

from typing import Any

import numpy as np
import torch

from gpurender import checks
from gpurender.order import last_epoch
from gpurender.recipes import Recipe
from gpurender.recipes import recipe as as_recipe

__all__ = ["Renderer"]


class Renderer:
    """Draws the images of a recipe.

    >>> renderer = gr.Renderer("onepfrac-1k")
    >>> renderer([0, 1, 2])  # uint8 [3, 1, 512, 512]
    >>> renderer.labels([0, 1, 2])  # int64 [3]

    The image of a number is the same bytes in every batch, order, process and thread count, and on every device. What a
    family finds out once (a category search, the parameters of its classes) is done at the first image and kept.

    Args:
        recipe: a recipe, a preset's name or the path of a recipe's JSON file.
        device: where to draw.

    Raises:
        ValueError: no such recipe, or a device other than the CPU, the only one this version draws on.
    """

    def __init__(self, recipe: Recipe | str, device: str | torch.device = "cpu") -> None:
        self.recipe = as_recipe(recipe)
        try:
            self.device = torch.device(device)
        except (RuntimeError, TypeError):
            raise ValueError(f"device must be 'cpu', got {device!r}") from None
        if self.device.type != "cpu":
            raise ValueError(f"device must be 'cpu': this version has no kernels for other devices, got {device!r}")
        self._catalog: Any = None

    def __repr__(self) -> str:
        return f"Renderer({self.recipe!r}, device={str(self.device)!r})"

    def __call__(self, samples: Any, epoch: int = 0, *, fresh: bool | None = None) -> torch.Tensor:
        """Draw samples.

        Args:
            samples: numbers in ``[0, len(recipe))``: an int, a list, a NumPy array or a torch tensor of integers;
                ``[N]``.
            epoch: 0 is the dataset itself; every further epoch draws new instances of the same classes.
            fresh: draw everything anew, also what the released dataset shares between images; default: in epochs after
                0.

        Returns:
            uint8 ``[N, C, S, S]`` on the device, C = 1 (grey) or 3, S = ``recipe.image_size``; no augmentation.

        Raises:
            TypeError, ValueError: samples that are no integers or out of range.
        """
        numbers = self._samples(samples)
        epoch = checks.integer("epoch", epoch, 0, last_epoch(len(self.recipe)))
        draws = numbers.astype(np.uint64) + np.uint64(epoch * len(self.recipe))
        fresh = epoch > 0 if fresh is None else checks.boolean("fresh", fresh)
        return self.recipe.canvases(self.catalog, numbers, draws, fresh, self.device)

    def labels(self, samples: Any) -> torch.Tensor:
        """Classes of samples: ``sample // instances``, int64 ``[N]`` on the device."""
        return torch.from_numpy(self._samples(samples) // self.recipe.instances).to(self.device)

    @property
    def catalog(self) -> Any:
        """What the family knows of all its classes, made at first use."""
        if self._catalog is None:
            self._catalog = self.recipe.catalog(self.device)
        return self._catalog

    def _samples(self, samples: Any) -> np.ndarray:
        """Sample numbers as int64 [N]."""
        return checks.integers("samples", samples, len(self.recipe) - 1).astype(np.int64)
