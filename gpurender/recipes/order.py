"""Which sample of a recipe stands at a position of an epoch."""

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
        """Return the indices at positions of an epoch of ``length`` positions; int64 ``[n]`` both."""
        ...


class PermutedOrder:
    """The order of a single dataset: its samples permuted by seed and epoch, or as they are numbered."""

    on_device = True

    def __init__(self, length: int) -> None:
        self._length = length

    def indices(self, positions: np.ndarray, length: int, epoch: int, seed: int, shuffle: bool) -> np.ndarray:
        """Return the indices at positions, int64 ``[n]`` both. The permutation is of the whole dataset: an epoch of
        fewer positions shows a part of it.
        """
        return permute(positions, self._length, seed, epoch) if shuffle else positions
