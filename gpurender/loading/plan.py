"""Plans: the samples that come next, as pure functions of a place and the ranks."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from gpurender.kernels.shuffle import last_epoch
from gpurender.loading.cursor import Place
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
        pass_number: number of the pass, which a policy's schedule counts (``Policy.at_epoch``).
        first, size: the batch has the positions ``first`` to ``first + size - 1`` of the epoch.
        step: number of positions from ``first`` to the first position of this rank's next batch.
        host: indices and draw ids, if the device does not compute them from the positions.
        after: the place after the batch.
    """

    epoch: int
    pass_number: int
    first: int
    size: int
    step: int
    host: HostIndices | None
    after: Place


class Plan(Protocol):
    """The batches of a pass: of an epoch, or of a fixed number of steps."""

    @property
    def first(self) -> Place:
        """The place where the first pass begins."""
        ...

    def last_epoch(self) -> int:
        """Return the number of the last possible epoch."""
        ...

    def pass_number(self, place: Place) -> int:
        """Return the number of the pass that a place is in."""
        ...

    def seek(self, pass_number: int, ranks: Callable[[], Ranks]) -> Place:
        """Return the place where a pass begins; ``ranks`` is called only if needed."""
        ...

    def restart(self, place: Place) -> Place:
        """Return the place where the pass of a place begins."""
        ...

    def next_pass(self, place: Place) -> Place:
        """Return the place where the next pass begins after a pass that ended at ``place``."""
        ...

    def steps(self, ranks: Callable[[], Ranks]) -> int:
        """Return the number of batches of a whole pass, equal on all ranks; ``ranks`` is called only if needed."""
        ...

    def batches(self, start: Place, ranks: Ranks) -> Iterator[IndexBatch]:
        """Yield the batches of this rank from a place to the end of its pass."""
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
        self._order, self.length, self._batch_size = order, length, batch_size
        self.on_device = order.on_device
        self._seed, self._shuffle, self._drop_last, self._repeats = seed, shuffle, drop_last, repeats

    first = Place()

    def last_epoch(self) -> int:
        return last_epoch(self.length)

    def pass_number(self, place: Place) -> int:
        return place.epoch

    def seek(self, pass_number: int, ranks: Callable[[], Ranks]) -> Place:
        return Place(pass_number)

    def restart(self, place: Place) -> Place:
        return Place(place.epoch)

    def next_pass(self, place: Place) -> Place:
        return Place(place.epoch + 1)

    def at_step(self, place: Place, step: int, ranks: Ranks) -> Place:
        """Return the place after the first ``step`` steps of the pass of a place."""
        return self.after(self.restart(place), step, ranks)

    def after(self, place: Place, steps: int, ranks: Ranks) -> Place:
        """Return the place ``steps`` steps of the present size after a place, in the same pass."""
        return Place(place.epoch, place.position + steps * self.step(ranks))

    def steps_before(self, place: Place, ranks: Ranks) -> int:
        """Return the number of whole steps of the present size in the epoch of a place before it."""
        return place.position // self.step(ranks)

    def steps_left(self, place: Place, ranks: Ranks) -> int:
        """Return the number of steps of the epoch of a place after it."""
        return self.steps_after(place.position, ranks)

    def steps(self, ranks: Callable[[], Ranks]) -> int:
        return steps(self.length, self._batch_size, ranks().world_size, self._drop_last)

    def samples(self, ranks: Ranks) -> int:
        """Return the number of samples that this rank gets in a whole epoch."""
        before = self.steps(lambda: ranks) - 1  # number of full batches before the last one, which may be smaller
        if before < 0:
            return 0
        _, last = self._slice(before * self.step(ranks), ranks)
        return before * self._batch_size + last

    def ragged(self, place: Place, ranks: Ranks) -> int:
        """Return the number of samples in the last step of the pass of a place if that step is incomplete, else 0."""
        return 0 if self._drop_last else (self.length - place.position) % self.step(ranks)

    def steps_after(self, position: int, ranks: Ranks) -> int:
        """Return the number of steps of an epoch from a position on."""
        return steps(self.length - position, self._batch_size, ranks.world_size, self._drop_last)

    def step(self, ranks: Ranks) -> int:
        """Return the number of positions of a full step of all ranks."""
        return self._batch_size * ranks.world_size

    def batches(self, start: Place, ranks: Ranks) -> Iterator[IndexBatch]:
        epoch, position = start.epoch, start.position
        step = self.step(ranks)
        while (run := self._slice(position, ranks))[1]:
            position += step
            host = None if self._order.on_device else self._chosen(epoch, *run)
            yield IndexBatch(epoch, epoch, *run, step, host, Place(epoch, position))

    def index_lists(self, start: Place, ranks: Ranks) -> Iterator[np.ndarray]:
        epoch, position = start.epoch, start.position
        while (run := self._slice(position, ranks))[1]:
            yield self._indices(epoch, *run)
            position += self.step(ranks)

    def index_list(self, batch: IndexBatch) -> np.ndarray:
        """Return the indices of one of this plan's batches, int64 ``[size]``."""
        return self._indices(batch.epoch, batch.first, batch.size) if batch.host is None else batch.host.indices

    def addresses(self, batch: IndexBatch) -> HostIndices:
        """Return indices, draw ids and augment ids of one of this plan's batches, as the device computes them."""
        if batch.host is not None:
            return batch.host
        indices, begin = self.index_list(batch), batch.epoch * self.length
        if self._repeats == 1:
            return HostIndices(indices, begin + indices, begin + indices)
        positions = np.arange(batch.first, batch.first + batch.size) % self.length
        return HostIndices(indices, begin + indices, begin + positions)

    def _slice(self, position: int, ranks: Ranks) -> tuple[int, int]:
        return rank_slice(position, self.length, self._batch_size, ranks, self._drop_last)

    def _indices(self, epoch: int, first: int, count: int) -> np.ndarray:
        positions = np.arange(first, first + count) // self._repeats
        return self._order.indices(positions, -(-self.length // self._repeats), epoch, self._seed, self._shuffle)

    def _chosen(self, epoch: int, first: int, count: int) -> HostIndices:
        begin = epoch * self.length
        positions = np.arange(first, first + count)
        return HostIndices(self._indices(epoch, first, count), begin + positions // self._repeats, begin + positions)
