"""The order of an epoch: which sample of a recipe is at each position."""

from typing import Protocol

import numpy as np

from gpurender.kernels.shuffle import permute


class EpochOrder(Protocol):
    """The order of an epoch, a pure function of position, epoch and seed.

    Attributes:
        on_device: whether ``kernels.shuffle.addresses`` computes the same order on the device.
    """

    on_device: bool

    def indices(self, positions: np.ndarray, length: int, epoch: int, seed: int, shuffle: bool) -> np.ndarray:
        """Return the indices at positions of an epoch of ``length`` positions; both int64 ``[n]``."""
        ...


class PermutedOrder:
    """The order of a single dataset: its samples permuted by seed and epoch, or in index order."""

    on_device = True

    def __init__(self, length: int) -> None:
        self._length = length

    def indices(self, positions: np.ndarray, length: int, epoch: int, seed: int, shuffle: bool) -> np.ndarray:
        """Return the indices at positions; both int64 ``[n]``.

        The permutation covers the whole dataset: an epoch of fewer positions uses a part of the dataset.
        """
        return permute(positions, self._length, seed, epoch) if shuffle else positions
