"""Passes of a fixed number of steps over the endless stream of epochs (``steps_per_epoch``).

The stream is epoch after epoch, each divided into steps as without ``steps_per_epoch``: its incomplete last step is
split among the ranks or dropped. A pass takes the next N steps of the stream, so it may end in the middle of an epoch,
where the next pass continues. If the number of ranks or the batch size changes, steps have another size, and the stream
continues at the same sample.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from gpurender.loading.cursor import Place, Segment
from gpurender.loading.plan import HostIndices, IndexBatch, OrderedPlan
from gpurender.loading.ranks import Ranks
from gpurender.util import checks


class StepsPlan:
    """Passes of ``count`` steps over the epochs of a plan.

    Attributes:
        epochs: that plan.
        count: steps of a pass.
    """

    def __init__(self, epochs: OrderedPlan, count: int) -> None:
        self.epochs, self.count = epochs, count
        self.on_device = epochs.on_device

    @property
    def first(self) -> Place:
        return Place(segment=Segment())

    def last_epoch(self) -> int:
        return self.epochs.last_epoch()

    def pass_number(self, place: Place) -> int:
        return _segment(place).number

    def seek(self, pass_number: int, ranks: Callable[[], Ranks]) -> Place:
        """Return the place where a pass begins if every pass has steps of the present size.

        Raises:
            ValueError: an epoch has no step, or the pass lies beyond the last epoch.
        """
        steps = self.steps_of_epoch(ranks())
        checks.integer("epoch", pass_number, 0, (self.last_epoch() + 1) * steps // self.count - 1)
        epoch, step = divmod(pass_number * self.count, steps)
        position = step * self.epochs.step(ranks())
        return Place(epoch, position, segment=Segment(pass_number, 0, epoch, position))

    def restart(self, place: Place) -> Place:
        segment = _segment(place)
        return Place(segment.epoch, segment.position, segment=segment._replace(step=0))

    def next_pass(self, place: Place) -> Place:
        return place._replace(segment=Segment(_segment(place).number + 1, 0, place.epoch, place.position))

    def at_step(self, place: Place, step: int, ranks: Ranks) -> Place:
        """Return the place after the first ``step`` steps of the pass of a place, if they have the present size."""
        return self.after(self.restart(place), step, ranks)

    def after(self, place: Place, steps: int, ranks: Ranks) -> Place:
        """Return the place ``steps`` steps of the present size after a place, in the same pass."""
        if steps == 0:  # also where drop_last leaves nothing of the place's epoch
            return place
        segment, size = _segment(place), self.epochs.step(ranks)
        left = self.epochs.steps_after(place.position, ranks)
        if steps < left:
            epoch, position = place.epoch, place.position + steps * size
        else:
            more, rest = divmod(steps - left, self.steps_of_epoch(ranks))
            epoch, position = place.epoch + 1 + more, rest * size
        return Place(epoch, position, segment=segment._replace(step=segment.step + steps))

    def steps_before(self, place: Place, ranks: Ranks) -> int:
        """Return the number of steps of the pass of a place before it."""
        return _segment(place).step

    def steps_left(self, place: Place, ranks: Ranks) -> int:
        """Return the number of steps of the pass of a place after it.

        Raises:
            ValueError: an epoch has no step.
        """
        self.steps_of_epoch(ranks)
        return self.count - _segment(place).step

    def addresses(self, batch: IndexBatch) -> HostIndices:
        """Return indices, draw ids and augment ids of one of this plan's batches."""
        return self.epochs.addresses(batch)

    def steps(self, ranks: Callable[[], Ranks]) -> int:
        return self.count

    def samples(self, ranks: Ranks) -> int:
        """Return the number of samples that this rank gets in the first pass; others may end with other steps."""
        epochs, steps = divmod(self.count, self.steps_of_epoch(ranks))
        full = self.epochs.step(ranks) // ranks.world_size  # the incomplete step is the last of an epoch
        return epochs * self.epochs.samples(ranks) + steps * full

    def ragged(self, place: Place, ranks: Ranks) -> int:
        """Return the number of samples in the last step of the pass of a place if that step is incomplete, else 0."""
        end = self.at_step(self.restart(place), self.count - 1, ranks)
        return self.epochs.ragged(end, ranks) if self.epochs.steps_after(end.position, ranks) == 1 else 0

    def batches(self, start: Place, ranks: Ranks) -> Iterator[IndexBatch]:
        """Yield the batches of this rank from a place to the end of its pass.

        Raises:
            ValueError: an epoch has no step.
        """
        segment, place = _segment(start), start
        self.steps_of_epoch(ranks)
        while segment.step < self.count:
            for batch in islice(self.epochs.batches(place, ranks), self.count - segment.step):
                segment = segment._replace(step=segment.step + 1)
                place = self._after(batch.after)._replace(segment=segment)
                yield batch._replace(pass_number=segment.number, after=place)
            if segment.step < self.count and place.position:
                place = Place(place.epoch + 1)

    def index_lists(self, start: Place, ranks: Ranks) -> Iterator[np.ndarray]:
        return (self.epochs.index_list(batch) for batch in self.batches(start, ranks))

    def _after(self, place: Place) -> Place:
        """Return the place after a batch: the beginning of the next epoch if the batch was the last of its epoch."""
        return place if place.position < self.epochs.length else Place(place.epoch + 1)

    def steps_of_epoch(self, ranks: Ranks) -> int:
        """Return the number of steps of an epoch of the recipe.

        Raises:
            ValueError: there is none.
        """
        count = self.epochs.steps(lambda: ranks)
        if not count:
            raise ValueError(
                f"drop_last must be False, or batch_size at most {self.epochs.length // ranks.world_size}, with "
                f"steps_per_epoch: a step takes {self.epochs.step(ranks)} samples, and an epoch has "
                f"{self.epochs.length}, so it has no complete step"
            )
        return count


def _segment(place: Place) -> Segment:
    assert place.segment is not None
    return place.segment
