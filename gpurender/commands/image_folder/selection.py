"""Selections: the samples of a recipe that an export writes, as a number of first samples for each class."""

import numpy as np

from gpurender.recipes.base import Recipe
from gpurender.util import checks
from gpurender.util.ranges import Numbers, numbers


class Selection:
    """The first ``counts[c]`` samples of every class c, class by class.

    Args:
        recipe: the recipe.
        limit: only the first ``limit`` samples of those that the other arguments select.
        per_class: only the first ``per_class`` samples of each class.
        classes: only these classes, as :func:`gpurender.util.ranges.numbers` takes them.

    A class is the one that is rendered; label noise may give an image another label. In a mixture the classes of all
    recipes are numbered in one sequence.

    Attributes:
        chosen: whether a class is selected, bool ``[classes]``; under a ``limit`` also those that it leaves empty.
        counts: the number of samples of each class, int64 ``[classes]``.
        limited: whether there is a ``limit``.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; or the classes have no sample.
    """

    def __init__(
        self, recipe: Recipe, *, limit: int | None = None, per_class: int | None = None, classes: Numbers | None = None
    ) -> None:
        self.limited = limit is not None
        self.chosen = np.full(recipe.classes, classes is None)
        if classes is not None:
            self.chosen[numbers(classes, recipe.classes, "classes")] = True
        self._firsts = recipe.first_samples()
        counts = np.where(self.chosen, recipe.class_counts(), 0)
        if per_class is not None:
            counts = np.minimum(counts, checks.integer("per_class", per_class, 1, 2**63 - 1))
        if limit is not None:
            before = np.cumsum(counts) - counts
            counts = np.clip(checks.integer("limit", limit, 1, 2**63 - 1) - before, 0, counts)
        self.counts = counts
        self._ends = np.cumsum(counts)
        if len(self) == 0:
            raise ValueError(f"classes must have an image, got {checks.shown(classes)}, which have none in this recipe")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def samples(self, first: int, end: int) -> np.ndarray:
        """Return samples number ``first`` to ``end - 1`` of the selection as indices of the recipe, int64 ``[n]``."""
        return self.at(np.arange(first, min(end, len(self))))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the samples at places of the selection, int64 ``[n]`` both, as indices of the recipe."""
        classes = np.searchsorted(self._ends, places, side="right")
        return self._firsts[classes] + places - (self._ends - self.counts)[classes]
