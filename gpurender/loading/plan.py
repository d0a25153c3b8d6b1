"""Plans: the samples that come next, as pure functions of a place and the ranks."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from gpurender.kernels.shuffle import last_epoch
from gpurender.loading.cursor import EMPTY_DIGEST, Place
from gpurender.loading.ranks import Ranks, rank_slice, steps
from gpurender.recipes.order import EpochOrder


class HostIndices(NamedTuple):
    """Samples that the host has chosen for a batch; int64 ``[count]`` each.

    Attributes:
        indices: the samples.
        draw_ids: addresses of the randomness of their canvases.
        augment_ids: addresses of the randomness of their augmentation.
    """

    indices: np.ndarray
    draw_ids: np.ndarray
    augment_ids: np.ndarray


class IndexBatch(NamedTuple):
    """One batch of this rank.

    Attributes:
        epoch: number of its epoch.
        first, size: the batch has the positions ``first`` to ``first + size - 1`` of the epoch.
        step: number of positions from ``first`` to the first position of this rank's next batch.
        host: indices and draw ids, if the device does not compute them from the positions.
        after: the place after the batch.
    """

    epoch: int
    first: int
    size: int
    step: int
    host: HostIndices | None
    after: Place


class Plan(Protocol):
    """The batches of an epoch."""

    def last_epoch(self) -> int:
        """Return the number of the last possible epoch."""
        ...

    def steps(self, ranks: Callable[[], Ranks]) -> int:
        """Return the number of batches of a whole epoch, equal on all ranks; ``ranks`` is called only if needed."""
        ...

    def batches(self, start: Place, ranks: Ranks) -> Iterator[IndexBatch]:
        """Yield the batches of this rank from a place to the end of its epoch."""
        ...

    def index_lists(self, start: Place, ranks: Ranks) -> Iterator[np.ndarray]:
        """Yield the indices of each of these batches, int64 ``[count]``."""
        ...


class OrderedPlan:
    """The loader's own order, divided among ranks.

    Args:
        order: order of the recipe's samples.
        length: number of samples of an epoch.
        batch_size: samples per batch on each rank.
        seed, shuffle: of the order.
        drop_last: whether an incomplete last step is left out.
        repeats: number of consecutive positions that have the same sample.
    """

    def __init__(
        self, order: EpochOrder, length: int, batch_size: int, seed: int, shuffle: bool, drop_last: bool, repeats: int
    ) -> None:
        self._order, self._length, self._batch_size = order, length, batch_size
        self.on_device = order.on_device
        self._seed, self._shuffle, self._drop_last, self._repeats = seed, shuffle, drop_last, repeats

    def last_epoch(self) -> int:
        return last_epoch(self._length)

    def steps(self, ranks: Callable[[], Ranks]) -> int:
        return steps(self._length, self._batch_size, ranks().world_size, self._drop_last)

    def samples(self, ranks: Ranks) -> int:
        """Return the number of samples that this rank gets in a whole epoch."""
        before = self.steps(lambda: ranks) - 1  # number of full batches before the last one, which may be smaller
        if before < 0:
            return 0
        _, last = self._slice(before * self.step(ranks), ranks)
        return before * self._batch_size + last

    def ragged(self, position: int, ranks: Ranks) -> int:
        """Return the samples in the incomplete last step of an epoch from a position on, 0 if there is none."""
        return 0 if self._drop_last else (self._length - position) % self.step(ranks)

    def step(self, ranks: Ranks) -> int:
        """Return the number of positions of a full step of all ranks."""
        return self._batch_size * ranks.world_size

    def batches(self, start: Place, ranks: Ranks) -> Iterator[IndexBatch]:
        epoch, position, _ = start
        step = self.step(ranks)
        while (run := self._slice(position, ranks))[1]:
            position += step
            host = None if self._order.on_device else self._chosen(epoch, *run)
            yield IndexBatch(epoch, *run, step, host, Place(epoch, position, EMPTY_DIGEST))

    def index_lists(self, start: Place, ranks: Ranks) -> Iterator[np.ndarray]:
        epoch, position, _ = start
        while (run := self._slice(position, ranks))[1]:
            yield self._indices(epoch, *run)
            position += self.step(ranks)

    def _slice(self, position: int, ranks: Ranks) -> tuple[int, int]:
        return rank_slice(position, self._length, self._batch_size, ranks, self._drop_last)

    def _indices(self, epoch: int, first: int, count: int) -> np.ndarray:
        positions = np.arange(first, first + count) // self._repeats
        return self._order.indices(positions, -(-self._length // self._repeats), epoch, self._seed, self._shuffle)

    def _chosen(self, epoch: int, first: int, count: int) -> HostIndices:
        begin = epoch * self._length
        positions = np.arange(first, first + count)
        return HostIndices(self._indices(epoch, first, count), begin + positions // self._repeats, begin + positions)
