"""Accuracies of a task: normalised by chance, and their mean and spread over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpurender.util import checks


@dataclass(frozen=True)
class Summary:
    """Accuracies of several seeds in short.

    Attributes:
        mean, sd: mean and sample standard deviation (``n - 1``; 0 for one seed) of the accuracies, in [0, 1].
        normalised: the mean accuracy on the scale of :func:`normalised`.
        seeds: how many accuracies there are.
    """

    mean: float
    sd: float
    normalised: float
    seeds: int

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.sd:.1f} % ({self.seeds} seeds, normalised {self.normalised:.3f})"


def normalised(accuracy: float, classes: int) -> float:
    """Return ``(accuracy - 1 / classes) / (1 - 1 / classes)``: 0 at chance, 1 if all is right; below chance negative.

    Args:
        accuracy: share of right answers, 0 to 1.
        classes: number of classes, 2 or more.
    """
    checks.real("accuracy", accuracy, 0.0, 1.0)
    chance = 1.0 / checks.integer("classes", classes, 2, 2**31 - 1)
    return (accuracy - chance) / (1.0 - chance)


def summary(accuracies: Sequence[float], classes: int) -> Summary:
    """Return mean, spread and normalised mean of the accuracies of several seeds, each 0 to 1."""
    values = [checks.real(f"accuracies[{i}]", value, 0.0, 1.0) for i, value in enumerate(accuracies)]
    if not values:
        raise ValueError("accuracies must hold at least one number, got none")
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1)) if len(values) > 1 else 0.0
    return Summary(mean, sd, normalised(mean, classes), len(values))
