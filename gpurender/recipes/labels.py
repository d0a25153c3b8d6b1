"""Labels: the number of images per class, and the label of each image.

**Class priors.** A long-tailed dataset has fewer images of some classes. With ``class_prior = rho`` class c has

    n_c = floor(instances * rho**(-c / (classes - 1)))

images, so the first class has ``instances`` images and the last rho times fewer: the exponential profile of Cui et al.,
"Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019), with their imbalance factor rho. With a table
of one weight per class, ``n_c = floor(instances * w_c / max w)``. A class keeps its first n_c instances, and the
samples are numbered again, class by class, without gaps.

**Label noise.** With ``label_noise = eta`` a sample has, with probability eta, a label drawn uniformly from the other
classes (symmetric noise); with a matrix T, rows of probabilities, a sample of class c has label k with probability
T[c][k] (class-dependent noise: Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017). The
noise belongs to the sample: it is drawn at the address (recipe's seed, LABEL, index in the untrimmed dataset) and is
the same in every epoch, unless every epoch renders new images.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpurender.kernels.philox import bounded, words
from gpurender.numerics import portable_math
from gpurender.numerics.streams import Stream
from gpurender.util import checks

MAX_RATIO = 1e9  # ratio of the largest class to the smallest
MAX_WEIGHT = 1e9
MAX_MATRIX = 1024  # classes
ROUNDING = 1e-6  # fraction of an image: 500 / 100 is 5, not 4.9999999
SUM = 1e-6  # maximum distance from 1 of the sum of a row of probabilities
WORDS = 2**32


def checked_prior(value: Any, classes: int, instances: int) -> Any:
    """Check a class prior: ``None``, the ratio of the largest class to the smallest, or one weight per class.

    Raises:
        TypeError, ValueError: the value is something else, or a class that should have images would have none.
    """
    value = _scalar(value)
    if value is None:
        return None
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, checks.TEXT):
        weights = _vector("class_prior", value, classes, MAX_WEIGHT)
        if not any(weights):
            raise ValueError("class_prior must have a weight above 0, got only zeros")
        counts = class_counts(weights, classes, instances)
        rarest = np.array(weights) > 0
        if (counts[rarest] == 0).any():
            c = int(np.flatnonzero(rarest & (counts == 0))[0])
            raise ValueError(
                f"class_prior: class {c} with weight {weights[c]:g} would have no image of {instances} instances; "
                "raise instances"
            )
        return weights
    ratio = checks.real("class_prior", value, 1.0, MAX_RATIO)
    if ratio > instances:
        raise ValueError(
            f"class_prior must be at most instances = {instances}, or the last class has no image; got {ratio:g}"
        )
    return ratio


def class_counts(prior: Any, classes: int, instances: int) -> np.ndarray:
    """Return the number of images of each class, int64 ``[classes]``."""
    if prior is None:
        return np.full(classes, instances, np.int64)
    if isinstance(prior, tuple):
        shares = np.array(prior) / max(prior)
    else:
        shares = portable_math.exp(-portable_math.log(prior) * np.arange(classes) / max(1, classes - 1))
    return np.floor(instances * shares + ROUNDING).astype(np.int64)


def checked_noise(value: Any, classes: int) -> Any:
    """Check label noise: ``None``, the probability of a wrong label, or a matrix ``[classes][classes]`` of them.

    Raises:
        TypeError, ValueError: the value is something else.
    """
    value = _scalar(value)
    if value is None:
        return None
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, checks.TEXT):
        rate = checks.real("label_noise", value, 0.0, 1.0)
        if rate > 0 and classes == 1:
            raise ValueError(f"label_noise must be 0 for a single class, which has no other label; got {rate:g}")
        return rate
    if classes > MAX_MATRIX:
        raise ValueError(f"label_noise may be a matrix for at most {MAX_MATRIX} classes, this recipe has {classes}")
    if len(value) != classes:
        raise ValueError(f"label_noise must be a number or a matrix [{classes}][{classes}], got {len(value)} rows")
    rows = tuple(_vector(f"label_noise[{i}]", row, classes, 1.0) for i, row in enumerate(value))
    for i, row in enumerate(rows):
        if abs(sum(row) - 1.0) > SUM:
            raise ValueError(f"label_noise[{i}] must add up to 1, got {sum(row):g}")
    return rows


def _scalar(value: Any) -> Any:
    """Return a zero-dimensional array as its number, a tensor as an array, and any other value unchanged."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _vector(name: str, value: Any, length: int, high: float) -> tuple[float, ...]:
    if isinstance(value, checks.TEXT) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"{name} must be {length} numbers in [0, {high:g}], got {checks.shown(value)}")
    if len(value) != length:
        raise ValueError(f"{name} must be {length} numbers, one a class, got {len(value)}")
    return tuple(checks.real(f"{name}[{i}]", x, 0.0, high) for i, x in enumerate(value))


def noise_table(noise: Any, classes: int) -> np.ndarray | None:
    """Return cumulative probabilities in units of 2^-32, int64: ``[1]`` of a rate, ``[classes, classes]`` of a matrix;
    ``None`` if no label is ever changed.
    """
    if noise is None or noise == 0.0:
        return None
    if not isinstance(noise, tuple):
        threshold = int(np.floor(noise * WORDS + 0.5))
        return np.array([threshold], np.int64) if threshold else None
    cumulative, total = np.empty((classes, classes), np.int64), np.zeros(classes)
    rows = np.array(noise)
    for k in range(classes):  # in order: a sum by NumPy may pair differently on another machine
        total = total + rows[:, k]
        cumulative[:, k] = np.floor(np.minimum(total, 1.0) * WORDS + 0.5)
    for c in range(classes):  # the last possible label takes up the rounding error
        cumulative[c, np.flatnonzero(rows[c])[-1] :] = WORDS
    never = np.where(np.arange(classes) >= np.arange(classes)[:, None], WORDS, 0)
    return None if (cumulative == never).all() else cumulative


class LabelMap:
    """Class and label of each sample of one recipe, from tables on a device.

    All methods take and return int64 ``[N]`` on that device and do not synchronise.

    Args:
        classes, instances, seed: of the recipe.
        prior, noise: its ``class_prior`` and ``label_noise``, checked.
        device: device of the tables.

    Attributes:
        is_default: whether every label is ``index // instances``.
    """

    def __init__(self, classes: int, instances: int, seed: int, prior: Any, noise: Any, device: torch.device) -> None:
        self._classes, self._instances, self._seed = classes, instances, seed
        self._begins: torch.Tensor | None = None
        self._length = classes * instances
        if prior is not None:
            counts = class_counts(prior, classes, instances)
            self._length = int(counts.sum())
            self._begins = torch.from_numpy(np.cumsum(counts) - counts).to(device)  # [classes]: first index
            self._ends = torch.from_numpy(np.cumsum(counts)).to(device)
        table = noise_table(noise, classes)
        self._noise = None if table is None else torch.from_numpy(table).to(device)
        self.is_default = self._begins is None and self._noise is None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tables."""
        made = () if self._begins is None else (self._begins, self._ends)
        return [*made, *(() if self._noise is None else (self._noise,))]

    def classes(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the class of each sample."""
        if self._begins is None:
            return indices // self._instances
        return torch.searchsorted(self._ends, indices, right=True)

    def dense_indices(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the index of each sample in the untrimmed dataset (classes x instances)."""
        if self._begins is None:
            return indices
        classes = self.classes(indices)
        return classes * self._instances + (indices - self._begins[classes])

    def dense_draw_ids(self, indices: torch.Tensor, dense: torch.Tensor, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return the draw ids, ``index + epoch * length``, as those of the untrimmed dataset.

        ``dense``: the indices in the untrimmed dataset.
        """
        if self._begins is None:
            return draw_ids
        epoch = (draw_ids - indices) // self._length
        return dense + epoch * (self._classes * self._instances)

    def labels(self, indices: torch.Tensor, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return the labels with noise applied; ``draw_ids``: the addresses of the noise."""
        classes = self.classes(indices)
        if self._noise is None:
            return classes
        drawn = words(self._seed, Stream.LABEL, draw_ids)  # [N, 4]
        if self._noise.dim() == 1:
            other = bounded(drawn[:, 1], self._classes - 1)
            wrong = other + (other >= classes)
            return torch.where(drawn[:, 0] < self._noise, wrong, classes)
        rows = self._noise[classes]  # [N, classes]
        return torch.searchsorted(rows, drawn[:, :1].contiguous(), right=True)[:, 0]
